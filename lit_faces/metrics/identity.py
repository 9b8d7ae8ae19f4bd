"""Is it still the same person? Distances between face embeddings, and the threshold that tells people apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric

#: The usual limit on photographs (TPR .985, FPR .015); never for rendered faces, which lie closer together.
PHOTO_THRESHOLD = 0.6


class ThresholdChoice(NamedTuple):
    """Result of :func:`choose_threshold`.

    Attributes:
        threshold: pairs nearer than this are called the same person.
        auc: chance that a pair of one person is nearer than a pair of two (ties count one half).
    """

    threshold: float
    auc: float


def pair_distances(embeddings: Tensor, subjects: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Distances of all pairs of pictures.

    Args:
        embeddings: float (n, D); rows with NaN (no face found) are left out.
        subjects: n names.

    Returns:
        Distances, float64 (pairs,), and whether both pictures are of one subject, bool (pairs,).

    Raises:
        ValueError: another number of subjects than of embeddings.
    """
    if embeddings.ndim != 2 or len(subjects) != len(embeddings):
        raise ValueError(
            f"expected (n, D) embeddings and n subjects, got {tuple(embeddings.shape)} and {len(subjects)}"
        )
    names = {name: index for index, name in enumerate(dict.fromkeys(subjects))}
    found = torch.isfinite(embeddings).all(1).cpu()
    points = embeddings.detach().double().cpu()[found]
    labels = torch.tensor([names[name] for name in subjects], dtype=torch.int64)[found]
    first, second = torch.triu_indices(len(points), len(points), offset=1)
    distances = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")[first, second]
    return distances, labels[first] == labels[second]


def choose_threshold(embeddings: Tensor, subjects: Sequence[str]) -> ThresholdChoice:
    """The distance that best tells same from different people, and how well distance tells them apart at all.

    The threshold is the one of highest TPR - FPR (same and different pairs weigh alike), in the middle of the gap
    between two neighbouring distances. Choose it on validation people.

    Args:
        embeddings: float (n, D); rows with NaN are left out.
        subjects: n names; some must have two pictures, and there must be two of them.

    Raises:
        ValueError: no pair of one subject, or no pair of two.
    """
    distances, same = pair_distances(embeddings, subjects)
    positives, negatives = int(same.sum()), int((~same).sum())
    if not positives or not negatives:
        raise ValueError(
            f"a threshold needs pairs of one person and of two, with faces found, got {positives} and {negatives}; "
            "give at least two people with two pictures each"
        )
    values, inverse = torch.unique(distances, return_inverse=True)  # sorted
    zeros = torch.zeros(len(values), dtype=torch.float64)
    same_at = zeros.clone().index_add_(0, inverse[same], torch.ones(positives, dtype=torch.float64))
    other_at = zeros.clone().index_add_(0, inverse[~same], torch.ones(negatives, dtype=torch.float64))
    farther = negatives - other_at.cumsum(0)
    auc = float((same_at * (farther + 0.5 * other_at)).sum() / (positives * negatives))
    best = int((same_at.cumsum(0) / positives - other_at.cumsum(0) / negatives).argmax())
    following = values[min(best + 1, len(values) - 1)]
    return ThresholdChoice(float(0.5 * (values[best] + following)), auc)


class IdentitySimilarity(Metric):
    """Mean embedding distance from source to generated face, and the share of pairs that pass as one person.

    Args:
        threshold: distance below which two pictures are called the same person; from :func:`choose_threshold`.
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = None
    figures = {"distance": False, "same_share": True, "found": True}
    distance_sum: Tensor
    same: Tensor
    found: Tensor
    total: Tensor

    def __init__(self, threshold: float = PHOTO_THRESHOLD) -> None:
        super().__init__()
        if not threshold > 0:
            raise ValueError(f"threshold: expected a distance above 0, got {threshold}")
        self.threshold = threshold
        for name in ("distance_sum", "same", "found", "total"):
            self.add_state(name, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, source_embeddings: Tensor, generated_embeddings: Tensor) -> None:
        """Add a batch.

        Args:
            source_embeddings: float (B, D), NaN rows where no face was found.
            generated_embeddings: float (B, D), likewise.

        Raises:
            ValueError: the shapes differ.
        """
        if source_embeddings.shape != generated_embeddings.shape or source_embeddings.ndim != 2:
            shapes = f"{tuple(source_embeddings.shape)} and {tuple(generated_embeddings.shape)}"
            raise ValueError(f"embeddings: expected two (B, D), got {shapes}")
        distance = (source_embeddings.double() - generated_embeddings.double()).norm(dim=1).to(self.total.device)
        known = torch.isfinite(distance)
        self.distance_sum += torch.where(known, distance, 0.0).sum()
        self.same += (known & (distance < self.threshold)).sum()
        self.found += known.sum()
        self.total += len(distance)

    def compute(self) -> dict[str, Tensor]:
        """Scalars: ``distance`` and ``same_share`` over the pairs with both faces found, ``found``: their share."""
        return {
            "distance": (self.distance_sum / self.found).float(),
            "same_share": (self.same / self.found).float(),
            "found": (self.found / self.total).float(),
        }
