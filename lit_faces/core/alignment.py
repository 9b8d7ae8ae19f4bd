"""The 68 landmarks: their order, mirror, scale and crop.

Pixel convention, here and everywhere: x right, y down, **(0, 0) is the centre of the top-left pixel**, so an image of
width W covers x from -0.5 to W - 0.5.  The order is iBUG's: 0-16 jaw, 17-26 brows, 27-35 nose, 36-47 eyes, 48-59 outer
lips, 60-67 inner lips; low numbers first on the image's left, which is the subject's right side.

:mod:`lit_faces.core.landmarks` finds the points in a picture.
"""

from __future__ import annotations

import math
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

Points = TypeVar("Points", np.ndarray, Tensor)

NUM_LANDMARKS = 68

#: ``landmarks[MIRROR]`` is the order of the mirrored face: left and right change places. Its own inverse.
MIRROR: tuple[int, ...] = (
    *range(16, -1, -1),  # jaw
    *range(26, 16, -1),  # brows
    *range(27, 31),  # bridge of the nose
    *range(35, 30, -1),  # nostrils
    *(45, 44, 43, 42, 47, 46),  # eyes: corner, upper lid, corner, lower lid
    *(39, 38, 37, 36, 41, 40),
    *range(54, 47, -1),  # outer lips: upper, lower
    *range(59, 54, -1),
    *range(64, 59, -1),  # inner lips: upper, lower
    *range(67, 64, -1),
)

# The square crop's side is the larger of these multiples; lit_faces.rendering.camera frames its faces by the same rule.
SIDE_PER_EYES = 2.4  # of the distance between the outer eye corners
SIDE_PER_FACE = 3.2  # of the distance from the middle of the eyes to the middle of the mouth
_LARGEST_SIDE = 8.0  # of the image's larger side: beyond it the landmarks cannot belong to the image


def _length(vector: Points) -> Points:
    """Euclidean length over the last axis."""
    return (vector**2).sum(-1) ** 0.5


def mirror_landmarks(landmarks: Points, width: int) -> Points:
    """Landmarks of the picture flipped left to right.

    Args:
        landmarks: float (..., 68, 2), pixels.
        width: width of the picture, pixels.

    Returns:
        Float (..., 68, 2): x becomes ``width - 1 - x`` and left and right points change places. NaN stays NaN.
    """
    flipped = landmarks[..., list(MIRROR), :]
    flipped[..., 0] = (width - 1) - flipped[..., 0]  # indexing with a list made a copy
    return flipped


def outer_eye_distance(landmarks: Points) -> Points:
    """Distance between the outer eye corners (points 36 and 45), pixels: float (..., 68, 2) to (...)."""
    return _length(landmarks[..., 45, :] - landmarks[..., 36, :])


def inner_eye_distance(landmarks: Points) -> Points:
    """Distance between the inner eye corners (points 39 and 42), pixels: float (..., 68, 2) to (...)."""
    return _length(landmarks[..., 42, :] - landmarks[..., 39, :])


def lip_gap(landmarks: Points) -> Points:
    """Gap of the inner lips over the outer-eye distance: float (..., 68, 2) to (...)."""
    gaps = _length(landmarks[..., [61, 62, 63], :] - landmarks[..., [67, 66, 65], :])
    return gaps.mean(-1) / outer_eye_distance(landmarks)


def eye_aspect_ratio(landmarks: Points, first: int) -> Points:
    """Height over width of an eye's opening (Soukupova and Cech 2016): float (..., 68, 2) to (...).

    Args:
        landmarks: the 68 points.
        first: of the eye's points: 36, the subject's right eye, or 42.
    """
    corner = landmarks[..., first : first + 6, :]
    height = _length(corner[..., [1, 2], :] - corner[..., [5, 4], :]).mean(-1)
    return height / _length(corner[..., 0, :] - corner[..., 3, :])


def crop_frame(landmarks: Points) -> tuple[Points, Points, Points]:
    """Centre and side of the square crop of a face.

    The centre is the middle between the middle of the eyes and the middle of the outer lips; the side is the larger of
    2.4 outer-eye distances and 3.2 distances from the middle of the eyes to the middle of the mouth, so that a turned
    head does not shrink.  Roll plays no part.

    Args:
        landmarks: float (..., 68, 2), pixels.

    Returns:
        Three float (...): x and y of the centre, and the side, in pixels of the picture.
    """
    eyes = 0.5 * (landmarks[..., 36:42, :].mean(-2) + landmarks[..., 42:48, :].mean(-2))
    mouth = landmarks[..., 48:60, :].mean(-2)
    centre = 0.5 * (eyes + mouth)
    by_eyes, by_face = SIDE_PER_EYES * outer_eye_distance(landmarks), SIDE_PER_FACE * _length(mouth - eyes)
    side = torch.maximum(by_eyes, by_face) if isinstance(by_eyes, Tensor) else np.maximum(by_eyes, by_face)
    return centre[..., 0], centre[..., 1], side


def warp_crop(image: np.ndarray, cx: float, cy: float, side: float, size: int) -> np.ndarray:
    """Cut a square out of a picture and resize it, exactly to a fraction of a pixel.

    Pixel ``i`` of the crop shows the picture at ``cx + (i - (size - 1) / 2) * side / size`` (and the same for y).
    Shrinking averages (no aliasing); outside the picture the border is replicated.

    Args:
        image: uint8 (H, W, 3), RGB.
        cx: x of the centre, pixels of ``image``.
        cy: y of the centre.
        side: side of the square, pixels of ``image``, > 0.
        size: side of the result, pixels.

    Returns:
        uint8 (size, size, 3).
    """
    from PIL import Image

    margin = math.ceil(2 * max(1.0, side / size)) + 1  # what the filter reads beyond the square
    left, top = cx - side / 2 + 0.5, cy - side / 2 + 0.5  # edges; Pillow counts from the corner of the first pixel
    first_x, first_y = math.floor(left) - margin, math.floor(top) - margin
    if side == size and left.is_integer() and top.is_integer():
        return cut_out(image, int(left), int(top), int(left) + size, int(top) + size).copy()
    last_x, last_y = math.ceil(left + side) + margin, math.ceil(top + side) + margin
    window = Image.fromarray(np.ascontiguousarray(cut_out(image, first_x, first_y, last_x, last_y)))
    x, y = left - first_x, top - first_y
    box = (x, y, x + side, y + side)
    # the gap: far larger pictures are first halved, twice as fast and within two grey levels of the whole way
    return np.asarray(window.resize((size, size), Image.Resampling.BICUBIC, box=box, reducing_gap=2.0))


def cut_out(image: np.ndarray, left: int, top: int, right: int, bottom: int) -> np.ndarray:
    """Columns left..right-1 and rows top..bottom-1 of a picture (H, W, 3), a view where all are inside.

    Outside the picture the border is replicated.
    """
    height, width = image.shape[:2]
    if left >= 0 and top >= 0 and right <= width and bottom <= height:
        return image[top:bottom, left:right]
    rows, columns = np.arange(top, bottom).clip(0, height - 1), np.arange(left, right).clip(0, width - 1)
    inside = image[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    before_y, before_x = int((rows == rows[0]).sum()) - 1, int((columns == columns[0]).sum()) - 1
    after_y, after_x = len(rows) - before_y - inside.shape[0], len(columns) - before_x - inside.shape[1]
    if min(before_y, before_x, after_y, after_x) < 0:  # wholly outside
        return image[rows][:, columns]
    import cv2  # five times as fast as numpy's pad

    return cv2.copyMakeBorder(inside, before_y, after_y, before_x, after_x, cv2.BORDER_REPLICATE)  # type: ignore[return-value]


def align_crop(image: np.ndarray | Tensor, landmarks: np.ndarray | Tensor, size: int) -> tuple[Tensor, Tensor]:
    """The square crop of one face, framed by :func:`crop_frame`; roll is kept and the border replicated.

    Args:
        image: uint8, an array (H, W, 3) or a tensor (3, H, W), RGB.
        landmarks: float (68, 2), pixels of ``image``.
        size: side of the crop, pixels.

    Returns:
        The crop, uint8 (3, size, size), and the landmarks in it, float32 (68, 2).

    Raises:
        ValueError: the image's type or shape is another; the landmarks are unknown (NaN) or lie nowhere near the image.
    """
    pixels = image.permute(1, 2, 0).cpu().numpy() if isinstance(image, Tensor) else image
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ValueError(
            f"image: expected uint8, array (H, W, 3) or tensor (3, H, W), got {pixels.dtype} {pixels.shape}"
        )
    points = np.asarray(landmarks, dtype=np.float64)
    if points.shape != (NUM_LANDMARKS, 2):
        raise ValueError(f"landmarks: expected (68, 2), got {points.shape}")
    cx, cy, side = (float(value) for value in crop_frame(points))
    if not math.isfinite(cx + cy + side):
        raise ValueError("landmarks: eyes or mouth are unknown (NaN), so there is nothing to align the crop with")
    limit = _LARGEST_SIDE * max(pixels.shape[:2])
    if not 1 <= side <= limit or max(abs(cx), abs(cy)) > limit:
        raise ValueError(
            f"landmarks: a crop of {side:.0f} px around ({cx:.0f}, {cy:.0f}) does not fit an image of "
            f"{pixels.shape[1]}x{pixels.shape[0]} px; give the landmarks in pixels of that image"
        )
    crop = warp_crop(pixels, cx, cy, side, size)
    moved = (points - (cx, cy)) * (size / side) + (size - 1) / 2
    return torch.from_numpy(crop.transpose(2, 0, 1).copy()), torch.from_numpy(moved.astype(np.float32))
