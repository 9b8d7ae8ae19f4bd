"""The person's zero: what a resting face reads, taken off everything that is read of the same person.

::

    zero = Zero.of(names, slopes).pooled(Evidence(rest, "1f00ab12"))
    read = ZeroedReader(detector.predict_au, AU_KEYS, zero)
    read(images)                                    # clip(reading - zero.offset, 0, 5), as if nothing else were there

Nothing is learnt and no weight changes: a zero is a small file beside a detector, and is undone by deleting it. It
works for whatever gives numbers with names: a network, another program behind a function, a table of readings.

**Shrinkage.** A resting reading is morphology plus what only this photo has (light, a head that is turned, a face not
quite at rest). How much of it comes back in another photo of the same person is a slope, by AU, estimated on people who
were photographed twice (``python -m benchmarks.zero``). Of k photos, slope ``s`` makes ``k s / (1 + (k - 1) s)``
(Spearman and Brown): one photo that says little is believed little, five of them more.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lit_faces.core.facs import MAX_INTENSITY
from lit_faces.core.fields import field, parse_json, read_json
from lit_faces.core.files import replace_file
from lit_faces.core.shipped import WEIGHTS

ZERO_FILE = "zero.json"
SLOPES_FILE = WEIGHTS / "rest_slopes.json"
MOST_SOURCES = 16
_VERSION = 1
_CODE = 8  # hexadecimal digits of a source's SHA-256 that are kept: enough to know a photo again
Floats = NDArray[np.float64]
#: Pictures uint8 (B, 3, H, W) to readings (B, A).
ReadPictures = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Slopes:
    """How much of a resting reading comes back in another photo of the person, by AU.

    Attributes:
        names: of the readings.
        slope: float64 (A,), 0..1.
        default: for readings of other names: all AUs together.
    """

    names: tuple[str, ...]
    slope: Floats
    default: float = 1.0

    @classmethod
    def shipped(cls, path: Path = SLOPES_FILE) -> Slopes:
        """The slopes that the package carries, of the shipped detector on open people; the file says where from.

        Raises:
            ValueError, OSError: the file is damaged or missing; names it.
        """
        content = read_json(path, "install the package again")
        slope = field(content, "slope", dict, path, of=float)
        default = field(content, "all", float, path, minimum=0, maximum=1)
        return cls(tuple(slope), np.array(list(slope.values()), dtype=np.float64), default)

    def named(self, names: Sequence[str]) -> Floats:
        """The slopes of these readings, float64 (A,); ``default`` for those that are not known."""
        known = dict(zip(self.names, self.slope.tolist()))
        return np.array([known.get(name, self.default) for name in names], dtype=np.float64)


def fit_slopes(names: Sequence[str], resting: Floats, other: Floats, prior: float = 2.0) -> Slopes:
    """Slopes from people who were photographed twice: r of the two readings over people (test and retest).

    Whatever the second photo does to everybody alike (a smile raises AU12 and hides the brows a little) does not count,
    only how far people keep their order and distance. AUs that hardly vary borrow from all others.

    Args:
        names: of the readings.
        resting: one photo of each person, at rest, (people, A).
        other: another photo of each, (people, A).
        prior: strength with which an AU is drawn to all AUs together: squared grades, summed over people.

    Returns:
        Slopes within 0..1; ``default`` is that of all AUs together.

    Raises:
        ValueError: fewer than three people, or shapes that do not go together.
    """
    if resting.shape != other.shape or resting.ndim != 2 or resting.shape[1] != len(names):
        raise ValueError(f"slopes: expected two tables (people, {len(names)}), got {resting.shape} and {other.shape}")
    if len(resting) < 3:
        raise ValueError(f"slopes: expected three people or more, got {len(resting)}")
    first, second = resting - resting.mean(0), other - other.mean(0)
    both = (first * second).sum(0)
    spread = np.sqrt(np.square(first).sum(0) * np.square(second).sum(0))
    together = float(np.clip(both.sum() / max(spread.sum(), 1e-9), 0.0, 1.0))
    return Slopes(tuple(names), np.clip((both + prior * together) / (spread + prior), 0.0, 1.0), together)


@dataclass(frozen=True)
class Evidence:
    """What one photo or clip says of a person at rest.

    Attributes:
        rest: float64 (A,), what is read where nothing is done; NaN = this source cannot say (a smile says nothing of
            the cheeks at rest).
        source: SHA-256 of the file, its first digits, or any word that is the source's own.
    """

    rest: Floats
    source: str


@dataclass(frozen=True)
class Zero:
    """A person's zero.

    Attributes:
        names: of the readings that it is about.
        rest: mean resting reading over the sources, float64 (A,); 0 where no source says anything.
        looks: how many sources say something, int (A,).
        slope: of :class:`Slopes`, float64 (A,).
        sources: first digits of their SHA-256.
        reader: whose readings these are: digits of the SHA-256 of its weights, or any word; empty = unknown.
    """

    names: tuple[str, ...]
    rest: Floats
    looks: NDArray[np.int64]
    slope: Floats
    sources: tuple[str, ...] = ()
    reader: str = ""

    @classmethod
    def of(cls, names: Sequence[str], slopes: Slopes, reader: str = "") -> Zero:
        """The zero of somebody of whom nothing is known: it changes nothing."""
        count = len(names)
        return cls(tuple(names), np.zeros(count), np.zeros(count, dtype=np.int64), slopes.named(names), (), reader)

    @property
    def offset(self) -> Floats:
        """What is taken off, float64 (A,)."""
        shrunk = self.looks * self.slope / np.maximum(1.0 + (self.looks - 1) * self.slope, 1e-9)
        return np.where(self.looks > 0, shrunk * self.rest, 0.0)

    def offset_of(self, names: Sequence[str]) -> Floats:
        """What is taken off these readings, float64 (len(names),); 0 of those that it is not about."""
        known = dict(zip(self.names, self.offset.tolist()))
        return np.array([known.get(name, 0.0) for name in names], dtype=np.float64)

    def pooled(self, evidence: Evidence) -> Zero:
        """This zero and one more photo or clip; one that is in it already changes nothing.

        Raises:
            ValueError: another number of readings; too many sources.
        """
        code = evidence.source[:_CODE]
        if evidence.rest.shape != self.rest.shape:
            raise ValueError(f"zero: expected {len(self.names)} readings, got {evidence.rest.shape}")
        if code in self.sources:
            return self
        if len(self.sources) >= MOST_SOURCES:
            raise ValueError(f"zero: {MOST_SOURCES} photos and clips are pooled already: more change nothing")
        says = np.isfinite(evidence.rest)
        looks = self.looks + says
        rest = self.rest + np.where(says, evidence.rest - self.rest, 0.0) / np.maximum(looks, 1)
        return replace(self, rest=rest, looks=looks, sources=(*self.sources, code))

    def apply(self, readings: Tensor, names: Sequence[str], most: float = MAX_INTENSITY) -> Tensor:
        """Readings with the zero taken off, clipped to 0..``most``; what it is not about stays as it is.

        Args:
            readings: (..., A).
            names: of the readings.
            most: the greatest that this reader can say.

        Raises:
            ValueError: as many names as readings are needed.
        """
        if readings.shape[-1] != len(names):
            raise ValueError(f"zero: {readings.shape[-1]} readings, but {len(names)} names")
        known = dict(zip(self.names, self.offset.tolist()))
        off = torch.tensor([known.get(name, 0.0) for name in names], dtype=readings.dtype, device=readings.device)
        about = torch.tensor([name in known for name in names], device=readings.device)
        return torch.where(about, (readings - off).clamp(0.0, most), readings)

    def digest(self, of: str = "") -> str:
        """SHA-256 of what is taken off, and of whatever it is joined with."""
        said = json.dumps([of, list(self.names), self.offset.round(4).tolist()])
        return hashlib.sha256(said.encode()).hexdigest()

    # -- the file -----------------------------------------------------------------------------------------------------

    def content(self) -> dict[str, Any]:
        """Plain data, JSON."""
        return {
            "zero": _VERSION,
            "reader": self.reader,
            "sources": list(self.sources),
            "aus": {
                name: [round(float(rest), 3), int(looks), round(float(slope), 3)]
                for name, rest, looks, slope in zip(self.names, self.rest, self.looks, self.slope)
            },
        }

    def save(self, folder: Path) -> Path:
        """Write ``zero.json`` (under 1 KB), whole or not at all; returns where."""
        path = Path(folder) / ZERO_FILE
        replace_file(path, (json.dumps(self.content(), separators=(",", ":")) + "\n").encode())
        return path

    @classmethod
    def load(cls, path: Path | str) -> Zero:
        """A zero from its file, or from the folder that holds it.

        Raises:
            FileNotFoundError: there is none.
            ValueError: the file is damaged; names file and field.
        """
        path = Path(path)
        path = path / ZERO_FILE if path.is_dir() else path
        return cls.of_content(parse_json(path.read_bytes(), path, "make it again with calibrate"), path)

    @classmethod
    def of_content(cls, content: dict[str, Any], path: Path) -> Zero:
        """A zero from its plain data; ``path`` is where they stood.

        Raises:
            ValueError: damaged; names file and field.
        """
        field(content, "zero", int, path, minimum=_VERSION, maximum=_VERSION)
        rows = field(content, "aus", dict, path, of=list, minimum=1)
        sources = field(content, "sources", list, path, of=str, maximum=MOST_SOURCES)
        rest, looks, slope = (np.array(column) for column in zip(*(_row(rows, name, path) for name in rows)))
        reader = field(content, "reader", str, path, default="")
        return cls(tuple(rows), rest, looks.astype(np.int64), slope, tuple(sources), reader)


def _row(rows: Mapping[str, Any], name: str, path: Path) -> tuple[float, float, float]:
    row = dict(zip(("rest", "looks", "slope"), field(rows, name, list, path, minimum=3, maximum=3)))
    where = f"{path}: {name}"
    return (
        field(row, "rest", float, where, minimum=-1e6, maximum=1e6),
        field(row, "looks", int, where, minimum=0, maximum=MOST_SOURCES),
        field(row, "slope", float, where, minimum=0, maximum=1),
    )


@dataclass(frozen=True)
class ZeroedReader:
    """A reader less a person's zero; itself a reader.

    Attributes:
        read: pictures uint8 (B, 3, H, W) to readings (B, A).
        names: of its readings.
        zero: the person's; None changes nothing.
        most: the greatest that the reader can say.
    """

    read: ReadPictures
    names: tuple[str, ...]
    zero: Zero | None = None
    most: float = MAX_INTENSITY

    def __call__(self, images: Tensor) -> Tensor:
        """Readings (B, A) of pictures of the person."""
        found = self.read(images)
        return found if self.zero is None else self.zero.apply(found, self.names, self.most)
