"""Labelled pictures of a person, made from one photo by the reenactment generator.

photo + landmarks -> LandmarkModel.fit -> plan of poses and AUs -> retargeted landmarks -> generator -> FaceBatch
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lit_faces.continual.replay import FaceMemory
from lit_faces.core.facs import AU_INDEX, EMOTION_PROTOTYPES, MAX_INTENSITY, NUM_AUS, occurrence
from lit_faces.core.sample import FaceBatch, joined, to_uint8
from lit_faces.core.seeding import generator_for
from lit_faces.models.generators.fused import FusedGenerator
from lit_faces.persons.landmark_model import LandmarkModel
from lit_faces.persons.plan import plausible
from lit_faces.persons.retarget import fit_photo, retarget
from lit_faces.tasks.reenactment import ReenactmentGAN

_PLAN = 0x91A7
_BATCH = 16
_YAW, _PITCH, _ROLL = 22.0, 8.0, 4.0  # degrees: limit, and standard deviations


def load_generator(path: Path | str = "packaged") -> ReenactmentGAN:
    """A fused generator for use, not for training.

    Args:
        path: file of ``export_weights``; ``packaged`` for the one that ships with lit_faces.

    Raises:
        FileNotFoundError: no such file.
        ValueError: weights of another generator.
    """
    init = "base" if str(path) == "packaged" else str(path)
    task = ReenactmentGAN(FusedGenerator(), init=init, critic=None, judge=None, export=False)
    task.load_initial_weights()
    return task.eval()


def sample_plan(count: int, seed: int, focus: tuple[int, ...] = (6, 17)) -> tuple[Tensor, Tensor]:
    """Poses and AU intensities to ask for: a tenth neutral, the others with AUs in turn and 0..2 more, or prototypes.

    Each AU leads equally often (``focus`` twice as often) and over all intensities alike; a fifth are emotion
    prototypes at any strength.

    Args:
        count: how many.
        seed: of the plan.
        focus: AUs of double weight.

    Returns:
        Yaw, pitch, roll in degrees (count, 3), and intensities (count, 19), 0..5.
    """
    draws = generator_for(seed, _PLAN)
    pose = torch.stack(
        [
            (2 * torch.rand(count, generator=draws) - 1) * _YAW,
            (_PITCH * torch.randn(count, generator=draws)).clamp(-2 * _PITCH, 2 * _PITCH),
            (_ROLL * torch.randn(count, generator=draws)).clamp(-2 * _ROLL, 2 * _ROLL),
        ],
        1,
    )
    leads = torch.tensor([*range(NUM_AUS), *(AU_INDEX[number] for number in focus)])
    order = torch.cat([leads[torch.randperm(len(leads), generator=draws)] for _ in range(-(-count // len(leads)))])
    kind = torch.rand(count, generator=draws)
    level = 0.5 + 4.5 * torch.rand(count, NUM_AUS, generator=draws)
    emotions = [name for name, units in EMOTION_PROTOTYPES.items() if units]
    au = torch.zeros(count, NUM_AUS)
    for row in range(count):
        if kind[row] < 0.1:
            continue
        if kind[row] < 0.3:
            name = emotions[int(torch.randint(len(emotions), (), generator=draws))]
            strength = 0.3 + 0.9 * float(torch.rand((), generator=draws))
            for number, value in EMOTION_PROTOTYPES[name].items():
                au[row, AU_INDEX[number]] = value * strength
            continue
        others = torch.randperm(NUM_AUS, generator=draws)[: int(torch.randint(3, (), generator=draws))]
        for column in {int(order[row]), *others.tolist()}:
            au[row, column] = level[row, column]
    return pose, plausible(au.clamp(0.0, MAX_INTENSITY))


@torch.inference_mode()
def synthesise(generator: ReenactmentGAN, model: LandmarkModel, photo: FaceBatch, count: int, seed: int) -> FaceBatch:
    """``count`` labelled pictures of a person.

    Args:
        generator: of :func:`load_generator`.
        model: the landmark model.
        photo: one face, with its landmarks; AUs that are not coded are estimated by the landmark model, for the
            landmarks only.
        count: pictures.
        seed: of the plan.

    Returns:
        Faces whose labels are what was asked; nobody has verified them.

    Raises:
        ValueError: not exactly one photo, or landmarks that cannot be fitted.
    """
    if len(photo) != 1:
        raise ValueError(f"photo: expected one face, got {len(photo)}")
    face = fit_photo(model, photo.landmarks[0], photo.image.shape[-1], photo.au_intensity[0])
    pose, au = sample_plan(count, seed)
    landmarks = retarget(model, face, pose, au)
    images = []
    for start in range(0, count, _BATCH):
        pick = slice(start, start + _BATCH)
        source = photo.select(torch.zeros(len(au[pick]), dtype=torch.int64))
        images.append(to_uint8(generator.reenact(source, landmarks[pick], au[pick]).image).cpu())
    return FaceBatch(
        image=torch.cat(images),
        landmarks=landmarks,
        au_intensity=au,
        au_occurrence=occurrence(au),
        emotion=torch.full((count,), -1),
        pose=pose,
        subject=[photo.subject[0] if photo.subject else ""] * count,
        source=["generated/fused"] * count,
        frame=torch.arange(count),
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
        made = []
        for memory in groups:
            photos = memory.sample(max(1, self.pool // len(groups)), draws)
            for row, seed in enumerate(torch.randint(2**31, (len(photos),), generator=draws).tolist()):
                made.append(synthesise(network, model, photos.select(slice(row, row + 1)), 1, seed))
        return joined(*made)

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
