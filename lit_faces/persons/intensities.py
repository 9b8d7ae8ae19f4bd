"""Which Action Units a source picture shows: read by a detector, seen in landmarks, or stated.

Morphology looks like expression, so that what a detector reads on one picture is weighed against how often resting
faces get such readings.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import torch
from torch import Tensor

from lit_faces.core.alignment import eye_aspect_ratio, lip_gap
from lit_faces.core.facs import AU_INDEX, AU_KEYS, MAX_INTENSITY, NUM_AUS
from lit_faces.core.sample import FaceBatch
from lit_faces.fitting.landmark_model import LandmarkModel
from lit_faces.fitting.retarget import FittedFace, fit_clip

#: Pictures uint8 (B, 3, S, S) to intensities (B, 19): a generic detector.
Reader = Callable[[Tensor], Tensor]

# What the generic detector reads where an AU is absent, root of the mean square over 300 rendered faces.
_SPREAD = (
    0.28, 0.34, 0.33, 0.33, 0.78, 0.16, 0.25, 0.45, 0.19, 0.31,
    0.47, 0.68, 0.30, 0.26, 0.15, 0.25, 0.30, 0.1, 0.1,
)  # fmt: skip
_NEUTRAL, _ABSENT, _OUTLIER = 0.5, 0.8, 0.05  # priors: a neutral picture; an AU absent in another; a stray reading
_SMILE = 0.8  # AU12 of the landmark fit beyond which it is sure; resting faces: 0.1 +- 0.2
_SMILE_GAIN = 1.5  # the fit's prior pulls to 0
PARTED, _PARTED_LEVEL = 0.09, 2.5  # gap of the inner lips over the outer-eye distance; the AU25 that it says at least
EYES, _SHUT_LEVEL = (0.19, 0.12), 4.5  # aspect ratio of eyes that begin to shut, and that are shut; AU43 then
_ASKED = re.compile(r"^(?:au)?0*(\d+)=(\d+(?:\.\d+)?)$", re.IGNORECASE)


def likely_intensities(readings: Tensor) -> tuple[Tensor, Tensor]:
    """Intensities of pictures that are often neutral, from a detector that errs from person to person.

    Morphology looks like expression: a heavy cheek reads as AU6. A spike-and-slab prior says that half of all pictures
    are neutral and that most AUs are absent in the others; readings that a resting face often gets are then taken for
    what they mostly are.

    Args:
        readings: float (B, 19), 0..5.

    Returns:
        Expected intensities (B, 19), and the probability that a picture is neutral (B,).
    """
    spread = readings.new_tensor(_SPREAD)
    resting = (1 - _OUTLIER) * 0.798 / spread * torch.exp(-0.5 * (readings / spread) ** 2)
    resting = resting + _OUTLIER * torch.exp(-readings)
    active = torch.where(readings > 0.5, 1.0, 0.3 + 1.4 * readings) / MAX_INTENSITY  # what is there is seldom read as 0
    mixed = _ABSENT * resting + (1 - _ABSENT) * active
    odds = resting.log().sum(1) - mixed.log().sum(1)
    neutral = torch.sigmoid(odds + torch.logit(torch.tensor(_NEUTRAL)))
    present = (1 - neutral)[:, None] * (1 - _ABSENT) * active / mixed
    return readings * present, neutral


def seen_in_landmarks(readings: Tensor, landmarks: Tensor, fits: list[FittedFace]) -> Tensor:
    """Readings (B, 19), raised where landmarks show a smile, parted lips or closed eyes that the detector hardly sees.

    A detector that was trained on rendered faces reads half of the smiles of photographs as weak, and closed eyes as
    open; landmarks do not.

    Args:
        readings: float (B, 19), 0..5.
        landmarks: float (B, 68, 2).
        fits: B fits with free AUs.
    """
    found = readings.clone()
    smile = torch.stack([fit.au[AU_INDEX[12]] for fit in fits])
    sure = (_SMILE_GAIN * smile).clamp_max(MAX_INTENSITY) * (smile > _SMILE)
    gap = lip_gap(landmarks)
    found[:, AU_INDEX[12]] = torch.maximum(found[:, AU_INDEX[12]], sure)
    parted = _PARTED_LEVEL * (gap > PARTED)
    found[:, AU_INDEX[25]] = torch.maximum(found[:, AU_INDEX[25]], parted)
    shut = _SHUT_LEVEL * ((EYES[0] - eyes_open(landmarks)) / (EYES[0] - EYES[1])).clamp(0.0, 1.0)
    found[:, AU_INDEX[43]] = torch.maximum(found[:, AU_INDEX[43]], shut)
    return found


def eyes_open(landmarks: Tensor) -> Tensor:
    """Aspect ratio of the eyes, both eyes' mean: (B, 68, 2) to (B,)."""
    return 0.5 * (eye_aspect_ratio(landmarks, 36) + eye_aspect_ratio(landmarks, 42))


def stated_intensities(text: str) -> Tensor:
    """``"6=2,12=3.5"`` to intensities (19,), the others 0.

    Raises:
        ValueError: names what cannot be read.
    """
    au = torch.zeros(NUM_AUS)
    for part in text.split(","):
        found = _ASKED.match(part.strip())
        if not found or int(found[1]) not in AU_INDEX or float(found[2]) > MAX_INTENSITY:
            raise ValueError(
                f"--source-au: cannot read {part.strip()!r}; expected auto, detector, neutral, or AU=INTENSITY with "
                f"commas, such as 6=2,12=3.5 (intensity 0..5; AUs: {', '.join(map(str, AU_INDEX))})"
            )
        au[AU_INDEX[int(found[1])]] = float(found[2])
    return au


def check_au(au: str) -> None:
    """Refuse an ``au`` that says nothing.

    Raises:
        ValueError: names what cannot be read.
    """
    if au not in ("auto", "detector", "neutral"):
        stated_intensities(au)


def intensities(faces: FaceBatch, model: LandmarkModel, read: Reader, au: str) -> tuple[Tensor, Tensor, bool]:
    """AUs of the pictures, the probability of neutral, and whether these are estimates."""
    images = faces.image
    found = read(images).float()
    if au == "auto":
        shape = fit_clip(model, faces.landmarks, images.shape[-1])
        return *likely_intensities(seen_in_landmarks(found, faces.landmarks, shape)), True
    if au == "detector":
        return found, likely_intensities(found)[1], True
    stated = torch.zeros(NUM_AUS) if au == "neutral" else stated_intensities(au)
    return stated.expand(len(images), -1).clone(), torch.full((len(images),), float(bool((stated == 0).all()))), False


def au_note(level: Tensor, neutral: float, au: str) -> str:
    """A sentence on the AUs of a picture."""
    shown = [f"{AU_KEYS[k]} {float(v):.1f}" for k, v in enumerate(level) if v >= 0.5]
    how = {"auto": f"estimated; neutral with probability {neutral:.2f}", "detector": "read by the detector"}
    return f"AUs of the source: {', '.join(shown) or 'none'} ({how.get(au, 'as stated')})"
