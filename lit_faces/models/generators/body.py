"""The body that the fused and the landmark-only generator share: geometry, motion network, appearance network.

What differs between them is only what the networks are told (maps, or a vector) and where a change is allowed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from lit_faces.models.blocks import ResidualBlock, activate, bounded, conv, join, layout, upsample, zero_conv
from lit_faces.models.conditioning import Condition, au_masks, changed, changed_area
from lit_faces.models.generators.output import GeneratorOutput
from lit_faces.models.warping import landmark_flow, warp

_MOTION_PIXEL = 0.03  # of half the crop: a flow of this length opens the gate of motion to 1 - 1/e


def motion_grid(size: int) -> int:
    """Side of the motion grid: 32 cells at 64 and 128 pixels, 64 at 256."""
    return min(size, max(32, size // 4))


def face_features(face: Tensor) -> Tensor:
    """Coordinates on the mean face (B, g, g, 2) as planes: float32 (B, 14, g, g): x, y, and sines at three scales."""
    planes = face.permute(0, 3, 1, 2)
    waves = torch.cat([planes * (torch.pi * 2.0**octave) for octave in range(3)], 1)
    return torch.cat([planes.clamp(-2, 2), waves.sin(), waves.cos()], 1)


NUM_FACE_FEATURES = 14


def motion_gate(flow: Tensor) -> Tensor:
    """Where the geometry moves anything: (B, g, g, 2) -> float32 (B, 1, g, g) in [0, 1), exactly 0 without motion."""
    squared = flow.square().sum(-1)[:, None]
    return 1.0 - torch.exp(-squared / _MOTION_PIXEL**2)


class MotionNet(nn.Module):
    """Residual flow and occlusion at the motion grid; both start at zero.

    Args:
        inputs: channels of the features that it sees.
        width: its own channels.
        limit: largest residual flow, in crop coordinates (0.08 = 5 pixels at 128).
    """

    def __init__(self, inputs: int, width: int, limit: float = 0.08) -> None:
        super().__init__()
        self.limit = limit
        self.enter = conv(inputs, width)
        self.block = ResidualBlock(width)
        self.leave = zero_conv(width, 3)

    def forward(self, features: Tensor, gate: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, inputs, g, g), gate (B, 1, g, g) -> residual flow (B, g, g, 2), occlusion logit (B, 1, g, g)."""
        out = self.leave(activate(self.block(self.enter(features)))).float()
        residual = self.limit * torch.tanh(out[:, :2]) * gate
        return residual.permute(0, 2, 3, 1), out[:, 2:]


class Encoder(nn.Module):
    """Features of the source at 1/2, 1/4 and 1/8 of the resolution (the stem is a space-to-depth)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.stem = conv(12, width)
        self.second = conv(width, 2 * width, stride=2)
        self.third = conv(2 * width, 3 * width, stride=2)

    def forward(self, source: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, 3, S, S) -> (B, w, S/2, S/2), (B, 2w, S/4, S/4), (B, 3w, S/8, S/8)."""
        half = activate(self.stem(functional.pixel_unshuffle(source, 2)))
        quarter = activate(self.second(half))
        return half, quarter, activate(self.third(quarter))


class AppearanceNet(nn.Module):
    """Warped features at three scales, modulated blocks, and a last stage at full resolution.

    Args:
        width: channels at half resolution (2x at a quarter, 3x at an eighth).
        depth: modulated blocks a scale.
        block: class of the modulated blocks, called with (width, condition_width).
        condition_width: channels of the condition.
        full_condition: channels of the condition at full resolution.
        half_condition: channels of the condition at half resolution.
        full_width: channels at full resolution.
    """

    def __init__(
        self,
        width: int,
        depth: int,
        block: type[nn.Module],
        condition_width: int,
        full_condition: int,
        half_condition: int,
        full_width: int = 16,
    ) -> None:
        super().__init__()
        self.eighth_blocks = nn.ModuleList(block(3 * width, condition_width) for _ in range(depth))
        self.to_quarter = conv(5 * width, 2 * width, 1)
        self.quarter_blocks = nn.ModuleList(block(2 * width, condition_width) for _ in range(depth))
        self.to_half = conv(3 * width + 12, width, 1)
        self.half_blocks = nn.ModuleList(block(width, half_condition) for _ in range(depth))
        self.to_full = conv(width, 4 * (full_width - 3), 1)
        self.full = block(full_width, full_condition)
        self.heads = zero_conv(full_width, 8)

    def forward(self, features: Sequence[Tensor], warped: Tensor, conditions: Sequence[Tensor]) -> Tensor:
        """Warped features (1/2, 1/4, 1/8), warped source, conditions (1, 1/2, 1/4, 1/8) -> (B, 8, S, S) raw heads."""
        half, quarter, eighth = features
        at_full, at_half, at_quarter, at_eighth = conditions
        x = eighth
        for block in self.eighth_blocks:
            x = block(x, at_eighth)
        x = join(self.to_quarter, x, quarter)
        for block in self.quarter_blocks:
            x = block(x, at_quarter)
        pixels = functional.pixel_unshuffle(warped, 2).to(x.dtype)
        x = join(self.to_half, x, torch.cat([half, pixels], 1))
        for block in self.half_blocks:
            x = block(x, at_half)
        x = functional.pixel_shuffle(self.to_full(activate(x)), 2)
        x = torch.cat([x, warped.to(x.dtype)], 1).contiguous(memory_format=layout(half))
        x = self.full(x, at_full)
        return self.heads(activate(x)).float()


@dataclass
class Geometry:
    """The closed-form part of one request at the motion grid; no parameters, no gradients, float32.

    Attributes:
        flow: (B, g, g, 2), from the thin-plate spline.
        face: (B, g, g, 2), coordinates on the mean face.
        masks: (B, 19, g, g), where each AU acts.
        change_gate: (B, 1, g, g), where appearance may change: the places of the AUs that change, and those of all AUs
            where the geometry moves the face (its shading turns with it).
        gate: (B, 1, g, g), that, or any motion (hair and background may be uncovered).
    """

    flow: Tensor
    face: Tensor
    masks: Tensor
    change_gate: Tensor
    gate: Tensor


@torch.no_grad()
def solve_geometry(condition: Condition, size: int, all_aus: bool = False) -> Geometry:
    """Spline flow, AU masks and gates of a request on a ``size`` crop.

    ``all_aus`` opens the change gate on the whole face, for generators that are not told the AUs.
    """
    grid = motion_grid(size)
    flow, face = landmark_flow(condition.source_landmarks, condition.target_landmarks, size, grid)
    masks = au_masks(condition.target_landmarks, size, grid)
    moving = motion_gate(flow)
    everywhere = changed_area(masks, torch.ones_like(condition.target_au))
    change_gate = everywhere if all_aus else changed_area(masks, changed(condition)).maximum(moving * everywhere)
    return Geometry(flow, face, masks, change_gate, change_gate.maximum(moving))


def compose(heads: Tensor, warped: Tensor, occlusion: Tensor, geometry: Geometry, flow: Tensor) -> GeneratorOutput:
    """``out = K (warped + A tanh(residual)) + (1 - K) repaint``; equals the warp while the heads are zero.

    K is 1 outside the gate, A is 0 outside the change gate; the repaint starts at the warped colour.

    Args:
        heads: float32 (B, 8, S, S): residual 3, repaint 3, attention logit, occlusion logit.
        warped: (B, 3, S, S) in [-1, 1].
        occlusion: (B, 1, g, g) logit of the motion network.
        geometry: of the request.
        flow: (B, g, g, 2), whole flow.
    """
    size = warped.shape[-1]
    warped = warped.float()
    allowed, gate = upsample(geometry.change_gate, size), upsample(geometry.gate, size)
    residual, repaint, attention, hidden = heads.split([3, 3, 1, 1], dim=1)
    attention = allowed * torch.sigmoid(bounded(attention))
    lost = gate * torch.sigmoid(bounded(hidden + upsample(occlusion, size)) - 2.0)
    repainted = torch.tanh(torch.atanh(warped.clamp(-0.999, 0.999)) + repaint)
    image = (1.0 - lost) * (warped + attention * torch.tanh(residual)) + lost * repainted
    return GeneratorOutput(image, warped, flow, 1.0 - lost, attention, allowed, flow - geometry.flow)


class WarpRenderBody(nn.Module):
    """Encoder, motion network, warp at three scales, appearance network, composition.

    Args:
        width: channels at half resolution.
        depth: modulated blocks a scale.
        block: class of the modulated blocks.
        condition_width: channels of the condition that the blocks get.
        motion_condition: channels of the maps that the motion network gets beside the features.
        full_condition: channels of the condition at full resolution.
        half_condition: channels of the condition at half resolution; None means ``condition_width``.
    """

    def __init__(
        self,
        width: int,
        depth: int,
        block: type[nn.Module],
        condition_width: int,
        motion_condition: int,
        full_condition: int,
        half_condition: int | None = None,
    ) -> None:
        super().__init__()
        self.encoder = Encoder(width)
        self.motion = MotionNet(2 * width + motion_condition, 48)
        half_condition = condition_width if half_condition is None else half_condition
        self.appearance = AppearanceNet(width, depth, block, condition_width, full_condition, half_condition)

    def forward(
        self, source: Tensor, geometry: Geometry, motion_condition: Tensor, conditions: Sequence[Tensor]
    ) -> GeneratorOutput:
        """Source (B, 3, S, S), geometry, maps at the motion grid, conditions at 1, 1/2, 1/4, 1/8 -> the output."""
        features = self.encoder(source)
        grid = geometry.flow.shape[1]
        seen = upsample(warp(features[1], geometry.flow), grid)
        residual, occlusion = self.motion(torch.cat([seen, motion_condition.to(seen.dtype)], 1), geometry.gate)
        flow = geometry.flow + residual
        warped = warp(source, flow)
        heads = self.appearance([warp(x, flow) for x in features], warped, conditions)
        return compose(heads, warped, occlusion, geometry, flow)
