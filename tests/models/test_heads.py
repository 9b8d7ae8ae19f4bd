import pytest
import torch

from lit_faces.models.heads import Calibration, Prevalence


def test_calibration_matches_mean_and_spread_and_leaves_the_rest():
    generator = torch.Generator().manual_seed(0)
    truth = torch.rand(400, 3, generator=generator) * 4
    predicted = 0.4 * truth + 0.7 + 0.2 * torch.randn(400, 3, generator=generator)
    truth[:, 1] = float("nan")
    truth[:, 2] = 0.0  # never varies
    calibration = Calibration(3)
    calibration.fit(predicted, truth)
    found = predicted * calibration.scale + calibration.shift
    assert float(found[:, 0].mean()) == pytest.approx(float(truth[:, 0].mean()), abs=1e-3)
    assert float(found[:, 0].std()) == pytest.approx(float(truth[:, 0].std()), abs=1e-3)
    assert calibration.scale[1:].tolist() == [1.0, 1.0] and calibration.shift[1:].tolist() == [0.0, 0.0]
    assert calibration(predicted).min() >= 0 and calibration(predicted).max() <= 5


def test_matching_the_spread_gives_the_correlation_as_icc():
    from lit_faces.metrics.icc import icc

    generator = torch.Generator().manual_seed(1)
    truth = torch.randn(4000, 1, generator=generator)
    predicted = 0.3 * truth + 0.3 * torch.randn(4000, 1, generator=generator)
    calibration = Calibration(1)
    calibration.fit(predicted, truth)
    r = float(torch.corrcoef(torch.cat([truth, predicted], 1).T)[0, 1])
    assert float(icc(torch.cat([truth, predicted * calibration.scale + calibration.shift], 1))) == pytest.approx(
        r, abs=1e-3
    )


def test_prevalence_gives_both_sides_half_of_the_loss():
    prevalence = Prevalence(2, 0.5, momentum=1.0)
    prevalence.update(
        torch.tensor([[1.0, float("nan")], [0.0, float("nan")], [0.0, float("nan")], [0.0, float("nan")]])
    )
    positive, negative = prevalence.weights()
    assert prevalence.share.tolist() == [0.25, 0.5]
    assert float(positive[0] * 0.25) == pytest.approx(0.5) and float(negative[0] * 0.75) == pytest.approx(0.5)
    prevalence.update(torch.zeros(4, 2))
    assert float(prevalence.weights()[0].max()) == 10.0
