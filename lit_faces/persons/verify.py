"""Is a generated picture what was asked for?

An independent judge reads its AUs, dlib finds its landmarks and identity. The judge was trained on other people and is
never part of a loss. It errs from person to person as any detector does, so a picture's achieved AUs are its readings
less what it reads too much in the source picture.

A picture is rejected when an AU that it is about is further from what was asked than the judge's error on four of five
*true* pictures of that AU. AUs that the judge cannot tell even on true pictures are no reason for rejection; reports
say so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from lit_faces.core.alignment import outer_eye_distance
from lit_faces.core.facs import AU_INDEX, AU_KEYS, MAX_INTENSITY, index_of
from lit_faces.core.landmarks import FaceAnalyser
from lit_faces.core.options import above_zero
from lit_faces.core.sample import FaceBatch

Judge = Callable[[Tensor], Tensor]
LABELS = ("asked", "achieved", "agreed")

#: 80 % quantile of the judge's error, grades, on 1,200 true rendered pictures of 100 people, about 52 an AU, each AU
#: alone or with up to two others (`python -m benchmarks.person_sets --tolerances`).
JUDGE_ERROR: Mapping[int, float] = {
    1: 1.6, 2: 1.6, 4: 3.0, 5: 2.9, 6: 1.6, 7: 4.3, 9: 1.4, 10: 2.5, 12: 1.5, 14: 1.8, 15: 2.9, 17: 1.3, 20: 3.7,
    23: 4.2, 24: 3.2, 25: 3.4, 26: 1.7, 27: 1.0, 43: 1.6,
}  # fmt: skip
UNVERIFIABLE = 3.1  # grades: an AU with a larger error cannot be verified


@dataclass(frozen=True)
class Tolerances:
    """What is let through.

    Attributes:
        au: grades by AU number; a missing one is not verified.
        focus: AUs that are verified in every picture, whatever it is about, absent ones too.
        leak: mean achieved intensity of the AUs that were not asked for; true pictures: 95 % below 0.33.
        nme: landmark error over the outer-eye distance; dlib itself errs by 0.05 on true pictures, 99 % below 0.10.
        identity: distance of dlib's embeddings from the source; same person below 0.6 on
            photographs; true pictures of a rendered person: 99 % below 0.44.
    """

    au: Mapping[int, float] = field(
        default_factory=lambda: {number: error for number, error in JUDGE_ERROR.items() if error <= UNVERIFIABLE}
    )
    focus: tuple[int, ...] = (6, 17)
    leak: float = 0.4
    nme: float = 0.08
    identity: float = 0.6

    def __post_init__(self) -> None:
        """Refuse what cannot be.

        Raises:
            ValueError: names the limit.
        """
        for name, value in (("leak", self.leak), ("nme", self.nme), ("identity", self.identity)):
            above_zero(f"max_{name}", value)
        if self.nme > 1:
            raise ValueError(f"--max-nme: expected a fraction of the outer-eye distance (0.08: 8 %), got {self.nme:g}")
        unknown = [number for number in self.focus if number not in self.au]
        if unknown:
            raise ValueError(
                f"--focus: AU{unknown[0]} cannot be verified; choose among {', '.join(map(str, self.au))}, or none"
            )

    def vector(self) -> Tensor:
        """Float32 (19,), infinite where an AU is not verified."""
        return torch.tensor([self.au.get(number, float("inf")) for number in AU_INDEX])


@dataclass
class Verdicts:
    """Of B pictures.

    Attributes:
        achieved: float32 (B, 19), 0..5.
        leak: float32 (B,), grades.
        nme: float32 (B,), NaN where it was not computed, as the picture was rejected before, or has no face.
        distance: float32 (B,), likewise.
        reason: why a picture is rejected; empty for those that are kept.
    """

    achieved: Tensor
    leak: Tensor
    nme: Tensor
    distance: Tensor
    reason: list[str]

    @property
    def kept(self) -> list[bool]:
        """Which pictures are kept."""
        return [not reason for reason in self.reason]


class Verifier:
    """Judges pictures of one person.

    Args:
        judge: pictures uint8 (B, 3, S, S) to intensities (B, 19).
        sources: the K source pictures, with their AUs.
        analyser: dlib.
        tolerances: what is let through.
    """

    def __init__(
        self, judge: Judge, sources: FaceBatch, analyser: FaceAnalyser, tolerances: Tolerances | None = None
    ) -> None:
        self.judge, self.analyser, self.tolerances = judge, analyser, tolerances or Tolerances()
        # what the judge reads too much is morphology; what it reads too little (a wide smile) is no constant
        self.offset = (sources.au_intensity.nan_to_num(0.0) - judge(sources.image).float().cpu()).clamp_max(0.0)
        own = analyser.batch_embeddings(sources.image, sources.landmarks)
        self.embedding = own[own.isfinite().all(1)].mean(0) if own.isfinite().all(1).any() else own[0]

    def __call__(self, images: Tensor, landmarks: Tensor, asked: Tensor, lead: Tensor, source: Tensor) -> Verdicts:
        """Judge pictures; the dear checks are made on those only that passed the cheap ones.

        Args:
            images: uint8 (B, 3, S, S).
            landmarks: float (B, 68, 2), pixels, as asked.
            asked: float (B, 19), 0..5.
            lead: int64 (B,), column of the AU that the picture is about, -1: all that are asked.
            source: int64 (B,), which source picture it was made from.
        """
        achieved = (self.judge(images).float().cpu() + self.offset[source]).clamp(0.0, MAX_INTENSITY)
        error = (achieved - asked).abs() / self.tolerances.vector()
        off = (asked == 0).float()
        leak = (achieved * off).sum(1) / off.sum(1).clamp_min(1.0)
        count = len(images)
        nme, distance, reasons = torch.full((count,), float("nan")), torch.full((count,), float("nan")), []
        for row in range(count):
            picture = np.ascontiguousarray(images[row].permute(1, 2, 0).numpy())
            reason = self._au_reason(achieved[row], asked[row], error[row], float(leak[row]), int(lead[row]))
            if reason:
                reasons.append(reason)
                continue
            boxes = self.analyser.detect(picture)
            if not boxes:
                reasons.append("no face found")
                continue
            points = self.analyser.landmarks(picture, boxes[0])
            found = torch.from_numpy(points)
            nme[row] = (found - landmarks[row]).norm(dim=1).mean() / outer_eye_distance(landmarks[row])
            if not float(nme[row]) <= self.tolerances.nme:
                reason = f"landmarks {100 * float(nme[row]):.1f} % off"
            if not reason:
                face = self.analyser.embedding(picture, points)
                distance[row] = float(np.linalg.norm(face - self.embedding.numpy()))
                if not float(distance[row]) <= self.tolerances.identity:
                    reason = f"another person (distance {float(distance[row]):.2f})"
            reasons.append(reason)
        return Verdicts(achieved, leak, nme, distance, reasons)

    def _au_reason(self, achieved: Tensor, asked: Tensor, error: Tensor, leak: float, lead: int) -> str:
        if lead >= 0:
            if float(error[lead]) > 1.0:
                return f"{AU_KEYS[lead]}: asked {float(asked[lead]):.1f}, achieved {float(achieved[lead]):.1f}"
        else:
            verified = (asked > 0) & (self.tolerances.vector() < float("inf"))
            if bool(verified.any()) and float(error[verified].mean()) > 1.0:
                worst = int(torch.where(verified, error, 0.0).argmax())
                return f"{AU_KEYS[worst]}: asked {float(asked[worst]):.1f}, achieved {float(achieved[worst]):.1f}"
        for column in index_of(self.tolerances.focus):
            if float(error[column]) > 1.0:
                return f"{AU_KEYS[column]}: asked {float(asked[column]):.1f}, achieved {float(achieved[column]):.1f}"
        return f"leak of {leak:.2f} grades" if leak > self.tolerances.leak else ""


def labels_of(asked: Tensor, achieved: Tensor, how: str, tolerances: Tolerances) -> Tensor:
    """Training labels of kept pictures.

    Args:
        asked: float (B, 19).
        achieved: float (B, 19).
        how: ``asked``; ``achieved`` (asked where the judge cannot tell); ``agreed``: asked, and NaN (not coded) for an
            AU whose two differ by more than its tolerance.
        tolerances: of the verification.

    Raises:
        ValueError: no such way.
    """
    if how not in LABELS:
        raise ValueError(f"--labels: expected one of {', '.join(LABELS)}, got {how!r}")
    if how == "asked":
        return asked.clone()
    limit = tolerances.vector()
    if how == "achieved":
        return torch.where(limit.isfinite(), achieved, asked)
    return torch.where((achieved - asked).abs() <= limit, asked, float("nan"))
