"""Makes the pictures of a person's set: asks the generator, has each picture judged, labels what is kept.

Each slot of the plan is asked up to ``attempts`` times, until a picture passes. What comes out depends on (source,
plan, settings, weights) alone. :mod:`lit_faces.persons.sets` keeps it on disk.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lit_faces.core.facs import occurrence
from lit_faces.core.landmarks import FaceAnalyser
from lit_faces.core.options import at_least, one_of
from lit_faces.core.sample import FaceBatch, to_uint8
from lit_faces.core.shipped import weights_code
from lit_faces.fitting.landmark_model import LandmarkModel
from lit_faces.fitting.retarget import FittedFace, retarget
from lit_faces.persons.generators import load_generator
from lit_faces.persons.plan import Plan
from lit_faces.persons.source import PersonSource
from lit_faces.persons.verify import LABELS, Tolerances, Verdicts, Verifier, labels_of
from lit_faces.tasks.au_detector import load_detector
from lit_faces.tasks.reenactment import ReenactmentGAN

_BATCH = 20


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
        at_least("attempts", self.attempts, 1)
        one_of("labels", self.labels, LABELS)


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
        self.generator_code = weights_code("generator", settings.generator)
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
            source=[f"generated/{self.generator_code}"] * len(slots),
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
    from lit_faces.fitting.retarget import drive

    model = LandmarkModel()
    _, level, landmarks = drive(model, source.fits[0], driver, au, smooth)
    first = source.faces.select(torch.zeros(len(level), dtype=torch.int64))
    return render(generator, first, landmarks, level)
