"""Generative replay: remember people by one picture each, and show them again with other poses and AUs.

photo + landmarks -> LandmarkModel.fit -> plan of poses and AUs -> retargeted landmarks -> generator -> FaceBatch
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from lit_faces.continual.replay import FaceMemory
from lit_faces.core.facs import occurrence
from lit_faces.core.sample import FaceBatch, joined
from lit_faces.fitting.landmark_model import LandmarkModel
from lit_faces.fitting.retarget import fit_photo
from lit_faces.persons.generators import load_generator
from lit_faces.persons.painters import picture
from lit_faces.persons.plan import Plan, balanced
from lit_faces.persons.source import PersonSource
from lit_faces.tasks.reenactment import ReenactmentGAN


def shown_anew(
    generator: ReenactmentGAN, model: LandmarkModel, photo: FaceBatch, plan: Plan, slots: Sequence[int]
) -> FaceBatch:
    """Pictures of a person as slots of a plan ask, as a person's set has them; nobody verifies them.

    Args:
        generator: of :func:`load_generator`.
        model: the landmark model.
        photo: one face with its landmarks; AUs that are not coded are estimated by the landmark model.
        plan: what to ask.
        slots: which of it.

    Returns:
        Faces whose labels are what was asked.

    Raises:
        ValueError: not exactly one photo, or landmarks that cannot be fitted.
    """
    if len(photo) != 1:
        raise ValueError(f"photo: expected one face, got {len(photo)}")
    fit = fit_photo(model, photo.landmarks[0], photo.image.shape[-1], photo.au_intensity[0])
    faces = replace(photo, landmarks=fit.landmarks[None])
    pose, au = plan.ask(slots)
    person = PersonSource(photo.subject[0], "photo", "", faces, [fit])
    images, landmarks, _ = picture(generator, model, person, pose, au)
    return FaceBatch(
        image=images,
        landmarks=landmarks,
        au_intensity=au,
        au_occurrence=occurrence(au),
        emotion=plan.emotion[list(slots)],
        pose=pose,
        subject=list(photo.subject) * len(slots),
        source=[f"generated/{generator.generator.name}"] * len(slots),
        frame=torch.tensor(list(slots)),
    )


class GenerativeMemory:
    """Remembers people by one picture each, and shows them again with other poses and AUs (generative replay).

    In place of :class:`lit_faces.continual.replay.FaceMemory` where a lab must not keep more faces than it has to.

    Args:
        people: pictures that are kept of people who came together, by reservoir sampling, and as many again of those
            who came one by one; the latter are half of what is shown.
        pool: faces that are generated at a time.
        generator: see :func:`load_generator`.
        seed: of what is kept and shown.
    """

    def __init__(self, people: int = 200, pool: int = 128, generator: str = "packaged", seed: int = 0) -> None:
        self.people, self.pool, self.generator, self.seed = people, pool, generator, seed
        self.photos, self.learnt = (FaceMemory(people, "reservoir", seed + number) for number in (0, 1))
        self._shown: FaceBatch | None = None

    def __len__(self) -> int:
        return len(self.photos) + len(self.learnt)

    def add(self, faces: FaceBatch) -> None:
        """Keep the most neutral picture of each person.

        Raises:
            ValueError: no face with known AUs and landmarks.
        """
        active = faces.au_intensity.nan_to_num(0.0).sum(1)
        usable = faces.au_intensity.isfinite().any(1) & faces.landmarks.isfinite().flatten(1).all(1)
        best: dict[str, int] = {}
        for row, subject in enumerate(faces.subject):
            if bool(usable[row]) and (subject not in best or active[row] < active[best[subject]]):
                best[subject] = row
        if not best:
            raise ValueError("generative replay: no face with known AUs and landmarks (x0, y0 ... in labels.csv)")
        memory = self.learnt if len(set(faces.subject)) == 1 else self.photos
        memory.add(faces.select(torch.tensor(list(best.values()), dtype=torch.int64)))
        self._shown = None

    def sample(self, n: int, generator: torch.Generator) -> FaceBatch:
        """``n`` generated faces of remembered people.

        Raises:
            ValueError: nobody is remembered.
        """
        if self._shown is None:
            self._shown = self._generate(generator)
        return self._shown.select(torch.randint(len(self._shown), (n,), generator=generator))

    def _generate(self, draws: torch.Generator) -> FaceBatch:
        network, model = load_generator(self.generator), LandmarkModel()
        groups = [memory for memory in (self.photos, self.learnt) if len(memory)]
        if not groups:
            raise ValueError("the memory is empty: add people before drawing")
        photos = joined(*(memory.sample(max(1, self.pool // len(groups)), draws) for memory in groups))
        plan = balanced(len(photos), int(torch.randint(2**31, (), generator=draws)))
        slots = torch.randperm(len(photos), generator=draws).tolist()  # both groups meet all of the plan
        return joined(
            *(shown_anew(network, model, photos.select(slice(k, k + 1)), plan, [slot]) for k, slot in enumerate(slots))
        )

    def forget(self, subject: str) -> int:
        """Erase a person's picture."""
        self._shown = None
        return self.photos.forget(subject) + self.learnt.forget(subject)

    def tensors(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """As :meth:`FaceMemory.tensors`; generated faces are made anew."""
        stored: dict[str, Tensor] = {}
        plain: dict[str, Any] = {
            "people": self.people, "pool": self.pool, "generator": self.generator, "seed": self.seed,
        }  # fmt: skip
        for name, memory in (("photos", self.photos), ("learnt", self.learnt)):
            tensors, plain[name] = memory.tensors()
            stored.update({f"{name}.{key}": value for key, value in tensors.items()})
        return stored, plain

    @classmethod
    def from_tensors(cls, stored: Mapping[str, Tensor], plain: Mapping[str, Any]) -> GenerativeMemory:
        """The memory of :meth:`tensors`."""
        memory = cls(plain["people"], plain["pool"], plain["generator"], plain["seed"])
        for name in ("photos", "learnt"):
            own = {key.partition(".")[2]: value for key, value in stored.items() if key.startswith(f"{name}.")}
            setattr(memory, name, FaceMemory.from_tensors(own, plain[name]))
        return memory
