"""Lids that close over a photographed eye: skin of the lid is stretched over it, then the lashes are drawn.

An open eye hides its upper lid in a fold, so a photo has no pixels of a closed lid.  The strip of skin between brow
and lid is the best witness of its colour; it is stretched down to where the margin is asked, sampled a little outside
of the margin so that lashes and eyeliner do not come along.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lit_faces.core.facs import AU_INDEX
from lit_faces.photohead.layers import smooth

if TYPE_CHECKING:
    from lit_faces.photohead.drawing import State

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]

_EYES = (
    ((36, 37, 38, 39), (36, 41, 40, 39)),
    ((42, 43, 44, 45), (42, 47, 46, 45)),
)  # upper and lower margins, subject's right and left eye, from the image's left
_ABOVE, _BELOW = 0.34, 0.25  # of the eye's width: skin that is stretched
_LASHES = 0.075  # of the eye's width: what is left out beside the margin
_RATIO = (0.85, 1.08)  # of light on a lid: its normals are the eyeball's, and shine
_LID_WIDE, _LID_HIGH, _LID_UP = (
    0.58,
    0.32,
    0.12,
)  # of the eye's width: the ellipse of a lid, and its centre above the line
_LID_SOFT, _LID_SHADE = 0.012, 0.16  # of the crop: its edge; light that a closed lid loses
_LINE_FROM = 0.25  # closing from which the lashes of both lids are one line


@dataclass
class Eye:
    """Margins of one eye in the photo: cubic curves y(x), their ends, and the width, pixels of the inner crop."""

    upper: Floats
    lower: Floats
    start: float
    end: float
    width: float
    centre: Floats


def _curve(points: Floats) -> tuple[Floats, float, float]:
    points = points[np.argsort(points[:, 0])]
    return np.polyfit(points[:, 0], points[:, 1], 3).astype(np.float32), float(points[0, 0]), float(points[-1, 0])


def measure(landmarks: Floats) -> list[Eye]:
    """Both eyes of the photo."""
    eyes = []
    for upper, lower in _EYES:
        top, start, end = _curve(landmarks[list(upper)])
        bottom = _curve(landmarks[list(lower)])[0]
        corners = landmarks[[upper[0], upper[-1]]]
        eyes.append(Eye(top, bottom, start, end, float(np.linalg.norm(corners[0] - corners[1])), corners.mean(0)))
    return eyes


def closing(state: State) -> tuple[float, float]:
    """How far the right and the left eye close beyond the photo's own closing, 0..1."""
    own = float(state.head.fit.au[AU_INDEX[43]])
    return tuple(  # type: ignore[return-value]
        float(np.clip((float(side[AU_INDEX[43]]) - own) / 5.0, 0, 1)) for side in (state.right, state.left)
    )


def sources(state: State, source: Tensor) -> Tensor:
    """Pixels of the photo (V, 2) that vertices show, with the lids' skin stretched."""
    closed = closing(state)
    if max(closed) <= 0:
        return source
    head, mesh = state.head, state.head.mesh
    camera = head.view.to_camera(state.target.vertices[None])
    there = head.view.project(camera)[0].numpy()  # in the photo's own view
    margins = head.view.project(head.view.to_camera(mesh.landmarks(state.target.vertices)[None]))[0].numpy()
    out = source.numpy()
    rest_z = head.source_vertices[:, 2].numpy()
    usable = ~mesh.ball & ~mesh.mouth & (rest_z > -60)
    for eye, amount, (upper, lower) in zip(head.lids, closed, _EYES, strict=True):
        if amount <= 0:
            continue
        x, y = there[:, 0], there[:, 1]
        at = np.clip(x, eye.start, eye.end)
        was_up, was_low = np.polyval(eye.upper, at), np.polyval(eye.lower, at)
        now_up = np.polyval(_curve(margins[list(upper)])[0], at)
        now_low = np.maximum(np.polyval(_curve(margins[list(lower)])[0], at), now_up)
        near = usable & (np.abs(x - eye.centre[0]) < 0.8 * eye.width) & (np.abs(y - eye.centre[1]) < 0.7 * eye.width)
        away = _LASHES * eye.width * amount * np.clip((was_low - was_up) / (0.15 * eye.width), 0.3, 1)
        share = 1 - smooth(np.abs(x - eye.centre[0]), 0.5 * eye.width, 0.75 * eye.width)
        top, bottom = was_up - _ABOVE * eye.width, was_low + _BELOW * eye.width
        down = np.clip((y - top) / np.maximum(now_up - top, 1), 0, 1)
        up = np.clip((bottom - y) / np.maximum(bottom - now_low, 1), 0, 1)
        above = top + down * (was_up - away - top)
        below = bottom - up * (bottom - was_low - 0.6 * away)
        first = y <= 0.5 * (now_up + now_low)
        for rows, wanted in ((near & first & (y > top), above), (near & ~first & (y < bottom), below)):
            g = share[rows]
            out[rows, 0] = out[rows, 0] * (1 - g) + x[rows] * g
            out[rows, 1] = out[rows, 1] * (1 - g) + wanted[rows] * g
    return torch.as_tensor(out)


def _zone(state: State) -> Mask:
    """Pixels of the result on closing lids."""
    import cv2

    size = state.head.inner
    zone = np.zeros((size, size), np.uint8)
    points = state.landmarks_xy
    for amount, first in zip(closing(state), (36, 42), strict=True):
        if amount > 0:
            start, end = points[first], points[first + 3]
            width = float(np.linalg.norm(end - start))
            centre = points[first : first + 6].mean(0) - [0.0, _LID_UP * width]
            slope = float(np.degrees(np.arctan2(end[1] - start[1], end[0] - start[0])))
            axes = (round(_LID_WIDE * width), round(_LID_HIGH * width))
            middle = (round(float(centre[0])), round(float(centre[1])))
            cv2.ellipse(zone, middle, axes, slope, 0.0, 360.0, 1, -1)
    return zone > 0


def stretched(state: State) -> Mask:
    """Where the skin of lids is stretched: it counts as seen."""
    if max(closing(state)) <= 0:
        return np.zeros_like(state.face)
    return state.is_skin & _zone(state)


def evened(state: State, ratio: Floats) -> Floats:
    """The ratio of lights on closing lids: held back, and dimmer, for skin from below the brow shines."""
    import cv2

    closed = max(closing(state))
    if closed <= 0:
        return ratio
    zone = cv2.GaussianBlur(_zone(state).astype(np.float32), (0, 0), _LID_SOFT * state.head.inner)
    return (ratio + zone * (np.clip(ratio, *_RATIO) * (1 - _LID_SHADE * closed) - ratio)).astype(np.float32)


def lash_line(state: State, picture: Floats) -> Floats:
    """Lashes along lids that meet."""
    import cv2

    closed = closing(state)
    if max(closed) <= _LINE_FROM:
        return picture
    head, size = state.head, state.head.inner
    own = head.landmarks_xy
    rows = slice(max(int(own[36:48, 1].min()), 0), int(own[36:48, 1].max()) + 1)
    columns = slice(max(int(own[36, 0]), 0), int(own[45, 0]))
    dark = np.percentile(head.cropped(head.photo)[rows, columns].reshape(-1, 3), 5, axis=0)
    points = state.landmarks_xy
    for amount, (upper, lower) in zip(closed, _EYES, strict=True):
        if amount <= _LINE_FROM:
            continue
        line = np.zeros((2 * size, 2 * size), np.float32)
        middle = 0.5 * (points[list(upper)] + points[list(lower)])
        middle = middle[np.argsort(middle[:, 0])]
        xs = np.linspace(middle[0, 0], middle[-1, 0], 30)
        ys = np.polyval(np.polyfit(middle[:, 0], middle[:, 1], 2), xs)
        for i in range(29):
            width = 1 + int(2.4 * np.sin(np.pi * (i + 1.0) / 30) ** 0.5 * size / 256)
            ends = [(int(2 * xs[j]), int(2 * ys[j])) for j in (i, i + 1)]
            cv2.line(line, ends[0], ends[1], 1.0, width, cv2.LINE_AA)
        soft = max(1.0, 0.55 / head.native)
        shown = cv2.GaussianBlur(cv2.resize(line, (size, size), interpolation=cv2.INTER_AREA), (0, 0), soft)
        share = shown[..., None] * np.float32(min(1.0, (amount - _LINE_FROM) / 0.5) * 0.75)
        picture = picture * (1 - share) + dark.astype(np.float32) * share
    return picture
