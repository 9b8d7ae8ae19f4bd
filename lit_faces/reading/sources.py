"""What a user names, as jobs: a video each, all photos together, or a camera."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lit_faces.core.clips import SUFFIXES, is_clip
from lit_faces.core.inputs import check_file
from lit_faces.core.picture_files import recognise
from lit_faces.core.pictures import DECODERS
from lit_faces.core.video import frames_of
from lit_faces.core.words import count_of

PHOTOS = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".avif", ".heic", ".heif")
_CAMERA = re.compile(r"camera:(\d+)")
_HEAD = 4096  # bytes that tell a picture


@dataclass(frozen=True)
class Job:
    """One table's worth of pictures.

    Attributes:
        kind: ``video``, ``photos`` or ``camera``.
        name: the table's name, where no other is given; no ending.
        paths: the video; the photos in order; nothing of a camera.
        camera: its number.
    """

    kind: str
    name: str
    paths: tuple[Path, ...] = ()
    camera: int = 0

    @property
    def title(self) -> str:
        """For messages and for the rows."""
        if self.kind == "camera":
            return f"camera:{self.camera}"
        return str(self.paths[0]) if self.kind == "video" else count_of(len(self.paths), "photo")


@dataclass(frozen=True)
class Shot:
    """A frame as it is to be seen; ``picture`` is None where it cannot be decoded."""

    number: int
    seconds: float
    picture: NDArray[np.uint8] | None


def find_jobs(sources: Sequence[str]) -> list[Job]:
    """Jobs in the order of what was named; a folder's files by name, folders within it too.

    Raises:
        FileNotFoundError: no such file or folder.
        ValueError: a folder without videos and photos, an empty file, a pipe, an address.
    """
    videos: list[Path] = []
    photos: list[Path] = []
    cameras: list[Job] = []
    for source in sources:
        if "://" in source:
            raise ValueError(f"{source}: an address is not read; download the file and name that")
        found = _CAMERA.fullmatch(source)
        path = Path(source)
        if found and not path.exists():
            cameras.append(Job("camera", f"camera{found[1]}", camera=int(found[1])))
        elif path.is_dir():
            inside = [one for one in sorted(path.rglob("*")) if not one.name.startswith(".") and one.is_file()]
            clips, pictures = ([one for one in inside if one.suffix.lower() in known] for known in (SUFFIXES, PHOTOS))
            if not clips and not pictures:
                raise ValueError(f"{path}: no video and no photo in it, nor in folders below it; name another one")
            videos += clips
            photos += pictures
        else:
            check_file(path, "video or photo")
            (videos if is_clip(path) or not _is_picture(path) else photos).append(path)
    videos, photos = list(dict.fromkeys(videos)), list(dict.fromkeys(photos))
    jobs = [Job("video", name, (path,)) for name, path in zip(_names(videos), videos)]
    return jobs + ([Job("photos", "photos", tuple(photos))] if photos else []) + cameras


def share_of(jobs: Sequence[Job], share: str) -> list[Job]:
    """Every N-th job from the K-th for a share ``K/N``; photos are shared out one by one.

    Raises:
        ValueError: not K/N with 1 <= K <= N.
    """
    found = re.fullmatch(r"(\d+)/(\d+)", share)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise ValueError(f"--share: expected K/N such as 3/20, K from 1 to N, got {share!r}")
    first, step = int(found[1]) - 1, int(found[2])
    mine = [job for job in jobs if job.kind != "photos"][first::step]
    for job in jobs:
        if job.kind == "photos" and (paths := job.paths[first::step]):
            mine.append(Job("photos", f"photos.{first + 1}-of-{step}", paths))
    return mine


def _is_picture(path: Path) -> bool:
    with path.open("rb") as handle:
        return path.suffix.lower() in PHOTOS or recognise(handle.read(_HEAD)) in DECODERS


def _names(paths: Sequence[Path]) -> list[str]:
    """Names of tables: the file's, with as many folders above it as tell files of one name apart."""
    names = [path.stem for path in paths]
    depth = 1
    while len(set(names)) < len(names) and depth < 8:
        twice = {name for name in names if names.count(name) > 1}
        for number, path in enumerate(paths):
            parts = [*path.absolute().parts[-1 - depth : -1], path.stem]
            names[number] = "_".join(parts).strip("/") if names[number] in twice else names[number]
        depth += 1
    return [name if names.count(name) == 1 else f"{name}_{number}" for number, name in enumerate(names)]


def video_shots(path: Path, after: int = -1) -> Iterator[Shot]:
    """The frames of a video beyond number ``after``, also of one that is cut short.

    Raises:
        As :func:`lit_faces.core.video.frames_of`.
    """
    for frame in frames_of(path, whole=False):
        if frame.number > after:
            yield Shot(frame.number, frame.seconds, None if frame.lost else frame.picture())


def camera_shots(number: int, seconds: float | None = None) -> Iterator[Shot]:
    """The frames of a camera with the time since the first, until ``seconds`` are over or nobody listens.

    Raises:
        ValueError: there is no such camera.
    """
    import cv2

    from lit_faces.core.quiet import quiet_descriptor

    with quiet_descriptor():  # OpenCV lists what it has tried
        camera = cv2.VideoCapture(number)
        opened = camera.isOpened()
    if not opened:
        raise ValueError(f"camera:{number}: there is no such camera, or another program has it (ls /dev/video*)")
    try:
        start, count = time.monotonic(), 0
        while seconds is None or time.monotonic() - start < seconds:
            there, picture = camera.read()
            if not there:
                return
            yield Shot(count, time.monotonic() - start if count else 0.0, np.ascontiguousarray(picture[..., ::-1]))
            count += 1
    finally:
        camera.release()
