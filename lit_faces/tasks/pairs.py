"""From a pair of frames to a request: what the generator is told in training and in evaluation."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lit_faces.core.sample import FaceBatch
from lit_faces.models.blocks import upsample
from lit_faces.models.conditioning import Condition, au_masks, changed, changed_area
from lit_faces.tasks.augmentation import jitter_pair_colours, mirror_pairs

Pair = dict[str, FaceBatch]


@dataclass
class Example:
    """A source, what is asked of it, and the real frame that shows it.

    Attributes:
        source: float (B, 3, S, S) in [-1, 1].
        target: float (B, 3, S, S) in [-1, 1].
        condition: the request.
        weight: float (B, 1, S, S), importance of each pixel of the target, 1 or more.
        target_au: float (B, 19), the target's AUs, 0..5, NaN = not coded.
    """

    source: Tensor
    target: Tensor
    condition: Condition
    weight: Tensor
    target_au: Tensor


def request(source: FaceBatch, target_landmarks: Tensor, target_au: Tensor) -> Condition:
    """The request to show ``target_au`` (B, 19) at ``target_landmarks`` (B, 68, 2) on ``source``."""
    return Condition(source.landmarks, target_landmarks, source.au_intensity, target_au)


@torch.no_grad()
def changed_weight(source: FaceBatch, target: FaceBatch, extra: float) -> Tensor:
    """1, plus ``extra`` where AUs differ in truth, growing with the difference up to 2.5 grades: (B, 1, S, S)."""
    size = target.image.shape[-1]
    cells = max(16, size // 4)
    pair = Condition(source.landmarks, target.landmarks, source.au_intensity, target.au_intensity)
    area = changed_area(au_masks(target.landmarks, size, cells), changed(pair, full=2.5), widen=2.0)
    return 1.0 + extra * upsample(area, size)


@torch.no_grad()
def training_example(
    pair: Pair, generator: torch.Generator, drop_source_au: float, landmark_noise: float, augment: bool, extra: float
) -> Example:
    """A pair as the generator meets it in training.

    Args:
        pair: source and target frames.
        generator: of the random numbers.
        drop_source_au: share of sources whose AUs are hidden, as they are for a photograph.
        landmark_noise: standard deviation, share of the crop; one error for both frames, as a detector makes it.
        augment: mirror half of the pairs, and vary the light alike in both.
        extra: see :func:`changed_weight`.
    """
    source, target = pair["source"], pair["target"]
    if augment:
        source, target = mirror_pairs(source, target, generator)
    weight = changed_weight(source, target, extra)
    images = source.image_float(), target.image_float()
    if augment:
        images = jitter_pair_colours(*images, generator)
    noise = torch.randn(source.landmarks.shape, generator=generator) * (landmark_noise * source.image.shape[-1])
    noise = noise.to(source.landmarks.device)
    hidden = (torch.rand(len(source), 1, generator=generator) < drop_source_au).to(source.landmarks.device)
    condition = Condition(
        source.landmarks + noise,
        target.landmarks + noise,
        source.au_intensity.masked_fill(hidden, float("nan")),
        target.au_intensity,
    )
    return Example(images[0], images[1], condition, weight, target.au_intensity)
