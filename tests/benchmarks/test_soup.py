"""The mean of two trainings from one start."""

import pytest
import torch

from benchmarks.soup import icc_on, mean_of
from lit_faces.tasks.au_detector import AUDetector


def detector(backbone: str = "aligned_face_small", level: float = 0.0) -> AUDetector:
    torch.manual_seed(0)
    made = AUDetector(backbone, size=32).eval().requires_grad_(False)
    made.head.linear.bias += level
    return made


def test_weights_are_averaged_and_counts_are_not() -> None:
    found = mean_of([detector(), detector(level=1.0)])
    torch.testing.assert_close(found.head.linear.bias, detector(level=0.5).head.linear.bias)
    assert all(value.dtype == detector().state_dict()[name].dtype for name, value in found.state_dict().items())
    with pytest.raises(ValueError, match="no mean"):
        mean_of([detector(), detector("aligned_face_base")])


def test_its_calibration_is_fitted_on_labelled_faces(faces) -> None:
    found, labelled = detector(), faces(40, 3)
    found.head.linear.weight *= 50.0  # or it would read nearly the same on all
    raw = found.predict_au(labelled.image)
    labelled.au_intensity = (0.5 * raw + 1.0).clamp(0, 5)
    found.fit_calibration(labelled)
    assert (found.predict_au(labelled.image) - labelled.au_intensity).abs().mean() < 0.1
    assert float(icc_on(found, labelled).nanmean()) > 0.8
