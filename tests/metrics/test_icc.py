import math

import numpy as np
import pytest
import torch

from lit_faces.core.facs import AU_INDEX, AU_KEYS
from lit_faces.metrics.icc import KINDS, ICCOverAUs, StreamingICC, icc

# Shrout & Fleiss 1979, table 2: four judges, six targets.
SHROUT_FLEISS = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], float)


def ratings(n: int, columns: int = 1, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Labels and noisy, biased readings of them, intensities 0..5, float32 (n, columns)."""
    generator = torch.Generator().manual_seed(seed)
    labels = 5 * torch.rand(n, columns, generator=generator)
    return labels, (0.8 * labels + 0.7 + torch.randn(n, columns, generator=generator)).clamp(0, 5)


@pytest.mark.parametrize(("kind", "published"), [("1,1", 0.17), ("2,1", 0.29), ("3,1", 0.71)])
def test_icc_gives_the_published_values_of_shrout_and_fleiss(kind, published):
    assert icc(SHROUT_FLEISS, kind) == pytest.approx(published, abs=0.005)


@pytest.mark.parametrize(("n", "raters"), [(6, 4), (50, 2), (500, 3)])
def test_icc_agrees_with_pingouin(n, raters):
    pingouin = pytest.importorskip("pingouin", reason="pingouin comes with the extra [test]")
    pandas = pytest.importorskip("pandas")
    rng = np.random.default_rng(n)
    table = (
        SHROUT_FLEISS
        if n == 6
        else rng.normal(size=(n, 1)) + rng.normal(size=(n, raters)) * 0.7 + rng.normal(size=raters)
    )
    long = pandas.DataFrame(
        {"target": np.repeat(np.arange(n), raters), "rater": np.tile(np.arange(raters), n), "score": table.ravel()}
    )
    theirs = pingouin.intraclass_corr(long, targets="target", raters="rater", ratings="score")
    values = theirs["ICC"].to_numpy(dtype=float)[:3]  # single ratings first: one-way, two-way random, two-way fixed
    assert [icc(table, kind) for kind in ("1,1", "2,1", "3,1")] == pytest.approx(values.tolist(), abs=1e-9)


def test_consistency_forgives_an_offset_and_agreement_does_not():
    labels = np.arange(6.0)
    table = np.stack([labels, labels + 1], 1)
    assert icc(table, "3,1") == pytest.approx(1)
    assert icc(table, "1,1") < icc(table, "2,1") < 0.95
    assert icc(np.stack([labels, 0.5 * labels], 1), "3,1") < 0.9, "a wrong scale costs, unlike in a correlation"


def test_icc_can_be_negative():
    assert icc(np.array([[0.0, 5.0], [5.0, 0.0], [1.0, 4.0]])) == pytest.approx(-1)


def test_icc_is_undefined_when_a_label_never_varies():
    varying = np.array([[2.0, 1.0], [2.0, 3.0], [2.0, 0.0]])
    assert math.isnan(icc(varying))
    assert math.isnan(icc(np.zeros((5, 2))))
    assert icc(varying[:, ::-1]) == pytest.approx(0), "a judge that never varies has agreed with nothing"


def test_icc_leaves_out_incomplete_rows():
    labels, judged = (x.numpy()[:, 0] for x in ratings(40))
    table = np.stack([labels, judged], 1)
    holes = np.concatenate([table, [[np.nan, 3.0], [1.0, np.nan], [np.nan, np.nan]]])
    assert icc(holes) == icc(table)
    assert math.isnan(icc(table[:1])) and math.isnan(icc(table[:0])) and math.isnan(icc(np.full((4, 2), np.nan)))


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="one of 1,1, 2,1, 3,1, got '3,k'"):
        icc(SHROUT_FLEISS, "3,k")
    with pytest.raises(ValueError, match=r"expected \(n, raters\)"):
        icc(SHROUT_FLEISS[:, 0])
    with pytest.raises(ValueError, match=r"expected two \(B, 3\)"):
        StreamingICC(3).update(torch.zeros(2, 3), torch.zeros(2, 2))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch", [1, 7, 300])
def test_streaming_gives_the_icc_of_everything_whatever_the_batch(kind, batch):
    labels, judged = ratings(300, 4)
    labels[::3, 1] = float("nan")
    judged[::5, 2] = float("nan")
    labels[:, 3] = 1.3
    metric = StreamingICC(4, kind)
    for start in range(0, 300, batch):
        metric.update(labels[start : start + batch], judged[start : start + batch])
    expected = [icc(torch.stack([labels[:, c], judged[:, c]], 1), kind) for c in range(4)]
    assert metric.compute().tolist() == pytest.approx(expected, abs=1e-6, nan_ok=True)
    assert math.isnan(expected[3]) and not any(math.isnan(value) for value in expected[:3])


def test_streaming_is_not_the_mean_over_batches():
    labels, judged = ratings(64)
    mean = np.nanmean([icc(torch.cat([labels[i : i + 4], judged[i : i + 4]], 1)) for i in range(0, 64, 4)])
    metric = StreamingICC(1)
    metric.update(labels, judged)
    assert abs(float(metric.compute()) - mean) > 0.01


def test_states_of_two_ranks_add_up():
    labels, judged = ratings(100, 3)
    whole, first, second = StreamingICC(3), StreamingICC(3), StreamingICC(3)
    whole.update(labels, judged)
    first.update(labels[:37], judged[:37])
    second.update(labels[37:], judged[37:])
    first.count += second.count
    first.sums += second.sums
    first.label_low, first.label_high = (
        first.label_low.minimum(second.label_low),
        first.label_high.maximum(second.label_high),
    )
    assert torch.allclose(first.compute(), whole.compute(), atol=1e-7)
    merged = StreamingICC(3)
    merged(labels[:37], judged[:37])  # forward() merges states the way torchmetrics does
    merged(labels[37:], judged[37:])
    assert torch.allclose(merged.compute(), whole.compute(), atol=1e-7)


def test_sums_stay_exact_far_from_zero_and_for_tiny_variation():
    labels, judged = (x.double() for x in ratings(1000))
    metric = StreamingICC(1, shift=1e4)
    metric.update(1e4 + 1e-2 * labels, 1e4 + 1e-2 * judged)
    assert float(metric.compute()) == pytest.approx(icc(torch.cat([labels, judged], 1)), abs=1e-6)


def test_a_constant_label_is_seen_whatever_its_value():
    metric = StreamingICC(1)
    for _ in range(50):
        metric.update(torch.full((13, 1), 0.1), torch.rand(13, 1))
    assert metric.compute().isnan().all()


def test_nothing_seen_is_undefined_and_reset_forgets():
    metric = StreamingICC(2)
    metric.update(torch.zeros(0, 2), torch.zeros(0, 2))
    assert metric.compute().isnan().all()
    metric.update(*ratings(20, 2))
    assert metric.compute().isfinite().all()
    metric.reset()
    metric.update(*ratings(1, 2))
    assert metric.compute().isnan().all()


def test_icc_over_aus_names_each_au_and_averages_the_defined_ones():
    labels, judged = ratings(60, 19)
    labels[:, AU_INDEX[43]] = float("nan")
    metric = ICCOverAUs()
    metric.update(labels, judged)
    result = metric.compute()
    assert list(result) == [*AU_KEYS, "mean"]
    assert result["AU43"].isnan()
    assert float(result["AU06"]) == pytest.approx(icc(torch.stack([labels[:, 4], judged[:, 4]], 1)), abs=1e-6)
    assert float(result["mean"]) == pytest.approx(np.mean([float(result[k]) for k in AU_KEYS if k != "AU43"]), abs=1e-6)
