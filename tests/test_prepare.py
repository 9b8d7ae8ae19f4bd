"""python -m lit_faces.prepare: what is written, what a kill or a full disk leaves, and what it says."""

import csv
import errno
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from data_modules import preparation
from data_modules.disfa import DISFA
from data_modules.generated import Generated
from data_modules.preparation import Settings, plan_units, prepare
from lit_faces.core.facs import AU_INDEX
from lit_faces.core.files import is_lock
from lit_faces.core.shards import ShardSet, read_manifest
from lit_faces.prepare import main
from lit_faces.rendering.renderer import FaceRenderer
from lit_faces.rendering.sets import write_folder, write_shards
from tests.core.test_files import files_of_at_most
from tests.fake import bp4d, disfa, rafdb
from tests.fake.faces import framed, people, save

ROOT = Path(__file__).resolve().parents[1]
SLOW = float(os.environ.get("LIT_FACES_SLOW", "2"))  # how many times slower than a machine of one's own
KILLS = int(os.environ.get("LIT_FACES_KILLS", "2"))


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("raw")
    disfa.write(root / "DISFA")
    bp4d.write(root / "BP4D", frames=6)
    return root


@pytest.fixture(scope="module")
def done(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """DISFA prepared without interruption, five faces a shard."""
    out = tmp_path_factory.mktemp("done") / "disfa"
    assert run(raw / "DISFA", out) == 0
    return out


def run(root: Path, out: Path, *more: str, name: str = "disfa") -> int:
    return main([name, "--root", str(root), "--out", str(out), "--jobs", "1", "--shard-frames", "5", *more])


def content(out: Path) -> dict[str, str]:
    """SHA-256 of everything that a preparation leaves."""
    files = [p for p in sorted(out.iterdir()) if not is_lock(p.name)]
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_labels_travel_and_faces_are_where_the_landmarks_say(raw: Path, done: Path) -> None:
    shards = ShardSet(done)
    lost = [row for row in csv.DictReader((done / "failures.csv").open())]
    assert len(shards) + sum(_count(row["frames"]) for row in lost) == 12 + 11
    assert read_manifest(done)["expected"] == 23 and len(shards) >= 20
    truth = {clip.key: clip for clip in DISFA(raw / "DISFA").clips()}
    for row in range(len(shards)):
        clip = truth[shards.words["clip"][shards.clip[row]]]
        place = clip.frames.tolist().index(shards.frame[row])
        np.testing.assert_array_equal(shards.au_intensity[row], clip.au_intensity[place])
        np.testing.assert_array_equal(shards.au_occurrence[row], clip.au_occurrence[place])
    batch = shards.gather(np.arange(len(shards)))
    assert set(batch.subject) == {"disfa:SN001", "disfa:SN010"} and batch.source[0] == "disfa"
    eyes = batch.landmarks[:, 36:48].mean(1)
    assert (eyes[:, 0] - 63.5).abs().max() < 20 and (eyes[:, 1] < 60).all(), "upright, in the middle"
    half = shards.gather([0], size=64)
    assert half.image.shape == (1, 3, 64, 64)
    assert torch.allclose((half.landmarks + 0.5) * 2, batch.landmarks[:1] + 0.5, atol=1e-4)


def _count(frames: str) -> int:
    spans = [span.split("-") for span in frames.split()]
    return sum(int(span[-1]) - int(span[0]) + 1 for span in spans)


def test_a_key_says_what_it_is_and_the_record_beside_a_face_has_its_labels(done: Path) -> None:
    import tarfile

    with tarfile.open(done / "shard-00000.tar") as tar:
        names = tar.getnames()
        record = json.load(tar.extractfile(names[1]))
    assert names[0] == "disfa-SN001-0000001.jpg" and names[1] == "disfa-SN001-0000001.json"
    assert record["subject"] == "disfa:SN001" and record["frame"] == 1 and len(record["landmarks"]) == 136
    assert "AU14" not in record["au_intensity"], "not coded is left out, not 0"


def test_webdataset_opens_the_shards(done: Path) -> None:
    webdataset = pytest.importorskip("webdataset", reason="webdataset is not installed (benchmarks)")
    shards = ShardSet(done)
    read = list(webdataset.WebDataset([str(p) for p in sorted(done.glob("*.tar"))], shardshuffle=False).decode("rgb8"))
    assert [sample["__key__"] for sample in read] == [shards.key(row) for row in range(len(shards))]


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_any_number_of_processes_writes_the_same_bytes(raw: Path, done: Path, tmp_path: Path, jobs: str) -> None:
    assert run(raw / "DISFA", tmp_path / "out", "--jobs", jobs) == 0
    assert content(tmp_path / "out") == content(done)


def test_killed_at_random_moments_it_ends_with_the_same_bytes(raw: Path, done: Path, tmp_path: Path) -> None:
    """Two kills here, ten with LIT_FACES_KILLS=10."""
    out, chance = tmp_path / "out", random.Random(KILLS)
    command = [sys.executable, "-m", "lit_faces.prepare", "disfa", "--root", str(raw / "DISFA"), "--out", str(out)]
    command += ["--jobs", "2", "--shard-frames", "5"]
    killed = 0
    for _ in range(KILLS * 6):
        if killed == KILLS:
            break
        before = len(list(out.glob("*.arrow"))) if out.is_dir() else 0
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and not (out.is_dir() and any(out.glob(".*.tmp*"))):
            time.sleep(0.01)  # until it writes
        time.sleep(chance.uniform(0, 0.4))
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            killed += 1
        process.wait()
        after = len(list(out.glob("*.arrow"))) if out.is_dir() else 0
        assert after >= before, "what was complete stays"
        if (out / "manifest.json").is_file():
            shutil.rmtree(out)  # it was faster than we: once more
    assert killed == KILLS
    time.sleep(1.5)  # orphans notice within half a second that their parent is gone
    assert run(raw / "DISFA", out) == 0
    assert content(out) == content(done)


def test_a_second_run_reads_no_frame_and_a_repaired_file_remakes_its_shards_only(raw: Path, tmp_path: Path) -> None:
    root, out = Path(shutil.copytree(raw / "BP4D", tmp_path / "raw")), tmp_path / "out"
    task = root / "Sequences(2D+3D)" / "Sequences(2D+3D)" / "F001" / "T1"
    whole = (task / "0003.jpg").read_bytes()
    (task / "0003.jpg").write_bytes(whole[: len(whole) // 2])
    clips = plan_units(preparation_reader(root).clips(), 5)
    first = prepare(preparation_reader(root), out, Settings(unit=5), preparation_reader(root).clips())
    assert first.made == 18 == sum(map(len, clips))
    assert [p for p in first.problems if "0003.jpg" in p.file]
    again = prepare(preparation_reader(root), out, Settings(unit=5), preparation_reader(root).clips())
    assert again.made == 0 and [p for p in again.problems if "0003.jpg" in p.file], "problems are told again"
    (task / "0003.jpg").write_bytes(whole)
    third = prepare(preparation_reader(root), out, Settings(unit=5), preparation_reader(root).clips())
    assert third.made == 5 and third.faces == first.faces + 1
    assert not [p for p in third.problems if "0003.jpg" in p.file]


def preparation_reader(root: Path):
    from data_modules.bp4d import BP4D

    return BP4D(root)


def test_a_full_disk_keeps_what_is_there_and_says_what_to_do(raw, done, tmp_path, monkeypatch, capsys) -> None:
    out, real, count = tmp_path / "out", preparation.ShardWriter.close, []

    def full(self, failures=()):
        count.append(1)
        if len(count) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(self, failures)

    monkeypatch.setattr(preparation.ShardWriter, "close", full)
    assert run(raw / "DISFA", out) == 2
    assert "shard-00002.tar: the disk is full: make room and run the same command again" in capsys.readouterr().err
    assert len(list(out.glob("*.arrow"))) == 2 and not list(out.glob(".*.tmp*"))
    with pytest.raises(FileNotFoundError, match="interrupted: run the same command again"):
        ShardSet(out)
    monkeypatch.undo()
    assert run(raw / "DISFA", out) == 0
    assert content(out) == content(done)


def test_a_file_that_kills_its_process_costs_its_own_frames_only(raw: Path, tmp_path: Path) -> None:
    reader = DeadlyDISFA(raw / "DISFA")
    outcome = prepare(reader, tmp_path / "out", Settings(unit=12), reader.clips(), jobs=2)
    dead = [p for p in outcome.problems if "the process that read it died" in p.reason]
    assert [(p.clip, p.frames) for p in dead] == [("SN010", "1-11")]
    assert outcome.faces >= 10
    healed = prepare(DISFA(raw / "DISFA"), tmp_path / "out", Settings(unit=12), reader.clips(), jobs=1)
    assert healed.made == 11 and healed.faces > outcome.faces, "tried again next time"


class DeadlyDISFA(DISFA):
    """SN010 ends the process that decodes it, as a damaged file can do to a decoder."""

    def pictures(self, clip):
        if clip.key == "SN010":
            os._exit(139)
        return super().pictures(clip)


def test_many_damages_in_one_copy_are_all_listed_and_none_stops_the_run(tmp_path: Path) -> None:
    """60 here; LIT_FACES_CORRUPTIONS=1000 damages a thousand files of one copy."""
    count = int(os.environ.get("LIT_FACES_CORRUPTIONS", "60"))
    chance, root, frames = random.Random(1), tmp_path / "raw", 12
    face = framed(people(2, 12, 0).image[0])
    save(tmp_path / "face.jpg", face)
    for number in range(max(2, -(-2 * count // (frames + 6)))):  # twice as many files as damages
        key = f"{'FM'[number % 2]}{number // 16 + 1:03d}_T{number // 2 % 8 + 1}"
        person, task = key.split("_")
        folder = root / "BP4D-training" / person / task
        folder.mkdir(parents=True, exist_ok=True)
        for frame in range(1, frames + 1):
            os.link(tmp_path / "face.jpg", folder / f"{frame:04d}.jpg")
        header = ",".join(map(str, range(100)))
        rows = "".join(f"{frame}," + ",".join("0" * 99) + "\n" for frame in range(1, frames + 1))
        table = root / "AUCoding" / f"{key}.csv"
        table.parent.mkdir(exist_ok=True)
        table.write_text(f"{header}\n{rows}")
        for au in (6, 10, 12, 14, 17):
            graded = root / "AU Intensity Codes3.0" / f"AU{au:02d}" / f"{key}_AU{au:02d}.csv"
            graded.parent.mkdir(parents=True, exist_ok=True)
            graded.write_text("".join(f"{frame},1\n" for frame in range(1, frames + 1)))
    files = sorted(path for path in root.rglob("*") if path.is_file())
    broken = chance.sample(files, count)
    for path in broken:
        data, kind = path.read_bytes(), chance.choice(("cut", "empty", "garbage", "missing", "folder"))
        path.unlink()
        if kind == "folder":
            path.mkdir()
        elif kind != "missing":
            cut = data[: chance.randrange(len(data) // 2)]
            path.write_bytes({"cut": cut, "empty": b"", "garbage": chance.randbytes(500)}[kind])
    assert run(root, tmp_path / "out", "--jobs", "2", "--shard-frames", "200", name="bp4d") == 0
    rows = list(csv.DictReader((tmp_path / "out" / "failures.csv").open()))
    files_named = {row["file"] for row in rows}
    clips_lost = {row["clip"] for row in rows if "frames" in row["reason"] or "no AU codes" in row["reason"]}
    silent = []
    for path in broken:
        name = str(path.relative_to(root))
        key = "_".join(path.stem.split("_")[:2]) if path.suffix == ".csv" else f"{path.parts[-3]}_{path.parts[-2]}"
        told = name in files_named or any(path.name in row["reason"] or path.stem in row["reason"] for row in rows)
        codes = root / "AUCoding" / f"{key}.csv"
        whole_clip_lost = codes in broken  # its pictures are not looked at when there are no codes at all
        if not told and not (whole_clip_lost and key in {row["clip"] for row in rows} | clips_lost):
            silent.append(name)
    assert silent == []
    manifest = read_manifest(tmp_path / "out")
    unread = sum(_count(row["frames"]) for row in rows if row["file"].endswith(".jpg"))
    no_face = sum(_count(row["frames"]) for row in rows if row["reason"] == "no face found")
    assert manifest["faces"] + unread + no_face == manifest["expected"] and manifest["faces"] > 0


def test_one_preparation_of_a_folder_at_a_time(raw: Path, done: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "lit_faces.prepare", "disfa", "--root", str(raw / "DISFA"), "--out", str(out)]
    command += ["--jobs", "1", "--shard-frames", "5"]
    other = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while other.poll() is None and not (out / "settings.json").exists():
        time.sleep(0.01)
    other.send_signal(signal.SIGSTOP)
    try:
        assert run(raw / "DISFA", out) == 2
        assert f"another process is at work there (prepare, process {other.pid} on " in capsys.readouterr().err
        assert run(raw / "DISFA", out, "--overwrite") == 2, "nothing is thrown away without the lock"
        assert (out / "settings.json").exists()
    finally:
        other.send_signal(signal.SIGCONT)
    began = time.monotonic()
    other.send_signal(signal.SIGTERM)
    said = other.communicate(timeout=30)[1]
    assert other.returncode == 143 and time.monotonic() - began < 3 * SLOW
    assert said.strip().splitlines()[-1].endswith("told to stop; the same command goes on where it stopped")
    assert run(raw / "DISFA", out) == 0 and content(out) == content(done)


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_all_processes_soon_and_the_same_command_goes_on(raw, tmp_path, sent, code) -> None:
    out, reader = tmp_path / "out", tmp_path / "ready"
    script = (
        "import os, sys, time; from data_modules import preparation; from data_modules.disfa import DISFA\n"
        "from lit_faces.command import run_command; from pathlib import Path\n"
        "class Slow(DISFA):\n"
        "    def pictures(self, clip):\n"
        "        Path(sys.argv[3]).write_text(str(os.getpid())); time.sleep(120)\n"
        "        yield from super().pictures(clip)\n"
        "if __name__ == '__main__':\n"
        "    reader = Slow(Path(sys.argv[1]))\n"
        "    settings = preparation.Settings(unit=5)\n"
        "    work = lambda: preparation.prepare(reader, Path(sys.argv[2]), settings, reader.clips(), jobs=2)\n"
        "    raise SystemExit(run_command('prepare', work))\n"
    )
    (tmp_path / "slow.py").write_text(script)
    command = [sys.executable, str(tmp_path / "slow.py"), str(raw / "DISFA"), str(out), str(reader)]
    process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE)
    while process.poll() is None and not (reader.exists() and reader.read_text()):
        time.sleep(0.02)
    began = time.monotonic()
    process.send_signal(sent)
    assert process.wait(60) == code and time.monotonic() - began < 3 * SLOW
    with pytest.raises(ProcessLookupError):
        os.kill(int(reader.read_text()), 0)
    assert process.stderr is not None and b"Traceback" not in process.stderr.read()


def test_a_place_that_is_too_small_or_read_only_is_a_line(raw: Path, tmp_path: Path, capsys) -> None:
    with files_of_at_most(20_000):
        assert run(raw / "DISFA", tmp_path / "out") == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "error:" in line]
    assert "shard-00000.tar" in line and "largest size" in line
    assert not list((tmp_path / "out").glob(".*.tmp*"))
    for options, says in (("ro", "read-only"), ("size=40k", "the disk is full")):
        with mounted(tmp_path / "small", options):
            assert run(raw / "DISFA", tmp_path / "small" / "out") == 2
            (line,) = [line for line in capsys.readouterr().err.splitlines() if "error:" in line]
            assert says in line and str(tmp_path / "small") in line


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[None]:
    """A small or read-only file system; whoever may not mount one skips."""
    folder.mkdir(exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no leave to mount a file system")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_files_that_are_not_ours_are_neither_overwritten_nor_removed(
    raw: Path, done: Path, tmp_path: Path, capsys
) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "shard-00001.tar").write_text("mine")
    assert run(raw / "DISFA", tmp_path / "new", "--overwrite") == 2
    assert "shard-00001.tar: was not written by `prepare`" in capsys.readouterr().err
    assert (tmp_path / "new" / "shard-00001.tar").read_text() == "mine"
    out = Path(shutil.copytree(done, tmp_path / "out"))
    (out / "shard-90000.tar").write_text("mine")
    settings = json.loads((out / "settings.json").read_text())
    (tmp_path / "outside").write_text("mine")
    (out / "settings.json").write_text(json.dumps({**settings, "files": [*settings["files"], "../outside"]}))
    assert run(raw / "DISFA", out, "--overwrite") == 2
    assert "'../outside', which leads out of the folder; nothing was removed" in capsys.readouterr().err
    assert (tmp_path / "outside").exists() and (out / "shard-00000.tar").exists()
    (out / "settings.json").write_text(json.dumps(settings))
    assert run(raw / "DISFA", out, "--overwrite", "--size", "64") == 0
    assert (out / "shard-90000.tar").read_text() == "mine"


def test_shards_that_are_too_many_go(raw: Path, done: Path, tmp_path: Path) -> None:
    reader, out = DISFA(raw / "DISFA"), Path(shutil.copytree(done, tmp_path / "out"))
    clips = reader.clips()
    selection = {"subjects": None, "limit": None}
    few = prepare(reader, out, Settings(unit=5), clips[:1], selection=selection)
    assert sorted(p.name for p in out.glob("shard-*.tar")) == [
        f"shard-{k:05d}.tar" for k in range(-(-few.expected // 5))
    ]
    assert json.loads((out / "settings.json").read_text())["files"].count("shard-00004.tar") == 0


def test_other_settings_need_another_folder(raw: Path, done: Path, tmp_path: Path, capsys) -> None:
    out = Path(shutil.copytree(done, tmp_path / "out"))
    assert run(raw / "DISFA", out, "--size", "64") == 2
    assert "was prepared with size = 128, asked is 64: choose another --out, or --overwrite" in capsys.readouterr().err
    (out / "mine.txt").write_text("not ours")
    assert run(raw / "DISFA", out, "--size", "64", "--overwrite") == 0
    assert ShardSet(out).gather([0]).image.shape[-1] == 64 and (out / "mine.txt").exists()


def test_damaged_shards_are_found_and_made_again(raw: Path, done: Path, tmp_path: Path, capsys) -> None:
    out = Path(shutil.copytree(done, tmp_path / "out"))
    shard = out / "shard-00001.tar"
    data = bytearray(shard.read_bytes())
    data[3000] ^= 255
    shard.write_bytes(data)
    assert main(["disfa", "--root", str(raw / "DISFA"), "--out", str(out), "--check"]) == 2
    assert "shard-00001.tar: damaged" in capsys.readouterr().err
    assert run(raw / "DISFA", out) == 0 and content(out) == content(done)
    shard.write_bytes(bytes(data)[:-512])
    with pytest.raises(ValueError, match=r"shard-00001\.tar: has \d+ bytes instead of"):
        ShardSet(out)
    shard.unlink()
    with pytest.raises(ValueError, match=r"shard-00001\.tar: is missing"):
        ShardSet(out)


def test_some_people_and_some_frames(raw: Path, tmp_path: Path, capsys) -> None:
    assert run(raw / "DISFA", tmp_path / "one", "--subjects", "SN010", "--limit", "3") == 0
    shards = ShardSet(tmp_path / "one")
    assert shards.subjects() == ["disfa:SN010"] and shards.frame.tolist() == [1, 2, 3]
    assert run(raw / "DISFA", tmp_path / "two", "--subjects", "SN10") == 2
    assert "did you mean SN010?" in capsys.readouterr().err


def test_verify_only_writes_nothing(raw: Path, tmp_path: Path, capsys) -> None:
    assert main(["disfa", "--root", str(raw / "DISFA"), "--verify-only"]) == 0
    said = capsys.readouterr().out
    assert "25 of 27 people are not there" in said and "chosen: camera: left" in said
    assert list(tmp_path.iterdir()) == []


def test_own_landmarks_frame_the_same_crop(raw: Path, tmp_path: Path) -> None:
    for name in ("disfa", "bp4d"):
        assert run(raw / name.upper(), tmp_path / name, "--landmarks", "own", "--encoding", "png", name=name) == 0
        shards = ShardSet(tmp_path / name)
        marks = shards.landmarks.reshape(-1, 68, 2)
        own = np.isnan(marks[:, 60]).all(1)
        assert own.sum() >= len(shards) - 3, "a missing point of the set's own 66 or 49"
        assert np.isfinite(marks[:, 17:48]).all()


def test_sets_of_crops_keep_faces_that_nobody_finds(tmp_path: Path) -> None:
    rafdb.write(tmp_path / "raw")
    save(tmp_path / "raw/basic/Image/aligned/aligned/train_00002_aligned.jpg", np.full((100, 100, 3), 90, np.uint8))
    assert run(tmp_path / "raw", tmp_path / "out", name="rafdb") == 0
    shards = ShardSet(tmp_path / "out")
    assert len(shards) == 7 and np.isnan(shards.landmarks[1]).all()
    assert shards.subjects()[0] == "rafdb:rafdb-test_0000-0000001", "each picture is its own subject"


@pytest.mark.parametrize("form", ["folder", "shards"])
def test_generated_sets_are_taken_as_they_are(tmp_path: Path, form: str) -> None:
    renderer = FaceRenderer(128, seed=4)
    write = write_folder if form == "folder" else write_shards
    write(renderer, tmp_path / "faces", 6, frames_per_subject=3, progress=False)
    assert run(tmp_path / "faces", tmp_path / "out", "--encoding", "png", name="generated") == 0
    truth = renderer.render(torch.arange(6) // 3, torch.arange(6) % 3)
    batch = ShardSet(tmp_path / "out").gather(np.arange(6))
    assert torch.equal(batch.image, truth.image)
    assert torch.allclose(batch.au_intensity, truth.au_intensity, atol=1e-3)
    assert torch.allclose(batch.landmarks, truth.landmarks, atol=1e-2)
    assert torch.allclose(batch.pose, truth.pose, atol=1e-3)
    assert torch.equal(batch.emotion, truth.emotion)
    if form == "shards":
        shard = next((tmp_path / "faces").glob("*.tar"))
        shard.write_bytes(shard.read_bytes()[:40_000])
        reader = Generated(tmp_path / "faces")
        assert [len(clip) for clip in reader.clips()] == [1]  # what is whole is read
        assert "damaged or cut short after 1 faces" in reader.problems[0].reason


def test_a_folder_of_photographs_with_and_without_labels(tmp_path: Path, capsys) -> None:
    faces = people(2, 3, 0)
    for i in range(6):
        save(tmp_path / "photos" / ("anna", "bert")[i // 3] / f"{i}.jpg", framed(faces.image[i]))
    assert run(tmp_path / "photos", tmp_path / "plain", name="folder") == 0
    shards = ShardSet(tmp_path / "plain")
    assert shards.subjects() == ["photos:anna", "photos:bert"] and np.isnan(shards.au_intensity).all()
    table = (
        "file,subject,frame,AU6,au_17,emotion\nanna/0.jpg,a,0,3,,happiness\nanna/1.jpg,a,1,9,1,\nbert/9.jpg,b,0,,2,\n"
    )
    (tmp_path / "photos" / "labels.csv").write_text(table)
    assert run(tmp_path / "photos", tmp_path / "labelled", name="folder") == 0
    shards = ShardSet(tmp_path / "labelled")
    assert len(shards) == 1 and shards.au_intensity[0, AU_INDEX[6]] == 3 and shards.emotion[0] == 1
    assert np.isnan(shards.au_intensity[0, AU_INDEX[17]]) and shards.au_occurrence[0, AU_INDEX[6]] == 1
    lost = (tmp_path / "labelled" / "failures.csv").read_text()
    assert "labels.csv,3" in lost and "column AU6: expected 0..5 or nothing, found 9" in lost
    assert "bert/9.jpg" in lost and "missing" in lost


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["disfaa", "--root", ".", "--out", "x"], "no data set 'disfaa'; did you mean disfa?"),
        (["disfa", "--root", "nowhere", "--out", "x"], "no such folder"),
        (["disfa", "--root", "tests", "--out", "x"], "unpack ActionUnit_Labels.zip"),
        (["folder", "--root", "tests", "--out", "x"], "no pictures"),
        (["folder", "--root", "tests"], "--out is missing"),
    ],
)
def test_what_cannot_be_is_said_in_a_line(argv: list[str], says: str, capsys, monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    assert main(argv) == 2
    assert says in capsys.readouterr().err


def test_help_of_a_set_shows_its_options(capsys) -> None:
    with pytest.raises(SystemExit):
        main(["bp4d", "--help"])
    said = capsys.readouterr().out
    assert "--frame-offset" in said and "--bad-frames" in said and "example:" in said
