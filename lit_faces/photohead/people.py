"""A folder of photographs as people: who is in it, which pictures rest, and what a table beside them says.

    DIR/*.jpg ...            every photograph is a person
    DIR/NAME/*.jpg ...       every folder is a person
    DIR/labels.csv           file, subject, emotion, au1 ... (core.tables); any other column, fold for one, goes
                             into ``people.csv`` of the rendered set

Only a resting face can be asked for other Action Units with their truth known, so what shows an expression is left out,
unless the table states its Action Units.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from lit_faces.core.alignment import eye_aspect_ratio, lip_gap
from lit_faces.core.csv_files import read_own
from lit_faces.core.facs import AU_INDEX, EMOTION_INDEX, NUM_AUS
from lit_faces.core.inputs import read_file
from lit_faces.core.landmarks import FaceAnalyser
from lit_faces.core.photos import photographs_in, source_from_photo
from lit_faces.core.tables import TABLE, LabelRow, picture_path, read_table
from lit_faces.fitting.landmark_model import LandmarkModel
from lit_faces.fitting.retarget import FittedFace, fit_photo, refusal
from lit_faces.photohead.honesty import eyes_are_covered

_LOG = logging.getLogger(__name__)

FIT_SIZE = 256  # pixels: side of the crop in which faces are fitted
_SMILE, _PARTED = 0.8, 0.09  # AU12 of the fit, and lip gap over the outer-eye distance, of faces that do not rest


@dataclass(frozen=True)
class Portrait:
    """One photograph that can be used.

    Attributes:
        path: the file.
        sha256: of the file.
        crop: centre x, y and side of the aligned crop, pixels of the photo.
        face: fitted in that crop.
    """

    path: Path
    sha256: str
    crop: tuple[float, float, float]
    face: FittedFace


@dataclass(frozen=True)
class Person:
    """Who.

    Attributes:
        name: as the table or the folder says.
        portraits: at least one.
        about: what other columns of the table say of the first portrait.
    """

    name: str
    portraits: tuple[Portrait, ...]
    about: dict[str, str]

    def nearest(self, pose: Tensor) -> Portrait:
        """The portrait whose head is turned most alike, pose (3,) in degrees."""
        return min(self.portraits, key=lambda one: float((one.face.pose[:2] - pose[:2]).square().sum()))


@dataclass(frozen=True)
class _Candidate:
    path: Path
    subject: str
    au: Tensor | None  # stated, (19,); None: the picture must rest
    rests: bool  # the table says so
    about: dict[str, str]


def read_people(folder: Path) -> tuple[Person, ...]:
    """All people of a folder, in the order of their names; what was left out is logged.

    Raises:
        FileNotFoundError, NotADirectoryError: no such folder.
        ValueError: no photograph in it can be used; says why of the first.
    """
    if not folder.exists():
        raise FileNotFoundError(f"--head photo:{folder}: no such folder")
    if not folder.is_dir():
        raise NotADirectoryError(f"--head photo:{folder}: not a folder; name one that holds photographs")
    files = [*photographs_in(folder, below=True), folder / TABLE]
    found = [(str(path), path.stat().st_mtime_ns, path.stat().st_size) for path in files if path.is_file()]
    return _read(folder, tuple(found))


@lru_cache(maxsize=4)
def _read(folder: Path, files: tuple[tuple[str, int, int], ...]) -> tuple[Person, ...]:
    """As :func:`read_people`; ``files`` tells one state of the folder from another."""
    candidates, left_out = _candidates(folder)
    model, analyser = LandmarkModel(), FaceAnalyser()
    found: dict[str, list[tuple[Portrait, dict[str, str]]]] = {}
    for one in tqdm(candidates, desc="fitting photographs", unit="photo", disable=None):
        try:
            portrait = _portrait(one, model, analyser)
        except ValueError as error:
            left_out.append(str(error))
            continue
        found.setdefault(one.subject, []).append((portrait, one.about))
    if not found:
        raise ValueError(
            f"--head photo:{folder}: no photograph can be used; {left_out[0] if left_out else 'there is none'}"
        )
    if left_out:
        total = len(candidates) + len(left_out)
        _LOG.warning("%s: %d of %d photographs are left out; the first: %s", folder, len(left_out), total, left_out[0])
    return tuple(
        Person(name, tuple(portrait for portrait, _ in parts), parts[0][1]) for name, parts in sorted(found.items())
    )


def digest(people: tuple[Person, ...]) -> str:
    """16 hex digits that no other people have."""
    text = "\n".join(f"{one.name}:{portrait.sha256}" for one in people for portrait in one.portraits)
    return hashlib.sha256(text.encode(errors="backslashreplace")).hexdigest()[:16]


def _candidates(folder: Path) -> tuple[list[_Candidate], list[str]]:
    """Photographs to try, and sentences on those that are not even tried."""
    table = folder / TABLE
    if table.is_file():
        return _of_table(table)
    found = []
    for path in photographs_in(folder, below=True):
        above = path.relative_to(folder).parent
        found.append(_Candidate(path, path.stem if above == Path() else above.as_posix(), None, False, {}))
    return found, []


def _of_table(table: Path) -> tuple[list[_Candidate], list[str]]:
    data = read_file(table, "table")
    read = read_table(data, str(table))
    if read.problems:
        raise ValueError(str(read.problems[0]))
    columns, rows = read_own(data)
    known = {"file", "subject", "split", "frame", "emotion"}
    extra = {row["file"]: row for row in rows} if "file" in columns else {}
    found, left_out = [], []
    for row in read.rows:
        graded = row.au_intensity
        stated = bool(np.isfinite(graded).any())
        rests = row.emotion == EMOTION_INDEX["neutral"]
        if not stated and row.emotion >= 0 and not rests:
            left_out.append(str(row.problem(f"{row.file} shows an expression whose Action Units are not stated")))
            continue
        about = {k: v for k, v in extra.get(row.file, {}).items() if k not in known and not _is_label(k)}
        au = torch.from_numpy(np.nan_to_num(graded)) if stated else None
        found.append(_Candidate(picture_path(table.parent, row.file), _subject(row), au, rests, about))
    return found, left_out


def _subject(row: LabelRow) -> str:
    return row.subject or Path(row.file).stem


def _is_label(column: str) -> bool:
    """Action Units, pose and landmarks of the photo say nothing of the rendered picture."""
    name = column.lower()
    digits = name.lstrip("auocxy_ ").removesuffix("_r").removesuffix("_c")
    return name in ("yaw", "pitch", "roll") or (digits.isdigit() and name[0] in "aoxy")


def _portrait(one: _Candidate, model: LandmarkModel, analyser: FaceAnalyser) -> Portrait:
    """Find and fit the face.

    Raises:
        ValueError: it cannot be used; says why.
    """
    try:
        sample = source_from_photo(one.path, FIT_SIZE, analyser=analyser)
    except OSError as error:
        raise ValueError(str(error)) from error
    au = torch.zeros(NUM_AUS) if one.au is None else one.au
    if one.au is None and not one.rests and (acts := _expression(model, sample.landmarks)):
        raise ValueError(f"{one.path}: {acts}; use a resting face, or state its Action Units in {TABLE}")
    if eyes_are_covered(sample.image, sample.landmarks):
        raise ValueError(f"{one.path}: the eyes are covered (dark glasses?)")
    face = fit_photo(model, sample.landmarks, FIT_SIZE, au)
    if reason := refusal(face):
        raise ValueError(f"{one.path}: {reason}")
    cx, cy, side = sample.provenance["crop"]
    return Portrait(one.path, sample.provenance["sha256"], (cx, cy, side), face)


def _expression(model: LandmarkModel, landmarks: Tensor) -> str:
    """What the landmarks show, where the face does not rest."""
    found = fit_photo(model, landmarks, FIT_SIZE)
    if float(found.au[AU_INDEX[12]]) > _SMILE:
        return "the face smiles"
    if float(lip_gap(landmarks)) > _PARTED:
        return "the lips are parted"
    return "the eyes are closed" if max(float(eye_aspect_ratio(landmarks, n)) for n in (36, 42)) < 0.15 else ""
