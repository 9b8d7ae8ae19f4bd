"""Light on a face as spherical harmonics of order 2, fitted to the skin of one photograph.

A Lambertian surface under distant light is a quadratic function of its normal to within 2 % (Ramamoorthi & Hanrahan
2001; Basri & Jacobs 2003): nine numbers for the whole face, whatever lamps there are. Pores, freckles and cast shadows
are outliers to a robust fit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

GAMMA = 2.2
LUMA = np.array([0.30, 0.60, 0.10], dtype=np.float32)  # of linear light
_DARKEST = 0.12  # share of the median: nothing on a face is black
_ROUNDS = 8
#: Prior precision of the nine coefficients: faces are lit softly, sharp light needs evidence.
_PRIOR = np.array([1e-3, *[0.02] * 3, *[0.06] * 5])


def linear(picture: Floats) -> Floats:
    """SRGB grey levels 0..255 to linear light 0..1."""
    return np.power(np.clip(picture, 0, 255) * np.float32(1 / 255.0), np.float32(GAMMA))


def display(light: Floats) -> Floats:
    """Linear light to grey levels 0..255."""
    return np.power(np.clip(light, 0, 1), np.float32(1 / GAMMA)) * np.float32(255.0)


def harmonics(normal: Floats) -> Floats:
    """The nine functions of unit normals (..., 3) in camera axes: (..., 9)."""
    x, y, z = normal[..., 0], normal[..., 1], normal[..., 2]
    return np.stack([np.ones_like(x), x, y, z, x * y, x * z, y * z, x * x - y * y, 3 * z * z - 1], -1)


@dataclass
class Light:
    """The light of a photograph.

    Attributes:
        coefficients: float (9,), relative to the median skin.
        skin: float (3,), median colour of the skin, linear.
        spread: robust standard deviation of what the harmonics do not explain, share of the median: .2 is usual, .35
            means hard light, in which relighting is held back.
    """

    coefficients: Floats
    skin: Floats
    spread: float

    def shade(self, normal: Floats) -> Floats:
        """Light that surfaces of these unit normals (..., 3) reflect, relative to the median."""
        return np.maximum(harmonics(normal) @ self.coefficients, _DARKEST).astype(np.float32)

    @property
    def level(self) -> float:
        """Brightness of the skin, 0..1."""
        return float(self.skin @ LUMA)


def fit_light(normal: Floats, colour: Floats) -> Light:
    """Fit to skin.

    Args:
        normal: (N, 3), unit, camera axes.
        colour: (N, 3), linear light.

    Raises:
        ValueError: fewer than 50 points.
    """
    if len(normal) < 50:
        raise ValueError(f"light: {len(normal)} points of skin, at least 50 are needed")
    luminance = colour @ LUMA
    median = max(float(np.median(luminance)), 1e-4)
    basis, wanted = harmonics(normal).astype(np.float64), (luminance / median).astype(np.float64)
    weight = np.ones(len(basis))
    prior = np.diag(_PRIOR) * len(basis) * 0.3
    found, spread = np.zeros(9), 1.0
    for _ in range(_ROUNDS):
        weighted = basis * weight[:, None]
        found = np.linalg.solve(weighted.T @ basis + prior * weight.mean(), weighted.T @ wanted)
        left = wanted - basis @ found
        spread = 1.48 * float(np.median(np.abs(left))) + 1e-6
        weight = 1.0 / (1.0 + (left / (2.0 * spread)) ** 2)  # Cauchy
    return Light(found.astype(np.float32), np.median(colour, 0).astype(np.float32), spread)
