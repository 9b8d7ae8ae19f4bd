"""Who it is: shape modes of the parametric head and the static traits that look like Action Units."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lit_faces.core.facs import AU_INDEX
from lit_faces.rendering import resting
from lit_faces.rendering.chart import Chart, gauss, lid_lines, seam, smoothstep
from lit_faces.rendering.muscles import Field, field_basis, follow

Array = NDArray[np.float64]
F = Field

#: Displacement at +1 standard deviation (mm), written for the left side and mirrored like the muscles' fields.
MODES: dict[str, tuple[Field, ...]] = {
    "face_width": (F(70, -20, 35, 90, 3.2, 0, 0),),
    "jaw_width": (F(60, -85, 28, 28, 4.0, 0, 0.5),),
    "jaw_angle": (F(58, -95, 20, 20, 1.5, -4.5, 0),),
    "chin_height": (F(0, -108, 26, 16, 0, -3.6, 0),),
    "chin_depth": (F(0, -104, 20, 15, 0, 0, 3.6),),
    "chin_width": (F(20, -106, 13, 13, 3.2, 0.5, 0),),
    "cheekbones": (F(56, -22, 16, 14, 1.6, 0, 3.0),),
    "cheek_fullness": (F(46, -58, 17, 22, 1.2, 0, 4.0),),
    "temple": (F(70, 30, 16, 26, 3.0, 0, 0),),
    "forehead_slope": (F(0, 70, 70, 30, 0, 0, -4.5),),
    "brow_ridge": (F(20, 13, 22, 7, 0, 0, 2.0),),
    "brow_height": (F(33, 18, 26, 8, 0, 1.6, 0),),
    "brow_slope": (F(61, 9, 11, 9, 0, 2.8, 0), F(13, 14, 9, 8, 0, -0.3, 0)),
    "eye_spacing": (F(30, -3, 17, 16, 1.5, 0, 0),),
    "eye_height": (F(31, -3, 18, 15, 0, 1.5, 0),),
    "eye_depth": (F(31, 2, 17, 13, 0, 0, 2.0),),
    "nose_length": (F(0, -42, 19, 15, 0, -2.8, 0), F(0, -66, 32, 16, 0, -0.7, 0)),
    "nose_width": (F(14, -42, 8, 10, 2.2, 0, 0),),
    "nose_depth": (F(0, -36, 10, 13, 0, 0, 2.7),),
    "nose_bridge": (F(0, -10, 8, 12, 0, 0, 1.8),),
    "nose_hump": (F(0, -17, 7, 6, 0, 0, 1.4),),
    "nose_tip_up": (F(0, -37, 11, 6, 0, 1.9, 0.6),),
    "nose_root_width": (F(12, -6, 6, 12, 1.2, 0, 0),),
    "nose_tip_round": (F(7, -38, 5, 6, 1.2, 0, 0.8),),
    "mouth_width": (F(24, -72, 13, 13, 2.6, 0, 0),),
    "mouth_height": (F(0, -72, 34, 17, 0, 2.0, 0),),
    "mouth_depth": (F(0, -70, 27, 18, 0, 0, 2.4),),
    "upper_lip_thick": (F(0, -63, 19, 4, 0, 1.2, 0.9, "u"),),
    "lower_lip_thick": (F(0, -80, 17, 5, 0, -1.4, 1.1, "l"),),
    "lower_face_length": (F(0, -110, 80, 42, 0, -3.2, 0),),
    "face_length": (F(0, -75, 90, 60, 0, -2.6, 0),),
    "neck_width": (F(55, -150, 30, 26, 5.0, 0, 0),),
    "ear_out": (F(84, -15, 10, 26, 4.0, 0, 0),),
}

#: Geometry at rest that looks like an AU: name -> (AU, share of its displacement at intensity 5).
TRAITS: dict[str, tuple[int, float]] = {
    "heavy_cheeks": (6, 0.5),
    "raised_chin": (17, 0.35),
    "downturned_mouth": (15, 0.55),
    "upturned_mouth": (12, 0.22),
    "low_brows": (4, 0.5),
    "sad_brows": (1, 0.35),
    "thin_lips": (23, 0.6),
    "deep_corners": (14, 0.4),
}

EXTRA_MODES = ("eye_open", "eye_size", "eye_tilt", "asymmetry_mouth", "asymmetry_nose", "asymmetry_eyes")


def mode_names() -> tuple[str, ...]:
    """Names of all shape coefficients in their order."""
    return (*MODES, *EXTRA_MODES, *TRAITS)


def _mirrored(chart: Chart, fields: tuple[Field, ...]) -> Array:
    out = np.zeros((*chart.x.shape, 3))
    for field in fields:
        lip = follow(chart, field.lip)
        for side in (-1.0, 1.0):
            weight = gauss(chart.x, chart.y, side * field.cx, field.cy, field.sx, field.sy) * lip
            weight = weight * (0.5 if field.cx == 0 else 1.0)
            out += weight[..., None] * np.array([side * field.dx, field.dy, field.dz])
    return out


def shape_basis(chart: Chart) -> Array:
    """Displacement of every chart point at one standard deviation of each mode, mm (K, H, W, 3)."""
    out = [_mirrored(chart, fields) for fields in MODES.values()]
    _top, _bottom, s = lid_lines(chart.x)
    near = smoothstep(np.hypot((np.abs(chart.x) - 31.5) / 22.0, (chart.y + 3.0) / 14.0), 1.0, 0.4) * (
        np.cos(chart.azimuth) > 0
    )
    lift = (
        np.where(chart.y > -4.0, 1.0, -0.6)
        * np.clip(1 - s**2, 0, 1) ** resting.LID_POWER
        * smoothstep(np.abs(chart.y + 3), 14, 3)
    )
    zero = np.zeros_like(chart.x)
    out.append(np.stack([zero, 0.5 * lift * near, zero], -1))
    dx, dy = np.abs(chart.x) - 31.5, chart.y + 3.2
    out.append(np.stack([np.sign(chart.x) * 0.055 * dx * near, 0.055 * dy * near, zero], -1))
    out.append(np.stack([zero, 0.042 * dx * near, zero], -1))
    mouth = gauss(chart.x, chart.y, 0, -72, 30, 16)
    out.append(np.stack([0.9 * mouth, 0.03 * chart.x * mouth, zero], -1))
    nose = gauss(chart.x, chart.y, 0, -38, 16, 14)
    out.append(np.stack([1.0 * nose, zero, zero], -1))
    out.append(np.stack([zero, 0.4 * np.sign(chart.x) * near, zero], -1))
    right, left = field_basis(chart)
    for number, share in TRAITS.values():
        out.append(share * (right + left)[AU_INDEX[number]])
    return np.stack(out)


__all__ = ["EXTRA_MODES", "MODES", "TRAITS", "mode_names", "seam", "shape_basis"]
