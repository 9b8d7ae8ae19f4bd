"""The parametric head: shape and Action Units in, a mesh with 68 landmarks out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lit_faces.core.facs import AU_INDEX, NUM_AUS
from lit_faces.rendering import muscles, resting
from lit_faces.rendering.chart import (
    EYE_CENTRE,
    EYEBALL_RADIUS,
    LID_RADIUS,
    Chart,
    build_chart,
    lid_lines,
    lower_lip_edge,
    seam,
    upper_lip_edge,
)
from lit_faces.rendering.identity import mode_names, shape_basis
from lit_faces.rendering.raster import grid_triangles

NUM_MODES = len(mode_names())
#: The upper lid rests on the lower one after this way, mm: the lids overlap by a hair, so that no slit is left.
LID_TRAVEL = resting.LID_UPPER + resting.LID_LOWER - 0.2
#: The lid landmarks lie beside the middle of the arc, where the lids are this share of the whole opening apart.
ARC_AT_LANDMARKS = 0.85


@dataclass
class HeadPose:
    """What a head model returns for a batch.

    Attributes:
        vertices: float32 (B, V, 3), object space, mm.
        rest: float32 (B, 68, 3), the landmarks of the same person without expression, mm (frames the picture).
        landmarks: float32 (B, 68, 3), mm.
        eyes: float32 (B, 2, 3), centres of the eyeballs (subject's right, left), mm.
    """

    vertices: Tensor
    rest: Tensor
    landmarks: Tensor
    eyes: Tensor


def landmark_positions() -> np.ndarray:
    """The 68 landmarks on the mean neutral head, (68, 2) mm, plus where they lie in the mouth's opening, (68,)."""
    half = {
        0: (76.0, 0.0),
        1: (75.0, -22.0),
        2: (72.5, -42.0),
        3: (68.0, -61.0),
        4: (58.5, -83.0),
        5: (44.0, -99.0),
        6: (30.5, -106.5),
        7: (15.5, -110.5),
    }
    points = np.zeros((68, 2))
    for i, (x, y) in half.items():
        points[i], points[16 - i] = (-x, y), (x, y)
    points[8] = (0.0, -112.0)
    for i, (x, y) in enumerate(reversed(resting.BROW_LANDMARKS)):
        points[17 + i], points[26 - i] = (-x, y), (x, y)
    points[27:31] = [(0, 0), (0, -11.1), (0, -21.3), (0, -34.0)]
    points[31:36] = [(-12.5, -48.0), (-6.2, -49.2), (0, -50.0), (6.2, -49.2), (12.5, -48.0)]
    eye_x = {36: 44.5, 37: 37.2, 38: 26.6, 39: 18.5, 40: 26.6, 41: 37.2}
    mirror = {36: 45, 37: 44, 38: 43, 39: 42, 40: 47, 41: 46}
    for i, x in eye_x.items():
        top, bottom, _ = lid_lines(np.array(x))
        y = float(0.5 * (top + bottom) if i in (36, 39) else top + resting.LASH_LINE if i in (37, 38) else bottom)
        points[i], points[mirror[i]] = (-x, y), (x, y)
    outer = {
        48: -25.2,
        49: -16.5,
        50: -7.2,
        51: 0.0,
        52: 7.2,
        53: 16.5,
        54: 25.2,
        55: 17.5,
        56: 9.5,
        57: 0.0,
        58: -9.5,
        59: -17.5,
    }
    for i, x in outer.items():
        edge = upper_lip_edge if i in range(49, 54) else lower_lip_edge if i > 54 else seam
        points[i] = (x, float(edge(np.array(x))))
    for i, x in {60: -22.3, 61: -10.0, 62: 0.0, 63: 10.0, 64: 22.3, 65: 10.0, 66: 0.0, 67: -10.0}.items():
        points[i] = (x, float(seam(np.array(x))))
    return points


def _attach(chart: Chart) -> tuple[np.ndarray, np.ndarray]:
    """Indices (68, 4) and weights (68, 4) of the grid vertices that carry each landmark."""
    rows, columns = chart.x.shape
    where = landmark_positions()
    fine = 8  # search between the vertices
    r = np.linspace(0, rows - 1, (rows - 1) * fine + 1)
    c = np.linspace(0, columns - 1, (columns - 1) * fine + 1)
    r0, c0 = np.minimum(r.astype(int), rows - 2), np.minimum(c.astype(int), columns - 2)
    fr, fc = (r - r0)[:, None], (c - c0)[None, :]

    def interpolate(values: np.ndarray) -> np.ndarray:
        a, b = values[np.ix_(r0, c0)], values[np.ix_(r0, c0 + 1)]
        d, e = values[np.ix_(r0 + 1, c0)], values[np.ix_(r0 + 1, c0 + 1)]
        return (a * (1 - fc) + b * fc) * (1 - fr) + (d * (1 - fc) + e * fc) * fr

    x, y, mouth, inside = (interpolate(v) for v in (chart.x, chart.y, np.clip(chart.mouth, -9, 9), chart.mouth_inside))
    away = interpolate(np.abs(chart.azimuth)) > np.deg2rad(88)
    index, weight = np.zeros((68, 4), dtype=np.int64), np.zeros((68, 4))
    for i, (px, py) in enumerate(where):
        cost = (x - px) ** 2 + (y - py) ** 2 + 1e4 * away
        if i in (61, 62, 63):
            cost = cost + 4.0 * (mouth - 1.15) ** 2
        elif i in (65, 66, 67):
            cost = cost + 4.0 * (mouth + 1.15) ** 2
        elif 49 <= i <= 59 and i not in (54,):
            cost = cost + 1e3 * (inside > 0.01)
        a, b = np.unravel_index(np.argmin(cost), cost.shape)
        i0, j0, p, q = r0[a], c0[b], r[a] - r0[a], c[b] - c0[b]
        index[i] = [i0 * columns + j0, i0 * columns + j0 + 1, (i0 + 1) * columns + j0, (i0 + 1) * columns + j0 + 1]
        weight[i] = [(1 - p) * (1 - q), (1 - p) * q, p * (1 - q), p * q]
    return index, weight


class ParametricHead:
    """A head on a grid: ``rows x columns`` vertices, the same chart as the skin's texture.

    Args:
        rows, columns: resolution of the mesh.
        device: where the tensors live.
    """

    name = "parametric"

    def __init__(self, rows: int = 113, columns: int = 97, device: torch.device | str = "cpu") -> None:
        self.rows, self.columns = rows, columns
        chart = build_chart(rows, columns)
        self.chart = chart
        count = rows * columns

        def tensor(values: np.ndarray) -> Tensor:
            return torch.as_tensor(np.ascontiguousarray(values), dtype=torch.float32, device=device)

        self.neutral = tensor(np.stack([chart.x, chart.y, chart.z], -1).reshape(-1))
        self.shape = tensor(shape_basis(chart).reshape(NUM_MODES, -1))
        right, left = muscles.field_basis(chart)
        self.muscles = tensor(np.concatenate([right, left]).reshape(2 * NUM_AUS, -1))
        upper, lower = muscles.lid_basis(chart)
        on_right = chart.x < 0
        self.lids = tensor(
            np.stack([upper * on_right, upper * ~on_right, lower * on_right, lower * ~on_right]).reshape(4, -1)
        )
        self.jaw = tensor(muscles.jaw_basis(chart).reshape(-1))
        targets = muscles.visible_targets()
        self.upper_lid, self.lower_lid, self.jaw_angle = (tensor(targets[k]) for k in ("upper_lid", "lower_lid", "jaw"))
        self.triangles = grid_triangles(rows, columns).to(device)
        index, weight = _attach(chart)
        self.landmark_index = torch.as_tensor(index, device=device)
        self.landmark_weight = tensor(weight)
        self.opening = _lid_opening(self._landmarks(self.neutral.reshape(1, -1, 3)))
        u, v = np.meshgrid(np.linspace(-1, 1, columns), np.linspace(-1, 1, rows))
        self.uv = tensor(np.stack([u, v], -1).reshape(-1, 2))
        self._eye_setup(chart, count, tensor)

    def _eye_setup(self, chart: Chart, count: int, tensor) -> None:
        """Which vertices lie on an eyeball or a lid margin, and how the eyes follow the shape modes."""
        ball = chart.eye_inside.reshape(-1) > 0.5
        margin = (muscles.eye_neighbourhood(chart).reshape(-1) > 0.25) & ~ball
        side = (chart.x.reshape(-1) > 0).astype(np.int64)
        shape = self.shape.cpu().numpy().reshape(NUM_MODES, count, 3)
        moved = np.stack([shape[:, ball & (side == k)].mean(1) for k in (0, 1)], 1)  # (K, 2, 3)
        device = self.neutral.device
        self.eye_shape = tensor(moved.reshape(NUM_MODES, 6))
        centre = np.array([[-EYE_CENTRE[0], *EYE_CENTRE[1:]], EYE_CENTRE])
        self.eye_neutral = tensor(centre.reshape(-1))
        self.lid_vertices = torch.as_tensor(np.flatnonzero(ball | margin), device=device)
        self.lid_side = torch.as_tensor(side[ball | margin], device=device)
        self.lid_is_ball = torch.as_tensor(ball[ball | margin], device=device)
        self.part_of_vertex = torch.zeros(count, dtype=torch.int64, device=device)

    def _landmarks(self, vertices: Tensor) -> Tensor:
        return (vertices[:, self.landmark_index] * self.landmark_weight[..., None]).sum(2)

    def pose(self, shape: Tensor, right: Tensor, left: Tensor) -> HeadPose:
        """Mesh for shape coefficients (B, K) and activations 0..1 of the right and the left face side, (B, 19) each."""
        batch = shape.shape[0]
        person = torch.addmm(self.neutral, shape, self.shape)
        eyes = torch.addmm(self.eye_neutral, shape, self.eye_shape).reshape(batch, 2, 3)
        rest = self._landmarks(person.reshape(batch, -1, 3))
        effective = [_interact(side) for side in (right, left)]
        moved = torch.addmm(person, torch.cat(effective, 1), self.muscles).reshape(batch, -1, 3)
        upper, lower = self._lid_travel(right, left, _lid_opening(rest) - self.opening)
        lift = upper @ self.lids[:2] + lower @ self.lids[2:]
        moved[..., 1] += lift
        moved = self._open_jaw(moved, 0.5 * (right + left))
        moved = self._rest_on_eyeballs(moved, eyes)
        return HeadPose(moved, rest, self._landmarks(moved), eyes)

    def _lid_travel(self, right: Tensor, left: Tensor, wider: Tensor) -> tuple[Tensor, Tensor]:
        """Travel of the upper and lower lids in mm, (B, 2) each; the upper lid stops on the lower one.

        ``wider`` (B, 2): how much further apart this person's lids rest than the mean head's, mm.
        """
        upper, lower = [], []
        for side, more in zip((right, left), wider.unbind(1), strict=True):
            up, low = side @ self.upper_lid, side @ self.lower_lid
            for first, second, extra in muscles.LID_INTERACTIONS:
                up = up + extra * side[:, AU_INDEX[first]] * side[:, AU_INDEX[second]]
            stop = low - LID_TRAVEL - more
            upper.append(stop + torch.nn.functional.softplus(up - stop, beta=3.0))
            lower.append(low)
        return torch.stack(upper, 1), torch.stack(lower, 1)

    def _open_jaw(self, points: Tensor, activation: Tensor) -> Tensor:
        """Rotate what hangs on the jaw about the condyles."""
        angle = (activation @ self.jaw_angle)[:, None] * self.jaw[None]
        pivot = points.new_tensor(muscles.JAW_PIVOT)
        y, z = points[..., 1] - pivot[1], points[..., 2] - pivot[2]
        cos, sin = angle.cos(), angle.sin()
        return torch.stack([points[..., 0], cos * y - sin * z + pivot[1], sin * y + cos * z + pivot[2]], -1)

    def _rest_on_eyeballs(self, points: Tensor, eyes: Tensor) -> Tensor:
        """Keep eyeball vertices on the ball and lid margins outside of it."""
        centre = eyes[:, self.lid_side]
        offset = points[:, self.lid_vertices] - centre
        radius = offset.norm(dim=-1, keepdim=True).clamp(min=1e-3)
        ball = self.lid_is_ball[None, :, None]
        wanted = torch.where(ball, torch.full_like(radius, EYEBALL_RADIUS), radius.clamp(min=LID_RADIUS - 0.4))
        points[:, self.lid_vertices] = centre + offset * (wanted / radius)
        return points


def _lid_opening(landmarks: Tensor) -> Tensor:
    """Opening of the lids in their middle, right and left, mm (B, 2), from landmarks (B, 68, 3)."""
    height = landmarks[..., 1]
    upper = torch.stack([height[:, 37:39].mean(1), height[:, 43:45].mean(1)], 1)
    lower = torch.stack([height[:, 40:42].mean(1), height[:, 46:48].mean(1)], 1)
    return (upper - lower) / ARC_AT_LANDMARKS


def _interact(activation: Tensor) -> Tensor:
    """Co-occurring AUs are not additive: the effective activation (B, 19) of the muscles' fields."""
    out = activation.clone()
    for first, second, gain in muscles.INTERACTIONS:
        product = activation[:, AU_INDEX[first]] * activation[:, AU_INDEX[second]]
        out[:, AU_INDEX[first]] = out[:, AU_INDEX[first]] + gain * product
    return out.clamp(min=0)
