r"""Intraclass correlation: how well two raters agree on intensities, scale and level included.

Shrout & Fleiss 1979, single rating of ``k`` raters on ``n`` targets, from the two-way analysis of variance with the
mean squares of targets MS_R, raters MS_C, residual MS_E, and within targets MS_W:

    ICC(1,1) = (MS_R - MS_W) / (MS_R + (k-1) MS_W)                            raters differ from target to target
    ICC(2,1) = (MS_R - MS_E) / (MS_R + (k-1) MS_E + k (MS_C - MS_E) / n)      raters are a sample; absolute agreement
    ICC(3,1) = (MS_R - MS_E) / (MS_R + (k-1) MS_E)                            these raters; consistency (AU literature)

It can be negative.  **It is NaN where it is undefined**: fewer than two complete rows, or a first rater (the label)
that never varies.  It must come from global sums: a mean over batches is another, wrong number (.723 became .669 in one
check), and so is a mean over ranks.

The sums here are counts, means, and squared deviations *from the means* of what was seen so far, combined pairwise
(Chan, Golub & LeVeque 1983): no cancellation however far the values lie from zero, and batches, ranks and people add
up in any order.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from lit_faces.core.facs import AU_KEYS

Kind = Literal["1,1", "2,1", "3,1"]
KINDS: tuple[Kind, ...] = ("1,1", "2,1", "3,1")

#: Rows of the moments of pairs (label a, prediction b, error d = b - a): count; means of a and d; sums of squared
#: deviations of a, b, d and of the product of those of a and b; sum of abs(d); smallest and largest a and b.
MOMENTS = ("count", "mean_a", "mean_d", "aa", "bb", "dd", "ab", "abs_d", "low_a", "low_b", "high_a", "high_b")


def check_kind(kind: str) -> None:
    """One of :data:`KINDS`.

    Raises:
        ValueError: it is not.
    """
    if kind not in KINDS:
        raise ValueError(f"kind of ICC: expected one of {', '.join(KINDS)}, got {kind!r}")


def icc(ratings: np.ndarray | Tensor, kind: Kind = "3,1") -> float:
    """Intraclass correlation of a table of ratings.

    Args:
        ratings: (n, raters), any unit; rows with NaN are left out; column 0 is the label.
        kind: see the module's formulas.

    Returns:
        At most 1; NaN where undefined.

    Raises:
        ValueError: unknown kind, or not a table of at least two raters.

    Example:
        >>> round(icc(np.array([[1.0, 1.5], [2.0, 2.5], [4.0, 4.5]])), 3)
        1.0
    """
    check_kind(kind)
    table = (ratings.detach().cpu().numpy() if isinstance(ratings, Tensor) else np.asarray(ratings)).astype(np.float64)
    if table.ndim != 2 or table.shape[1] < 2:
        raise ValueError(f"ratings: expected (n, raters) with at least 2 raters, got {table.shape}")
    table = table[np.isfinite(table).all(axis=1)]
    n, k = table.shape
    if n < 2 or np.ptp(table[:, 0]) == 0:
        return float("nan")
    centred = table - table.mean(axis=0).mean()
    rows, columns = centred.mean(axis=1), centred.mean(axis=0)
    residual = centred - rows[:, None] - columns[None]
    ss_rows, ss_columns, ss_error = k * (rows**2).sum(), n * (columns**2).sum(), (residual**2).sum()
    return float(
        _from_squares(torch.tensor(n), k, torch.tensor(ss_rows), torch.tensor(ss_columns), torch.tensor(ss_error), kind)
    )


def _from_squares(n: Tensor, k: int, ss_rows: Tensor, ss_columns: Tensor, ss_error: Tensor, kind: str) -> Tensor:
    """ICC from the sums of squares of targets, raters and residual; float64 of any shape."""
    ms_rows = ss_rows / (n - 1)
    if kind == "1,1":
        ms_other = (ss_columns + ss_error) / (n * (k - 1))
    else:
        ms_other = ss_error / ((n - 1) * (k - 1))
    below = ms_rows + (k - 1) * ms_other
    if kind == "2,1":
        below = below + k * (ss_columns / (k - 1) - ms_other) / n
    # two targets in opposite order and of one mean: ICC(2,1) is -MS_E / 0
    return torch.where(below > 1e-12 * (ms_rows + ms_other), (ms_rows - ms_other) / below, float("nan"))


def pair_moments(labels: Tensor, predictions: Tensor) -> Tensor:
    """Moments of pairs, column by column; a pair with NaN or infinity on either side is left out of its column.

    Args:
        labels: float (n, C), NaN = not coded.
        predictions: float (n, C).

    Returns:
        float64 (12, C), rows as in :data:`MOMENTS`; sums are 0 and limits (inf, -inf) where nothing is coded.

    Raises:
        ValueError: the shapes differ, or are no tables.
    """
    check_pair(labels, predictions)
    pair = torch.stack([labels, predictions]).double()
    known = torch.isfinite(pair).all(0)
    count = known.sum(0).double()
    if not len(known):
        return _nothing(pair.shape[-1], pair.device)
    a, b = pair
    three = torch.where(known, torch.stack([a, b, b - a]), 0.0)
    means = three.sum(1) / count.clamp(min=1)
    deviations = torch.where(known, three - means[:, None], 0.0)
    squares = (deviations**2).sum(1)
    products, absolute = (deviations[0] * deviations[1]).sum(0), three[2].abs().sum(0)
    low, high = (torch.where(known, pair, limit) for limit in (float("inf"), float("-inf")))
    sums = torch.stack([count, means[0], means[2], *squares, products, absolute])
    return torch.cat([sums, low.amin(1), high.amax(1)])


def combine_moments(parts: Tensor, weights: Tensor | None = None) -> Tensor:
    """Moments of the union of parts, each counted once or by a weight.

    Args:
        parts: float64 (k, 12, C): moments of k batches, ranks or people.
        weights: how often each part counts, float (B, k), not negative; None = once.

    Returns:
        float64 (12, C), or (B, 12, C) with weights.

    Example:
        >>> halves = torch.stack([pair_moments(torch.tensor([[i]]), torch.tensor([[i + 1.0]])) for i in (1.0, 3.0)])
        >>> combine_moments(halves)[MOMENTS.index("aa")].item()
        2.0
    """
    once = weights is None
    weights = parts.new_ones(1, len(parts)) if weights is None else weights.to(parts)
    counts = parts[:, 0]
    centre = (counts[:, None] * parts[:, 1:3]).sum(0) / counts.sum(0).clamp(min=1)
    # Deviations of the parts' means from a common centre; those of b are the sum of the others.
    a, d = torch.where(counts[:, None] > 0, parts[:, 1:3] - centre, 0.0).unbind(1)
    b = a + d
    between = counts[:, None] * torch.stack([torch.ones_like(a), a, d, a * a, b * b, d * d, a * b], 1)
    between[:, 3:] += parts[:, 3:7]
    sums = torch.einsum("bk,krc->brc", weights, torch.cat([between, parts[:, 7:8]], 1))
    n, (mean_a, mean_d) = sums[:, 0], (sums[:, 1:3] / sums[:, :1].clamp(min=1e-300)).unbind(1)
    mean_b = mean_a + mean_d
    shift = n[:, None] * torch.stack([mean_a**2, mean_b**2, mean_d**2, mean_a * mean_b], 1)
    second = sums[:, 3:7] - shift
    second[:, :3].clamp_(min=0)
    mean = torch.where(n[:, None] > 0, sums[:, 1:3] / sums[:, :1] + centre, 0.0)
    whole = torch.cat([sums[:, :1], mean, second, sums[:, 7:8], _limits(parts, weights)], 1)
    return whole[0] if once else whole


def _limits(parts: Tensor, weights: Tensor) -> Tensor:
    """Smallest a and b, largest a and b over the parts with a weight: (B, 4, C)."""
    signed = torch.cat([parts[:, 8:10], -parts[:, 10:12]], 1)  # the smallest of each is looked for
    absent = torch.where(weights > 0, 0.0, float("inf")).to(parts)[:, :, None, None]
    smallest = parts.new_full((len(weights), *signed.shape[1:]), float("inf"))
    candidate = torch.empty_like(smallest)
    for index, part in enumerate(signed):  # one part at a time and in place: (B, k, 4, C) would be large
        torch.add(part, absent[:, index], out=candidate)
        torch.minimum(smallest, candidate, out=smallest)
    smallest[:, 2:].neg_()
    return smallest


def _nothing(columns: int, device: torch.device | str = "cpu") -> Tensor:
    """Moments of no pairs, (12, columns)."""
    empty = torch.zeros(len(MOMENTS), columns, dtype=torch.float64, device=device)
    empty[8:10], empty[10:12] = float("inf"), float("-inf")
    return empty


def icc_of_moments(moments: Tensor, kind: Kind = "3,1") -> Tensor:
    """ICC of labels and predictions from their moments: (..., 12, C) -> float64 (..., C), NaN where undefined."""
    check_kind(kind)
    n, _, mean_d, aa, bb, dd, ab, _, low, _, high, _ = moments.unbind(-2)
    ss_rows, ss_columns = 0.5 * (aa + bb + 2 * ab).clamp(min=0), 0.5 * n * mean_d**2
    value = _from_squares(n, 2, ss_rows, ss_columns, 0.5 * dd, kind)
    return torch.where((n < 2) | (low >= high), float("nan"), value)


class PairMoments(Metric):
    """Base of the metrics that follow from the moments of labels and predictions, column by column.

    The one state holds the moments (float64, 12 numbers a column); ranks are combined exactly, by
    :func:`combine_moments`.  Several of these in a ``MetricCollection`` share it (compute groups).

    Args:
        num_outputs: columns.
    """

    full_state_update = False
    is_differentiable = False
    moments: Tensor

    def __init__(self, num_outputs: int) -> None:
        super().__init__()
        self.num_outputs = num_outputs
        self.add_state("moments", _nothing(num_outputs), dist_reduce_fx=combine_moments)

    def update(self, labels: Tensor, predictions: Tensor) -> None:
        """Add a batch.

        Args:
            labels: float (B, num_outputs), NaN = not coded.
            predictions: float (B, num_outputs); a pair with NaN on either side is left out of its column.

        Raises:
            ValueError: the shapes differ or have another number of columns.
        """
        check_pair(labels, predictions, self.num_outputs)
        batch = pair_moments(labels.detach(), predictions.detach()).to(self.moments.device)
        self.moments = combine_moments(torch.stack([self.moments, batch]))


class StreamingICC(PairMoments):
    """ICC of labels and predictions, column by column, from sums that add up over batches and ranks.

    A pair with NaN on either side is left out of its column.

    Args:
        num_outputs: columns.
        kind: see :mod:`lit_faces.metrics.icc`.
    """

    higher_is_better: bool | None = True
    figures = {"icc": True}

    def __init__(self, num_outputs: int, kind: Kind = "3,1") -> None:
        super().__init__(num_outputs)
        check_kind(kind)
        self.kind = kind

    def compute(self) -> Tensor:
        """ICC of each column, float64 (num_outputs,), a scalar for one column; NaN where undefined."""
        return icc_of_moments(self.moments, self.kind)


def check_pair(labels: Tensor, predictions: Tensor, columns: int | None = None) -> None:
    """Both float (B, columns), any number of them where None.

    Raises:
        ValueError: they are not.
    """
    if labels.shape != predictions.shape or labels.ndim != 2 or columns not in (None, labels.shape[1]):
        wanted = "C" if columns is None else columns
        raise ValueError(f"expected two (B, {wanted}), got {tuple(labels.shape)} and {tuple(predictions.shape)}")


def mean_of_defined(values: Tensor) -> Tensor:
    """Mean over the values that are not NaN: (n,) to a scalar, NaN when none is."""
    return values.nanmean()


class ICCOverAUs(StreamingICC):
    """:class:`StreamingICC` over the 19 AUs; ``compute`` gives ``{"AU01": ..., ..., "mean": ...}``, scalars.

    The mean is over the AUs where the ICC is defined.
    """

    def __init__(self, kind: Kind = "3,1") -> None:
        super().__init__(num_outputs=len(AU_KEYS), kind=kind)

    def compute(self) -> dict[str, Tensor]:  # type: ignore[override]
        """ICC by AU key, and ``mean``."""
        values = super().compute()
        return {**dict(zip(AU_KEYS, values)), "mean": mean_of_defined(values)}
