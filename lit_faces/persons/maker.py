"""Makes the pictures of a person's set: asks the painter, has each picture judged, labels what is kept.

The painter is a learnt generator or the photograph itself (:mod:`lit_faces.persons.painters`). Each slot of the plan is
asked up to ``attempts`` times, until a picture passes. What comes out depends on (source,
plan, settings, weights) alone. :mod:`lit_faces.persons.sets` keeps it on disk.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as functional
from torch import Tensor

from lit_faces.core.facs import occurrence
from lit_faces.core.geometry import resize_landmarks
from lit_faces.core.landmarks import FaceAnalyser
from lit_faces.core.options import at_least, one_of
from lit_faces.core.sample import FaceBatch
from lit_faces.core.shipped import PHOTO_HEAD, weights_code
from lit_faces.fitting.landmark_model import LandmarkModel
from lit_faces.models.detector import load_network
from lit_faces.persons.painters import NETWORK_SIZE, PHOTO_SIZE, SIZES, Painter, painter_of
from lit_faces.persons.plan import Plan
from lit_faces.persons.source import PersonSource
from lit_faces.persons.verify import LABELS, Tolerances, Verdicts, Verifier, labels_of

_BATCH = 20


@dataclass(frozen=True)
class Settings:
    """How a set is made.

    Attributes:
        generator: ``photohead``, weights of a generator, or ``packaged``.
        judge: weights of the judge, or ``packaged``.
        attempts: how often a slot is asked, at most.
        labels: ``asked``, ``achieved`` or ``agreed``, see :func:`lit_faces.persons.verify.labels_of`.
        verify: whether pictures are judged at all; without it every first attempt is kept, labelled as asked.
        tolerances: what is let through.
        device: where the generator and the judge run.
        size: side of a photo head's pictures, pixels; None: 256. A learnt generator's are as large as its source.
    """

    generator: str = "packaged"
    judge: str = "packaged"
    attempts: int = 8
    labels: str = "agreed"
    verify: bool = True
    tolerances: Tolerances = field(default_factory=Tolerances)
    device: str = "cpu"
    size: int | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be.

        Raises:
            ValueError: names the option.
        """
        at_least("attempts", self.attempts, 1)
        one_of("labels", self.labels, LABELS)
        if self.size is None:
            return
        if self.generator == PHOTO_HEAD and not SIZES[0] <= self.size <= SIZES[1]:
            raise ValueError(f"--size: expected {SIZES[0]} to {SIZES[1]} pixels, got {self.size}")
        if self.generator != PHOTO_HEAD and self.size != NETWORK_SIZE:
            raise ValueError(
                f"--size: a learnt generator makes pictures of {NETWORK_SIZE} pixels, got {self.size}; leave it out, "
                f"or take --generator {PHOTO_HEAD}"
            )

    def pixels(self, source: PersonSource) -> int:
        """Side of the pictures that are made of a source."""
        if self.generator != PHOTO_HEAD:
            return int(source.faces.image.shape[-1])
        return PHOTO_SIZE if self.size is None else self.size


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
    uncertain: str = ""

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
        painter: in place of the one that ``settings.generator`` names.
        judge: in place of ``settings.judge``: pictures to intensities.
        analyser: dlib, where it is loaded already.
    """

    def __init__(
        self,
        source: PersonSource,
        plan: Plan,
        settings: Settings,
        painter: Painter | None = None,
        judge: Callable[[Tensor], Tensor] | None = None,
        analyser: FaceAnalyser | None = None,
    ) -> None:
        self.source, self.plan, self.settings = source, plan, settings
        self.generator_code = weights_code("generator", settings.generator)
        if painter is None:
            painter = painter_of(source, settings.generator, LandmarkModel(), settings.pixels(source), settings.device)
        self.painter = painter
        self.verifier: Verifier | None = None
        if settings.verify:
            if judge is None:
                judge = load_network(settings.judge).to(settings.device).predict_au
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
        made = self.painter.paint(pose, au)
        lead = self.plan.lead[slots]
        if self.verifier is None:
            unknown = torch.full((len(slots),), float("nan"))
            verdicts = Verdicts(au, torch.zeros(len(slots)), unknown, unknown, [""] * len(slots))
        else:
            small, landmarks = self._as_judged(made.images, made.landmarks)
            verdicts = self.verifier(small, landmarks, au, lead, made.source)
        found = [
            Attempt(
                slot, self.plan.cell[slot], number, int(made.source[k]), _rounded(pose[k]), _rounded(au[k]),
                _rounded(verdicts.achieved[k]), round(float(verdicts.nme[k]), 4), round(float(verdicts.distance[k]), 4),
                made.refused[k] or verdicts.reason[k], made.uncertain[k],
            )
            for k, slot in enumerate(slots)
        ]  # fmt: skip
        return made.images, found

    def _as_judged(self, images: Tensor, landmarks: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures as large as the source's crops: the judge and the limits were made for that size."""
        size, own = self.source.faces.image.shape[-1], images.shape[-1]
        if size == own:
            return images, landmarks
        small = functional.interpolate(images.float(), (size, size), mode="bilinear", antialias=True)
        return small.round().clamp(0, 255).to(torch.uint8), resize_landmarks(landmarks, size / own)

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
        return FaceBatch(
            image=torch.stack([kept[slot] for slot in slots]),
            landmarks=torch.cat(
                [self.painter.landmarks(a.source, pose[k : k + 1], asked[k : k + 1]) for k, a in enumerate(good)]
            ),
            au_intensity=labels,
            au_occurrence=occurrence(labels),
            emotion=self.plan.emotion[slots],
            pose=pose,
            subject=[self.source.name] * len(slots),
            source=[f"generated/{self.generator_code}"] * len(slots),
            frame=torch.tensor(slots),
        )


def _rounded(values: Tensor) -> list[float]:
    return [round(float(value), 3) for value in values]
