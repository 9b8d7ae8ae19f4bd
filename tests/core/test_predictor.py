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


@pytest.fixture(scope="module")
def small() -> dict[str, torch.Tensor]:
    """The first two cascades."""
    parts = module.load_weights(module._kept(find_model_file(PREDICTOR_FILE)))[0]
    return {name: part if name == "mean" else part[:2].clone() for name, part in parts.items()}


@pytest.fixture
def unpacked(small, monkeypatch):
    """The files that were unpacked; in no time, for it is the small one."""
    files = []
    monkeypatch.setattr(module, "unpack", lambda file: files.append(file) or small)
    return files


def test_what_was_unpacked_is_kept_and_a_damaged_one_is_unpacked_anew(
    batched, unpacked, tmp_path, monkeypatch, window, boxes
):
    monkeypatch.setenv("LIT_FACES_CACHE", str(tmp_path))
    path = find_model_file(PREDICTOR_FILE)
    first = BatchedPredictor.load(path)(window, boxes)
    assert np.array_equal(BatchedPredictor.load(path)(window, boxes), first) and unpacked == [path]
    (kept,) = tmp_path.iterdir()
    whole = kept.read_bytes()
    kept.write_bytes(whole[:1000])
    assert np.array_equal(BatchedPredictor.load(path)(window, boxes), first) and unpacked == [path] * 2
    assert kept.read_bytes() == whole
    module.save_weights(kept, {"anchor": torch.zeros(3)}, {})
    assert np.array_equal(BatchedPredictor.load(path)(window, boxes), first) and unpacked == [path] * 3
    assert BatchedPredictor.load(path) and unpacked == [path] * 3
    other = tmp_path / "other.dat"
    other.write_bytes(b"1")
    assert BatchedPredictor.load(other) and unpacked == [path] * 3 + [other], "a file's content says which is kept"


def test_where_nothing_can_be_kept_it_works_and_says_so(
    batched, unpacked, tmp_path, monkeypatch, caplog, window, boxes
):
    path, file = find_model_file(PREDICTOR_FILE), tmp_path / "file"
    file.write_text("no folder")
    monkeypatch.setenv("LIT_FACES_CACHE", str(file))
    assert np.isfinite(BatchedPredictor.load(path)(window, boxes)).all()
    assert "set LIT_FACES_CACHE to a folder of yours" in caplog.text

    def homeless(self):
        raise RuntimeError("Could not determine home directory.")

    caplog.clear()
    monkeypatch.delenv("LIT_FACES_CACHE")
    monkeypatch.setattr(type(file), "expanduser", homeless)
    assert np.isfinite(BatchedPredictor.load(path)(window, boxes)).all() and len(unpacked) == 2
    assert "no home folder to keep a cache in: set LIT_FACES_CACHE" in caplog.text


def test_another_file_is_refused(tmp_path):
    whole = find_model_file(PREDICTOR_FILE)
    with whole.open("rb") as file:
        start = file.read(300_000)
    for name, data in {"cut": start, "text": b"no trees here" * 100, "empty": b"", "swapped": start[::-1]}.items():
        path = tmp_path / f"{name}.dat"
        path.write_bytes(data)
        with pytest.raises(ValueError, match=rf"{name}\.dat: not dlib's predictor of 68 points.*pip install"):
            module.unpack(path)


def test_what_cannot_be_unpacked_dlib_reads_itself(monkeypatch, caplog, window, boxes):
    def refused(path):
        raise ValueError("trees of another depth")

    monkeypatch.setattr(BatchedPredictor, "load", refused)
    analyser = FaceAnalyser()
    assert np.array_equal(analyser.points_at_once(window, boxes[:2]), analyser.points_in(window, boxes[:2]))
    assert "trees of another depth: box by box" in caplog.text


def test_parts_that_do_not_fit_are_refused(batched, small):
    wrong = {
        "leaf": small["leaf"][:, :-1],
        "anchor": torch.full_like(small["anchor"], 68),
        "first": small["first"].float(),
        "threshold": small["threshold"][:0],
    }
    for name, part in wrong.items():
        with pytest.raises(ValueError, match=f"parts of a predictor.*{name}"):
            BatchedPredictor({**small, name: part})
    with pytest.raises(ValueError, match="parts of a predictor"):
        BatchedPredictor({name: part for name, part in small.items() if name != "threshold"})


def test_no_box_no_points(window, batched):
    none = np.empty((0, 2, 2))
    assert batched(window, none).shape == FaceAnalyser().points_in(window, none).shape == (0, 68, 2)
