"""Inside the mouth: the photo's own teeth where it shows them, otherwise teeth, tongue and dark as the mouth opens."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lit_faces.photohead.layers import around, fill, smooth
from lit_faces.photohead.light import LUMA, Light, linear

if TYPE_CHECKING:
    from lit_faces.photohead.drawing import State

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]

#: Teeth over the skin's luminance, and the skin's own colour over it: medians of the parted smiles of faces_ccby,
#: folds 0 and 1, in white light. Dark skin does not make teeth dark.
_TEETH = np.array([2.0, 1.87, 1.73], dtype=np.float32)
_BRIGHTEST = np.array([0.66, 0.61, 0.55], dtype=np.float32)
_SKIN = np.array([1.39, 0.86, 0.69], dtype=np.float32)
_LEAST_TEETH = 150  # pixels from which the photo's own teeth say their colour
_OWN_MOUTH = 1.35  # a gap up to so many times the photo's is shown by the photo's own pixels
_ARC, _TOOTH_UP, _TOOTH_LOW = 25.5, 7.6, 5.4  # mm: half width of the arch, widths of teeth
_CROWN = 7.5  # mm: height of the upper incisors that lips may show
_DISPLAY = 2.2  # mm that the upper incisors reach below the resting lips' line
_LOWER, _LOWER_FROM = 0.45, 8.0  # lower incisors come into sight when the lips are so many mm apart
_LIP_SKIN = 0.03  # of the mouth's width: lips are sampled so far away from teeth


@dataclass
class Teeth:
    """Colour of teeth in linear light, and whether the photo's mouth is open."""

    colour: Floats
    gap: float


def teeth_of(crop: Floats, covered: Mask, landmarks: Floats, light: Light) -> Teeth:
    """The teeth of the photo, or likely ones in its light."""
    import cv2

    gap = float((landmarks[65:68, 1][::-1] - landmarks[61:64, 1]).mean())
    tint = np.clip(light.skin / max(light.level, 1e-3) / _SKIN, 0.6, 1.6) ** 0.5  # the colour of the light
    level = np.clip(_TEETH * light.level, 0.55 * _BRIGHTEST, _BRIGHTEST)
    likely = Teeth((level * tint).astype(np.float32), gap)
    width = float(np.linalg.norm(landmarks[54] - landmarks[48]))
    if gap < 0.05 * width:
        return likely
    zone = np.zeros(covered.shape, np.uint8)
    cv2.fillPoly(zone, [landmarks[60:68].round().astype(np.int32)], 1)
    pixels = linear(crop[cv2.erode(zone, np.ones((3, 3), np.uint8)) > 0])
    if len(pixels) < _LEAST_TEETH:
        return likely
    bright = pixels @ LUMA
    pale = pixels[:, 2] / np.maximum(pixels[:, 0], 1e-3) > 0.5  # lips and gums are red
    pick = pale & (bright > np.quantile(bright, 0.5))
    return Teeth(np.median(pixels[pick], 0).astype(np.float32), gap) if pick.sum() > _LEAST_TEETH // 3 else likely


def lip_sources(state: State, source: Tensor) -> Tensor:
    """Where the photo shows teeth, the lips' edge is sampled a little away from them."""
    head = state.head
    points, width = head.landmarks_xy, float(np.linalg.norm(head.landmarks_xy[54] - head.landmarks_xy[48]))
    if head.teeth.gap < 0.04 * width or state.share > 0.95:
        return source
    out = source.numpy()
    x, y = out[:, 0].copy(), out[:, 1].copy()
    upper = head.mesh.upper > 0.5
    front = head.source_vertices[:, 2].numpy() > -40.0
    for edge, sign, mine in (((60, 61, 62, 63, 64), -1.0, upper), ((60, 67, 66, 65, 64), 1.0, ~upper)):
        line = points[list(edge)]
        line = line[np.argsort(line[:, 0])]
        away = (y - np.interp(x, line[:, 0], line[:, 1])) * sign
        ends = 1 - smooth(np.abs(x - line[2, 0]), 0.40 * width, 0.55 * width)
        near = mine & front & ~head.mesh.mouth & (away > -0.06 * width) & (away < 0.3 * width)
        share = np.where(near, np.exp(-np.clip(away, 0, None) / (0.05 * width)), 0) * ends
        out[:, 1] += (sign * (_LIP_SKIN * width - np.minimum(away, 0)) * share).astype(np.float32)
    return torch.as_tensor(out)


def draw(state: State, light: Floats) -> Floats:
    """Linear light with the inside of the mouth where it is seen."""
    if not state.mouth.any():
        return light
    head = state.head
    points = state.landmarks_xy
    gap = float((points[65:68, 1][::-1] - points[61:64, 1]).mean())
    own = head.teeth.gap > 0.05 * float(np.linalg.norm(head.landmarks_xy[54] - head.landmarks_xy[48]))
    if own and state.share > 0.5 and gap < _OWN_MOUTH * head.teeth.gap:
        return _kept(state, light)
    return _synthetic(state, light)


def _depth(mask: Mask, scale: float) -> Floats:
    import cv2

    return np.asarray(cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 5) / scale, np.float32)


def _kept(state: State, light: Floats) -> Floats:
    """The photo's own mouth; its edge, which comes into sight, is filled and darkened."""
    import cv2

    seen = cv2.erode((state.mouth & state.visible).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    lost = state.mouth & ~seen
    if seen.sum() < 20 or not lost.any():
        return light
    dark = 0.55 + 0.45 * np.clip(_depth(state.mouth, state.head.scale) / 1.5, 0, 1)
    return np.where(lost[..., None], fill(light, seen) * dark[..., None], light).astype(np.float32)


def _synthetic(state: State, light: Floats) -> Floats:
    """Teeth, tongue and dark, in the head's own axes (mm)."""
    import cv2

    head = state.head
    blur, edge = max(0.8, 0.55 / head.native), 1.3
    part = around(state.mouth, 4 * math.ceil(max(blur, edge)) + 2)  # what the filters reach
    mouth, face = state.mouth[part], state.face[part]
    x, y = state.place[part][..., 0], state.place[part][..., 1]
    rest, now = head.landmarks.numpy(), head.mesh.landmarks(state.target.vertices).numpy()
    gap = float(now[61:64, 1].mean() - now[65:68, 1].mean())
    upper_edge = rest[62, 1] - _DISPLAY + 0.004 * x**2
    lower_edge = now[66, 1] + np.clip(_LOWER * (gap - _LOWER_FROM), -1.5, 3.0) - 0.004 * x**2
    middle = 0.5 * (now[62, 1] + now[66, 1])
    arc = np.sqrt(np.clip(1 - (x / _ARC) ** 2, 0, 1))
    up = smooth(y, upper_edge - 0.5, upper_edge + 0.5) * smooth(arc, 0.1, 0.35)
    low = (1 - smooth(y, lower_edge - 0.5, lower_edge + 0.5)) * smooth(arc, 0.15, 0.4) * (1 - up)
    gaps = [1 - 0.42 * _between(x, _TOOTH_UP, 0.0, 0.008), 1 - 0.42 * _between(x, _TOOTH_LOW, 2.7, 0.011)]
    gaps[0] = gaps[0] * (0.86 + 0.14 * smooth(upper_edge + _CROWN - y, 0.0, 2.5))  # darker towards the gums
    teeth = head.teeth.colour * ((0.30 + 0.70 * arc**1.5) * (up * gaps[0] + 0.72 * low * gaps[1]))[..., None]
    tongue = np.exp(-((x / 15.0) ** 4)) * (1 - smooth(y, middle - 1.0, middle + 5.0))
    flesh = head.light.skin * np.array([0.30, 0.13, 0.13], np.float32) * (0.22 + 0.78 * tongue[..., None])
    inward = _depth(mouth, head.scale)
    below = np.clip(now[62, 1] - y, 0, 30)
    shadow = (0.66 + 0.34 * (1 - np.exp(-inward / 0.9))) * (0.86 + 0.14 * (1 - np.exp(-below / 2.5)))
    colour = (flesh * (1 - np.clip(up + low, 0, 1))[..., None] + teeth) * shadow[..., None]
    colour = cv2.GaussianBlur(colour.astype(np.float32), (0, 0), blur)
    soft = cv2.GaussianBlur(mouth.astype(np.float32), (0, 0), edge)[..., None] * face[..., None]
    out = light.astype(np.float32)
    out[part] = light[part] * (1 - soft) + colour * soft
    return out


def _between(x: Floats, width: float, offset: float, sharp: float) -> Floats:
    """1 in the gaps between teeth."""
    phase = ((x + offset) / width) % 1.0
    return np.exp(-(phase**2) / sharp) + np.exp(-((phase - 1.0) ** 2) / sharp)
