r"""Intraclass correlation: how well two raters agree on intensities, scale and level included.

Shrout & Fleiss 1979, single rating of ``k`` raters on ``n`` targets, from the two-way analysis of variance with the
mean squares of targets MS_R, raters MS_C, residual MS_E, and within targets MS_W:

    ICC(1,1) = (MS_R - MS_W) / (MS_R + (k-1) MS_W)                            raters differ from target to target
    ICC(2,1) = (MS_R - MS_E) / (MS_R + (k-1) MS_E + k (MS_C - MS_E) / n)      raters are a sample; absolute agreement
    ICC(3,1) = (MS_R - MS_E) / (MS_R + (k-1) MS_E)                            these raters; consistency (AU literature)

It can be negative.  **It is NaN where it is undefined**: fewer than two complete rows, or a first rater (the label)
that never varies.  It must come from global sums: a mean over batches is another, wrong number (.723 became .669 in one
check), and so is a mean over ranks.
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


def _check_kind(kind: str) -> None:
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
    _check_kind(kind)
    table = (ratings.detach().cpu().numpy() if isinstance(ratings, Tensor) else np.asarray(ratings)).astype(np.float64)
    if table.ndim != 2 or table.shape[1] < 2:
        raise ValueError(f"ratings: expected (n, raters) with at least 2 raters, got {table.shape}")
    table = table[np.isfinite(table).all(axis=1)]
    n, k = table.shape
    if n < 2 or np.ptp(table[:, 0]) == 0:
        return float("nan")
    centred = table - table.mean()
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
    return (ms_rows - ms_other) / below


class StreamingICC(Metric):
    """ICC of labels and predictions, column by column, from sums that add up over batches and ranks.

    The sums are float64 and taken about a constant in the middle of the values (2.5 for intensities), which keeps them
    exact to about 1e-12.  A pair with NaN on either side is left out of its column.

    Args:
        num_outputs: columns.
        kind: see :mod:`lit_faces.metrics.icc`.
        shift: the constant, in the unit of the values.
    """

    full_state_update = False
    higher_is_better = True
    is_differentiable = False
    count: Tensor
    sums: Tensor
    label_low: Tensor
    label_high: Tensor

    def __init__(self, num_outputs: int, kind: Kind = "3,1", shift: float = 2.5) -> None:
        super().__init__()
        _check_kind(kind)
        self.num_outputs, self.kind, self.shift = num_outputs, kind, shift
        zeros = torch.zeros(num_outputs, dtype=torch.float64)
        self.add_state("count", zeros.clone(), dist_reduce_fx="sum")
        # rows: labels a, predictions b, a*a, b*b, a*b
        self.add_state("sums", torch.zeros(5, num_outputs, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("label_low", zeros + float("inf"), dist_reduce_fx="min")
        self.add_state("label_high", zeros - float("inf"), dist_reduce_fx="max")

    def update(self, labels: Tensor, predictions: Tensor) -> None:
        """Add a batch.

        Args:
            labels: float (B, num_outputs), NaN = not coded.
            predictions: float (B, num_outputs).

        Raises:
            ValueError: the shapes differ or have another number of columns.
        """
        check_pair(labels, predictions, self.num_outputs)
        a, b = labels.double() - self.shift, predictions.double() - self.shift
        known = torch.isfinite(a) & torch.isfinite(b)
        low = torch.where(known, a, float("inf")).amin(0) if len(a) else self.label_low
        high = torch.where(known, a, float("-inf")).amax(0) if len(a) else self.label_high
        a, b = torch.where(known, a, 0.0), torch.where(known, b, 0.0)
        self.count += known.sum(0)
        self.sums += torch.stack([a.sum(0), b.sum(0), (a * a).sum(0), (b * b).sum(0), (a * b).sum(0)])
        self.label_low, self.label_high = torch.minimum(self.label_low, low), torch.maximum(self.label_high, high)

    def compute(self) -> Tensor:
        """ICC of each column, float32 (num_outputs,), NaN where undefined."""
        n = self.count
        mean_a, mean_b = self.sums[0] / n, self.sums[1] / n
        aa, bb = self.sums[2] - n * mean_a**2, self.sums[3] - n * mean_b**2
        ab = self.sums[4] - n * mean_a * mean_b
        ss_rows, ss_error = 0.5 * (aa + bb + 2 * ab), (0.5 * (aa + bb - 2 * ab)).clamp(min=0)
        ss_columns = 0.5 * n * (mean_a - mean_b) ** 2
        value = _from_squares(n, 2, ss_rows, ss_columns, ss_error, self.kind)
        undefined = (n < 2) | (self.label_low >= self.label_high)
        return torch.where(undefined, float("nan"), value).float()


def check_pair(labels: Tensor, predictions: Tensor, columns: int) -> None:
    """Both float (B, columns).

    Raises:
        ValueError: they are not.
    """
    if labels.shape != predictions.shape or labels.ndim != 2 or labels.shape[1] != columns:
        raise ValueError(f"expected two (B, {columns}), got {tuple(labels.shape)} and {tuple(predictions.shape)}")


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
