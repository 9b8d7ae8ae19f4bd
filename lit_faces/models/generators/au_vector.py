"""Baseline: an AU vector and an attention mask, no landmarks and no warp (after GANimation, Pumarola et al. 2018)."""

from __future__ import annotations

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from lit_faces.core.facs import MAX_INTENSITY, NUM_AUS
from lit_faces.models.blocks import ResidualBlock, activate, bounded, conv, upsample
from lit_faces.models.conditioning import Condition, check_condition
from lit_faces.models.generators.base import Generator
from lit_faces.models.generators.output import GeneratorOutput


class AUVectorGenerator(Generator):
    """``out = (1 - A) source + A tanh(colour)``; the AU vector is tiled over the picture.

    Args:
        width: channels at half resolution.
        depth: residual blocks at a quarter of the resolution.
    """

    name = "au_vector"

    def __init__(self, width: int = 32, depth: int = 4) -> None:
        super().__init__()
        self.stem = conv(12 + 3 * NUM_AUS, width)
        self.down = conv(width, 2 * width, stride=2)
        self.blocks = nn.ModuleList(ResidualBlock(2 * width) for _ in range(depth))
        self.up = conv(3 * width, width)
        self.to_full = conv(width, 4 * 13, 1)
        self.full = ResidualBlock(16)
        self.heads = conv(16, 4)
        nn.init.normal_(self.heads.weight, std=0.01)

    def forward(self, source: Tensor, condition: Condition) -> GeneratorOutput:
        """Source float (B, 3, S, S) in [-1, 1] and its request -> :class:`GeneratorOutput`; landmarks are not read.

        Raises:
            ValueError: shapes that do not fit.
        """
        check_condition(source, condition)
        target, known = condition.target_au.float(), condition.source_au.float()
        difference = (target - known).nan_to_num(0.0) / MAX_INTENSITY
        vector = torch.cat([difference, target.nan_to_num(0.0) / MAX_INTENSITY, known.isnan().float()], 1)
        pixels = functional.pixel_unshuffle(source, 2)
        tiled = vector[..., None, None].expand(-1, -1, *pixels.shape[2:])
        half = activate(self.stem(torch.cat([pixels, tiled.to(pixels.dtype)], 1)))
        x = self.down(half)
        for block in self.blocks:
            x = block(x)
        x = activate(self.up(torch.cat([upsample(activate(x), half.shape[-1]), half], 1)))
        x = functional.pixel_shuffle(self.to_full(x), 2)
        out = self.heads(activate(self.full(torch.cat([x, source.to(x.dtype)], 1)))).float()
        attention = torch.sigmoid(bounded(out[:, 3:]) - 2.0)  # starts low: the mask of this family collapses to ones
        image = (1.0 - attention) * source.float() + attention * torch.tanh(out[:, :3])
        return GeneratorOutput(image=image, keep=1.0 - attention, attention=attention)
