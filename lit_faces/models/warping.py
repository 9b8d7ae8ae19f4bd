"""Geometry in closed form: the thin-plate spline that takes a source face to its target landmarks, and warping.

Flows are *backward* and in the units of ``grid_sample(align_corners=False)``: a crop spans [-1, 1], so 2 is its width.
``sampling position = regular grid + flow``. Everything here runs in float32, also under autocast.
"""

from __future__ import annotations

import torch
import torch.nn.functional as functional
from torch import Tensor

_ANCHORS = ((-1, -1), (0, -1), (1, -1), (-1, 0), (1, 0), (-1, 1), (0, 1), (1, 1))
_RIGHT_HALF = {  # a mean face in crop coordinates [-1, 1]: subject's right half (image left), index: (x, y)
    0: (-0.74, -0.20), 1: (-0.73, 0.01), 2: (-0.70, 0.20), 3: (-0.65, 0.39), 4: (-0.57, 0.57), 5: (-0.45, 0.71),
    6: (-0.31, 0.82), 7: (-0.16, 0.89), 17: (-0.60, -0.42), 18: (-0.51, -0.50), 19: (-0.39, -0.52),
    20: (-0.26, -0.49), 21: (-0.14, -0.44), 31: (-0.15, 0.17), 32: (-0.08, 0.20), 36: (-0.46, -0.21),
    37: (-0.38, -0.27), 38: (-0.27, -0.27), 39: (-0.18, -0.20), 40: (-0.28, -0.17), 41: (-0.38, -0.16),
    48: (-0.29, 0.43), 49: (-0.19, 0.38), 50: (-0.08, 0.35), 58: (-0.09, 0.54), 59: (-0.20, 0.50),
    60: (-0.25, 0.43), 61: (-0.09, 0.42), 67: (-0.09, 0.45),
}  # fmt: skip
_MIDDLE = {
    8: (0.0, 0.92), 27: (0.0, -0.22), 28: (0.0, -0.10), 29: (0.0, 0.01), 30: (0.0, 0.12), 33: (0.0, 0.22),
    51: (0.0, 0.37), 57: (0.0, 0.55), 62: (0.0, 0.42), 66: (0.0, 0.45),
}  # fmt: skip
_MIRRORED = {
    0: 16, 1: 15, 2: 14, 3: 13, 4: 12, 5: 11, 6: 10, 7: 9, 17: 26, 18: 25, 19: 24, 20: 23, 21: 22, 31: 35, 32: 34,
    36: 45, 37: 44, 38: 43, 39: 42, 40: 47, 41: 46, 48: 54, 49: 53, 50: 52, 58: 56, 59: 55, 60: 64, 61: 63, 67: 65,
}  # fmt: skip


def canonical_face() -> Tensor:
    """68 landmarks of a mean frontal face in crop coordinates: float32 (68, 2) in [-1, 1]."""
    face = torch.zeros(68, 2)
    for index, point in {**_RIGHT_HALF, **_MIDDLE}.items():
        face[index] = torch.tensor(point)
    for right, left in _MIRRORED.items():
        face[left] = face[right] * torch.tensor([-1.0, 1.0])
    return face


def normalise(points: Tensor, size: int) -> Tensor:
    """Pixels (..., 2) of a ``size`` crop to crop coordinates [-1, 1] (``align_corners=False``)."""
    return (points + 0.5) * (2.0 / size) - 1.0


def regular_grid(size: int, device: torch.device | str | None = None) -> Tensor:
    """Cell centres of a ``size`` grid: float32 (size, size, 2), x then y, in [-1, 1]."""
    line = normalise(torch.arange(size, device=device, dtype=torch.float32), size)
    return torch.stack(torch.meshgrid(line, line, indexing="xy"), dim=-1)


def _kernel(a: Tensor, b: Tensor) -> Tensor:
    """The thin plate's r^2 log r^2 between (B, N, 2) and (B, M, 2): (B, N, M)."""
    squared = (a[:, :, None] - b[:, None]).square().sum(-1)
    return squared * torch.log(squared.clamp(min=1e-12))


@torch.no_grad()
def spline(control: Tensor, values: Tensor, query: Tensor, stiffness: float = 1e-3) -> Tensor:
    """Thin-plate spline through ``values`` at ``control``, evaluated at ``query`` (Bookstein 1989).

    A control point with a NaN coordinate or value is left out of its sample's spline.

    Args:
        control: float (B, N, 2), crop coordinates [-1, 1].
        values: float (B, N, C).
        query: float (M, 2), crop coordinates.
        stiffness: smoothing lambda; 0 interpolates exactly.

    Returns:
        float32 (B, M, C).
    """
    with torch.autocast(control.device.type, enabled=False):
        control, values, query = control.float(), values.float(), query.float()
        batch, number, _ = control.shape
        known = ~(control.isnan().any(-1) | values.isnan().any(-1))
        weight = known.float()
        control = torch.where(known[..., None], control, torch.zeros_like(control))
        values = torch.where(known[..., None], values, torch.zeros_like(values))
        pairs = weight[:, :, None] * weight[:, None, :]
        # an unknown point's row is the identity with value 0, so its coefficient is 0 and nobody feels it
        diagonal = torch.where(known, torch.full_like(weight, stiffness), torch.ones_like(weight))
        block = _kernel(control, control) * pairs + torch.diag_embed(diagonal)
        affine = torch.cat([torch.ones(batch, number, 1, device=control.device), control], dim=-1) * weight[..., None]
        corner = torch.zeros(batch, 3, 3, device=control.device)
        system = torch.cat([torch.cat([block, affine], 2), torch.cat([affine.transpose(1, 2), corner], 2)], 1)
        right = torch.cat([values, torch.zeros(batch, 3, values.shape[-1], device=control.device)], 1)
        solution = torch.linalg.solve(system, right)
        points = query[None].expand(batch, -1, -1)
        basis = torch.cat([_kernel(points, control), torch.ones_like(points[..., :1]), points], dim=-1)
        return basis @ solution


def landmark_flow(source: Tensor, target: Tensor, size_in: int, size_out: int) -> tuple[Tensor, Tensor]:
    """The flow that takes a face from its source to its target landmarks, and the face's own coordinates.

    68 landmarks and 8 fixed anchors on the border of the crop; lambda 1e-3. Identical landmarks give the zero flow.

    Args:
        source: float (B, 68, 2), pixels of a ``size_in`` crop, NaN = unknown (left out).
        target: float (B, 68, 2), likewise.
        size_in: side of the crop, pixels.
        size_out: side of the flow grid, cells.

    Returns:
        flow float32 (B, size_out, size_out, 2), backward, crop coordinates; face float32 (B, size_out, size_out, 2):
        where each cell of the target lies on the mean face, so that a network knows the corner of the eye by name.
    """
    anchors = torch.tensor(_ANCHORS, dtype=torch.float32, device=target.device).expand(len(target), -1, -1)
    control = torch.cat([normalise(target.float(), size_in), anchors], 1)
    moved = torch.cat([normalise(source.float(), size_in), anchors], 1) - control
    mean = torch.cat([canonical_face().to(target.device).expand(len(target), -1, -1), anchors], 1) - control
    grid = regular_grid(size_out, target.device)
    solved = spline(control, torch.cat([moved, mean], -1), grid.reshape(-1, 2))
    solved = solved.reshape(len(target), size_out, size_out, 4)
    return solved[..., :2], grid + solved[..., 2:]


def resize_flow(flow: Tensor, size: int) -> Tensor:
    """A flow (B, h, w, 2) on another grid: (B, size, size, 2); crop coordinates need no rescaling."""
    if flow.shape[1] == size:
        return flow
    planes = flow.permute(0, 3, 1, 2)
    if flow.shape[1] > size and flow.shape[1] % size == 0:
        resized = functional.avg_pool2d(planes, flow.shape[1] // size)
    else:
        resized = functional.interpolate(planes, size=(size, size), mode="bilinear", align_corners=False)
    return resized.permute(0, 2, 3, 1)


def warp(picture: Tensor, flow: Tensor) -> Tensor:
    """Sample ``picture`` (B, C, H, W) at grid + flow (B, h, w, 2): (B, C, H, W), same type; border repeated."""
    size = picture.shape[-1]
    with torch.autocast(picture.device.type, enabled=False):
        grid = regular_grid(size, picture.device) + resize_flow(flow.float(), size)
        sampled = functional.grid_sample(
            picture.float(), grid, mode="bilinear", padding_mode="border", align_corners=False
        )
    return sampled.to(picture.dtype)
