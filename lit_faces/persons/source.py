"""The person whose face is wanted: from a photo or a clip to source pictures, their AUs and their fitted faces."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lit_faces.core.alignment import mirror_landmarks, outer_eye_distance
from lit_faces.core.clips import ClipFaces, faces_of_clip, is_clip
from lit_faces.core.facs import AU_INDEX, AU_KEYS, MAX_INTENSITY, NUM_AUS
from lit_faces.core.landmarks import Box, FaceAnalyser
from lit_faces.core.options import at_least, option
from lit_faces.core.photos import load_photo, source_from_photo
from lit_faces.core.sample import FaceBatch, FaceSample, collate
from lit_faces.core.shipped import DETECTOR_HELP
from lit_faces.persons.landmark_model import LandmarkModel
from lit_faces.persons.retarget import FittedFace, fit_clip, refusal
from lit_faces.tasks.au_detector import load_detector

#: Pictures uint8 (B, 3, S, S) to intensities (B, 19): a generic detector.
Reader = Callable[[Tensor], Tensor]

_LEAST_SCORE = 0.25  # of dlib's detector; whole faces measured: from 0.6, covered ones: up to 0.25
_MOST_MIRROR = 0.045  # see mirror_error; whole faces measured: up to 0.032
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
_BLOCK = 60  # driving frames that are fitted together: more do not change the identity, and cost memory
_FAR = 10.0  # degrees of yaw between two source frames of a clip
_ASKED = re.compile(r"^(?:au)?0*(\d+)=(\d+(?:\.\d+)?)$", re.IGNORECASE)


@dataclass(frozen=True)
class PersonOptions:
    """Who it is.

    Attributes:
        source: photo or clip of the person, from the front.
        face, name, source_au, detector: see their help.
    """

    source: Path
    face: int | None = option(None, "which face of the photo, or person of the clip, from 0")
    name: str | None = option(None, "of the person (default: the file's name)")
    source_au: str = option("auto", "auto, neutral, detector, or stated: 6=2,12=3")
    detector: str = option("generic", f"reads the source, and is adapted: {DETECTOR_HELP}")

    def __post_init__(self) -> None:
        """Refuse what cannot be.

        Raises:
            ValueError: names the option.
        """
        if self.face is not None:
            at_least("face", self.face, 0)
        if self.name is not None and not self.name.strip():
            raise ValueError("--name: expected a name, got nothing; leave it out to take the file's name")
        _check_au(self.source_au)

    @property
    def called(self) -> str:
        """The person's name."""
        return self.name or Path(self.source).stem


@dataclass
class PersonSource:
    """What a person set is made from.

    Attributes:
        name: of the person: the file's name.
        kind: ``photo`` or ``clip``.
        sha256: of the file.
        faces: K source pictures, the best first: landmarks cleaned by the fit, ``au_intensity`` estimated.
        fits: K fitted faces; all share one identity.
        neutral: probability that the first picture is neutral.
        notes: what a user should know.
    """

    name: str
    kind: str
    sha256: str
    faces: FaceBatch
    fits: list[FittedFace]
    neutral: float = float("nan")
    notes: list[str] = field(default_factory=list)

    def nearest(self, pose: Tensor) -> Tensor:
        """For each asked pose (B, 3), the source picture whose head is turned most alike: int64 (B,)."""
        own = torch.stack([fit.pose for fit in self.fits])
        return (pose[:, None, :2] - own[None, :, :2]).square().sum(2).argmin(1)


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
    shut = _SHUT_LEVEL * ((EYES[0] - eye_aspect_ratio(landmarks)) / (EYES[0] - EYES[1])).clamp(0.0, 1.0)
    found[:, AU_INDEX[43]] = torch.maximum(found[:, AU_INDEX[43]], shut)
    return found


def lip_gap(landmarks: Tensor) -> Tensor:
    """Gap of the inner lips over the outer-eye distance: (B, 68, 2) to (B,)."""
    return (landmarks[:, 61:64] - landmarks[:, [67, 66, 65]]).norm(dim=2).mean(1) / outer_eye_distance(landmarks)


def eye_aspect_ratio(landmarks: Tensor) -> Tensor:
    """Height over width of the eyes' openings (Soukupova and Cech 2016), both eyes' mean: (B, 68, 2) to (B,)."""
    found = []
    for first in (36, 42):
        corner = landmarks[:, first : first + 6]
        height = (corner[:, [1, 2]] - corner[:, [5, 4]]).norm(dim=2).mean(1)
        found.append(height / (corner[:, 0] - corner[:, 3]).norm(dim=1))
    return torch.stack(found).mean(0)


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


def _check_au(au: str) -> None:
    if au not in ("auto", "detector", "neutral"):
        stated_intensities(au)


def mirror_error(picture: np.ndarray, box: Box, points: np.ndarray, analyser: FaceAnalyser) -> float:
    """How differently dlib sees the face in the mirror, over the outer-eye distance.

    Points that are guesses (covered, in profile) come out differently there (Yang and Patras, "Mirror, mirror on the
    wall, tell me, is the error small?", CVPR 2015).
    """
    width = picture.shape[1]
    mirrored = Box(width - 1 - box.right, box.top, width - 1 - box.left, box.bottom, box.score)
    other = analyser.landmarks(np.ascontiguousarray(picture[:, ::-1]), mirrored)
    distance = np.linalg.norm(mirror_landmarks(other, width) - points, axis=1)
    return float(distance.mean() / outer_eye_distance(points))


def read_person(options: PersonOptions, size: int = 128) -> PersonSource:
    """The person of the options.

    Raises:
        FileNotFoundError, IsADirectoryError, ValueError: see :func:`read_source`; or no such detector.
    """
    read = load_detector(options.detector).predict_au
    found = read_source(options.source, size, LandmarkModel(), read, options.face, options.source_au)
    return replace(found, name=options.called)


def read_source(
    path: Path | str,
    size: int,
    model: LandmarkModel,
    read: Reader,
    face: int | None = None,
    au: str = "auto",
    frames: int = 3,
    analyser: FaceAnalyser | None = None,
) -> PersonSource:
    """A person from a photo or a clip.

    Args:
        path: photo or video.
        size: side of the crops, pixels.
        model: the landmark model.
        read: a generic AU detector.
        face: which face or person, where there are several.
        au: AUs of the picture: ``auto`` (:func:`likely_intensities`), ``detector``, ``neutral``, or stated
            (``6=2,12=3``).
        frames: source pictures that are taken from a clip, at most.
        analyser: finds the faces.

    Raises:
        FileNotFoundError, IsADirectoryError, ValueError: says what is wrong with the file, the face or ``au``.
    """
    path = Path(path)
    analyser = FaceAnalyser() if analyser is None else analyser
    _check_au(au)
    if is_clip(path):
        return _of_clip(path, faces_of_clip(path, size, face, analyser=analyser), model, read, au, frames)
    sample = source_from_photo(path, size, face, analyser)
    check_visible(path, sample, analyser)
    return source_of_faces(collate([sample]), model, read, au, str(path), sample.provenance["sha256"])


def source_of_faces(
    photo: FaceBatch, model: LandmarkModel, read: Reader, au: str = "auto", name: str = "", sha256: str = ""
) -> PersonSource:
    """A person from one aligned crop with its landmarks.

    Raises:
        ValueError: not exactly one face, or a face that the landmark model cannot be fitted to.
    """
    if len(photo) != 1:
        raise ValueError(f"photo: expected one face, got {len(photo)}")
    level, neutral, free = _intensities(photo, model, read, au)
    fit = fit_clip(model, photo.landmarks, photo.image.shape[-1], level, free_jaw=free)[0]
    reason = refusal(fit)
    if reason:
        raise ValueError(f"{name or 'photo'}: {reason}")
    faces = replace(photo, landmarks=fit.landmarks[None], au_intensity=level)
    notes = [_au_note(level[0], float(neutral[0]), au)]
    if bool(fit.wrong.any()):
        notes.append(f"{int(fit.wrong.sum())} landmarks did not fit and were replaced")
    return PersonSource(_name(photo, name), "photo", sha256, faces, [fit], float(neutral[0]), notes)


def _of_clip(path: Path, found: ClipFaces, model: LandmarkModel, read: Reader, au: str, frames: int) -> PersonSource:
    """Identity from all frames; the most neutral, frontal and sharp ones become sources."""
    batch = collate(found.samples)
    size = batch.image.shape[-1]
    level, neutral, free = _intensities(batch, model, read, au)
    fits = fit_clip(model, batch.landmarks, size, level, free_jaw=free)
    reasons = [refusal(fit) for fit in fits]
    usable = [row for row, reason in enumerate(reasons) if reason is None]
    if not usable:
        raise ValueError(f"{path}: none of {len(fits)} frames can be used; the first: {reasons[0]}")
    if len(usable) < len(fits):  # a refused frame must not bend the identity
        pick = torch.tensor(usable)
        batch, level, neutral = batch.select(pick), level[pick], neutral[pick]
        fits = fit_clip(model, batch.landmarks, size, level, free_jaw=free)
    sharp = torch.tensor([sharpness(image) for image in batch.image])
    pose = torch.stack([fit.pose for fit in fits])
    cost = level.sum(1) / MAX_INTENSITY + (pose[:, 0] / 20).square() + (pose[:, 1] / 15).square()
    cost = cost + (sharp.max() / sharp.clamp_min(1e-6)).log()
    chosen: list[int] = []
    for row in cost.argsort().tolist():
        apart = all(abs(float(pose[row, 0] - pose[other, 0])) >= _FAR for other in chosen)
        if not chosen or (len(chosen) < frames and apart and float(level[row].max()) < 1.0):
            chosen.append(row)
    first = chosen[0]
    notes = [
        f"{len(fits)} of {found.sampled} frames looked at were used for the identity; sources: frames "
        f"{', '.join(str(int(batch.frame[row])) for row in chosen)}",
        _au_note(level[first], float(neutral[first]), au),
    ]
    notes += found.notes
    if found.cuts:
        notes.append(f"the clip has {len(found.cuts)} cuts, the first before frame {found.cuts[0]}")
    if len(fits) == 1:
        notes.append("one frame only: a clip is worth more where the head turns")
    picked = torch.tensor(chosen)
    sources = [fits[row] for row in chosen]
    faces = replace(
        batch.select(picked), landmarks=torch.stack([fit.landmarks for fit in sources]), au_intensity=level[picked]
    )
    sha = found.samples[0].provenance["sha256"]
    return PersonSource(path.stem, "clip", sha, faces, sources, float(neutral[first]), notes)


def sharpness(image: Tensor) -> float:
    """Variance of the Laplacian of the middle of a crop, uint8 (3, S, S)."""
    import cv2

    size = image.shape[-1]
    grey = image.float().mean(0).numpy()[size // 5 : -size // 5, size // 5 : -size // 5]
    return float(cv2.Laplacian(grey, cv2.CV_32F).var())


def _intensities(faces: FaceBatch, model: LandmarkModel, read: Reader, au: str) -> tuple[Tensor, Tensor, bool]:
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


def _au_note(level: Tensor, neutral: float, au: str) -> str:
    shown = [f"{AU_KEYS[k]} {float(v):.1f}" for k, v in enumerate(level) if v >= 0.5]
    how = {"auto": f"estimated; neutral with probability {neutral:.2f}", "detector": "read by the detector"}
    return f"AUs of the source: {', '.join(shown) or 'none'} ({how.get(au, 'as stated')})"


def _name(photo: FaceBatch, name: str) -> str:
    return (photo.subject[0] if photo.subject else "") or Path(name).stem


def check_visible(path: Path, sample: FaceSample, analyser: FaceAnalyser) -> None:
    """Refuse faces that are covered or turned away so far that dlib guesses."""
    score = float(sample.provenance["score"])
    picture = load_photo(path)
    left, top, right, bottom = sample.provenance["box"]
    box = Box(left, top, right, bottom, score)
    error = mirror_error(picture, box, analyser.landmarks(picture, box), analyser)
    if score < _LEAST_SCORE or error > _MOST_MIRROR:
        raise ValueError(
            f"{path}: the face at x {left}..{right}, y {top}..{bottom} is covered, blurred or turned away (detector "
            f"score {score:.2f}, at least {_LEAST_SCORE}; landmarks differ by {100 * error:.1f} % in the mirror, at "
            f"most "
            f"{100 * _MOST_MIRROR:.1f} %); use a photo of the whole face from the front"
        )


def acting(faces: FaceBatch, model: LandmarkModel, read: Reader) -> tuple[list[FittedFace], Tensor]:
    """What a driving person does: fits that share one identity, and AU intensities less the person's resting readings.

    Args:
        faces: T frames of one person in the order of time.
        model: the landmark model.
        read: a generic AU detector.

    Returns:
        T fits (those of a block of frames share one identity), and intensities (T, 19).
    """
    found = read(faces.image).float()
    rest = found.quantile(0.1, dim=0)  # most of an AU's resting reading is morphology
    level = (found - rest).clamp_min(0.0) * (MAX_INTENSITY / (MAX_INTENSITY - rest).clamp_min(1.0))
    fits: list[FittedFace] = []
    for start in range(0, len(faces), _BLOCK):
        part = slice(start, start + _BLOCK)
        points, size = faces.landmarks[part], faces.image.shape[-1]
        level[part] = seen_in_landmarks(level[part], points, fit_clip(model, points, size))
        fits += fit_clip(model, points, size, level[part], free_jaw=True)
    return fits, level
