"""A photograph around its aligned crop, at the size that a head works in."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lit_faces.photohead.layers import fill, sample

Floats = NDArray[np.float32]


def padded(photo: NDArray[np.uint8], crop: tuple[float, float, float], size: int, pad: int) -> Floats:
    """The photo around a crop at ``size`` pixels: float32 (size + 2 pad, ..., 3), smoothly continued where it ends."""
    (cx, cy, side), (height, width) = crop, photo.shape[:2]
    step = side / size
    line = (np.arange(size + 2 * pad) - pad + 0.5) * step
    columns, rows = cx - side / 2 + line, cy - side / 2 + line
    if step > 1.0:  # area average before sampling: no aliasing, no loss
        found = _shrunk(photo, crop, size, pad)
    else:
        found = sample(photo.astype(np.float32), *np.meshgrid(columns, rows))
    known = ((rows >= 0) & (rows <= height - 1))[:, None] & ((columns >= 0) & (columns <= width - 1))[None]
    return found if known.all() or not pad else fill(found, known)


def _shrunk(photo: NDArray[np.uint8], crop: tuple[float, float, float], size: int, pad: int) -> Floats:
    """Area average over the photo's pixels under each pixel of the crop."""
    import cv2

    (cx, cy, side), more = crop, 3
    whole = int(side / size / more)
    if whole > 1:  # a photograph of many megapixels: whole pixels first
        height, width = (n // whole * whole for n in photo.shape[:2])
        small = cv2.resize(photo[:height, :width], (width // whole, height // whole), interpolation=cv2.INTER_AREA)
        photo = np.asarray(small, np.uint8)
        cx, cy, side = (cx + 0.5) / whole - 0.5, (cy + 0.5) / whole - 0.5, side / whole
    n = (size + 2 * pad) * more
    step = side / size / more
    line = -pad * side / size + (np.arange(n) + 0.5) * step - side / 2
    x, y = np.meshgrid((cx + line).astype(np.float32), (cy + line).astype(np.float32))
    fine = cv2.remap(photo.astype(np.float32), x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(cv2.resize(fine, (size + 2 * pad,) * 2, interpolation=cv2.INTER_AREA), np.float32)
