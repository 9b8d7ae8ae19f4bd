"""How a data set is cut into shards: units of work that depend on nothing but themselves."""

from __future__ import annotations

import difflib
import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data_modules.reader import Clip, Reader

UNIT = 1000
VERSION = 1  # raise it when the crops change


@dataclass(frozen=True)
class Settings:
    """How faces are cut and stored.

    Attributes:
        size: side of the crops, pixels.
        landmarks: ``dlib``, or ``own``: the set's landmarks, dlib's where they are missing.
        encoding: ``jpg`` (quality 95, full colour) or ``png``.
        unit: frames of a shard, at most.
    """

    size: int = 128
    landmarks: str = "dlib"
    encoding: str = "jpg"
    unit: int = UNIT

    def __post_init__(self) -> None:
        if not 32 <= self.size <= 1024:
            raise ValueError(f"--size: expected 32..1024 pixels, got {self.size}")
        if self.unit < 1:
            raise ValueError(f"--shard-frames: expected 1 or more, got {self.unit}")


@dataclass(frozen=True)
class PrepareOptions:
    """What is asked of a preparation.

    Attributes:
        out: folder to write to.
        size: side of the crops, pixels.
        landmarks: ``dlib``, or ``own`` (those that the set ships).
        encoding: ``jpg`` or ``png``.
        shard_frames: faces of a shard, at most.
        jobs: processes.
        subjects: only these people, names with commas; None means all.
        limit: only so many frames; None means all.
        overwrite: throw away what a preparation with other settings has left in ``out``.
    """

    out: Path
    size: int = 128
    landmarks: str = "dlib"
    encoding: str = "jpg"
    shard_frames: int = 1000
    jobs: int = 1
    subjects: str | None = None
    limit: int | None = None
    overwrite: bool = False

    def __post_init__(self) -> None:
        if self.jobs < 1 or (self.limit is not None and self.limit < 1):
            raise ValueError("--jobs and --limit: expected 1 or more")
        self.settings  # noqa: B018  (checks them)

    @property
    def settings(self) -> Settings:
        """How faces are cut and stored."""
        return Settings(self.size, self.landmarks, self.encoding, self.shard_frames)


@dataclass
class Unit:
    """What one shard is made of."""

    number: int
    clips: list[Clip]

    def __len__(self) -> int:
        return sum(len(clip) for clip in self.clips)


def plan_units(clips: Sequence[Clip], unit: int = UNIT) -> list[Unit]:
    """Cut long clips and join short ones of neighbouring recordings, in order."""
    units: list[Unit] = []
    waiting: list[Clip] = []
    for clip in clips:
        for first in range(0, len(clip), unit):
            piece = clip.select(slice(first, first + unit))
            if waiting and sum(map(len, waiting)) + len(piece) > unit:
                units.append(Unit(len(units), waiting))
                waiting = []
            waiting.append(piece)
    if waiting:
        units.append(Unit(len(units), waiting))
    return units


def fingerprint(unit: Unit, reader: Reader, settings: Settings) -> str:
    """What a shard depends on: settings, labels, and the files' names, sizes and times."""
    sha = hashlib.sha256(json.dumps([VERSION, asdict(settings), reader.name, reader_options(reader)]).encode())
    for clip in unit.clips:
        sha.update(f"{clip.key}|{clip.subject}|{clip.split}".encode())
        for array in (clip.frames, clip.positions, clip.au_intensity, clip.au_occurrence, clip.emotion, clip.boxes,
                      clip.landmarks, clip.pose):  # fmt: skip
            sha.update(b"-" if array is None else np.ascontiguousarray(array).tobytes())
        for path in clip.pictures or [clip.container or reader.root]:
            sha.update(f"{reader.relative(path)}|{_stamp(path)}".encode())
    return sha.hexdigest()


def _stamp(path: Path | None) -> str:
    try:
        status = os.stat(path)  # type: ignore[arg-type]
    except OSError:
        return "none"
    return f"{status.st_size}:{status.st_mtime_ns}"


def reader_options(reader: Reader) -> dict[str, Any]:
    """The reader's options by name."""
    return {item.name: getattr(reader, item.name) for item in reader.options()}


def select(clips: Sequence[Clip], subjects: str | None, limit: int | None) -> Sequence[Clip]:
    """The clips of the named people, the first ``limit`` frames in all, dealt evenly over the recordings.

    Args:
        clips: of the whole set.
        subjects: names with commas; None means everybody.
        limit: frames; None means all.

    Raises:
        ValueError: nobody of that name.
    """
    if subjects:
        wanted = {name.strip() for name in subjects.split(",") if name.strip()}
        known = {clip.subject.partition(":")[2] for clip in clips}
        for name in sorted(wanted - known):
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(known)[:12])}"
            raise ValueError(f"--subjects: no {name!r} in this copy; {hint}")
        clips = [clip for clip in clips if clip.subject.partition(":")[2] in wanted]
    if limit is None:
        return clips
    left, taken = limit, []
    for number, clip in enumerate(clips):
        count = min(len(clip), -(-left // (len(clips) - number)))
        if count:
            taken.append(clip.select(slice(0, count)))
        left -= count
    return taken
