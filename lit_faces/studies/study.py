"""Which way of learning people is best? Methods x people x frames x seeds, resumable, by several processes.

    sequence   people arrive one after another, each learnt on top of the last; everything is evaluated after each
    single     each person is learnt from the generic detector

A *cell* is one (protocol, method, k, images, seed); it learns all people in the seed's order. After every person the
readings are written to ``cells/<cell>/<step>.npz``, and what the cell must carry on to ``state.safetensors``, both
atomically: a study that was killed redoes at most the person it was at. A cell is done by whoever holds its lock, so
any number of processes, on any number of machines that share the folder, can work on one study.

``images`` says what a person is learnt from:

    real            k labelled frames, the photo first
    real+synthetic  those, and the images that the generator made from the photo
    synthetic       the generated images alone
    wrong           the images that were generated from the *next* person's photo: a control that must not help
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import io
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

import numpy as np
import torch
from torch import Tensor

from lit_faces.arguments import UsageError, find_class, parameters, suggestion
from lit_faces.core.fields import field as field_of
from lit_faces.core.fields import read_npz
from lit_faces.core.files import BusyError, locked, replace_file
from lit_faces.core.sample import TENSORS, FaceBatch, joined
from lit_faces.core.seeding import derive_seed, generator_for
from lit_faces.core.shipped import Kind, weights_path
from lit_faces.core.weights import load_weights, save_weights
from lit_faces.persons.learner import ALL_METHODS, CLOSED_FORM, ZERO_SHOT, PersonalLearner, save_fisher, shipped_fisher
from lit_faces.persons.recipes import METHODS, Recipe
from lit_faces.tasks.au_detector import load_detector

Images = Literal["real", "real+synthetic", "synthetic", "wrong"]
Protocol_ = Literal["sequence", "single"]
_ORDER, _SYNTHETIC = 0x5EC, 0x5F7


class People(Protocol):
    """Who arrives; see :mod:`data_modules.people`."""

    @property
    def names(self) -> list[str]:
        """Of the people who arrive."""

    def prepare(self) -> None:
        """Make or fetch what is missing, once."""

    def support(self, person: int, count: int | None = None, seed: int = 0) -> FaceBatch:
        """Frames to learn from, the photo first."""

    def test(self, person: int) -> FaceBatch:
        """Frames to test on."""

    def generic(self) -> FaceBatch:
        """People who are never learnt."""

    def others(self) -> FaceBatch:
        """People whom the detector was trained on."""

    def reference(self) -> FaceBatch:
        """People whom it was not trained on, nor is tested on; some neutral."""


@dataclass(frozen=True)
class Cell:
    """One line of the study: all people, one after another, by one method."""

    protocol: Protocol_
    method: str
    k: int
    images: Images
    seed: int

    @property
    def key(self) -> str:
        """Name of its folder."""
        return f"{self.protocol}-{self.method}-k{self.k}-{self.images}-s{self.seed}"


@dataclass
class Study:
    """What is asked; the keys of ``experiments/study/*.yaml``.

    Attributes:
        detector: weight file of the generic detector, or ``generic`` for the one that ships with lit_faces.
        people: ``class_path`` and ``init_args`` of a stream of :mod:`data_modules.people`.
        sequence: blocks of ``methods`` and ``k`` to run in sequence.
        single: blocks of ``methods``, ``k`` and ``images`` to run person by person.
        seeds: of the order of people, the frames drawn, and the training; a block may name its own.
        recipe: see :class:`lit_faces.persons.recipes.Recipe`.
        capacity: of the memory.
        fisher_samples: frames of a person for the Fisher information.
        synthetic: images made from a photo.
        generator: weight file of the generator, or ``packaged``.
    """

    detector: str = "generic"
    people: dict[str, Any] = field(default_factory=lambda: {"class_path": "data_modules.people.RenderedPeople"})
    sequence: list[dict[str, Any]] = field(default_factory=list)
    single: list[dict[str, Any]] = field(default_factory=list)
    seeds: list[int] = field(default_factory=lambda: [0])
    recipe: dict[str, Any] = field(default_factory=dict)
    capacity: int | str = 600
    fisher_samples: int = 12
    synthetic: int = 200
    generator: str = "packaged"

    @classmethod
    def read(cls, content: Mapping[str, Any], where: str) -> Study:
        """From the mapping of an experiment file.

        Raises:
            UsageError: names the key that is wrong, and the nearest that exists.
        """
        names = {f.name for f in fields(cls)}
        for key in content:
            if key not in names:
                raise UsageError(f"{where}: unknown key {key}{suggestion(str(key), names)}")
        try:
            _check_types(content, where)
            study = cls(**content)
            study.recipe = study.recipe or {}
            _check_recipe(study.recipe, where)
        except ValueError as error:
            raise UsageError(str(error)) from error
        for protocol in get_args(Protocol_):
            for number, block in enumerate(getattr(study, protocol)):
                _check_block(block, f"{where}: {protocol}[{number}]")
        if not study.seeds or not (study.sequence or study.single):
            raise UsageError(f"{where}: nothing to do: expected seeds, and blocks under sequence or single")
        study.stream_class(where)
        return study

    def stream_class(self, where: str = "study") -> Callable[..., People]:
        """The class of the stream.

        Raises:
            UsageError: there is none.
        """
        if set(self.people) - {"class_path", "init_args"} or "class_path" not in self.people:
            raise UsageError(f"{where}: people: expected class_path (dotted) and init_args, got {self.people}")
        found = find_class(self.people["class_path"], f"{where}: people.class_path", People)
        if found is None:
            raise UsageError(f"{where}: people.class_path: expected a dotted path, got {self.people['class_path']}")
        names = parameters(found)
        for key in field_of(self.people, "init_args", dict, f"{where}: people", default={}):
            if names is not None and key not in names:
                raise UsageError(f"{where}: unknown key people.init_args.{key}{suggestion(str(key), names)}")
        return found

    def stream(self) -> People:
        """The people."""
        cls = self.stream_class()
        try:
            return cls(**self.people.get("init_args", {}))
        except TypeError as error:
            raise UsageError(f"study: people.init_args: {error}") from error

    def cells(self) -> list[Cell]:
        """Everything that is asked, once each; sequences first, for they are the longest."""
        found: dict[Cell, None] = {}
        for protocol in get_args(Protocol_):
            for block in getattr(self, protocol):
                for seed in _listed(block.get("seeds", self.seeds)):
                    for k in _listed(block["k"]):
                        for images in _listed(block.get("images", "real")):
                            for method in _listed(block["methods"]):
                                found[Cell(protocol, method, k, images, seed)] = None
        return list(found)

    def fingerprint(self) -> str:
        """Changes with everything that changes a cell's result: not with the list of cells."""
        content = {k: v for k, v in asdict(self).items() if k not in ("sequence", "single", "seeds")}
        content["recipe"] = asdict(Recipe(**self.recipe))  # defaults change, too
        kinds: tuple[Kind, ...] = ("detector", "generator")
        for name in kinds:
            path = weights_path(name, content[name])
            if path.is_file():
                content[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _check_types(content: Mapping[str, Any], where: str) -> None:
    """Compare the values of a study file with what they are for.

    Raises:
        ValueError: names the key.
    """
    for name in ("detector", "generator"):
        field_of(content, name, str, where, minimum=1, default="")
    field_of(content, "people", dict, where, default={})
    for name in get_args(Protocol_):
        field_of(content, name, list, where, of=dict, maximum=1000, default=[])
    field_of(content, "seeds", list, where, of=int, maximum=1000, default=[])
    for name, most in (("fisher_samples", 100_000), ("synthetic", 100_000)):
        field_of(content, name, int, where, minimum=1, maximum=most, default=1)
    if not isinstance(content.get("capacity", 1), str):
        field_of(content, "capacity", int, where, minimum=1, default=1)
    if content.get("recipe") is not None:
        field_of(content, "recipe", dict, where, default={})


def _check_recipe(recipe: Mapping[str, Any], where: str) -> None:
    """Compare the values of a recipe with what they are for.

    Raises:
        ValueError: names the key, and the nearest that exists.
    """
    known = {f.name for f in fields(Recipe)}
    for key in recipe:
        if key not in known:
            raise UsageError(f"{where}: unknown key recipe.{key}{suggestion(str(key), known)}")
    try:
        Recipe(**recipe)
    except ValueError as error:
        raise UsageError(f"{where}: {error}") from error


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _check_block(block: Any, where: str) -> None:
    keys = {"methods", "k", "images", "seeds"}
    for seed in _listed(block.get("seeds", [])) if isinstance(block, dict) else []:
        field_of({"seeds": seed}, "seeds", int, where)
    if not isinstance(block, dict) or not {"methods", "k"} <= set(block) <= keys:
        raise UsageError(f"{where}: expected methods and k, and perhaps images and seeds, got {block}")
    for method in _listed(block["methods"]):
        if method not in ALL_METHODS:
            raise UsageError(f"{where}: unknown method {method}{suggestion(str(method), ALL_METHODS)}")
    for images in _listed(block.get("images", "real")):
        if images not in get_args(Images):
            raise UsageError(f"{where}: unknown images {images}{suggestion(str(images), get_args(Images))}")
    for k in _listed(block["k"]):
        if not isinstance(k, int) or isinstance(k, bool) or k < 0:
            raise UsageError(f"{where}: k: expected whole numbers of frames, 0 or more, got {k}")


class Worker:
    """Does cells of a study in a folder.

    Args:
        study: what is asked.
        out: the study's folder.
        parent: process that this one works for; when it is gone, so is this one, after the person it is at.
    """

    def __init__(self, study: Study, out: Path, parent: int | None = None) -> None:
        self.study, self.out, self.parent = study, out, parent
        self.people = study.stream()
        self.detector = load_detector(study.detector)
        self.recipe = Recipe(**study.recipe)
        self._generator: tuple[Any, Any] | None = None
        self._population: dict[str, Tensor] = {}

    def prepare(self) -> None:
        """What cells share: rendered people, the generic detector's readings, its Fisher information, the images."""
        most = max(cell.k for cell in self.study.cells())
        if most > (known := getattr(self.people, "support_count", most)):
            raise ValueError(f"k = {most}: the stream has {known} frames of a person to learn from; raise its support")
        if len(self.people.names) < 2 and any(cell.images == "wrong" for cell in self.study.cells()):
            raise ValueError("images: wrong needs a second person in the stream")
        self.people.prepare()
        if not self.start_file.is_file():
            learner = self._learner(Cell("single", "none", 0, "real", 0))
            readings = {f"p{i}": learner.predict(self.people.test(i).image) for i in range(len(self.people.names))}
            _write_npz(self.start_file, {**readings, "generic": learner.predict(self.people.generic().image)})
        cells = self.study.cells()
        if not self.fisher_file.is_file() and any(
            c.method in METHODS and METHODS[c.method].penalty == "ewc" for c in cells
        ):
            learner = self._learner(Cell("single", "ewc", 0, "real", 0))
            known = shipped_fisher(self.study.detector)
            save_fisher(self.fisher_file, known or learner.fisher(self.people.others(), 16 * self.study.fisher_samples))

    @property
    def start_file(self) -> Path:
        """What the generic detector reads."""
        return self.out / "start.npz"

    @property
    def fisher_file(self) -> Path:
        """Fisher information of the generic detector on whom it was trained on."""
        return self.out / "fisher.safetensors"

    def order(self, cell: Cell) -> list[int]:
        """Numbers of the people in the order in which they arrive."""
        return torch.randperm(len(self.people.names), generator=generator_for(cell.seed, _ORDER)).tolist()

    def run(self, cell: Cell) -> None:
        """Do what is left of a cell; nothing if another process is at it."""
        folder = self.out / "cells" / cell.key
        with contextlib.suppress(BusyError), locked(folder, "study"):
            order = self.order(cell)
            if all((folder / f"{step:03d}.npz").is_file() for step in range(len(order))):
                return
            if cell.protocol == "sequence":
                self._sequence(cell, folder, order)
            else:
                self._singles(cell, folder, order)

    def _sequence(self, cell: Cell, folder: Path, order: list[int]) -> None:
        learner, state = self._learner(cell), folder / "state.safetensors"
        if state.is_file():
            learner.load(state)
        else:
            self._start(learner)
        names = self.people.names
        for step in range(len(learner.learnt), len(order)):
            self._end_with_parent()
            person = order[step]
            frames = self.frames(cell, person)
            began = time.monotonic()
            learner.learn(names[person], frames)
            spent = time.monotonic() - began
            readings = {f"p{i}": learner.predict(self.people.test(i).image, names[i]) for i in range(len(names))}
            readings["generic"] = self._strangers(learner)
            _write_npz(folder / f"{step:03d}.npz", readings, person=person, seconds=spent)
            learner.save(state)  # after the readings: a kill in between does this person again
        state.unlink(missing_ok=True)

    def _singles(self, cell: Cell, folder: Path, order: list[int]) -> None:
        names = self.people.names
        for step, person in enumerate(order):
            file = folder / f"{step:03d}.npz"
            if file.is_file():
                continue
            self._end_with_parent()
            learner, frames = self._learner(cell), self.frames(cell, person)
            self._start(learner)
            began = time.monotonic()
            learner.learn(names[person], frames, consolidate=False)
            spent = time.monotonic() - began
            own = learner.predict(self.people.test(person).image, names[person])
            readings = {f"p{person}": own, "generic": self._strangers(learner)}
            _write_npz(file, readings, person=person, seconds=spent)

    def _end_with_parent(self) -> None:
        if self.parent is not None and os.getppid() != self.parent:
            raise SystemExit("the study that this process worked for was killed")

    def _strangers(self, learner: PersonalLearner) -> Tensor:
        """Readings of people who are never learnt; known already where the method leaves the detector alone."""
        if learner.method == "none" or learner.method in (*ZERO_SHOT, *CLOSED_FORM):
            arrays = read_npz(self.start_file, "remove it and run the study again")
            if "generic" not in arrays:
                raise ValueError(f"{self.start_file}: generic is missing; remove it and run the study again")
            return torch.from_numpy(arrays["generic"].astype(np.float32))
        return learner.predict(self.people.generic().image)

    def frames(self, cell: Cell, person: int) -> FaceBatch:
        """What a person is learnt from."""
        real = self.people.support(person, cell.k, cell.seed)
        if cell.images == "real":
            return real
        whose = (person + 1) % len(self.people.names) if cell.images == "wrong" else person
        made = self.synthetic(whose)
        return joined(real, made) if cell.images == "real+synthetic" else made

    def synthetic(self, person: int) -> FaceBatch:
        """Images made from a person's photo; kept in the study's folder."""
        file = self.out / "synthetic" / f"{person:03d}.safetensors"
        if not file.is_file():
            with locked(file.parent, "study", wait=True, name=f"{file.stem}.lock"):
                if not file.is_file():
                    self._synthesise(person, file)
        return load_faces(file)

    def _synthesise(self, person: int, file: Path) -> None:
        from lit_faces.persons.landmark_model import LandmarkModel
        from lit_faces.persons.synthesis import load_generator, synthesise

        if self._generator is None:
            self._generator = load_generator(self.study.generator), LandmarkModel()
        seed = derive_seed(self.recipe.seed, _SYNTHETIC, person) % 2**31
        generator, model = self._generator
        made = synthesise(generator, model, self.people.support(person, 1), self.study.synthetic, seed)
        save_faces(file, made)

    def _learner(self, cell: Cell) -> PersonalLearner:
        recipe = Recipe(**{**asdict(self.recipe), "seed": derive_seed(self.recipe.seed, cell.seed) % 2**31})
        return PersonalLearner(
            copy.deepcopy(self.detector), cell.method, recipe, self.study.capacity, self.study.fisher_samples
        )

    def _start(self, learner: PersonalLearner) -> None:
        fisher = None
        if self.fisher_file.is_file():
            fisher = {name: value.float() for name, value in load_weights(self.fisher_file)[0].items()}
        learner.start(self.people.others(), self.people.reference(), fisher, self._population or None)
        self._population = self._population or learner.population


def save_faces(path: Path, faces: FaceBatch) -> None:
    """Write a batch as one safetensors file, atomically."""
    card = {"kind": "faces", "subject": faces.subject, "source": faces.source}
    save_weights(path, {name: getattr(faces, name) for name in TENSORS}, card)


def load_faces(path: Path) -> FaceBatch:
    """Read what :func:`save_faces` wrote."""
    tensors, card = load_weights(path)
    count = len(tensors["image"]) if "image" in tensors else 0
    words: dict[str, Any] = {
        name: field_of(card, name, list, path, of=str, minimum=count, maximum=count) for name in ("subject", "source")
    }
    if missing := set(TENSORS) - set(tensors):
        raise ValueError(f"{path}: {sorted(missing)[0]} is missing: remove the file and run the study again")
    content: dict[str, Any] = {**{name: tensors[name] for name in TENSORS}, **words}
    return FaceBatch(**content)


def _write_npz(path: Path, readings: Mapping[str, Tensor], **facts: float) -> None:
    """Readings as float16 (steps of 0.002 at most), and a few numbers; atomically."""
    arrays: dict[str, Any] = {name: value.numpy().astype(np.float16) for name, value in readings.items()}
    arrays.update({name: np.asarray(value) for name, value in facts.items()})
    content = io.BytesIO()
    np.savez(content, **arrays)
    replace_file(path, content.getvalue())


def missing_steps(study: Study, out: Path, people: int) -> int:
    """Persons that are still to be learnt, over all cells."""
    done = sum(
        len([p for p in (out / "cells" / cell.key).glob("*.npz") if not p.name.startswith(".")])
        for cell in study.cells()
    )
    return people * len(study.cells()) - done
