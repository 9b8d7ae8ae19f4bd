"""Frames of glasses as a rigid layer: they neither bend with lids and cheeks nor stick to the skin when the head turns.

Frames are found in the plane in which they are worn, as dark outlines around both eyes that are joined over the nose:
two equal super-ellipses whose edges are dark nearly all the way round, where no brow or lashes are, and a bridge.
Nothing less is taken for glasses. The layer is the photo's own pixels; the skin beneath is filled in (Telea 2004).
Frames that are pale, rimless or hidden stay on the skin, as does what lenses reflect.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from lit_faces.photohead.layers import LINEAR, sample, smooth
from lit_faces.rendering.camera import View

if TYPE_CHECKING:
    from lit_faces.photohead.drawing import State
    from lit_faces.photohead.head import PhotoHead

Floats = NDArray[np.float32]

_PLANE = 31.0  # mm that frames lie in front of the middle of the eyeballs
_STEP, _HALF_X, _HALF_Y = 0.5, 78.0, 42.0  # mm: grid in that plane, about the middle of the eyes
_THICKEST = 6.0  # mm: what is dark and narrower than this may be a frame
_DARK = 0.20  # darker than around, as a share
#: What is tried: rims beside the nose and over the eyes, half as wide and high, mm; how square.
_CENTRES, _HEIGHTS = np.arange(29.0, 39.0, 1.0), np.arange(-7.0, 4.0, 1.5)
_WIDE, _HIGH, _POWERS = np.arange(20.0, 30.0, 1.0), np.arange(11.0, 25.0, 1.5), (2.2, 2.8, 4.0)
_AROUND = np.deg2rad(np.arange(-200.0, 20.0, 5.0))  # the lower part of a rim and its sides: brows hide the upper
_FOUND, _BRIDGED = 0.80, 0.8  # share of both rims, and of the bridge, that must be dark
_BAND = 2.6  # mm beside the outline that belongs to the frame
_ARM, _ARM_ENDS = 5.0, 74.0  # mm: half the height in which an arm begins, and where hair begins
_NOSE, _BRIDGE_DARK = 5.0, 0.12  # mm: half of the nose's root; how dark a bridge is at its palest
_EAR = (79.0, -82.0)  # mm: where arms end, to the side and in depth
_FACES_AWAY = 0.08  # cosine below which an arm is behind its rim


@dataclass
class Glasses:
    """Frames in a photo.

    Attributes:
        alpha: float32 (S, S), how far a pixel of the crop shows the frame, 0..1.
        colour: float32 (S, S, 3), grey levels of the frame.
        quads: three flat parts, (4, 3) corners in head axes, mm: the rims, the right arm and the left one.
    """

    alpha: Floats
    colour: Floats
    quads: list[Floats]


def pixels_of(view: View, points: Floats) -> Floats:
    """Pixels (..., 2) that points (..., 3) of the head have in a view."""
    flat = torch.as_tensor(np.ascontiguousarray(points.reshape(1, -1, 3), np.float32))
    return view.project(view.to_camera(flat))[0].numpy().reshape(*points.shape[:-1], 2)


def find(head: PhotoHead) -> tuple[Glasses, Floats] | None:
    """The frames of a photo, and the crop (S, S, 3) without them; None where there are none that can be told."""
    import cv2

    crop = head.cropped(head.photo)
    eyes = head.source_eyes.numpy()
    middle = np.array([0.0, eyes[:, 1].mean(), eyes[:, 2].mean() + _PLANE], np.float32)
    line_x, line_y = np.arange(-_HALF_X, _HALF_X + 0.1, _STEP), np.arange(_HALF_Y, -_HALF_Y - 0.1, -_STEP)
    x, y = np.meshgrid(line_x, line_y)
    places = np.stack([x, y, np.zeros_like(x)], -1).astype(np.float32) + middle
    at = pixels_of(head.view, places)
    grey = crop.mean(-1)
    size = max(3, int(_THICKEST * head.scale)) | 1
    closed = cv2.morphologyEx(grey, cv2.MORPH_CLOSE, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size)))
    darker = ((closed - grey) / np.maximum(closed, 25.0)).astype(np.float32)
    wider = cv2.dilate(sample(darker, at[..., 0], at[..., 1], LINEAR), np.ones((3, 3), np.uint8))
    dark = np.asarray(wider, np.float32)
    best = _fitted(dark) if _crosses_nose(dark) else None
    if best is None:
        return None
    plane = _frame(best, x.astype(np.float32), y.astype(np.float32), dark, *(
        sample(picture, at[..., 0], at[..., 1], LINEAR) for picture in (darker, grey)
    ))  # fmt: skip
    alpha = _to_crop(plane, at, head.inner)
    gone = cv2.dilate((alpha > 0.08).astype(np.uint8), np.ones((3, 3), np.uint8))
    bare = cv2.inpaint(np.clip(crop + 0.5, 0, 255).astype(np.uint8), gone, 3.0, cv2.INPAINT_TELEA).astype(np.float32)
    bare = np.where(gone[..., None] > 0, bare, crop).astype(np.float32)
    share = np.maximum(alpha, 0.15)[..., None]
    colour = np.clip((crop - (1 - share) * bare) / share, 0, 255).astype(np.float32)
    return Glasses(alpha, colour, _parts(best, middle)), bare


def _outline(cx: float, cy: float, wide: float, high: float, power: float) -> tuple[Floats, Floats]:
    """Points of the left rim, mm."""
    cos, sin = np.cos(_AROUND), np.sin(_AROUND)
    x = cx + wide * np.sign(cos) * np.abs(cos) ** (2 / power)
    y = cy + high * np.sign(sin) * np.abs(sin) ** (2 / power)
    return x.astype(np.float32), y.astype(np.float32)


def _read(dark: Floats, x: Floats, y: Floats) -> Floats:
    """Darkness at places of the plane, mm."""
    return sample(dark, (x[None] + _HALF_X) / _STEP, (_HALF_Y - y[None]) / _STEP, LINEAR)[0]


def _crosses_nose(dark: Floats) -> bool:
    """Whether anything dark lies all across the root of the nose, as every bridge does and few faces have."""
    across = np.arange(-_NOSE, _NOSE + 0.1, 0.5).astype(np.float32)
    levels = [float(np.quantile(_read(dark, across, np.full_like(across, y)), 0.1)) for y in np.arange(-9.0, 16.0, 0.5)]
    return max(levels) > _BRIDGE_DARK


def _fitted(dark: Floats) -> tuple[float, float, float, float, float] | None:
    """Centre, half width and height, and power of the rims; None where they are not dark enough."""
    best, score = None, 0.0
    for power in _POWERS:
        for wide in _WIDE:
            for high in _HIGH:
                x, y = _outline(0.0, 0.0, wide, high, power)
                for cx in _CENTRES:
                    if cx - wide < 4.0:  # a bridge is as wide as a nose
                        continue
                    px = np.tile(x + cx, len(_HEIGHTS)).astype(np.float32)
                    py = (y[None] + _HEIGHTS[:, None]).reshape(-1).astype(np.float32)
                    sides = [_read(dark, s * px, py).reshape(len(_HEIGHTS), -1) for s in (1.0, -1.0)]
                    worse = np.minimum(*[np.minimum(side, 0.5).mean(1) for side in sides])
                    k = int(worse.argmax())
                    if worse[k] > score:
                        score = float(worse[k])
                        best = (float(cx), float(_HEIGHTS[k]), float(wide), float(high), float(power))
    if best is None:
        return None
    cx, cy, wide, high, _ = best
    x, y = _outline(*best)
    shown = min(float((_read(dark, s * x, y) > _DARK).mean()) for s in (1.0, -1.0))
    across = np.arange(-(cx - wide) + 1.0, cx - wide - 0.9, 0.5).astype(np.float32)
    levels = [_read(dark, across, np.full_like(across, cy + up * high)) for up in np.arange(-0.1, 0.85, 0.05)]
    bridged = float((np.max(levels, 0) > _DARK).mean()) if len(across) else 0.0
    return best if shown >= _FOUND and bridged >= _BRIDGED else None


def _frame(
    best: tuple[float, float, float, float, float], x: Floats, y: Floats, dark: Floats, darker: Floats, grey: Floats
) -> Floats:
    """How far places (x, y) of the plane show the frame, 0..1.

    Args:
        best: the rims.
        x: (H, W), mm.
        y: likewise.
        dark: darkness for :func:`_read`.
        darker: (H, W), how much darker than around.
        grey: (H, W), grey levels: where a brow lies behind a rim, its own shade tells it.
    """
    cx, cy, wide, high, power = best
    ring = (np.abs((np.abs(x) - cx) / wide) ** power + np.abs((y - cy) / high) ** power) ** (1 / power)
    rim = 1 - smooth((np.abs(ring - 1) * min(wide, high)).astype(np.float32), _BAND - 0.8, _BAND)
    bridge = (np.abs(x) < cx - wide + 1.0) & (y > cy - 0.15 * high) & (y < cy + 0.9 * high)
    near = np.maximum(rim, bridge.astype(np.float32))
    for side in (-1.0, 1.0):
        begins = np.arange(cx + wide + 1.5, min(cx + wide + 9.0, 66.0), 0.5).astype(np.float32)
        rows = [
            _read(dark, side * begins, np.full_like(begins, cy + 0.45 * high + d)) for d in np.arange(-_ARM, _ARM, 0.5)
        ]
        if float((np.max(rows, 0) > _DARK).mean()) > _FOUND:
            near[(side * x > cx + wide - 2.0) & (side * x < _ARM_ENDS) & (np.abs(y - cy - 0.45 * high) < _ARM)] = 1.0
    shown = near * smooth(darker, 0.05, _DARK)
    core = 1 - smooth((np.abs(ring - 1) * min(wide, high)).astype(np.float32), 0.8, 1.8)
    own = float(np.median(grey[(core > 0.9) & (darker > _DARK)]))
    alike = core * (1 - smooth(np.abs(grey - own).astype(np.float32), 12.0, 40.0))
    return np.maximum(shown, alike).astype(np.float32)


def _to_crop(plane: Floats, at: Floats, size: int) -> Floats:
    """A picture in the plane of the frame as one of the crop, (S, S)."""
    import cv2

    rows, columns = plane.shape
    ends = np.array([[0, 0], [columns - 1, 0], [columns - 1, rows - 1], [0, rows - 1]], np.float32)
    move = cv2.getPerspectiveTransform(ends, at[[0, 0, -1, -1], [0, -1, -1, 0]].astype(np.float32))
    return np.asarray(cv2.warpPerspective(plane, move, (size, size), flags=cv2.INTER_AREA), np.float32)


def _parts(best: tuple[float, float, float, float, float], middle: Floats) -> list[Floats]:
    cx, cy, wide, high, _ = best
    edge, top, low = cx + wide + _BAND, cy + high + 5.0, cy - high - 5.0

    def quad(*corners: tuple[float, float, float]) -> Floats:
        return np.array(corners, np.float32) + np.array([0.0, middle[1], 0.0], np.float32)

    z, (ear, back) = float(middle[2]), _EAR
    front = quad((-edge, top, z), (edge, top, z), (edge, low, z), (-edge, low, z))
    arms = [
        quad((s * edge, top, z), (s * ear, top, back), (s * ear, low, back), (s * edge, low, z)) for s in (-1.0, 1.0)
    ]
    return [front, *arms]


def draw(state: State, picture: Floats) -> Floats:
    """A picture (S, S, 3) with the frames over it, in the asked pose."""
    import cv2

    head = state.head
    if head.glasses is None:
        return picture
    size = (head.inner, head.inner)
    layer = np.concatenate([head.glasses.colour, head.glasses.alpha[..., None] * 255.0], -1)
    for k, quad in sorted(enumerate(head.glasses.quads), reverse=True):  # the rims last: they are in front
        now, was = pixels_of(state.view, quad), pixels_of(head.view, quad)
        if k and not _faces(state.view, quad, k):
            continue
        mask = np.zeros(size, np.uint8)
        cv2.fillConvexPoly(mask, was.round().astype(np.int32), 1)
        move = cv2.getPerspectiveTransform(was.astype(np.float32), now.astype(np.float32))
        part = cv2.warpPerspective(layer * mask[..., None], move, size, flags=cv2.INTER_CUBIC)
        share = np.clip(part[..., 3:] / 255.0, 0, 1)
        weight = cv2.warpPerspective(mask.astype(np.float32), move, size, flags=cv2.INTER_LINEAR)[..., None]
        colour = part[..., :3] / np.maximum(weight, 1e-3)
        picture = (picture * (1 - share) + np.clip(colour, 0, 255) * share).astype(np.float32)
    return picture


def _faces(view: View, quad: Floats, side: int) -> bool:
    """Whether the outside of an arm is seen."""
    corner = view.to_camera(torch.as_tensor(quad[None]))[0].numpy()
    outward = np.cross(corner[1] - corner[0], corner[3] - corner[0]) * (1.0 if side == 1 else -1.0)
    return float(outward[2]) > _FACES_AWAY * float(np.linalg.norm(outward))
