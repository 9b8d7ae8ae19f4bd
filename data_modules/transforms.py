"""Augmentation of face batches with albumentations: image and 68 landmarks together.

Three traps are taken care of: albumentations calls home when imported, its flip does not swap left and right landmarks,
and its workers repeat one another. The flip is ours, and every item is seeded by its own index, so that neither the
number of workers nor a resume changes a picture.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lit_faces.core.geometry import mirror_faces
from lit_faces.core.sample import FaceBatch

_PAD = 1  # cv2.BORDER_REPLICATE: with reflection albumentations reflects the keypoints too


class FaceAugment:
    """Photometric and mild geometric augmentation.

    Args:
        flip: chance of a mirror image (landmarks are re-indexed, yaw and roll change sign).
        rotate: largest rotation, degrees.
        scale: largest relative change of size.
        shift: largest shift, share of the side.
        colour: strength of brightness, contrast, saturation and hue changes, 0..1.
        degrade: chance of each of blur, noise, JPEG artefacts and a detour over a smaller picture.
    """

    def __init__(
        self,
        flip: float = 0.5,
        rotate: float = 10.0,
        scale: float = 0.08,
        shift: float = 0.04,
        colour: float = 0.3,
        degrade: float = 0.2,
    ) -> None:
        for name, value in (
            ("flip", flip),
            ("scale", scale),
            ("shift", shift),
            ("colour", colour),
            ("degrade", degrade),
        ):
            if not 0 <= value <= 1:
                raise ValueError(f"{name} must be in 0..1, got {value}")
        self.flip, self.rotate, self.scale, self.shift = flip, rotate, scale, shift
        self.colour, self.degrade = colour, degrade
        self._pipeline: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_pipeline": None}

    def _build(self) -> Any:
        os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # before the import, or it calls home
        import albumentations as A
        import cv2

        cv2.setNumThreads(0)
        c, p = self.colour, self.degrade
        return A.Compose(
            [
                A.Affine(
                    rotate=(-self.rotate, self.rotate),
                    scale=(1 - self.scale, 1 + self.scale),
                    translate_percent=(-self.shift, self.shift),
                    border_mode=_PAD,
                    p=0.8 if self.rotate or self.scale or self.shift else 0.0,
                ),
                A.ColorJitter(brightness=c, contrast=c, saturation=c, hue=c / 10, p=0.8 if c else 0.0),
                A.GaussianBlur(blur_limit=0, sigma_limit=(0.3, 1.2), p=p),
                A.GaussNoise(std_range=(0.01, 0.05), p=p),
                A.ImageCompression(quality_range=(40, 90), p=p),
                A.Downscale(scale_range=(0.5, 0.9), p=p),
            ],
            keypoint_params=A.KeypointParams(format="xy", remove_invisible=False),
        )

    def __call__(self, batch: FaceBatch, keys: Sequence[tuple[int, ...]]) -> FaceBatch:
        """A new batch; item ``i`` depends on its content and ``keys[i]`` alone.

        Args:
            batch: B faces.
            keys: B tuples of integers.

        Raises:
            ValueError: not one key an item.
        """
        if len(keys) != len(batch):
            raise ValueError(f"expected one key for each of the {len(batch)} faces, got {len(keys)}")
        if self._pipeline is None:
            self._pipeline = self._build()
        seeds = [int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:4], "little") for key in keys]
        flips = [bool(np.random.default_rng(seed).random() < self.flip) for seed in seeds]
        batch = mirror_faces(batch, torch.tensor(flips, dtype=torch.bool))
        images, landmarks, poses = [], [], []
        for image, points, pose, seed in zip(batch.image, batch.landmarks.numpy(), batch.pose.numpy(), seeds):
            out = self._one(np.ascontiguousarray(image.permute(1, 2, 0).numpy()), points, pose.copy(), seed)
            images.append(out[0])
            landmarks.append(out[1])
            poses.append(out[2])
        return replace(
            batch,
            image=torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous(),
            landmarks=torch.from_numpy(np.stack(landmarks)),
            pose=torch.from_numpy(np.stack(poses)),
        )

    def _one(
        self, image: NDArray[np.uint8], points: NDArray[np.float32], pose: NDArray[np.float32], seed: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32]]:
        unknown = np.asarray(np.isnan(points).any(axis=1))
        self._pipeline.set_random_seed(seed)
        result = self._pipeline(image=image, keypoints=np.where(unknown[:, None], 0, points).astype(np.float32))
        moved = np.asarray(result["keypoints"], dtype=np.float32)[:, :2]
        moved[unknown] = np.nan
        if (~unknown).sum() >= 2:
            pose[2] += _rotation(points[~unknown], moved[~unknown])
        return result["image"], moved, pose


def _rotation(before: NDArray[np.float32], after: NDArray[np.float32]) -> float:
    """Angle of the similarity between two point sets (n, 2), degrees, clockwise on screen (y down)."""
    a, b = before - before.mean(0), after - after.mean(0)
    cross = float((a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum())
    return float(np.degrees(np.arctan2(cross, float((a * b).sum()))))
