import math

import pytest
import torch

from lit_faces.core.facs import AU_INDEX, AU_KEYS, NUM_AUS
from lit_faces.metrics.au_fidelity import AUFidelity
from lit_faces.metrics.icc import icc

AU6, AU12, AU17 = AU_INDEX[6], AU_INDEX[12], AU_INDEX[17]


def asked_and_source(n: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    """AU6 and AU17 are asked at 1 to 5, everything else stays at the source's zero."""
    asked = torch.zeros(n, NUM_AUS)
    asked[:, [AU6, AU17]] = 1 + 4 * torch.rand(n, 2, generator=torch.Generator().manual_seed(0))
    return asked, torch.zeros(n, NUM_AUS)


def test_a_perfect_generator_and_judge():
    asked, source = asked_and_source()
    metric = AUFidelity()
    metric.update(asked, asked, source, source)
    result = metric.compute()
    assert set(result) == {
        f"{kind}/{key}" for kind in ("icc", "icc_neutral", "mae", "leak") for key in (*AU_KEYS, "mean")
    }
    assert all(value.ndim == 0 for value in result.values())
    assert float(result["icc/AU06"]) == pytest.approx(1) and float(result["icc/mean"]) == pytest.approx(1)
    assert float(result["mae/AU06"]) == 0 and float(result["mae/mean"]) == 0
    assert result["icc/AU12"].isnan(), "never asked at another intensity"
    assert float(result["leak/mean"]) == 0


def test_mae_and_leak_have_known_values():
    asked, source = asked_and_source()
    judged, source_judged = asked.clone(), source.clone()
    judged[:, AU6] += 0.5
    source_judged[:, AU12] = 1.0
    judged[:, AU12] = 1.75
    metric = AUFidelity()
    metric.update(asked, judged, source, source_judged)
    result = metric.compute()
    assert float(result["mae/AU06"]) == pytest.approx(0.5)
    assert float(result["mae/AU12"]) == pytest.approx(1.75), "against what was asked"
    assert float(result["leak/AU12"]) == pytest.approx(0.75), "the change of the judge's reading"
    assert float(result["leak/AU01"]) == 0


def test_leak_counts_only_aus_that_were_not_asked_to_change():
    asked, source = torch.zeros(3, NUM_AUS), torch.zeros(3, NUM_AUS)
    asked[:, AU6] = torch.tensor([0.25, 0.26, 4.0])
    asked[:, AU17] = 3.0
    judged = torch.full((3, NUM_AUS), 2.0)
    metric = AUFidelity()
    metric.update(asked, judged, source, torch.zeros(3, NUM_AUS))
    assert metric.leak_count[AU6] == 1 and metric.leak_count[AU17] == 0
    assert float(metric.compute()["leak/AU06"]) == 2
    assert metric.compute()["leak/AU17"].isnan()


def test_uncoded_aus_count_nowhere():
    asked, source = asked_and_source()
    asked[:, AU17] = float("nan")
    source[:, AU12] = float("nan")
    judged = asked.nan_to_num(3.0)
    metric = AUFidelity()
    metric.update(asked, judged, source, torch.zeros_like(judged))
    result = metric.compute()
    assert all(result[f"{kind}/AU17"].isnan() for kind in ("icc", "mae", "leak"))
    assert result["leak/AU12"].isnan() and float(result["mae/AU12"]) == 0
    assert not result["mae/mean"].isnan()


@pytest.mark.filterwarnings("ignore:.*before the ``update``")
def test_batches_add_up_and_reset_forgets():
    asked, source = asked_and_source()
    judged = (asked + torch.randn(asked.shape, generator=torch.Generator().manual_seed(1))).clamp(0, 5)
    whole, parts = AUFidelity(), AUFidelity()
    whole.update(asked, judged, source, source)
    for k in range(0, 40, 9):
        rows = slice(k, k + 9)
        parts(asked[rows], judged[rows], source[rows], source[rows])  # forward merges, too
    expected, found = whole.compute(), parts.compute()
    assert all(torch.allclose(expected[key], found[key], atol=1e-6, equal_nan=True) for key in expected)
    assert float(expected["icc/AU06"]) == pytest.approx(icc(torch.stack([asked[:, AU6], judged[:, AU6]], 1)), abs=1e-6)
    whole.reset()
    assert math.isnan(float(whole.compute()["mae/mean"])) and whole.compute()["icc/mean"].isnan()


def test_wrong_shapes_are_named():
    good = torch.zeros(2, NUM_AUS)
    with pytest.raises(ValueError, match=r"expected two \(B, 19\), got \(2, 19\) and \(3, 19\)"):
        AUFidelity().update(good, good, good, torch.zeros(3, NUM_AUS))


def test_the_neutral_reading_takes_a_persons_own_error_off() -> None:
    generator = torch.Generator().manual_seed(3)
    asked = torch.rand(60, NUM_AUS, generator=generator) * 2 + 1
    person = torch.rand(60, NUM_AUS, generator=generator) * 2  # what the judge takes for expression
    metric, source = AUFidelity(), torch.zeros(60, NUM_AUS)
    metric.update(asked, asked + person, source, person)
    result = metric.compute()
    assert float(result["icc_neutral/AU06"]) == pytest.approx(1, abs=1e-6) and result["icc/AU06"] < 0.8
    metric.reset()
    metric.update(asked, asked + person, torch.full_like(source, float("nan")), person)
    assert metric.compute()["icc_neutral/AU06"].isnan()  # the source's AUs are not known
