"""What panels and strips share: cells with captions on a white sheet, and PNG files that appear whole."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from lit_faces.core.files import replacing

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

CAPTION = 17  # pixels, height of a line of text
_SMALLEST_CELL = 96  # pixels: captions must fit
_FONT = 12


def save_png(picture: Image, path: Path, marks: Any = None) -> Path:
    """Write a picture, atomically.

    Args:
        picture: of PIL.
        path: file.
        marks: its text chunks; of pictures that show generated faces :func:`lit_faces.core.provenance.text_chunks`.
    """
    with replacing(path) as temporary:
        picture.save(temporary, "PNG", pnginfo=marks)
    return path


def save_figure(figure: Any, path: Path, dpi: int = 120) -> Path:
    """Write a plot as PNG, atomically, and let it go."""
    import matplotlib.pyplot as pyplot

    try:
        with replacing(path) as temporary:
            figure.savefig(temporary, format="png", dpi=dpi)
    finally:
        pyplot.close(figure)
    return path


def cell_size(size: int) -> int:
    """Side of the cell that shows a crop of ``size`` pixels: half as large again."""
    return max(_SMALLEST_CELL, size * 3 // 2)


def as_rgb(image: Tensor) -> np.ndarray:
    """uint8 (3, S, S) or float (1, S, S) in 0..1 -> uint8 (S, S, 3)."""
    if image.is_floating_point():
        image = (image.float().nan_to_num(0.0).clamp(0, 1) * 255).to(torch.uint8).expand(3, -1, -1)
    return np.ascontiguousarray(image.permute(1, 2, 0).cpu().numpy())


def paste(sheet: Image, image: Tensor, x: int, y: int, cell: int) -> None:
    """Put a picture (see :func:`as_rgb`) at (x, y), enlarged to the cell."""
    from PIL import Image

    sheet.paste(Image.fromarray(as_rgb(image)).resize((cell, cell), Image.Resampling.BICUBIC), (x, y))


def write(draw: ImageDraw, x: int, y: int, text: str, width: int, colour: str = "black") -> None:
    """One line of text, cut with an ellipsis where it is wider than ``width`` pixels."""
    from PIL import ImageFont

    font = ImageFont.load_default(size=_FONT)
    while len(text) > 1 and draw.textlength(text, font=font) > width:
        text = text.rstrip("…")[:-1] + "…"
    draw.text((x, y), text, fill=colour, font=font)
