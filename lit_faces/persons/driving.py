"""A person acts like a clip: ``driven.webm`` (the clip beside the person, as long as the clip) and ``driven.png``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as functional

from lit_faces.core.clips import ClipFaces, faces_of_clip
from lit_faces.core.options import at_least, option
from lit_faces.core.provenance import statement, text_chunks
from lit_faces.core.sample import collate
from lit_faces.core.video import write_video
from lit_faces.fitting.landmark_model import LandmarkModel
from lit_faces.models.detector import load_network
from lit_faces.persons.painters import drive_pictures, painter_of
from lit_faces.persons.source import PersonSource, acting
from lit_faces.rendering.sheets import save_grid

_SHARP = 256  # pixels: smaller pictures are shown twice as large
_SHOWN = 10  # frames of driven.png


@dataclass(frozen=True)
class DriveOptions:
    """Which clip a person acts like; each field's help says what it is."""

    drive: Path | None = option(None, "also let the person act like this clip", metavar="CLIP")
    drive_face: int | None = option(None, "which person of that clip")
    drive_frames: int = option(300, "frames of it, at most, spread over all of it")

    def __post_init__(self) -> None:
        """Refuse what cannot be.

        Raises:
            ValueError: names the option.
        """
        at_least("drive_frames", self.drive_frames, 1)
        if self.drive_face is not None:
            at_least("drive_face", self.drive_face, 0)

    def read(self, size: int = 128) -> ClipFaces | None:
        """The faces of the clip; None without one. Read it first: a bad clip must not cost a set.

        Raises:
            FileNotFoundError, IsADirectoryError, ValueError: names the clip.
        """
        if self.drive is None:
            return None
        return faces_of_clip(self.drive, size, self.drive_face, self.drive_frames)


def notes_of(clip: ClipFaces) -> list[str]:
    """What a user should know of the clip."""
    without = sum(look.sample is None for look in clip.looks)
    lost = [f"no face in {without} of {clip.sampled} frames; the last expression is kept there"] if without else []
    return [f"--drive: {note}" for note in [*lost, *clip.notes]]


def drive(clip: ClipFaces, source: PersonSource, out: Path, generator: str, detector: str, size: int) -> Path:
    """Let the person act like the clip.

    Args:
        clip: the acting person.
        source: whose face is shown.
        out: folder for ``driven.webm`` and ``driven.png``.
        generator: see :func:`lit_faces.persons.painters.painter_of`.
        detector: reads the acting person's AUs.
        size: side of the pictures, pixels.

    Returns:
        The video.
    """
    faces = collate(clip.samples)
    model = LandmarkModel()
    fits, level = acting(faces, model, load_network(detector).predict_au)
    made = drive_pictures(painter_of(source, generator, model, size), source, fits, level)
    beside = clip.beside(made).float()
    side = beside if size >= _SHARP else functional.interpolate(beside, scale_factor=2, mode="bicubic")
    video = write_video(
        out / "driven.webm", side.round().clamp(0, 255).to(torch.uint8), [look.seconds for look in clip.looks],
        clip.duration, statement(source.sha256),
    )  # fmt: skip
    pick = torch.linspace(0, len(made) - 1, min(_SHOWN, len(made))).round().long()
    acted = clip.beside(made)[[row for row, look in enumerate(clip.looks) if look.sample is not None]]
    rows = torch.cat([acted[pick, :, :, :size], made[pick]])
    save_grid(rows, len(pick), out / "driven.png", ["clip", source.name[:10]], [], text_chunks(source.sha256))
    return video
