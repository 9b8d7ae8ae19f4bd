"""How Action Units move the 68 landmarks: a small model read off the parametric head.

Used to ask for an AU on a photograph, whose own 3-D shape is unknown: the mean head's displacement is scaled to the
face.  (Retargeting, which fits the person's shape, does better and is a part of its own.)
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from lit_faces.core.facs import NUM_AUS
from lit_faces.rendering.parametric import NUM_MODES, ParametricHead


@lru_cache(maxsize=1)
def _motion() -> Tensor:
    head = ParametricHead()
    active = torch.eye(NUM_AUS)
    moved = head.pose(torch.zeros(NUM_AUS, NUM_MODES), active, active).landmarks
    rest = head.pose(torch.zeros(1, NUM_MODES), active[:1] * 0, active[:1] * 0).landmarks
    inner = (rest[0, 42, :2] - rest[0, 39, :2]).norm()
    return (moved - rest)[..., :2] * torch.tensor([1.0, -1.0]) / inner


def landmark_motion() -> Tensor:
    """Frontal displacement of the landmarks at intensity 5, float32 (19, 68, 2), inner-eye distances, x right, y down."""
    return _motion().clone()


def move_landmarks(landmarks: Tensor, change: Tensor) -> Tensor:
    """Landmarks (B, 68, 2) in pixels after AUs changed by ``change`` (B, 19) intensity grades.

    The displacement is turned with the face (roll) and scaled by the distance of the inner eye corners.
    """
    motion = _motion().to(landmarks)
    shift = torch.einsum("ba,anc->bnc", change / 5.0, motion)
    axis = landmarks[:, 42] - landmarks[:, 39]
    x, y = shift.unbind(-1)
    moved = torch.stack([x * axis[:, :1] - y * axis[:, 1:], x * axis[:, 1:] + y * axis[:, :1]], -1)
    return landmarks + moved
