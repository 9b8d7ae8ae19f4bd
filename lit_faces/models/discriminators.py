"""A small conditional discriminator: the whole face at half resolution, and cheeks and chin at native resolution.

The marks of AU6 and AU17 are one or two pixels wide at 128 px and vanish at 64, so three patches (both eye corners with
their cheeks, and the chin) are cropped by the target landmarks and judged pixel by pixel; the whole face is judged at
half size, which is four times cheaper. Both branches read the request (the same maps as the generator), and their
pooled features regress the AUs: that regression, learnt on real frames only, is the generator's AU-consistency loss.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as functional
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from lit_faces.core.facs import MAX_INTENSITY, NUM_AUS
from lit_faces.models.blocks import activate, conv
from lit_faces.models.conditioning import NUM_PARTS, Condition, au_maps, landmark_heatmaps
from lit_faces.models.heads import AUHead
from lit_faces.models.warping import normalise, regular_grid

_NUM_MAPS = NUM_AUS + 1 + NUM_PARTS + 1
_PATCH = 0.3125  # of the crop: 40 pixels at 128
_INNER_EYES, _OUTER_EYES, _CHIN = (39, 42), (36, 45), (57, 8)
_CHEEK_DROP = 0.35  # patch centre below the outer eye corner, inner-eye distances


@dataclass
class Request:
    """A condition prepared once and judged several times.

    Attributes:
        maps: float (B, 27, S/4, S/4), AU maps and heatmaps of the target.
        vector: float (B, 38), target AUs / 5 and which of them are asked.
        grids: float (B, 3, P, P, 2), sampling grids of the patches (right cheek, left cheek, chin).
    """

    maps: Tensor
    vector: Tensor
    grids: Tensor

    def twice(self) -> Request:
        """The request for a batch that is followed by another of the same requests."""
        return Request(*(torch.cat([x, x]) for x in (self.maps, self.vector, self.grids)))


@dataclass
class Verdict:
    """What the discriminator says.

    Attributes:
        logits: patch logits, one tensor a scale: (B, 1, h, w) of the face, (3 B, 1, h, w) of the patches.
        features: intermediate features, for feature matching; the first axis is B or 3 B.
        au: float (B, 19), intensity 0..5.
    """

    logits: list[Tensor]
    features: list[Tensor]
    au: Tensor

    def split(self, first: int) -> tuple[Verdict, Verdict]:
        """The verdicts on the first ``first`` pictures, and on the others."""
        batch = len(self.au)
        cut = [[x.tensor_split([len(x) * first // batch]) for x in xs] for xs in (self.logits, self.features)]
        logits, features = ([[pair[side] for pair in pairs] for side in range(2)] for pairs in cut)
        aus = self.au.tensor_split([first])
        return Verdict(logits[0], features[0], aus[0]), Verdict(logits[1], features[1], aus[1])


def patch_centres(landmarks: Tensor, size: int) -> Tensor:
    """Centres of the three patches: (B, 68, 2) pixels -> float32 (B, 3, 2); unknown landmarks give the mean face's."""
    points = landmarks.float()
    drop = (points[:, _INNER_EYES[1]] - points[:, _INNER_EYES[0]]).norm(dim=-1, keepdim=True) * _CHEEK_DROP
    below = torch.cat([torch.zeros_like(drop), drop], -1)
    centres = torch.stack([*(points[:, eye] + below for eye in _OUTER_EYES), points[:, _CHIN].mean(1)], 1)
    usual = torch.tensor([[0.27, 0.48], [0.73, 0.48], [0.5, 0.87]], device=points.device) * size
    return torch.where(centres.isnan(), usual, centres)


class Branch(nn.Module):
    """Strided convolutions with spectral norm; the request enters after the first."""

    def __init__(self, inputs: int, widths: tuple[int, ...], condition_width: int) -> None:
        super().__init__()
        self.enter = spectral_norm(conv(inputs, widths[0]))
        before = (widths[0] + condition_width, *widths[1:-1])
        self.layers = nn.ModuleList(
            spectral_norm(nn.Conv2d(a, b, 4, stride=2, padding=1)) for a, b in zip(before, widths[1:])
        )
        self.verdict = spectral_norm(conv(widths[-1], 1))

    def forward(self, x: Tensor, condition: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Picture (B, inputs, h, w), condition (B, C) or (B, C, h, w) -> logits, features of every layer."""
        x = activate(self.enter(x))
        features = [x]
        if condition.ndim == 2:
            condition = condition[..., None, None].expand(-1, -1, *x.shape[2:])
        elif condition.shape[-1] != x.shape[-1]:
            condition = functional.interpolate(condition, size=x.shape[2:], mode="bilinear", align_corners=False)
        x = torch.cat([x, condition.to(x.dtype)], 1)
        for layer in self.layers:
            x = activate(layer(x))
            features.append(x)
        return self.verdict(x).float(), features


class MultiScaleDiscriminator(nn.Module):
    """Whole face at half resolution plus native patches of cheeks and chin, with an AU regression head.

    Args:
        width: channels of the first layers.
        patches: whether the native patches are judged.
    """

    def __init__(self, width: int = 24, patches: bool = True) -> None:
        super().__init__()
        self.patches = patches
        self.reduce = conv(_NUM_MAPS, 16, 1)
        self.face = Branch(12, (width, 2 * width, 4 * width, 4 * width), 16)
        pooled = 4 * width
        if patches:
            self.project = nn.Linear(2 * NUM_AUS + 2, 8)
            self.patch = Branch(3, (width // 2 + 4, 2 * width, 3 * width, 3 * width), 8)
            pooled += 2 * 3 * width
        self.au = AUHead(pooled)

    @torch.no_grad()
    def prepare(self, condition: Condition, size: int) -> Request:
        """The maps, vector and patch grids of a request on ``size`` crops."""
        landmarks, au = condition.target_landmarks, condition.target_au
        cells = size // 4
        maps = torch.cat([au_maps(landmarks, au, size, cells), landmark_heatmaps(landmarks, size, cells)], 1)
        vector = torch.cat([au.float().nan_to_num(0.0) / MAX_INTENSITY, (~au.isnan()).float()], 1)
        side = max(8, round(_PATCH * size / 8) * 8)
        centres = normalise(patch_centres(landmarks, size).round() - 0.5, size)  # on pixels: no blur
        grids = regular_grid(side, landmarks.device) * (side / size) + centres[:, :, None, None]
        return Request(maps, vector, grids)

    def forward(self, image: Tensor, request: Request) -> Verdict:
        """Pictures float (B, 3, S, S) in [-1, 1] and their requests -> :class:`Verdict`."""
        half = functional.avg_pool2d(image, 2)
        logits, features = self.face(functional.pixel_unshuffle(half, 2), self.reduce(request.maps))
        pooled = [features[-1].mean((2, 3))]
        verdicts = [logits]
        if self.patches:
            logits, patch_features = self._judge_patches(image, request)
            verdicts.append(logits)
            features = [*features, *patch_features]
            right, left, chin = patch_features[-1].mean((2, 3)).unflatten(0, (-1, 3)).unbind(1)
            pooled += [right + left, chin]
        return Verdict(verdicts, features, self.au(torch.cat(pooled, 1)))

    def _judge_patches(self, image: Tensor, request: Request) -> tuple[Tensor, list[Tensor]]:
        batch, count, side = request.grids.shape[:3]
        with torch.autocast(image.device.type, enabled=False):
            grids = request.grids.reshape(batch, count * side, side, 2).to(image.device)
            crops = functional.grid_sample(image.float(), grids, padding_mode="border", align_corners=False)
        crops = crops.unflatten(2, (count, side)).transpose(1, 2).flatten(0, 1)  # (3 B, 3, P, P)
        place = crops.new_tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]]).repeat(batch, 1)
        told = self.project(torch.cat([request.vector.repeat_interleave(count, 0), place], 1))
        return self.patch(crops, told)
