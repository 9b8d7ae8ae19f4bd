"""Baseline: pixels are only moved. The closed-form warp plus a learned residual flow; no appearance network."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lit_faces.models.blocks import ResidualBlock, activate, conv, upsample
from lit_faces.models.conditioning import Condition, check_condition
from lit_faces.models.generators.base import Generator
from lit_faces.models.generators.body import Encoder, MotionNet, solve_geometry
from lit_faces.models.generators.fused import NUM_CONDITION_MAPS, condition_maps
from lit_faces.models.generators.output import GeneratorOutput
from lit_faces.models.warping import warp


class WarpOnlyGenerator(Generator):
    """Thin-plate-spline warp plus a residual flow that sees the same maps as the fused generator.

    Args:
        width: channels of the encoder at half resolution.
        condition_width: channels of the embedded condition maps.
        motion_width: channels of the motion network, wider than in the fused generator so that the sizes compare.
        limit: largest residual flow, crop coordinates.
    """

    name = "warp_only"

    def __init__(self, width: int = 32, condition_width: int = 48, motion_width: int = 96, limit: float = 0.08) -> None:
        super().__init__()
        self.embed = nn.Sequential(conv(NUM_CONDITION_MAPS, condition_width), nn.LeakyReLU(0.1))
        self.refine = ResidualBlock(condition_width)
        self.encoder = Encoder(width)
        self.motion = MotionNet(2 * width + condition_width, motion_width, limit)

    def forward(self, source: Tensor, condition: Condition) -> GeneratorOutput:
        """Source float (B, 3, S, S) in [-1, 1] and its request -> :class:`GeneratorOutput`; every pixel is kept.

        Raises:
            ValueError: shapes that do not fit.
        """
        check_condition(source, condition)
        size = source.shape[-1]
        geometry = solve_geometry(condition, size)
        embedded = activate(self.refine(self.embed(condition_maps(condition, geometry, size))))
        quarter = self.encoder(source)[1]
        seen = upsample(warp(quarter, geometry.flow), geometry.flow.shape[1])
        residual, _ = self.motion(torch.cat([seen, embedded], 1), geometry.gate)
        flow = geometry.flow + residual
        warped = warp(source, flow).float()
        return GeneratorOutput(
            image=warped,
            warped=warped,
            flow=flow,
            keep=torch.ones_like(warped[:, :1]),
            gate=upsample(geometry.change_gate, size),
            residual_flow=residual,
        )
