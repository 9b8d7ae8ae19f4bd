"""From linear light to a photograph: exposure, tone curve, sensor noise, optics and JPEG."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as nn
from torch import Tensor

from lit_faces.rendering.random import pixel_noise

_LUMA = (
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62,
    18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92, 49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
)  # fmt: skip
_CHROMA = (
    17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99, 24, 26, 56, 99, 99, 99, 99, 99, 47, 66, 99, 99, 99, 99, 99, 99,
    *(99,) * 32,
)  # fmt: skip


def tone(linear: Tensor, exposure: Tensor, contrast: Tensor) -> Tensor:
    """Linear light (B, 3, S, S) to display values in [0, 1]: filmic shoulder, then the sRGB curve."""
    x = (linear * exposure[:, None, None, None]).clamp(min=0)
    x = x * (1 + x / 2.6) / (1 + x)
    x = torch.where(x <= 0.0031308, 12.92 * x, 1.055 * x.clamp(min=0.0031308) ** (1 / 2.4) - 0.055)
    return (0.5 + (x - 0.5) * contrast[:, None, None, None]).clamp(0, 1)


def blur(image: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian blur with its own standard deviation (pixels, (B,)) for every picture (B, C, S, S)."""
    radius = 3
    offset = torch.arange(-radius, radius + 1, device=image.device, dtype=image.dtype)
    kernel = torch.exp(-0.5 * (offset[None] / sigma[:, None].clamp(min=0.05)) ** 2)
    kernel = kernel / kernel.sum(1, keepdim=True)
    b, c, h, w = image.shape
    weight = kernel.repeat_interleave(c, 0)
    flat = nn.pad(image.reshape(1, b * c, h, w), (radius, radius, radius, radius), mode="replicate")
    flat = nn.conv2d(flat, weight[:, None, None, :], groups=b * c)
    return nn.conv2d(flat, weight[:, None, :, None], groups=b * c).reshape(b, c, h, w)


def jpeg(image: Tensor, quality: Tensor) -> Tensor:
    """JPEG's 8 x 8 quantisation (no chroma subsampling) of pictures in [0, 1]; S is a multiple of 8."""
    b, _, h, w = image.shape
    device = image.device
    k = torch.arange(8, device=device, dtype=torch.float32)
    dct = torch.cos((2 * k[None] + 1) * k[:, None] * math.pi / 16) * 0.5
    dct[0] = dct[0] / math.sqrt(2)
    to_ycc = torch.tensor(
        [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]], device=device
    )
    ycc = torch.einsum("ij,bjhw->bihw", to_ycc, image * 255.0)
    ycc = ycc - torch.tensor([128.0, 0.0, 0.0], device=device)[None, :, None, None]
    blocks = ycc.reshape(b, 3, h // 8, 8, w // 8, 8).permute(0, 1, 2, 4, 3, 5)
    spectrum = dct @ blocks @ dct.T
    scale = torch.where(quality < 50, 5000.0 / quality, 200.0 - 2.0 * quality) / 100.0
    table = torch.stack(
        [torch.tensor(t, device=device, dtype=torch.float32).reshape(8, 8) for t in (_LUMA, _CHROMA, _CHROMA)]
    )
    table = (table[None] * scale[:, None, None, None]).clamp(min=1.0)[:, :, None, None]
    spectrum = (spectrum / table).round() * table
    blocks = dct.T @ spectrum @ dct
    ycc = (
        blocks.permute(0, 1, 2, 4, 3, 5).reshape(b, 3, h, w)
        + torch.tensor([128.0, 0.0, 0.0], device=device)[None, :, None, None]
    )
    return torch.einsum("ij,bjhw->bihw", torch.linalg.inv(to_ycc), ycc).div_(255.0).clamp_(0, 1)


def background(patches: Tensor, size: int) -> Tensor:
    """A blurred room: (B, 3, 8, 8) patches of linear light blown up to (B, 3, size, size)."""
    smooth = nn.interpolate(patches, size=(40, 40), mode="bicubic", align_corners=True).clamp(min=0.004)
    return nn.interpolate(smooth, size=(size, size), mode="bilinear", align_corners=True)


def develop(
    linear: Tensor, exposure: Tensor, contrast: Tensor, blur_sigma: Tensor, noise: Tensor, quality: Tensor, keys: Tensor
) -> Tensor:
    """Linear light (B, 3, S, S) to uint8 pictures of the same shape."""
    return sensor(tone(linear, exposure, contrast), blur_sigma, noise, quality, keys)


def sensor(image: Tensor, blur_sigma: Tensor, noise: Tensor, quality: Tensor, keys: Tensor) -> Tensor:
    """Display values (B, 3, S, S) in [0, 1] to uint8 pictures: optics, noise and JPEG."""
    size = image.shape[-1]
    image = blur(image, blur_sigma * size / 128.0)
    grain = pixel_noise(keys, (3, size, size))
    image = (image + grain * noise[:, None, None, None] * (0.6 + 0.8 * image.sqrt())).clamp(0, 1)
    if size % 8 == 0:
        image = jpeg(image, quality)
    return (image * 255.0).round().to(torch.uint8)
