"""Sources: photos and clips, their AUs, and the faces that are refused."""

import numpy as np
import pytest
import torch
from PIL import Image

from lit_faces.core.facs import AU_INDEX, NUM_AUS
from lit_faces.core.landmarks import FaceAnalyser
from lit_faces.persons.landmark_model import LandmarkModel
from lit_faces.persons.retarget import retarget
from lit_faces.persons.source import (
    acting,
    likely_intensities,
    read_source,
    seen_in_landmarks,
    sharpness,
    source_of_faces,
    stated_intensities,
)
from lit_faces.rendering.renderer import FaceRenderer


@pytest.fixture(scope="module")
def model():
    return LandmarkModel()


@pytest.fixture(scope="module")
def analyser():
    return FaceAnalyser()


@pytest.fixture(scope="module")
def renderer():
    return FaceRenderer(128, seed=55)


def zeros(images):
    return torch.zeros(len(images), NUM_AUS)


def photo(renderer, path, subject=1, pose=(0.0, 0.0, 0.0), au=None):
    """A rendered face on a larger canvas."""
    faces = renderer.render(
        torch.tensor([subject]),
        torch.tensor([0]),
        au=torch.zeros(1, NUM_AUS) if au is None else au[None],
        pose=torch.tensor([pose]),
    )
    picture = np.pad(faces.image[0].permute(1, 2, 0).numpy(), ((60, 60), (60, 60), (0, 0)), mode="edge")
    Image.fromarray(picture).resize((496, 496)).save(path)
    return path


def test_resting_faces_are_called_neutral_and_smiles_are_not():
    reading = torch.zeros(3, NUM_AUS)
    reading[0, AU_INDEX[6]] = 1.2  # heavy cheeks
    reading[1, [AU_INDEX[6], AU_INDEX[12], AU_INDEX[25]]] = torch.tensor([3.0, 3.5, 2.0])
    level, neutral = likely_intensities(reading)
    assert float(neutral[0]) > 0.7 and float(level[0].max()) < 0.3
    assert float(neutral[1]) < 0.05 and float(level[1, AU_INDEX[12]]) > 3.0
    assert float(neutral[2]) > 0.9 and float(level[2].max()) == 0
    assert bool((level <= reading + 1e-6).all())


def test_smiles_and_parted_lips_are_seen_in_landmarks(model):
    au = torch.zeros(1, NUM_AUS)
    au[0, AU_INDEX[12]], au[0, AU_INDEX[27]] = 4.0, 2.0
    still = torch.zeros(1, 30)
    points = model.project(still, torch.zeros(1, 3), au, torch.zeros(1, 3), 128)
    from lit_faces.persons.retarget import fit_clip

    found = seen_in_landmarks(torch.zeros(1, NUM_AUS), points, fit_clip(model, points, 128))
    assert float(found[0, AU_INDEX[12]]) > 2.0 and float(found[0, AU_INDEX[25]]) == 2.5
    rest = model.project(still, torch.zeros(1, 3), 0 * au, torch.zeros(1, 3), 128)
    assert float(seen_in_landmarks(torch.zeros(1, NUM_AUS), rest, fit_clip(model, rest, 128)).max()) == 0
    shut = rest.clone()
    shut[:, [37, 38, 43, 44]] = shut[:, [41, 40, 47, 46]]
    found = seen_in_landmarks(torch.zeros(1, NUM_AUS), shut, fit_clip(model, shut, 128))
    assert float(found[0, AU_INDEX[43]]) == 4.5 and float(found.sum()) == 4.5


@pytest.mark.parametrize("text", ["6=9", "3=1", "6:2", "6=2;12=1", "", "AU6=-1"])
def test_stated_aus_that_cannot_be_read(text):
    with pytest.raises(ValueError, match="--source-au: cannot read"):
        stated_intensities(text)


def test_stated_aus():
    au = stated_intensities("6=2, AU12=3.5")
    assert float(au[AU_INDEX[6]]) == 2.0 and float(au[AU_INDEX[12]]) == 3.5 and float(au.sum()) == 5.5


def test_a_photo_becomes_a_source_that_reproduces_itself(tmp_path, renderer, model, analyser):
    path = photo(renderer, tmp_path / "anna.png")
    source = read_source(path, 128, model, zeros, analyser=analyser)
    assert source.name == "anna" and source.kind == "photo" and len(source.sha256) == 64
    assert source.neutral > 0.9 and len(source.faces) == len(source.fits) == 1
    fit = source.fits[0]
    again = retarget(model, fit, fit.pose[None], source.faces.au_intensity)[0]
    assert float((again - source.faces.landmarks[0]).norm(dim=1).max()) < 0.1
    assert "none" in source.notes[0]


def test_stated_aus_are_believed(tmp_path, renderer, model, analyser):
    path = photo(renderer, tmp_path / "anna.png")
    ones = lambda images: torch.ones(len(images), NUM_AUS)  # noqa: E731
    assert float(read_source(path, 128, model, ones, au="neutral", analyser=analyser).faces.au_intensity.max()) == 0
    detector = read_source(path, 128, model, ones, au="detector", analyser=analyser)
    assert float(detector.faces.au_intensity.min()) == 1
    stated = read_source(path, 128, model, ones, au="12=3", analyser=analyser)
    assert float(stated.faces.au_intensity[0, AU_INDEX[12]]) == 3 and stated.neutral == 0
    with pytest.raises(ValueError, match="--source-au"):
        read_source(path, 128, model, ones, au="smiling", analyser=analyser)


def test_covered_faces_are_refused(tmp_path, renderer, model, analyser):
    path = photo(renderer, tmp_path / "anna.png")
    with Image.open(path) as picture:
        pixels = np.array(picture)
    pixels[60:420, 250:] = (200, 150, 120)  # half of the face
    Image.fromarray(pixels).save(tmp_path / "half.png")
    with pytest.raises(ValueError, match=r"half\.png: .*(covered|no face found|do not fit)"):
        read_source(tmp_path / "half.png", 128, model, zeros, analyser=analyser)


def test_profiles_are_refused(tmp_path, renderer, model, analyser):
    path = photo(renderer, tmp_path / "side.png", pose=(58.0, 0.0, 0.0))
    with pytest.raises(ValueError, match=r"side\.png: .*(profile|turned away|no face found)"):
        read_source(path, 128, model, zeros, analyser=analyser)


def test_exactly_one_face(renderer, model):
    two = renderer.render(torch.tensor([1, 2]), torch.tensor([0, 0]))
    with pytest.raises(ValueError, match="expected one face, got 2"):
        source_of_faces(two, model, zeros)


def test_blur_is_less_sharp(renderer):
    image = renderer.render(torch.tensor([4]), torch.tensor([0])).image[0]
    blurred = torch.nn.functional.avg_pool2d(image.float()[None], 5, 1, 2)[0].round().to(torch.uint8)
    assert sharpness(blurred) < 0.5 * sharpness(image)


def test_acting_is_measured_against_the_actors_own_rest(renderer, model):
    frames = renderer.render(torch.full((6,), 3), torch.arange(6), torch.zeros(6, dtype=torch.int64))

    def read(images):  # a face that always reads AU6 = 1
        found = torch.zeros(len(images), NUM_AUS)
        found[:, AU_INDEX[6]] = 1.0
        found[-1, AU_INDEX[6]] = 3.0
        return found

    fits, level = acting(frames, model, read)
    assert len(fits) == 6 and float(level[0, AU_INDEX[6]]) == 0 and 1.9 < float(level[-1, AU_INDEX[6]]) < 2.7
    assert all(torch.equal(fit.identity, fits[0].identity) for fit in fits)
