"""Occurrence of Action Units: thresholds and F1, by AU, for partly coded labels."""

from __future__ import annotations

import torch
from torch import Tensor


def choose_thresholds(scores: Tensor, labels: Tensor, default: Tensor | float = 0.5, fewest: int = 10) -> Tensor:
    """The threshold of each AU that maximises its F1; choose it on validation people, never on those reported on.

    A threshold lies midway between two scores, so that it does not hang on one of them.

    Args:
        scores: float (n, A), higher = present.
        labels: float (n, A), 0 or 1, NaN = not coded.
        default: of AUs with less than ``fewest`` coded positives or negatives; float (A,) or a number.
        fewest: see above.

    Returns:
        float32 (A,): an AU is present where ``score >= threshold``.

    Raises:
        ValueError: the shapes differ.
    """
    if scores.shape != labels.shape or scores.ndim != 2:
        raise ValueError(f"expected two (n, A), got {tuple(scores.shape)} and {tuple(labels.shape)}")
    chosen = torch.as_tensor(default, dtype=torch.float32).expand(scores.shape[1]).clone()
    for column in range(scores.shape[1]):
        known = ~labels[:, column].isnan()
        truth, score = labels[known, column] > 0.5, scores[known, column].double()
        positives = int(truth.sum())
        if positives < fewest or len(truth) - positives < fewest:
            continue
        score, order = score.sort(descending=True)
        hits = truth[order].cumsum(0)
        f1 = 2 * hits / (torch.arange(1, len(hits) + 1) + positives)
        f1 = torch.where(
            torch.cat([score[:-1] > score[1:], torch.ones(1, dtype=torch.bool)]), f1, 0.0
        )  # ties stay together
        best = int(f1.argmax())
        chosen[column] = float(score[best] if best + 1 == len(score) else 0.5 * (score[best] + score[best + 1]))
    return chosen
