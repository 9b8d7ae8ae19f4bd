import math

import numpy as np
import pytest
import torch

from lit_faces.core.facs import AU_INDEX, AU_KEYS
from lit_faces.metrics.icc import KINDS, ICCOverAUs, StreamingICC, combine_moments, icc, icc_of_moments, pair_moments

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


def anova(table):
    """ICC(1,1), (2,1), (3,1) by an independent route: least squares on dummy variables, residuals squared."""
    n, k = table.shape
    score, target, rater = table.ravel(), np.repeat(np.arange(n), k), np.tile(np.arange(k), n)

    def left_over(*factors):
        design = np.concatenate([np.eye(size)[codes] for codes, size in factors], 1)
        return ((score - design @ np.linalg.lstsq(design, score, rcond=None)[0]) ** 2).sum()

    ones = (np.zeros(n * k, int), 1)
    within, both = left_over((target, n)), left_over((target, n), (rater, k))
    between, raters = left_over(ones) - within, left_over(ones) - left_over((rater, k))
    ms_r, ms_c, ms_w, ms_e = between / (n - 1), raters / (k - 1), within / (n * (k - 1)), both / ((n - 1) * (k - 1))
    return [
        (ms_r - ms_w) / (ms_r + (k - 1) * ms_w),
        (ms_r - ms_e) / (ms_r + (k - 1) * ms_e + k * (ms_c - ms_e) / n),
        (ms_r - ms_e) / (ms_r + (k - 1) * ms_e),
    ]


def by_pingouin(table):
    pingouin = pytest.importorskip("pingouin", reason="pingouin comes with the extra [test]")
    pandas = pytest.importorskip("pandas")
    n, raters = table.shape
    long = pandas.DataFrame(
        {"target": np.repeat(np.arange(n), raters), "rater": np.tile(np.arange(raters), n), "score": table.ravel()}
    )
    theirs = pingouin.intraclass_corr(long, targets="target", raters="rater", ratings="score")
    return theirs["ICC"].to_numpy(dtype=float)[:3].tolist()  # single ratings first: one-way, two-way random and fixed


def tables():
    """Random and degenerate tables of ratings where the ICC is defined."""
    rng = np.random.default_rng(0)
    for n, raters in ((3, 2), (50, 2), (40, 3), (30, 7)):
        yield f"{n}x{raters}", rng.normal(size=(n, 1)) + rng.normal(size=(n, raters)) * 0.7 + rng.normal(size=raters)
    grades = rng.integers(0, 6, (60, 1)).astype(float)
    yield "shrout_fleiss", SHROUT_FLEISS
    yield "grades", np.concatenate([grades, (grades + rng.integers(-1, 2, (60, 1))).clip(0, 5)], 1)
    yield "identical", np.repeat(grades, 2, 1)
    yield "shifted", np.concatenate([grades, grades + 2], 1)
    yield "opposite", np.concatenate([grades, 5 - grades], 1)
    yield "second_constant", np.concatenate([grades, np.full((60, 1), 1.7)], 1)
    yield "one_varies_once", np.concatenate([np.eye(20)[:, :1], rng.normal(size=(20, 1))], 1)
    yield "far_from_zero", 1e5 + np.concatenate([grades, grades + rng.normal(size=(60, 1))], 1)
    yield "tiny", 1e-9 * np.concatenate([grades, grades + rng.normal(size=(60, 1))], 1)


TABLES = dict(tables())


@pytest.mark.parametrize("name", TABLES)
def test_icc_agrees_with_an_analysis_of_variance(name):
    found = [icc(TABLES[name], kind) for kind in ("1,1", "2,1", "3,1")]
    # on dummy variables the sums of squares are differences of large numbers
    assert found == pytest.approx(anova(TABLES[name] - TABLES[name].mean()), abs=1e-9)


@pytest.mark.filterwarnings("ignore:divide by zero")
@pytest.mark.parametrize("name", TABLES)
def test_icc_agrees_with_pingouin(name):
    found = [icc(TABLES[name], kind) for kind in ("1,1", "2,1", "3,1")]
    assert found == pytest.approx(by_pingouin(TABLES[name]), abs=1e-9)


@pytest.mark.filterwarnings("ignore:divide by zero")
@pytest.mark.parametrize("name", [name for name, table in TABLES.items() if table.shape[1] == 2])
def test_streaming_agrees_with_pingouin(name):
    labels, judged = torch.from_numpy(TABLES[name]).split(1, 1)
    values = []
    for kind in ("1,1", "2,1", "3,1"):
        metric = StreamingICC(1, kind)
        for part in zip(labels.split(7), judged.split(7)):
            metric.update(*part)
        values.append(float(metric.compute()))
    assert values == pytest.approx(by_pingouin(TABLES[name]), abs=1e-9)


def test_two_targets_in_opposite_order_have_no_absolute_agreement():
    table = np.array([[0.0, 1.0], [1.0, 0.0]])
    assert math.isnan(icc(table, "2,1")), "-1 / 0"
    assert icc(table, "3,1") == -1


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


def test_a_million_rows_in_constant_memory():
    """The state never grows; ``benchmarks/icc.py`` has the time."""
    metric = StreamingICC(2)
    labels, judged = ratings(1000, 2)
    for _ in range(1000):
        metric.update(labels, judged)
    assert metric.moments.shape == (12, 2) and metric.moments[0].tolist() == [1e6, 1e6]
    thousandfold = combine_moments(pair_moments(labels, judged)[None], torch.tensor([[1000.0]]))[0]
    assert torch.allclose(metric.compute(), icc_of_moments(thousandfold), atol=1e-12, rtol=0)


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="one of 1,1, 2,1, 3,1, got '3,k'"):
        StreamingICC(2, "3,k")
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
    assert metric.compute().tolist() == pytest.approx(expected, abs=1e-9, nan_ok=True)
    assert math.isnan(expected[3]) and not any(math.isnan(value) for value in expected[:3])


def test_streaming_is_not_the_mean_over_batches():
    labels, judged = ratings(64)
    mean = np.nanmean([icc(torch.cat([labels[i : i + 4], judged[i : i + 4]], 1)) for i in range(0, 64, 4)])
    metric = StreamingICC(1)
    metric.update(labels, judged)
    assert abs(float(metric.compute()) - mean) > 0.01


@pytest.mark.filterwarnings("ignore:.*before the ``update``")
@pytest.mark.parametrize("kind", KINDS)
def test_states_of_ranks_add_up(kind):
    labels, judged = (x.double() for x in ratings(100, 3))
    labels[:40, 1] = float("nan")  # one rank sees nothing of this column
    whole, merged, forward = (StreamingICC(3, kind) for _ in range(3))
    whole.update(labels, judged)
    ranks = [StreamingICC(3, kind) for _ in range(4)]
    for rank, rows in zip(ranks, (slice(0, 37), slice(37, 37), slice(37, 38), slice(38, 100))):
        rank.update(labels[rows], judged[rows])
        forward(labels[rows], judged[rows])  # forward() merges states the way torchmetrics does
        merged.merge_state(rank)
    gathered = combine_moments(torch.stack([rank.moments for rank in ranks]))  # what a sync over ranks does
    for found in (merged.compute(), forward.compute(), icc_of_moments(gathered, kind)):
        assert found.tolist() == pytest.approx(whole.compute().tolist(), abs=1e-12)


@pytest.mark.parametrize("offset", [0.0, 1e4, 1e6, -1e8])
@pytest.mark.parametrize("scale", [1.0, 1e-3])
@pytest.mark.parametrize("kind", KINDS)
def test_sums_stay_exact_far_from_zero_and_for_tiny_variation(offset, scale, kind):
    labels, judged = (offset + scale * x.double() for x in ratings(2000))
    metric = StreamingICC(1, kind)
    for part in zip(labels.split(64), judged.split(64)):
        metric.update(*part)
    centred = torch.cat([labels, judged], 1) - offset  # exact: the rounding of labels and judged is in both
    resolution = 0.01 * abs(offset) * 2.3e-16 / scale  # a hundredth of a value's own rounding, in units of the spread
    assert float(metric.compute()) == pytest.approx(icc(centred, kind), abs=1e-9 + resolution)
    assert icc(torch.cat([labels, judged], 1), kind) == pytest.approx(icc(centred, kind), abs=1e-9 + resolution)


def test_near_perfect_agreement_keeps_its_digits():
    """One minus ICC, which textbook sums of squares lose, to a thousandth."""
    labels = torch.linspace(0, 5, 5000, dtype=torch.float64)[:, None] + 1e3
    noise = 1e-5 * torch.randn(5000, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    metric = StreamingICC(1)
    for part in zip(labels.split(100), (labels + noise).split(100)):
        metric.update(*part)
    expected = float(noise.var() / (2 * labels.var()))  # MS_E / MS_R to first order, times 2
    assert 1 - float(metric.compute()) == pytest.approx(expected, rel=1e-3)


def test_weights_count_a_part_that_often():
    parts = [pair_moments(*(x.double() for x in ratings(30, 2, seed))) for seed in range(3)]
    weighted = combine_moments(torch.stack(parts), torch.tensor([[2.0, 0.0, 1.0], [0.0, 0.0, 0.0]]))
    repeated = combine_moments(torch.stack([parts[0], parts[0], parts[2]]))
    assert torch.allclose(weighted[0], repeated, rtol=1e-12, atol=1e-12)
    assert icc_of_moments(weighted)[1].isnan().all(), "nobody drawn, nothing known"


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
    assert float(result["AU06"]) == pytest.approx(icc(torch.stack([labels[:, 4], judged[:, 4]], 1)), abs=1e-9)
    assert float(result["mean"]) == pytest.approx(np.mean([float(result[k]) for k in AU_KEYS if k != "AU43"]), abs=1e-9)
