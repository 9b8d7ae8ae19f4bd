"""The part of a photograph around a face at its own resolution: what an aligned crop was cut from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lit_faces.core.video import frames_of

_AROUND = 1.1  # sides of the crop that are kept on every side of its centre
_LARGEST = 1024  # pixels: side of the crop, beyond which the photo is made smaller


@dataclass(frozen=True)
class Original:
    """Pixels around a face.

    Attributes:
        image: uint8 (H, W, 3), RGB.
        crop: centre x, y and side of the aligned crop, pixels of ``image`` (see ``core.alignment.crop_frame``).
    """

    image: NDArray[np.uint8]
    crop: tuple[float, float, float]

    def __reduce__(self) -> tuple[Any, ...]:
        """As a tensor: through shared memory, so that starting a process does not wait until it reads."""
        if "_shared" not in self.__dict__:  # kept: its file must stay open until the process has read it
            object.__setattr__(self, "_shared", torch.from_numpy(self.image.copy()))
        return _of_tensor, (self.__dict__["_shared"], self.crop)


def _of_tensor(image: Tensor, crop: tuple[float, float, float]) -> Original:
    return Original(image.numpy(), crop)


def cut_original(photo: NDArray[np.uint8], crop: tuple[float, float, float]) -> Original:
    """What is needed of a photograph: the surroundings of the crop, not larger than 1024 pixels a side of the crop.

    Args:
        photo: uint8 (H, W, 3), RGB.
        crop: centre x, y and side of the aligned crop in it, pixels.
    """
    import cv2

    (cx, cy, side), (height, width) = crop, photo.shape[:2]
    left, top = (max(0, int(c - _AROUND * side)) for c in (cx, cy))
    right, bottom = min(width, int(cx + _AROUND * side) + 2), min(height, int(cy + _AROUND * side) + 2)
    part = photo[top:bottom, left:right]
    cx, cy = cx - left, cy - top
    scale = min(1.0, _LARGEST / side)
    if scale == 1.0:
        return Original(np.ascontiguousarray(part), (cx, cy, side))
    size = (max(1, round(part.shape[1] * scale)), max(1, round(part.shape[0] * scale)))
    sx, sy = size[0] / part.shape[1], size[1] / part.shape[0]
    small = np.asarray(cv2.resize(part, size, interpolation=cv2.INTER_AREA), np.uint8)
    return Original(small, ((cx + 0.5) * sx - 0.5, (cy + 0.5) * sy - 0.5, side * sx))


def original_of_crop(crop: Tensor) -> Original:
    """A crop uint8 (3, S, S) whose photograph is not at hand is the photograph itself."""
    size = crop.shape[-1]
    pixels = np.ascontiguousarray(crop.permute(1, 2, 0).cpu().numpy())
    return Original(pixels, ((size - 1) / 2, (size - 1) / 2, float(size)))


def originals_of_clip(path: Path, places: Mapping[int, tuple[float, float, float]]) -> dict[int, Original]:
    """Frames of a clip at their own resolution.

    Args:
        path: the clip.
        places: number of each frame that is wanted, and the crop in it.
    """
    found: dict[int, Original] = {}
    for frame in frames_of(path):
        if frame.number in places and not frame.lost:
            found[frame.number] = cut_original(frame.picture(), places[frame.number])
            if len(found) == len(places):
                break
    return found
