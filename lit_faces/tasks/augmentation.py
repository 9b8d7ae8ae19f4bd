"""Batched augmentations in torch: light changes of a face that change neither its AUs nor who it is.

These run in the training step, on the accelerator, and draw from the step's own generator: a resumed run goes on with
the same pictures. What moves landmarks too, and runs in the loader's processes, is albumentations'
(``data_modules.transforms.FaceAugment``, seeded by each item); the mirror of both is :mod:`lit_faces.core.geometry`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as functional
from torch import Tensor

from lit_faces.core.geometry import mirror_faces, resize_images
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


def tilt(image: Tensor, generator: torch.Generator, strength: float = 0.12) -> Tensor:
    """Perspective: the face as if the camera stood aside, above or below; float (B, 3, H, W) -> the same.

    Args:
        image: pictures.
        generator: of the draws.
        strength: largest relative change of scale from the middle to a side.
    """
    lines = [torch.linspace(-1, 1, side, device=image.device) for side in image.shape[-2:]]
    y, x = torch.meshgrid(*lines, indexing="ij")
    lean = ((torch.rand(2, len(image), 1, 1, generator=generator) * 2 - 1) * strength).to(image.device)
    depth = 1 + lean[0] * x + lean[1] * y
    grid = torch.stack([x / depth, y / depth], -1)
    return functional.grid_sample(image, grid, padding_mode="border", align_corners=True)


def bend_tones(image: Tensor, generator: torch.Generator, gamma: float = 0.6, contrast: float = 0.5) -> Tensor:
    """Strong gamma and contrast about a grey: float (B, 3, H, W) in [-1, 1] -> the same, clipped.

    Args:
        image: pictures.
        generator: of the draws.
        gamma: largest |log| of the exponent.
        contrast: largest |log| of the factor.
    """
    batch = len(image)
    exponent = _uniform(batch, -gamma, gamma, generator, image).exp()
    factor = _uniform(batch, -contrast, contrast, generator, image).exp()
    bent = ((image + 1) / 2).clamp(min=1e-4) ** exponent * 2 - 1
    mean = bent.mean((1, 2, 3), keepdim=True)
    return ((bent - mean) * factor + mean).clamp(-1.0, 1.0)


def shake(image: Tensor, generator: torch.Generator, longest: int = 7) -> Tensor:
    """Motion blur along a random line, another one in each picture: float (B, 3, H, W) -> the same.

    Args:
        image: pictures.
        generator: of the draws.
        longest: of the line, pixels; odd.
    """
    batch, radius = len(image), longest // 2
    angle = torch.rand(batch, 1, 1, generator=generator) * torch.pi
    length = torch.rand(batch, 1, 1, generator=generator) * radius
    y, x = torch.meshgrid(torch.arange(-radius, radius + 1.0), torch.arange(-radius, radius + 1.0), indexing="ij")
    along, across = x * angle.cos() + y * angle.sin(), y * angle.cos() - x * angle.sin()
    kernel = (1 - across.abs()).clamp(min=0) * (length + 1 - along.abs()).clamp(0, 1)
    kernel = (kernel / kernel.sum((1, 2), keepdim=True)).to(image.device)
    padded = functional.pad(image, (radius,) * 4, mode="replicate").flatten(0, 1)[None]
    weight = kernel.repeat_interleave(3, 0)[:, None]
    return functional.conv2d(padded, weight, groups=len(weight))[0].view_as(image)


def shrink_and_enlarge(image: Tensor, generator: torch.Generator, smallest: float = 0.3) -> Tensor:
    """A detour over smaller pictures, all of one size: float (B, 3, H, W) -> the same.

    Args:
        image: pictures.
        generator: of the draws.
        smallest: least share of the side.
    """
    share = float(torch.rand((), generator=generator)) * (0.9 - smallest) + smallest
    height, width = image.shape[-2:]
    small = resize_images(image, max(8, round(height * share)), max(8, round(width * share)))
    return resize_images(small, height, width)


def cut_borders(image: Tensor, generator: torch.Generator, widest: float = 0.15) -> Tensor:
    """Black bars from the four sides, as where a face leaves the picture: float (B, 3, H, W) in [-1, 1] -> the same.

    Args:
        image: pictures.
        generator: of the draws.
        widest: share of the side.
    """
    bars = (torch.rand(4, len(image), 1, 1, generator=generator) * 2 - 1).clamp(min=0) * (2 * widest)
    left, right, top, bottom = bars.to(image.device)
    y, x = (torch.linspace(-1, 1, side, device=image.device) for side in image.shape[-2:])
    inside_x = (x[None, None] >= left - 1) & (x[None, None] <= 1 - right)
    inside_y = (y[None, :, None] >= top - 1) & (y[None, :, None] <= 1 - bottom)
    return torch.where((inside_x & inside_y)[:, None], image, -torch.ones_like(image))


def _some(image: Tensor, share: float, generator: torch.Generator, change: Callable[..., Tensor]) -> Tensor:
    """``change`` on a random ``share`` of the pictures; the others cost nothing."""
    rows = (torch.rand(len(image), generator=generator) < share).nonzero().flatten().to(image.device)
    return image if not len(rows) else image.index_copy(0, rows, change(image[rows], generator))


def augment_strongly(image: Tensor, generator: torch.Generator, share: float = 0.6) -> Tensor:
    """What training on synthetic faces found decisive for real ones: float (B, 3, H, W) in [-1, 1] -> the same.

    Perspective, motion blur, strong gamma and contrast, a detour over smaller pictures, grey, black borders, and larger
    moves than :func:`augment_frames`: landmarks that err by 1 to 3 % of the outer-eye distance shift, scale and turn
    the crop by as much. After Wood et al., Fake it till you make it (2021).

    Args:
        image: pictures.
        generator: of the draws.
        share: of the pictures that are changed so; the others by :func:`augment_frames`, or a clean picture would be
            what a network never saw.
    """
    strongly = torch.rand(len(image), generator=generator) < share
    changed = torch.empty_like(image, dtype=torch.float32)
    for rows, change in ((strongly, _change_strongly), (~strongly, augment_frames)):
        rows = rows.to(image.device)
        if bool(rows.any()):
            changed[rows] = change(image[rows], generator)
    return changed


def _change_strongly(image: Tensor, generator: torch.Generator) -> Tensor:
    with torch.autocast(image.device.type, enabled=False):
        image = move(image.float(), generator, shift=0.06, scale=0.1, roll=10.0)
        image = _some(image, 0.5, generator, tilt)
        image = relight(image, generator, strength=0.35)
        image = _some(image, 0.5, generator, bend_tones)
        image = jitter_colours(image, generator, strength=1.3)
        image = _some(image, 0.2, generator, shake)
        image = _some(image, 0.3, generator, shrink_and_enlarge)
        image = degrade(image, generator)
        return _some(image, 0.15, generator, cut_borders)


def mirror_pairs(source: FaceBatch, target: FaceBatch, generator: torch.Generator) -> tuple[FaceBatch, FaceBatch]:
    """Mirror half of the pairs, pictures and landmarks together."""
    flip = torch.rand(len(source), generator=generator) < 0.5
    return mirror_faces(source, flip.to(source.image.device)), mirror_faces(target, flip.to(target.image.device))


def jitter_pair_colours(source: Tensor, target: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The same brightness, contrast and cast on both pictures of a pair: float (B, 3, H, W) in [-1, 1] each."""
    both = jitter_colours(torch.cat([source, target], -1), generator)
    left, right = both.chunk(2, dim=-1)
    return left.contiguous(), right.contiguous()
