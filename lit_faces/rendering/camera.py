"""Pose, perspective and framing: from object space (mm) to pixels of the crop."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

PIVOT = (0.0, -37.0, -45.0)  # the head turns about this point (mm)
#: Side of the crop: the larger of these multiples (same rule as ``core.landmarks.crop_frame``).
SIDE_PER_EYES = 2.4  # of the distance between the outer eye corners
SIDE_PER_FACE = 3.2  # of the distance from the middle of the eyes to the middle of the mouth


@dataclass
class View:
    """A posed camera for a batch.

    Attributes:
        rotation: float32 (B, 3, 3), object to camera space (+x right, +y up, +z towards the camera).
        distance: float32 (B,), camera to pivot, mm.
        scale: float32 (B,), pixels per mm at the pivot.
        shift: float32 (B, 2), pixel of the pivot.
    """

    rotation: Tensor
    distance: Tensor
    scale: Tensor
    shift: Tensor

    def to_camera(self, points: Tensor) -> Tensor:
        """Object-space points (B, N, 3) in camera space, mm, relative to the pivot."""
        return (points - points.new_tensor(PIVOT)) @ self.rotation.transpose(1, 2)

    def project(self, camera: Tensor) -> Tensor:
        """Camera-space points (B, N, 3) to pixels (B, N, 2), x right, y down."""
        flat = perspective(camera, self.distance)
        flip = camera.new_tensor([1.0, -1.0])
        return flat * flip * self.scale[:, None, None] + self.shift[:, None]


def perspective(camera: Tensor, distance: Tensor) -> Tensor:
    """Camera-space points (B, N, 3) on the plane of the pivot, mm (B, N, 2), y up."""
    return camera[..., :2] * (distance[:, None] / (distance[:, None] - camera[..., 2]))[..., None]


def rotation_matrix(pose: Tensor) -> Tensor:
    """Rotations (B, 3, 3) from yaw, pitch, roll in degrees (B, 3).

    Positive yaw moves the nose to the image's right, positive pitch moves it down, positive roll turns the picture
    clockwise.
    """
    yaw, pitch, roll = torch.deg2rad(pose).unbind(1)
    zero, one = torch.zeros_like(yaw), torch.ones_like(yaw)

    def matrix(*rows: list[Tensor]) -> Tensor:
        return torch.stack([torch.stack(row, 1) for row in rows], 1)

    ry = matrix([yaw.cos(), zero, yaw.sin()], [zero, one, zero], [-yaw.sin(), zero, yaw.cos()])
    rx = matrix([one, zero, zero], [zero, pitch.cos(), -pitch.sin()], [zero, pitch.sin(), pitch.cos()])
    rz = matrix([roll.cos(), roll.sin(), zero], [-roll.sin(), roll.cos(), zero], [zero, zero, one])
    return rz @ rx @ ry


def frame(rest: Tensor, pose: Tensor, distance: Tensor, jitter: Tensor, size: int) -> View:
    """Place the crop as ``align_crop`` would on a photograph of this pose.

    Args:
        rest: landmarks without expression, mm (B, 68, 3).
        pose: yaw, pitch, roll in degrees (B, 3).
        distance: camera distance, mm (B,).
        jitter: (B, 3): horizontal and vertical shift as a fraction of the crop, and log of the zoom.
        size: pixels.
    """
    rotation = rotation_matrix(pose)
    camera = (rest - rest.new_tensor(PIVOT)) @ rotation.transpose(1, 2)
    flat = perspective(camera, distance)
    eyes = 0.5 * (flat[:, 36:42].mean(1) + flat[:, 42:48].mean(1))
    mouth = flat[:, 48:60].mean(1)
    outer = (flat[:, 36] - flat[:, 45]).norm(dim=1)
    side = torch.maximum(SIDE_PER_EYES * outer, SIDE_PER_FACE * (mouth - eyes).norm(dim=1))
    scale = size / side * jitter[:, 2].exp()
    centre = 0.5 * (eyes + mouth)
    shift = (0.5 + jitter[:, :2]) * size - 0.5 - scale[:, None] * centre * centre.new_tensor([1.0, -1.0])
    return View(rotation, distance, scale, shift)
