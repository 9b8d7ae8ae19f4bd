"""Furrows, bulges and dimples of the Action Units on the chart: slopes that catch the light, hollows that it misses."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from lit_faces.core.facs import AUS
from lit_faces.rendering.chart import Chart, build_chart
from lit_faces.rendering.wrinkles import LINES, au_height

Floats = NDArray[np.float32]

TEXELS = 480
VARIANTS = 5  # ways in which people's skin folds
POWER = 1.25  # of the activation: folds come late
#: How strongly each AU's relief shows on a photograph.
STRENGTH = {1: 1.3, 2: 1.3, 4: 1.2, 6: 0.4, 7: 0.9, 9: 1.2, 12: 0.5, 15: 1.2, 17: 0.3, 43: 0.6}
_HOLLOW = 3.5  # texels: size of the surroundings that a hollow is measured against


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
    arc = np.maximum(np.hypot(np.gradient(chart.x, axis=1), np.gradient(chart.z, axis=1)), 0.25)
    step = np.minimum(np.gradient(chart.y, axis=0), -0.25)
    for height in au_height(chart, number, variant):
        height = height * (1 - chart.eye_inside)
        hollow = np.clip(gaussian_filter(height, _HOLLOW) - height, 0, None) * 0.45
        found.append(np.stack([np.gradient(height, axis=1) / arc, np.gradient(height, axis=0) / step, hollow], -1))
    return found[0].astype(np.float32), found[1].astype(np.float32)


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
                share = np.float32(strength * STRENGTH.get(number, 1.0) * float(value) ** POWER)
                part = au_relief(number, variant)[side] * share
                total = part if total is None else total + part
    return total
