"""A detector that learns people one after another, and all that it must carry from one to the next.

    start(others, reference)       who was known before: fills the memory, consolidates the penalty
    learn(name, frames)            one more person, by the method
    predict(images, name)          what it reads on that person (None: on anybody)
    save(path) / load(...)         detector, memory, penalty and calibrations in one safetensors file

``lit_faces.adapt`` does this for one person a day, ``lit_faces.study`` for many people, methods and seeds.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lit_faces.continual.calibration import PersonCalibration, neutral_statistics
from lit_faces.continual.ewc import fisher_diagonal
from lit_faces.continual.replay import FaceMemory
from lit_faces.core.facs import MAX_INTENSITY
from lit_faces.core.fields import field, shown
from lit_faces.core.sample import FaceBatch
from lit_faces.core.seeding import derive_seed, generator_for
from lit_faces.core.shipped import FISHER
from lit_faces.core.weights import check_card, load_state, load_weights, save_weights
from lit_faces.models.adapters import Delta, detector_code, fold_in, worn
from lit_faces.models.reference import Beside, References
from lit_faces.persons.generative_replay import GenerativeMemory
from lit_faces.persons.methods import find_method
from lit_faces.persons.recipes import Recipe, Step, fast_bfloat16, learn_delta, learn_person, nothing
from lit_faces.tasks.au_detector import AUDetector

_KIND = "personal_memory"
_KINDS: dict[str, type[nn.Module]] = {
    "head": nn.Linear,
    "delta": Delta,
    "calibration": PersonCalibration,
    "references": Beside,
}
_FISHER = 0xF15


def shipped_fisher(detector: str) -> dict[str, Tensor] | None:
    """Fisher information of the ``generic`` detector on people it was trained on; None for other detectors."""
    if detector != "generic" or not FISHER.is_file():
        return None
    return {name: value.float() for name, value in load_weights(FISHER)[0].items()}


def save_fisher(path: Path | str, fisher: Mapping[str, Tensor], **card: Any) -> None:
    """Write Fisher information as bfloat16 (three digits are plenty for an importance), atomically."""
    save_weights(path, {name: value.bfloat16() for name, value in fisher.items()}, {"kind": "fisher", **card})


def _of_references(detector: AUDetector) -> dict[str, Tensor]:
    """Fisher information of the reference head: none, for it plays no part where a face is read alone."""
    named = detector.named_parameters()
    return {name: torch.zeros_like(value) for name, value in named if name.startswith("reference.")}


class PersonalLearner:
    """One detector, one method, one person after another.

    Fine-tuning and its kin change the detector itself. Calibrations, ``ridge`` and deltas are kept for each person
    apart, and serve that person only, so that by construction nobody else notices.

    Args:
        detector: the generic detector; it is not changed, ``self.detector`` is.
        method: name or class path, see :func:`~lit_faces.persons.methods.find_method`.
        recipe: steps and strengths.
        capacity: of the memory, faces or bytes ("64MB").
        fisher_samples: frames of a person that the Fisher information is taken from.

    Raises:
        ValueError: no such method.
    """

    def __init__(
        self,
        detector: AUDetector,
        method: str = "ewc_replay",
        recipe: Recipe | None = None,
        capacity: int | str = 600,
        fisher_samples: int = 12,
    ) -> None:
        self.detector, self.method, self.recipe = detector, method, recipe or Recipe()
        self.capacity, self.fisher_samples = capacity, fisher_samples
        self.how = how = find_method(method)
        self.memory: FaceMemory | GenerativeMemory | None = None
        if how.replay:
            seed = self.recipe.seed
            if how.generative:
                self.memory = GenerativeMemory(seed=seed)
            elif how.joint:  # the upper bound keeps everything
                self.memory = FaceMemory(10_000_000, "reservoir", seed)
            else:
                self.memory = FaceMemory(capacity, "balanced", seed)
        self.penalty = None if how.penalty is None else how.penalty(self.recipe)
        self.generic = copy.deepcopy(detector) if how.replay and not how.joint else None
        self.personal: dict[str, nn.Module] = {}
        self.learnt: list[str] = []
        self.population: dict[str, Tensor] = {}

    # -- learning ------------------------------------------------------------------------------------------------

    def start(
        self,
        others: FaceBatch,
        reference: FaceBatch | None = None,
        fisher: Mapping[str, Tensor] | None = None,
        population: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Remember whom the detector was trained on.

        Args:
            others: their frames; the memory starts with them.
            reference: frames of people it was *not* trained on, with neutral ones among them: what calibrations take
                for usual. ``others`` by default.
            fisher: Fisher information on ``others`` (:meth:`fisher`), where it was computed before.
            population: :attr:`population` of an earlier learner of the same detector and reference.
        """
        if self.memory is not None:
            self.memory.add(others)
        if self.penalty is not None and self.penalty.at_start:
            self._consolidate(others, 8 * self.fisher_samples, fisher)
            if self.penalty.after_each:  # the people before the first count for so many
                for value in self.penalty.importance.values():
                    value *= self.recipe.generic_weight
        if self.how.population:
            self.population = dict(population or self._studied(others if reference is None else reference))

    def _consolidate(self, faces: FaceBatch, samples: int, fisher: Mapping[str, Tensor] | None = None) -> None:
        """Let the penalty remember what was learnt, from a few of the faces, or from what is known of them."""
        if self.penalty is None:
            return
        self.detector.requires_grad_(True)
        if fisher is not None and self.penalty.takes_fisher:
            self.penalty.add_task(self.detector, {**_of_references(self.detector), **fisher})
        else:
            some = self._some(faces, samples).to(self.detector.device)
            self.penalty.consolidate(self.detector, some.image_float(), some.au_intensity)
        self.detector.requires_grad_(False)

    def _some(self, faces: FaceBatch, samples: int) -> FaceBatch:
        """A few of the faces, drawn by the recipe's seed."""
        order = torch.randperm(len(faces), generator=generator_for(self.recipe.seed, _FISHER, len(self.learnt)))
        return faces.select(order[:samples])

    def fisher(self, faces: FaceBatch, samples: int | None = None) -> dict[str, Tensor]:
        """Exact Fisher information of the intensities (Gaussian) on a few of the faces, drawn by the recipe's seed."""
        some = self._some(faces, self.fisher_samples if samples is None else samples)
        self.detector.requires_grad_(True)
        found = fisher_diagonal(self.detector, some.image_float().to(self.detector.device), "gaussian")
        self.detector.requires_grad_(False)
        return found

    def learn(
        self,
        name: str,
        frames: FaceBatch,
        accelerator: str = "cpu",
        consolidate: bool = True,
        zero: Tensor | None = None,
        references: References | None = None,
        each_step: Step = nothing,
    ) -> None:
        """Learn one more person.

        Args:
            name: of the person; whoever is learnt again is learnt on top.
            frames: labelled frames, the photo first. Zero-shot methods do not read the labels. No frames: nothing is
                learnt.
            accelerator: of Lightning.
            consolidate: keep what the next person's learning needs (memory, Fisher information); the last person's
                may go without.
            zero: what the person's resting face reads too much (19,), grades; a delta begins from there.
            references: of the person, for a delta that is learnt beside them; by default the first of ``frames``.
            each_step: called after each step of methods that learn by gradient.
        """
        if len(frames):
            frames = replace(frames, subject=[name] * len(frames))
            if self.how.fit is not None:
                self.personal[name] = self.how.fit(self, frames)
            elif self.how.trains == "delta":
                recipe = replace(self.recipe, seed=derive_seed(self.recipe.seed, len(self.learnt)) % 2**31)
                self.personal[name] = learn_delta(
                    self.detector, frames, self.how, recipe, self.memory, self.penalty, accelerator, zero, references,
                    each_step,
                )  # fmt: skip
            elif not self.how.leaves_others:
                self._learn_by_gradient(frames, accelerator, consolidate, each_step)
        self.learnt = [*(other for other in self.learnt if other != name), name]

    def _learn_by_gradient(self, frames: FaceBatch, accelerator: str, consolidate: bool, each_step: Step) -> None:
        recipe = replace(self.recipe, seed=derive_seed(self.recipe.seed, len(self.learnt)) % 2**31)
        self.detector = learn_person(
            self.detector,
            frames,
            self.how,
            recipe,
            self.memory,
            self.penalty,
            accelerator,
            self.generic,
            self.learnt,
            each_step,
        )
        self.detector.requires_grad_(False)
        if not consolidate:
            return
        if self.memory is not None:
            self.memory.add(frames if self.how.joint else self._worth_keeping(frames))
        if self.penalty is not None and self.penalty.after_each:
            self._consolidate(frames, self.fisher_samples)

    def _worth_keeping(self, frames: FaceBatch) -> FaceBatch:
        """Some frames of a person, balanced over AUs and grades: one with many must not drive others out."""
        if len(frames) <= self.recipe.keep:
            return frames
        some = FaceMemory(self.recipe.keep, "balanced", derive_seed(self.recipe.seed, len(self.learnt)) % 2**31)
        some.add(frames)
        return some.faces()

    # -- calibrations --------------------------------------------------------------------------------------------

    def _studied(self, reference: FaceBatch) -> dict[str, Tensor]:
        """What is usual: readings on everybody, and on neutral faces."""
        found = self.read(reference.image)
        neutral = (reference.au_intensity.nan_to_num(0.0) == 0).all(1) & reference.au_intensity.isfinite().any(1)
        if not bool(neutral.any()):
            raise ValueError(
                f"method {self.method}: the reference has no neutral frame (all coded AUs 0) among its {len(found)}; "
                "add some, or choose a method that learns from labels"
            )
        rows = neutral.nonzero()[:, 0]
        mean, between, within = neutral_statistics(found[rows], [reference.subject[i] for i in rows.tolist()])
        return {
            "mean": found.mean(0),
            "std": found.std(0),
            "neutral": mean,
            "between": between,
            "within": within,
        }

    # -- reading -------------------------------------------------------------------------------------------------

    def predict(self, images: Tensor, name: str | None = None) -> Tensor:
        """Calibrated intensities of pictures uint8 (B, 3, H, W): float32 (B, 19), 0..5.

        Args:
            images: of one person.
            name: who it is, if it is somebody who was learnt.
        """
        mine = self.personal.get(name) if name is not None else None
        if isinstance(mine, nn.Linear):
            features = []
            with torch.inference_mode(), self._autocast():
                for chunk in images.split(64):
                    features.append(self.detector.features(chunk.to(self.detector.device).float() / 127.5 - 1.0))
            found = torch.cat(features).float()
            raw = MAX_INTENSITY * mine.to(found.device)(found).sigmoid()
            return self.detector.calibration(raw).cpu()
        if isinstance(mine, Delta):
            with worn(self.detector, mine):
                return self.read(images)
        if isinstance(mine, Beside):
            self.detector.set_references(mine.references)
            try:
                return self.read(images)
            finally:
                self.detector.set_references(None)
        found = self.read(images)
        return found if mine is None else mine(found)

    def for_person(self, name: str) -> AUDetector:
        """A copy of the detector with the person's own head, calibration or delta built in."""
        detector, mine = copy.deepcopy(self.detector), self.personal.get(name)
        if isinstance(mine, nn.Linear):
            detector.head.linear.load_state_dict(mine.state_dict())
        elif isinstance(mine, Delta):
            fold_in(detector, mine)
        elif isinstance(mine, Beside):
            detector.set_references(mine.references)
        elif isinstance(mine, PersonCalibration):  # its clamp to 0..5 before the second line is left out
            scale, shift = detector.calibration.scale, detector.calibration.shift
            mine = copy.deepcopy(mine).to(scale.device)
            detector.calibration.shift = mine.scale * shift + mine.shift
            detector.calibration.scale = mine.scale * scale
        return detector

    @torch.inference_mode()
    def read(self, images: Tensor) -> Tensor:
        """What the shared detector reads, calibrated: pictures uint8 (B, 3, H, W) -> float32 (B, 19), 0..5."""
        with self._autocast():
            return self.detector.predict(images).intensity.float().clone()

    def _autocast(self) -> torch.autocast:
        fast = self.recipe.precision != "32-true" and fast_bfloat16(self.detector.device.type)
        return torch.autocast(self.detector.device.type, dtype=torch.bfloat16, enabled=fast)

    # -- keeping -------------------------------------------------------------------------------------------------

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors by name, and plain data: everything but what the constructor was given."""
        tensors = {f"detector.{k}": v for k, v in self.detector.state_dict().items()}
        plain: dict[str, Any] = {
            "kind": _KIND,
            "method": self.method,
            "recipe": asdict(self.recipe),
            "capacity": self.capacity,
            "fisher_samples": self.fisher_samples,
            "learnt": self.learnt,
            "personal": {},
        }
        if self.memory is not None:
            stored, plain["memory"] = self.memory.tensors()
            tensors.update({f"memory.{k}": v for k, v in stored.items()})
        if self.generic is not None:
            tensors.update({f"generic.{k}": v for k, v in self.generic.state_dict().items()})
        if self.penalty is not None:
            tensors.update({f"penalty.{k}": torch.as_tensor(v) for k, v in self.penalty.state_dict().items()})
        tensors.update({f"population.{k}": v for k, v in self.population.items()})
        for number, (name, module) in enumerate(self.personal.items()):
            plain["personal"][name] = [number, next(kind for kind, cls in _KINDS.items() if isinstance(module, cls))]
            tensors.update({f"personal.{number}.{k}": v for k, v in module.state_dict().items()})
        return tensors, plain

    def save(self, path: Path | str, **card: Any) -> None:
        """Write :meth:`state` as one safetensors file, atomically."""
        tensors, plain = self.state()
        save_weights(path, tensors, {**plain, **card})

    def load(self, path: Path | str) -> dict[str, Any]:
        """Take back what :meth:`save` wrote, into a learner of the same detector architecture and method.

        Returns:
            The card.

        Raises:
            FileNotFoundError: no such file.
            ValueError: another kind of file, another method, or another detector.
        """
        tensors, card = load_weights(path)
        check_card(
            path, card, _KIND, "a memory written by lit_faces.adapt", "give the memory.safetensors of an adaptation"
        )
        if (method := field(card, "method", str, path)) != self.method:
            raise ValueError(f"{path}: was kept for the method {method!r}, not {self.method!r}: use that one")
        parts: dict[str, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            part, _, rest = key.partition(".")
            parts.setdefault(part, {})[rest] = value
        own = self.detector.state_dict()
        theirs = parts.get("detector", {})
        if own.keys() != theirs.keys() or any(own[k].shape != theirs[k].shape for k in own):
            raise ValueError(f"{path}: was kept for a detector of another architecture: give the detector it goes with")
        load_state(self.detector, theirs, str(path))
        if self.generic is not None:
            load_state(self.generic, parts.get("generic", {}), f"{path}: generic")
        self.learnt, self.population = field(card, "learnt", list, path, of=str), parts.get("population", {})
        if self.memory is not None:
            kept = field(card, "memory", dict, path)
            try:
                self.memory = type(self.memory).from_tensors(parts.get("memory", {}), kept)
            except (ValueError, KeyError, TypeError, RuntimeError) as error:
                raise ValueError(f"{path}: memory: {error}") from error
        if self.penalty is not None:
            try:
                self.penalty.load_state_dict(parts.get("penalty", {}))
            except (ValueError, KeyError, TypeError, RuntimeError) as error:
                raise ValueError(f"{path}: penalty: {error}") from error
        self.personal = {
            name: _personal_part(parts.get("personal", {}), entry, f"{path}: personal: {name}", self.detector)
            for name, entry in field(card, "personal", dict, path, of=list).items()
        }
        return card


def _personal_part(tensors: Mapping[str, Tensor], entry: list[Any], where: str, detector: AUDetector) -> nn.Module:
    """A person's own part, as :meth:`PersonalLearner.state` names it: its number and its kind.

    Raises:
        ValueError: there is no such part, or it is of another shape.
    """
    number, kind = (*entry, None, None)[:2]
    state = {k.partition(".")[2]: v for k, v in tensors.items() if k.startswith(f"{number}.")}
    weight = state.get("weight")
    if kind not in _KINDS or (kind == "head" and (weight is None or weight.dim() != 2)):
        raise ValueError(
            f"{where}: expected a head, a calibration, a delta or references, found {shown(kind)}: damaged?"
        )
    if kind == "delta":
        delta = Delta.of_state(state, detector_code(detector), where)
        delta.check(detector, delta.detector, where)
        return delta
    if kind == "references":
        return Beside(References.checked(state.get("features"), state.get("intensity"), where))
    module = nn.Linear(weight.shape[1], weight.shape[0]) if weight is not None else PersonCalibration()
    load_state(module, state, where)
    return module.requires_grad_(False)
