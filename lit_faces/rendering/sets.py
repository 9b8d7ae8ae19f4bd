"""Rendered sets on disk, resumable, that any outside tool can read: plain PNG with a CSV of labels, or shards."""

from __future__ import annotations

import csv
import io
import os
import tarfile
from pathlib import Path

import torch
from tqdm import tqdm

from lit_faces.core.facs import AUS, EMOTIONS
from lit_faces.core.sample import FaceBatch
from lit_faces.rendering.renderer import FaceRenderer

COLUMNS = (
    "file",
    "subject",
    *(f"au{n}" for n in AUS),
    "yaw",
    "pitch",
    "roll",
    "emotion",
    *(f"{c}{i}" for i in range(68) for c in "xy"),
)
_STEP = 64
_SHARD = 1024


def _rows(batch: FaceBatch, names: list[str]) -> list[list[str]]:
    rows = []
    for i, name in enumerate(names):
        emotion = int(batch.emotion[i])
        numbers = [*batch.au_intensity[i].tolist(), *batch.pose[i].tolist()]
        marks = batch.landmarks[i].reshape(-1).tolist()
        text = ["" if n != n else f"{n:.4f}" for n in numbers]
        rows.append(
            [name, batch.subject[i], *text, EMOTIONS[emotion] if emotion >= 0 else "", *(f"{m:.3f}" for m in marks)]
        )
    return rows


def _png(image: torch.Tensor) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image.permute(1, 2, 0).cpu().numpy()).save(buffer, "PNG")
    return buffer.getvalue()


def _replace(path: Path, data: bytes) -> None:
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(data)
    os.replace(temporary, path)


def _table(rows: list[list[str]]) -> bytes:
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(rows)
    return buffer.getvalue().encode()


def subject_of(index: int, frames_per_subject: int) -> tuple[int, int]:
    """Subject and frame number of the picture ``index``."""
    return index // frames_per_subject, index % frames_per_subject


def write_folder(
    renderer: FaceRenderer, out: Path, count: int, frames_per_subject: int = 1, progress: bool = True
) -> Path:
    """Write ``images/000000.png`` ... and ``labels.csv``; an interrupted set goes on where it stopped.

    Raises:
        ValueError: ``out`` holds a set with other columns.
    """
    images = out / "images"
    images.mkdir(parents=True, exist_ok=True)
    table = out / "labels.csv"
    rows: list[list[str]] = []
    if table.exists():
        with table.open(newline="") as handle:
            header, *rows = list(csv.reader(handle)) or [[]]
        if tuple(header) != COLUMNS:
            raise ValueError(
                f"{table}: line 1 has other columns than a rendered set: remove the folder or choose another --out"
            )
        rows = rows[: count // _STEP * _STEP] if len(rows) > count else rows
    done = len(rows) // _STEP * _STEP if len(rows) < count else count
    rows = rows[:done]
    for start in tqdm(range(done, count, _STEP), desc="rendering", unit="batch", disable=not progress):
        index = range(start, min(start + _STEP, count))
        pairs = torch.tensor([subject_of(i, frames_per_subject) for i in index])
        batch = renderer.render(pairs[:, 0], pairs[:, 1])
        names = [f"images/{i:06d}.png" for i in index]
        for name, image in zip(names, batch.image, strict=True):
            _replace(out / name, _png(image))
        rows += _rows(batch, names)
        _replace(table, _table(rows))
    if not table.exists() or done >= count:
        _replace(table, _table(rows[:count]))
    return table


def write_photo(renderer: FaceRenderer, path: Path, subject: int = 0) -> Path:
    """A neutral, frontal picture of a subject in a scene that its frames do not have."""
    who = torch.tensor([subject])
    still = torch.zeros(1, len(AUS))
    faces = renderer.render(who, torch.tensor([1_000_000]), torch.tensor([1]), still, torch.zeros(1, 3))
    path.parent.mkdir(parents=True, exist_ok=True)
    _replace(path, _png(faces.image[0]))
    return path


def write_clip(renderer: FaceRenderer, path: Path, subject: int = 0, frames: int = 24) -> Path:
    """A clip of a subject: at rest, turning a little and beginning to smile (AU6 and AU12)."""
    from lit_faces.core.video import write_video

    still = torch.zeros(frames, dtype=torch.int64)
    way = torch.linspace(0, 1, frames)
    au, pose = torch.zeros(frames, len(AUS)), torch.zeros(frames, 3)
    for number in (6, 12):
        au[:, AUS.index(number)] = 4.0 * way
    pose[:, 0] = 12.0 * torch.sin(way * 2 * torch.pi)
    faces = renderer.render(still + subject, still + 1_000_001, still + 1, au, pose)
    return write_video(path, faces.image, 12.0)


def write_shards(
    renderer: FaceRenderer, out: Path, count: int, frames_per_subject: int = 1, progress: bool = True
) -> list[Path]:
    """Write tar shards (PNG and a one-row CSV under one key, the layout of webdataset); complete shards are kept."""
    out.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, start in enumerate(tqdm(range(0, count, _SHARD), desc="rendering", unit="shard", disable=not progress)):
        path = out / f"shard-{number:05d}.tar"
        paths.append(path)
        if path.exists():
            continue
        temporary = path.with_name(path.name + ".tmp")
        with tarfile.open(temporary, "w") as tar:
            for first in range(start, min(start + _SHARD, count), _STEP):
                index = range(first, min(first + _STEP, start + _SHARD, count))
                pairs = torch.tensor([subject_of(i, frames_per_subject) for i in index])
                batch = renderer.render(pairs[:, 0], pairs[:, 1])
                for i, image, row in zip(
                    index, batch.image, _rows(batch, [f"{i:06d}.png" for i in index]), strict=True
                ):
                    for suffix, data in (("png", _png(image)), ("csv", _table([row]))):
                        info = tarfile.TarInfo(f"{i:06d}.{suffix}")
                        info.size = len(data)
                        tar.addfile(info, io.BytesIO(data))
        os.replace(temporary, path)
    return paths
