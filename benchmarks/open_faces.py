"""What the benchmarks on real people share: the open faces as aligned crops, and readings of them.

Every figure on these people is cross-validated over their folds: whoever fits anything does so without the tested fold.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data_modules.faces_ccby import FacesCCBY
from data_modules.portraits import Person, Portrait, by_person
from lit_faces.core.facs import AU_KEYS
from lit_faces.core.landmarks import FaceAnalyser
from lit_faces.core.photos import source_from_photo

_LOG = logging.getLogger(__name__)
FOLDS = (0, 1, 2)
#: What a smile moves; all other AUs stay as they are at rest.
MOVED = tuple(f"AU{number:02d}" for number in (6, 7, 10, 12, 14, 20, 23, 24, 25, 26, 27))
STAYS = tuple(key for key in AU_KEYS if key not in MOVED)
Floats = NDArray[np.float64]


@dataclass
class OpenFaces:
    """The open faces, cropped.

    Attributes:
        portraits: n photographs in which a face was found.
        image: uint8 (n, 3, S, S).
        landmarks: float32 (n, 68, 2), pixels of the crop.
        lost: photographs without a face.
    """

    portraits: list[Portrait]
    image: Tensor
    landmarks: Tensor
    lost: list[str]

    def row(self, portrait: Portrait | None) -> int:
        """Row of a photograph; -1 for none."""
        return -1 if portrait is None or portrait not in self.portraits else self.portraits.index(portrait)

    def people(self) -> list[Person]:
        """Everybody of whom a photograph is here."""
        return by_person(self.portraits)


def read_open_faces(root: Path, size: int = 128) -> OpenFaces:
    """The open faces as aligned crops; kept under ``$LIT_FACES_CACHE``, for finding them takes a minute.

    Raises:
        FileNotFoundError: no such folder, or no labels.csv in it.
        ValueError: the table has problems: a benchmark must not go on with half of the people.
    """
    reader = FacesCCBY(root)
    portraits = reader.portraits()
    if reader.problems:
        first = reader.problems[0]
        raise ValueError(f"{root / first.file}, line {first.line}: {first.reason}")
    kept = _kept(portraits, size)
    if kept is not None and kept.is_file():
        with np.load(kept, allow_pickle=False) as found:
            image, landmarks, rows = found["image"], found["landmarks"], found["rows"]
    else:
        image, landmarks, rows = _crop(portraits, size)
        if kept is not None:
            kept.parent.mkdir(parents=True, exist_ok=True)
            np.savez(kept, image=image, landmarks=landmarks, rows=rows)
    here = [portraits[row] for row in rows]
    lost = [portrait.path.name for portrait in portraits if portrait not in here]
    return OpenFaces(here, torch.from_numpy(image), torch.from_numpy(landmarks), lost)


def _kept(portraits: Sequence[Portrait], size: int) -> Path | None:
    folder = os.environ.get("LIT_FACES_CACHE")
    if not folder:
        return None
    files = [(portrait.path.name, portrait.path.stat().st_size) for portrait in portraits]
    return Path(folder) / f"open_faces-{size}-{hashlib.sha256(repr(files).encode()).hexdigest()[:12]}.npz"


def _crop(portraits: Sequence[Portrait], size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    analyser = FaceAnalyser()
    images, points, rows = [], [], []
    for row, portrait in enumerate(portraits):
        try:
            sample = source_from_photo(portrait.path, size, analyser=analyser)
        except ValueError as error:
            _LOG.warning("%s", error)
            continue
        images.append(sample.image.numpy())
        points.append(sample.landmarks.numpy())
        rows.append(row)
    return np.stack(images), np.stack(points), np.array(rows)


def pairs(people: Sequence[Person], faces: OpenFaces) -> NDArray[np.int64]:
    """Rows of neutral and smile of everybody who has both, int64 (people, 2)."""
    found = [(faces.row(person.neutral), faces.row(person.smile)) for person in people]
    return np.array([both for both in found if min(both) >= 0], dtype=np.int64).reshape(-1, 2)
