"""Other backdrops behind a photographed person, or "grey wall" is what a network learns of studio pictures."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as functional
from numpy.typing import NDArray
from torch import Tensor

from lit_faces.core.sample import FaceBatch

_ROUNDS = 4  # of GrabCut; more change nothing at the size of a crop
_EDGE = 0.04  # of the side: how far from the edge of the crop its upper part is looked at for the backdrop
_FOREHEAD = 0.35  # how far the sure part of the person reaches above the brows, in heights from brows to chin


def person_mask(image: NDArray[np.uint8], landmarks: NDArray[np.float32]) -> NDArray[np.float32]:
    """Where the person is in a studio picture: GrabCut, seeded by the hull of the landmarks and the upper edge.

    Args:
        image: uint8 (S, S, 3), RGB crop.
        landmarks: float (68, 2), its pixels.

    Returns:
        Float32 (S, S), 1 person .. 0 backdrop, soft by a pixel. All 1 where no backdrop is seen.
    """
    import cv2

    side = image.shape[0]
    seeds = np.full(image.shape[:2], cv2.GC_PR_FGD, np.uint8)
    edge = max(2, round(_EDGE * side))
    rim = np.zeros(image.shape[:2], bool)
    rim[:edge], rim[: side // 2, :edge], rim[: side // 2, -edge:] = True, True, True
    colours = image.astype(np.int16)
    corners = np.concatenate(
        [colours[: 2 * edge, : 2 * edge].reshape(-1, 3), colours[: 2 * edge, -2 * edge :].reshape(-1, 3)]
    )
    alike = np.abs(colours - np.median(corners, 0)).max(-1) < 24
    seeds[rim & alike] = cv2.GC_BGD
    seeds[~rim & alike] = cv2.GC_PR_BGD
    hull = cv2.convexHull(_with_forehead(landmarks).astype(np.int32))
    cv2.fillConvexPoly(seeds, hull, cv2.GC_FGD)
    if not (seeds == cv2.GC_BGD).any():
        return np.ones(image.shape[:2], np.float32)
    models = np.zeros((2, 1, 65))
    cv2.setRNGSeed(0)
    bgr = np.ascontiguousarray(image[..., ::-1])
    cv2.grabCut(bgr, seeds, (0, 0, 1, 1), models[0], models[1], _ROUNDS, cv2.GC_INIT_WITH_MASK)
    person = np.isin(seeds, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.float32)
    return np.asarray(cv2.GaussianBlur(_whole(person), (0, 0), max(0.6, side / 160)), np.float32)


def _with_forehead(landmarks: NDArray[np.float32]) -> NDArray[np.float32]:
    """The landmarks, and the brows moved up over the forehead."""
    brows, chin = landmarks[17:27], landmarks[8]
    up = (brows.mean(0) - chin) * _FOREHEAD
    return np.concatenate([landmarks, brows + up])


def _whole(person: NDArray[np.float32]) -> NDArray[np.float32]:
    """The largest connected piece, its holes filled."""
    import cv2

    for wanted in (1.0, 0.0):
        _, pieces, about, _ = cv2.connectedComponentsWithStats((person == wanted).astype(np.uint8))
        if len(about) > 2:
            areas = about[1:, cv2.CC_STAT_AREA]
            small = 1 + np.flatnonzero(areas < (areas.max() if wanted else 0.01 * person.size))
            person = np.where(np.isin(pieces, small), 1.0 - wanted, person).astype(np.float32)
    return person


def backdrops(count: int, size: int, generator: torch.Generator, pictures: Tensor | None = None) -> Tensor:
    """Backgrounds: smooth colours, coarse texture, or other pictures out of focus; uint8 range, float (B, 3, S, S).

    Args:
        count: how many.
        size: side, pixels.
        generator: of the draws.
        pictures: uint8 (B, 3, S, S) that may stand behind, blurred and turned over; None for none.
    """
    colour = torch.rand(count, 3, 1, 1, generator=generator) * 255
    found = colour
    for cells, strength in ((2, 60.0), (5, 35.0), (32, 12.0)):
        noise = torch.randn(count, 3, cells, cells, generator=generator)
        grey = torch.randn(count, 1, cells, cells, generator=generator)
        level = torch.rand(count, 1, 1, 1, generator=generator) * strength
        coarse = functional.interpolate(0.4 * noise + grey, size=(size, size), mode="bilinear", align_corners=False)
        found = found + level * coarse
    if pictures is not None:
        small = functional.interpolate(pictures.flip(-2).float(), size=(size // 6, size // 6), mode="area")
        blurred = functional.interpolate(small, size=(size, size), mode="bicubic", align_corners=False)
        found = torch.where(torch.rand(count, 1, 1, 1, generator=generator) < 0.4, blurred, found)
    return found.clamp(0, 255)


def swap_backdrops(faces: FaceBatch, mask: Tensor, generator: torch.Generator, behind: Tensor | None = None) -> Tensor:
    """The pictures of ``faces`` before other backgrounds, a fifth of them before their own: uint8 (B, 3, S, S).

    Args:
        faces: B faces.
        mask: float (B, 1, S, S), 1 person .. 0 backdrop.
        generator: of the draws.
        behind: see :func:`backdrops`.
    """
    count, size = len(faces), faces.image.shape[-1]
    other = backdrops(count, size, generator, behind)
    keep = torch.rand(count, 1, 1, 1, generator=generator) < 0.2
    share = torch.where(keep, torch.ones_like(mask), mask)
    return (faces.image.float() * share + other * (1 - share)).round().clamp(0, 255).to(torch.uint8)
