"""A folder of people: their names, what each changes in one shared detector, and how a face is known again.

::

    registry/
      index.safetensors             names, keys, and one embedding of each face: all that is read to open it
      people/<key>.safetensors      a person's delta and zero, read when the person is met

    registry = Registry.create(Path("people"), detector_code(detector))
    registry.add("anna", Entry(delta, zero, face))
    registry.recognise(face)        "anna", or None: nobody is near enough

There is no picture in it. Embeddings are biometric data all the same: whoever has them can find the person in other
pictures. A key is random and says nothing of the name. What is removed is gone: the index is written without the
person, then the file is deleted; what a killed process has left of that is deleted by the next one that writes.
"""

from __future__ import annotations

import re
import secrets
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lit_faces.core.fields import field
from lit_faces.core.files import locked, remove_listed
from lit_faces.core.landmarks import EMBEDDING_SIZE
from lit_faces.core.weights import check_card, load_weights, save_weights
from lit_faces.core.words import suggestion
from lit_faces.models.adapters import Delta
from lit_faces.models.reference import References
from lit_faces.persons.zero import Zero

INDEX = "index.safetensors"
_FOLDER, _KIND, _VERSION = "people", "registry", 1
_KEY = re.compile(r"[0-9a-f]{16}")
_OURS = re.compile(rf"{_KEY.pattern}\.safetensors|\.{_KEY.pattern}\..+")  # and what a killed process was writing
_NAME = re.compile(r"[^\x00-\x1f\x7f]{1,100}")
_KEPT = 64  # people whose files stay in memory
#: Distance of dlib's embeddings below which a face is the person's (``python -m benchmarks.gate``).
THRESHOLD = 0.4
Face = NDArray[np.float32]


@dataclass(frozen=True)
class Entry:
    """What is kept of a person.

    Attributes:
        delta: what the person changes in the shared detector; None: nothing.
        zero: what the resting face reads too much. It is taken off where there is no delta: a delta knows it already.
        face: dlib's embedding, float32 (128,); None: the person is not recognised, only named.
        references: pictures that the shared detector looks at while it reads. They stand in the place of the zero; a
            delta that was learnt beside its person has its own.
    """

    delta: Delta | None = None
    zero: Zero | None = None
    face: Face | None = None
    references: References | None = None


@dataclass
class _Index:
    """What the index says."""

    detector: str
    keys: dict[str, str]
    faces: NDArray[np.float32]


class Registry:
    """People of one shared detector.

    Args:
        folder: that :meth:`create` has made.
        detector: code of the detector in use (:func:`lit_faces.models.adapters.detector_code`); None: not checked.

    Attributes:
        folder: where it is.
        detector: code of the detector that its deltas were learnt on.

    Raises:
        FileNotFoundError: there is none.
        ValueError: damaged, or of another detector.
    """

    def __init__(self, folder: Path | str, detector: str | None = None) -> None:
        self.folder = Path(folder)
        self._index = _read_index(self.folder)
        if detector not in (None, self.detector):
            raise ValueError(
                f"{self.folder}: its people were learnt on the detector {self.detector}, not on {detector}: give that "
                "one with --detector, or enrol them anew in another folder"
            )
        self._read: OrderedDict[str, Entry] = OrderedDict()

    @classmethod
    def create(cls, folder: Path | str, detector: str) -> Registry:
        """The registry of a folder, made where there is none.

        Raises:
            ValueError: one that is damaged, or of another detector; a folder that holds something else.
            OSError: the folder cannot be written to.
        """
        folder = Path(folder)
        if not (folder / INDEX).is_file():
            if folder.is_dir() and any(not path.name.startswith(".") for path in folder.iterdir()):
                raise ValueError(f"{folder}: holds other files, and no registry: choose an empty or a new folder")
            with locked(folder, "registry", wait=True):
                if not (folder / INDEX).is_file():
                    _write_index(folder, _Index(detector, {}, np.zeros((0, EMBEDDING_SIZE), np.float32)))
        return cls(folder, detector)

    # -- who is in it -------------------------------------------------------------------------------------------------

    @property
    def detector(self) -> str:
        """Code of the shared detector."""
        return self._index.detector

    @property
    def names(self) -> list[str]:
        """Everybody, in the order of enrolment."""
        return list(self._index.keys)

    def __len__(self) -> int:
        return len(self._index.keys)

    def __contains__(self, name: object) -> bool:
        return name in self._index.keys

    def get(self, name: str) -> Entry:
        """What is kept of a person; read once, the last 64 people stay in memory.

        Raises:
            ValueError, OSError: there is nobody of that name; the person's file is damaged or missing.
        """
        if name not in self._index.keys:
            hint = suggestion(name, self.names)
            raise ValueError(f"{self.folder}: there is nobody called {name!r}{hint}; {len(self)} people are in it")
        key = self._index.keys[name]
        if key not in self._read:
            self._read[key] = _read_entry(self._file(key), self.detector, self._face(name))
            if len(self._read) > _KEPT:
                self._read.popitem(last=False)
        self._read.move_to_end(key)
        return self._read[key]

    def recognise(self, face: Face, threshold: float = THRESHOLD) -> str | None:
        """Whose face it is; None where nobody is nearer than ``threshold``.

        Args:
            face: dlib's embedding, float32 (128,); NaN: no face.
            threshold: largest distance.
        """
        distances = self.distances(face)
        if not len(distances) or not distances.min() < threshold:
            return None
        return self.names[int(distances.argmin())]

    def distances(self, face: Face) -> NDArray[np.float32]:
        """From a face to everybody, float32 (people,); infinite to those who are only named."""
        gap = self._index.faces - np.asarray(face, np.float32)
        squares = np.einsum("pd,pd->p", gap, gap)
        return np.sqrt(np.where(np.isfinite(squares), squares, np.inf), dtype=np.float32)

    # -- who comes and goes -------------------------------------------------------------------------------------------

    def add(self, name: str, entry: Entry, overwrite: bool = False) -> None:
        """Enrol a person.

        Args:
            name: up to 100 characters.
            entry: what is kept.
            overwrite: instead of who has that name.

        Raises:
            ValueError: a name that cannot be, or is taken; a delta of another detector; a face that is none.
            OSError: the disk is full or read-only.
        """
        self.add_all({name: entry}, overwrite)

    def add_all(self, people: Mapping[str, Entry], overwrite: bool = False) -> None:
        """Enrol many people at once, all or nobody; see :meth:`add`."""
        faces = [self._checked(name, entry) for name, entry in people.items()]
        with self._writing() as index:
            if not overwrite and (taken := [name for name in people if name in index.keys]):
                raise ValueError(f"{self.folder}: {taken[0]!r} is in it already: choose another name")
            for name, entry in people.items():
                _drop(index, name)
                index.keys[name] = secrets.token_hex(8)
                delta = Delta(self.detector) if entry.delta is None else entry.delta
                zero = None if entry.zero is None else entry.zero.content()
                beside = _tensors_of(entry.references)
                delta.save(self._file(index.keys[name]), beside, zero=zero)
            index.faces = np.concatenate([index.faces, *(face[None] for face in faces)])

    def _checked(self, name: str, entry: Entry) -> Face:
        """The row of the index of a person who may be enrolled."""
        if not _NAME.fullmatch(name) or name != name.strip():
            raise ValueError(f"name {name!r}: expected 1 to 100 characters on one line, without blanks around them")
        if entry.delta is not None and entry.delta.detector != self.detector:
            raise ValueError(
                f"{self.folder}: a delta of the detector {entry.delta.detector} cannot be enrolled beside those of "
                f"{self.detector}"
            )
        face = np.full(EMBEDDING_SIZE, np.nan, np.float32) if entry.face is None else np.asarray(entry.face, np.float32)
        if face.shape != (EMBEDDING_SIZE,) or (entry.face is not None and not np.isfinite(face).all()):
            raise ValueError(f"{name}: expected an embedding of {EMBEDDING_SIZE} finite numbers, got {face.shape}")
        return face

    def remove(self, name: str) -> None:
        """Forget a person: name, embedding, delta and zero.

        Raises:
            ValueError: there is nobody of that name.
        """
        with self._writing() as index:
            if name not in index.keys:
                raise ValueError(f"{self.folder}: there is nobody called {name!r}{suggestion(name, index.keys)}")
            _drop(index, name)

    @contextmanager
    def _writing(self) -> Iterator[_Index]:
        """The index as it is now, alone; what was done to it is written, and files that it no longer names go."""
        with locked(self.folder, "registry", wait=True):
            index = _read_index(self.folder)
            try:
                yield index
                _write_index(self.folder, index)
                self._index, self._read = index, OrderedDict()
            finally:
                known = {f"{key}.safetensors" for key in _read_index(self.folder).keys.values()}
                ours = [path.name for path in (self.folder / _FOLDER).glob("*") if _OURS.fullmatch(path.name)]
                remove_listed(self.folder, [f"{_FOLDER}/{name}" for name in ours if name not in known])

    def _file(self, key: str) -> Path:
        return self.folder / _FOLDER / f"{key}.safetensors"

    def _face(self, name: str) -> Face | None:
        face = self._index.faces[self.names.index(name)]
        return face if bool(np.isfinite(face).all()) else None


def _drop(index: _Index, name: str) -> None:
    if name in index.keys:
        index.faces = np.delete(index.faces, list(index.keys).index(name), axis=0)
        del index.keys[name]


def _read_index(folder: Path) -> _Index:
    path = folder / INDEX
    if not path.is_file():
        raise FileNotFoundError(f"{folder}: no registry of people ({INDEX} is missing); `people add` makes one")
    tensors, card = load_weights(path)
    check_card(path, card, _KIND, "the index of a registry of people", "choose another folder")
    field(card, "version", int, path, minimum=_VERSION, maximum=_VERSION)
    rows: list[list[Any]] = field(card, "people", list, path, of=list)
    pairs = [(row[0], row[1]) for row in rows if len(row) == 2 and all(isinstance(word, str) for word in row)]
    keys = dict(pairs)
    damaged = f"{path}: damaged: copy it again, or enrol the people anew"
    if len(keys) != len(rows) or len(set(keys.values())) != len(rows) or not all(map(_KEY.fullmatch, keys.values())):
        raise ValueError(f"{damaged} (names and keys do not go together)")
    faces = tensors.get("faces")
    if faces is None or faces.shape != (len(rows), EMBEDDING_SIZE) or faces.dtype != torch.float32:
        raise ValueError(f"{damaged} (expected {len(rows)} faces of {EMBEDDING_SIZE} numbers)")
    return _Index(field(card, "detector", str, path, minimum=1, maximum=64), keys, faces.numpy())


def _write_index(folder: Path, index: _Index) -> None:
    people = [[name, key] for name, key in index.keys.items()]
    card = {"kind": _KIND, "version": _VERSION, "detector": index.detector, "people": people}
    save_weights(folder / INDEX, {"faces": torch.from_numpy(index.faces)}, card)


_REFERENCES = ("reference.features", "reference.intensity")


def _tensors_of(references: References | None) -> dict[str, Tensor]:
    return {} if references is None else dict(zip(_REFERENCES, (references.features, references.intensity)))


def _read_entry(path: Path, detector: str, face: Face | None) -> Entry:
    state, card = load_weights(path)
    kept = [state.pop(key, None) for key in _REFERENCES]
    references = None if kept == [None, None] else References.checked(kept[0], kept[1], str(path))
    delta = Delta.of_card(state, card, path)
    if delta.detector != detector:
        raise ValueError(f"{path}: a delta of the detector {delta.detector}, in a registry of {detector}: remove it")
    zero = card.get("zero")
    found = None if zero is None else Zero.of_content(field(card, "zero", dict, path), path)
    return Entry(delta if len(delta.up) + len(delta.shift) else None, found, face, references)
