"""One shard of a prepared set: decode, find the face, align, crop, encode, write."""

from __future__ import annotations

import hashlib
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_modules.cropping import BLACK, Clock, encode, face_crop
from data_modules.reader import Clip, Problem, Reader
from data_modules.units import Settings, Unit
from lit_faces.core.shards import ShardWriter


def make_shard(unit: Unit, key: str, reader: Reader, out: Path, settings: Settings) -> dict[str, Any]:
    """Write the shard of one unit.

    Returns:
        ``{"faces": int, "seconds": {stage: float}}``.

    Raises:
        OSError: no space; names the shard.
    """
    clock = Clock()
    writer = ShardWriter(out, unit.number, key)
    try:
        failures: list[Problem] = []
        for clip in unit.clips:
            _clip_into(writer, clip, reader, settings, failures, clock)
        with clock("write"):
            faces = writer.close([asdict(problem) for problem in failures])
    except OSError as error:
        writer.abandon()
        raise writer.named(error) from error
    except BaseException:
        writer.abandon()
        raise
    return {"faces": faces, "seconds": clock.seconds}


def _clip_into(
    writer: ShardWriter, clip: Clip, reader: Reader, settings: Settings, failures: list[Problem], clock: Clock
) -> None:
    own = None
    if settings.landmarks == "own" and not reader.aligned:
        with clock("landmarks"):
            before = len(reader.problems)
            own = reader.own_landmarks(clip)
            failures += reader.problems[before:]
            del reader.problems[before:]
    no_face: list[int] = []
    black: list[int] = []
    pictures = reader.pictures(clip)
    while True:
        with clock("decode"):
            item = next(pictures, None)
        if item is None:
            break
        row, picture, problem = item
        if problem is not None:
            failures.append(problem)
        if picture is None:
            continue
        if float(picture[::8, ::8].mean()) < BLACK:
            black.append(int(clip.frames[row]))
            continue
        found = face_crop(reader, clip, row, picture, None if own is None else own[row], settings.size, clock)
        if found is None:
            no_face.append(int(clip.frames[row]))
            continue
        crop, marks = found
        with clock("encode"):
            data = encode(crop, settings.encoding)
        with clock("write"):
            writer.add(_key(reader, clip, row), data, settings.encoding, _row(reader, clip, row, marks))
    where = clip.container or (clip.pictures[0].parent if clip.pictures else reader.root)
    for frames, reason in ((no_face, "no face found"), (black, "the picture is black")):
        if frames:
            failures.append(reader.problem(where, reason, clip, frames))


def _key(reader: Reader, clip: Clip, row: int) -> str:
    """Unique, and with no dot: webdataset cuts there."""
    text = re.sub(r"[^A-Za-z0-9_-]+", "_", f"{reader.name}-{clip.key}")
    if len(text) > 70 or text != f"{reader.name}-{clip.key}":
        text = f"{text[:60]}_{hashlib.sha256(clip.key.encode()).hexdigest()[:8]}"
    return f"{text}-{int(clip.frames[row]):07d}"


def _row(reader: Reader, clip: Clip, row: int, marks: NDArray[np.float32]) -> dict[str, Any]:
    assert clip.au_intensity is not None and clip.au_occurrence is not None and clip.emotion is not None
    key = _key(reader, clip, row)
    subject = f"{reader.name}:{key}" if clip.subject.endswith(":*") else clip.subject
    pose = np.full(3, np.nan, np.float32) if clip.pose is None else clip.pose[row]
    return {
        "subject": subject,
        "clip": clip.key,
        "frame": int(clip.frames[row]),
        "source": reader.name,
        "split": clip.split,
        "emotion": int(clip.emotion[row]),
        "au_intensity": clip.au_intensity[row],
        "au_occurrence": clip.au_occurrence[row],
        "landmarks": marks.reshape(-1),
        "pose": pose,
    }
