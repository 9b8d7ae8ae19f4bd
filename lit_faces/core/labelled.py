"""Read a labelled set of faces from disk: a folder of pictures with ``labels.csv``, tar shards, or a prepared set.

What ``python -m lit_faces.render set`` writes, or any tool: only the column ``file`` is needed. ``au6`` and ``AU06``
are the same column; an empty cell is *not coded*. Crops are taken as they are; pictures of other sizes are resized,
and their landmarks with them.
"""

from __future__ import annotations

import csv
import difflib
import io
import re
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as functional

from lit_faces.core.facs import AU_INDEX, EMOTION_INDEX, MAX_INTENSITY, NUM_AUS, occurrence
from lit_faces.core.inputs import read_file
from lit_faces.core.pictures import PictureError, decode
from lit_faces.core.sample import FaceBatch, FaceSample, collate
from lit_faces.core.shards import INDEX, ShardSet

TABLE = "labels.csv"
_AU = re.compile(r"^au_?0*(\d+)$", re.IGNORECASE)


def read_labelled(path: Path | str, size: int = 128, limit: int | None = None) -> FaceBatch:
    """All faces of a set, in memory.

    Args:
        path: a folder with ``labels.csv``, a folder of ``*.tar`` shards, one shard, or a prepared set
            (``python -m lit_faces.prepare``).
        size: side of the crops, pixels.
        limit: read the first so many only.

    Returns:
        A batch of n faces; what no column says is NaN, -1 or empty.

    Raises:
        FileNotFoundError: nothing of the kind at ``path``, or a picture that the table names is missing.
        ValueError: names the file, the line and the column of a bad value, or an empty set.
    """
    path = Path(path)
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be at least 1, got {limit}")
    if (path / INDEX).is_file():
        return _of_prepared(path, size, limit)
    samples = []
    for sample in _samples(path, size):
        samples.append(sample)
        if limit is not None and len(samples) >= limit:
            break
    if not samples:
        raise ValueError(f"{path}: the set is empty; render or generate it again")
    return collate(samples)


def _of_prepared(path: Path, size: int, limit: int | None) -> FaceBatch:
    shards = ShardSet(path)
    if not len(shards):
        raise ValueError(f"{path}: the set is empty; see {path / 'failures.csv'}")
    return shards.gather(range(len(shards) if limit is None else min(limit, len(shards))), size)


def _samples(path: Path, size: int) -> Iterator[FaceSample]:
    if path.is_dir() and (path / TABLE).is_file():
        yield from _of_folder(path, size)
        return
    shards = [path] if path.suffix == ".tar" and path.is_file() else sorted(path.glob("*.tar")) if path.is_dir() else []
    if not shards:
        near = difflib.get_close_matches(path.name, [p.name for p in path.parent.glob("*")], n=1)
        hint = (
            f"did you mean {path.parent / near[0]}?" if near and not path.exists() else "render or generate one first"
        )
        raise FileNotFoundError(f"{path}: expected a folder with {TABLE}, or tar shards; {hint}")
    for shard in shards:
        yield from _of_shard(shard, size)


def _of_folder(folder: Path, size: int) -> Iterator[FaceSample]:
    table = folder / TABLE
    with table.open(newline="", encoding="utf-8-sig") as handle:
        reader = csv.DictReader(handle)
        _check_columns(reader.fieldnames or [], str(table))
        for row in reader:
            where = f"{table}, line {reader.line_num}"
            if not row["file"]:
                raise ValueError(f"{where}: column file is empty; name the picture or drop the line")
            picture = folder / row["file"]
            try:
                data = read_file(picture, "picture")
            except FileNotFoundError:
                message = f"{where}: the picture {picture} is missing; copy it there or drop the line"
                raise FileNotFoundError(message) from None
            except (OSError, ValueError) as error:
                raise type(error)(f"{where}: {error}") from error
            yield _sample(row, data, where, size, str(picture))


def _of_shard(shard: Path, size: int) -> Iterator[FaceSample]:
    parts: dict[str, dict[str, bytes]] = {}
    try:
        with tarfile.open(shard) as tar:
            for member in tar:
                key, _, suffix = member.name.rpartition(".")
                data = tar.extractfile(member)
                if data is None:
                    continue
                part = parts.setdefault(key, {})
                part[suffix.lower()] = data.read()
                picture = next((part[s] for s in ("png", "jpg", "jpeg") if s in part), None)
                if picture is None or "csv" not in part:
                    continue
                where = f"{shard}, {key}.csv"
                reader = csv.DictReader(io.StringIO(parts.pop(key)["csv"].decode("utf-8-sig"), newline=""))
                _check_columns(reader.fieldnames or [], where)
                for row in reader:
                    yield _sample(row, picture, where, size, f"{shard}, {key}")
        if parts:
            raise ValueError(f"{shard}: {sorted(parts)[0]} has no picture or no CSV beside it; write the shard again")
    except tarfile.ReadError as error:
        raise ValueError(f"{shard}: damaged or cut short ({error}); write the shard again") from error


def _check_columns(names: Sequence[str], where: str) -> None:
    if "file" not in names:
        raise ValueError(f"{where}: line 1 has no column 'file' (found: {', '.join(names[:8]) or 'nothing'})")
    for name in names:
        found = _AU.match(name)
        if found and int(found[1]) not in AU_INDEX:
            raise ValueError(
                f"{where}: line 1: lit_faces has no AU{found[1]}, drop the column; it codes "
                f"{', '.join(map(str, AU_INDEX))}"
            )


def _number(row: dict[str, str], name: str, where: str) -> float:
    text = (row.get(name) or "").strip()
    if text.lower() in ("", "nan"):
        return float("nan")
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{where}: column {name}: expected a number or nothing, found {text!r}") from None


def _sample(row: dict[str, str], data: bytes, where: str, size: int, name: str) -> FaceSample:
    try:
        image = torch.from_numpy(decode(data, name)).permute(2, 0, 1)
    except PictureError as error:
        raise ValueError(f"{where}: {error}") from error
    marks = torch.tensor([[_number(row, f"{axis}{i}", where) for axis in "xy"] for i in range(68)])
    if image.shape[1:] != (size, size):
        scale = torch.tensor([size / image.shape[2], size / image.shape[1]])
        marks = (marks + 0.5) * scale - 0.5
        small = functional.interpolate(
            image[None].float(), size=(size, size), mode="bilinear", align_corners=False, antialias=True
        )
        image = small[0].round().clamp(0, 255).to(torch.uint8)
    au = torch.full((NUM_AUS,), float("nan"))
    for column in row:
        found = _AU.match(column or "")
        if found:
            value = _number(row, column, where)
            if not np.isnan(value) and not 0 <= value <= MAX_INTENSITY:
                raise ValueError(
                    f"{where}: column {column}: expected 0..5 or nothing, found {value:g}; leave uncoded cells empty"
                )
            au[AU_INDEX[int(found[1])]] = value
    emotion = (row.get("emotion") or "").strip().lower()
    if emotion and emotion not in EMOTION_INDEX:
        raise ValueError(f"{where}: column emotion: expected one of {', '.join(EMOTION_INDEX)}, found {emotion!r}")
    frame = _number(row, "frame", where)
    return FaceSample(
        image=image.contiguous(),
        landmarks=marks,
        au_intensity=au,
        au_occurrence=occurrence(au),
        emotion=EMOTION_INDEX[emotion] if emotion else -1,
        pose=torch.tensor([_number(row, axis, where) for axis in ("yaw", "pitch", "roll")]),
        subject=(row.get("subject") or "").strip(),
        source="labelled",
        frame=0 if np.isnan(frame) else int(frame),
    )
