"""Read a labelled set of faces from disk: a folder of pictures with ``labels.csv``, tar shards, or a prepared set.

What ``python -m lit_faces.render set`` writes, or any tool: :mod:`lit_faces.core.tables` knows the columns. Crops are
taken as they are; pictures of other sizes are resized, and their landmarks with them.
"""

from __future__ import annotations

import difflib
import logging
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as functional

from lit_faces.core.aligning import Aligner
from lit_faces.core.inputs import read_file
from lit_faces.core.label_checks import settle
from lit_faces.core.pictures import PictureError, decode
from lit_faces.core.sample import FaceBatch, FaceSample, collate
from lit_faces.core.shards import INDEX, ShardSet
from lit_faces.core.tables import TABLE, LabelRow, LabelTable, TableProblem, picture_path, read_table

_LOG = logging.getLogger(__name__)


def read_labelled(
    path: Path | str,
    size: int = 128,
    limit: int | None = None,
    need: Literal["", "any", "intensity"] = "",
    align: bool = False,
) -> FaceBatch:
    """All faces of a set, in memory.

    Args:
        path: a folder with ``labels.csv``, a folder of ``*.tar`` shards, one shard, or a prepared set
            (``python -m lit_faces.prepare``).
        size: side of the crops, pixels.
        limit: read the first so many only.
        align: whoever reads the faces with a network: pictures of a folder that are no aligned crops are aligned, or
            refused (:mod:`lit_faces.core.aligning`). Shards and prepared sets hold crops that we made.
        need: refuse a set in which nothing is coded (``any``: AU or emotion), or no intensity of an AU.

    Returns:
        A batch of n faces; what no column says is NaN, -1 or empty. What a table has and is not read is logged.

    Raises:
        FileNotFoundError: nothing of the kind at ``path``, or a picture that the table names is missing.
        ValueError: names the file, the line and the column of a bad value, or an empty set.
    """
    batch = _read(Path(path), size, limit, Aligner() if align else None)
    coded = bool(batch.au_intensity.isfinite().any())
    if need == "any":
        coded = coded or bool(batch.au_occurrence.isfinite().any() or (batch.emotion >= 0).any())
    if need and not coded:
        what = "no AU is graded" if need == "intensity" else "nothing is coded"
        raise ValueError(f"{path}: {what} in any of its {len(batch):,} faces: {TABLE} needs columns such as au6, au17")
    return batch


def _read(path: Path, size: int, limit: int | None, aligner: Aligner | None) -> FaceBatch:
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be at least 1, got {limit}")
    if (path / INDEX).is_file():
        return _of_prepared(path, size, limit)
    samples = []
    for sample in _samples(path, size, aligner):
        samples.append(sample)
        if limit is not None and len(samples) >= limit:
            break
    if not samples:
        raise ValueError(f"{path}: the set is empty; render or generate it again")
    for note in aligner.check(path) if aligner else ():
        _LOG.warning("%s: %s", path, note)
    return collate(samples)


def _of_prepared(path: Path, size: int, limit: int | None) -> FaceBatch:
    shards = ShardSet(path)
    if not len(shards):
        raise ValueError(f"{path}: the set is empty; see {path / 'failures.csv'}")
    return shards.gather(range(len(shards) if limit is None else min(limit, len(shards))), size)


def _samples(path: Path, size: int, aligner: Aligner | None) -> Iterator[FaceSample]:
    if path.is_dir() and (path / TABLE).is_file():
        yield from _of_folder(path, size, aligner)
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


def _of_folder(folder: Path, size: int, aligner: Aligner | None) -> Iterator[FaceSample]:
    table = folder / TABLE
    for row in _whole(table, [read_table(read_file(table, "table"), str(table))]):
        picture, where = picture_path(folder, row.file), f"{table}, line {row.line}"
        try:
            data = read_file(picture, "picture")
        except FileNotFoundError:
            message = str(row.problem(f"the picture {picture} is missing; copy it there or drop the line"))
            raise FileNotFoundError(message) from None
        except (OSError, ValueError) as error:
            raise type(error)(f"{where}: {error}") from error
        yield _sample(row, data, where, size, str(picture), aligner)


def _of_shard(shard: Path, size: int) -> Iterator[FaceSample]:
    parts: dict[str, dict[str, bytes]] = {}
    pictures: dict[str, bytes] = {}
    tables: list[LabelTable] = []
    try:
        with tarfile.open(shard, "r:") as tar:  # never packed: few bytes may hold many
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
                pictures[where] = picture
                tables.append(read_table(parts.pop(key)["csv"], where))
        if parts:
            raise ValueError(f"{shard}: {sorted(parts)[0]} has no picture or no CSV beside it; write the shard again")
    except tarfile.ReadError as error:
        raise ValueError(f"{shard}: damaged or cut short ({error}); write the shard again") from error
    for row in _whole(shard, tables):
        yield _sample(row, pictures[row.table], row.table, size, row.table.removesuffix(".csv"))


def _whole(where: Path, tables: Sequence[LabelTable]) -> list[LabelRow]:
    """The rows of all tables of a set, when nothing is wrong with any; notes are logged, each once."""
    _refuse([problem for table in tables for problem in table.problems])
    settled = settle([row for table in tables for row in table.rows])
    _refuse(settled.problems)
    for note in dict.fromkeys(note for table in [*tables, settled] for note in table.notes):
        _LOG.warning("%s: %s", where, note)
    return settled.rows


def _refuse(problems: Sequence[TableProblem]) -> None:
    if not problems:
        return
    others = [str(problem.line) for problem in problems[1:]]
    more = f" (and {len(others):,} more lines: {', '.join(others[:5])}{' ...' if others[5:] else ''})" if others else ""
    raise ValueError(f"{problems[0]}{more}")


def _sample(row: LabelRow, data: bytes, where: str, size: int, name: str, aligner: Aligner | None = None) -> FaceSample:
    try:
        image = torch.from_numpy(decode(data, name)).permute(2, 0, 1)
    except PictureError as error:
        raise ValueError(f"{where}: {error}") from error
    marks = torch.from_numpy(row.landmarks)
    if aligner is not None:
        image, marks = aligner.align(image, marks, where)
    if image.shape[1:] != (size, size):
        scale = torch.tensor([size / image.shape[2], size / image.shape[1]])
        marks = (marks + 0.5) * scale - 0.5
        small = functional.interpolate(
            image[None].float(), size=(size, size), mode="bilinear", align_corners=False, antialias=True
        )
        image = small[0].round().clamp(0, 255).to(torch.uint8)
    return FaceSample(
        image=image.contiguous(),
        landmarks=marks,
        au_intensity=torch.from_numpy(row.au_intensity),
        au_occurrence=torch.from_numpy(row.au_occurrence),
        emotion=row.emotion,
        pose=torch.from_numpy(row.pose),
        subject=row.subject,
        source="labelled",
        frame=row.frame or 0,
    )
