"""Furrows, bulges and dimples of the Action Units on the chart: slopes that catch the light, hollows that it misses.

People fold differently: whose skin it is decides where lines break off, and how rough the photographed skin is, how
deep they are (smooth skin is young, or made up: it bunches, but it hardly creases).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from lit_faces.core.facs import AUS
from lit_faces.photohead.light import LUMA, linear
from lit_faces.rendering.chart import Chart, build_chart
from lit_faces.rendering.wrinkles import LINES, au_height

Floats = NDArray[np.float32]

TEXELS = 480
VARIANTS = 12  # ways in which people's skin folds
POWER = 1.25  # of the activation: folds come late
#: How strongly each AU's relief shows on a photograph.
STRENGTH = {1: 1.3, 2: 1.3, 4: 1.2, 6: 0.4, 7: 0.9, 9: 0.8, 12: 0.5, 15: 0.75, 17: 0.28, 43: 0.6}
_HOLLOW = 3.5  # texels: size of the surroundings that a hollow is measured against
_SOFT = {17: 3.5}  # texels: a dimpled chin is bumps of half a centimetre, not grain
_SOFT_OTHERS = 1.1
_MOST = 1.25  # activation beyond which muscles still move skin, but no longer fold it deeper
_BREAKS, _BREAK_SIZE = 0.55, 22.0  # how much the depth of lines varies along them, and over how many texels
_USUAL_ROUGHNESS, _ROUGH_POWER, _STRENGTH = 0.037, 0.6, (0.6, 1.3)  # median of 24 neutrals, folds 0 and 1 of faces_ccby
_PORES_MM, _SPOTS_MM = 0.8, 2.5  # between these sizes skin is rough: pores, fine lines, stubble


@lru_cache(maxsize=1)
def _chart() -> Chart:
    return build_chart(TEXELS, TEXELS)


@lru_cache(maxsize=256)
def au_relief(number: int, variant: int) -> tuple[Floats, Floats]:
    """Relief of an AU at intensity 5 of the right and of the left side.

    Args:
        number: of the AU.
        variant: 0 .. :data:`VARIANTS` - 1.

    Returns:
        float32 (T, T, 3) each: slope to the subject's left and upwards (mm per mm), and darkening of hollows.
    """
    from scipy.ndimage import gaussian_filter

    chart, found = _chart(), []
    depth = _depth(number, variant)
    arc = np.maximum(np.hypot(np.gradient(chart.x, axis=1), np.gradient(chart.z, axis=1)), 0.25)
    step = np.minimum(np.gradient(chart.y, axis=0), -0.25)
    for height in au_height(chart, number, variant):
        height = gaussian_filter(height * depth, _SOFT.get(number, _SOFT_OTHERS)) * (1 - chart.eye_inside)
        hollow = np.clip(gaussian_filter(height, _HOLLOW) - height, 0, None) * 0.45
        found.append(np.stack([np.gradient(height, axis=1) / arc, np.gradient(height, axis=0) / step, hollow], -1))
    return found[0].astype(np.float32), found[1].astype(np.float32)


def _depth(number: int, variant: int) -> Floats:
    """Lines of real skin break off and begin again: a factor on the chart, (T, T), about 1."""
    from scipy.ndimage import gaussian_filter

    noise = gaussian_filter(np.random.default_rng([number, variant, 11]).normal(size=(TEXELS, TEXELS)), _BREAK_SIZE)
    return np.clip(1.0 + _BREAKS * noise / noise.std(), 0.05, 1.6).astype(np.float32)


def creasing(crop: Floats, skin: NDArray[np.bool_], scale: float) -> float:
    """How deep this person's skin folds, beside the usual, from how rough it is.

    Args:
        crop: float32 (S, S, 3), grey levels.
        skin: bool (S, S), where it shows bare skin.
        scale: pixels a mm.
    """
    import cv2

    log = np.log(np.maximum(linear(crop) @ LUMA, 1e-3)).astype(np.float32)
    fine, coarse = (cv2.GaussianBlur(log, (0, 0), size * scale) for size in (_PORES_MM, _SPOTS_MM))
    inner = cv2.erode(skin.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    if not inner.any():
        return 1.0
    roughness = 1.48 * float(np.median(np.abs(fine - coarse)[inner]))
    return float(np.clip((roughness / _USUAL_ROUGHNESS) ** _ROUGH_POWER, *_STRENGTH))


def relief(right: Floats, left: Floats, variant: int, strength: float) -> Floats | None:
    """The relief of all AUs together.

    Args:
        right: (19,), activations 0..1 of the right side.
        left: of the left side.
        variant: whose skin it is.
        strength: how much it folds (age).

    Returns:
        float32 (T, T, 3), or None where nothing folds.
    """
    total: Floats | None = None
    for column, number in enumerate(AUS):
        if not LINES[number]:
            continue
        for side, value in enumerate((right[column], left[column])):
            if value > 1e-3:
                share = np.float32(strength * STRENGTH.get(number, 1.0) * min(float(value), _MOST) ** POWER)
                part = au_relief(number, variant)[side] * share
                total = part if total is None else total + part
    return total
