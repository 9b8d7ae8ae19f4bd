"""The mesh under a photograph: the parametric head's face, and how 68 displaced landmarks carry the surface along."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lit_faces.core.facs import AU_INDEX, AUS, MAX_INTENSITY, NUM_AUS
from lit_faces.rendering.chart import Chart, build_chart, lower_lip_edge, smoothstep, upper_lip_edge
from lit_faces.rendering.parametric import ParametricHead
from lit_faces.rendering.raster import unit

Floats = NDArray[np.float32]

ROWS, COLUMNS = 169, 145
_MASK_TEXELS = 700  # of the masks of eyes and mouth: read by the pixel, a vertex is too coarse for a lip's edge
_JAW, _INNER_LIPS = slice(0, 17), slice(60, 68)
#: How loosely the surface follows a landmark (RBF smoothing): dlib slides along the jaw, and lips hide each other.
_LOOSE, _LOOSE_JAW, _LOOSE_LIPS = 0.3, 3.0, 1.5
_APART = 1.2  # mm: lips are pulled apart while weights are computed, for they move apart
#: Mm that AU12 at intensity 5 takes off the upper and the lower lip: pairs of folds 0 and 1 of faces_ccby lose 1.3 and
#: .5 where smiles show teeth (10 of 19), whose corners move half as far.
_THINNER = (1.8, 0.7)
_BEHIND, _FRONT = -150.0, -90.0  # mm: the residual fades towards the back of the head

#: One gain an AU on the muscles and the relief of photo heads: what outside readers (OpenFace 2, MediaPipe) read of
#: single AUs on ten people of folds 0 and 1 of faces_ccby, in two coarse rounds; the people of fold 2 report
#: (docs/photohead.md).
GAINS = {1: 1.9, 2: 1.25, 4: 1.1, 5: 1.6, 6: 1.7, 9: 1.2, 12: 1.27, 15: 1.3, 17: 1.6, 25: 3.2, 26: 1.3, 27: 1.15}


def gains() -> Tensor:
    """:data:`GAINS` as (19,), 1 where there is none."""
    return torch.tensor([GAINS.get(number, 1.0) for number in AUS])


@dataclass
class Posed:
    """The mesh of one person with an expression, head axes, mm.

    Attributes:
        vertices: float32 (V, 3).
        rest: float32 (68, 3), landmarks without expression (they frame the picture).
        eyes: float32 (2, 3), centres of the eyeballs, subject's right and left.
    """

    vertices: Tensor
    rest: Tensor
    eyes: Tensor


class FaceMesh:
    """The parametric head prepared for photographs; made once, see :func:`face_mesh`.

    Attributes:
        triangles: int64 (F, 3), of the face alone: ears, skull and neck come with the surroundings.
        ball, mouth: bool (V,), vertices on an eyeball, in the mouth's opening.
        upper: float32 (V,), 1 where a point hangs on the upper lip.
        carry: float32 (V, 68), how a displacement of the landmarks moves the vertices.
        uv: float32 (V, 2), place on the chart, [-1, 1].
        eye_inside, mouth_inside: float32 (T, T), masks on the chart.
    """

    def __init__(self) -> None:
        self.head = ParametricHead(ROWS, COLUMNS)
        chart = self.head.chart
        self._correct(chart)
        self.neutral = self.head.neutral.reshape(-1, 3).numpy()
        self.ball, self.mouth = chart.eye_inside.reshape(-1) > 0.5, chart.mouth_inside.reshape(-1) > 0.5
        self.upper = chart.upper.reshape(-1).astype(np.float32)
        self.uv = self.head.uv.numpy()
        self.triangles = self.head.triangles[torch.as_tensor(self._front())[self.head.triangles].all(1)]
        self.carry = self._carry()
        fine = build_chart(_MASK_TEXELS, _MASK_TEXELS)
        self.eye_inside, self.mouth_inside = (m.astype(np.float32) for m in (fine.eye_inside, fine.mouth_inside))

    def _correct(self, chart: Chart) -> None:
        """Motion of the renderer's muscles that photographs show to be too large, or askew.

        AU9 lifted the nose's base by 14 mm (the scanned head: 3.8) and the lip with it, AU17 the edge of the jaw by 15
        (8.2). Real smiles move the corners of the mouth as far up as out (34 pairs of folds 0 and 1 of faces_ccby: 4.4
        and 4.3 mm), AU12 did by 8.6 and 10.7.
        """
        front = np.cos(chart.azimuth) > 0
        lip = chart.upper * smoothstep(chart.y, -48.0, -60.0) * front
        below = smoothstep(chart.y, -56.0, -48.0) * smoothstep(chart.y, -8.0, -24.0)
        nose = np.exp(-((chart.x / 13.0) ** 2)) * below * front
        jaw = smoothstep(chart.y, -100.0, -113.0) * front
        one = np.ones_like(jaw)
        shares = {
            9: [(1 - 0.5 * lip) * (1 - 0.35 * nose)] * 3,
            10: [1 - 0.25 * lip] * 3,
            12: [0.9 * one, 1.12 * one, one],
            17: [1 - 0.45 * jaw] * 3,
        }
        for number, share in shares.items():
            factor = torch.as_tensor(np.stack(share, -1), dtype=torch.float32).reshape(-1)
            for side in (0, NUM_AUS):
                self.head.muscles[side + AU_INDEX[number]] *= factor
        self._thin_lips(chart)

    def _thin_lips(self, chart: Chart) -> None:
        """Lips that a smile stretches are thinner: :data:`_THINNER`, on the edges of their red."""
        thinner = np.zeros((*chart.x.shape, 3))
        wide = np.exp(-((chart.x / 19.0) ** 2)) * (np.cos(chart.azimuth) > 0)
        for edge, hangs, mm in (
            (upper_lip_edge, chart.upper, -_THINNER[0]),
            (lower_lip_edge, 1 - chart.upper, _THINNER[1]),
        ):
            thinner[..., 1] += mm * wide * hangs * np.exp(-(((chart.y - edge(chart.x)) / 3.5) ** 2))
        for side in (0, NUM_AUS):
            self.head.muscles[side + AU_INDEX[12]] += torch.as_tensor(0.5 * thinner, dtype=torch.float32).reshape(-1)

    def pose(self, shape: Tensor, right: Tensor, left: Tensor) -> Posed:
        """The mesh for shape coefficients (K,) and activations 0..1 of both sides, (19,) each."""
        found = self.head.pose(shape[None], right[None], left[None])
        return Posed(found.vertices[0], found.rest[0], found.eyes[0])

    def landmarks(self, vertices: Tensor) -> Tensor:
        """The 68 landmarks (68, 3) of vertices (V, 3)."""
        return self.head._landmarks(vertices[None])[0]

    def of_eyes(self, values: Tensor) -> Tensor:
        """Means (2, C) of vertex values (V, C) over the subject's right and left eyeball."""
        right = self.neutral[:, 0] < 0
        return torch.stack([values[torch.as_tensor(self.ball & side)].mean(0) for side in (right, ~right)])

    def normals(self, points: Tensor) -> Tensor:
        """Unit normals (V, 3) of vertices (V, 3), in the same axes."""
        grid = points.reshape(ROWS, COLUMNS, 3)
        wide = torch.cat([grid[:, :1], grid, grid[:, -1:]], 1)
        high = torch.cat([grid[:1], grid, grid[-1:]], 0)
        return unit(torch.linalg.cross(high[2:] - high[:-2], wide[:, 2:] - wide[:, :-2]), -1).reshape_as(points)

    def _front(self) -> NDArray[np.bool_]:
        """Vertices that the face is made of, on the mean head."""
        x, y, z = self.neutral.T
        normal = self.normals(torch.as_tensor(self.neutral)).numpy()
        keep = (z > -74.0) & (y < 92.0) & (y > -128.0)
        keep &= ~((y < -95.0) & (z < -16.0) & (np.abs(x) < 48.0) & (normal[:, 2] < -0.15))  # under the chin
        keep &= ~((y < -113.0) & (normal[:, 1] < -0.9) & (z < -40.0))
        keep &= ~((np.abs(x) > 70.0) & (y < 30.0) & (z < -66.0))  # ears
        return keep | self.ball | self.mouth

    def _carry(self) -> Floats:
        """Linear radial basis functions through the landmarks of the mean head, still far away from the face."""
        from scipy.interpolate import RBFInterpolator

        points = self.landmarks(torch.as_tensor(self.neutral)).numpy().astype(np.float64)
        points[61:64, 1] += _APART
        points[65:68, 1] -= _APART
        far = np.array([[x, y, z] for x in (-110, 0, 110) for y in (90, -220) for z in (-190, 0)], dtype=np.float64)
        loose = np.full(68 + len(far), _LOOSE)
        loose[_JAW], loose[_INNER_LIPS] = _LOOSE_JAW, _LOOSE_LIPS
        surface = self.neutral.astype(np.float64)
        near = np.exp(-(((surface[:, 1] - points[[62, 66], 1].mean()) / 6.0) ** 2)) * (np.abs(surface[:, 0]) < 28.0)
        surface[:, 1] += np.where(self.upper > 0.5, _APART, -_APART) * near
        found = RBFInterpolator(
            np.concatenate([points, far]), np.eye(68 + len(far))[:, :68], kernel="linear", smoothing=loose
        )(surface)
        t = np.clip((self.neutral[:, 2] - _BEHIND) / (_FRONT - _BEHIND), 0, 1)
        return (found * (t * t * (3 - 2 * t))[:, None]).astype(np.float32)


@lru_cache(maxsize=1)
def face_mesh() -> FaceMesh:
    """The mesh that all photo heads of the process share."""
    return FaceMesh()


def activation(au: Tensor, gamma: float, amplitude: Tensor, gain: Tensor) -> Tensor:
    """Intensities (19,), 0..5, to activations of the muscles, 0..1 and somewhat above: (19,)."""
    if au.shape != (NUM_AUS,):
        raise ValueError(f"au: expected ({NUM_AUS},), got {tuple(au.shape)}")
    return (au / MAX_INTENSITY).clamp(0.0, 1.0) ** gamma * amplitude * gain
