import numpy as np
import pytest
import torch

from lit_faces.core import predictor as module
from lit_faces.core.landmarks import PREDICTOR_FILE, FaceAnalyser, find_model_file
from lit_faces.core.predictor import BatchedPredictor


@pytest.fixture(scope="module")
def window() -> np.ndarray:
    """The astronaut's face, grey; 60 px are as many as the analyser would have it enlarged from."""
    import cv2
    from skimage import data

    face = data.astronaut()[20:220, 120:320]
    return cv2.resize(cv2.cvtColor(face, cv2.COLOR_RGB2GRAY), (600, 600), interpolation=cv2.INTER_LINEAR)


@pytest.fixture(scope="module")
def boxes() -> np.ndarray:
    """Around the astronaut's face."""
    shifts = np.random.default_rng(0).integers(-12, 13, (16, 2))
    return np.array([[[165, 168], [435, 438]]], float) + shifts[:, None]


@pytest.fixture(scope="module")
def batched() -> BatchedPredictor:
    return BatchedPredictor.load(find_model_file(PREDICTOR_FILE))


def test_finds_what_dlib_finds(window, boxes, batched):
    dlib, ours = FaceAnalyser().points_in(window, boxes), batched(window, boxes)
    assert ours.shape == dlib.shape == (16, 68, 2)
    # dlib rounds to pixels; where a spot lies on the border of two of them, the last bit of a float decides which is
    # looked at, and a path may part from there
    same = np.abs(ours - dlib).max(2) <= 0.501
    assert same.mean() > 0.75 and np.abs(ours - dlib).mean() < 0.4
    assert np.linalg.norm(ours.mean(0) - dlib.mean(0), axis=1).max() < 1.0
    assert np.linalg.norm(dlib[0] - batched(window, boxes + 40.0)[0], axis=1).mean() > 3, "it depends on the box"


def test_boxes_do_not_know_of_each_other(window, boxes, batched):
    together = batched(window, boxes)
    for count in (1, 3, 8):
        np.testing.assert_allclose(batched(window, boxes[:count]), together[:count], atol=0.02)


def test_outside_of_the_window_all_is_black(window, boxes, batched):
    half = window[:, :300]
    padded = np.zeros_like(window)
    padded[:, :300] = half
    np.testing.assert_allclose(batched(half, boxes), batched(padded, boxes), atol=1e-4)
    dlib = FaceAnalyser().points_in(half, boxes)
    assert np.linalg.norm(batched(half, boxes).mean(0) - dlib.mean(0), axis=1).mean() < 2.0


def test_what_was_unpacked_is_kept_and_a_damaged_one_is_unpacked_anew(tmp_path, monkeypatch, batched, window, boxes):
    monkeypatch.setenv("LIT_FACES_CACHE", str(tmp_path))
    path, asked = find_model_file(PREDICTOR_FILE), []
    parts = small_parts(batched)

    def unpacked(file):
        asked.append(file)
        return parts

    monkeypatch.setattr(module, "unpack", unpacked)
    first = BatchedPredictor.load(path)(window, boxes)
    assert np.array_equal(BatchedPredictor.load(path)(window, boxes), first) and asked == [path]
    (kept,) = tmp_path.iterdir()
    kept.write_bytes(kept.read_bytes()[:1000])
    assert np.array_equal(BatchedPredictor.load(path)(window, boxes), first) and asked == [path, path]
    assert np.array_equal(BatchedPredictor.load(path)(window, boxes), first) and asked == [path, path]
    monkeypatch.setenv("LIT_FACES_CACHE", str(kept))  # no folder: it works all the same
    assert np.array_equal(BatchedPredictor.load(path)(window, boxes), first)


def test_another_file_is_refused(tmp_path):
    whole = find_model_file(PREDICTOR_FILE)
    with whole.open("rb") as file:
        start = file.read(300_000)
    for name, data in {"cut": start, "text": b"no trees here" * 100, "empty": b"", "swapped": start[::-1]}.items():
        path = tmp_path / f"{name}.dat"
        path.write_bytes(data)
        with pytest.raises(ValueError, match=rf"{name}\.dat: not dlib's predictor of 68 points.*pip install"):
            module.unpack(path)


def test_parts_that_do_not_fit_are_refused(batched):
    parts = small_parts(batched)
    with pytest.raises(ValueError, match="leaf"):
        BatchedPredictor({**parts, "leaf": parts["leaf"][:, :-1]})
    with pytest.raises(ValueError, match="anchor"):
        BatchedPredictor({**parts, "anchor": torch.full_like(parts["anchor"], 68)})


def small_parts(batched: BatchedPredictor) -> dict[str, torch.Tensor]:
    """Two cascades of the real one."""
    path = module.default_cache_dir() / f"predictor-{module._fingerprint(find_model_file(PREDICTOR_FILE))}.safetensors"
    parts = module.load_weights(path)[0] if path.is_file() else module.unpack(find_model_file(PREDICTOR_FILE))
    return {name: part if name == "mean" else part[:2].clone() for name, part in parts.items()}
