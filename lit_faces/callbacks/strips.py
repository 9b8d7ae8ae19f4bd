"""AU strips: one AU from 0 to 5 on people never seen, and on a real photograph, with the judge's reading below."""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor

from lit_faces.core.classes import find_class
from lit_faces.core.facs import AU_INDEX, MAX_INTENSITY, NUM_AUS, au_key, index_of
from lit_faces.core.photos import source_from_photo
from lit_faces.core.provenance import text_chunks
from lit_faces.core.sample import FaceBatch, collate, to_uint8
from lit_faces.rendering.heads import Renderer
from lit_faces.rendering.motion import move_landmarks
from lit_faces.reports.pictures import CAPTION, cell_size, paste, save_png, write
from lit_faces.tasks.au_detector import AUDetector, load_detector

if TYPE_CHECKING:
    from PIL.Image import Image

STEPS = 6
_NAMES = 150  # pixels, width of the first column
_RENDERER = "lit_faces.rendering.renderer.FaceRenderer"


@dataclass
class Strip:
    """One row: name, pictures uint8 (STEPS, 3, S, S), and the judge's readings of the AU if there is one."""

    name: str
    images: Tensor
    readings: list[float] | None = None


def astronaut() -> Path:
    """The portrait of an astronaut (NASA, public domain) inside the scikit-image package; nothing is downloaded.

    Raises:
        FileNotFoundError: scikit-image is not installed, or comes without the picture.
    """
    spec = importlib.util.find_spec("skimage")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        file = Path(folder) / "data" / "astronaut.png"
        if file.is_file():
            return file
    raise FileNotFoundError("no photograph to try: pip install scikit-image, or give AUStrips the path of a photo")


def request(source: FaceBatch, number: int) -> tuple[FaceBatch, Tensor, Tensor]:
    """One source asked for one AU at 0..5.

    AUs of the source that are known stay as they are; unknown ones are not asked for (NaN). The landmarks of a face
    whose own intensity is unknown move as if it were 0.

    Args:
        source: a batch of one, on the CPU.
        number: the AU.

    Returns:
        The source STEPS times; target landmarks (STEPS, 68, 2), pixels; target AUs (STEPS, 19), 0..5 or NaN.
    """
    column = AU_INDEX[number]
    many = source.select(torch.zeros(STEPS, dtype=torch.int64))
    wanted = many.au_intensity.clone()
    wanted[:, column] = torch.linspace(0, MAX_INTENSITY, STEPS)
    change = torch.zeros(STEPS, NUM_AUS)
    change[:, column] = wanted[:, column] - many.au_intensity[:, column].nan_to_num(0.0)
    return many, move_landmarks(many.landmarks, change), wanted


class Truth:
    """Renders the people of a data module again, with the AUs that were asked of the generator.

    Args:
        datamodule: anything; without ``renderer_options`` there is no truth.
        split: ``frames`` of this split tell scenes apart.
    """

    def __init__(self, datamodule: Any, split: str = "test") -> None:
        self.options: dict[str, Any] | None = getattr(datamodule, "renderer_options", None)
        self.path: str = getattr(datamodule, "renderer", _RENDERER)
        frames = getattr(datamodule, "frames", None)
        self.frames: int = frames.get(split, 0) if isinstance(frames, dict) else 0
        self._renderer: Any = None

    def render(self, source: FaceBatch, wanted: Tensor) -> Tensor | None:
        """Pictures uint8 (STEPS, 3, S, S) of ``source``'s person, scene and pose, or None if not rendered."""
        name, _, digits = source.subject[0].rpartition(":") if source.subject else ("", "", "")
        rendered = bool(source.source) and source.source[0].startswith("rendered")
        if not self.options or not rendered or not digits.isdigit() or not name.endswith(str(self.options["seed"])):
            return None
        if self._renderer is None:
            found: Any = find_class(self.path, "renderer", Renderer)
            self._renderer = found(**self.options)
        frame = source.frame[:1].cpu().expand(STEPS)
        scene = frame // self.frames if self.frames else torch.zeros_like(frame)
        who = torch.full((STEPS,), int(digits))
        made = self._renderer.render(who, frame, scene, au=wanted.nan_to_num(0.0), pose=source.pose.expand(STEPS, 3))
        return made.image


class AUStrips(Callback):
    """Writes ``strips/AU06.png`` ... at the end of the test, and ``strips/AU06-photo.png`` ... of the photograph.

    Under the strip of a rendered person stands what the renderer shows for the same request. After validations
    ``strips/val-AU06-STEP.png`` shows the first validation person, so that one can watch an AU being learnt.

    Args:
        aus: which AUs.
        people: unseen people.
        every_n_epochs: validations of other epochs draw no strip; 0 draws none.
        photo: path of a photograph to try; ``astronaut`` is the one that comes with scikit-image, null none. A photo
            that cannot be used costs a warning, not the run.

    Raises:
        ValueError: an unknown AU.
    """

    def __init__(
        self,
        aus: list[int] = [6, 17],  # noqa: B006
        people: int = 3,
        photo: str | None = "astronaut",
        every_n_epochs: int = 1,
    ) -> None:
        index_of(aus)
        self.aus, self.people, self.photo, self.every_n_epochs = list(aus), people, photo, every_n_epochs
        self._sources: dict[str, FaceBatch] = {}

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget the person of the last validation."""
        self._sources = {}

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *_: int
    ) -> None:
        """Keep the first source."""
        if not self._sources and isinstance(batch, dict) and trainer.is_global_zero and not trainer.sanity_checking:
            source = batch["source"]
            self._sources[source.subject[0] if source.subject else ""] = source.select(slice(0, 1)).to("cpu")

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the person."""
        people, self._sources = self._sources, {}
        due = self.every_n_epochs and (trainer.current_epoch + 1) % self.every_n_epochs == 0
        if not people or not due or not hasattr(pl_module, "reenact"):
            return
        ((name, source),) = people.items()
        for number in self.aus:
            rows = _rows(name, source, number, pl_module, None, Truth(None))
            path = Path(trainer.default_root_dir) / "strips" / f"val-{au_key(number)}-{trainer.global_step:06d}.png"
            save_png(draw_strips(rows, number), path, text_chunks())

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget the people of an earlier test."""
        self._sources = {}

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *_: int
    ) -> None:
        """Keep the sources of the first people."""
        if not isinstance(batch, dict) or not trainer.is_global_zero:
            return
        for index, subject in enumerate(batch["source"].subject):
            if len(self._sources) < self.people and subject not in self._sources:
                self._sources[subject] = batch["source"].select(slice(index, index + 1)).to("cpu")

    def _photo(self, size: int) -> FaceBatch | None:
        """The photograph as a batch of one; None, with a warning, where it cannot be used."""
        if self.photo is None:
            return None
        try:
            return collate([source_from_photo(astronaut() if self.photo == "astronaut" else self.photo, size)])
        except (ValueError, OSError, ImportError) as error:
            rank_zero_warn(f"no strip of a real photograph: {error}")
            return None

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw."""
        people, self._sources = self._sources, {}
        if not people or not trainer.is_global_zero or not hasattr(pl_module, "reenact"):
            return
        judge, truth = _judge(pl_module), Truth(getattr(trainer, "datamodule", None))
        folder = Path(trainer.default_root_dir) / "strips"
        photo = self._photo(next(iter(people.values())).image.shape[-1])
        for number in self.aus:
            rows = []
            for name, source in people.items():
                rows += _rows(name, source, number, pl_module, judge, truth)
            save_png(draw_strips(rows, number), folder / f"{au_key(number)}.png", text_chunks())
            if photo is not None:
                rows = _rows(photo.subject[0], photo, number, pl_module, judge, truth)
                save_png(draw_strips(rows, number), folder / f"{au_key(number)}-photo.png", text_chunks())


def _judge(pl_module: LightningModule) -> AUDetector | None:
    """The judge of the test that is running, else the packaged one, else none."""
    judge = getattr(getattr(pl_module, "evaluation", None), "judge", None)
    if judge is not None:
        return judge
    try:
        return load_detector("packaged").to(pl_module.device)
    except FileNotFoundError:
        return None


def _rows(
    name: str, source: FaceBatch, number: int, pl_module: Any, judge: AUDetector | None, truth: Truth
) -> list[Strip]:
    """The generated strip of a source, and the true one where it can be rendered."""
    many, landmarks, wanted = request(source, number)
    made = to_uint8(pl_module.reenact(many.to(pl_module.device), landmarks, wanted).image).cpu()
    rows = [Strip(name, made)]
    if (images := truth.render(source, wanted)) is not None:
        rows.append(Strip("  rendered truth", images.cpu()))
    if judge is not None:
        for row in rows:
            row.readings = judge.predict_au(row.images)[:, AU_INDEX[number]].tolist()
    return rows


def draw_strips(strips: list[Strip], number: int) -> Image:
    """Rows of STEPS pictures with titles and readings as a PIL picture."""
    from PIL import Image, ImageDraw

    cell = cell_size(strips[0].images.shape[-1])
    row_height = cell + CAPTION
    sheet = Image.new("RGB", (_NAMES + STEPS * cell, CAPTION + len(strips) * row_height), "white")
    draw = ImageDraw.Draw(sheet)
    for step in range(STEPS):
        write(draw, _NAMES + step * cell + 3, 1, f"AU{number} asked {step * MAX_INTENSITY / (STEPS - 1):g}", cell - 4)
    for row, strip in enumerate(strips):
        y = CAPTION + row * row_height
        write(draw, 3, y + cell // 2, strip.name, _NAMES - 6)
        for step in range(STEPS):
            x = _NAMES + step * cell
            paste(sheet, strip.images[step], x, y, cell)
            if strip.readings is not None:
                write(draw, x + 3, y + cell + 1, f"judge reads {strip.readings[step]:.1f}", cell - 4)
    return sheet
