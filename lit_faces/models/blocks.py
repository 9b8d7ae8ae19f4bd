"""Small convolutional pieces shared by the generators and the discriminator."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

SLOPE = 0.1  # of every leaky ReLU


def layout(x: Tensor) -> torch.memory_format:
    """Memory format of pictures (B, C, H, W): channels_last, or the usual one."""
    last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    return torch.channels_last if last else torch.contiguous_format


class _LeakyReLU(torch.autograd.Function):
    """Leaky ReLU whose gradient is brought into the layout of its input first.

    Concatenations and pixel shuffles send gradients back in the other layout, and torch's own backward pass is then 27
    times slower on a CPU (16 x 16 x 128 x 128 in bfloat16: 27 ms instead of 1).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return functional.leaky_relu(x, SLOPE)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        (x,) = ctx.saved_tensors
        if gradient.stride() != x.stride():
            gradient = gradient.contiguous(memory_format=layout(x))
        return torch.ops.aten.leaky_relu_backward(gradient, x, SLOPE, False)


def activate(x: Tensor) -> Tensor:
    """Leaky ReLU: the cheapest activation on a CPU, and it never dies."""
    return _LeakyReLU.apply(x)


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


def bounded(logits: Tensor, limit: float = 4.0) -> Tensor:
    """Logits softly kept within +-limit (softsign): a mask made of them keeps a gradient, so it can come back."""
    return limit * functional.softsign(logits / limit)


def join(layer: nn.Conv2d, coarse: Tensor, fine: Tensor) -> Tensor:
    """``layer(cat([upsample(coarse), fine]))`` of a 1 x 1 convolution, which is applied before the upsampling: cheaper.

    Args:
        layer: 1 x 1 convolution of C1 + C2 channels.
        coarse: (B, C1, h, w).
        fine: (B, C2, H, W).

    Returns:
        (B, layer.out_channels, H, W).
    """
    cut = coarse.shape[1]
    low = functional.conv2d(coarse, layer.weight[:, :cut])
    high = functional.conv2d(fine, layer.weight[:, cut:], layer.bias)
    return high + upsample(low, fine.shape[-1])


def upsample(x: Tensor, size: int) -> Tensor:
    """Bilinear, to (B, C, size, size)."""
    if x.shape[-1] == size:
        return x
    return functional.interpolate(x, size=(size, size), mode="bilinear", align_corners=False)
