"""What is known of two faces beside each other: which shows more of an AU, by how much at least and at most.

Nobody has graded a photograph of somebody who was asked to smile; that it shows more of AU12 than the same person's
neutral photograph is certain all the same. Such knowledge travels beside a batch, as rows of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from lit_faces.core.facs import NUM_AUS
from lit_faces.core.sample import FaceBatch


def _none(*shape: int) -> Tensor:
    return torch.full(shape, float("nan"))


@dataclass
class Orders:
    """P pairs of rows of a batch.

    Attributes:
        lower: int64 (P,), rows that show less.
        higher: int64 (P,), rows that show more.
        least: float32 (P, 19), grades by which ``higher`` lies above ``lower`` at least; NaN = not known.
        most: float32 (P, 19), and at most; NaN = not known.
    """

    lower: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))
    higher: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))
    least: Tensor = field(default_factory=lambda: _none(0, NUM_AUS))
    most: Tensor = field(default_factory=lambda: _none(0, NUM_AUS))

    def __len__(self) -> int:
        return len(self.lower)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Orders:
        """A copy on ``device``."""
        return Orders(
            *(x.to(device, non_blocking=non_blocking) for x in (self.lower, self.higher, self.least, self.most))
        )

    def pin_memory(self) -> Orders:
        """A copy in page-locked memory."""
        return Orders(*(x.pin_memory() for x in (self.lower, self.higher, self.least, self.most)))


@dataclass
class OrderedFaces:
    """A batch, and what is known of its rows beside each other."""

    faces: FaceBatch
    orders: Orders = field(default_factory=Orders)

    def __len__(self) -> int:
        return len(self.faces)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> OrderedFaces:
        """A copy on ``device``."""
        return OrderedFaces(self.faces.to(device, non_blocking), self.orders.to(device, non_blocking))

    def pin_memory(self) -> OrderedFaces:
        """A copy in page-locked memory."""
        return OrderedFaces(self.faces.pin_memory(), self.orders.pin_memory())
