"""A watch on the attention mask, whose collapse to all zeros or all ones is the commonest failure of this family."""

from __future__ import annotations

import torch
from pytorch_lightning.utilities.rank_zero import rank_zero_warn
from torch import Tensor, nn

from lit_faces.models.generators.output import GeneratorOutput

LIMITS = (0.02, 0.6)
_GRACE = 2000  # images: before, the attention is still finding its place


class AttentionWatch(nn.Module):
    """Running mean of the attention where the request allows a change; part of the checkpoint."""

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.full((), float("nan")))

    @torch.no_grad()
    def update(self, output: GeneratorOutput) -> None:
        """Add a training batch; without synchronising a GPU."""
        if output.attention is None:
            return
        allowed = output.gate if output.gate is not None else torch.ones_like(output.attention)
        mean = output.attention.float().sum() / allowed.float().sum().clamp(min=1.0)
        self.mean.copy_(torch.where(self.mean.isnan(), mean, self.mean.lerp(mean, 0.02)))

    def warn(self, images_seen: int) -> None:
        """Warn when the mean has left ``LIMITS`` after the first 2000 images."""
        value, (low, high) = float(self.mean), LIMITS
        if images_seen > _GRACE and (value < low or value > high):
            rank_zero_warn(
                f"attention collapse: the mean attention where changes are allowed is {value:.3f}, outside "
                f"[{low}, {high}] after {images_seen} images; lower weights.sparsity or raise weights.au"
            )
