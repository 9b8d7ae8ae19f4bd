"""A person's own training set: plan -> generator -> verification -> shards, in chunks that survive a kill.

Each slot of the plan is asked up to ``attempts`` times, until a picture passes. A chunk of slots becomes one shard;
what it holds depends on (source, plan, settings, weights) alone, whoever makes it and in whatever order.

::

    out/
      shard-*.tar, *.arrow, index.arrow, manifest.json    as of any prepared set: adapt, fit and evaluate read it
      attempts.csv         one row an attempt: what was asked, what was achieved, kept or why not
      rejected/*.png       some rejected pictures, to look at
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lit_faces.core.csv_files import csv_bytes
from lit_faces.core.facs import AU_KEYS, occurrence
from lit_faces.core.files import replace_file
from lit_faces.core.landmarks import FaceAnalyser
from lit_faces.core.sample import FaceBatch, to_uint8
from lit_faces.core.shards import ShardWriter, shard_state, write_index
from lit_faces.core.shipped import Kind, weights_path
from lit_faces.persons.generators import load_generator
from lit_faces.persons.landmark_model import LandmarkModel
from lit_faces.persons.plan import Plan
from lit_faces.persons.retarget import FittedFace, retarget
from lit_faces.persons.source import PersonSource
from lit_faces.persons.verify import LABELS, Tolerances, Verdicts, Verifier, labels_of
from lit_faces.tasks.au_detector import load_detector
from lit_faces.tasks.reenactment import ReenactmentGAN

VERSION = 1  # raise it when the same settings give other pictures
CHUNK = 40
_BATCH = 20
_SHOWN_REJECTED, _SHOWN_CHUNKS = 3, 30  # rejected pictures of a chunk that are kept to look at, of the first chunks
_SETTINGS = "settings.json"


@dataclass(frozen=True)
class Settings:
    """How a set is made.

    Attributes:
        generator: weights of the generator, or ``packaged``.
        judge: weights of the judge, or ``packaged``.
        attempts: how often a slot is asked, at most.
        labels: ``asked``, ``achieved`` or ``agreed``, see :func:`lit_faces.persons.verify.labels_of`.
        verify: whether pictures are judged at all; without it every first attempt is kept, labelled as asked.
        tolerances: what is let through.
        device: where the generator and the judge run.
    """

    generator: str = "packaged"
    judge: str = "packaged"
    attempts: int = 8
    labels: str = "agreed"
    verify: bool = True
    tolerances: Tolerances = field(default_factory=Tolerances)
    device: str = "cpu"

    def __post_init__(self) -> None:
        """Refuse what cannot be.

        Raises:
            ValueError: names the option.
        """
        if self.attempts < 1:
            raise ValueError(f"--attempts: expected 1 or more, got {self.attempts}")
        if self.labels not in LABELS:
            raise ValueError(f"--labels: expected one of {', '.join(LABELS)}, got {self.labels!r}")


@dataclass
class Attempt:
    """One picture that was asked for."""

    slot: int
    cell: str
    attempt: int
    source: int
    pose: list[float]
    asked: list[float]
    achieved: list[float]
    nme: float
    distance: float
    reason: str

    @property
    def kept(self) -> bool:
        """Whether it passed."""
        return not self.reason


class SetMaker:
    """Makes the pictures of some slots.

    Args:
        source: the person.
        plan: what to ask.
        settings: how.
        generator: in place of ``settings.generator``, loaded.
        judge: in place of ``settings.judge``: pictures to intensities.
        analyser: dlib, where it is loaded already.
    """

    def __init__(
        self,
        source: PersonSource,
        plan: Plan,
        settings: Settings,
        generator: ReenactmentGAN | None = None,
        judge: Callable[[Tensor], Tensor] | None = None,
        analyser: FaceAnalyser | None = None,
    ) -> None:
        self.source, self.plan, self.settings = source, plan, settings
        self.model = LandmarkModel()
        self.generator = (load_generator(settings.generator) if generator is None else generator).to(settings.device)
        self.verifier: Verifier | None = None
        if settings.verify:
            if judge is None:
                judge = load_detector(settings.judge).to(settings.device).predict_au
            self.verifier = Verifier(judge, source.faces, analyser or FaceAnalyser(), settings.tolerances)

    def make(self, slots: list[int]) -> tuple[list[Attempt], dict[int, Tensor], list[tuple[int, int, Tensor]]]:
        """Ask for slots until each is filled or its attempts are used up.

        Returns:
            All attempts in their order; kept pictures uint8 (3, S, S) by slot; rejected ones as (slot, attempt,
            picture).
        """
        attempts: list[Attempt] = []
        kept: dict[int, Tensor] = {}
        rejected: list[tuple[int, int, Tensor]] = []
        waiting = list(slots)
        for number in range(self.settings.attempts if self.verifier else 1):
            for start in range(0, len(waiting), _BATCH):
                batch = waiting[start : start + _BATCH]
                images, found = self._attempt(batch, number)
                attempts += found
                for attempt, image in zip(found, images):
                    if attempt.kept:
                        kept[attempt.slot] = image
                    else:
                        rejected.append((attempt.slot, number, image))
            waiting = [slot for slot in waiting if slot not in kept]
            if not waiting:
                break
        return attempts, kept, rejected

    def _attempt(self, slots: list[int], number: int) -> tuple[Tensor, list[Attempt]]:
        pose, au = self.plan.ask(slots, number)
        images, landmarks, source = picture(self.generator, self.model, self.source, pose, au)
        lead = self.plan.lead[slots]
        if self.verifier is None:
            unknown = torch.full((len(slots),), float("nan"))
            verdicts = Verdicts(au, torch.zeros(len(slots)), unknown, unknown, [""] * len(slots))
        else:
            verdicts = self.verifier(images, landmarks, au, lead, source)
        found = [
            Attempt(
                slot, self.plan.cell[slot], number, int(source[k]), _rounded(pose[k]), _rounded(au[k]),
                _rounded(verdicts.achieved[k]), round(float(verdicts.nme[k]), 4), round(float(verdicts.distance[k]), 4),
                verdicts.reason[k],
            )
            for k, slot in enumerate(slots)
        ]  # fmt: skip
        return images, found

    def batch(self, attempts: list[Attempt], kept: dict[int, Tensor]) -> FaceBatch:
        """The kept pictures with their labels, in the order of their slots."""
        good = sorted((attempt for attempt in attempts if attempt.kept), key=lambda attempt: attempt.slot)
        if not good:
            return self.source.faces.select(slice(0, 0))
        asked, achieved, pose = (
            torch.tensor([getattr(attempt, name) for attempt in good]) for name in ("asked", "achieved", "pose")
        )
        how = self.settings.labels if self.settings.verify else "asked"
        labels = labels_of(asked, achieved, how, self.settings.tolerances)
        slots = [attempt.slot for attempt in good]
        fits = [self.source.fits[attempt.source] for attempt in good]
        return FaceBatch(
            image=torch.stack([kept[slot] for slot in slots]),
            landmarks=torch.cat(
                [retarget(self.model, fit, pose[k : k + 1], asked[k : k + 1]) for k, fit in enumerate(fits)]
            ),
            au_intensity=labels,
            au_occurrence=occurrence(labels),
            emotion=self.plan.emotion[slots],
            pose=pose,
            subject=[self.source.name] * len(slots),
            source=[f"generated/{self.settings.generator}"] * len(slots),
            frame=torch.tensor(slots),
        )


def _rounded(values: Tensor) -> list[float]:
    return [round(float(value), 3) for value in values]


@torch.inference_mode()
def picture(
    generator: ReenactmentGAN, model: LandmarkModel, source: PersonSource, pose: Tensor, au: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Pictures of a person in other poses with other AUs.

    Args:
        generator: of :func:`lit_faces.persons.generators.load_generator`.
        model: the landmark model.
        source: the person; each picture is made from the source whose pose is nearest.
        pose: float (B, 3), degrees.
        au: float (B, 19), 0..5.

    Returns:
        Pictures uint8 (B, 3, S, S), the landmarks that were asked (B, 68, 2), and which source was used (B,).
    """
    nearest = source.nearest(pose)
    landmarks = torch.empty(len(pose), 68, 2)
    for number in nearest.unique().tolist():
        rows = (nearest == number).nonzero()[:, 0]
        landmarks[rows] = retarget(model, source.fits[number], pose[rows], au[rows])
    return render(generator, source.faces.select(nearest), landmarks, au), landmarks, nearest


@torch.inference_mode()
def render(generator: ReenactmentGAN, faces: FaceBatch, landmarks: Tensor, au: Tensor) -> Tensor:
    """Pictures uint8 (B, 3, S, S) of faces (B,) as asked, a few at a time."""
    made = []
    for start in range(0, len(au), _BATCH):
        pick = slice(start, start + _BATCH)
        made.append(to_uint8(generator.reenact(faces.select(pick), landmarks[pick], au[pick]).image).cpu())
    return torch.cat(made)


# -- on disk ----------------------------------------------------------------------------------------------------------


def write_set(
    out: Path,
    source: PersonSource,
    plan: Plan,
    settings: Settings,
    jobs: int = 1,
    progress: Callable[[int, int], None] = lambda slots, filled: None,
) -> list[Attempt]:
    """Make a set, or what is missing of it.

    Args:
        out: folder.
        source: the person.
        plan: what to ask.
        settings: how.
        jobs: processes; the pictures are the same for any number.
        progress: called with slots done and slots filled, since the last call.

    Returns:
        All attempts, of earlier runs too.

    Raises:
        ValueError: ``out`` holds a set of another person, plan or settings.
        OSError: the disk is full, or a process died; what is written stays.
    """
    key = fingerprint(source, plan, settings)
    _check_weights(settings)
    out.mkdir(parents=True, exist_ok=True)
    _check_settings(out, source, plan, settings, key)
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
        "name": "generated", "generated": True, "size": source.faces.image.shape[-1], "person": source.name,
        "source": {"kind": source.kind, "sha256": source.sha256, "notes": source.notes},
        "plan": {"name": plan.name, "seed": plan.seed, "slots": len(plan)},
        "settings": asdict(settings), "fingerprint": key, "attempts": len(attempts), "version": VERSION,
    }  # fmt: skip
    write_index(out, len(chunks), about)
    return attempts


def _check_weights(settings: Settings) -> None:
    """Load once what every process will load: a wrong file must not leave a folder behind."""
    load_generator(settings.generator)
    if settings.verify:
        load_detector(settings.judge)


def fingerprint(source: PersonSource, plan: Plan, settings: Settings) -> str:
    """What the pictures depend on, but for rounding: another number of threads must not make another set."""
    about = asdict(settings)
    kinds: tuple[Kind, ...] = ("generator", "judge")
    for name in kinds:
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


def _check_settings(out: Path, source: PersonSource, plan: Plan, settings: Settings, key: str) -> None:
    """A folder holds one set."""
    wanted = {
        "source": source.sha256, "person": source.name, "plan": plan.name, "slots": len(plan), "seed": plan.seed,
        **{name: value for name, value in asdict(settings).items() if name != "device"}, "fingerprint": key,
    }  # fmt: skip
    path = out / _SETTINGS
    text = json.dumps(wanted, indent=1, sort_keys=True, default=str) + "\n"
    if path.is_file():
        try:
            found = json.loads(path.read_text())
        except ValueError:
            found = {}
        for name, value in sorted(json.loads(text).items(), key=lambda item: (item[0] == "fingerprint", item[0])):
            if found.get(name) != value:
                if name == "fingerprint":
                    raise ValueError(
                        f"{path}: this folder was begun with other weights, or the source reads otherwise now: choose "
                        "another --out, or --overwrite"
                    )
                raise ValueError(
                    f"{path}: this folder was begun with {name} = {found.get(name)!r}, asked is {value!r}: choose "
                    f"another "
                    "--out, or --overwrite"
                )
        return
    if any(out.glob("shard-*")):
        raise ValueError(f"{out}: holds another prepared set: choose another --out")
    replace_file(path, text.encode())


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
    pool = ProcessPoolExecutor(
        min(jobs, len(todo)),
        get_context("spawn"),
        initializer=_start_worker,
        initargs=(os.getpid(), source, plan, settings),
    )
    with pool:
        flying = {pool.submit(_in_worker, out, number, slots, key): number for number, slots in todo}
        try:
            for done in as_completed(flying):
                yield flying[done], done.result()
        except BrokenProcessPool as error:
            raise OSError(
                f"{out}: a process died (too little memory?); what is done stays: run the same command again, with "
                "fewer --jobs"
            ) from error
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


_WORKER: dict[str, SetMaker] = {}


def _start_worker(parent: int, source: PersonSource, plan: Plan, settings: Settings) -> None:
    import signal
    import threading
    import time

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent tells us
    torch.set_num_threads(1)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)  # the parent was killed: nobody waits for us

    threading.Thread(target=watch, daemon=True).start()
    _WORKER["maker"] = SetMaker(source, plan, settings)


def _in_worker(out: Path, number: int, slots: list[int], key: str) -> int:
    return write_chunk(_WORKER["maker"], out, number, slots, key)


def write_chunk(maker: SetMaker, out: Path, number: int, slots: list[int], key: str) -> int:
    """Make the shard of some slots; returns the number of pictures kept."""
    attempts, kept, rejected = maker.make(slots)
    by_slot = {attempt.slot: attempt for attempt in attempts if attempt.kept}
    faces = maker.batch(attempts, kept)
    folder = out / "rejected"
    for slot, round_, image in rejected[: _SHOWN_REJECTED if number < _SHOWN_CHUNKS else 0]:
        folder.mkdir(exist_ok=True)
        replace_file(folder / f"{slot:06d}-{round_}.png", encode_png(image, {"rejected": "yes"}))
    writer = ShardWriter(out, number, key)
    try:
        for row, slot in enumerate(sorted(by_slot)):
            attempt = by_slot[slot]
            about = {
                "generated": True, "source_sha256": maker.source.sha256, "generator": maker.settings.generator,
                "plan": maker.plan.name, "seed": maker.plan.seed, **asdict(attempt),
            }  # fmt: skip
            labels = {
                "subject": maker.source.name, "clip": attempt.cell, "frame": slot, "source": faces.source[row],
                "split": "",
                "emotion": int(faces.emotion[row]), "pose": faces.pose[row].tolist(),
                "au_intensity": faces.au_intensity[row].tolist(), "au_occurrence": faces.au_occurrence[row].tolist(),
                "landmarks": faces.landmarks[row].flatten().tolist(),
            }  # fmt: skip
            writer.add(f"{slot:06d}", encode_png(faces.image[row], about), "png", labels, about)
        return writer.close([asdict(attempt) for attempt in attempts])
    except BaseException:
        writer.abandon()
        raise


def encode_png(image: Tensor, provenance: dict[str, Any]) -> bytes:
    """A picture uint8 (3, S, S) as PNG that says in text chunks that it is generated, and how."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    chunks = PngInfo()
    chunks.add_text("Software", "lit_faces")
    chunks.add_text("Comment", "generated face, not a photograph")
    chunks.add_text("lit_faces", json.dumps(provenance, separators=(",", ":")))
    buffer = io.BytesIO()
    Image.fromarray(image.permute(1, 2, 0).contiguous().numpy()).save(buffer, "PNG", pnginfo=chunks)
    return buffer.getvalue()


def _table(attempts: list[Attempt]) -> bytes:
    head = ["slot", "cell", "attempt", "kept", "reason", "nme", "identity_distance", "source", "yaw", "pitch", "roll"]
    columns = [*head, *(f"asked_{key}" for key in AU_KEYS), *(f"achieved_{key}" for key in AU_KEYS)]
    rows = (
        [a.slot, a.cell, a.attempt, int(a.kept), a.reason, a.nme, a.distance, a.source, *a.pose, *a.asked, *a.achieved]
        for a in attempts
    )
    return csv_bytes(columns, rows)


# -- driving ----------------------------------------------------------------------------------------------------------


def drive_pictures(
    generator: ReenactmentGAN, source: PersonSource, driver: list[FittedFace], au: Tensor, smooth: float = 1.0
) -> Tensor:
    """The person acting like somebody else: uint8 (T, 3, S, S).

    Args:
        generator: see :func:`picture`.
        source: whose face.
        driver: fitted frames of the acting person, in order.
        au: float (T, 19), the driver's intensities.
        smooth: filter over time, frames.
    """
    from lit_faces.persons.retarget import drive

    model = LandmarkModel()
    _, level, landmarks = drive(model, source.fits[0], driver, au, smooth)
    first = source.faces.select(torch.zeros(len(level), dtype=torch.int64))
    return render(generator, first, landmarks, level)
