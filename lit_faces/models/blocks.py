"""Small convolutional pieces shared by the generators and the discriminator."""

from __future__ import annotations

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

SLOPE = 0.1  # of every leaky ReLU


def activate(x: Tensor) -> Tensor:
    """Leaky ReLU: the cheapest activation on a CPU, and it never dies."""
    return functional.leaky_relu(x, SLOPE)


def conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Conv2d:
    """A same-size (or strided) convolution with He initialisation for :func:`activate`."""
    layer = nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2)
    nn.init.kaiming_normal_(layer.weight, a=SLOPE)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def zero_conv(inputs: int, outputs: int, kernel: int = 3) -> nn.Conv2d:
    """A convolution that starts at zero."""
    layer = conv(inputs, outputs, kernel)
    nn.init.zeros_(layer.weight)
    return layer


class ResidualBlock(nn.Module):
    """x + conv(act(conv(act(x)))), the last convolution scaled down at the start."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = conv(width, width)
        self.second = conv(width, width)
        with torch.no_grad():
            self.second.weight.mul_(0.1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, h, w) -> the same."""
        return x + self.second(activate(self.first(activate(x))))


class MapModulatedBlock(nn.Module):
    """A residual block whose features are scaled and shifted by the condition at every place (SPADE, Park et al. 2019).

    No normalisation: a copy of a photograph must keep its colours.

    Args:
        width: channels of the features.
        condition_width: channels of the condition maps.
    """

    def __init__(self, width: int, condition_width: int) -> None:
        super().__init__()
        self.modulation = zero_conv(condition_width, 2 * width, 1)
        self.first = conv(width, width)
        self.second = conv(width, width)
        with torch.no_grad():
            self.modulation.weight.normal_(std=0.02)
            self.second.weight.mul_(0.1)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Features (B, width, h, w) and condition maps (B, condition_width, h, w) -> (B, width, h, w)."""
        scale, shift = self.modulation(condition).chunk(2, dim=1)
        hidden = self.first(activate(x))
        return x + self.second(activate(hidden + hidden * scale + shift))


class VectorModulatedBlock(nn.Module):
    """A residual block modulated by one vector for the whole picture (AdaIN, Huang & Belongie 2017).

    Args:
        width: channels of the features.
        condition_width: length of the vector.
    """

    def __init__(self, width: int, condition_width: int) -> None:
        super().__init__()
        self.modulation = nn.Linear(condition_width, 2 * width)
        nn.init.normal_(self.modulation.weight, std=0.02)
        nn.init.zeros_(self.modulation.bias)
        self.first = conv(width, width)
        self.second = conv(width, width)
        with torch.no_grad():
            self.second.weight.mul_(0.1)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Features (B, width, h, w) and vectors (B, condition_width) -> (B, width, h, w)."""
        scale, shift = self.modulation(condition)[:, :, None, None].chunk(2, dim=1)
        hidden = self.first(activate(x))
        hidden = functional.group_norm(hidden, hidden.shape[1])  # instance norm; works with channels_last
        return x + self.second(activate(hidden + hidden * scale + shift))


def upsample(x: Tensor, size: int) -> Tensor:
    """Bilinear, to (B, C, size, size)."""
    if x.shape[-1] == size:
        return x
    return functional.interpolate(x, size=(size, size), mode="bilinear", align_corners=False)
