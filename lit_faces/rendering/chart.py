"""The chart of the parametric head: where everything is on the mean face, in millimetres.

Object space: origin at the nasion (the root of the nose), +x the subject's left, +y up, +z out of the face.
The chart is cylindrical, (azimuth, height), sampled densely where the face is.  It shows the head with *open* lids and
a *slightly open* mouth, so that lids and lips are lines of the chart, and closing them is a displacement:

    (u, v) in [-1, 1]^2  ->  azimuth, chart height  ->  neutral position (x, y, z), mouth closed

Proportions are anthropometric: cross-sections and feature heights were set from figures (mm) measured on the mean of
the ICT-FaceKit scans (widths, depths, landmark positions); no mesh is copied.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

from lit_faces.rendering import resting

Array = NDArray[np.float64]

AXIS_Z = -95.0  # the chart's axis lies this far behind the nasion
MAX_AZIMUTH = np.deg2rad(150.0)

# --- radius of the head about its axis (mm): rows are heights, columns azimuths.  Nose, lips and lids come on top.
_AZIMUTHS = np.deg2rad([0.0, 20.0, 40.0, 60.0, 75.0, 90.0, 120.0, 150.0])
_RADII: dict[float, tuple[float, ...]] = {
    110.0: (3, 3, 3, 3, 3, 3, 4, 5),
    106.0: (23, 23, 23, 24, 26, 28, 36, 44),
    98.0: (42, 42, 42, 43, 45, 47, 58, 68),
    80.0: (68, 68, 66, 64, 63, 63, 72, 82),
    60.0: (84, 84, 82, 78, 75, 74, 85, 92),
    40.0: (92, 92.5, 90, 85, 80, 78, 90, 97),
    22.0: (95, 95.5, 93, 86, 80, 79, 90, 98),
    8.0: (95, 92, 91.5, 85, 79.5, 77, 88, 97),
    -6.0: (94, 88, 90.5, 84.5, 79, 76, 86, 95),
    -20.0: (95.5, 89, 91.5, 86, 79, 75.5, 84, 92),
    -40.0: (97.5, 94, 93.5, 84, 77.5, 74, 80, 88),
    -60.0: (101.5, 96.8, 89.5, 80, 75.5, 72, 76, 84),
    -78.0: (100.5, 94, 85.5, 75.5, 69, 66, 72, 80),
    -90.0: (97, 90, 81, 71, 65, 62, 68, 76),
    -102.0: (98, 87.5, 75, 63, 58, 57, 65, 74),
    -111.0: (94.5, 83, 67, 55, 53, 54.5, 64, 73),
    -118.0: (84, 72, 57, 50, 50.5, 53, 63, 73),
    -128.0: (52, 49, 46, 47, 50, 54, 64, 74),
    -150.0: (38, 39.5, 43, 49, 55, 60, 72, 82),
    -172.0: (34, 38, 50, 68, 86, 98, 104, 106),
    -215.0: (62, 72, 104, 150, 176, 180, 150, 130),
}

# rows: chart height (mm) against v; most rows go to the face
_ROW_KNOTS = ((-1.0, 109.9), (-0.86, 84.0), (-0.66, 52.0), (0.0, -33.0), (0.70, -118.0), (0.9, -160.0), (1.0, -214.0))

# --- eyes (mm, on the subject's left; mirrored for the right)
EYE_CENTRE = (31.5, resting.CORNERS + resting.EYE_RISE, -27.2)
EYEBALL_RADIUS = 14.4
LID_RADIUS = 15.9
EYE_HALF_WIDTH = 13.3

# --- mouth
MOUTH_HALF_WIDTH = 25.5
MOUTH_GAP = 3.0  # half height of the chart's mouth opening in the middle


def azimuth_of(u: Array) -> Array:
    """Azimuth (radians) of chart column ``u`` in [-1, 1]."""
    a = np.abs(u)
    return np.sign(u) * MAX_AZIMUTH * (0.42 * a + 0.12 * a**2 + 0.46 * a**4)


def chart_height(v: Array) -> Array:
    """Chart height (mm) of row ``v`` in [-1, 1], -1 = top."""
    knots = np.array(_ROW_KNOTS)
    return PchipInterpolator(knots[:, 0], knots[:, 1])(v)


def _radius(azimuth: Array, y: Array) -> Array:
    """Radius of the bare head, (H, W) from azimuth (H, W) and y (H, W)."""
    heights = np.array(sorted(_RADII))
    table = np.array([_RADII[h] for h in heights])
    profile = PchipInterpolator(heights, table, axis=0)(np.clip(y, heights[0], heights[-1]))  # (H, W, 8)
    sides = np.abs(azimuth)
    # cubic along the azimuth, symmetric about 0
    angles = np.concatenate([-_AZIMUTHS[3:0:-1], _AZIMUTHS])
    flat = profile.reshape(-1, len(_AZIMUTHS))
    full = np.concatenate([flat[:, 3:0:-1], flat], axis=1)
    out = np.empty(len(flat))
    index = np.clip(np.searchsorted(angles, sides.reshape(-1), side="right") - 1, 1, len(angles) - 3)
    t = (sides.reshape(-1) - angles[index]) / (angles[index + 1] - angles[index])
    rows = np.arange(len(flat))
    p0, p1, p2, p3 = (full[rows, index + k] for k in (-1, 0, 1, 2))
    h0, h1, h2 = (angles[index + k + 1] - angles[index + k] for k in (-1, 0, 1))
    m1 = h1 * ((p2 - p1) / h1 * h0 + (p1 - p0) / h0 * h1) / (h0 + h1)
    m2 = h1 * ((p3 - p2) / h2 * h1 + (p2 - p1) / h1 * h2) / (h1 + h2)
    out = (2 * t**3 - 3 * t**2 + 1) * p1 + (t**3 - 2 * t**2 + t) * m1 + (-2 * t**3 + 3 * t**2) * p2 + (t**3 - t**2) * m2
    return out.reshape(y.shape)


def gauss(x: Array, y: Array, cx: float, cy: float, sx: float, sy: float) -> Array:
    """``exp(-((x-cx)/sx)^2/2 - ((y-cy)/sy)^2/2)``."""
    return np.exp(-0.5 * ((x - cx) / sx) ** 2 - 0.5 * ((y - cy) / sy) ** 2)


def smoothstep(x: Array, low: float, high: float) -> Array:
    """0 below ``low``, 1 above ``high``, smooth between (``low > high`` falls)."""
    t = np.clip((x - low) / (high - low), 0.0, 1.0)
    return t * t * (3 - 2 * t)


def seam(x: Array) -> Array:
    """Height of the closed mouth's line."""
    return -70.9 - 1.7 * np.clip(np.abs(x) / 24.0, 0, 1.3) ** 2


def mouth_gap(x: Array) -> Array:
    """Half height of the mouth's opening in the chart."""
    return MOUTH_GAP * np.clip(1 - (x / (MOUTH_HALF_WIDTH - 1.0)) ** 2, 0, 1) ** 0.6


def upper_lip_edge(x: Array) -> Array:
    """Upper border of the red of the lips, mouth closed."""
    body = np.clip(1 - (x / MOUTH_HALF_WIDTH) ** 2, 0, 1) ** 0.8
    return seam(x) + 8.8 * body - 1.0 * np.exp(-((x / 3.3) ** 2))


def lower_lip_edge(x: Array) -> Array:
    """Lower border of the red of the lips, mouth closed."""
    return seam(x) - 10.2 * np.clip(1 - (x / MOUTH_HALF_WIDTH) ** 2, 0, 1) ** 0.9


def lid_lines(x: Array) -> tuple[Array, Array, Array]:
    """Upper lid, lower lid (mm) and s in [-1, 1] from the inner to the outer corner, at |x|."""
    s = (np.abs(x) - EYE_CENTRE[0]) / EYE_HALF_WIDTH
    body = np.clip(1 - s**2, 0, 1)
    corner = resting.CORNERS + resting.CORNER_RISE * s
    arc = body**resting.LID_POWER
    return corner + resting.LID_UPPER * arc, corner - resting.LID_LOWER * arc, s


#: Broad corrections of the depth (mm): |x|, y, widths, height; fitted once to depths measured on the mean scanned face.
SCULPT: tuple[tuple[float, float, float, float, float], ...] = (
    (17.1, -33.6, 8.0, 26.0, -5.07), (63.9, -72.3, 16.6, 26.0, -9.00), (11.1, -45.0, 4.0, 4.0, -5.07),
    (61.2, 46.2, 14.5, 26.0, -9.00), (44.5, -109.5, 10.9, 8.4, -9.00), (9.0, -58.1, 8.5, 4.7, 4.66),
    (15.1, -34.9, 4.9, 4.0, 5.20), (13.0, -3.9, 4.7, 6.0, -5.73), (38.1, 12.9, 15.5, 5.3, 3.66),
    (10.5, -43.5, 4.0, 4.0, -1.61), (67.1, 10.7, 6.2, 26.0, -9.00), (69.4, -47.6, 4.0, 11.1, -9.00),
    (8.2, -86.5, 10.1, 4.0, 3.49), (37.1, -24.3, 10.3, 8.4, 2.05), (7.4, -49.9, 4.0, 4.0, 1.10),
    (18.5, -75.4, 4.0, 4.0, -1.79), (-2.2, -26.1, 4.0, 14.4, -2.57), (28.8, -69.9, 4.0, 4.0, 1.78),
    (31.9, -56.4, 4.3, 5.9, -1.83), (18.7, -39.8, 4.0, 4.0, 1.20), (13.8, -46.0, 4.0, 4.0, -0.86),
    (31.6, -115.7, 4.2, 4.0, -9.00), (19.6, -32.0, 4.0, 4.0, -1.58), (43.3, 72.5, 26.0, 20.2, -3.84),
    (7.9, -30.8, 4.0, 4.0, 1.07), (1.1, -75.3, 4.0, 4.0, -0.91), (53.4, -8.6, 4.1, 4.4, -3.86),
    (7.1, -19.6, 4.5, 4.0, -0.77),
)  # fmt: skip


@dataclass
class Chart:
    """The chart sampled on an (H, W) grid; every field is float64 (H, W).

    Attributes:
        x, y, z: neutral position on the mean head, mouth closed, mm.
        azimuth: radians.
        mouth: position in the mouth's opening: -1 at the lower lip, +1 at the upper, beyond outside of it.
        mouth_inside: 1 inside the opening.
        eye_inside: 1 on the eyeball.
        upper: weight of what moves with the upper lip (1) and not with the lower (0).
    """

    x: Array
    y: Array
    z: Array
    azimuth: Array
    mouth: Array
    mouth_inside: Array
    eye_inside: Array
    upper: Array


def _nose(x: Array, y: Array) -> Array:
    """Height of the nose over the bare face (mm)."""
    heights = np.array([6.0, 0.0, -10.0, -20.0, -30.0, -36.0, -41.0, -45.0, -48.5, -52.0, -60.0])
    ridge = PchipInterpolator(
        heights[::-1], np.array([0.3, 1.5, 9.2, 16.8, 21.8, 23.0, 20.5, 13.5, 6.0, 2.0, 0.0])[::-1]
    )
    width = PchipInterpolator(
        heights[::-1], np.array([8.0, 8.5, 10.5, 13.0, 15.2, 15.5, 15.0, 14.5, 13.5, 12.0, 10.0])[::-1]
    )
    power = PchipInterpolator(heights[::-1], np.array([2.0, 2.0, 2.1, 2.3, 2.5, 2.5, 2.4, 2.3, 2.2, 2.0, 2.0])[::-1])
    inside = (y < 6.0) & (y > -60.0)
    yy = np.clip(y, -60.0, 6.0)
    body = ridge(yy) * np.exp(-((np.abs(x) / width(yy)) ** power(yy)))
    wings = 7.0 * gauss(np.abs(x), y, 14.0, -43.0, 3.9, 4.6) + 1.5 * gauss(x, y, 0, -37.0, 6.0, 5.0)
    groove = -1.8 * gauss(np.abs(x), y, 20.5, -42.5, 2.4, 6.0)
    nostrils = -3.0 * gauss(np.abs(x), y, 7.0, -47.8, 2.6, 1.8)
    return np.where(inside, body + wings + groove + nostrils, 0.0)


def _lips(x: Array, y: Array) -> Array:
    """Height of the lips and the chin over the bare face (mm)."""
    taper = np.clip(1 - (x / 27.0) ** 2, 0, 1)
    line = y - seam(x)
    upper = 4.6 * taper**0.9 * np.exp(-(((line - 5.2) / 4.0) ** 2))
    lower = 5.2 * taper**0.9 * np.exp(-(((line + 5.6) / 4.3) ** 2))
    groove = -3.4 * taper * np.exp(-((line / 1.7) ** 2))
    philtrum = -0.9 * gauss(x, y, 0, -56.5, 2.6, 4.5) + 0.8 * gauss(np.abs(x), y, 5.4, -57.0, 1.8, 4.6)
    sulcus = -3.0 * gauss(x, y, 0, -88.5, 15.0, 3.8)
    chin = 2.2 * gauss(x, y, 0, -101.5, 12.0, 7.0)
    corners = -3.5 * gauss(np.abs(x), y, 26.5, -72.5, 4.0, 4.5)
    return upper + lower + groove + philtrum + sulcus + chin + corners


def _eyes(x: Array, y: Array, z: Array) -> Array:
    """Blend the bare face into the lids and the eyeballs; returns the new z."""
    dx, dy = np.abs(x) - EYE_CENTRE[0], y - EYE_CENTRE[1]
    square = dx**2 + dy**2
    ball = EYE_CENTRE[2] + np.sqrt(np.clip(EYEBALL_RADIUS**2 - square, 0, None))
    lid = EYE_CENTRE[2] + np.sqrt(np.clip(LID_RADIUS**2 - square, 0, None))
    top, bottom, s = lid_lines(x)
    inside = (np.abs(s) < 1) * smoothstep(np.minimum(top - y, y - bottom), -0.6, 0.6)
    near = smoothstep(np.sqrt((dx / 19.0) ** 2 + ((dy - 0.5) / 13.0) ** 2), 1.05, 0.45)
    socket = -3.2 * gauss(np.abs(x), y, 24.0, 9.5, 11.0, 4.2) - 1.6 * gauss(np.abs(x), y, 34.0, -16.0, 13.0, 5.0)
    inner = -2.5 * gauss(np.abs(x), y, 15.0, -1.0, 3.6, 7.0)
    skin = z + socket + inner
    skin = skin * (1 - near) + lid * near
    return skin * (1 - inside) + ball * inside


def build_chart(height: int, width: int) -> Chart:
    """Sample the chart at ``height`` rows and ``width`` columns (corner to corner)."""
    u, v = np.meshgrid(np.linspace(-1, 1, width), np.linspace(-1, 1, height))
    azimuth, row = azimuth_of(u), chart_height(v)
    radius = _radius(azimuth, row)
    x = radius * np.sin(azimuth)
    front = smoothstep(np.cos(azimuth), 0.1, 0.5)
    # close the mouth: the chart's opening collapses onto the seam
    line, gap = row - seam(x), mouth_gap(x) * front
    mouth = np.where(gap > 1e-6, line / np.maximum(gap, 1e-6), np.sign(line) * 9.0)
    outside = np.sign(line) * np.maximum(np.abs(line) - gap * np.exp(-np.clip(np.abs(line) - gap, 0, None) / 5.0), 0.0)
    inside = (np.abs(mouth) < 1) & (gap > 0.02)
    y = seam(x) + np.where(inside, 0.02 * line, outside)
    y = np.where(np.abs(line) > 40, row, y)
    z = _radius(azimuth, y) * np.cos(azimuth) + AXIS_Z
    x = _radius(azimuth, y) * np.sin(azimuth)
    z = z + front * (
        _nose(x, y) + _lips(x, y) + sum(h * gauss(np.abs(x), y, cx, cy, sx, sy) for cx, cy, sx, sy, h in SCULPT)
    )
    z = np.where(front > 0.5, _eyes(x, y, z), z)
    # ears: a flap at the side
    ear = gauss(np.rad2deg(np.abs(azimuth)), y, 99.0, -17.0, 7.5, 17.0)
    x = x + np.sign(x) * 17.0 * smoothstep(ear, 0.12, 0.75)
    z = z - 6.0 * smoothstep(ear, 0.12, 0.75)
    top, bottom, s = lid_lines(x)
    eye = (np.abs(s) < 1) * smoothstep(np.minimum(top - y, y - bottom), -0.35, 0.35) * (front > 0.5)
    softness = 1.2 + 0.55 * np.clip(np.abs(x) - 17.0, 0, None)
    free = 1.0 / (1.0 + np.exp(-np.clip(line / softness, -30, 30)))
    upper = np.where(
        np.abs(x) < MOUTH_HALF_WIDTH - 1.2, np.where(inside, 0.5 + 0.5 * mouth, (line > 0).astype(float)), free
    )
    blend = smoothstep(np.abs(x), 17.0, 24.0)
    upper = upper * (1 - blend) + free * blend * (~inside) + upper * blend * inside
    return Chart(x, y, z, azimuth, mouth, inside.astype(float), eye, upper)
