"""Eyes that look elsewhere: the photo's own iris moves over its own sclera, clipped by the lids.

The iris is found as the circle, inside the opening of the lids, across which the picture brightens most (Daugman
1993). What it hides of the sclera is filled in from the sclera beside it, what the lids hide of the iris from the same
ring of it. The disc then turns with the eyeball; reflections of lamps stay where they are. Eyes that are closed, or too
small to tell an iris, get one of the renderer's kind, and the picture says so.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from lit_faces.photohead.layers import LINEAR, fill, sample, smooth
from lit_faces.photohead.lids import Eye
from lit_faces.photohead.light import Light, display

if TYPE_CHECKING:
    from lit_faces.photohead.drawing import State
    from lit_faces.photohead.head import PhotoHead

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]

#: Radius of an iris on the mesh, and how much higher than the mesh's eyeballs it lies when people look into the camera:
#: medians of 24 neutrals of folds 0 and 1 of faces_ccby (to the side they look straight: .1 +- 1.6 degrees).
IRIS_MM, HIGHER_MM = 6.35, 1.4
LIMBUS_MM = 11.5  # the iris' edge lies so far in front of the point about which an eye turns
SMALLEST = 12.0  # pixels of the photo from corner to corner, below which no iris can be told from its lashes
FURTHEST = (30.0, 22.0)  # degrees to the side, and up or down, that eyes turn from the middle
_SIZES = (0.88, 0.94, 1.0, 1.06, 1.12)  # radii that are tried, of the usual
_ANGLES = np.deg2rad(np.arange(0.0, 360.0, 7.5)).astype(np.float32)
_SQUINT = 0.5  # of the radius: further apart, one of both was not found
_EDGE = 9.0  # grey levels across the edge of an iris, at least
_OPEN = 0.12  # opening over width of an eye that is open enough
_SCLERA = np.array([0.54, 0.495, 0.47], dtype=np.float32)  # linear, in white light on skin of middling brightness
_BROWN = np.array([0.075, 0.040, 0.022], dtype=np.float32)
_PUPIL = 0.38  # of the iris' radius
_SPARK = 45.0  # grey levels over its ring from which a pixel of an iris is a reflection
_MARGIN_MM = 0.55  # beside the lids: their wet edge and the roots of the lashes move with the lids
_LASHES_MM, _LASHES = 1.6, 0.22  # below the upper lid, lashes and their shadow; of the opening, at most
_WHITE = 0.7  # of the median: what is darker in the white of an eye is none of it
_SHADE, _SHADE_MM = 0.30, 1.3  # of the upper lid on what comes into sight


@dataclass(frozen=True)
class Iris:
    """A circle in the crop, pixels, and how much brighter it is outside, grey levels."""

    x: float
    y: float
    radius: float
    contrast: float


@dataclass
class EyeLayers:
    """One eye taken apart, in a box of the crop.

    Attributes:
        left, top: of the box, pixels of the crop.
        sclera: float32 (H, W, 3), grey levels, without iris.
        disc: float32 (H, W, 3), the iris at its own place, completed.
        spark: float32 (H, W, 3), what reflections add.
        iris: where it is.
        axis: float32 (3,), where it looks, unit, camera axes.
        own: whether all this is the photo's.
    """

    left: int
    top: int
    sclera: Floats
    disc: Floats
    spark: Floats
    iris: Iris
    axis: Floats
    own: bool


def find_iris(red: Floats, opening: Mask, eye: Eye, usual: float) -> Iris | None:
    """The iris in an open eye.

    Args:
        red: float32 (S, S), red channel of the crop: irises are darkest there.
        opening: (S, S), between the lids.
        eye: margins of the eye.
        usual: radius that is expected, pixels.

    Returns:
        None where nothing in the eye has a dark round edge.
    """
    centres = np.arange(-0.3, 0.301, 0.025) * eye.width
    heights = np.arange(-0.12, 0.121, 0.02) * eye.width
    sizes = np.array(_SIZES, dtype=np.float32) * usual
    grid = np.stack(np.meshgrid(centres + eye.centre[0], heights + eye.centre[1], sizes, indexing="ij"), -1)
    candidates = grid.reshape(-1, 3).astype(np.float32)
    found = _contrast(red, opening, candidates, (0.72, 0.86, 1.12, 1.26))
    middle = (candidates[:, :2] - eye.centre) / eye.width
    score = found - 25.0 * np.square(middle[:, 0]) - 40.0 * np.square(middle[:, 1])
    best = candidates[int(score.argmax())]
    if found.max() < _EDGE:
        return None
    step = np.array([0.012 * eye.width, 0.012 * eye.width, 0.02 * usual], dtype=np.float32)
    near = np.stack(np.meshgrid(*[np.arange(-2, 3)] * 3, indexing="ij"), -1).reshape(-1, 3) * step + best
    finer = _contrast(red, opening, near.astype(np.float32), (0.86, 0.94, 1.06, 1.14))
    x, y, radius = (float(v) for v in near[int(finer.argmax())])
    return Iris(x, y, radius, float(finer.max()))


def _contrast(red: Floats, opening: Mask, circles: Floats, shares: tuple[float, ...]) -> Floats:
    """How much brighter it is just outside of circles (N, 3) than inside, (N,); 0 where lids hide too much of them.

    ``shares`` of the radius: two rings inside and two outside.
    """
    cos, sin = np.cos(_ANGLES), np.sin(_ANGLES)
    x, y, radius = circles[:, :1], circles[:, 1:2], circles[:, 2:]
    seen = opening.astype(np.float32)
    light, inside = [], []
    for share in shares:
        at = x + share * radius * cos, y + share * radius * sin
        light.append(np.minimum(sample(red, *at, LINEAR), 235.0))
        inside.append(sample(seen, *at, LINEAR))
    both = (np.minimum.reduce(inside) > 0.7).astype(np.float32)
    change = np.clip(light[2] + light[3] - light[0] - light[1], -60, 120) * 0.5
    to_left, to_right = both * (cos < -0.5), both * (cos > 0.5)
    sides = [np.where(s.sum(1) > 2, (change * s).sum(1) / np.maximum(s.sum(1), 1), np.nan) for s in (to_left, to_right)]
    pair = np.stack(sides)
    known = np.isfinite(pair).sum(0)
    mean = np.nansum(pair, 0) / np.maximum(known, 1)
    worst = np.where(known == 2, np.nanmin(np.where(np.isfinite(pair), pair, np.inf), 0), 0.6 * mean)
    return np.where(known > 0, 0.5 * mean + 0.5 * worst, 0.0).astype(np.float32)


def opening_of(eye: Eye, size: int, shrink: float = 0.0, lashes: float = 0.0) -> Mask:
    """Pixels between the lids, (S, S), ``shrink`` pixels away from them, and ``lashes`` more from the upper one."""
    import cv2

    xs = np.linspace(eye.start, eye.end, 40)
    up, low = np.polyval(eye.upper, xs), np.polyval(eye.lower, xs)
    up = up + np.minimum(lashes, _LASHES * np.maximum(low - up, 0))
    outline = np.concatenate([np.stack([xs, up], 1), np.stack([xs, np.maximum(up, low)], 1)[::-1]])
    mask = np.zeros((size, size), np.uint8)
    cv2.fillPoly(mask, [outline.round().astype(np.int32)], 1)
    if shrink > 0:
        return np.asarray(cv2.distanceTransform(mask, cv2.DIST_L2, 5) > shrink)
    return mask > 0


def clear_of(eye: Eye, head: PhotoHead) -> Mask:
    """Pixels of the crop that show an eyeball, without what the lids' edges and lashes cover."""
    return opening_of(eye, head.inner, _MARGIN_MM * head.scale, (_LASHES_MM - _MARGIN_MM) * head.scale)


def take_apart(head: PhotoHead) -> tuple[EyeLayers, EyeLayers]:
    """Both eyes of a photo, the subject's right and left."""
    crop = head.cropped(head.photo)
    centres = head.view.project(head.view.to_camera(head.source_eyes[None]))[0].numpy()
    usual = IRIS_MM * head.scale
    found = []
    for eye, centre in zip(head.lids, centres, strict=True):
        opening = opening_of(eye, head.inner)
        high = float(np.polyval(eye.lower, eye.centre[0]) - np.polyval(eye.upper, eye.centre[0]))
        small = eye.width * head.native < SMALLEST
        iris = None if small or high < _OPEN * eye.width else find_iris(crop[..., 0], opening, eye, usual)
        found.append((eye, opening, iris, centre))
    irises = _alike([f[2] for f in found], centres, _SQUINT * usual)
    right, left = (
        _layers(head, crop, eye, opening, iris, centre, usual)
        for (eye, opening, _, centre), iris in zip(found, irises, strict=True)
    )
    return right, left


def _alike(irises: list[Iris | None], centres: Floats, most: float) -> list[Iris | None]:
    """Both eyes of a person have one size and look one way: the clearer iris corrects the other.

    Args:
        irises: of the right and the left eye.
        centres: (2, 2), of the eyeballs, pixels.
        most: pixels by which their places beside the eyeballs may differ.
    """
    first, second = irises
    if first is None or second is None:
        return irises
    radius = 0.5 * (first.radius + second.radius)
    pair = [replace(first, radius=radius), replace(second, radius=radius)]
    places = np.array([[iris.x, iris.y] for iris in pair]) - centres
    if np.abs(places[0] - places[1]).max() > most:
        clear = int(pair[1].contrast > pair[0].contrast)
        x, y = places[clear] + centres[1 - clear]
        pair[1 - clear] = replace(pair[1 - clear], x=float(x), y=float(y))
    return [*pair]


def _layers(
    head: PhotoHead, crop: Floats, eye: Eye, opening: Mask, iris: Iris | None, centre: Floats, usual: float
) -> EyeLayers:
    reach = 0.62 * eye.width
    left, right = (int(np.clip(eye.centre[0] + s * reach, 0, head.inner)) for s in (-1, 1))
    top, bottom = (int(np.clip(eye.centre[1] + s * 0.8 * reach, 0, head.inner)) for s in (-1, 1))
    part = crop[top:bottom, left:right]
    y, x = np.mgrid[top:bottom, left:right].astype(np.float32)
    if iris is None:
        iris = Iris(float(eye.centre[0]), float(eye.centre[1]), usual, 0.0)
        sclera, disc = _invented(head.light, x, y, iris)
        axis = np.array([0.0, 0.0, 1.0], np.float32)
        return EyeLayers(left, top, sclera, disc, np.zeros_like(disc), iris, axis, False)
    inside = clear_of(eye, head)[top:bottom, left:right]
    away = np.hypot(x - iris.x, y - iris.y) / iris.radius
    white = inside & (away > 1.18)
    if white.sum() < 12:
        white = opening[top:bottom, left:right] & (away > 1.1)
    if white.sum() >= 4:
        bright = part.mean(-1)
        white &= bright > _WHITE * np.median(bright[white])  # no lashes, no make-up
    if white.sum() < 4:
        sclera = _invented(head.light, x, y, iris)[0]
    else:
        sclera = fill(part.astype(np.float32), white)
    disc, spark = _completed(part, inside, away, x, y, iris)
    raised = head.view.rotation[0, :2, 1].numpy() * HIGHER_MM / LIMBUS_MM
    offset = np.array([iris.x - centre[0], -(iris.y - centre[1])], np.float32) / (head.scale * LIMBUS_MM) - raised
    offset *= min(1.0, 0.5 / max(float(np.linalg.norm(offset)), 1e-6))
    axis = np.array([*offset, np.sqrt(1 - float(offset @ offset))], np.float32)
    return EyeLayers(left, top, sclera, disc, spark, iris, axis, True)


def _completed(part: Floats, inside: Mask, away: Floats, x: Floats, y: Floats, iris: Iris) -> tuple[Floats, Floats]:
    """The whole iris without reflections, and the reflections."""
    seen = inside & (away < 1.25)
    rings = np.linspace(0, 1.25, 14)
    ring = np.clip(np.digitize(away, rings) - 1, 0, len(rings) - 2)
    profile = np.full((len(rings) - 1, 3), np.nan, np.float32)
    for k in range(len(profile)):
        pixels = part[seen & (ring == k)]
        if len(pixels) >= 3:
            profile[k] = np.median(pixels, 0)
    known = np.flatnonzero(np.isfinite(profile[:, 0]))
    middle = 0.5 * (rings[:-1] + rings[1:])
    usual = np.stack([np.interp(away, middle[known], profile[known, c]) for c in range(3)], -1).astype(np.float32)
    excess = (part - usual).max(-1)
    bright = seen & (excess > _SPARK) & (away < 0.95)
    spark = np.where(bright[..., None], np.clip(part - usual, 0, None), 0).astype(np.float32)
    mirrored = sample(part, x - x[0, 0], 2 * iris.y - y - y[0, 0], LINEAR)  # the lower half shows what the lid hides
    below = sample((seen & ~bright).astype(np.float32), x - x[0, 0], 2 * iris.y - y - y[0, 0], LINEAR)[..., None]
    hidden = mirrored * below + usual * (1 - below)
    ok = (seen & ~bright).astype(np.float32)
    soft = _soft(ok)[..., None] * ok[..., None]
    return (part * soft + hidden * (1 - soft)).astype(np.float32), _soft(spark)


def _soft(picture: Floats) -> Floats:
    import cv2

    return np.asarray(cv2.GaussianBlur(picture, (0, 0), 0.8), np.float32)


def _invented(light: Light, x: Floats, y: Floats, iris: Iris) -> tuple[Floats, Floats]:
    """Sclera and a brown iris as the renderer draws them, in the photo's light."""
    level = np.clip(light.level / 0.35, 0.25, 1.6)
    tint = light.skin / max(light.level, 1e-3) / np.array([1.39, 0.86, 0.69], np.float32)
    sclera = np.broadcast_to(_SCLERA * level * np.sqrt(np.clip(tint, 0.6, 1.6)), (*x.shape, 3))
    away = np.hypot(x - iris.x, y - iris.y) / iris.radius
    around = np.arctan2(y - iris.y, x - iris.x)
    streaks = 1.1 + 0.2 * np.sin(17 * around) + 0.12 * np.sin(31 * around + 1.0)
    limbus = 1 - 0.7 * np.exp(-(((away - 0.93) / 0.12) ** 2))
    pupil = smooth(away, _PUPIL - 0.04, _PUPIL + 0.04)
    colour = _BROWN * level * (streaks * limbus * pupil)[..., None]
    return display(sclera.astype(np.float32)), display(colour.astype(np.float32))


def own_gaze(eyes: tuple[EyeLayers, EyeLayers], rotation: torch.Tensor) -> tuple[float, float]:
    """Where the photo's eyes look beside the head, degrees to the subject's left and upwards.

    Args:
        eyes: see :func:`take_apart`.
        rotation: (3, 3), head axes to camera axes.
    """
    axes = np.stack([eye.axis for eye in eyes]) @ rotation.numpy()
    x, y, z = axes.mean(0)
    return float(np.degrees(np.arctan2(x, z))), float(np.degrees(np.arctan2(y, np.hypot(x, z))))


def turned(axis: Floats, rotation: torch.Tensor, gaze: tuple[float, float]) -> Floats:
    """An axis (3,), camera axes, after the eye has turned by ``gaze`` degrees in the head."""
    side, up = np.radians(gaze)
    x, y, z = axis @ rotation.numpy()
    yaw, pitch = np.arctan2(x, z) + side, np.arctan2(y, np.hypot(x, z)) + up
    there = np.array([np.sin(yaw) * np.cos(pitch), np.sin(pitch), np.cos(yaw) * np.cos(pitch)])
    return (rotation.numpy() @ there).astype(np.float32)


def composed(eye: EyeLayers, axis: Floats, scale: float) -> Floats:
    """The eye without lids, looking along ``axis``: float32 (H, W, 3), grey levels.

    Args:
        eye: taken apart.
        axis: (3,), unit, camera axes.
        scale: pixels a mm.
    """
    height, width = eye.sclera.shape[:2]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    shift = (axis[:2] - eye.axis[:2]) * (LIMBUS_MM * scale)
    dx, dy = x + eye.left - eye.iris.x - shift[0], y + eye.top - eye.iris.y + shift[1]
    dx, dy = _stretched(dx, dy, axis, 1.0 / max(float(axis[2]), 0.5))
    dx, dy = _stretched(dx, dy, eye.axis, max(float(eye.axis[2]), 0.5))
    away = (np.hypot(dx, dy) / eye.iris.radius).astype(np.float32)
    disc = sample(eye.disc, dx + eye.iris.x - eye.left, dy + eye.iris.y - eye.top)
    blur = max(0.05, 0.9 / eye.iris.radius)
    share = (1 - smooth(away, 1.0 - blur, 1.0 + 2 * blur))[..., None]
    return (eye.sclera * (1 - share) + disc * share + eye.spark).astype(np.float32)


def _stretched(dx: Floats, dy: Floats, axis: Floats, factor: float) -> tuple[Floats, Floats]:
    """Offsets stretched along the direction in which a disc that looks along ``axis`` is foreshortened."""
    length = float(np.hypot(axis[0], axis[1]))
    if length < 1e-4:
        return dx, dy
    ux, uy = axis[0] / length, -axis[1] / length
    along = (dx * ux + dy * uy) * (factor - 1)
    return dx + along * ux, dy + along * uy


def draw(state: State, colour: Floats) -> Floats:
    """Grey levels with the eyes where they look now, whatever the lids have done: float32 (S, S, 3)."""
    import cv2

    head = state.head
    if not state.ball.any():
        return colour
    looks = max(abs(g) for g in state.gaze) > 0.05
    moved = np.maximum(np.abs(state.eye_x - state.x), np.abs(state.eye_y - state.y))
    changed = state.ball if looks else state.ball & (moved > 0.25)
    if not changed.any():
        return colour
    out = colour.copy()
    edge = cv2.distanceTransform(state.ball.astype(np.uint8), cv2.DIST_L2, 5) / head.scale
    for k, (eye, lids) in enumerate(zip(head.eyes, head.lids, strict=True)):
        middle = state.landmarks_xy[[36, 42][k] : [40, 46][k], 0]
        rows, columns = np.nonzero(changed)
        mine = np.abs(columns - middle.mean()) < 1.2 * max(np.ptp(middle), 1.0)
        rows, columns = rows[mine], columns[mine]
        if not len(rows) or (not looks and not eye.own):
            continue
        x, y = state.eye_x[rows, columns], state.eye_y[rows, columns]
        picture = composed(eye, turned(eye.axis, head.view.rotation[0], state.gaze), head.scale)
        drawn = _at(picture, x - eye.left, y - eye.top)
        drawn = drawn * (1 - _SHADE * np.exp(-edge[rows, columns] / _SHADE_MM))[:, None]
        if not looks:  # the photo's own pixels, where it shows them
            photo = _at(head.photo, x + head.pad, y + head.pad)
            known = _at(_soft(clear_of(lids, head).astype(np.float32)), x, y)
            drawn = photo * known + drawn * (1 - known)
        share = smooth(edge[rows, columns].astype(np.float32), 0.1, 0.1 + _MARGIN_MM)[:, None]
        if not looks:
            share = share * smooth(moved[rows, columns], 0.25, 1.2)[:, None]
        out[rows, columns] = out[rows, columns] * (1 - share) + drawn * share
    return out


def _at(picture: Floats, x: Floats, y: Floats) -> Floats:
    """Values (N, C) of a picture (H, W, C) at N places."""
    return sample(picture, x[None], y[None])[0].reshape(len(x), -1)


def doubts(head: PhotoHead) -> list[str]:
    """What is a guess where eyes look elsewhere than in the photo."""
    if head.glasses is not None:
        return ["glasses cover the eyes, which look elsewhere than in the photo"]
    pixels = min(eye.width for eye in head.lids) * head.native
    if pixels < SMALLEST:
        return [f"the photo's eyes are {pixels:.0f} pixels wide: their irises are invented"]
    if not all(eye.own for eye in head.eyes):
        return ["the photo does not show both irises: the eyes that look elsewhere are invented"]
    return []
