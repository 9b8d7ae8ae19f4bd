"""A person's own training set on disk: plan -> generator -> verification -> shards, in chunks that survive a kill.

A chunk of slots becomes one shard; what it holds depends on (source, plan, settings, weights) alone, whoever makes it
(:mod:`lit_faces.persons.maker`) and in whatever order. ::

    out/
      shard-*.tar, *.arrow, index.arrow, manifest.json    as of any prepared set: adapt, fit and evaluate read it
      attempts.csv         one row an attempt: what was asked, what was achieved, kept or why not
      settings.json        what the set is made of; the folder holds one set
      rejected/*.png       some rejected pictures, to look at
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from lit_faces.core.csv_files import csv_bytes
from lit_faces.core.facs import AU_KEYS
from lit_faces.core.files import remove_listed, replace_file
from lit_faces.core.processes import follow
from lit_faces.core.provenance import generated_png
from lit_faces.core.shards import ShardWriter, shard_state, write_index
from lit_faces.core.shipped import Kind, weights_code, weights_path
from lit_faces.persons.maker import Attempt, SetMaker, Settings
from lit_faces.persons.plan import Plan
from lit_faces.persons.source import PersonSource

VERSION = 2  # raise it when the same settings give other pictures
CHUNK = 40
_SHOWN_REJECTED, _SHOWN_CHUNKS = 3, 30  # rejected pictures of a chunk that are kept to look at, of the first chunks
_SETTINGS = "settings.json"
_SHARD, _REJECTED = re.compile(r"shard-(\d{5})\.(?:tar|arrow)"), re.compile(r"(\d{6})-\d+\.png")
#: Of a set's report, see :mod:`lit_faces.persons.report`.
PICTURES = tuple(f"{name}.png" for name in ("source", "contact", "asked_achieved", "leak", "distances", "rejected"))
_CODED: tuple[Kind, ...] = ("generator", "judge")  # weights: known by their content, not by where they lie

Progress = Callable[[int, int], None]


def write_set(
    out: Path,
    source: PersonSource,
    plan: Plan,
    settings: Settings,
    jobs: int = 1,
    progress: Progress = lambda slots, filled: None,
    overwrite: bool = False,
) -> list[Attempt]:
    """Make a set, or what is missing of it. The caller holds the folder's lock.

    Args:
        out: folder.
        source: the person.
        plan: what to ask.
        settings: how.
        jobs: processes; the pictures are the same for any number.
        progress: called with slots done and slots filled, since the last call.
        overwrite: throw away a set that was made otherwise.

    Returns:
        All attempts, of earlier runs too.

    Raises:
        ValueError: ``out`` holds a set of another person, plan or settings.
        OSError: the disk is full, or a process died; what is written stays.
    """
    key = fingerprint(source, plan, settings)
    out.mkdir(parents=True, exist_ok=True)
    _claim(out, _wanted(source, plan, settings, key), overwrite)
    chunks = [list(range(first, min(first + CHUNK, len(plan)))) for first in range(0, len(plan), CHUNK)]
    todo = []
    for number, slots in enumerate(chunks):
        state = shard_state(out, number, key)
        if state is None:
            todo.append((number, slots))
        else:
            progress(len(slots), state["rows"])
    for number, rows in _work(todo, out, key, source, plan, settings, jobs):
        progress(len(chunks[number]), rows)
    for path in out.glob("shard-*"):
        if path.suffix in (".tar", ".arrow") and int(path.stem.split("-")[1]) >= len(chunks):
            path.unlink()
    attempts = [
        Attempt(**row) for n in range(len(chunks)) for row in (shard_state(out, n) or {"failures": []})["failures"]
    ]
    replace_file(out / "attempts.csv", _table(attempts))
    about = {
        "name": "generated", "generated": True, "size": settings.pixels(source), "person": source.name,
        "source": {"kind": source.kind, "sha256": source.sha256, "notes": source.notes},
        "plan": {"name": plan.name, "seed": plan.seed, "slots": len(plan)},
        "settings": _sayable(settings), "fingerprint": key, "attempts": len(attempts), "version": VERSION,
    }  # fmt: skip
    write_index(out, len(chunks), about)
    return attempts


def fingerprint(source: PersonSource, plan: Plan, settings: Settings) -> str:
    """What the pictures depend on, but for rounding: another number of threads must not make another set."""
    about = asdict(settings)
    for name in _CODED:
        path = weights_path(name, about[name])
        about[name] = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else about[name]
    sha = hashlib.sha256(
        json.dumps([VERSION, about, source.name, plan.name, plan.seed, plan.cell], default=str).encode()
    )
    about_source = [(source.faces.landmarks, 4.0), (source.faces.au_intensity.nan_to_num(-1.0), 0.25)]  # pixels, grades
    tensors = [torch.round(values / step) + 0.0 for values, step in about_source]  # + 0: no minus zero
    if not source.sha256:
        tensors.append(source.faces.image)
    for tensor in [*tensors, plan.pose, plan.au, plan.lead]:
        sha.update(tensor.contiguous().numpy().tobytes())
    return sha.hexdigest()


def _sayable(settings: Settings) -> dict[str, Any]:
    """Settings as the set tells them: no path of anybody's machine."""
    about = asdict(settings)
    del about["device"]
    for name in _CODED:
        about[name] = weights_code(name, about[name])
    return about


def _wanted(source: PersonSource, plan: Plan, settings: Settings, key: str) -> dict[str, Any]:
    about = {
        "source": source.sha256, "person": source.name, "plan": plan.name, "slots": len(plan), "seed": plan.seed,
        **_sayable(settings), "fingerprint": key,
    }  # fmt: skip
    return dict(json.loads(json.dumps(about, default=str)))


def _claim(out: Path, wanted: dict[str, Any], overwrite: bool) -> None:
    """A folder holds one set: go on with it, throw another one away where that is asked, or refuse."""
    path = out / _SETTINGS
    if path.is_file():
        found = _found(path)
        different = _first_difference(found, wanted)
        if different is None:
            return
        if not overwrite:
            raise ValueError(f"{path}: {different}: choose another --out, or --overwrite")
        _clear(out, found)
    elif any(out.glob("shard-*")):
        if overwrite:
            raise ValueError(f"--overwrite: {out} holds a set that `generate` did not write; remove it yourself")
        raise ValueError(f"{out}: holds another prepared set: choose another --out")
    replace_file(path, (json.dumps(wanted, indent=1, sort_keys=True) + "\n").encode())


def _found(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text()))
    except ValueError:
        return {}


def _first_difference(found: dict[str, Any], wanted: dict[str, Any]) -> str | None:
    """What a folder was begun with that is not wanted now; the fingerprint last, for it says least."""
    for name in sorted(wanted, key=lambda name: (name == "fingerprint", name)):
        if found.get(name) == wanted[name]:
            continue
        if name == "fingerprint":
            return "this folder was begun with other weights, or the source reads otherwise now"
        return f"this folder was begun with {name} = {found.get(name)!r}, asked is {wanted[name]!r}"
    return None


def _clear(out: Path, found: dict[str, Any]) -> None:
    """Remove a set that was made otherwise, and nothing else; its settings go last: they say that it is ours."""
    slots = found.get("slots")
    if not isinstance(slots, int):
        raise ValueError(f"{out / _SETTINGS}: does not say what the set is made of: remove the folder yourself")
    chunks = -(-slots // CHUNK)
    shards = [path.name for path in out.glob("shard-*") if (m := _SHARD.fullmatch(path.name)) and int(m[1]) < chunks]
    shown = [path for path in out.glob("rejected/*") if (m := _REJECTED.fullmatch(path.name)) and int(m[1]) < slots]
    rest = ["index.arrow", "manifest.json", "attempts.csv", "results.json", "report.html", *PICTURES, _SETTINGS]
    remove_listed(out, [*shards, *(f"rejected/{path.name}" for path in shown), *rest])


# -- processes --------------------------------------------------------------------------------------------------------


def _work(
    todo: list[tuple[int, list[int]]],
    out: Path,
    key: str,
    source: PersonSource,
    plan: Plan,
    settings: Settings,
    jobs: int,
) -> Iterator[tuple[int, int]]:
    """(chunk, pictures kept), in any order."""
    if jobs <= 1 or len(todo) <= 1 or settings.device != "cpu":
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # as the processes do: the same pictures, bit by bit
        try:
            maker = SetMaker(source, plan, settings) if todo else None
            for number, slots in todo:
                assert maker is not None
                yield number, write_chunk(maker, out, number, slots, key)
        finally:
            torch.set_num_threads(threads)
        return
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(
        min(jobs, len(todo)),
        get_context("spawn"),
        initializer=_start_worker,
        initargs=(os.getpid(), source, plan, settings),
    )
    with pool:
        try:  # from the first process on: a signal may come while the others are started
            flying = {pool.submit(_in_worker, out, number, slots, key): number for number, slots in todo}
            for done in as_completed(flying):
                yield flying[done], done.result()
        except BrokenProcessPool as error:
            raise OSError(
                f"{out}: a process died (too little memory?); what is done stays: run the same command again, with "
                "fewer --jobs"
            ) from error
        except BaseException:  # a signal, too: a chunk takes longer than anybody waits, and is made again
            for child in set(multiprocessing.active_children()) - others:
                child.kill()
            pool.shutdown(cancel_futures=True)
            raise


_WORKER: dict[str, SetMaker] = {}


def _start_worker(parent: int, source: PersonSource, plan: Plan, settings: Settings) -> None:
    import cv2

    follow(parent)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    _WORKER["maker"] = SetMaker(source, plan, settings)


def _in_worker(out: Path, number: int, slots: list[int], key: str) -> int:
    return write_chunk(_WORKER["maker"], out, number, slots, key)


# -- one chunk --------------------------------------------------------------------------------------------------------


def write_chunk(maker: SetMaker, out: Path, number: int, slots: list[int], key: str) -> int:
    """Make the shard of some slots; returns the number of pictures kept."""
    attempts, kept, rejected = maker.make(slots)
    by_slot = {attempt.slot: attempt for attempt in attempts if attempt.kept}
    faces = maker.batch(attempts, kept)
    sha = maker.source.sha256
    for slot, round_, image in rejected[: _SHOWN_REJECTED if number < _SHOWN_CHUNKS else 0]:
        png = generated_png(image, sha, {"rejected": True, "slot": slot, "attempt": round_})
        replace_file(out / "rejected" / f"{slot:06d}-{round_}.png", png)
    writer = ShardWriter(out, number, key)
    try:
        for row, slot in enumerate(sorted(by_slot)):
            attempt = by_slot[slot]
            about = {
                "generated": True, "source_sha256": sha, "generator": maker.generator_code,
                "plan": maker.plan.name, "seed": maker.plan.seed, **asdict(attempt),
            }  # fmt: skip
            labels = {
                "subject": maker.source.name, "clip": attempt.cell, "frame": slot, "source": faces.source[row],
                "split": "",
                "emotion": int(faces.emotion[row]), "pose": faces.pose[row].tolist(),
                "au_intensity": faces.au_intensity[row].tolist(), "au_occurrence": faces.au_occurrence[row].tolist(),
                "landmarks": faces.landmarks[row].flatten().tolist(),
            }  # fmt: skip
            writer.add(f"{slot:06d}", generated_png(faces.image[row], sha, about), "png", labels, about)
        return writer.close([asdict(attempt) for attempt in attempts])
    except BaseException:
        writer.abandon()
        raise


def _table(attempts: list[Attempt]) -> bytes:
    columns = [
        "slot", "cell", "attempt", "kept", "reason", "uncertain", "nme", "identity_distance", "source", "yaw", "pitch",
        "roll", *(f"asked_{key}" for key in AU_KEYS), *(f"achieved_{key}" for key in AU_KEYS),
    ]  # fmt: skip
    rows = (
        [
            a.slot, a.cell, a.attempt, int(a.kept), a.reason, a.uncertain, a.nme, a.distance, a.source,
            *a.pose, *a.asked, *a.achieved,
        ]
        for a in attempts
    )  # fmt: skip
    return csv_bytes(columns, rows)
