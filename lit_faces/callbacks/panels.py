"""Panels to look at: source | asked landmarks | AU maps | target | output | mask | flow, one row a pair."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback
from torch import Tensor

from lit_faces.core.facs import AUS
from lit_faces.core.sample import FaceBatch, to_uint8
from lit_faces.models.conditioning import au_masks

TITLES = ("source", "asked landmarks", "AU maps", "target", "output", "kept (dark: repainted)", "attention", "flow")
_SCALE = 1.5


def save_png(picture: Any, path: Path) -> Path:
    """Write a PIL picture, atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    picture.save(temporary, "PNG")
    os.replace(temporary, path)
    return path


def as_rgb(image: Tensor) -> np.ndarray:
    """uint8 (3, S, S) or float (1, S, S) in 0..1 -> uint8 (S, S, 3)."""
    if image.is_floating_point():
        image = (image.clamp(0, 1) * 255).to(torch.uint8).expand(3, -1, -1)
    return np.ascontiguousarray(image.permute(1, 2, 0).cpu().numpy())


def flow_colours(flow: Tensor, largest: float = 0.25) -> Tensor:
    """Backward flow (h, w, 2) in crop coordinates as uint8 (3, h, w): hue is the direction, grey means none."""
    x, y = flow[..., 0].float().cpu(), flow[..., 1].float().cpu()
    strength = (torch.hypot(x, y) / largest).clamp(0, 1)
    angle = torch.atan2(y, x)
    rgb = torch.stack([0.5 + 0.5 * torch.cos(angle + shift) for shift in (0.0, 2.094, 4.189)])
    return ((0.5 + (rgb - 0.5) * strength) * 255).to(torch.uint8)


def au_colours(landmarks: Tensor, au: Tensor, size: int) -> Tensor:
    """The asked AUs' maps (19 AUs summed in colours), float landmarks (68, 2) and au (19,) -> uint8 (3, size, size)."""
    maps = (
        au_masks(landmarks[None].float().cpu(), size, size)[0] * (au.float().cpu().nan_to_num(0.0) / 5)[:, None, None]
    )
    angle = torch.arange(len(AUS)) * (6.283 / len(AUS))
    colours = torch.stack([0.6 + 0.4 * torch.cos(angle + shift) for shift in (0.0, 2.094, 4.189)])
    return (torch.einsum("ca,ahw->chw", colours, maps).clamp(0, 1) * 255).to(torch.uint8)


def active_aus(au: Tensor) -> str:
    """``AU6 3.2 AU17 4.0``: intensities above half a grade."""
    return " ".join(f"AU{n} {v:.1f}" for n, v in zip(AUS, au.tolist(), strict=True) if v > 0.5)


def draw_panel(source: FaceBatch, target: FaceBatch, output: Any) -> Any:
    """The panel as a PIL picture."""
    from PIL import Image, ImageDraw

    size = source.image.shape[-1]
    cell, top = int(size * _SCALE), 16
    sheet = Image.new("RGB", (cell * len(TITLES), top + len(source) * (cell + 14)), "white")
    draw = ImageDraw.Draw(sheet)
    for column, title in enumerate(TITLES):
        draw.text((column * cell + 4, 2), title, fill="black")
    made = to_uint8(output.image).cpu()
    for row in range(len(source)):
        marks = target.landmarks[row].cpu()
        dim = (target.image[row].float() * 0.25).to(torch.uint8)
        parts: list[Tensor | None] = [
            source.image[row], dim, au_colours(marks, target.au_intensity[row], size), target.image[row], made[row],
            *(None if (p := getattr(output, name)) is None else p[row].float() for name in ("keep", "attention")),
            None if output.flow is None else flow_colours(output.flow[row]),
        ]  # fmt: skip
        y = top + row * (cell + 14)
        for column, part in enumerate(parts):
            if part is not None:
                sheet.paste(
                    Image.fromarray(as_rgb(part)).resize((cell, cell), Image.Resampling.BICUBIC), (column * cell, y)
                )
        for x, v in ((marks + 0.5) * _SCALE).tolist():
            draw.ellipse((cell + x - 1, y + v - 1, cell + x + 1, y + v + 1), fill="yellow")
        draw.text((cell * 2 + 3, y + cell), active_aus(target.au_intensity[row]) or "neutral", fill="black")
    return sheet


class Panels(Callback):
    """Writes ``panels/val-STEP.png`` after every validation and ``panels/test-STEP.png`` after the test.

    Args:
        pairs: rows.
    """

    def __init__(self, pairs: int = 6) -> None:
        self.pairs = pairs
        self._kept: dict[str, list[tuple[FaceBatch, FaceBatch]]] = {"val": [], "test": []}

    def _collect(self, stage: str, batch: Any) -> None:
        kept = self._kept[stage]
        if sum(len(source) for source, _ in kept) < self.pairs and isinstance(batch, dict):
            step = max(1, len(batch["source"]) // 2)
            kept.append(tuple(batch[k].select(slice(None, None, step)).to("cpu") for k in ("source", "target")))  # type: ignore[arg-type]

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *_: int
    ) -> None:
        """Keep some pairs."""
        self._collect("val", batch)

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *_: int
    ) -> None:
        """Keep some pairs."""
        self._collect("test", batch)

    def _draw(self, stage: str, trainer: Trainer, pl_module: LightningModule) -> None:
        kept, self._kept[stage] = self._kept[stage], []
        if not kept or not trainer.is_global_zero or trainer.sanity_checking:
            return
        rows = []
        for source, target in kept:
            output = pl_module.reenact(source.to(pl_module.device), target.landmarks, target.au_intensity)  # type: ignore[operator]
            rows.append(draw_panel(source, target, output))
        save_png(_stack(rows), Path(trainer.default_root_dir) / "panels" / f"{stage}-{trainer.global_step:06d}.png")

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw."""
        self._draw("val", trainer, pl_module)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw."""
        self._draw("test", trainer, pl_module)


def _stack(pictures: list[Any]) -> Any:
    """PIL pictures of equal width, one under the other."""
    from PIL import Image

    out = Image.new("RGB", (pictures[0].width, sum(p.height for p in pictures)), "white")
    y = 0
    for picture in pictures:
        out.paste(picture, (0, y))
        y += picture.height
    return out
