import pytest
import torch

from lit_faces.metrics.landmark_error import LandmarkNME, nme


def asked(count: int = 3, eyes: float = 50.0) -> torch.Tensor:
    points = 100 * torch.rand(count, 68, 2, generator=torch.Generator().manual_seed(0))
    points[:, 36], points[:, 45] = torch.tensor([10.0, 40.0]), torch.tensor([10.0 + eyes, 40.0])
    return points


def test_a_shift_of_one_pixel_is_its_share_of_the_eye_distance():
    points = asked(eyes=50.0)
    assert nme(points + torch.tensor([1.0, 0.0]), points).tolist() == pytest.approx([0.02] * 3, abs=1e-6)
    assert nme(points, points).tolist() == [0, 0, 0]


def test_the_error_is_measured_in_the_asked_faces_own_size():
    points = asked()
    found = points + torch.randn(points.shape, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(nme(3 * found, 3 * points), nme(found, points), rtol=1e-4)


def test_unknown_points_are_left_out():
    points = asked(2)
    found = points + torch.tensor([0.0, 1.0])
    found[0, :10] = float("nan")
    found[0, 20] += 500
    points[0, 20] = float("nan")
    assert nme(found, points).tolist() == pytest.approx([0.02, 0.02], abs=1e-6)


def test_no_face_and_unknown_eyes_are_nan():
    points = asked(3)
    found = points.clone()
    found[0] = float("nan")
    points[1, 36] = float("nan")
    assert nme(found, points).isnan().tolist() == [True, True, False]


def test_metric_gives_mean_median_and_found_share():
    points = asked(4)
    found = points.clone()
    found[0, :, 0] += 1
    found[1, :, 0] += 2
    found[2, :, 0] += 6
    found[3] = float("nan")
    metric = LandmarkNME()
    metric.update(found[:1], points[:1])
    metric.update(found[1:], points[1:])
    result = {key: float(value) for key, value in metric.compute().items()}
    assert result == pytest.approx({"nme": 0.06, "nme_median": 0.04, "nme_found": 0.75}, abs=1e-6)


@pytest.mark.filterwarnings("ignore:.*before the ``update``")
def test_metric_without_any_face():
    metric = LandmarkNME()
    assert all(value.isnan() for value in metric.compute().values())
    metric.reset()
    metric.update(torch.full((2, 68, 2), float("nan")), asked(2))
    assert float(metric.compute()["nme_found"]) == 0 and metric.compute()["nme"].isnan()


def test_wrong_shapes_are_named():
    with pytest.raises(ValueError, match=r"expected two \(B, 68, 2\), got \(2, 68, 2\) and \(2, 49, 2\)"):
        nme(torch.zeros(2, 68, 2), torch.zeros(2, 49, 2))
