"""Does the cells of a study: resumable, by any number of processes and machines that share the folder.

::

    out/
      start.npz                    what the generic detector reads
      fisher.safetensors           its Fisher information on whom it was trained on
      synthetic/<person>.safetensors   the person's set, made once
      cells/<cell>/<step>.npz      readings after each person
      cells/<cell>/state.safetensors   what a sequence must carry on

All files appear whole or not at all: a study that was killed redoes at most the person it was at. A cell is done by
whoever holds its lock.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lit_faces.core.fields import field as field_of
from lit_faces.core.fields import read_npz
from lit_faces.core.files import BusyError, locked, replacing
from lit_faces.core.sample import TENSORS, FaceBatch, joined
from lit_faces.core.seeding import derive_seed, generator_for
from lit_faces.core.shipped import PHOTO_HEAD
from lit_faces.core.weights import load_weights, save_weights
from lit_faces.fitting.landmark_model import LandmarkModel
from lit_faces.persons.generators import load_generator
from lit_faces.persons.leakage import refuse_shared
from lit_faces.persons.learner import PersonalLearner, save_fisher, shipped_fisher
from lit_faces.persons.maker import SetMaker
from lit_faces.persons.methods import find_method
from lit_faces.persons.painters import painter_of
from lit_faces.persons.recipes import Recipe
from lit_faces.persons.source import source_of_faces
from lit_faces.studies.description import Cell, Study
from lit_faces.tasks.au_detector import load_detector
from lit_faces.tasks.reenactment import ReenactmentGAN

_ORDER, _SYNTHETIC = 0x5EC, 0x5F7
_MAKING = "study"  # in the lock files


class Worker:
    """Does cells of a study in a folder.

    Args:
        study: what is asked.
        out: the study's folder.
    """

    def __init__(self, study: Study, out: Path) -> None:
        self.study, self.out = study, out
        self.people = study.stream()
        self.detector = load_detector(study.detector)
        self.recipe = Recipe(**study.recipe)
        self._generator: ReenactmentGAN | None = None
        self._population: dict[str, Tensor] = {}

    def prepare(self) -> None:
        """What cells share: rendered people, the generic detector's readings, its Fisher information.

        Raises:
            ValueError: more frames are asked than the people have, or a person is in two groups.
        """
        cells = self.study.cells()
        most = max(cell.k for cell in cells)
        if most > (known := getattr(self.people, "support_count", most)):
            raise ValueError(f"k = {most}: the stream has {known} frames of a person to learn from; raise its support")
        if len(self.people.names) < 2 and any(cell.images == "wrong" for cell in cells):
            raise ValueError("images: wrong needs a second person in the stream")
        self.people.prepare()
        self._check_groups()
        self.out.mkdir(parents=True, exist_ok=True)
        with locked(self.out, _MAKING, wait=True, name=".prepare.lock"):
            if not self.start_file.is_file():
                self._write_start()
            makers = [find_method(cell.method).penalty for cell in cells]
            if not self.fisher_file.is_file() and any(make and make(self.recipe).takes_fisher for make in makers):
                learner = self._learner(Cell("single", "ewc", 0, "real", 0))
                known_fisher = shipped_fisher(self.study.detector)
                found = known_fisher or learner.fisher(self.people.others(), 16 * self.study.fisher_samples)
                save_fisher(self.fisher_file, found)

    def _check_groups(self) -> None:
        """Nobody may be in two of the groups. A name means one person in the whole stream, whatever set it is from."""
        arriving = [self.people.test(person) for person in range(len(self.people.names))]
        arriving += [self.people.support(person) for person in range(len(self.people.names))]
        groups = {
            "the people who arrive": joined(*arriving),
            "the others, whom the detector was trained on": self.people.others(),
            "the generic people, who are never learnt": self.people.generic(),
            "the reference, which says what is usual": self.people.reference(),
        }
        refuse_shared({name: replace(faces, source=[""] * len(faces)) for name, faces in groups.items()})

    def _write_start(self) -> None:
        learner = self._learner(Cell("single", "none", 0, "real", 0))
        readings = {f"p{i}": learner.predict(self.people.test(i).image) for i in range(len(self.people.names))}
        _write_npz(self.start_file, {**readings, "generic": learner.predict(self.people.generic().image)})

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
        try:
            with locked(folder, _MAKING):
                order = self.order(cell)
                if all((folder / f"{step:03d}.npz").is_file() for step in range(len(order))):
                    return
                if cell.protocol == "sequence":
                    self._sequence(cell, folder, order)
                else:
                    self._singles(cell, folder, order)
        except BusyError:
            return

    def _sequence(self, cell: Cell, folder: Path, order: list[int]) -> None:
        learner, state = self._learner(cell), folder / "state.safetensors"
        if state.is_file():
            learner.load(state)
        else:
            self._start(learner)
        names = self.people.names
        for step in range(len(learner.learnt), len(order)):
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
            learner, frames = self._learner(cell), self.frames(cell, person)
            self._start(learner)
            began = time.monotonic()
            learner.learn(names[person], frames, consolidate=False)
            spent = time.monotonic() - began
            own = learner.predict(self.people.test(person).image, names[person])
            readings = {f"p{person}": own, "generic": self._strangers(learner)}
            _write_npz(file, readings, person=person, seconds=spent)

    def _strangers(self, learner: PersonalLearner) -> Tensor:
        """Readings of people who are never learnt; known already where the method leaves the detector alone."""
        if learner.how.leaves_others:
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
        """The set that is made from a person's photo; kept in the study's folder. It may be empty: nothing passed."""
        file = self.out / "synthetic" / f"{person:03d}.safetensors"
        if not file.is_file():
            with locked(file.parent, _MAKING, wait=True, name=f"{person:03d}.lock"):
                if not file.is_file():
                    save_faces(file, self._make_set(person))
        return load_faces(file)

    def _make_set(self, person: int) -> FaceBatch:
        """As `generate` makes it: the photo read by the detector, planned, generated, verified, labelled."""
        settings, name = self.study.settings(), self.people.names[person]
        if self._generator is None and settings.generator != PHOTO_HEAD:
            self._generator = load_generator(settings.generator)
        photo = self.people.support(person, 1)
        try:
            source = source_of_faces(photo, LandmarkModel(), self.detector.predict_au, self.study.source_au, name)
        except ValueError as error:  # `generate` refuses such a photo, too
            print(f"{name}: no set: {error}")
            return photo.select(slice(0, 0))
        plan = self.study.set_plan(derive_seed(self.recipe.seed, _SYNTHETIC, person) % 2**31)
        source, model = replace(source, name=name), LandmarkModel()
        size = photo.image.shape[-1]  # as the people's frames: both are learnt from together
        painter = painter_of(source, self._generator or settings.generator, model, size, settings.device)
        maker = SetMaker(source, plan, settings, painter)
        attempts, kept, _ = maker.make(list(range(len(plan))))
        return maker.batch(attempts, kept)

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
    with replacing(path) as temporary:
        np.savez(temporary, **arrays)


def missing_steps(study: Study, out: Path, people: int) -> int:
    """Persons that are still to be learnt, over all cells."""
    done = sum(
        len([p for p in (out / "cells" / cell.key).glob("*.npz") if not p.name.startswith(".")])
        for cell in study.cells()
    )
    return people * len(study.cells()) - done


def set_sizes(out: Path) -> dict[str, int]:
    """Pictures of each person's set that was made, by the person's number."""
    return {file.stem: len(load_faces(file)) for file in sorted((out / "synthetic").glob("[0-9]*.safetensors"))}
