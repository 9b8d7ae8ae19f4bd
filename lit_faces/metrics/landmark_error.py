"""Distance between found and asked landmarks, over the outer-eye distance (NME).

NME is a fraction wherever a program reads it: in ``results.json``, W&B, ``attempts.csv`` and in ``--max-nme``; 0.05 is
5 % of the outer-eye distance. Tables and plots for people write it in %.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from lit_faces.core.alignment import NUM_LANDMARKS, outer_eye_distance
from lit_faces.core.ranks import gather_tensors


def nme(found: Tensor, asked: Tensor) -> Tensor:
    """Normalised mean error of each face.

    Args:
        found: float (B, 68, 2), pixels, NaN = not found.
        asked: float (B, 68, 2), pixels of the same image, NaN = unknown.

    Returns:
        Float (B,): mean distance of the points known on both sides, over the asked outer-eye distance (0.05 = 5 %);
        NaN where no point is known on both sides or an outer eye corner is not asked.

    Raises:
        ValueError: a shape is another.
    """
    if found.shape != asked.shape or found.ndim != 3 or found.shape[1:] != (NUM_LANDMARKS, 2):
        raise ValueError(f"landmarks: expected two (B, 68, 2), got {tuple(found.shape)} and {tuple(asked.shape)}")
    distance = (found - asked).norm(dim=-1)
    return distance.nanmean(dim=1) / outer_eye_distance(asked)


class LandmarkNME(Metric):
    """:func:`nme` over a set of faces: mean, median, and the share of faces that were found at all."""

    full_state_update = False
    higher_is_better = False
    figures = {"nme": False, "nme_median": False, "nme_found": True}
    is_differentiable = False
    errors: list[Tensor]

    def __init__(self) -> None:
        super().__init__(dist_sync_fn=gather_tensors)  # torchmetrics' own waits for ever where a rank saw nothing
        self.add_state("errors", [], dist_reduce_fx="cat")

    def update(self, found: Tensor, asked: Tensor) -> None:
        """Add a batch: two float (B, 68, 2) in pixels, see :func:`nme`."""
        self.errors.append(nme(found, asked))

    def compute(self) -> dict[str, Tensor]:
        """Scalars ``nme`` and ``nme_median`` over found faces, fractions of the eyes' distance, ``nme_found`` 0..1."""
        if not len(self.errors):
            nan = torch.tensor(float("nan"), device=self.device)
            return {"nme": nan, "nme_median": nan, "nme_found": nan}
        errors = dim_zero_cat(self.errors)
        known = errors[torch.isfinite(errors)]
        found = torch.tensor(len(known) / max(len(errors), 1), device=errors.device)
        if not len(known):
            nan = torch.full((), float("nan"), device=errors.device)
            return {"nme": nan, "nme_median": nan, "nme_found": found}
        return {"nme": known.mean(), "nme_median": known.quantile(0.5), "nme_found": found}
