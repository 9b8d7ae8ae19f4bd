"""A batched z-buffer rasteriser in plain torch: triangles in, one triangle and its weights a pixel out."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_DEPTH_LEVELS = 1 << 22


@dataclass
class Fragments:
    """What the camera sees, one entry a covered pixel.

    Attributes:
        pixel: int64 (N,), index into (B * S * S).
        triangle: int64 (N,), index into the mesh's triangles.
        weights: float32 (3, N), barycentric.
    """

    pixel: Tensor
    triangle: Tensor
    weights: Tensor


def rasterise(points: Tensor, depth: Tensor, triangles: Tensor, size: int) -> Fragments:
    """Find the nearest front-facing triangle under every pixel centre.

    Args:
        points: float32 (B, V, 2), pixels, x right, y down, (0, 0) the centre of the top-left pixel.
        depth: float32 (B, V), distance from the camera, any unit, smaller is nearer.
        triangles: int64 (F, 3), counter-clockwise seen from outside (in a y-up view).
        size: the picture is size x size.
    """
    batch = points.shape[0]
    corners = points[:, triangles]  # (B, F, 3, 2)
    a, b, c = corners.unbind(2)
    area = (b[..., 0] - a[..., 0]) * (c[..., 1] - a[..., 1]) - (b[..., 1] - a[..., 1]) * (c[..., 0] - a[..., 0])
    low = corners.amin(2).ceil().clamp(min=0)
    high = corners.amax(2).floor().clamp(max=size - 1)
    span = (high - low + 1).clamp(min=0)
    count = span[..., 0] * span[..., 1]
    keep = ((area < -1e-6) & (count > 0)).nonzero()  # y points down: front faces have negative area
    item, triangle = keep.unbind(1)
    flat = item * triangles.shape[0] + triangle
    low, wide = low.reshape(-1, 2)[flat], span.reshape(-1, 2)[flat, 0]
    number = count.reshape(-1)[flat].to(torch.int64)
    # edge functions as planes: weight_k = p_k x + q_k y + r_k
    inverse = 1.0 / area.reshape(-1)[flat]
    a, b, c = a.reshape(-1, 2)[flat], b.reshape(-1, 2)[flat], c.reshape(-1, 2)[flat]

    def plane(s: Tensor, e: Tensor) -> Tensor:
        p = -(e[:, 1] - s[:, 1]) * inverse
        q = (e[:, 0] - s[:, 0]) * inverse
        r = -(p * (s[:, 0] - low[:, 0]) + q * (s[:, 1] - low[:, 1]))
        return torch.stack([p, q, r], 1)

    first, second = plane(b, c), plane(c, a)
    d0, d1, d2 = (values[:, None] for values in depth[:, triangles].reshape(-1, 3)[flat].unbind(1))
    third = first * (d0 - d2) + second * (d1 - d2)
    third = torch.cat([third[:, :2], third[:, 2:] + d2], 1)
    planes = torch.cat([first, second, third], 1).t().contiguous()  # (9, T)
    total = int(number.sum())
    owner = torch.repeat_interleave(torch.arange(len(number), device=points.device), number, output_size=total)
    start = torch.cumsum(number, 0) - number
    # positions inside the bounding box, in float: exact below 2^24 and much faster than integer division
    local = (torch.arange(total, device=points.device) - start.index_select(0, owner)).to(torch.float32)
    width = wide.index_select(0, owner)
    fy = torch.floor((local + 0.5) / width)
    fx = local - fy * width

    def evaluate(k: int, index: Tensor, x: Tensor, y: Tensor) -> Tensor:
        return (
            planes[k].index_select(0, index) * x
            + planes[k + 1].index_select(0, index) * y
            + planes[k + 2].index_select(0, index)
        )

    w0, w1 = evaluate(0, owner, fx, fy), evaluate(3, owner, fx, fy)
    w2 = 1.0 - w0 - w1
    inside = torch.minimum(torch.minimum(w0, w1), w2) >= -1e-5
    hit = inside.nonzero().squeeze(1)
    owner, w0, w1, w2 = owner[hit], w0[hit], w1[hit], w2[hit]
    origin = (item * size + low[:, 1].to(torch.int64)) * size + low[:, 0].to(torch.int64)
    fx, fy = fx[hit], fy[hit]
    pixel = origin.index_select(0, owner) + (fy * size + fx).to(torch.int64)
    z = evaluate(6, owner, fx, fy)
    near, far = depth.min(), depth.max()
    level = ((z - near) / (far - near + 1e-6) * (_DEPTH_LEVELS - 1)).clamp(0, _DEPTH_LEVELS - 1).to(torch.int64)
    packed = level * total + torch.arange(len(hit), device=points.device)
    buffer = torch.full((batch * size * size,), torch.iinfo(torch.int64).max, dtype=torch.int64, device=points.device)
    buffer.scatter_reduce_(0, pixel, packed, "amin")
    covered = (buffer != torch.iinfo(torch.int64).max).nonzero().squeeze(1)
    winner = buffer[covered] % total
    weights = torch.stack([w0[winner], w1[winner], w2[winner]])
    return Fragments(covered, triangle[owner[winner]], weights)


def grid_triangles(height: int, width: int) -> Tensor:
    """Triangles int64 (2 (H-1)(W-1), 3) of a grid of H x W vertices whose rows run downwards and columns rightwards."""
    index = torch.arange(height * width).reshape(height, width)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]
    return torch.cat([torch.stack([a, c, b], -1).reshape(-1, 3), torch.stack([b, c, d], -1).reshape(-1, 3)])
