"""Wrinkles, furrows and bulges of each Action Unit, drawn on the chart as height maps (mm).

Lines are written for the subject's left side and mirrored.  Which furrow belongs to which AU follows the appearance
changes of the FACS manual: crow's feet and the infraorbital furrow for AU6, the mentolabial furrow and the dimpled
("orange peel") chin for AU17, the nasolabial furrow for AU9, AU10 and AU12, and so on.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from lit_faces.rendering.chart import Chart, gauss, lid_lines

Array = NDArray[np.float64]
Point = tuple[float, float]


@dataclass(frozen=True)
class Line:
    """A furrow along ``points`` (mm), ``depth`` mm deep and ``width`` mm wide (standard deviation)."""

    points: tuple[Point, ...]
    depth: float
    width: float


def _fan(
    cx: float, cy: float, angles: tuple[float, ...], start: float, length: float, depth: float, width: float
) -> tuple[Line, ...]:
    lines = []
    for angle in angles:
        a = np.deg2rad(angle)
        points = tuple(
            (cx + r * np.cos(a), cy + r * np.sin(a) - 0.012 * (r - start) ** 2)
            for r in np.linspace(start, start + length, 4)
        )
        lines.append(Line(points, depth, width))
    return tuple(lines)


def _arc(x0: float, x1: float, y: float, rise: float, depth: float, width: float) -> Line:
    xs = np.linspace(x0, x1, 6)
    t = (xs - x0) / (x1 - x0)
    return Line(tuple((float(x), float(y + rise * 4 * s * (1 - s))) for x, s in zip(xs, t, strict=True)), depth, width)


LINES: dict[int, tuple[Line, ...]] = {
    1: (_arc(-2, 26, 37, 2.0, 0.8, 1.3), _arc(-2, 28, 46, 2.0, 0.9, 1.4), _arc(-2, 24, 55, 1.5, 0.7, 1.4)),
    2: (_arc(24, 60, 36, 5.0, 0.8, 1.3), _arc(22, 58, 45, 5.0, 0.8, 1.4), _arc(24, 54, 54, 4.0, 0.6, 1.4)),
    4: (Line(((4.6, 5), (5.2, 15), (6.0, 27)), 1.3, 1.2), Line(((9, 11), (11.5, 19), (12, 26)), 0.8, 1.2), _arc(-1, 7, 3.5, -0.5, 0.7, 1.0)),
    5: (_arc(20, 43, 7.0, 3.5, 0.6, 0.8),),
    6: (
        *_fan(46.0, -3.5, (34.0, 12.0, -10.0, -32.0), 4.0, 16.0, 1.5, 1.15),
        Line(((22, -12), (31, -15.5), (41, -14.0), (48, -9)), 1.3, 1.1),
        Line(((21, -18), (31, -22.0), (43, -21.0), (53, -14)), 1.2, 1.6),
        Line(((19, -40), (26, -50), (31, -60)), 0.5, 1.6),
    ),
    7: (Line(((20, -9.5), (31, -12.5), (41, -10.5)), 0.9, 0.9), *_fan(46.0, -3.5, (8.0, -12.0), 3.5, 7.0, 0.5, 0.9)),
    9: (
        Line(((3.5, -3), (7, -9), (10, -17)), 1.0, 1.0), Line(((7.5, -1), (10, -7), (13.5, -13)), 0.8, 1.0), _arc(-1, 6, -1.5, -0.4, 0.8, 0.9),
        Line(((16, -36), (23, -43), (30, -55)), 1.3, 1.5), Line(((18, -10), (24, -15), (33, -17)), 0.7, 1.1),
    ),
    10: (Line(((16.5, -37), (23, -44), (29, -54), (31, -61)), 1.2, 1.4),),
    12: (Line(((18, -40), (26, -50), (33, -62), (38, -76)), 1.6, 1.6), Line(((31, -68), (34, -74), (33, -81)), 0.8, 1.1), Line(((24, -15), (33, -18), (44, -16)), 0.35, 1.3)),
    14: (Line(((30.5, -63), (32, -71), (31, -79)), 1.8, 1.3),),
    15: (Line(((28.5, -75), (32, -82), (33, -92)), 1.3, 1.3), _arc(-2, 16, -89, 1.5, 0.5, 1.4)),
    17: (_arc(-3, 19, -88.5, -1.0, 1.9, 1.5), Line(((23, -84), (26, -92), (25, -101)), 0.6, 1.4)),
    20: (Line(((36, -58), (41, -70), (43, -84)), 0.9, 1.6), _arc(5, 20, -90, -1.5, 0.5, 1.3)),
    23: (Line(((6, -57.5), (6.4, -62)), 0.6, 0.7), Line(((12, -58.5), (12.8, -64)), 0.6, 0.7), Line(((7, -81.5), (7.4, -86)), 0.5, 0.7), _arc(-1, 17, -83.5, -1.2, 0.7, 1.0)),
    24: (_arc(-1, 19, -57.5, 0.5, 0.5, 1.4), _arc(-1, 17, -86.0, -1.0, 0.9, 1.3), Line(((28, -66), (30.5, -72), (30, -79)), 0.8, 1.1)),
    25: (),
    26: (Line(((19, -44), (28, -58), (34, -74)), 0.4, 1.8),),
    27: (Line(((19, -44), (29, -60), (36, -80)), 0.7, 1.8),),
    43: (Line(((21, 3.5), (31, 6.5), (42, 4.0)), -0.5, 1.6),),
}  # fmt: skip


def _distance(x: Array, y: Array, points: tuple[Point, ...]) -> tuple[Array, Array]:
    """Distance (mm) to a polyline and the position along it (0..1)."""
    best, along = np.full(x.shape, 1e9), np.zeros(x.shape)
    for k, ((ax, ay), (bx, by)) in enumerate(itertools.pairwise(points)):
        dx, dy = bx - ax, by - ay
        t = np.clip(((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy + 1e-9), 0, 1)
        d = np.hypot(x - ax - t * dx, y - ay - t * dy)
        closer = d < best
        best = np.where(closer, d, best)
        along = np.where(closer, (k + t) / (len(points) - 1), along)
    return best, along


def _jitter(line: Line, rng: np.random.Generator) -> Line:
    shift = rng.normal(0, 1.1, 2)
    points = tuple((px + shift[0] + rng.normal(0, 0.5), py + shift[1] + rng.normal(0, 0.5)) for px, py in line.points)
    return Line(points, line.depth * rng.uniform(0.55, 1.35), line.width * rng.uniform(1.05, 1.6))


def furrow(chart: Chart, line: Line, side: float) -> Array:
    """Height (mm) of one furrow with the small ridges beside it."""
    d, along = _distance(side * chart.x, chart.y, line.points)
    fade = np.clip(np.minimum(along, 1 - along) * 5.0 + 0.35, 0, 1)
    sharp = np.exp(-0.5 * (d / line.width) ** 2)
    ridge = np.exp(-0.5 * ((d - 2.4 * line.width) / (1.2 * line.width)) ** 2)
    front = np.cos(chart.azimuth) > 0.05
    return line.depth * fade * (0.4 * ridge - sharp) * front


def _chin_peel(chart: Chart, rng: np.random.Generator) -> Array:
    """The dimpled chin of AU17: bumps about 3 mm across over the mentalis."""
    grid = rng.normal(size=chart.x.shape)
    scale = len(chart.x) / 288.0  # bumps have a size in mm, whatever the chart's resolution
    fine = gaussian_filter(grid, 1.5 * scale) - gaussian_filter(grid, 3.2 * scale)
    fine /= fine[np.abs(fine) > 0].std()
    region = gauss(chart.x, chart.y, 0, -101.0, 11.5, 7.5)
    return 1.15 * fine * region - 1.2 * gauss(chart.x, chart.y, 0, -94.0, 13.0, 3.5)


def au_height(chart: Chart, number: int, variant: int) -> tuple[Array, Array]:
    """Height maps (mm) of an AU's skin at intensity 5 for the right and the left side, (H, W) each.

    ``variant`` draws other lines at about the same place: no two people wrinkle alike.
    """
    out = []
    for side in (-1.0, 1.0):
        rng = np.random.default_rng([number, variant, 7])
        height = np.zeros(chart.x.shape)
        for line in LINES[number]:
            height += furrow(chart, _jitter(line, rng), side)
        if number in (6, 7):
            _, bottom, s = lid_lines(chart.x)
            pouch = (
                np.exp(-0.5 * ((chart.y - bottom + 4.0) / 2.0) ** 2) * np.clip(1 - s**2, 0, 1) * (side * chart.x > 0)
            )
            height += (0.9 if number == 7 else 0.7) * pouch
        if number == 17:
            height += _chin_peel(chart, rng) * (0.5 + 0.5 * np.tanh(side * chart.x / 3.0))
        if number in (1, 2, 4, 9, 12, 15, 20, 23, 24):  # lines that cross the midline belong to both halves
            height *= 0.5 + 0.5 * np.tanh(side * chart.x / 2.0)
        out.append(height)
    return out[0], out[1]
