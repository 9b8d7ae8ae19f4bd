import inspect

import numpy as np
import pytest
import scipy.stats
import torch

from lit_faces.metrics.agreement import CCC, MAE, MSE, PCC, RMSE
from lit_faces.metrics.bootstrap import FAST, bootstrap_difference, bootstrap_over_subjects
from lit_faces.metrics.classification import AUC, F1, BalancedAccuracy, SkewNormalisedF1
from lit_faces.metrics.icc import StreamingICC, icc

METRICS = {
    **{f"icc({kind})": lambda kind=kind: StreamingICC(3, kind) for kind in ("1,1", "2,1", "3,1")},
    **{"icc": lambda: StreamingICC(3), "pcc": lambda: PCC(3), "ccc": lambda: CCC(3)},
    **{"mae": lambda: MAE(3), "mse": lambda: MSE(3), "rmse": lambda: RMSE(3), "auc": lambda: AUC(3)},
    **{"f1": lambda: F1(3), "f1_norm": lambda: SkewNormalisedF1(3), "balanced_accuracy": lambda: BalancedAccuracy(3)},
}
OCCURRENCE = ("f1", "f1_norm", "balanced_accuracy", "auc")


def people(count: int = 12, columns: int = 3, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
    """Labels, predictions with an error of each person's own, and names; people have 5 to 15 frames, shuffled."""
    rng = np.random.default_rng(seed)
    index = rng.permutation(np.repeat(np.arange(count), rng.integers(5, 16, count)))
    labels = rng.uniform(0, 5, (len(index), columns))
    predictions = labels + rng.normal(size=(count, columns))[index] + rng.normal(size=labels.shape)
    return torch.from_numpy(labels), torch.from_numpy(predictions), np.array([f"person {i}" for i in index])


def by_metric(name: str):
    """The same statistic as a function of rows, through the streaming metric."""

    def statistic(labels: np.ndarray, predictions: np.ndarray) -> np.ndarray:
        metric = METRICS[name]()
        metric.update(torch.from_numpy(labels), torch.from_numpy(predictions))
        return metric.compute().numpy()

    return statistic


def columns_for(name: str) -> tuple[dict[str, torch.Tensor], np.ndarray]:
    labels, predictions, names = people()
    if name in OCCURRENCE:
        labels, predictions = (labels > 3).double(), predictions / 5
        predictions[::4] = (predictions[::4] * 10).round() / 10  # with ties
    labels[::7, 1] = float("nan")
    labels[names == "person 3", 2] = float("nan")
    predictions[5, 0] = float("nan")
    return {"labels": labels, "predictions": predictions}, names


def test_every_fast_statistic_is_tested():
    assert set(METRICS) == set(FAST)


@pytest.mark.parametrize("name", FAST)
@pytest.mark.parametrize("method", ["bca", "percentile"])
def test_fast_statistics_are_those_of_the_rows(name, method):
    columns, names = columns_for(name)
    fast = bootstrap_over_subjects(name, columns, names, resamples=40, seed=3, method=method)
    slow = bootstrap_over_subjects(by_metric(name), columns, names, resamples=40, seed=3, method=method)
    for found, expected in zip(fast, slow):
        assert found.shape == (3,) and np.isfinite(found).all()
        assert found == pytest.approx(expected, abs=1e-9)
    assert (fast.low < fast.estimate).all() and (fast.estimate < fast.high).all()


@pytest.mark.parametrize(("ours", "theirs"), [("bca", "BCa"), ("percentile", "percentile")])
@pytest.mark.parametrize("level", [0.95, 0.8])
def test_intervals_are_those_of_scipy_over_the_list_of_subjects(ours, theirs, level):
    labels, predictions, names = people(columns=1)
    ordered = np.unique(names)

    def statistic(drawn: np.ndarray) -> float:
        rows = np.concatenate([np.flatnonzero(names == ordered[int(i)]) for i in drawn])
        return icc(np.stack([labels[rows, 0], predictions[rows, 0]], 1))

    rng_name = "rng" if "rng" in inspect.signature(scipy.stats.bootstrap).parameters else "random_state"  # before 1.15
    expected = scipy.stats.bootstrap(
        (np.arange(len(ordered)),),
        statistic,
        vectorized=False,
        n_resamples=300,
        confidence_level=level,
        method=theirs,
        **{rng_name: np.random.default_rng(7)},
    ).confidence_interval
    found = bootstrap_over_subjects("icc", [labels, predictions], names, 300, level, seed=7, method=ours)
    assert [float(x[0]) for x in found[1:]] == pytest.approx([expected.low, expected.high], abs=1e-9)


def test_people_are_drawn_and_not_frames():
    """Frames that repeat each other must not narrow the interval."""
    values = np.random.default_rng(0).normal(size=20)
    once = bootstrap_over_subjects(np.mean, [values], np.arange(20), 300)
    often = bootstrap_over_subjects(np.mean, [np.repeat(values, 50)], np.repeat(np.arange(20), 50), 300)
    assert often == pytest.approx(once)
    frames = bootstrap_over_subjects(np.mean, [np.repeat(values, 50)], np.arange(1000), 300)
    assert (frames.high - frames.low) < 0.25 * (once.high - once.low)


@pytest.mark.parametrize("method", ["bca", "percentile"])
def test_intervals_cover_the_truth_about_as_often_as_they_say(method):
    rng, covered = np.random.default_rng(1), 0
    for trial in range(150):
        values = rng.exponential(size=30)  # skewed; its mean is 1
        _, low, high = bootstrap_over_subjects(np.mean, [values], np.arange(30), 200, 0.9, trial, method)
        covered += low <= 1 <= high
    assert 0.80 <= covered / 150 <= 0.96


def test_a_paired_difference_takes_what_people_have_in_common_off():
    labels, predictions, names = people(30)
    rng = np.random.default_rng(2)
    better = labels + 0.9 * (predictions - labels) + 0.05 * torch.from_numpy(rng.normal(size=labels.shape))
    first, second = {"labels": labels, "predictions": better}, {"labels": labels, "predictions": predictions}
    found = bootstrap_difference("icc", first, second, names)
    separate = [bootstrap_over_subjects("icc", columns, names) for columns in (first, second)]
    assert found.estimate == pytest.approx(separate[0].estimate - separate[1].estimate)
    assert (found.low > 0).all(), "better on the same people"
    assert (separate[0].low < separate[1].high).all(), "which two separate intervals cannot tell"
    swapped = bootstrap_difference("icc", second, first, names, method="percentile")
    straight = bootstrap_difference("icc", first, second, names, method="percentile")
    assert -swapped.high == pytest.approx(straight.low) and -swapped.low == pytest.approx(straight.high)
    same = bootstrap_difference("icc", first, first, names)
    assert (same.low == 0).all() and (same.high == 0).all()
    rows = bootstrap_difference(by_metric("icc"), first, second, names, resamples=30)
    assert rows.low == pytest.approx(bootstrap_difference("icc", first, second, names, resamples=30).low, abs=1e-9)


def test_the_mean_is_over_the_columns_that_are_defined():
    labels, predictions, names = people()
    labels[:, 1] = 2.0
    each = bootstrap_over_subjects("icc", [labels, predictions], names, 50)
    mean = bootstrap_over_subjects("icc", [labels, predictions], names, 50, mean=True)
    assert np.isnan([each.estimate[1], each.low[1], each.high[1]]).all()
    assert isinstance(mean.low, float) and mean.estimate == pytest.approx(np.nanmean(each.estimate))
    assert mean.low < mean.estimate < mean.high
    kept = [labels[:, ::2], predictions[:, ::2]]
    assert mean == pytest.approx(bootstrap_over_subjects("icc", kept, names, 50, mean=True))


def test_undefined_resamples_are_left_out_until_they_are_too_many():
    labels, predictions, names = people()
    labels[names != "person 2", 0] = 0.0  # one person shows this AU: absent from a third of the resamples
    found = bootstrap_over_subjects("icc", [labels, predictions], names, 200)
    assert np.isfinite(found.low).all() and np.isfinite(found.high).all()
    values = np.array([1.0, np.nan, np.nan, np.nan, np.nan])
    estimate, low, high = bootstrap_over_subjects(lambda x: x[0] if (x == 1).any() else np.nan, [values], range(5))
    assert estimate == 1 and low == high == 1
    estimate, low, high = bootstrap_over_subjects(
        lambda x: 1.0 if len(np.unique(x)) == 5 else np.nan, [np.arange(5)], range(5)
    )
    assert estimate == 1 and np.isnan([low, high]).all(), "almost every resample is undefined"


def test_a_figure_that_never_moves_has_a_narrow_interval():
    labels, _, names = people()
    for method in ("bca", "percentile"):
        found = bootstrap_over_subjects("mae", [labels, labels + 1], names, 50, method=method)
        assert found.low.tolist() == pytest.approx([1] * 3) and found.high.tolist() == pytest.approx([1] * 3)
        one = bootstrap_over_subjects("icc", [labels, labels], names, 50, method=method)
        assert one.low.tolist() == one.high.tolist() == [1] * 3


def test_draws_depend_on_the_seed_alone():
    labels, predictions, names = people()
    first, again, other = (bootstrap_over_subjects("icc", [labels, predictions], names, 50, seed=s) for s in (1, 1, 2))
    assert (first.low == again.low).all() and (first.low != other.low).all()
    shuffled = np.random.default_rng(0).permutation(len(names))
    found = bootstrap_over_subjects("icc", [labels[shuffled], predictions[shuffled]], names[shuffled], 50, seed=1)
    assert found.low == pytest.approx(first.low, abs=1e-12), "the order of the frames is nothing"


def test_one_column_may_be_a_vector_and_subjects_any_names():
    labels, predictions, names = people()
    flat = bootstrap_over_subjects("icc", [labels[:, 0], predictions[:, 0].float()], names.tolist(), 50)
    assert [type(x) for x in flat] == [float] * 3
    numbers = torch.from_numpy(np.unique(names, return_inverse=True)[1])
    whole = bootstrap_over_subjects("icc", {"predictions": predictions, "labels": labels}, numbers, 50)
    assert flat == pytest.approx([x[0] for x in whole], abs=1e-6)


def test_a_thousand_resamples_of_40_people_and_19_aus():
    labels, predictions, names = people(40, 19)
    found = bootstrap_over_subjects("icc", [labels, predictions], names, resamples=1000)
    assert found.low.shape == (19,)
    assert (found.low <= found.estimate).all() and (found.estimate <= found.high).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"statistic": "iccc"}, r"expected a function or one of icc\(1,1\), .*, got 'iccc'"),
        ({"columns": {"labels": torch.zeros(4)}}, "expected labels and predictions, got \\['labels'\\]"),
        ({"columns": [torch.zeros(4), torch.zeros(3)]}, r"expected 4 rows each, as subjects, got 1: \(3,\)"),
        ({"columns": []}, "got none"),
        ({"columns": [torch.zeros(4, 2), torch.zeros(4, 3)]}, "expected two"),
        ({"subjects": ["a"] * 4}, "at least two, found 1"),
        ({"subjects": np.zeros((4, 1))}, r"expected one a row, \(n,\), got shape \(4, 1\)"),
        ({"resamples": 0}, "resamples >= 1"),
        ({"level": 95}, "0 < level < 1"),
        ({"method": "basic"}, "got 1000, 0.95 and 'basic'"),
        ({"statistic": "f1", "columns": [torch.full((4,), 3.0), torch.zeros(4)]}, "expected 0, 1 or NaN, found 3"),
    ],
)
def test_wrong_arguments_are_named(change, message):
    arguments = {"statistic": "icc", "columns": [torch.arange(4.0), torch.zeros(4)], "subjects": list("aabb"), **change}
    with pytest.raises(ValueError, match=message):
        bootstrap_over_subjects(**arguments)
