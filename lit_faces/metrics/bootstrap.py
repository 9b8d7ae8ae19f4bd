r"""Intervals over subjects: how far would a figure move had other people been recorded?

Frames of one person resemble each other, so frames are not drawn but **people**, with replacement, each with all of
their frames (cluster bootstrap); an interval over frames is several times too narrow.

    percentile  the quantiles (1 -+ level) / 2 of the resampled figures
    BCa         the same at levels moved for bias and skew, from the share of resamples below the estimate and the
                jackknife over subjects (Efron 1987); better where people are few and a figure is bounded, as these are

A resample is a weight for each person: how often that person was drawn. Figures that follow from sums over people
(:data:`FAST`) are computed for all resamples at once: 1,000 resamples of 40 people x 19 AUs take a small part of a
second. Any other function of the rows works, too, called once a resample.

Draws and both intervals are those of ``scipy.stats.bootstrap`` over the list of subjects, to rounding; SciPy's own
gives up where one resample is undefined, as an ICC is when none of the people drawn shows an AU.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from scipy.special import ndtr, ndtri
from torch import Tensor

from lit_faces.metrics.agreement import ccc_of_moments, mae_of_moments, mse_of_moments, pcc_of_moments, rmse_of_moments
from lit_faces.metrics.classification import (
    balanced_accuracy_of_counts,
    f1_of_counts,
    occurrence_counts,
    skew_normalised_f1_of_counts,
)
from lit_faces.metrics.icc import check_pair, combine_moments, icc_of_moments, pair_moments

Method = Literal["bca", "percentile"]
Columns = Mapping[str, Any] | Sequence[Any]
#: Figures (B, K) of resamples that are given by the weights of the people, (B, S).
_Weighted = Callable[[np.ndarray], np.ndarray]
_PART = 200  # resamples at once


class Interval(NamedTuple):
    """A figure and its interval; floats, or float64 arrays of the statistic's shape.

    Attributes:
        estimate: the figure on everyone.
        low: lower end, NaN where undefined.
        high: upper end.
    """

    estimate: Any
    low: Any
    high: Any


def bootstrap_over_subjects(
    statistic: str | Callable[..., Any],
    columns: Columns,
    subjects: Sequence[Any] | np.ndarray | Tensor,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    method: Method = "bca",
    mean: bool = False,
) -> Interval:
    """A figure with its interval over subjects.

    Undefined (NaN) resamples are left out, figure by figure; an interval is NaN where the estimate is, or where fewer
    than half of the resamples are defined. Where BCa is undefined (the figure is the same without anyone, or all
    resamples lie on one side of it) the percentile interval is given.

    Args:
        statistic: a name of :data:`FAST`, whose columns are ``labels`` and ``predictions``, (n, C) or (n,), NaN = not
            coded (``f1`` and its like: labels of 0 and 1, predictions >= 0.5 count as present); or a function of the
            columns, which gets numpy arrays of the rows of the people drawn (by name for a dict, in order otherwise)
            and gives a number or a vector.
        columns: arrays or tensors with n rows, by name or in the order of the statistic's arguments.
        subjects: n names or numbers: whose row it is.
        resamples: how many.
        level: of the interval, 0..1.
        seed: of the draws; the same draws for each figure that is asked with one seed and the same people.
        method: ``"bca"`` or ``"percentile"``.
        mean: the mean over the statistic's defined values (mean ICC over AUs, say) instead of each value.

    Returns:
        Estimate, low and high.

    Raises:
        ValueError: an argument out of range, columns of different lengths, fewer than two subjects, an unknown name.

    Example:
        >>> gains, people = np.array([0.1, 0.3, 0.2, 0.2]), ["a", "b", "c", "d"]
        >>> estimate, low, high = bootstrap_over_subjects(np.mean, [gains], people)
    """
    index, count = _subject_index(subjects)
    weighted = _bind(statistic, columns, index, count)
    return _interval(weighted, count, resamples, level, seed, method, mean)


def bootstrap_difference(
    statistic: str | Callable[..., Any],
    first: Columns,
    second: Columns,
    subjects: Sequence[Any] | np.ndarray | Tensor,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    method: Method = "bca",
    mean: bool = False,
) -> Interval:
    """Figure of ``first`` minus figure of ``second``, paired: both on the same people in each resample.

    How hard a person is cancels, so the interval is narrower than what two separate ones suggest. Arguments, returns
    and errors as in :func:`bootstrap_over_subjects`; row k of both is of ``subjects[k]``. With ``mean``, the mean is
    over the values that are defined for both.
    """
    index, count = _subject_index(subjects)
    one, other = (_bind(statistic, columns, index, count) for columns in (first, second))
    return _interval(lambda weights: one(weights) - other(weights), count, resamples, level, seed, method, mean)


def _interval(
    weighted: _Weighted, count: int, resamples: int, level: float, seed: int, method: str, mean: bool
) -> Interval:
    if resamples < 1 or not 0 < level < 1 or method not in ("bca", "percentile"):
        raise ValueError(
            "expected resamples >= 1, 0 < level < 1 and method 'bca' or 'percentile', "
            f"got {resamples}, {level} and {method!r}"
        )
    values = _mean_figure(weighted) if mean else weighted
    drawn = np.random.default_rng(seed).integers(0, count, (resamples, count))
    estimate = values(np.ones((1, count)))[0]
    cells = (drawn + count * np.arange(resamples)[:, None]).ravel()
    times = np.bincount(cells, minlength=resamples * count).reshape(resamples, count).astype(np.float64)
    # In parts: bounded memory, and tensors too small for torch to wait for a second thread on a busy machine.
    replicates = np.concatenate([values(times[k : k + _PART]) for k in range(0, resamples, _PART)])
    shape, replicates, flat = estimate.shape, replicates.reshape(resamples, -1), estimate.reshape(-1)
    left_out = values(1.0 - np.eye(count)).reshape(count, -1) if method == "bca" else np.empty((0, flat.size))
    ends = np.array([_ends(flat[k], replicates[:, k], left_out[:, k], level) for k in range(flat.size)])
    low, high = ends.reshape(-1, 2).T
    if shape == ():
        return Interval(float(estimate), float(low[0]), float(high[0]))
    return Interval(estimate, low.reshape(shape), high.reshape(shape))


def _mean_figure(weighted: _Weighted) -> _Weighted:
    def mean(weights: np.ndarray) -> np.ndarray:
        values = weighted(weights)
        values = values.reshape(len(values), -1)
        defined = ~np.isnan(values)
        with np.errstate(invalid="ignore"):
            return np.where(defined, values, 0.0).sum(1) / defined.sum(1)

    return mean


def _ends(estimate: float, replicates: np.ndarray, left_out: np.ndarray, level: float) -> tuple[float, float]:
    """Both ends of one figure's interval; percentile without ``left_out``."""
    defined = replicates[~np.isnan(replicates)]
    if np.isnan(estimate) or 2 * len(defined) < len(replicates):
        return np.nan, np.nan
    levels = np.array([0.5 * (1 - level), 0.5 * (1 + level)])
    if len(left_out):
        levels = _bca_levels(estimate, defined, left_out[~np.isnan(left_out)], levels)
    low, high = np.quantile(defined, levels)
    return float(low), float(high)


def _bca_levels(estimate: float, replicates: np.ndarray, left_out: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Levels of the quantiles after Efron 1987; ``levels`` unchanged where they are undefined."""
    bias = ndtri(0.5 * ((replicates < estimate).mean() + (replicates <= estimate).mean()))
    influence = left_out.mean() - left_out if len(left_out) else np.zeros(1)
    spread = (influence**2).sum() ** 1.5
    if not np.isfinite(bias) or spread == 0:
        return levels
    skew = (influence**3).sum() / (6 * spread)
    moved = bias + ndtri(levels)
    return ndtr(bias + moved / (1 - skew * moved))


def _subject_index(subjects: Sequence[Any] | np.ndarray | Tensor) -> tuple[np.ndarray, int]:
    """Number of each row's subject, int64 (n,), and how many subjects there are."""
    names = subjects.cpu().numpy() if isinstance(subjects, Tensor) else np.asarray(subjects)
    if names.ndim != 1:
        raise ValueError(f"subjects: expected one a row, (n,), got shape {names.shape}")
    unique, index = np.unique(names, return_inverse=True)
    if len(unique) < 2:
        raise ValueError(f"subjects: an interval over people needs at least two, found {len(unique)}")
    return index, len(unique)


def _bind(statistic: str | Callable[..., Any], columns: Columns, index: np.ndarray, count: int) -> _Weighted:
    """The statistic as a function of the people's weights."""
    named = columns if isinstance(columns, Mapping) else dict(enumerate(columns))
    arrays = {
        key: value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)
        for key, value in named.items()
    }
    wrong = [f"{key}: {value.shape}" for key, value in arrays.items() if value.shape[:1] != index.shape]
    if wrong or not arrays:
        raise ValueError(f"columns: expected {len(index)} rows each, as subjects, got {'; '.join(wrong) or 'none'}")
    if not isinstance(statistic, str):
        return partial(_by_rows, statistic, arrays, index)
    if statistic not in FAST:
        raise ValueError(f"statistic: expected a function or one of {', '.join(FAST)}, got {statistic!r}")
    names: tuple[Any, ...] = (0, 1) if 0 in arrays else ("labels", "predictions")
    if set(arrays) != set(names):
        raise ValueError(f"columns of {statistic!r}: expected labels and predictions, got {list(arrays)}")
    labels, predictions = (torch.as_tensor(arrays[name]) for name in names)
    flat = labels.ndim == 1 and predictions.ndim == 1
    if flat:
        labels, predictions = labels[:, None], predictions[:, None]
    check_pair(labels, predictions)
    order = torch.from_numpy(np.argsort(index, kind="stable"))
    sizes = np.bincount(index, minlength=count).tolist()
    by_person = FAST[statistic](labels[order].split(sizes), predictions[order].split(sizes))

    def weighted(weights: np.ndarray) -> np.ndarray:
        values = by_person(torch.from_numpy(weights)).numpy()
        return values[:, 0] if flat else values

    return weighted


def _by_rows(
    statistic: Callable[..., Any], arrays: dict[Any, np.ndarray], index: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Any function, called with the rows of the people drawn, once a resample."""
    positional = 0 in arrays
    results = []
    for weight in weights.astype(np.int64):
        drawn = np.repeat(np.arange(len(index)), weight[index])
        part = {key: value[drawn] for key, value in arrays.items()}
        result = statistic(*part.values()) if positional else statistic(**part)
        results.append(np.asarray(result, dtype=np.float64))
    return np.stack(results)


_People = Sequence[Tensor]
_OfWeights = Callable[[Tensor], Tensor]


def _from_moments(formula: Callable[[Tensor], Tensor], labels: _People, predictions: _People) -> _OfWeights:
    moments = torch.stack([pair_moments(a, b) for a, b in zip(labels, predictions)])
    return lambda weights: formula(combine_moments(moments, weights))


def _from_counts(formula: Callable[[Tensor], Tensor], labels: _People, predictions: _People) -> _OfWeights:
    counts = torch.stack([occurrence_counts(a, b) for a, b in zip(labels, predictions)])
    return lambda weights: formula(torch.einsum("bs,src->brc", weights, counts))


def _auc_of_pairs(labels: _People, predictions: _People) -> _OfWeights:
    """AUC from how often the positives of person s win over the negatives of person t: quadratic in the weights."""
    counts = torch.stack([occurrence_counts(a, b) for a, b in zip(labels, predictions)])  # and checks the labels
    positives, negatives = counts[:, 0] + counts[:, 3], counts[:, 1] + counts[:, 2]
    wins = torch.zeros(len(labels), len(labels), counts.shape[-1], dtype=torch.float64)
    for column in range(counts.shape[-1]):
        scores = [score[:, column].double() for score in predictions]
        won = [score[(label[:, column] == 1) & ~score.isnan()] for label, score in zip(labels, scores)]
        lost = [score[(label[:, column] == 0) & ~score.isnan()].sort().values for label, score in zip(labels, scores)]
        every, sizes = torch.cat(won), [len(score) for score in won]
        for other, below in enumerate(lost):
            ranks = torch.searchsorted(below, every) + torch.searchsorted(below, every, right=True)
            wins[:, other, column] = torch.stack([part.sum() for part in ranks.split(sizes)]) * 0.5

    def weighted(weights: Tensor) -> Tensor:
        total = (torch.einsum("bs,stc->btc", weights, wins) * weights[:, :, None]).sum(1)
        return total / ((weights @ positives) * (weights @ negatives))

    return weighted


#: Statistics computed for all resamples at once; columns ``labels`` and ``predictions``.
FAST: dict[str, Callable[[_People, _People], _OfWeights]] = {
    **{f"icc({kind})": partial(_from_moments, partial(icc_of_moments, kind=kind)) for kind in ("1,1", "2,1", "3,1")},
    "icc": partial(_from_moments, icc_of_moments),
    "pcc": partial(_from_moments, pcc_of_moments),
    "ccc": partial(_from_moments, ccc_of_moments),
    "mae": partial(_from_moments, mae_of_moments),
    "mse": partial(_from_moments, mse_of_moments),
    "rmse": partial(_from_moments, rmse_of_moments),
    "f1": partial(_from_counts, f1_of_counts),
    "f1_norm": partial(_from_counts, skew_normalised_f1_of_counts),
    "balanced_accuracy": partial(_from_counts, balanced_accuracy_of_counts),
    "auc": _auc_of_pairs,
}
