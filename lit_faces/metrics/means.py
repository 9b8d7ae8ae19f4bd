"""Weighted means of several figures at once, exact over any batches and ranks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torchmetrics import Metric


class WeightedMeans(Metric):
    """Sum of ``value * weight`` over sum of ``weight``, name by name.

    Args:
        names: of the figures; those that never came with a weight are left out.
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = None  # whose means they are says :mod:`lit_faces.metrics.directions`
    figures: Mapping[str, bool] = {}
    sums: Tensor

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self.names = list(names)
        self.add_state("sums", torch.zeros(len(self.names), 2, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, values: Mapping[str, tuple[Tensor, Tensor | float]]) -> None:
        """Add a batch: scalar value and weight by name."""
        for name, (value, weight) in values.items():
            weight = torch.as_tensor(weight, dtype=torch.float64, device=self.sums.device)
            value = value.detach().to(self.sums)
            self.sums[self.names.index(name)] += torch.stack([value * weight, weight])

    def compute(self) -> dict[str, Tensor]:
        """The means, float32 scalars."""
        return {
            name: (total / weight).float()
            for name, (total, weight) in zip(self.names, self.sums.unbind())
            if weight > 0
        }
