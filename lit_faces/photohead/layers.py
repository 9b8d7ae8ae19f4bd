"""What surrounds the face in a photograph: hair, ears, neck and background as one sheet continuing the face's depth.

The sheet is a grid over the padded photo.  At the rim of the face it has the face's depth, some millimetres further
out the depth of the ears; it turns with the head near the head and stays still far away.  Where the face used to be it
shows an inpainted picture, which comes into sight when the head turns or the jaw moves.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]

NEAREST, LINEAR, CUBIC = 0, 1, 2  # interpolation, as OpenCV numbers it
GRID = 97
_FOLLOWED = 8  # vertices of the face that a point beside it follows, on average
_EAR_DEPTH, _HAIR_DEPTH = -78.0, -56.0  # mm: hair stands off the skull, in front of the ears
_BEHIND_FACE = 1.5  # mm: the sheet never covers the rim of the face


def smooth(x: Floats, low: float, high: float) -> Floats:
    """0 below ``low``, 1 above ``high``, smooth between."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def sample(picture: Floats, x: Floats, y: Floats, how: int = CUBIC) -> Floats:
    """Values of a picture (H, W[, C]) at pixel positions, edges continued."""
    import cv2

    x, y = np.ascontiguousarray(x, np.float32), np.ascontiguousarray(y, np.float32)
    return np.asarray(cv2.remap(picture, x, y, how, borderMode=cv2.BORDER_REPLICATE), np.float32)


def around(mask: Mask, margin: int) -> tuple[slice, slice]:
    """Rows and columns in which a mask (H, W) lies, and a margin; nothing of nothing."""
    found = []
    for axis in (1, 0):
        places = np.flatnonzero(mask.any(axis))
        first, last = (places[0], places[-1] + 1) if len(places) else (0, 0)
        found.append(slice(max(int(first) - margin, 0), int(last) + margin if last else 0))
    return found[0], found[1]


def fill(picture: Floats, known: Mask) -> Floats:
    """Unknown pixels of (H, W, C) from the known ones around them, smoothly (pull-push, Gortler et al. 1996)."""
    import cv2

    weight = known.astype(np.float32)
    levels = [((picture * weight[..., None]).astype(np.float32), weight)]
    while min(levels[-1][1].shape) > 2:
        colour, weight = levels[-1]
        size = ((weight.shape[1] + 1) // 2, (weight.shape[0] + 1) // 2)
        small = np.atleast_3d(cv2.resize(colour, size, interpolation=cv2.INTER_AREA))
        share = cv2.resize(weight, size, interpolation=cv2.INTER_AREA)
        small = small / np.maximum(share, 1e-6)[..., None]
        share = np.minimum(share * 4.0, 1.0)
        levels.append((small * share[..., None], share))
    colour, weight = levels[-1]
    out = colour / np.maximum(weight, 1e-6)[..., None]
    for colour, weight in levels[-2::-1]:
        out = np.atleast_3d(cv2.resize(out, weight.shape[::-1], interpolation=cv2.INTER_LINEAR))
        out = colour + (1.0 - weight[..., None]) * out
    return np.asarray(out, np.float32)


def disc(pixels: float) -> NDArray[np.uint8]:
    """A round structuring element of about that diameter."""
    import cv2

    size = max(1, int(pixels)) | 1
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size)).astype(np.uint8)


@dataclass
class Surroundings:
    """The sheet of one photograph.

    Attributes:
        position: float32 (N, 3), camera axes of the source, mm.
        turns: float32 (N, 1), 1 where it turns with the head, 0 where it stays.
        source: float32 (N, 2), the pixel of the crop that each point shows.
        picture: float32 (P, P, 3), the padded photo with the face painted over.
        wide: the same with the rim painted over too: for what lies behind a rim that has moved inwards.
        outside: float32 (S, S), signed distance to the face's rim, pixels, positive outside.
    """

    position: Floats
    turns: Floats
    source: Floats
    picture: Floats
    wide: Floats
    outside: Floats


def build(
    photo: Floats,
    pad: int,
    covered: Mask,
    depth: Floats,
    rows: tuple[float, float],
    scale: float,
    shift: Floats,
    distance: float,
) -> Surroundings:
    """The sheet around a face.

    Args:
        photo: (P, P, 3), grey levels, the crop with ``pad`` pixels on every side.
        pad: pixels.
        covered: (S, S), where the face's mesh lies in the crop.
        depth: (S, S), camera z of the mesh, mm, where it is covered.
        rows: of the nose's root and of the chin in the crop.
        scale: pixels a mm at the pivot.
        shift: (2,), pixel of the pivot.
        distance: camera to pivot, mm.
    """
    import cv2

    size = len(covered)
    face = cv2.morphologyEx(covered.astype(np.uint8), cv2.MORPH_CLOSE, disc(0.018 * size + 1))
    inner = cv2.erode(face, disc(0.018 * size + 1)) > 0
    outer = cv2.dilate(face, disc(0.022 * size + 1)) > 0
    crop = photo[pad : pad + size, pad : pad + size]
    picture, wide = photo.copy(), photo.copy()
    picture[pad : pad + size, pad : pad + size] = _painted_over(
        crop, inner, cv2.dilate(face, disc(0.018 * size + 1)) > 0
    )
    further = cv2.dilate(outer.astype(np.uint8), disc(0.01 * size + 1)) > 0
    wide[pad : pad + size, pad : pad + size] = _painted_over(crop, outer, further)
    outside = cv2.distanceTransform(1 - face, cv2.DIST_L2, 5) - cv2.distanceTransform(face, cv2.DIST_L2, 5)

    line = np.linspace(-pad, size + pad - 1, GRID, dtype=np.float32)
    x, y = np.meshgrid(line, line)
    away = sample(np.maximum(outside, 0), x, y, LINEAR)
    away += np.hypot(
        np.clip(-x, 0, None) + np.clip(x - size, 0, None), np.clip(-y, 0, None) + np.clip(y - size, 0, None)
    )
    rim = np.where(covered, np.minimum(depth, -8.0), 0.0).astype(np.float32)
    z = sample(fill(rim[..., None], covered & ~inner), x, y, LINEAR)
    eyes, chin = rows
    behind = _HAIR_DEPTH + (_EAR_DEPTH - _HAIR_DEPTH) * smooth(y, eyes - 0.06 * size, eyes + 0.06 * size)
    z += (np.minimum(behind, z) - z) * smooth(away, 0.0, 0.08 * size)
    z -= _BEHIND_FACE
    z -= np.float32(0.6 / scale) * sample(np.maximum(-outside, 0), x, y, LINEAR)  # behind the face it sinks
    turns = (1 - smooth(away, 0.16 * size, 0.55 * size)) * (1 - smooth(y, chin - 0.01 * size, chin + 0.22 * size))
    magnified = scale * distance / (distance - z)
    position = np.stack([(x - shift[0]) / magnified, -(y - shift[1]) / magnified, z], -1)
    flat = [a.reshape(-1, a.shape[-1]).astype(np.float32) for a in (position, turns[..., None], np.stack([x, y], -1))]
    return Surroundings(flat[0], flat[1], flat[2], picture, wide, outside.astype(np.float32))


def followers(around: Surroundings, vertices: NDArray[np.int64], at: Floats, size: int) -> tuple[Tensor, Tensor]:
    """Which vertices of the face each point of the sheet follows when the face moves its skin.

    Args:
        around: the sheet.
        vertices: (F,), of the face.
        at: (F, 2), their pixels in the photo.
        size: side of the crop, pixels.

    Returns:
        int64 (N, K) vertices, and float32 (N, 1), how much the point follows: 1 beside the face, 0 further away.
    """
    from scipy.spatial import cKDTree

    away, nearest = cKDTree(at).query(around.source, k=_FOLLOWED)
    share = 1 - smooth(away[:, :1].astype(np.float32), 0.02 * size, 0.16 * size)
    return torch.from_numpy(vertices[nearest]), torch.from_numpy(share.astype(np.float32))


def _painted_over(crop: Floats, face: Mask, unknown: Mask) -> Floats:
    """The crop without what ``face`` covers, from what lies outside of ``unknown``."""
    import cv2

    size = len(crop)
    half = (size // 2, size // 2)
    small = np.asarray(cv2.resize(crop, half, interpolation=cv2.INTER_AREA), np.float32)
    known = cv2.resize(unknown.astype(np.uint8), half, interpolation=cv2.INTER_NEAREST) == 0
    filled = cv2.resize(fill(small, known), (size, size), interpolation=cv2.INTER_LINEAR)
    soft = cv2.GaussianBlur(face.astype(np.float32), (0, 0), 0.004 * size)[..., None] * face[..., None]
    return crop * (1 - soft) + filled * soft
