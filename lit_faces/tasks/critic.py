"""A frozen AU detector as a perceptual loss: what it sees on a generated face should be what it sees on the real one.

Johnson et al. (2016) compare features of a network trained on objects; these were trained on Action Units, so a missing
crow's foot weighs more than a shifted pore. The critic is a detector of its own (other people, weights and another
architecture than the judge's): what trains a generator must not referee it.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from torch import Tensor, nn

from lit_faces.core.facs import MAX_INTENSITY
from lit_faces.core.geometry import resize_images
from lit_faces.core.shipped import weights_path
from lit_faces.models.backbones import AlignedFaceNet
from lit_faces.tasks.au_detector import load_detector


def same_detector(critic: Path | str, judge: Path | str) -> bool:
    """Whether two weight files (``packaged`` for the shipped ones) have the same content."""
    paths = weights_path("critic", critic), weights_path("judge", judge)
    if not all(path.is_file() for path in paths):
        return False  # whoever loads it says what is missing
    one, other = (hashlib.sha256(path.read_bytes()).digest() for path in paths)
    return one == other


class AUCritic(nn.Module):
    """Distances between generated and real frames in the features and readings of a frozen AU detector.

    Args:
        path: weights of an AU detector with one of our own backbones, or ``packaged``.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a detector, or another backbone.
    """

    def __init__(self, path: Path | str = "packaged") -> None:
        super().__init__()
        path = weights_path("critic", path)
        detector = load_detector(path)
        backbone = detector.backbone
        if not isinstance(backbone, AlignedFaceNet):
            raise ValueError(f"{path}: the critic needs a backbone of ours, found {detector.backbone_name!r}")
        self.backbone, self.head = backbone, detector.head
        self.size, self.memory_format = detector.size, detector.memory_format

    def train(self, mode: bool = True) -> AUCritic:
        """Always in evaluation mode."""
        return super().train(False)

    def look(self, image: Tensor) -> tuple[list[Tensor], Tensor]:
        """Pictures (B, 3, S, S) in [-1, 1] -> feature maps of every block, and AUs float32 (B, 19), 0..5."""
        image = resize_images(image, self.size, self.size)
        features, pooled = self.backbone.stages(image.contiguous(memory_format=self.memory_format))
        return features, self.head(pooled)

    def distances(self, image: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Scalars: mean L1 of the features in units of the real ones' mean, mean squared difference of the AUs / 5."""
        with torch.no_grad():
            wanted, wanted_au = self.look(target)
        found, found_au = self.look(image)
        parts = [
            (a.float() - b.float()).abs().mean() / b.float().abs().mean().clamp(min=1e-3)
            for a, b in zip(found, wanted, strict=True)
        ]
        return torch.stack(parts).mean(), ((found_au - wanted_au) / MAX_INTENSITY).square().mean()
