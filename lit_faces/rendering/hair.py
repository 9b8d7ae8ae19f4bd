"""Where hair grows on the chart: brows, hairlines and beards as signed distances and densities."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lit_faces.rendering import resting
from lit_faces.rendering.chart import Chart, gauss, lower_lip_edge, seam, smoothstep, upper_lip_edge

Array = NDArray[np.float64]


def brow_distance(chart: Chart, lift: float, arch: float, thick: float, inner: float, outer: float) -> Array:
    """Signed distance (mm, positive inside) to a brow."""
    x = np.abs(chart.x)
    line = np.interp(x, resting.BROW_X, resting.BROW_CENTRE) + lift + arch * gauss(x, 0 * x, 41.0, 0.0, 9.0, 1.0)
    half = np.interp(x, resting.BROW_X, resting.BROW_HALF) * thick
    ends = np.minimum(x - inner, outer - x) * 0.6
    return np.where(np.cos(chart.azimuth) > 0, np.minimum(half - np.abs(chart.y - line), ends), -9.0)


def hair_distance(chart: Chart, top: float, temple: float, peak: float, burn: float, nape: float) -> Array:
    """Signed distance (mm, positive in the hair) to the hairline."""
    a = np.rad2deg(np.abs(chart.azimuth))
    line = np.interp(
        a, [0, 12, 34, 50, 60, 68, 76, 84, 96, 112, 150],
        [top - peak, top, top - 3, temple, temple - 18, burn + 12, burn, burn, 14, nape, nape - 12],
    )  # fmt: skip
    return np.clip((chart.y - line) * 0.8, -30, 30)


HAIR_STYLES = (
    dict(top=66, temple=50, peak=0, burn=-14, nape=-60),
    dict(top=74, temple=62, peak=6, burn=-4, nape=-55),
    dict(top=60, temple=46, peak=-3, burn=-22, nape=-75),
    dict(top=90, temple=74, peak=-10, burn=0, nape=-50),
    dict(top=44, temple=40, peak=2, burn=-30, nape=-90),
    dict(top=64, temple=44, peak=0, burn=-190, nape=-190),
    dict(top=72, temple=56, peak=3, burn=-190, nape=-190),
    dict(top=40, temple=38, peak=-2, burn=-190, nape=-190),
)  # fmt: skip
LONG_STYLES = (5, 6, 7)
#: Brows that people wear; a person is a blend of some.  ``lift`` and ``arch`` (mm) stay small: what lifts a brow in
#: earnest is the skull (``identity.MODES``), and its landmarks go with that.
BROW_STYLES = {
    "usual": dict(lift=0, arch=0, thick=1.0, inner=12, outer=63), "thin": dict(lift=0.5, arch=1.2, thick=0.55, inner=13, outer=60),
    "bushy": dict(lift=-0.6, arch=-0.8, thick=1.5, inner=9, outer=64), "short": dict(lift=0.2, arch=0, thick=0.8, inner=15, outer=59),
    "angled": dict(lift=0, arch=1.8, thick=1.15, inner=11, outer=62), "flat": dict(lift=0, arch=-1.8, thick=0.75, inner=13, outer=60),
    "joined": dict(lift=-0.3, arch=-0.5, thick=1.2, inner=5, outer=63), "half": dict(lift=0, arch=0.4, thick=0.9, inner=12, outer=55),
}  # fmt: skip
BEARD_PARTS = ("moustache", "chin", "jaw", "cheek", "lip_edge", "droop", "patch", "trimmed")


def beard_parts(chart: Chart) -> Array:
    """Density of each of ``BEARD_PARTS`` (P, H, W)."""
    x, y, ax = chart.x, chart.y, np.abs(chart.x)
    above = smoothstep(y - upper_lip_edge(x), -0.4, 0.6)
    below = smoothstep(lower_lip_edge(x) - y, -0.4, 0.6)
    beside = np.where(ax > 25.5, 1.0, np.maximum(above * (y > seam(x)), below * (y < seam(x))))
    neck_line = smoothstep(y, -128, -112)
    jaw = smoothstep(ax, 24, 40) * smoothstep(y, -42, -66) * neck_line
    jaw = jaw + 0.7 * smoothstep(ax, 12, 26) * smoothstep(y, -92, -104) * smoothstep(y, -128, -115)
    cut = np.interp(ax, [14.0, 24.0, 34.0, 50.0, 64.0, 80.0], [-93.0, -88.0, -80.0, -68.0, -52.0, -30.0])
    parts = {
        "moustache": gauss(x, y, 0, -56.5, 17, 4.2) * (y < -50) * above,
        "chin": gauss(x, y, 0, -102, 15, 11) * smoothstep(y, -86, -92),
        "jaw": np.clip(jaw, 0, 1),
        "cheek": gauss(ax, y, 50, -52, 14, 16),
        "lip_edge": np.exp(-0.5 * ((y - upper_lip_edge(x) - 1.2) / 1.6) ** 2) * (ax < 25) * above,
        "droop": gauss(ax, y, 28.5, -77, 3.2, 11.0) * beside,
        "patch": gauss(x, y, 0, -87, 5.0, 4.0) * below,
        "trimmed": smoothstep(cut - y, -1.0, 1.0) * smoothstep(ax, 8, 16) * smoothstep(y, -121, -117),
    }
    return np.stack([parts[name] for name in BEARD_PARTS])
