"""Adapt a detector to one person: labelled faces -> learner -> detector, memory and report.

::

    learnt = adapt(Path("anna_set"), LearnOptions(), Path("anna_detector"))
    learnt.figures["person/after/icc/mean"]

out/detector.safetensors   the personal detector, with its card: method and figures, no name and no path
out/delta.safetensors      of the method `delta`: what the person changes in the shared detector, 50 KB at most
out/memory.safetensors     what the next person's learning needs, their names among it; give it with --memory tomorrow
out/report.md, results.json, before_after.png, calibration.png
out/made_of.json           digest of everything that was asked, and the files: the same command finds its work done
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lit_faces.core.devices import device_of
from lit_faces.core.facs import AU_KEYS
from lit_faces.core.fields import field, read_json
from lit_faces.core.files import locked
from lit_faces.core.inputs import check_file
from lit_faces.core.labelled import read_labelled
from lit_faces.core.options import at_least, check_out, option
from lit_faces.core.sample import FaceBatch, joined
from lit_faces.core.shards import INDEX, ShardSet
from lit_faces.core.shipped import DETECTOR_HELP, weights_path
from lit_faces.core.weights import load_weights
from lit_faces.models.adapters import DELTA_FILE, Delta, detector_code
from lit_faces.persons.generative_replay import GenerativeMemory
from lit_faces.persons.leakage import Split, batch_digest, hold_out, refuse_shared
from lit_faces.persons.learner import PersonalLearner, shipped_fisher
from lit_faces.persons.learning_report import figures_of, untrained_figures, write_learning_report
from lit_faces.persons.methods import find_method
from lit_faces.persons.publication import made_of, publishing, recover
from lit_faces.persons.recipes import Recipe, Step, nothing
from lit_faces.persons.reference import PersonReferences
from lit_faces.persons.zero import Zero
from lit_faces.rendering.renderer import render_population
from lit_faces.reports.results import circumstances, write_json
from lit_faces.tasks.au_detector import AUDetector, load_detector

Tell = Callable[[str], None]
VERSION = 2  # raise it when the same options learn otherwise
#: First subject, frames, frames a person.
_OTHERS, _GENERIC, _REFERENCE = (0, 320, 2), (2_004_000, 128, 2), (1_006_000, 160, 4)


@dataclass(frozen=True)
class LearnOptions:
    """How a person is learnt; each field's help says what it is."""

    detector: str = option("generic", f"what is adapted: {DETECTOR_HELP}")
    method: str | None = option(
        None,
        "delta_reference (default of personalise), ewc_replay (default of adapt), delta, replay, ewc, finetune, "
        "head_only, ridge, affine, ...",
    )
    memory: Path | None = option(None, "memory.safetensors of an earlier person")
    others: Path | None = option(None, "labelled set the detector was trained on (default: rendered people)")
    generic: Path | None = option(None, "labelled set of strangers for the report (default: rendered people)")
    test: Path | None = option(None, "labelled faces of the person for the report (default: --held-out)")
    held_out: float = option(0.2, "share kept for the report: whole clips or blocks")
    steps: int = option(Recipe().steps, "of training")
    capacity: str | int = option(600, 'of a new memory: faces, or bytes such as "64MB"', read=lambda text: _size(text))
    seed: int = option(0, "of everything")
    accelerator: str = option("auto", "cpu, gpu or auto")
    overwrite: bool = option(False, "throw away what --out holds that was made otherwise")

    def __post_init__(self) -> None:
        """Refuse what cannot be.

        Raises:
            ValueError: names the option.
        """
        if self.method is not None:
            find_method(self.method, "--method")
        if not 0 <= self.held_out < 1:
            raise ValueError(f"--held-out: expected 0..1, 1 left out, got {self.held_out}")
        at_least("steps", self.steps, 1)
        at_least("seed", self.seed, 0)
        device_of(self.accelerator)
        if self.memory is not None and self.others is not None:
            raise ValueError("--others: the memory holds them already; leave it out with --memory")

    def check(self, out: Path) -> None:
        """Refuse a place and files that cannot be used, before anything dear is begun.

        Raises:
            ValueError, OSError: names what it is.
        """
        check_out(out)
        if self.memory is not None:
            check_file(self.memory, "memory")
            if self.memory.resolve().parent == out.resolve():
                raise ValueError(f"--out {out}: holds the memory that is read; write the next person elsewhere")
            _remembered(self, load_detector(self.detector))
        file = weights_path("detector", self.detector)
        if self.memory is None and (count := people_learnt(load_weights(file)[1], file)):
            raise ValueError(
                f"--detector {self.detector}: has learnt {count} {'people' if count > 1 else 'person'}, who would be "
                "forgotten; give --memory with the memory.safetensors that was written beside it"
            )
        if (out / "memory.safetensors").is_file() and made_of(out) is None and not (out / ".work").is_dir():
            raise ValueError(f"--out {out}: holds the memory of an earlier adaptation; choose another folder")

    def tracked(self) -> dict[str, Any]:
        """The options that say nothing of who it is, nor where anything lies."""
        return {name: getattr(self, name) for name in ("method", "held_out", "steps", "capacity", "seed")}


def people_learnt(card: dict[str, Any], path: Path | str) -> int:
    """How many people a detector has learnt, by its card; old cards named them.

    Raises:
        ValueError: the card is damaged; names file and field.
    """
    named = len(field(card, "learnt", list, path, default=[]))
    return field(card, "people_learnt", int, path, minimum=0, default=named)


@dataclass
class LearnResult:
    """A detector that has learnt a person.

    Attributes:
        folder: what was written.
        figures: flat, as in results.json; what is not defined is None or NaN.
        already: whether the same command had been done before.
    """

    folder: Path
    figures: dict[str, Any]
    already: bool = False

    @property
    def detector(self) -> Path:
        """The personal detector."""
        return self.folder / "detector.safetensors"

    @property
    def text(self) -> str:
        """The report, Markdown."""
        return (self.folder / "report.md").read_text(encoding="utf-8")


@dataclass
class _Groups:
    """The faces of an adaptation."""

    name: str
    split: Split
    generic: FaceBatch
    digest: str
    zero: Zero | None = None
    references: PersonReferences | None = None


def adapt(
    person: Path,
    options: LearnOptions,
    out: Path,
    name: str | None = None,
    tell: Tell = lambda line: None,
    zero: Zero | None = None,
    references: PersonReferences | None = None,
    each_step: Step = nothing,
) -> LearnResult:
    """Let a detector learn one person; EWC and replay keep what it knows of the others, or nearly.

    Args:
        person: the person's faces: folder with labels.csv, or shards.
        options: how.
        out: folder to write; files appear there together.
        name: of the person; by default the subject in the labels, or the folder's name.
        tell: called with a line on what is begun.
        zero: the person's, of the same detector: the figures say what it does without any learning, and a delta begins
            from it and holds it.
        references: the person's, of the same detector: the figures say what it reads beside them without any learning,
            and ``delta_reference`` learns beside them.
        each_step: called after each of ``options.steps``.

    Raises:
        ValueError: an option, a file or a face that cannot be used; groups that share people or pictures.
        OSError: another process works in ``out``; the disk is full.
    """
    began = time.monotonic()
    options.check(out)
    detector = load_detector(options.detector)
    groups = _read_groups(person, options, name, detector.size, references)
    if zero is not None:
        groups = replace(groups, zero=zero, digest=zero.digest(groups.digest))
    clock = {"reading": time.monotonic() - began}
    with locked(out, "adapt"):
        recover(out)
        if made_of(out) == groups.digest:
            return LearnResult(out, read_json(out / "results.json", "choose another --out"), already=True)
        with publishing(out, groups.digest, options.overwrite) as work:
            tell(f"learning from {len(groups.split.learnt)} faces; tested on {groups.split.test_is}")
            return replace(_learn(groups, options, detector, work, clock, began, each_step), folder=out)


def _learn(
    groups: _Groups,
    options: LearnOptions,
    detector: AUDetector,
    work: Path,
    clock: dict[str, float],
    began: float,
    each_step: Step,
) -> LearnResult:
    """Learn, measure, write."""
    name, split, generic = groups.name, groups.split, groups.generic
    begun = time.monotonic()
    learner = _learner(options, detector, groups)
    clock["preparing"] = time.monotonic() - begun
    before = {"person": learner.predict(split.test.image, name), "generic": learner.predict(generic.image)}
    begun = time.monotonic()
    accelerator = "cpu" if device_of(options.accelerator) == "cpu" else options.accelerator
    offset = None if groups.zero is None else torch.from_numpy(groups.zero.offset_of(AU_KEYS)).float()
    beside = None if groups.references is None else groups.references.references
    learner.learn(name, split.learnt, accelerator, zero=offset, references=beside, each_step=each_step)
    learner.detector.cpu()
    clock["learning"] = time.monotonic() - begun
    after = {"person": learner.predict(split.test.image, name), "generic": learner.predict(generic.image)}
    figures = {
        **figures_of(split.test, generic, before, after),
        **_untrained(groups, detector, before["person"], after["person"]),
        "run/seconds": time.monotonic() - began, **{f"run/seconds/{key}": value for key, value in clock.items()},
        "run/person": name, "run/method": learner.method, "run/frames": len(split.learnt),
        "run/test_frames": len(split.test), "run/test_is": split.test_is, "run/learnt": learner.learnt,
        "run/seed": options.seed, **circumstances(),
    }  # fmt: skip
    learner.save(work / "memory.safetensors")
    if isinstance(own := learner.personal.get(name), Delta):
        own.save(work / DELTA_FILE, frames=len(split.learnt), steps=options.steps, seed=options.seed)
    personal = learner.for_person(name)
    if personal.references is not None:
        PersonReferences(personal.references, (groups.digest[:8],), detector_code(personal)).save(work)
    means = {k: round(v, 4) for k, v in figures.items() if isinstance(v, float) and k.endswith("mean") and v == v}
    personal.export_weights(
        work / "detector.safetensors", command="python -m lit_faces.adapt", people_learnt=len(learner.learnt),
        method=learner.method, steps=options.steps, seed=options.seed, figures=means,
    )  # fmt: skip
    write_json(work / "results.json", figures)
    write_learning_report(work, figures, split.test, before["person"], after["person"])
    return LearnResult(work, figures)


def _untrained(groups: _Groups, detector: AUDetector, before: Tensor, after: Tensor) -> dict[str, Any]:
    """Figures of what the person's photo gives without learning."""
    test, found = groups.split.test, {}
    if groups.zero is not None:
        found["zero"] = groups.zero.apply(before, AU_KEYS)
    if groups.references is not None:
        detector.set_references(groups.references.references)
        found["reference"] = detector.predict_au(test.image)
        detector.set_references(None)
    figures: dict[str, Any] = {}
    for name, readings in found.items():
        figures |= untrained_figures(test, name, readings, before, after)
    return figures


# -- who and what -----------------------------------------------------------------------------------------------------


def _read_groups(
    person: Path, options: LearnOptions, name: str | None, size: int, references: PersonReferences | None
) -> _Groups:
    """All faces that are learnt from or measured, none of them in two groups that must be apart."""
    faces = read_labelled(person, size, align=True)
    name = name or _one_name(faces, person)
    if not bool(faces.au_intensity.isfinite().any()) and (options.method is None or find_method(options.method).labels):
        raise ValueError(f"{person}: no AU is coded in any face: labels.csv needs columns such as au6, au17")
    test = None if options.test is None else read_labelled(options.test, size, need="intensity", align=True)
    generic = _set_or_rendered(options.generic, size, *_GENERIC)
    others = None if options.others is None else read_labelled(options.others, size, need="intensity", align=True)
    refuse_shared(
        {
            "--person": faces,
            "--generic": generic,
            **({"--test": test} if test is not None else {}),
            **({"--others": others} if others is not None else {}),
        },
        people=[("--person", "--test")],
        called={"--person": name, "--test": name},
    )
    split = (
        Split(faces, test, f"{len(test)} faces of --test")
        if test is not None
        else hold_out(faces, options.held_out, options.seed, _clips_of(person))
    )
    looks = options.method is not None and find_method(options.method).beside and references is None
    if looks or str(options.method).startswith(("neutral", "reference")):
        split = replace(split, learnt=_neutral_first(split.learnt, person, str(options.method)))
    batches = [faces, generic, *(batch for batch in (test, others) if batch is not None)]
    digest = _digest(name, options, [batch_digest(batch) for batch in batches])
    return _Groups(name, split, generic, digest, references=references)


def check_groups(options: LearnOptions, name: str) -> None:
    """Refuse sets that :func:`adapt` would refuse, before the person's own set is there.

    Args:
        options: how.
        name: of the person.

    Raises:
        ValueError, OSError: a set that cannot be read; groups that share people or pictures.
    """
    paths = {"--test": options.test, "--others": options.others, "--generic": options.generic}
    size = load_detector(options.detector).size
    given = {
        flag: read_labelled(path, size, need="intensity", align=True)
        for flag, path in paths.items()
        if path is not None
    }
    for faces in list(given.values())[:1]:
        given["--person"] = faces.select(slice(0, 0))  # nobody yet, but a name
    refuse_shared(given, people=[("--person", "--test")], called={"--person": name, "--test": name})


def _digest(name: str, options: LearnOptions, faces: list[str]) -> str:
    """Of everything that the result depends on; files count by their content."""
    files = [weights_path("detector", options.detector), *([options.memory] if options.memory else [])]
    asked = [
        VERSION, name, faces, [hashlib.sha256(path.read_bytes()).hexdigest() for path in files],
        options.test is not None, options.others is not None, options.method, options.held_out, options.steps,
        options.capacity, options.seed,
    ]  # fmt: skip
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()


def _one_name(faces: FaceBatch, path: Path) -> str:
    """The subject, if there is one."""
    subjects = sorted({subject for subject in faces.subject if subject})
    if len(subjects) > 1:
        raise ValueError(
            f"{path}: faces of {len(subjects)} people ({subjects[0]}, {subjects[1]}, ...): adapt to one person at a "
            "time, or say with --name that they are one"
        )
    return subjects[0] if subjects else path.resolve().stem


def _clips_of(person: Path) -> list[str]:
    """Which clip each face of a prepared set is of; empty for other sets."""
    if not (person / INDEX).is_file():
        return []
    shards = ShardSet(person)
    return [shards.words["clip"][code] for code in shards.clip]


def _neutral_first(faces: FaceBatch, person: Path, method: str) -> FaceBatch:
    """Neutral faces before the others: the first is taken for the person's resting face."""
    neutral = (faces.au_intensity.nan_to_num(0.0) == 0).all(1)
    coded = faces.au_intensity.isfinite().any(1)
    if not bool((neutral & coded).any()) and bool(coded.any()):
        raise ValueError(f"{person}: --method {method} needs a neutral face (all coded AUs 0), found none")
    return faces.select((~(neutral & coded)).int().argsort(stable=True))


def _set_or_rendered(path: Path | None, size: int, first: int, frames: int, each: int) -> FaceBatch:
    """A labelled set, or people of the shipped detector's population."""
    if path is not None:
        return read_labelled(path, size, need="intensity", align=True)
    return render_population(size, first, frames, each)


# -- what was learnt before -------------------------------------------------------------------------------------------


def _learner(options: LearnOptions, detector: AUDetector, groups: _Groups) -> PersonalLearner:
    """A new learner, or the one of an earlier adaptation."""
    recipe = Recipe(steps=options.steps, seed=options.seed)
    if options.memory is None:
        learner = PersonalLearner(detector, options.method or "ewc_replay", recipe, options.capacity)
        others = _set_or_rendered(options.others, detector.size, *_OTHERS)
        reference = _set_or_rendered(options.generic, detector.size, *_REFERENCE)
        learner.start(others, reference, shipped_fisher(str(options.detector)))
        return learner
    learner = _remembered(options, detector)
    known = [name for name in learner.learnt if name in groups.generic.subject]
    if known:
        raise ValueError(f"--generic has {known[0]}, whom {options.memory} has learnt: strangers must be strangers")
    if (faces := _faces_of(learner)) is not None:
        named = {"--memory": faces, "--test": groups.split.test, "--generic": groups.generic}
        refuse_shared(named, people=[("--memory", "--test")])
    return learner


def _remembered(options: LearnOptions, detector: AUDetector) -> PersonalLearner:
    assert options.memory is not None
    card = load_weights(options.memory)[1]
    method = field(card, "method", str, options.memory, default="ewc_replay")
    if options.method not in (None, method):
        raise ValueError(f"{options.memory}: was kept by the method {method}, not {options.method}: leave --method out")
    find_method(method, f"{options.memory}: method")
    kept = _recipe(field(card, "recipe", dict, options.memory), options)
    capacity = _size(str(card.get("capacity")))  # faces, or bytes: the memory refuses what it does not know
    samples = field(card, "fisher_samples", int, options.memory, minimum=1)
    learner = PersonalLearner(detector, method, kept, capacity, samples)
    given = {key: value.clone() for key, value in detector.state_dict().items()}
    learner.load(options.memory)
    if not learner.how.leaves_others:  # with those, the written detector is a person's own
        _same_detector(given, learner.detector.state_dict(), options)
    return learner


def _recipe(kept: Mapping[str, Any], options: LearnOptions) -> Recipe:
    try:
        return Recipe(**{**kept, "steps": options.steps, "seed": options.seed})
    except (TypeError, ValueError) as error:
        raise ValueError(f"{options.memory}: recipe: {error}; copy the memory again") from error


def _faces_of(learner: PersonalLearner) -> FaceBatch | None:
    """What a learner remembers of people."""
    memory = learner.memory
    if isinstance(memory, GenerativeMemory):
        parts = [part.faces() for part in (memory.photos, memory.learnt) if len(part)]
        return joined(*parts) if parts else None
    return memory.faces() if memory is not None and len(memory) else None


def _same_detector(given: dict[str, Tensor], kept: dict[str, Tensor], options: LearnOptions) -> None:
    """The detector beside the memory, but for the rounding of the weight file."""
    for key, value in kept.items():
        rounded = value.half().float() if value.is_floating_point() else value
        if key.startswith(("backbone.", "head.")) and not any(
            torch.allclose(given[key].float(), one.float(), 1e-5, 1e-7) for one in (value, rounded)
        ):
            raise ValueError(
                f"--detector {options.detector}: is not the detector that {options.memory} belongs to ({key} differs): "
                "give the detector.safetensors that was written beside it"
            )


def _size(text: str) -> str | int:
    return int(text) if text.isdigit() else text
