r"""Occurrence of AUs: F1, skew-normalised F1, balanced accuracy and AUC, AU by AU, and the choice of thresholds.

With true and false positives and negatives TP, FP, TN, FN of an AU at a stated threshold (score >= threshold means
"present"), and the skew s = negatives / positives:

    F1                  = 2 TP / (2 TP + FP + FN)
    skew-normalised F1  = 2 TP / (2 TP + FP / s + FN)    Jeni, Cohn & De la Torre 2013: as if s were 1
    balanced accuracy   = (TP / positives + TN / negatives) / 2
    AUC                 = chance that a frame with the AU scores higher than one without (ties count one half)

F1 depends on how often an AU occurs (its chance level rises with it), so F1 of two data sets cannot be compared; the
other three can.  All are **NaN where an AU never varies** (no positive or no negative frame coded), where scikit-learn
would say 0 or 1.  NaN labels are "not coded" and left out, AU by AU: torchmetrics' multilabel metrics know one
``ignore_index`` that must be an integer, one threshold for all labels, and squash scores outside 0..1 through a
sigmoid, which makes ties; hence ours.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor
from torchmetrics import Metric

from lit_faces.core.facs import AU_KEYS
from lit_faces.metrics.icc import check_pair, mean_of_defined

#: Rows of the counts.
COUNTS = ("true_positives", "false_positives", "true_negatives", "false_negatives")


def occurrence_counts(labels: Tensor, scores: Tensor, threshold: float | Tensor = 0.5) -> Tensor:
    """Counts of each column; a NaN on either side leaves the frame out of its column.

    Args:
        labels: (n, C) of 0 and 1, NaN = not coded.
        scores: (n, C), any scale.
        threshold: present means score >= threshold; one, or (C,), one a column.

    Returns:
        float64 (4, C), rows as in :data:`COUNTS`.

    Raises:
        ValueError: the shapes differ, or a label is another number (an intensity, say).
    """
    known = _known(labels, scores)
    limit = torch.as_tensor(threshold, dtype=torch.float64, device=scores.device)
    truth, said = labels == 1, scores >= (limit.to(scores.dtype) if scores.is_floating_point() else limit)
    four = torch.stack([truth & said, ~truth & said, ~truth & ~said, truth & ~said])
    return (four & known).sum(1).double()


def _known(labels: Tensor, scores: Tensor) -> Tensor:
    """Where both are there: bool (n, C)."""
    check_pair(labels, scores)
    known = ~labels.isnan()
    wrong = labels[known & (labels != 0) & (labels != 1)]
    if len(wrong):
        raise ValueError(
            f"labels: expected 0, 1 or NaN, found {float(wrong[0]):g}; turn intensities into occurrence with "
            "lit_faces.core.facs.occurrence"
        )
    return known & ~scores.isnan()


def _where_varies(counts: Tensor, value: Tensor) -> Tensor:
    tp, fp, tn, fn = counts.unbind(-2)
    return torch.where((tp + fn > 0) & (fp + tn > 0), value, float("nan"))


def f1_of_counts(counts: Tensor) -> Tensor:
    """F1: (..., 4, C) -> float64 (..., C), 0..1, NaN where an AU never varies."""
    tp, fp, _, fn = counts.unbind(-2)
    return _where_varies(counts, 2 * tp / (2 * tp + fp + fn))


def skew_normalised_f1_of_counts(counts: Tensor) -> Tensor:
    """F1 as if positives and negatives were equally many: (..., 4, C) -> float64 (..., C), 0..1, NaN as above."""
    tp, fp, tn, fn = counts.unbind(-2)
    skew = (fp + tn) / (tp + fn)
    return _where_varies(counts, 2 * tp / (2 * tp + fp / skew + fn))


def balanced_accuracy_of_counts(counts: Tensor) -> Tensor:
    """Mean of both hit rates: (..., 4, C) -> float64 (..., C), 0..1, 0.5 is chance, NaN as above."""
    tp, fp, tn, fn = counts.unbind(-2)
    return _where_varies(counts, 0.5 * (tp / (tp + fn) + tn / (tn + fp)))


def auc(labels: Tensor, scores: Tensor) -> Tensor:
    """Area under the ROC curve of each column, exact: the Mann-Whitney statistic, ties count one half.

    Args:
        labels: (n, C) of 0 and 1, NaN = not coded.
        scores: (n, C), any scale; only their order matters.

    Returns:
        float64 (C,), 0..1, NaN where an AU never varies.

    Raises:
        ValueError: see :func:`occurrence_counts`.

    Example:
        >>> auc(torch.tensor([[0.0], [1.0], [1.0]]), torch.tensor([[0.3], [0.3], [0.9]]))
        tensor([0.7500], dtype=torch.float64)
    """
    known = _known(labels, scores)
    columns = zip(labels.unbind(1), scores.unbind(1), known.unbind(1))
    values = [_auc(label[k] == 1, score[k]) for label, score, k in columns]
    return torch.stack(values) if values else torch.zeros(0, dtype=torch.float64)


def _auc(truth: Tensor, scores: Tensor) -> Tensor:
    _, inverse, counts = scores.unique(return_inverse=True, return_counts=True)
    rank = (counts.cumsum(0) - 0.5 * (counts - 1).double())[inverse]  # mean rank of each group of equals, from 1
    positives = truth.sum().double()
    wins = rank[truth].sum() - 0.5 * positives * (positives + 1)
    return wins / (positives * (len(truth) - positives))  # 0 / 0 is NaN


def choose_thresholds(scores: Tensor, labels: Tensor, default: float | Tensor = 0.5, fewest: int = 10) -> Tensor:
    """The threshold of highest F1 of each AU.

    **Choose on validation subjects**, never on the people that are then evaluated: an F1 at thresholds picked on the
    evaluated fold (as in much of the literature) is an upper bound, not a result.

    The threshold lies halfway between two neighbouring scores; among equal F1 the highest one is taken.

    Args:
        scores: float (n, C), any scale.
        labels: (n, C) of 0 and 1, NaN = not coded.
        default: what an AU keeps of which too few frames are coded; one, or (C,).
        fewest: positives, and negatives, that an AU needs, at least 1.

    Returns:
        Of the scores' type, (C,); present means score >= threshold.

    Raises:
        ValueError: see :func:`occurrence_counts`.

    Example:
        >>> labels = torch.tensor([[0.0], [0.0], [1.0], [1.0]])
        >>> choose_thresholds(torch.tensor([[0.1], [0.2], [0.6], [0.8]]), labels, fewest=2)
        tensor([0.4000])
    """
    known = _known(labels, scores)
    result = torch.as_tensor(default).to(scores).expand(scores.shape[1]).clone()
    for column, keep in enumerate(known.unbind(1)):
        truth, score = labels[keep, column] == 1, scores[keep, column]
        positives = int(truth.sum())
        if min(positives, len(truth) - positives) >= max(fewest, 1):
            result[column] = _best_threshold(truth, score)
    return result


def _best_threshold(truth: Tensor, scores: Tensor) -> Tensor:
    ordered, order = scores.sort(descending=True)
    said = torch.arange(1, len(scores) + 1, device=scores.device)
    f1 = 2 * truth[order].cumsum(0).double() / (said + truth.sum())
    f1[:-1][ordered[:-1] == ordered[1:]] = -1.0  # a threshold cannot part equal scores
    best = int(f1.argmax())
    least, below = ordered[best], ordered[best + 1 :][:1]
    if not len(below):
        return least
    middle = (0.5 * (least.double() + below[0].double())).to(scores.dtype)
    return middle if below[0] < middle < float("inf") else least  # neighbouring floats, or a score of -inf


class _Counted(Metric):
    """Base of the metrics that follow from counts at a threshold; the counts add up over batches and ranks.

    Args:
        num_outputs: columns.
        threshold: present means score >= threshold; one, or one a column (:func:`choose_thresholds`).
    """

    full_state_update = False
    higher_is_better = True
    is_differentiable = False
    formula: ClassVar[Any]  # counts (..., 4, C) -> (..., C)
    counts: Tensor
    threshold: Tensor

    def __init__(self, num_outputs: int, threshold: float | Tensor = 0.5) -> None:
        super().__init__()
        self.num_outputs = num_outputs
        # A state, so that a MetricCollection does not take two thresholds for one metric when their first counts agree.
        self.add_state("threshold", _thresholds(threshold, num_outputs), dist_reduce_fx="max")
        self.add_state("counts", torch.zeros(len(COUNTS), num_outputs, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, labels: Tensor, scores: Tensor) -> None:
        """Add a batch.

        Args:
            labels: (B, num_outputs) of 0 and 1, NaN = not coded.
            scores: (B, num_outputs), on the scale of the threshold.

        Raises:
            ValueError: the shapes differ, have another number of columns, or a label is another number.
        """
        check_pair(labels, scores, self.num_outputs)
        self.counts += occurrence_counts(labels, scores, self.threshold)

    def compute(self) -> Tensor:
        """Value of each column, float64 (num_outputs,), a scalar for one; 0..1, NaN where an AU never varies."""
        return type(self).formula(self.counts)


def _thresholds(threshold: float | Tensor, columns: int) -> Tensor:
    """One threshold a column: float64 (columns,)."""
    given = torch.as_tensor(threshold, dtype=torch.float64)
    if given.shape not in ((), (columns,)):
        raise ValueError(f"threshold: expected one or {columns}, one a column, got shape {tuple(given.shape)}")
    return given.detach().expand(columns).clone()


class F1(_Counted):
    """F1 of each column at a stated threshold; ``F1(num_outputs, threshold=0.5)``."""

    formula = staticmethod(f1_of_counts)


class SkewNormalisedF1(_Counted):
    """Skew-normalised F1 (Jeni, Cohn & De la Torre 2013) of each column; ``(num_outputs, threshold=0.5)``."""

    formula = staticmethod(skew_normalised_f1_of_counts)


class BalancedAccuracy(_Counted):
    """Balanced accuracy of each column; ``BalancedAccuracy(num_outputs, threshold=0.5)``."""

    formula = staticmethod(balanced_accuracy_of_counts)


class AUC(Metric):
    """Exact area under the ROC curve of each column.

    Every score is kept, as float32 beside its label: 8 bytes a frame and AU, 152 MB for a million frames x 19 AUs.
    A histogram would be constant in memory, but needs bins that fit the scores (probabilities near 1 and intensities
    alike); test sets here are a tenth of that size, so exactness is cheap.  Ranks are gathered and concatenated.

    Args:
        num_outputs: columns.
    """

    full_state_update = False
    higher_is_better = True
    is_differentiable = False
    rows: list[Tensor]

    def __init__(self, num_outputs: int) -> None:
        super().__init__()
        self.num_outputs = num_outputs
        # One flat state: torchmetrics stands in an empty vector for a rank that saw nothing.
        self.add_state("rows", [], dist_reduce_fx="cat")

    def update(self, labels: Tensor, scores: Tensor) -> None:
        """Add a batch.

        Args:
            labels: (B, num_outputs) of 0 and 1, NaN = not coded.
            scores: (B, num_outputs), any scale.

        Raises:
            ValueError: the shapes differ, have another number of columns, or a label is another number.
        """
        check_pair(labels, scores, self.num_outputs)
        _known(labels, scores)
        self.rows.append(torch.stack([labels.detach().float(), scores.detach().float()], 1).flatten())

    def compute(self) -> Tensor:
        """AUC of each column, float64 (num_outputs,), a scalar for one; 0..1, NaN where an AU never varies."""
        rows = (
            self.rows if isinstance(self.rows, Tensor) else torch.cat([torch.zeros(0, device=self.device), *self.rows])
        )
        labels, scores = rows.view(-1, 2, self.num_outputs).unbind(1)
        return auc(labels, scores)


class OccurrenceOverAUs(_Counted):
    """F1, skew-normalised F1 and balanced accuracy of the 19 AUs, in one pass.

    Args:
        threshold: present means score >= threshold; one, or (19,).
    """

    figures = {"f1": True, "f1_norm": True, "balanced_accuracy": True}

    def __init__(self, threshold: float | Tensor = 0.5) -> None:
        super().__init__(len(AU_KEYS), threshold)

    def compute(self) -> dict[str, Tensor]:  # type: ignore[override]
        """Flat dict of scalars: ``f1/AU01`` ..., ``f1/mean``, and so for ``f1_norm`` and ``balanced_accuracy``.

        The means are over the AUs that vary.
        """
        columns = {
            "f1": f1_of_counts(self.counts),
            "f1_norm": skew_normalised_f1_of_counts(self.counts),
            "balanced_accuracy": balanced_accuracy_of_counts(self.counts),
        }
        result = {f"{name}/{key}": value for name, values in columns.items() for key, value in zip(AU_KEYS, values)}
        return {**result, **{f"{name}/mean": mean_of_defined(values) for name, values in columns.items()}}
