"""What each Action Unit does to the surface: muscle-like displacement of the chart, jaw rotation and lid motion.

A field is a Gaussian on the neutral face, written for the subject's left side and mirrored: centre and widths (mm),
displacement at intensity 5 (mm, x away from the midline), and which lip it belongs to.  Directions and sizes follow the
muscles; amplitudes are calibrated once (``GAIN``) so that the 68 landmarks move as far as on scanned faces
(mean displacement per AU measured on ICT-FaceKit, see docs/rendering.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lit_faces.core.facs import AU_INDEX, NUM_AUS
from lit_faces.rendering import resting
from lit_faces.rendering.chart import Chart, gauss, lid_lines, smoothstep

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Field:
    """One displacement field; ``lip``: "a" moves all, "u" only what hangs on the upper lip, "l" on the lower."""

    cx: float
    cy: float
    sx: float
    sy: float
    dx: float
    dy: float
    dz: float
    lip: Literal["a", "u", "l"] = "a"


F = Field
FIELDS: dict[int, tuple[Field, ...]] = {
    1: (F(16.6, 14.2, 7.0, 7.1, 0.4, 3.8, 0.8), F(24.3, 30.3, 18.0, 13.7, 0.4, 4.8, -1.0), F(0, 2.0, 9.5, 17.3, 0, 3.4, 0), F(22.8, 75, 23.5, 30, 0.1, -1.5, 1.9)),
    2: (F(50.9, 13.9, 7.2, 9.1, 0.6, 3.7, -2.5), F(61.1, -2.8, 11.7, 16.3, 0, 2.1, 0.4), F(38.6, 30.3, 15.1, 11.0, 2.4, 6.7, -2.1), F(26.7, 16.2, 13.3, 6.2, 0.7, 4.6, 0)),
    4: (F(34.4, 24.4, 15.1, 11.3, -4.4, -4.1, 2.3), F(16.9, 14.9, 7.2, 5.2, -1.5, -1.3, 0.8), F(0, 19.1, 8.8, 12.8, 0, -0.4, 0.6), F(38.1, 55.8, 27.8, 13.8, -0.5, -1.6, 1.2), F(58.3, 22.3, 13.8, 20.4, -0.9, 0.5, 2.3)),
    5: (),
    6: (F(50, -32, 15, 16, -0.9, 5.4, 4.4), F(45, -64, 15, 18, 0.9, 3.0, 0.9), F(34, -17, 14, 6, -0.5, 1.6, 2.2), F(55, -2, 8, 9, -0.6, -0.3, 1.6), F(12, -62, 12, 9, 0.5, 0.2, -1.1), F(46, 22, 18, 12, 0, -1.0, -0.2)),
    7: (F(31, -16, 13, 6, -1.6, 1.4, 0.9), F(42, -24, 12, 9, -0.6, 0.9, 0.3)),
    9: (F(28, -38, 17, 20, -1.2, 9.0, 2.6, "u"), F(4, -60, 13, 11, 0, 5.0, -0.6, "u"), F(15, 19, 14, 11, -0.9, -3.3, 0.2), F(0, 12, 7, 9, 0, -0.8, 0.7), F(10, -14, 6, 7, -0.4, 1.5, 1.3)),
    10: (F(8, -63, 13, 8, 0, 4.6, 0.4, "u"), F(27, -47, 9, 10, 0.3, 1.8, 1.8, "u")),
    12: (F(28, -70, 13, 14, 9.0, 7.0, -7.2), F(0, -68, 13, 9, 0, 1.2, -1.0, "u"), F(47, -42, 15, 16, 3.0, 4.0, 4.8), F(0, -99, 26, 13, 0, 0.6, 0.4), F(40, -18, 17, 8, 0.4, 1.4, 0.9)),
    14: (F(26, -73, 8, 9, 0.8, 2.0, -6.2), F(42, -56, 11, 15, 1.8, 0.6, 4.2), F(18, -89, 14, 10, 2.0, 3.6, -1.8), F(0, -96, 14, 10, 0, 1.2, -1.6)),
    15: (F(28, -70, 11, 11, 1.5, -5.2, -2.0), F(7, -62, 12, 8, 0.3, -1.1, -0.7, "u"), F(34, -86, 9, 9, 0.8, -1.2, 2.0), F(0, -101, 22, 13, 0, 0.8, 1.4)),
    17: (F(0, -99, 16, 13, 0, 10.0, 3.0, "l"), F(0, -77, 14, 6, 0, 1.0, 4.4, "l"), F(24, -90, 11, 14, -0.9, 2.2, 2.0), F(0, -112, 12, 7, 0, 1.0, 3.2), F(0, -64, 16, 7, 0, 0.8, 0.5, "u")),
    20: (F(28, -74, 14, 12, 6.4, -2.2, -6.4), F(10, -66, 11, 9, 2.2, -0.6, -1.6), F(47, -68, 12, 16, 2.4, 0.6, 0.8), F(0, -95, 14, 9, 0, 1.8, 0.4)),
    23: (F(10, -64, 9, 5, -0.9, -1.3, -1.4, "u"), F(10, -77, 9, 5, -0.9, 1.4, -1.2, "l"), F(24, -72, 7, 7, -2.6, 0.1, 0.8), F(0, -56, 16, 6, 0, 0, 1.1, "u"), F(0, -88, 15, 5, 0, 0.5, 1.2, "l")),
    24: (F(9, -63, 14, 6, -0.6, -1.6, -0.9, "u"), F(7, -78, 14, 7, -0.2, 2.9, 1.2, "l"), F(0, -103, 18, 12, 0, 4.2, 1.8, "l"), F(32, -66, 9, 14, 0.9, 0.9, 1.5)),
    25: (F(0, -66, 15, 6, 0, 1.3, 0.2, "u"), F(0, -75, 15, 8, 0, -3.4, -0.4, "l")),
    26: (F(41, -74, 12, 14, -1.8, 1.0, -2.0),),
    27: (F(41, -74, 12, 14, -4.6, 2.6, -5.0), F(0, -64, 16, 8, 0, 0.8, 0.2, "u")),
    43: (F(30, 9, 15, 6, -0.3, -1.6, 0.3),),
}  # fmt: skip

#: Upper and lower lid travel (mm, up is positive) and jaw opening (radians) at intensity 5.
UPPER_LID = {5: 4.4, 7: -0.9, 6: -0.5, 9: -0.5, 43: -13.0}
LOWER_LID = {5: -0.3, 6: 2.0, 7: 2.7, 9: 0.9, 12: 0.5, 43: 0.5}
JAW = {26: 0.113, 27: 0.283}
JAW_PIVOT = (0.0, -19.4, -111.4)

#: Non-additive pairs: gain on the product of both activations, applied to the first AU's fields.
INTERACTIONS: tuple[tuple[int, int, float], ...] = ((6, 12, -0.35), (17, 15, -0.25), (4, 9, -0.4), (20, 12, -0.5), (1, 4, -0.25), (10, 9, -0.5), (10, 12, -0.3), (17, 26, -0.3), (17, 27, -0.5), (25, 24, -0.8), (14, 12, -0.4))  # fmt: skip
LID_INTERACTIONS: tuple[tuple[int, int, float], ...] = ((4, 7, -0.8), (6, 12, -0.6))  # extra upper-lid travel (mm)

#: Measured once by ``python -m benchmarks.faces calibrate``: scanned displacement / ours, frozen.
GAIN: dict[int, float] = {
    6: 1.2,
    9: 1.2,
    10: 0.95,
    12: 1.08,
    14: 1.4,
    15: 1.0,
    17: 1.5,
    24: 1.1,
}


def follow(chart: Chart, lip: str) -> Array:
    """Share of a field that each chart point follows: all, what hangs on the upper lip, or on the lower."""
    if lip == "a":
        return np.ones_like(chart.x)
    return chart.upper if lip == "u" else 1.0 - chart.upper


def field_basis(chart: Chart) -> tuple[Array, Array]:
    """Displacement of every chart point, mm, at intensity 5: (19, H, W, 3) for the right side, the same for the left.

    A field of the midline counts half on each side.
    """
    right = np.zeros((NUM_AUS, *chart.x.shape, 3))
    left = np.zeros_like(right)
    front = smoothstep(np.cos(chart.azimuth), -0.2, 0.3)
    for number, fields in FIELDS.items():
        for field in fields:
            lip = follow(chart, field.lip)
            for side, target in ((-1.0, right), (1.0, left)):
                weight = gauss(chart.x, chart.y, side * field.cx, field.cy, field.sx, field.sy) * lip * front
                if field.cx == 0:
                    weight = weight * 0.5
                target[AU_INDEX[number], ..., 0] += weight * side * field.dx
                target[AU_INDEX[number], ..., 1] += weight * field.dy
                target[AU_INDEX[number], ..., 2] += weight * field.dz
    # the skin slides over the eyeballs, it does not move them
    calm = 1.0 - eye_neighbourhood(chart)[..., None]
    for number, gain in GAIN.items():
        right[AU_INDEX[number]] *= gain
        left[AU_INDEX[number]] *= gain
    return right * calm, left * calm


def eye_neighbourhood(chart: Chart) -> Array:
    """1 on eyeball and lid margins, 0 from 5 mm outside (H, W)."""
    top, bottom, s = lid_lines(chart.x)
    distance = np.maximum(np.maximum(chart.y - top, bottom - chart.y), (np.abs(s) - 1.0) * 13.3)
    return np.where(np.cos(chart.azimuth) > 0, smoothstep(distance, 4.5, 0.5), 0.0)


def lid_basis(chart: Chart) -> tuple[Array, Array]:
    """Weight of the upper and the lower lid's travel (H, W) each, before the side is chosen.

    1 on the lid's margin; falls to 0 at the other margin and at the crease.
    """
    top, bottom, s = lid_lines(chart.x)
    height = np.maximum(top - bottom, 1e-3)
    lateral = np.clip(1 - s**2, 0, 1) ** resting.LID_POWER
    inside = np.clip((chart.y - bottom) / height, 0, 1)
    above = smoothstep(chart.y - top, 9.0, 0.0)
    below = smoothstep(bottom - chart.y, 11.0, 0.0)
    upper = np.where(chart.y > top, above, inside) * lateral
    lower = np.where(chart.y < bottom, below, 1 - inside) * lateral
    front = np.cos(chart.azimuth) > 0
    return upper * front, lower * front


def lid_sag(chart: Chart) -> Array:
    """Outward bow of a half-closed lid over the eyeball (H, W), mm at the margin."""
    return 1.4 * lid_basis(chart)[0]


#: Share of the jaw's rotation that skin follows: below the mouth by the distance from the midline, and beside the mouth
#: by the height, mm (read off the scanned head's open jaw about the pivot above).
_JAW_ACROSS = (
    (0.0, 15.0, 20.0, 27.0, 35.0, 45.0, 55.0, 65.0, 85.0),
    (1.03, 1.0, 0.96, 0.83, 0.68, 0.5, 0.39, 0.33, 0.2),
)
_JAW_DOWN = ((-100.0, -90.0, -78.0, -66.0, -55.0, -40.0, -20.0, 0.0), (1.0, 0.92, 0.7, 0.45, 0.27, 0.15, 0.05, 0.0))


def jaw_basis(chart: Chart) -> Array:
    """Share of the jaw's rotation that a chart point follows (H, W): 1 on chin and lower lip, nearly 0 on the upper."""
    radius = np.abs(chart.x)
    across = np.interp(radius, *_JAW_ACROSS)
    beside = across * np.interp(chart.y, *_JAW_DOWN)
    corner = smoothstep(radius, 14.0, 28.0)
    lower = across * (1 - corner) * smoothstep(chart.y, -60.0, -70.0) + beside * corner
    upper = 0.07 * gauss(chart.x, chart.y, 0, -66, 22, 9) + beside * smoothstep(radius, 5.0, 28.0)
    weight = lower + (upper - lower) * chart.upper
    neck = smoothstep(chart.y, -145.0, -116.0)
    return np.clip(weight * neck, 0, 1.05) * smoothstep(np.cos(chart.azimuth), 0.0, 0.4)


def visible_targets() -> dict[str, Array]:
    """Lid and jaw travel per AU at intensity 5, each (19,): ``upper_lid`` mm, ``lower_lid`` mm, ``jaw`` radians."""
    out = {name: np.zeros(NUM_AUS) for name in ("upper_lid", "lower_lid", "jaw")}
    for name, table in (("upper_lid", UPPER_LID), ("lower_lid", LOWER_LID), ("jaw", JAW)):
        for number, value in table.items():
            out[name][AU_INDEX[number]] = value
    return out
