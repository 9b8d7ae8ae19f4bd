"""The open faces on other backgrounds and in other light: what a detector says there is of the face, or of the studio.

All pictures of the open faces have one grey backdrop and one light. Five others, the same for everybody, made from the
aligned crop alone; the person is cut out with GrabCut from the hull of the landmarks.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Picture = NDArray[np.float64]  # (S, S, 3), 0..1

_DILATE = 0.10  # of the crop's side: the hull of the landmarks has no forehead and no ears
_EDGE = 0.012  # of the side: softness of the cut
_ROUNDS = 4


def foreground(image: NDArray[np.uint8], points: NDArray[np.float32]) -> NDArray[np.float64]:
    """Share of the person in each pixel, (S, S), of a crop uint8 (S, S, 3) RGB and its landmarks (68, 2)."""
    import cv2

    size = image.shape[0]
    hull = cv2.convexHull(np.vstack([points, _forehead(points)]).round().astype(np.int32))
    sure = np.zeros((size, size), np.uint8)
    cv2.fillConvexPoly(sure, hull, 1)
    reach = max(3, round(_DILATE * size)) | 1
    likely = cv2.dilate(sure, np.ones((reach, reach), np.uint8))
    low = int(points[:, 1].max())
    likely[low:] = 1  # neck and shirt
    mask = np.where(sure, cv2.GC_FGD, np.where(likely, cv2.GC_PR_FGD, cv2.GC_PR_BGD)).astype(np.uint8)
    top = mask[: max(2, size // 40)]
    top[top == cv2.GC_PR_BGD] = cv2.GC_BGD
    cv2.setRNGSeed(0)
    try:
        cv2.grabCut(np.ascontiguousarray(image[:, :, ::-1]), mask, None, np.zeros((1, 65)), np.zeros((1, 65)), _ROUNDS, cv2.GC_INIT_WITH_MASK)  # fmt: skip
    except cv2.error:  # a crop without background
        return np.ones((size, size))
    person = np.isin(mask, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.float64)
    return np.clip(cv2.GaussianBlur(person, (0, 0), max(0.6, _EDGE * size)), 0.0, 1.0)


def _forehead(points: NDArray[np.float32]) -> NDArray[np.float32]:
    """Brows, as far up again as the eyes are below them."""
    return points[17:27] + (points[17:27].mean(0) - points[30]) * 0.75


def _plain(red: float, green: float, blue: float) -> Callable[[int], Picture]:
    return lambda size: np.broadcast_to(np.array([red, green, blue]), (size, size, 3)).copy()


def _clutter(size: int) -> Picture:
    """Shelves and leaves: blocks of colour at two scales, always the same."""
    import cv2

    chance = np.random.default_rng(17)
    coarse, fine = (chance.uniform(0.1, 0.9, (n, n, 3)) for n in (7, 24))
    big = [cv2.resize(part, (size, size), interpolation=cv2.INTER_NEAREST) for part in (coarse, fine)]
    return 0.6 * big[0] + 0.4 * big[1]


def _outdoors(size: int) -> Picture:
    """Sky above, green below."""
    down = np.linspace(0.0, 1.0, size)[:, None, None]
    return np.broadcast_to((1 - down) * np.array([0.6, 0.75, 0.95]) + down * np.array([0.25, 0.45, 0.2]), (size, size, 3)).copy()  # fmt: skip


def _as_it_is(picture: Picture) -> Picture:
    return picture


def _warm(picture: Picture) -> Picture:
    """A light bulb."""
    return picture * np.array([1.12, 0.97, 0.74])


def _cold_and_dim(picture: Picture) -> Picture:
    """An overcast window behind the camera, under-exposed."""
    return picture**1.5 * np.array([0.85, 0.95, 1.1])


def _bright(picture: Picture) -> Picture:
    """Over-exposed daylight."""
    return picture**0.7 * np.array([1.0, 1.02, 1.05])


def _from_the_side(picture: Picture) -> Picture:
    """Half of the light from the left."""
    across = np.linspace(1.25, 0.6, picture.shape[1])[None, :, None]
    return picture * across


#: Name: background, and light on the person and it.
STUDIOS: dict[str, tuple[Callable[[int], Picture], Callable[[Picture], Picture]]] = {
    "dark wall, side light": (_plain(0.08, 0.1, 0.16), _from_the_side),
    "clutter": (_clutter, _as_it_is),
    "white wall, warm": (_plain(0.95, 0.95, 0.93), _warm),
    "outdoors, bright": (_outdoors, _bright),
    "blue wall, dim": (_plain(0.25, 0.35, 0.6), _cold_and_dim),
}


def elsewhere(images: Tensor, landmarks: Tensor) -> dict[str, Tensor]:
    """Crops uint8 (n, 3, S, S) with landmarks (n, 68, 2) in each of :data:`STUDIOS`: name to uint8 (n, 3, S, S)."""
    size = images.shape[-1]
    pictures = images.permute(0, 2, 3, 1).numpy()
    person = np.stack([foreground(one, marks) for one, marks in zip(pictures, landmarks.numpy())])[..., None]
    out = {}
    for name, (background, light) in STUDIOS.items():
        mixed = person * (pictures / 255.0) + (1 - person) * background(size)
        lit = np.stack([light(one) for one in mixed]).clip(0.0, 1.0)
        out[name] = torch.from_numpy((255.0 * lit).round().astype(np.uint8)).permute(0, 3, 1, 2).contiguous()
    return out
