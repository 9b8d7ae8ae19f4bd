"""Photographs of people at rest and smiling, as training data: only what is certain becomes a label.

=================  =======================================================================================
a neutral          0 in every AU (25, 26: not coded where the lips are seen apart); expression neutral
a smile            AU 1, 2, 4, 5, 9, 15, 17, 27, 43 stay at 0; AU25 is 0 where the lips are closed;
                   AU 6, 7, 10, 12, 14, 20, 23, 24, 26 have no grade; expression happiness
both beside        more AU12 (:class:`Smiles`), more AU25 if and only if the lips part, more AU6 if it is strong
=================  =======================================================================================
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from data_modules.backdrops import person_mask, swap_backdrops
from data_modules.cropping import find_face
from data_modules.portraits import Portrait, PortraitReader, by_person
from data_modules.reader import read_picture
from lit_faces.core.facs import EMOTION_INDEX, NUM_AUS, index_of
from lit_faces.core.orders import OrderedFaces, Orders
from lit_faces.core.sample import FaceBatch, FaceSample, collate

#: AUs that a smile leaves as they were.
STAY = (1, 2, 4, 5, 9, 15, 17, 27, 43)
#: What must be said wherever something made from these pictures is shown: weights are.
LICENCES = {
    "faces_ccby": "Face Research Lab London Set, L. DeBruine & B. Jones, CC BY 4.0, altered",
    "london": "Face Research Lab London Set, L. DeBruine & B. Jones, CC BY 4.0, altered",
}
_CLOSED = 0.5  # grades of AU25 that lips which stay together may seem to rise
_NAN = float("nan")
_NO_BOUNDS = torch.empty(2, 0, NUM_AUS)


@dataclass
class Smiles:
    """Sets of people at rest and smiling, and how they are learnt from.

    Attributes:
        path: folder of the set, as it was unpacked.
        reader: which set it is: a name of ``data_modules`` whose reader gives portraits, ``faces_ccby`` or ``london``.
        neutrals: resting faces of a training batch.
        pairs: people of whom a training batch has both photographs.
        strong: grades by which AU12 of a strong smile lies above the same person's rest, at least and at most.
        weak: the same of other smiles.
        cheeks: the same of AU6, of strong smiles only; null leaves AU6 alone.
        parted: grades by which AU25 rises at least where the lips part.
        swap: put other backdrops behind the people.
    """

    path: str
    reader: str = "faces_ccby"
    neutrals: int = 8
    pairs: int = 4
    strong: tuple[float, float] = (2.2, 3.0)
    weak: tuple[float, float] = (0.9, 2.0)
    cheeks: tuple[float, float] | None = (1.0, 2.5)
    parted: float = 1.2
    swap: bool = True

    def __post_init__(self) -> None:
        for name in ("neutrals", "pairs"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: expected 0 or more, got {getattr(self, name)}")
        for name in ("strong", "weak", "cheeks"):
            bounds = getattr(self, name)
            if bounds is not None and not 0 <= bounds[0] <= bounds[1] <= 5:
                raise ValueError(f"{name}: expected grades at least and at most, within 0..5, got {list(bounds)}")


class SmilingPeople:
    """The photographs of a set in memory, 48 KB a face at 128 pixels.

    Args:
        settings: which set, and how it is learnt from.
        size: side of the crops, pixels.
        without_fold: nobody of this fold of the set is seen; None sees everybody.

    Raises:
        FileNotFoundError: the set is not there.
        ValueError: no face is left, nobody is in that fold, or the reader gives no portraits.
    """

    def __init__(self, settings: Smiles, size: int, without_fold: int | None = None) -> None:
        self.settings = settings
        portraits = _portraits(settings, without_fold)
        found = [(one, crop) for one in portraits if (crop := _crop(one, size)) is not None]
        if not found:
            raise ValueError(f"smiles.path: {settings.path}: no face of anybody is left to learn from")
        self.portraits = [one for one, _ in found]
        self.faces = collate([_labelled(one, crop) for one, crop in found])
        self.masks = _masks(self.faces) if settings.swap else torch.ones(len(found), 1, size, size)
        row = {id(one): k for k, one in enumerate(self.portraits)}
        self.resting = [k for k, one in enumerate(self.portraits) if one.neutral]
        people = by_person(self.portraits)
        self.both = [(row[id(p.neutral)], row[id(p.smile)]) for p in people if p.neutral and p.smile]
        bounds = [known_of(self.portraits[a], self.portraits[b], settings) for a, b in self.both]
        self.least, self.most = torch.stack([torch.stack(pair) for pair in bounds], 1) if bounds else _NO_BOUNDS

    def __len__(self) -> int:
        return len(self.faces)

    def draw(self, generator: torch.Generator, behind: Tensor | None = None) -> OrderedFaces:
        """Faces of one training batch: people with both photographs first, then other resting faces.

        Args:
            generator: of the draws.
            behind: uint8 (n, 3, S, S), pictures that may stand out of focus behind the people.
        """
        pairs = some_of(len(self.both), self.settings.pairs, generator)
        resting = some_of(len(self.resting), self.settings.neutrals, generator)
        rows = torch.tensor(
            [k for pair in pairs.tolist() for k in self.both[pair]] + [self.resting[k] for k in resting.tolist()],
            dtype=torch.int64,
        )
        faces = self.faces.select(rows)
        if self.settings.swap and len(faces):
            behind = None if behind is None else behind[torch.arange(len(rows)) % len(behind)]
            faces.image = swap_backdrops(faces, self.masks[rows], generator, behind)
        first = 2 * torch.arange(len(pairs))
        return OrderedFaces(faces, Orders(first, first + 1, self.least[pairs], self.most[pairs]))


def known_of(neutral: Portrait, smile: Portrait, settings: Smiles) -> tuple[Tensor, Tensor]:
    """Grades by which AUs of a smile lie above the same person's rest, at least and at most: float32 (19,) each."""
    least, most = (torch.full((NUM_AUS,), _NAN) for _ in range(2))
    bounds = {12: settings.strong if smile.strong else settings.weak}
    if smile.strong and settings.cheeks is not None:
        bounds[6] = settings.cheeks
    if smile.lips_parted is not None and not neutral.lips_parted:
        bounds[25] = (settings.parted, 5.0) if smile.lips_parted else (0.0, _CLOSED)
    for number, (low, high) in bounds.items():
        column = index_of([number])[0]
        least[column], most[column] = low, high
    return least, most


def certain_labels(portrait: Portrait) -> Tensor:
    """Intensities that are certain of one photograph: float32 (19,), NaN = not coded."""
    grades = torch.full((NUM_AUS,), _NAN)
    if portrait.neutral:
        grades[:] = 0.0
        if portrait.lips_parted:
            grades[index_of([25, 26])] = _NAN
        return grades
    grades[index_of(STAY)] = 0.0
    if portrait.lips_parted is False:
        grades[index_of([25])] = 0.0
    return grades


def _occurrence(portrait: Portrait, grades: Tensor) -> Tensor:
    """Where the intensity is known; a strong smile has AU12 besides, and parted lips AU25."""
    occurrence = grades.clone()
    present = ([12] if portrait.strong else []) + ([25] if not portrait.neutral and portrait.lips_parted else [])
    if present:
        occurrence[index_of(present)] = 1.0
    return occurrence


def _labelled(portrait: Portrait, crop: tuple[Tensor, Tensor]) -> FaceSample:
    grades = certain_labels(portrait)
    return FaceSample(
        image=crop[0],
        landmarks=crop[1],
        au_intensity=grades,
        au_occurrence=_occurrence(portrait, grades),
        emotion=EMOTION_INDEX[portrait.emotion],
        subject=portrait.subject,
        source="photograph",
    )


def _portraits(settings: Smiles, without_fold: int | None) -> list[Portrait]:
    name = f"data_modules.{settings.reader}"
    reader: Any = getattr(importlib.import_module(name), "READER", None) if settings.reader.isidentifier() else None
    if reader is None or not issubclass(reader, PortraitReader):
        raise ValueError(f"smiles.reader: {settings.reader!r} gives no portraits; expected faces_ccby or london")
    portraits: list[Portrait] = reader(Path(settings.path).expanduser()).portraits()
    if without_fold is None:
        return portraits
    kept = [one for one in portraits if one.fold != without_fold]
    if len(kept) == len(portraits):
        raise ValueError(f"without_fold: nobody of {settings.path} is in fold {without_fold}")
    return kept


def _crop(portrait: Portrait, size: int) -> tuple[Tensor, Tensor] | None:
    """Picture uint8 (3, S, S) and its landmarks; None where no face is found."""
    from lit_faces.core.landmarks import FaceAnalyser, align_crop

    picture, _ = read_picture(portrait.path)
    if picture is None:
        return None
    analyser = _ANALYSER[0] if _ANALYSER else FaceAnalyser()
    _ANALYSER[:] = [analyser]
    box = find_face(analyser, picture)
    return None if box is None else align_crop(picture, analyser.landmarks(picture, box), size)


_ANALYSER: list[Any] = []  # one a process: loading takes a second


def _masks(faces: FaceBatch) -> Tensor:
    arrays = faces.image.permute(0, 2, 3, 1).numpy()
    found = [person_mask(np.ascontiguousarray(image), marks.numpy()) for image, marks in zip(arrays, faces.landmarks)]
    return torch.from_numpy(np.stack(found))[:, None]


def some_of(available: int, wanted: int, generator: torch.Generator) -> Tensor:
    """``wanted`` of ``available`` rows, none twice before all: int64."""
    if not available or not wanted:
        return torch.zeros(0, dtype=torch.int64)
    rounds = -(-wanted // available)
    return torch.cat([torch.randperm(available, generator=generator) for _ in range(rounds)])[:wanted]
