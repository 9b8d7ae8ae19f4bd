"""Rendered sets on disk, resumable, that any outside tool can read: plain PNG with a CSV of labels, or shards."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import torch
from tqdm import tqdm

from lit_faces.core.csv_files import csv_bytes, read_own
from lit_faces.core.facs import AUS, EMOTIONS
from lit_faces.core.files import locked, remove_stale, replace_file, replacing
from lit_faces.core.provenance import generated_png
from lit_faces.core.sample import FaceBatch
from lit_faces.rendering.heads import Painter
from lit_faces.rendering.renderer import RENDER_VERSION, FaceRenderer

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


def _file(renderer: FaceRenderer, batch: FaceBatch, row: int, subject: int) -> bytes:
    """A picture as PNG; of a real person's photograph it says that it is none."""
    if not isinstance(renderer.head, Painter):
        return _png(batch.image[row])
    source = renderer.head.source_of(subject, batch.pose[row])
    return generated_png(batch.image[row], source, {"generated": True, "source": batch.source[row]})


def _table(rows: list[list[str]]) -> bytes:
    return csv_bytes(COLUMNS, rows)


def subject_of(index: int, frames_per_subject: int) -> tuple[int, int]:
    """Subject and frame number of the picture ``index``."""
    return index // frames_per_subject, index % frames_per_subject


def write_folder(
    renderer: FaceRenderer, out: Path, count: int, frames_per_subject: int = 1, progress: bool = True
) -> Path:
    """Write ``images/000000.png`` ... and ``labels.csv``; an interrupted set goes on where it stopped.

    Raises:
        BusyError: another process writes a set there.
        ValueError: ``out`` holds something else: other columns, other settings.
    """
    with locked(out, "render"):
        _claim(out, renderer, frames_per_subject, "folder", ("images", "labels.csv"))
        return _write_folder(renderer, out, count, frames_per_subject, progress)


def _claim(out: Path, renderer: FaceRenderer, frames_per_subject: int, form: str, names: tuple[str, ...]) -> None:
    """A folder holds one set: its settings are written first, and compared when it is gone on with.

    Raises:
        ValueError: other settings, or files of these names that are not of a rendered set.
    """
    head = getattr(renderer.head, "made_of", "") or getattr(renderer.head, "name", type(renderer.head).__name__)
    wanted = {"set": "rendered", "form": form, "version": RENDER_VERSION, "size": renderer.size, "head": head}
    wanted |= {"seed": renderer.seed, "frames_per_subject": frames_per_subject, "yaw_limit": renderer.yaw_limit}
    path = out / "settings.json"
    if not path.is_file():
        if found := [name for name in names if next(out.glob(name), None) is not None]:
            if "labels.csv" not in names or not (out / "labels.csv").is_file():
                raise ValueError(f"{out / found[0]}: not of a rendered set: choose another --out")
            _rows_of(out / "labels.csv")  # of a set that an earlier version began, or refused
        replace_file(path, (json.dumps(wanted, indent=1) + "\n").encode())
        return
    try:
        found_settings = json.loads(path.read_text())
    except ValueError:
        found_settings = None
    if not isinstance(found_settings, dict):
        raise ValueError(f"{path}: not the settings of a rendered set: choose another --out")
    for name, value in wanted.items():
        if found_settings.get(name) != value:
            raise ValueError(
                f"{path}: this set was begun with {name} = {found_settings.get(name)!r}, asked is {value!r}: choose "
                "another --out"
            )


def _rows_of(table: Path) -> list[list[str]]:
    """The rows of a set that was begun.

    Raises:
        ValueError: a table with other columns.
    """
    if not table.exists():
        return []
    header, found = read_own(table.read_bytes())
    if tuple(header) != COLUMNS:
        raise ValueError(
            f"{table}: line 1 has other columns than a rendered set: remove the folder or choose another --out"
        )
    return [list(row.values()) for row in found]


def _write_folder(renderer: FaceRenderer, out: Path, count: int, frames_per_subject: int, progress: bool) -> Path:
    images = out / "images"
    images.mkdir(exist_ok=True)
    remove_stale(images)
    write_people(renderer, out)
    table = out / "labels.csv"
    rows = _rows_of(table)
    if len(rows) > count:
        rows = rows[: count // _STEP * _STEP]
    done = len(rows) // _STEP * _STEP if len(rows) < count else count
    rows = rows[:done]
    for start in tqdm(range(done, count, _STEP), desc="rendering", unit="batch", disable=not progress):
        index = range(start, min(start + _STEP, count))
        pairs = torch.tensor([subject_of(i, frames_per_subject) for i in index])
        batch = renderer.render(pairs[:, 0], pairs[:, 1])
        names = [f"images/{i:06d}.png" for i in index]
        for row, name in enumerate(names):
            replace_file(out / name, _file(renderer, batch, row, int(pairs[row, 0])))
        rows += _rows(batch, names)
        replace_file(table, _table(rows))
    if not table.exists() or done >= count:
        replace_file(table, _table(rows[:count]))
    return table


def write_people(renderer: FaceRenderer, out: Path) -> None:
    """``people.csv``: who a family of real people shows, with what a table beside their photographs said (fold ...)."""
    if isinstance(renderer.head, Painter):
        columns, rows = renderer.head.table()
        replace_file(out / "people.csv", csv_bytes(columns, rows))


def write_photo(renderer: FaceRenderer, path: Path, subject: int = 0) -> Path:
    """A neutral, frontal picture of a subject in a scene that its frames do not have."""
    who = torch.tensor([subject])
    still = torch.zeros(1, len(AUS))
    faces = renderer.render(who, torch.tensor([1_000_000]), torch.tensor([1]), still, torch.zeros(1, 3))
    replace_file(path, _file(renderer, faces, 0, subject))
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
    """Write tar shards (PNG and a one-row CSV under one key, the layout of webdataset); complete shards are kept.

    Raises:
        BusyError: another process writes a set there.
        ValueError: ``out`` holds something else: another prepared set, other settings.
    """
    starts = range(0, count, _SHARD)
    paths = [out / f"shard-{number:05d}.tar" for number in range(len(starts))]
    with locked(out, "render"):
        _claim(out, renderer, frames_per_subject, "shards", ("shard-*",))
        write_people(renderer, out)
        bar = tqdm(zip(paths, starts), total=len(paths), desc="rendering", unit="shard", disable=not progress)
        for path, start in bar:
            index = range(start, min(start + _SHARD, count))
            if not path.exists() or _members(path) != 2 * len(index):  # a smaller set grows in its last shard
                with replacing(path, ending=False) as temporary:
                    _write_shard(renderer, temporary, index, frames_per_subject)
    return paths


def _members(path: Path) -> int:
    """Files in a tar; 0 when it cannot be read."""
    try:
        with tarfile.open(path) as tar:
            return len(tar.getnames())
    except tarfile.TarError:
        return 0


def _write_shard(renderer: FaceRenderer, path: Path, pictures: range, frames_per_subject: int) -> None:
    with tarfile.open(path, "w") as tar:
        for first in range(pictures.start, pictures.stop, _STEP):
            index = range(first, min(first + _STEP, pictures.stop))
            pairs = torch.tensor([subject_of(i, frames_per_subject) for i in index])
            batch = renderer.render(pairs[:, 0], pairs[:, 1])
            rows = _rows(batch, [f"{i:06d}.png" for i in index])
            for place, (i, row) in enumerate(zip(index, rows, strict=True)):
                image = _file(renderer, batch, place, int(pairs[place, 0]))
                for suffix, data in (("png", image), ("csv", _table([row]))):
                    info = tarfile.TarInfo(f"{i:06d}.{suffix}")
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
