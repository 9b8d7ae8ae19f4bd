"""Mirror and size of a face: picture, landmarks and pose change together, by one function each.

AUs are coded for both sides of the face together, so a mirror image keeps its labels.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

import numpy as np
import torch.nn.functional as functional
from numpy.typing import NDArray
from torch import Tensor

from lit_faces.core.alignment import mirror_landmarks
from lit_faces.core.sample import FaceBatch

Points = TypeVar("Points", Tensor, NDArray[np.float32])
_TURNED = (-1.0, 1.0, -1.0)  # yaw and roll change their sign in the mirror, pitch does not


def mirror_images(images: Tensor) -> Tensor:
    """Pictures (..., H, W) flipped left to right."""
    return images.flip(-1)


def mirror_faces(faces: FaceBatch, which: Tensor) -> FaceBatch:
    """Mirror images of some faces: pictures, landmarks (left and right change places) and pose.

    Args:
        faces: B faces.
        which: bool (B,), on the faces' device.
    """
    images = mirror_images(faces.image).where(which[:, None, None, None], faces.image)
    landmarks = mirror_landmarks(faces.landmarks, faces.image.shape[-1])
    pose = faces.pose * faces.pose.new_tensor(_TURNED)
    return replace(
        faces,
        image=images,
        landmarks=landmarks.where(which[:, None, None], faces.landmarks),
        pose=pose.where(which[:, None], faces.pose),
    )


def resize_images(images: Tensor, height: int, width: int) -> Tensor:
    """Pictures in another size, bilinear; shrinking averages (no aliasing).

    Args:
        images: float (B, C, H, W).
        height: wanted, pixels.
        width: wanted, pixels.

    Returns:
        Float (B, C, height, width); the same tensor where nothing changes.
    """
    size = (height, width)
    if images.shape[-2:] == size:
        return images
    shrinks = height < images.shape[-2] or width < images.shape[-1]
    return functional.interpolate(images, size=size, mode="bilinear", align_corners=False, antialias=shrinks)


def resize_landmarks(landmarks: Points, factor: float | Points) -> Points:
    """Landmarks of a picture in another size.

    Args:
        landmarks: float (..., 2), pixels; (0, 0) is the centre of the top-left pixel.
        factor: new size over old, or float (2,) for x and y.
    """
    return (landmarks + 0.5) * factor - 0.5
