"""Batched augmentations in torch: light changes of a face that change neither its AUs nor who it is.

These run in the training step, on the accelerator, and draw from the step's own generator: a resumed run goes on with
the same pictures. What moves landmarks too, and runs in the loader's processes, is albumentations'
(``data_modules.transforms.FaceAugment``, seeded by each item); the mirror of both is :mod:`lit_faces.core.geometry`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as functional
from torch import Tensor

from lit_faces.core.geometry import mirror_faces
from lit_faces.core.sample import FaceBatch


def _uniform(batch: int, low: float, high: float, generator: torch.Generator, like: Tensor) -> Tensor:
    """Float (batch, 1, 1, 1)."""
    return (torch.rand(batch, 1, 1, 1, generator=generator) * (high - low) + low).to(like.device)


def jitter_colours(image: Tensor, generator: torch.Generator, strength: float = 1.0) -> Tensor:
    """Brightness, contrast, colour cast and grey: float (B, 3, H, W) in [-1, 1] -> the same, clipped."""
    batch = len(image)
    contrast = _uniform(batch, 1 - 0.3 * strength, 1 + 0.3 * strength, generator, image)
    brightness = _uniform(batch, -0.2 * strength, 0.2 * strength, generator, image)
    cast = (torch.randn(batch, 3, 1, 1, generator=generator) * 0.06 * strength).to(image.device)
    grey = (torch.rand(batch, 1, 1, 1, generator=generator) < 0.1 * strength).to(image.device)
    mean = image.mean((1, 2, 3), keepdim=True)
    image = (image - mean) * contrast + mean + brightness + cast
    luminance = (image * image.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)
    return torch.where(grey, luminance, image).clamp(-1.0, 1.0)


def move(
    image: Tensor,
    generator: torch.Generator,
    shift: float = 0.04,
    scale: float = 0.06,
    roll: float = 6.0,
    stretch: float = 0.06,
) -> Tensor:
    """Small shifts, scales and rolls, and half of the pictures mirrored: float (B, 3, H, W) -> the same.

    Args:
        image: pictures.
        generator: of the draws.
        shift: largest shift, share of the crop.
        scale: largest change of scale, share.
        roll: largest roll, degrees.
        stretch: largest change of the aspect, share: long and broad faces out of the same one.
    """
    batch = len(image)
    factor = 1 + (torch.rand(batch, generator=generator) * 2 - 1) * scale
    aspect = 1 + (torch.rand(batch, generator=generator) * 2 - 1) * stretch
    angle = (torch.rand(batch, generator=generator) * 2 - 1) * (roll * torch.pi / 180)
    mirror = torch.where(torch.rand(batch, generator=generator) < 0.5, -1.0, 1.0)
    offset = (torch.rand(batch, 2, generator=generator) * 2 - 1) * (2 * shift)
    cosine, sine = angle.cos() * factor, angle.sin() * factor
    rows = [
        torch.stack([cosine * mirror * aspect, -sine / aspect, offset[:, 0]], 1),
        torch.stack([sine * mirror * aspect, cosine / aspect, offset[:, 1]], 1),
    ]
    grid = functional.affine_grid(torch.stack(rows, 1).to(image.device), list(image.shape), align_corners=False)
    return functional.grid_sample(image, grid, padding_mode="border", align_corners=False)


def relight(image: Tensor, generator: torch.Generator, strength: float = 0.25) -> Tensor:
    """A soft ramp of light across the face, any direction: float (B, 3, H, W) in [-1, 1] -> the same, clipped."""
    line = torch.linspace(-1, 1, image.shape[-1], device=image.device)
    slope = ((torch.rand(2, len(image), 1, 1, 1, generator=generator) * 2 - 1) * strength).to(image.device)
    ramp = 1 + slope[0] * line.view(1, 1, 1, -1) + slope[1] * line.view(1, 1, -1, 1)
    return ((image + 1) * ramp - 1).clamp(-1.0, 1.0)


def degrade(image: Tensor, generator: torch.Generator) -> Tensor:
    """Sensor noise on every picture, a slight blur on a quarter of them: float (B, 3, H, W) in [-1, 1]."""
    batch = len(image)
    blurred = functional.avg_pool2d(functional.pad(image, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    share = _uniform(batch, 0.3, 1.0, generator, image) * (_uniform(batch, 0, 1, generator, image) < 0.25)
    image = image + share * (blurred - image)
    level = _uniform(batch, 0.0, 0.04, generator, image)
    return image + level * torch.randn(image.shape, generator=generator).to(image.device)


def augment_frames(image: Tensor, generator: torch.Generator) -> Tensor:
    """All of the above, for detectors: float (B, 3, H, W) in [-1, 1] -> the same."""
    with torch.autocast(image.device.type, enabled=False):
        return degrade(jitter_colours(relight(move(image.float(), generator), generator), generator), generator)


def mirror_pairs(source: FaceBatch, target: FaceBatch, generator: torch.Generator) -> tuple[FaceBatch, FaceBatch]:
    """Mirror half of the pairs, pictures and landmarks together."""
    flip = torch.rand(len(source), generator=generator) < 0.5
    return mirror_faces(source, flip.to(source.image.device)), mirror_faces(target, flip.to(target.image.device))


def jitter_pair_colours(source: Tensor, target: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The same brightness, contrast and cast on both pictures of a pair: float (B, 3, H, W) in [-1, 1] each."""
    both = jitter_colours(torch.cat([source, target], -1), generator)
    left, right = both.chunk(2, dim=-1)
    return left.contiguous(), right.contiguous()
