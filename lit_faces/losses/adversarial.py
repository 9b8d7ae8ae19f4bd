"""Adversarial losses: hinge (Lim & Ye 2017), R1 (Mescheder et al. 2018), feature matching (Wang et al. 2018)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as functional
from torch import Tensor


def hinge_discriminator(real: Sequence[Tensor], fake: Sequence[Tensor]) -> Tensor:
    """Mean over scales of E max(0, 1 - D(real)) + E max(0, 1 + D(fake)); logits of any shape -> scalar."""
    losses = [
        functional.relu(1.0 - r).mean() + functional.relu(1.0 + f).mean() for r, f in zip(real, fake, strict=True)
    ]
    return torch.stack(losses).mean()


def hinge_generator(fake: Sequence[Tensor]) -> Tensor:
    """Mean over scales of -E D(fake); logits of any shape -> scalar."""
    return torch.stack([-f.mean() for f in fake]).mean()


def r1_penalty(logits: Sequence[Tensor], image: Tensor) -> Tensor:
    """Mean over the batch of the squared gradient of the summed logits at real pictures (B, ...); scalar.

    ``image`` must require gradients before the discriminator sees it.
    """
    total = torch.stack([x.sum() for x in logits]).sum()
    (gradient,) = torch.autograd.grad(total, image, create_graph=True)
    return gradient.float().square().sum(tuple(range(1, gradient.ndim))).mean()


def feature_matching(real: Sequence[Tensor], fake: Sequence[Tensor]) -> Tensor:
    """Mean absolute difference of the discriminator's features, each in units of the real ones' mean size; scalar.

    No gradient reaches the real features.
    """
    losses = []
    for r, f in zip(real, fake, strict=True):
        r = r.detach().float()
        losses.append((f.float() - r).abs().mean() / r.abs().mean().clamp(min=1e-3))
    return torch.stack(losses).mean()
