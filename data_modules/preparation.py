"""Prepare a data set once: decode, find the face, align, crop, and write shards with labels.

The work is cut into units of at most ``unit`` frames; unit k becomes shard k, whoever makes it and in whatever order.
A unit's shard depends on the unit alone, so a killed run goes on with the units that are not there yet and ends with
the same bytes. What cannot be read is listed with file and reason; nothing stops the run but a full disk.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_modules.cropping import BLACK, Clock, encode, face_crop
from data_modules.reader import Clip, Problem, Reader, frame_ranges
from lit_faces.core.fields import read_json
from lit_faces.core.files import replace_file
from lit_faces.core.shards import ShardWriter, shard_name, shard_state, write_index

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


@dataclass
class Unit:
    """What one shard is made of."""

    number: int
    clips: list[Clip]

    def __len__(self) -> int:
        return sum(len(clip) for clip in self.clips)


@dataclass
class Outcome:
    """What a preparation did.

    Attributes:
        faces: faces in the set.
        expected: labelled frames.
        problems: everything that could not be read.
        seconds: time spent on decode, detect, landmarks, align, encode and write, summed over processes, this run only.
        made: frames handled by this run.
    """

    faces: int
    expected: int
    problems: list[Problem]
    seconds: dict[str, float] = field(default_factory=dict)
    made: int = 0


class DiskFull(OSError):
    """No space left; what is written stays, and the same command goes on."""


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


def prepare(
    reader: Reader,
    out: Path,
    settings: Settings,
    clips: Sequence[Clip],
    jobs: int = 1,
    progress: Callable[[int, int], None] = lambda done, failed: None,
    selection: dict[str, Any] | None = None,
) -> Outcome:
    """Write what is not there yet, then the index, the manifest and ``failures.csv``.

    Args:
        reader: whose pictures; its ``problems`` with labels are listed too.
        out: folder of the set.
        settings: of the crops.
        clips: what to prepare.
        jobs: processes.
        progress: called with frames done and frames lost since the last call.
        selection: what was chosen of the set (``--limit``, ``--subjects``), kept in the manifest.

    Raises:
        ValueError: ``out`` holds a set with other settings, or another process is preparing it.
        DiskFull: no space; the same command goes on.
    """
    out.mkdir(parents=True, exist_ok=True)
    with _alone(out):
        return _prepare(reader, out, settings, clips, jobs, progress, selection or {})


@contextlib.contextmanager
def _alone(out: Path) -> Iterator[None]:
    """One preparation of a folder at a time; the lock falls with its process."""
    import fcntl

    with (out / ".lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(
                f"{out}: another preparation is writing here; wait for it, or choose another --out"
            ) from None
        try:
            yield
        finally:
            (out / ".lock").unlink(missing_ok=True)


def _prepare(
    reader: Reader,
    out: Path,
    settings: Settings,
    clips: Sequence[Clip],
    jobs: int,
    progress: Callable[[int, int], None],
    selection: dict[str, Any],
) -> Outcome:
    about = {"set": reader.name, "title": reader.title, "options": reader_options(reader), **asdict(settings)}
    _check_settings(out, {**about, "selection": selection, "version": VERSION})
    units = plan_units(clips, settings.unit)
    prints = [fingerprint(unit, reader, settings) for unit in units]
    for stale in out.glob(".*.tmp"):
        stale.unlink()
    states = [shard_state(out, unit.number, key) for unit, key in zip(units, prints)]
    todo = [(unit, key) for unit, key, state in zip(units, prints, states) if state is None]
    for unit, state in zip(units, states):
        if state is not None:
            progress(len(unit), len(unit) - state["rows"])
    outcome = Outcome(0, sum(map(len, units)), list(reader.problems))
    dead: dict[int, str] = {}
    for unit, result in _work(todo, reader, out, settings, jobs):
        outcome.made += len(unit)
        if isinstance(result, str):
            dead[unit.number] = result
            progress(len(unit), len(unit))
            continue
        progress(len(unit), len(unit) - result["faces"])
        for stage, seconds in result["seconds"].items():
            outcome.seconds[stage] = outcome.seconds.get(stage, 0.0) + seconds
    for number, reason in dead.items():  # an empty shard keeps the others' numbers; its fingerprint makes it new later
        unit = units[number]
        lost = [asdict(_lost(reader, clip, reason)) for clip in unit.clips]
        ShardWriter(out, number, "process died").close(lost)
    for unit in units:
        state = shard_state(out, unit.number)
        assert state is not None
        outcome.problems += [Problem(**problem) for problem in state["failures"]]
        outcome.faces += state["rows"]
    _remove_beyond(out, len(units))
    write_index(
        out,
        len(units),
        {**about, "version": VERSION, "aus": list(reader.aus), "selection": selection,
         "expected": outcome.expected, "choices": list(reader.choices)},
    )  # fmt: skip
    return outcome


def _lost(reader: Reader, clip: Clip, reason: str) -> Problem:
    where = clip.container if clip.container is not None else clip.pictures[0]
    return Problem(reader.relative(where), reason, 0, clip.key, frame_ranges(clip.frames))


def _check_settings(out: Path, wanted: dict[str, Any]) -> None:
    path = out / "settings.json"
    text = json.dumps(wanted, indent=1, sort_keys=True) + "\n"
    if path.is_file():
        found = read_json(path, "choose another --out, or --overwrite")
        for name in sorted(set(found) | set(wanted)):
            if found.get(name) != json.loads(text).get(name):
                raise ValueError(
                    f"{path}: this folder was prepared with {name} = {found.get(name)!r}, asked is "
                    f"{wanted.get(name)!r}: choose another --out, or --overwrite"
                )
        return
    replace_file(path, text.encode())


def _remove_beyond(out: Path, count: int) -> None:
    for path in out.glob("shard-*"):
        number = re.fullmatch(r"shard-(\d+)\.(?:tar|arrow)", path.name)
        if number and int(number[1]) >= count:
            path.unlink()


# -- processes --------------------------------------------------------------------------------------------------------


def _work(
    todo: list[tuple[Unit, str]], reader: Reader, out: Path, settings: Settings, jobs: int
) -> Iterator[tuple[Unit, dict[str, Any] | str]]:
    """Results in any order; a unit that kills its process twice gives the reason instead."""
    if jobs <= 1:
        for unit, key in todo:
            yield unit, make_shard(unit, key, reader, out, settings)
        return
    waiting, suspects = list(todo), []
    while waiting:
        lost: list[tuple[Unit, str]] = []
        with _pool(min(jobs, len(waiting))) as pool:
            flying: dict[Future[Any], tuple[Unit, str]] = {}
            while (waiting or flying) and not lost:
                while waiting and len(flying) < 2 * jobs:
                    try:
                        flying[pool.submit(make_shard, *waiting[0], reader, out, settings)] = waiting[0]
                    except BrokenProcessPool:
                        break
                    waiting.pop(0)
                for done in wait(flying, return_when=FIRST_COMPLETED)[0]:
                    item = flying.pop(done)
                    try:
                        yield item[0], done.result()
                    except BrokenProcessPool:
                        lost += [item, *flying.values()]
                        flying.clear()
                        break
        suspects += lost
    for item in suspects:  # a process died: each of its fellows alone, so that one bad file costs itself only
        try:
            with _pool(1) as pool:
                yield item[0], pool.submit(make_shard, *item, reader, out, settings).result()
        except BrokenProcessPool:
            yield item[0], "the process that read it died (damaged file, or too little memory); run again with --jobs 1"


def _pool(jobs: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(
        jobs, mp_context=get_context("spawn"), initializer=_quiet_worker, initargs=(os.getpid(),)
    )


def _quiet_worker(parent: int) -> None:
    import threading

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent tells us
    os.environ["OPENCV_LOG_LEVEL"] = "ERROR"
    os.environ["OPENCV_FFMPEG_LOGLEVEL"] = "-8"
    import cv2
    import torch

    cv2.setNumThreads(1)
    torch.set_num_threads(1)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)  # the parent was killed: nobody waits for us

    threading.Thread(target=watch, daemon=True).start()


def make_shard(unit: Unit, key: str, reader: Reader, out: Path, settings: Settings) -> dict[str, Any]:
    """Write the shard of one unit.

    Returns:
        ``{"faces": int, "seconds": {stage: float}}``.

    Raises:
        DiskFull: no space.
    """
    clock = Clock()
    writer = None
    try:
        writer = ShardWriter(out, unit.number, key)
        failures: list[Problem] = []
        for clip in unit.clips:
            _clip_into(writer, clip, reader, settings, failures, clock)
        with clock("write"):
            faces = writer.close([asdict(problem) for problem in failures])
    except BaseException as error:
        if writer is not None:
            writer.abandon()
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise DiskFull(
                error.errno, f"{out}: no space left for {shard_name(unit.number)}.tar; free some and run the same "
                "command again, it goes on where it stopped"
            ) from error  # fmt: skip
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
