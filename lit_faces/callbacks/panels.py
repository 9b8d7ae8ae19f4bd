"""Panels to look at: source | asked landmarks | AU maps | target | output | masks | flow, one row a pair."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback
from torch import Tensor

from lit_faces.core.facs import AUS, MAX_INTENSITY
from lit_faces.core.provenance import text_chunks
from lit_faces.core.sample import FaceBatch, to_uint8
from lit_faces.models.conditioning import PARTS, au_masks
from lit_faces.models.generators.output import GeneratorOutput
from lit_faces.reports.pictures import CAPTION, cell_size, paste, save_png, write

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

TITLES = ("source", "asked landmarks", "asked AUs", "target", "output", "kept (black: new)", "attention", "flow")
_SHOWN = 0.5  # grades: weaker AUs are not named
_FULL_FLOW = 0.1  # crop coordinates: a twentieth of the crop has the full colour
_TURNS = (0.0, 2.0944, 4.1888)  # of red, green and blue on the colour circle


def hues(angle: Tensor) -> Tensor:
    """Colours on a circle: angles (...) in radians -> float (3, ...) in [0, 1]."""
    return torch.stack([0.5 + 0.5 * torch.cos(angle - turn) for turn in _TURNS])


def flow_colours(flow: Tensor) -> Tensor:
    """Backward flow (h, w, 2) in crop coordinates as uint8 (3, h, w): hue: where from, grey: no motion."""
    x, y = flow.float().cpu().nan_to_num(0.0).unbind(-1)
    strength = (torch.hypot(x, y) / _FULL_FLOW).clamp(0, 1)
    return ((0.5 + (hues(torch.atan2(y, x)) - 0.5) * strength) * 255).to(torch.uint8)


def au_colours(image: Tensor, landmarks: Tensor, au: Tensor) -> Tensor:
    """AU maps, one colour an AU, over the dimmed picture.

    Args:
        image: uint8 (3, S, S).
        landmarks: float (68, 2), pixels, NaN = unknown.
        au: float (19,), 0..5, NaN = not asked.

    Returns:
        uint8 (3, S, S).
    """
    size = image.shape[-1]
    maps = (
        au_masks(landmarks[None].float(), size, size)[0] * (au.float().nan_to_num(0.0) / MAX_INTENSITY)[:, None, None]
    )
    colours = hues(torch.arange(len(AUS)) * 2.4)  # the golden angle: neighbours in the list look different
    glow = torch.einsum("ca,ahw->chw", colours, maps)
    return (image.float() * 0.3 + glow * 255).clamp(0, 255).to(torch.uint8)


def active_aus(au: Tensor) -> str:
    """``AU6 3.2 AU17 4.0``, the strongest first; ``neutral`` where none is above half a grade."""
    found = [(value, number) for number, value in zip(AUS, au.tolist()) if value > _SHOWN]
    return " ".join(f"AU{number} {value:.1f}" for value, number in sorted(found, reverse=True)) or "neutral"


def _draw_landmarks(draw: ImageDraw, marks: Tensor, x: int, y: int, scale: float) -> None:
    """Dots, and lines along each facial part; unknown points are left out."""
    points = [(x + (u + 0.5) * scale, y + (v + 0.5) * scale) for u, v in marks.tolist()]
    known = torch.isfinite(marks).all(-1).tolist()
    for first, last in PARTS.values():
        for a in range(first, last):
            if known[a] and known[a + 1]:
                draw.line((*points[a], *points[a + 1]), fill=(70, 140, 200), width=1)
    for (u, v), there in zip(points, known):
        if there:
            draw.ellipse((u - 1, v - 1, u + 1, v + 1), fill="yellow")


def _parts(source: FaceBatch, target: FaceBatch, output: GeneratorOutput, row: int) -> list[tuple[Tensor | None, str]]:
    """Picture and caption of each column."""
    image, marks, au = target.image[row], target.landmarks[row], target.au_intensity[row]
    parts: list[tuple[Tensor | None, str]] = [
        (source.image[row], source.subject[row] if source.subject else ""),
        ((image.float() * 0.3).to(torch.uint8), ""),
        (au_colours(image, marks, au), active_aus(au)),
        (image, ""),
        (to_uint8(output.image[row]), ""),
    ]
    for mask in (output.keep, output.attention):
        parts.append((None, "") if mask is None else (mask[row].float(), f"mean {float(mask[row].float().mean()):.2f}"))
    if output.flow is None:
        return [*parts, (None, "")]
    longest = float(output.flow[row].float().norm(dim=-1).max()) * image.shape[-1] / 2
    return [*parts, (flow_colours(output.flow[row]), f"up to {longest:.1f} px")]


def draw_panel(source: FaceBatch, target: FaceBatch, output: GeneratorOutput) -> Image:
    """The panel of B pairs, on the CPU, as a PIL picture."""
    from PIL import Image, ImageDraw

    cell = cell_size(source.image.shape[-1])
    row_height = cell + CAPTION
    sheet = Image.new("RGB", (cell * len(TITLES), CAPTION + len(source) * row_height), "white")
    draw = ImageDraw.Draw(sheet)
    for column, title in enumerate(TITLES):
        write(draw, column * cell + 3, 1, title, cell - 4)
    for row in range(len(source)):
        y = CAPTION + row * row_height
        for column, (part, caption) in enumerate(_parts(source, target, output, row)):
            if part is not None:
                paste(sheet, part, column * cell, y, cell)
            write(draw, column * cell + 3, y + cell + 1, caption, cell - 4)
        _draw_landmarks(draw, target.landmarks[row].cpu(), cell, y, cell / source.image.shape[-1])
    return sheet


class _Chosen:
    """The first pairs of an evaluation, of different people as far as there are enough of them."""

    def __init__(self, pairs: int) -> None:
        self.pairs = pairs
        self.first: list[tuple[FaceBatch, FaceBatch]] = []  # one pair of each person
        self.more: list[tuple[FaceBatch, FaceBatch]] = []  # further pairs of the same people
        self.seen: set[str] = set()

    def add(self, source: FaceBatch, target: FaceBatch) -> None:
        """Look through a batch."""
        for index in range(len(source)):
            if len(self.first) >= self.pairs:
                return
            who = source.subject[index] if source.subject else f"pair {len(self.seen)}"
            into = self.more if who in self.seen else self.first
            self.seen.add(who)
            if len(into) < self.pairs:
                pick = slice(index, index + 1)
                into.append((source.select(pick).to("cpu"), target.select(pick).to("cpu")))

    def take(self) -> list[tuple[FaceBatch, FaceBatch]]:
        """The pairs, each of batch size one."""
        return (self.first + self.more)[: self.pairs]


class Panels(Callback):
    """Writes ``panels/val-STEP.png`` after a validation and ``panels/test-STEP.png`` after the test.

    Columns of what a generator does not have (a baseline has no masks) stay blank.

    Args:
        pairs: rows, of different people where the data have enough of them.
        every_n_epochs: validations of other epochs are not drawn.

    Raises:
        ValueError: an argument below 1.
    """

    def __init__(self, pairs: int = 6, every_n_epochs: int = 1) -> None:
        if pairs < 1 or every_n_epochs < 1:
            raise ValueError(f"pairs and every_n_epochs must be at least 1, got {pairs} and {every_n_epochs}")
        self.pairs, self.every_n_epochs = pairs, every_n_epochs
        self._chosen: _Chosen | None = None

    def _start(self, trainer: Trainer, pl_module: LightningModule, wanted: bool) -> None:
        wanted = wanted and trainer.is_global_zero and hasattr(pl_module, "reenact")
        self._chosen = _Chosen(self.pairs) if wanted else None

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget the last pairs."""
        due = (trainer.current_epoch + 1) % self.every_n_epochs == 0
        self._start(trainer, pl_module, due and not trainer.sanity_checking)

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget the last pairs."""
        self._start(trainer, pl_module, True)

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *_: int
    ) -> None:
        """Keep some pairs."""
        if self._chosen is not None and isinstance(batch, dict):
            self._chosen.add(batch["source"], batch["target"])

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *_: int
    ) -> None:
        """Keep some pairs."""
        self.on_validation_batch_end(trainer, pl_module, outputs, batch)

    def _draw(self, stage: str, trainer: Trainer, pl_module: LightningModule) -> None:
        pairs = self._chosen.take() if self._chosen is not None else []
        self._chosen = None
        if not pairs:
            return
        source, target = (join([pair[side] for pair in pairs]) for side in (0, 1))
        output = pl_module.reenact(source.to(pl_module.device), target.landmarks, target.au_intensity)  # type: ignore[operator]
        path = Path(trainer.default_root_dir) / "panels" / f"{stage}-{trainer.global_step:06d}.png"
        save_png(draw_panel(source, target, output), path, text_chunks())

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw."""
        self._draw("val", trainer, pl_module)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw."""
        self._draw("test", trainer, pl_module)


def join(batches: list[FaceBatch]) -> FaceBatch:
    """Batches of one crop size as one batch."""
    names = ("image", "landmarks", "au_intensity", "au_occurrence", "emotion", "pose", "frame")
    tensors = {name: torch.cat([getattr(batch, name) for batch in batches]) for name in names}
    subject, origin = ([name for batch in batches for name in getattr(batch, key)] for key in ("subject", "source"))
    return FaceBatch(**tensors, subject=subject, source=origin)
