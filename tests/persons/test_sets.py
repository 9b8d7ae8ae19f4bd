"""Person sets: verified, resumable, the same whoever makes them, and honest about what they are."""

import csv
import io
import json
import tarfile
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace

import pytest
import torch
from PIL import Image

from lit_faces.core.facs import AU_INDEX, NUM_AUS
from lit_faces.core.labelled import read_labelled
from lit_faces.core.landmarks import FaceAnalyser
from lit_faces.core.shards import ShardSet
from lit_faces.persons import sets as person_set
from lit_faces.persons.landmark_model import LandmarkModel
from lit_faces.persons.plan import balanced, sweeps
from lit_faces.persons.report import agreement, summarise, write_report
from lit_faces.persons.sets import Attempt, SetMaker, Settings, drive_pictures, write_set
from lit_faces.persons.source import source_of_faces
from lit_faces.rendering.renderer import FaceRenderer


@pytest.fixture(scope="module")
def source():
    photo = FaceRenderer(128, seed=91).render(torch.tensor([2]), torch.tensor([0]), au=torch.zeros(1, NUM_AUS))
    photo.landmarks = FaceAnalyser().batch_landmarks(photo.image)
    found = source_of_faces(photo, LandmarkModel(), lambda images: torch.zeros(len(images), NUM_AUS), "neutral", "anna")
    return replace(found, name="anna", sha256="0" * 64)


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(person_set, "CHUNK", 3)


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_a_set_is_verified_labelled_and_marked_as_generated(tmp_path, source, small_chunks):
    plan = balanced(8, seed=2)
    calls = []
    attempts = write_set(
        tmp_path / "set", source, plan, Settings(attempts=2), progress=lambda *done: calls.append(done)
    )
    assert sum(slots for slots, _ in calls) == 8
    kept = {a.slot for a in attempts if a.kept}
    assert sum(rows for _, rows in calls) == len(kept) > 3
    for slot in range(8):  # asked until kept, twice at most
        mine = [a for a in attempts if a.slot == slot]
        assert [a.attempt for a in mine] == list(range(len(mine))) and len(mine) <= 2
        assert all(not a.kept for a in mine[:-1])
    faces = read_labelled(tmp_path / "set", 128)
    assert len(faces) == len(kept) and set(faces.subject) == {"anna"} and faces.source[0] == "generated/packaged"
    by_slot = {a.slot: a for a in attempts if a.kept}
    for row, slot in enumerate(faces.frame.tolist()):
        asked, coded = torch.tensor(by_slot[slot].asked), ~faces.au_intensity[row].isnan()
        torch.testing.assert_close(faces.au_intensity[row][coded], asked[coded])
        torch.testing.assert_close(faces.pose[row], torch.tensor(by_slot[slot].pose))
    shards = ShardSet(tmp_path / "set")
    assert shards.manifest["generated"] and shards.manifest["source"]["sha256"] == "0" * 64
    picture = Image.open(io.BytesIO(shards.picture(0)))
    about = json.loads(picture.text["lit_faces"])
    assert picture.text["Comment"] == "generated face, not a photograph"
    assert about["generated"] and about["cell"] in plan.cell and about["slot"] in kept and len(about["achieved"]) == 19
    with tarfile.open(tmp_path / "set" / "shard-00000.tar") as tar:
        record = json.load(tar.extractfile(next(name for name in tar.getnames() if name.endswith(".json"))))
    assert record["provenance"]["source_sha256"] == "0" * 64
    with (tmp_path / "set" / "attempts.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert len(rows) == len(attempts) and {r["kept"] for r in rows} <= {"0", "1"}


def test_a_stopped_set_goes_on_and_ends_with_the_same_bytes(tmp_path, source, small_chunks, monkeypatch):
    plan, settings = balanced(7, seed=4), Settings(attempts=2)
    write_set(tmp_path / "whole", source, plan, settings)
    made = []
    real = person_set.write_chunk

    def dies(maker, out, number, slots, key):
        if number == 1 and not made:
            made.append(number)
            raise KeyboardInterrupt
        return real(maker, out, number, slots, key)

    monkeypatch.setattr(person_set, "write_chunk", dies)
    with pytest.raises(KeyboardInterrupt):
        write_set(tmp_path / "part", source, plan, settings)
    assert not (tmp_path / "part" / "manifest.json").exists()
    first = (tmp_path / "part" / "shard-00000.tar").stat().st_mtime_ns
    write_set(tmp_path / "part", source, plan, settings)
    assert (tmp_path / "part" / "shard-00000.tar").stat().st_mtime_ns == first  # not made twice
    assert files(tmp_path / "part") == files(tmp_path / "whole")


def test_two_processes_make_the_same_set(tmp_path, source, small_chunks):
    plan, settings = balanced(6, seed=4), Settings(attempts=1)
    write_set(tmp_path / "one", source, plan, settings, jobs=1)
    write_set(tmp_path / "two", source, plan, settings, jobs=2)
    assert files(tmp_path / "one") == files(tmp_path / "two")


def test_a_process_that_dies_is_said_so_and_nothing_is_lost(tmp_path, source, small_chunks, monkeypatch):
    class Broken:
        def __init__(self, *_, **__):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *_):
            return False

        def submit(self, *_):
            future = Future()
            future.set_exception(BrokenProcessPool("killed"))
            return future

        def shutdown(self, **_):
            pass

    monkeypatch.setattr(person_set, "ProcessPoolExecutor", Broken)
    with pytest.raises(OSError, match=r"a process died .* run the same command again"):
        write_set(tmp_path, source, balanced(6, seed=4), Settings(attempts=1), jobs=2)
    monkeypatch.undo()
    assert (tmp_path / "settings.json").is_file()


def test_a_folder_holds_one_set(tmp_path, source, small_chunks):
    write_set(tmp_path, source, balanced(3), Settings(verify=False))
    with pytest.raises(ValueError, match=r"settings\.json: this folder was begun with attempts = 8, asked is 4"):
        write_set(tmp_path, source, balanced(3), Settings(verify=False, attempts=4))
    with pytest.raises(ValueError, match="begun with seed = 0, asked is 1"):
        write_set(tmp_path, source, balanced(3, seed=1), Settings(verify=False))
    assert len(ShardSet(tmp_path)) == 3


def test_without_verification_everything_is_kept_as_asked(source):
    plan = sweeps((12,), 4)
    maker = SetMaker(source, plan, Settings(verify=False))
    attempts, kept, rejected = maker.make([0, 1, 2, 3])
    assert len(kept) == 4 and not rejected
    faces = maker.batch(attempts, kept)
    torch.testing.assert_close(faces.au_intensity, plan.au, atol=1e-3, rtol=0)
    change = [(faces.image[k].float() - faces.image[0].float()).abs().mean() for k in range(4)]
    assert change[3] > change[1] > change[0]


def test_settings_that_cannot_be():
    with pytest.raises(ValueError, match="--attempts"):
        Settings(attempts=0)
    with pytest.raises(ValueError, match="--labels"):
        Settings(labels="seen")


def attempt(slot, number, asked, achieved, reason=""):
    row = [0.0] * NUM_AUS
    one, other = list(row), list(row)
    one[AU_INDEX[6]], other[AU_INDEX[6]] = asked, achieved
    return Attempt(slot, f"AU06 {slot}, front", number, 0, [0.0] * 3, one, other, 0.05, 0.3, reason)


def test_figures_of_a_set_by_hand():
    plan = sweeps((6,), 4)
    plan.cell = [f"AU06 {k}, front" for k in range(4)]
    attempts = [
        attempt(0, 0, 1.0, 4.0, "AU06: asked 1.0, achieved 4.0"), attempt(0, 1, 1.0, 1.5), attempt(1, 0, 2.0, 2.5),
        attempt(2, 0, 4.0, 4.5), attempt(3, 0, 3.0, 0.0, "leak of 0.7 grades"),
    ]  # fmt: skip
    figures = summarise(plan, attempts)
    assert (figures.kept, figures.slots, figures.attempts) == (3, 4, 5)
    assert figures.icc_kept["AU06"] == pytest.approx(1.0)  # ICC(3,1) does not see the constant half grade
    assert figures.icc_first["AU06"] < 0.5 and figures.icc_kept["AU12"] != figures.icc_kept["AU12"]
    assert dict(figures.reasons) == {"AU06": 1, "leak": 1}
    assert sorted(figures.short) == ["AU06 3", "front"] and ("front", 4, 3) in figures.cells
    flat = figures.flat()
    assert flat["set/kept_share"] == 0.6 and flat["set/rejected/leak"] == 1 and flat["set/nme/median"] == 0.05
    assert all(value != value for value in agreement([]).values())


def test_the_report_is_one_page_with_everything(tmp_path, source, small_chunks):
    plan = balanced(6, seed=2)
    attempts = write_set(tmp_path, source, plan, Settings(attempts=1))
    figures, page = write_report(tmp_path, source, plan, attempts)
    text = page.read_text()
    assert f"{figures.kept} of 6" in text and "consent" in text and "not verifiable" in text
    assert text.count("data:image/png;base64") >= 5
    for name in ("source", "contact", "asked_achieved", "leak", "distances"):
        assert (tmp_path / f"{name}.png").stat().st_size > 1000


def test_an_empty_set_still_has_a_report(tmp_path, source, small_chunks):
    from lit_faces.persons.verify import Tolerances

    plan = balanced(3, seed=2)
    attempts = write_set(tmp_path, source, plan, Settings(attempts=1, tolerances=Tolerances(identity=1e-6)))
    figures, page = write_report(tmp_path, source, plan, attempts)
    assert figures.kept == 0 and "0 of 3" in page.read_text() and len(ShardSet(tmp_path)) == 0


def test_driving_shows_this_person_moving(source):
    from lit_faces.persons.generators import load_generator
    from lit_faces.persons.retarget import fit_clip

    actor = FaceRenderer(128, seed=91).render(torch.full((3,), 7), torch.arange(3), torch.zeros(3, dtype=torch.int64))
    driver = fit_clip(LandmarkModel(), actor.landmarks, 128, actor.au_intensity)
    made = drive_pictures(load_generator(), source, driver, actor.au_intensity, smooth=0.0)
    assert made.shape == (3, 3, 128, 128)
    assert float((made[0].float() - made[1].float()).abs().mean()) > 1
    analyser = FaceAnalyser()
    own = analyser.batch_embeddings(torch.cat([source.faces.image, made, actor.image]))
    assert float((own[1:4] - own[0]).norm(dim=1).mean()) < float((own[4:] - own[0]).norm(dim=1).mean())
