"""Prepare a data set once: decode, find the face, align, crop, and write shards with labels.

The work is cut into units of at most ``unit`` frames; unit k becomes shard k, whoever makes it and in whatever order.
A unit's shard depends on the unit alone, so a killed run goes on with the units that are not there yet and ends with
the same bytes. What cannot be read is listed with file and reason; nothing stops the run but a full disk.

One process prepares a folder (the lock of :func:`~lit_faces.core.files.locked`). ``settings.json`` is written first: it
says how the set is made, and lists the files that are ours, which are all that is ever removed.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field
from multiprocessing import active_children, get_context
from pathlib import Path
from typing import Any

from tqdm import tqdm

from data_modules.reader import Clip, Problem, Reader, frame_ranges
from data_modules.shard_making import make_shard
from data_modules.units import (
    VERSION,
    PrepareOptions,
    Settings,
    Unit,
    fingerprint,
    plan_units,
    reader_options,
    select,
)  # fmt: skip
from lit_faces.core.csv_files import csv_bytes
from lit_faces.core.fields import read_json
from lit_faces.core.files import locked, remove_listed, remove_stale, replace_file
from lit_faces.core.shards import INDEX, MANIFEST, ShardWriter, shard_name, shard_state, write_index

SETTINGS, FAILURES, SHEET = "settings.json", "failures.csv", "sheet.png"


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


def prepare(
    reader: Reader,
    out: Path,
    settings: Settings,
    clips: Sequence[Clip],
    jobs: int = 1,
    progress: Callable[[int, int], None] = lambda done, failed: None,
    selection: dict[str, Any] | None = None,
    overwrite: bool = False,
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
        overwrite: remove what a preparation has written there before.

    Raises:
        BusyError: another process is at work in ``out``.
        ValueError: ``out`` holds a set with other settings, or files that are not ours under the names that we need.
        OSError: no space, or a place that cannot be written to; the same command goes on.
    """
    with locked(out, "prepare"):
        if overwrite:
            remove_listed(out, _ours(out))
        remove_stale(out, "shard-")
        outcome = _prepare(reader, out, settings, clips, jobs, progress, selection or {})
        write_failures(out / FAILURES, outcome.problems)
        remove_stale(out, "shard-")  # the children of a killed run live on for a moment
        return outcome


def run(reader: Reader, options: PrepareOptions, clips: Sequence[Clip]) -> Outcome:
    """Prepare what is asked of a set, with a progress bar; see :func:`prepare`.

    Args:
        reader: whose pictures.
        options: what is asked.
        clips: of the whole set.
    """
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # broken videos are reported by us, once
    chosen = select(clips, options.subjects, options.limit)
    selection = {"subjects": options.subjects, "limit": options.limit}
    with tqdm(total=sum(map(len, chosen)), desc=f"preparing {reader.name}", unit="frame", dynamic_ncols=True) as bar:
        lost = 0

        def progress(done: int, failed: int) -> None:
            nonlocal lost
            lost += failed
            bar.update(done)
            bar.set_postfix(lost=lost)

        return prepare(
            reader, options.out, options.settings, chosen, options.jobs, progress, selection, options.overwrite
        )


def forget(out: Path, shards: Iterable[str]) -> None:
    """Mark shards as damaged: the next preparation makes them anew.

    Args:
        out: folder of the set.
        shards: names, as ``ShardSet.damaged`` gives them.

    Raises:
        BusyError: another process is at work in ``out``.
    """
    with locked(out, "prepare --check"):
        for name in shards:
            (out / name).with_suffix(".arrow").unlink(missing_ok=True)


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
    units = plan_units(clips, settings.unit)
    stale = _begin(out, {**about, "selection": selection, "version": VERSION}, len(units))
    prints = [fingerprint(unit, reader, settings) for unit in units]
    states = [shard_state(out, unit.number, key) for unit, key in zip(units, prints)]
    todo = [(unit, key) for unit, key, state in zip(units, prints, states) if state is None]
    for unit, state in zip(units, states):
        if state is not None:
            progress(len(unit), len(unit) - state["rows"])
    outcome = Outcome(0, sum(map(len, units)), list(reader.problems))
    _make(todo, reader, out, settings, jobs, progress, outcome)
    for unit in units:
        if (state := shard_state(out, unit.number)) is None:
            raise ValueError(f"{out / shard_name(unit.number)}.tar: was removed meanwhile; run the same command again")
        outcome.problems += [Problem(**problem) for problem in state["failures"]]
        outcome.faces += state["rows"]
    write_index(
        out,
        len(units),
        {**about, "version": VERSION, "aus": list(reader.aus), "selection": selection,
         "expected": outcome.expected, "choices": list(reader.choices)},
    )  # fmt: skip
    if stale:
        remove_listed(out, stale)
        _begin(out, {**about, "selection": selection, "version": VERSION}, len(units), ended=True)
    return outcome


def _make(
    todo: list[tuple[Unit, str]], reader: Reader, out: Path, settings: Settings, jobs: int,
    progress: Callable[[int, int], None], outcome: Outcome,
) -> None:  # fmt: skip
    """Make shards; those that kill their process become empty ones."""
    dead: dict[int, tuple[Unit, str]] = {}
    with contextlib.closing(_work(todo, reader, out, settings, jobs)) as results:  # a signal ends the processes too
        for unit, result in results:
            outcome.made += len(unit)
            if isinstance(result, str):
                dead[unit.number] = unit, result
                progress(len(unit), len(unit))
                continue
            progress(len(unit), len(unit) - result["faces"])
            for stage, seconds in result["seconds"].items():
                outcome.seconds[stage] = outcome.seconds.get(stage, 0.0) + seconds
    for number, (unit, reason) in dead.items():  # it keeps the others' numbers; its fingerprint makes it new later
        lost = [asdict(_lost(reader, clip, reason)) for clip in unit.clips]
        ShardWriter(out, number, "process died").close(lost)


def _lost(reader: Reader, clip: Clip, reason: str) -> Problem:
    where = clip.container if clip.container is not None else clip.pictures[0]
    return Problem(reader.relative(where), reason, 0, clip.key, frame_ranges(clip.frames))


# -- what is ours -----------------------------------------------------------------------------------------------------


def _begin(out: Path, wanted: dict[str, Any], shards: int, ended: bool = False) -> list[str]:
    """Compare or write ``settings.json``, which lists all files of the set before the first is there.

    Args:
        out: folder of the set.
        wanted: the settings.
        shards: how many there will be.
        ended: whether those that are too many are gone.

    Returns:
        Files of an earlier preparation that had more shards; to be removed at the end.

    Raises:
        ValueError: other settings, or somebody else's files under our names.
    """
    path, files = out / SETTINGS, _files(shards)
    before = _settings(out)
    if before is None:
        if taken := [name for name in files if (out / name).exists() or (out / name).is_symlink()]:
            raise ValueError(f"{out / taken[0]}: was not written by `prepare`: choose another --out, or move it away")
    else:
        wanted = json.loads(json.dumps(wanted))
        for name in sorted((set(before) | set(wanted)) - {"files"}):
            if before.get(name) != wanted.get(name):
                raise ValueError(
                    f"{path}: this folder was prepared with {name} = {before.get(name)!r}, asked is "
                    f"{wanted.get(name)!r}: choose another --out, or --overwrite"
                )
    stale = [] if before is None or ended else sorted(set(_ours(out)) - set(files))
    listed = {**wanted, "files": sorted({*files, *stale})}
    if before != listed:
        replace_file(path, (json.dumps(listed, indent=1, sort_keys=True) + "\n").encode())
    return stale


def _files(shards: int) -> list[str]:
    """All files of a set of so many shards."""
    names = [f"{shard_name(number)}.{ending}" for number in range(shards) for ending in ("tar", "arrow")]
    return [SETTINGS, FAILURES, SHEET, INDEX, MANIFEST, *names]


def _settings(out: Path) -> dict[str, Any] | None:
    """``settings.json``; None where there is none.

    Raises:
        ValueError: damaged, or not of a prepared set.
    """
    path = out / SETTINGS
    if not path.is_file():
        return None
    found = read_json(path, "choose another --out, or remove the folder yourself")
    if not {"set", "title", "options"} <= set(found):
        raise ValueError(f"{path}: was not written by `prepare`: choose another --out")
    if not isinstance(found.get("files", []), list):
        raise ValueError(f"{path}: files: expected a list of names, found {type(found['files']).__name__}")
    return found


def _ours(out: Path) -> list[str]:
    """The files that ``settings.json`` lists; of a set that an earlier version wrote, those of its manifest."""
    settings = _settings(out)
    if settings is None:
        return []
    if "files" in settings:
        return list(settings["files"])
    path = out / MANIFEST
    try:
        tars = [entry["name"] for entry in json.loads(path.read_text())["shards"]] if path.is_file() else []
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: damaged ({error}): choose another --out, or remove the folder yourself") from error
    return [*_files(0), *tars, *(str(Path(name).with_suffix(".arrow")) for name in tars)]


def write_failures(path: Path, problems: Iterable[Problem]) -> None:
    """``failures.csv``: file, line, clip, frames, reason."""
    rows = [(problem.file, problem.line or None, problem.clip, problem.frames, problem.reason) for problem in problems]
    replace_file(path, csv_bytes(("file", "line", "clip", "frames", "reason"), rows))


# -- processes --------------------------------------------------------------------------------------------------------


def _work(
    todo: list[tuple[Unit, str]], reader: Reader, out: Path, settings: Settings, jobs: int
) -> Generator[tuple[Unit, dict[str, Any] | str], None, None]:
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


@contextlib.contextmanager
def _pool(jobs: int) -> Iterator[ProcessPoolExecutor]:
    """Processes that end with the block; at once where an error or a signal ends it: what they are at is made again."""
    others = {child.pid for child in active_children()}
    pool = ProcessPoolExecutor(
        jobs, mp_context=get_context("spawn"), initializer=_quiet_worker, initargs=(os.getpid(),)
    )
    try:
        yield pool
    except BaseException:
        for child in active_children():
            if child.pid not in others:
                child.terminate()
        pool.shutdown(cancel_futures=True)
        raise
    pool.shutdown()


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
