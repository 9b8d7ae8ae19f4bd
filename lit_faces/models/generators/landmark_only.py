"""Baseline: a talking head driven by landmarks alone (AdaIN, after Zakharov et al. 2019).

The same warp and the same body as the fused generator, at the same size; the appearance network is told the landmark
heatmaps of source and target through one style vector, and nothing about Action Units.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lit_faces.models.blocks import VectorModulatedBlock, activate, conv
from lit_faces.models.conditioning import NUM_PARTS, Condition, check_condition, landmark_heatmaps
from lit_faces.models.generators.base import Generator
from lit_faces.models.generators.body import NUM_FACE_FEATURES, WarpRenderBody, face_features, solve_geometry
from lit_faces.models.generators.output import GeneratorOutput


class LandmarkOnlyGenerator(Generator):
    """Thin-plate-spline warp plus an appearance network modulated by a style vector of the landmark heatmaps.

    Args:
        width: channels at half resolution.
        depth: modulated blocks a scale.
        condition_width: length of the style vector and channels of the maps that the motion network gets.
    """

    name = "landmark_only"

    def __init__(self, width: int = 32, depth: int = 1, condition_width: int = 48) -> None:
        super().__init__()
        self.embed = conv(2 * (NUM_PARTS + 1) + NUM_FACE_FEATURES, condition_width)
        self.down = nn.ModuleList(conv(condition_width, condition_width, stride=2) for _ in range(3))
        self.style = nn.Linear(16 * condition_width, condition_width)
        self.body = WarpRenderBody(
            width, depth, VectorModulatedBlock, condition_width, condition_width, full_condition=condition_width
        )

    def forward(self, source: Tensor, condition: Condition) -> GeneratorOutput:
        """Source float (B, 3, S, S) in [-1, 1] and its request -> :class:`GeneratorOutput`; the AUs are not read.

        Raises:
            ValueError: shapes that do not fit.
        """
        check_condition(source, condition)
        size = source.shape[-1]
        geometry = solve_geometry(condition, size, all_aus=True)
        grid = geometry.flow.shape[1]
        parts = [landmark_heatmaps(x, size, grid) for x in (condition.target_landmarks, condition.source_landmarks)]
        embedded = activate(self.embed(torch.cat([*parts, face_features(geometry.face)], 1)))
        pooled = embedded
        for layer in self.down:
            pooled = activate(layer(pooled))
        pooled = nn.functional.adaptive_avg_pool2d(pooled, 4)
        style = activate(self.style(pooled.flatten(1)))
        return self.body(source, geometry, embedded, [style] * 4)
