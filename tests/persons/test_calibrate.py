"""From photos and clips to a zero: what is done in a source is not taken for the person."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lit_faces.calibrate import main
from lit_faces.core.facs import AU_INDEX, AU_KEYS, NUM_AUS
from lit_faces.core.landmarks import FaceAnalyser
from lit_faces.models.adapters import detector_code
from lit_faces.persons.calibration import (
    CalibrateOptions,
    calibrate,
    hidden_at_rest,
    resting,
    smile_shape,
)
from lit_faces.persons.readers import person_detector, person_reader, reader_code
from lit_faces.persons.reference import REFERENCE_FILE, PersonReferences
from lit_faces.persons.zero import Zero
from lit_faces.rendering.renderer import FaceRenderer
from lit_faces.tasks.au_detector import AUDetector, load_detector


@pytest.fixture(scope="module")
def faces():
    """One person: at rest, smiling with parted lips, eyes closed."""
    au = torch.zeros(3, NUM_AUS)
    au[1, [AU_INDEX[12], AU_INDEX[25]]] = 5.0
    au[2, AU_INDEX[43]] = 5.0
    ones = torch.ones(3, dtype=torch.int64)
    return FaceRenderer(128, seed=55).render(ones, torch.arange(3), au=au, pose=torch.zeros(3, 3))


@pytest.fixture(scope="module")
def photo(faces, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photo") / "anna.png"
    picture = np.pad(faces.image[0].permute(1, 2, 0).numpy(), ((60, 60), (60, 60), (0, 0)), mode="edge")
    Image.fromarray(picture).resize((372, 372)).save(path)
    return path


@pytest.fixture(scope="module")
def analyser() -> FaceAnalyser:
    return FaceAnalyser()


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    made = AUDetector("aligned_face_small", size=32, export=False)
    return made.export_weights(tmp_path_factory.mktemp("weights") / "small.safetensors")


def twos(images: torch.Tensor) -> torch.Tensor:
    return torch.full((len(images), NUM_AUS), 2.0)


def column(rest: np.ndarray, au: int) -> float:
    return float(rest[AU_INDEX[au]])


def test_a_smile_says_nothing_of_the_cheeks_but_of_the_brows(faces) -> None:
    smile = faces.select(torch.tensor([1]))
    rest, notes = resting(smile, twos)
    assert column(rest, 4) == 2.0 and np.isnan([column(rest, au) for au in (6, 12, 14, 25)]).all()
    assert "says nothing of AU06" in notes[0]
    rest, notes = resting(faces.select(torch.tensor([0])), twos)
    assert (rest == 2.0).all() and notes == []


def test_closed_eyes_say_nothing_of_the_lids(faces) -> None:
    hidden = hidden_at_rest(faces.landmarks)
    assert hidden[2, AU_INDEX[43]] and not hidden[0, AU_INDEX[43]] and not hidden[2, AU_INDEX[12]]


def test_stated_aus_are_taken_off_and_neutral_takes_the_word(faces) -> None:
    smile = faces.select(torch.tensor([1]))
    rest, _ = resting(smile, twos, "6=0.5,12=3")
    assert (column(rest, 6), column(rest, 12), column(rest, 4)) == (1.5, 0.0, 2.0)
    assert (resting(smile, twos, "neutral")[0] == 2.0).all()


def test_another_reader_is_taken_by_its_names(faces) -> None:
    def read(images: torch.Tensor) -> torch.Tensor:
        return torch.tensor([[0.4, 0.8, 0.9]]).expand(len(images), 3)

    names = ("jaw", "AU12", "AU04")
    smile = faces.select(torch.tensor([1]))
    rest, notes = resting(smile, read, names=names)
    np.testing.assert_allclose(rest, [0.4, np.nan, 0.9], atol=1e-6)
    assert notes[0].endswith("says nothing of AU12")
    np.testing.assert_allclose(resting(smile, read, "12=0.5", names)[0], [0.4, 0.3, 0.9], atol=1e-6)


def test_a_clip_rests_in_the_frames_where_it_does_not_act(faces) -> None:
    def read(images: torch.Tensor) -> torch.Tensor:
        found = torch.full((len(images), NUM_AUS), 1.0)
        found[2:, AU_INDEX[4]] = 4.0  # half of the time
        return found

    rest, _ = resting(faces.select(torch.tensor([0, 0, 1, 1])), read)
    assert column(rest, 4) == 1.0 and column(rest, 12) == 1.0


def test_the_shape_of_a_smile_does_not_turn_with_the_head(faces) -> None:
    level = smile_shape(faces.landmarks)
    assert level[1] > level[0] + 0.05
    turn = torch.tensor([[0.9, -0.436], [0.436, 0.9]])
    turned = smile_shape(faces.landmarks @ turn.T * 1.7 + 12)
    torch.testing.assert_close(turned, level, atol=1e-3, rtol=0)


def test_a_photo_pools_is_applied_and_undone(
    photo: Path, detector: Path, faces, analyser, tmp_path: Path, capsys
) -> None:
    out = tmp_path / "anna"
    assert main([str(photo), "--out", str(out), "--detector", str(detector)]) == 0
    before, after = person_reader(tmp_path, str(detector)), person_reader(out, str(detector))
    zero = Zero.load(out)
    assert zero.looks.max() == 1 and zero.offset.max() > 0
    expected = zero.apply(before(faces.image), AU_KEYS)
    torch.testing.assert_close(after(faces.image), expected)
    assert float((before(faces.image) - expected).abs().max()) > 0
    assert main([str(photo), "--out", str(out), "--detector", str(detector)]) == 0
    assert "is in the zero already" in capsys.readouterr().out and Zero.load(out).sources == zero.sources
    other = tmp_path / "other.png"
    Image.open(photo).rotate(5).save(other)
    pooled = calibrate([other], CalibrateOptions(str(detector)), out, analyser).zero
    assert len(pooled.sources) == 2
    assert main(["--undo", "--out", str(out)]) == 0
    assert person_reader(out, str(detector)).zero is None
    assert main(["--undo", "--out", str(out)]) == 0 and "there was no zero" in capsys.readouterr().out


def test_what_cannot_be_is_refused(photo: Path, detector: Path, analyser, tmp_path: Path, capsys) -> None:
    calibrate([photo], CalibrateOptions(str(detector)), tmp_path, analyser)
    torch.manual_seed(1)
    other = AUDetector("aligned_face_small", size=32, export=False).export_weights(tmp_path / "new.safetensors")
    with pytest.raises(ValueError, match="the zero of another detector"):
        calibrate([photo], CalibrateOptions(str(other)), tmp_path, analyser)
    assert len(calibrate([photo], CalibrateOptions(str(other), overwrite=True), tmp_path, analyser).zero.sources) == 1
    for wrong, says in (
        (["--out", str(tmp_path)], "no photo and no clip"),
        ([str(photo), "--out", str(tmp_path), "--undo"], "--undo"),
        ([str(photo), "--out", str(tmp_path), "--source-au", "smile"], "--source-au"),
        ([str(tmp_path / "nobody.png"), "--out", str(tmp_path / "new")], "nobody.png"),
    ):
        assert main(wrong) == 2
        assert says in capsys.readouterr().err


def test_the_folders_own_detector_is_meant(photo: Path, detector: Path, analyser, tmp_path: Path) -> None:
    (tmp_path / "detector.safetensors").write_bytes(detector.read_bytes())
    zero = calibrate([photo], replace(CalibrateOptions(), source_au="neutral"), tmp_path, analyser).zero
    assert zero.reader == reader_code(str(detector))


def test_a_detector_with_a_reference_head_remembers_the_photo(
    photo: Path, faces, analyser, tmp_path: Path, capsys
) -> None:
    torch.manual_seed(0)
    made = AUDetector("aligned_face_small", size=32, reference_head=True, export=False)
    torch.nn.init.normal_(made.reference.shift.weight, std=0.2)
    weights, out = made.export_weights(tmp_path / "weights" / "looks.safetensors"), tmp_path / "anna"
    assert main([str(photo), "--out", str(out), "--detector", str(weights)]) == 0
    assert "1 picture of the person" in capsys.readouterr().out
    alone, beside = load_detector(weights), person_detector(weights, out)
    assert (out / REFERENCE_FILE).stat().st_size < 8000 and beside.references is not None
    assert (alone.predict_au(faces.image) - beside.predict_au(faces.image)).abs().max() > 0.01
    assert person_reader(out, str(weights)).zero is None  # references stand in the place of the zero
    shown = PersonReferences.load(out, detector_code(alone)).references.intensity
    assert shown.eq(0).all()  # at rest, as landmarks say
    other = tmp_path / "other.png"
    Image.open(photo).rotate(5).save(other)
    calibrate([other, other], CalibrateOptions(str(weights)), out, analyser)
    assert len(person_detector(weights, out).references) == 2
    with pytest.raises(ValueError, match="another detector"):
        PersonReferences.load(out, "0123456789ab")
    (out / REFERENCE_FILE).write_bytes((out / REFERENCE_FILE).read_bytes()[:-20])
    with pytest.raises(ValueError, match=REFERENCE_FILE):
        person_detector(weights, out)
    assert main(["--undo", "--out", str(out)]) == 0 and not (out / REFERENCE_FILE).exists()


def test_references_that_lie_with_a_learnt_detector_are_its_own(tmp_path: Path) -> None:
    torch.manual_seed(0)
    made = AUDetector("aligned_face_small", size=64, reference_head=True).eval()
    torch.nn.init.normal_(made.reference.shift.weight, std=0.2)
    person = tmp_path / "anna"
    made.export_weights(person / "detector" / "detector.safetensors")
    own = load_detector(person / "detector" / "detector.safetensors")
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    kept = own.make_references(images[:1], torch.zeros(1, 19))
    PersonReferences(kept, ("a",), "another").save(person)  # of the detector before: it serves no more
    assert person_detector(str(person)).references is None
    PersonReferences(kept, ("a",), detector_code(own)).save(person / "detector")
    assert person_detector(str(person)).references is not None
    assert person_detector(str(person / "detector")).references is not None
