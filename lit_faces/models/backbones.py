"""Backbones by name: our own small ones, and all of timm's. Nothing is ever downloaded."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from lit_faces.core.weights import load_into


class PlainBlock(nn.Module):
    """conv-norm-relu-conv-norm with a shortcut; the first convolution may halve the size."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.first_norm = nn.BatchNorm2d(outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.second_norm = nn.BatchNorm2d(outputs)
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if same else nn.Conv2d(inputs, outputs, 1, bias=False)
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, h, w) -> (B, outputs, h / stride, w / stride)."""
        hidden = self.second_norm(self.second(functional.relu(self.first_norm(self.first(x)))))
        around = functional.avg_pool2d(x, 2) if self.stride == 2 else x
        return functional.relu(hidden + self.shortcut(around))


class AlignedFaceNet(nn.Module):
    """A plain residual net for aligned faces: no pixel is skipped in the stem, and the place of a feature is kept.

    The marks of AU6 and AU17 are one or two pixels wide at 128 px, so the stem folds 2 x 2 pixels into channels instead
    of striding over them. The last maps are read on a 4 x 4 grid as well as on average: a face is aligned, so *where*
    is an answer.

    Args:
        widths: channels at 1/2, 1/4, 1/8, 1/16 of the resolution.
        depths: blocks at each.
    """

    def __init__(
        self,
        widths: tuple[int, ...] = (24, 48, 96, 192),
        depths: tuple[int, ...] = (1, 2, 2, 1),
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__()
        self.stem = nn.Conv2d(12, widths[0], 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(widths[0])
        blocks: list[nn.Module] = []
        before = widths[0]
        for stage, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            for step in range(depth):
                blocks.append(PlainBlock(before, width, 2 if stage and not step else 1))
                before = width
        self.blocks = nn.Sequential(*blocks)
        self.reduce = nn.Conv2d(before, 48, 1)
        self.drop = nn.Dropout(drop_rate)
        self.num_features = before + 16 * 48

    def forward(self, image: Tensor) -> Tensor:
        """Pictures (B, 3, S, S) in [-1, 1] -> features (B, num_features)."""
        x = functional.relu(self.norm(self.stem(functional.pixel_unshuffle(image, 2))))
        return self._pool(self.blocks(x))

    def stages(self, image: Tensor) -> tuple[list[Tensor], Tensor]:
        """Pictures (B, 3, S, S) in [-1, 1] -> the maps after every block (B, C, h, w), and the features."""
        x = functional.relu(self.norm(self.stem(functional.pixel_unshuffle(image, 2))))
        maps = []
        for block in self.blocks:
            x = block(x)
            maps.append(x)
        return maps, self._pool(x)

    def _pool(self, x: Tensor) -> Tensor:
        placed = functional.adaptive_avg_pool2d(functional.relu(self.reduce(x)), 4)
        return self.drop(torch.cat([x.mean((2, 3)), placed.flatten(1)], 1))


#: Our own by name: channels, and blocks, at 1/2, 1/4, 1/8 and 1/16 of the resolution.
OWN = {
    "aligned_face_small": ((16, 32, 64, 128), (1, 2, 2, 1)),  # 0.7 M parameters
    "aligned_face_base": ((24, 48, 96, 192), (1, 2, 2, 1)),
    "aligned_face_deep": ((24, 48, 112, 192), (1, 2, 3, 2)),  # deeper where it is cheap
}


def build_backbone(name: str, weights: Path | str | None = None, drop_rate: float = 0.0) -> tuple[nn.Module, int]:
    """A network that turns pictures (B, 3, S, S) in [-1, 1] into features (B, D).

    Args:
        name: one of :data:`OWN`, or any timm model.
        weights: local safetensors file to start from; None means random weights. Nothing is downloaded.
        drop_rate: dropout before the head.

    Returns:
        The network, and D.

    Raises:
        ValueError: no such model (names the nearest), or weights of another architecture.
        FileNotFoundError: no such weight file.
    """
    network: Any = AlignedFaceNet(*OWN[name], drop_rate) if name in OWN else _timm_network(name, drop_rate)
    if weights is not None:
        load_into(network, weights, strict=False)
    width: Any = getattr(network, "head_hidden_size", None) or network.num_features
    return network, int(width)


def _timm_network(name: str, drop_rate: float) -> nn.Module:
    import timm  # here, because it takes most of a second, and the detectors that ship do without

    if not timm.is_model(name):
        near = difflib.get_close_matches(name, [*OWN, *timm.list_models()], n=3)
        raise ValueError(f"backbone {name!r}: timm knows no such model; nearest: {', '.join(near) or 'none'}")
    network: nn.Module = timm.create_model(name, pretrained=False, num_classes=0, drop_rate=drop_rate)
    return network
