"""AU strips: one AU from 0 to 5 on people never seen, and on a real photograph, with the judge's reading below."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback
from torch import Tensor

from lit_faces.callbacks.panels import as_rgb, save_png
from lit_faces.core.facs import AU_INDEX, NUM_AUS, au_key
from lit_faces.core.photos import source_from_photo
from lit_faces.core.sample import FaceBatch, collate, to_uint8
from lit_faces.rendering.motion import move_landmarks

STEPS = 6


def astronaut() -> Path | None:
    """The picture of an astronaut (NASA, public domain) inside the scikit-image package; None where it is absent."""
    import importlib.util

    spec = importlib.util.find_spec("skimage")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        file = Path(folder) / "data" / "astronaut.png"
        if file.is_file():
            return file
    return None


def request(source: FaceBatch, number: int) -> tuple[FaceBatch, Tensor, Tensor]:
    """One source (a batch of one) asked for an AU at 0..5: sources, target landmarks, target AUs.

    Where the source's AUs are unknown only this AU is asked; the others are left alone (NaN).
    """
    column = AU_INDEX[number]
    many = source.select(torch.zeros(STEPS, dtype=torch.int64))
    wanted = many.au_intensity.clone()
    wanted[:, column] = torch.linspace(0, 5, STEPS)
    change = torch.zeros(STEPS, NUM_AUS)
    change[:, column] = wanted[:, column] - many.au_intensity[:, column].nan_to_num(0.0)
    return many, move_landmarks(many.landmarks, change), wanted


class AUStrips(Callback):
    """Writes ``strips/AU06.png`` ... at the end of the test.

    Args:
        aus: which AUs.
        people: unseen people.
        photo: a photograph to try; "astronaut" is scikit-image's, null none.
    """

    def __init__(self, aus: list[int] = [6, 17], people: int = 3, photo: str | None = "astronaut") -> None:  # noqa: B006
        self.aus, self.people, self.photo = list(aus), people, photo
        self._sources: dict[str, FaceBatch] = {}

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *_: int
    ) -> None:
        """Keep the sources of the first people."""
        if isinstance(batch, dict):
            for index, subject in enumerate(batch["source"].subject):
                if len(self._sources) < self.people and subject not in self._sources:
                    self._sources[subject] = batch["source"].select(slice(index, index + 1)).to("cpu")

    def _photo(self, size: int) -> FaceBatch | None:
        path = astronaut() if self.photo == "astronaut" else None if self.photo is None else Path(self.photo)
        if path is None:
            return None
        try:
            return collate([source_from_photo(path, size)])
        except (ValueError, OSError) as error:
            warnings.warn(f"no strip of a real photograph: {error}")
            return None

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw."""
        if not self._sources or not trainer.is_global_zero:
            return
        size = next(iter(self._sources.values())).image.shape[-1]
        rows = dict(self._sources)
        self._sources = {}
        photo = self._photo(size)
        if photo is not None:
            rows["photograph"] = photo
        judge = getattr(getattr(pl_module, "evaluation", None), "judge", None)
        for number in self.aus:
            strips = []
            for name, source in rows.items():
                many, landmarks, wanted = request(source, number)
                made = to_uint8(pl_module.reenact(many.to(pl_module.device), landmarks, wanted).image).cpu()  # type: ignore[operator]
                read = judge.predict_au(made)[:, AU_INDEX[number]].tolist() if judge is not None else None
                strips.append((name, made, read))
                if name != "photograph" and (truth := self._truth(trainer, source, wanted)) is not None:
                    read = judge.predict_au(truth)[:, AU_INDEX[number]].tolist() if judge is not None else None
                    strips.append(("rendered truth", truth, read))
            save_png(draw_strips(strips, number), Path(trainer.default_root_dir) / "strips" / f"{au_key(number)}.png")

    @staticmethod
    def _truth(trainer: Trainer, source: FaceBatch, wanted: Tensor) -> Tensor | None:
        """The same person and scene rendered with these AUs, where the source is a rendered face."""
        options = getattr(getattr(trainer, "datamodule", None), "renderer_options", None)
        subject = source.subject[0].rpartition(":")[2]
        if not options or not subject.isdigit() or not source.subject[0].startswith("render"):
            return None
        from lit_faces.rendering.renderer import FaceRenderer

        who, zero = torch.full((STEPS,), int(subject)), torch.zeros(STEPS, dtype=torch.int64)
        return FaceRenderer(**options).render(who, zero, zero, au=wanted, pose=source.pose.expand(STEPS, 3)).image


def draw_strips(strips: list[tuple[str, Tensor, list[float] | None]], number: int) -> Any:
    """Rows of six pictures with titles and readings as a PIL picture."""
    from PIL import Image, ImageDraw

    size = strips[0][1].shape[-1]
    cell, left = int(size * 1.5), 130
    sheet = Image.new("RGB", (left + STEPS * cell, 18 + len(strips) * (cell + 16)), "white")
    draw = ImageDraw.Draw(sheet)
    for step in range(STEPS):
        draw.text((left + step * cell + 4, 3), f"AU{number} asked {step}", fill="black")
    for row, (name, images, read) in enumerate(strips):
        y = 18 + row * (cell + 16)
        draw.text((4, y + cell // 2), name, fill="black")
        for step, image in enumerate(images):
            picture = Image.fromarray(as_rgb(image)).resize((cell, cell), Image.Resampling.BICUBIC)
            sheet.paste(picture, (left + step * cell, y))
            if read is not None:
                draw.text((left + step * cell + 4, y + cell + 2), f"judge reads {read[step]:.1f}", fill="black")
    return sheet
