"""The fused generator: landmark geometry in closed form, AU-intensity maps for what geometry cannot show.

    source (B,3,S,S) ── encoder ── 1/2, 1/4, 1/8 ──┐ warp at three scales
    landmarks ── thin-plate spline ── flow ──(+)───┤
                                              │    │   appearance net: blocks modulated by the condition maps,
    heatmaps, AU maps, face coordinates ── motion net  the last ones also by the AU templates
                                    └──────────────┴── keep K, attention A, residual, repaint

    out = K (warp(source) + A tanh(residual)) + (1 - K) repaint

AU maps: (target - source intensity) x the AU's anatomical mask, the absolute target, and a mask of the AUs whose source
intensity is unknown (a photograph): there the request is absolute. The face coordinates come free with the spline and
say where on the mean face a pixel lies; by them the learnt AU templates (:mod:`.templates`) are looked up at full
resolution, which is what places a crow's foot.
"""

from __future__ import annotations

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from lit_faces.core.facs import MAX_INTENSITY, NUM_AUS
from lit_faces.models.blocks import MapModulatedBlock, activate, conv, upsample
from lit_faces.models.conditioning import NUM_PARTS, Condition, check_condition, landmark_heatmaps
from lit_faces.models.generators.base import Generator
from lit_faces.models.generators.body import NUM_FACE_FEATURES, Geometry, WarpRenderBody, face_features, solve_geometry
from lit_faces.models.generators.output import GeneratorOutput
from lit_faces.models.generators.templates import AUTemplates

NUM_CONDITION_MAPS = 3 * NUM_AUS + 2 * (NUM_PARTS + 1) + NUM_FACE_FEATURES


def condition_maps(condition: Condition, geometry: Geometry, size: int) -> Tensor:
    """Everything that is asked, at the motion grid: float32 (B, 85, g, g).

    AU differences, absolute targets, unknown sources (19 each), heatmaps of target and source, face coordinates.
    """
    grid = geometry.flow.shape[1]
    target, source = condition.target_au.float(), condition.source_au.float()
    asked, known = ~target.isnan(), ~source.isnan()
    difference = (target - source).nan_to_num(0.0) / MAX_INTENSITY
    absolute = target.nan_to_num(0.0) / MAX_INTENSITY
    values = torch.cat([difference, absolute, (asked & ~known).float()], 1)
    au = geometry.masks.repeat(1, 3, 1, 1) * values[..., None, None]
    parts = [landmark_heatmaps(x, size, grid) for x in (condition.target_landmarks, condition.source_landmarks)]
    return torch.cat([au, *parts, face_features(geometry.face)], 1)


class FusedGenerator(Generator):
    """Thin-plate-spline warp plus an appearance network modulated by landmark and AU maps.

    Step 0 equals the warp; a request for the source's own landmarks and AUs returns the source.

    Args:
        width: channels at half resolution; parameters grow with its square (32: 0.5 M).
        depth: modulated blocks a scale.
        condition_width: channels of the embedded condition maps.
        templates: channels of the AU templates; 0 leaves them out.
        template_cells: side of the AU templates; 96 serve crops of 128 pixels.
    """

    name = "fused"

    def __init__(
        self,
        width: int = 32,
        depth: int = 1,
        condition_width: int = 48,
        templates: int = 8,
        template_cells: int = 96,
    ) -> None:
        super().__init__()
        self.embed = nn.Sequential(conv(NUM_CONDITION_MAPS, condition_width), nn.LeakyReLU(0.1))
        self.refine = conv(condition_width, condition_width)
        self.to_full = conv(condition_width, 12, 1)
        self.templates = AUTemplates(templates, template_cells) if templates else None
        self.body = WarpRenderBody(
            width,
            depth,
            MapModulatedBlock,
            condition_width,
            condition_width + templates,
            full_condition=12 + templates,
            half_condition=condition_width + templates,
        )

    def forward(self, source: Tensor, condition: Condition) -> GeneratorOutput:
        """Source float (B, 3, S, S) in [-1, 1] and its request -> :class:`GeneratorOutput`.

        Raises:
            ValueError: shapes that do not fit.
        """
        check_condition(source, condition)
        size = source.shape[-1]
        geometry = solve_geometry(condition, size)
        maps = condition_maps(condition, geometry, size)
        embedded = self.embed(maps)
        embedded = embedded + self.refine(embedded)
        fine = activate(self.to_full(embedded))
        full, *scales = [upsample(fine, size), *(upsample(embedded, s) for s in (size // 2, size // 4, size // 8))]
        if self.templates is None:
            return self.body(source, geometry, embedded, [full, *scales])
        sharp = self.templates(condition, geometry.face, size).to(embedded.dtype)
        half = functional.avg_pool2d(sharp, 2)
        motion = functional.adaptive_avg_pool2d(half, embedded.shape[-1])
        scales[0] = torch.cat([scales[0], half], 1)
        return self.body(source, geometry, torch.cat([embedded, motion], 1), [torch.cat([full, sharp], 1), *scales])
