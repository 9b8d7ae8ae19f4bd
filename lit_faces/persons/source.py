"""The person whose face is wanted: from a photo or a clip to source pictures, their AUs and their fitted faces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lit_faces.core.alignment import mirror_landmarks, outer_eye_distance
from lit_faces.core.clips import ClipFaces, faces_of_clip, is_clip
from lit_faces.core.facs import MAX_INTENSITY
from lit_faces.core.landmarks import Box, FaceAnalyser
from lit_faces.core.options import at_least, option
from lit_faces.core.originals import Original, cut_original, original_of_crop, originals_of_clip
from lit_faces.core.photos import load_photo, source_from_photo
from lit_faces.core.sample import FaceBatch, FaceSample, collate
from lit_faces.core.shipped import DETECTOR_HELP
from lit_faces.fitting.landmark_model import LandmarkModel
from lit_faces.fitting.retarget import FittedFace, fit_clip, refusal
from lit_faces.models.detector import load_network
from lit_faces.persons.intensities import Reader, au_note, check_au, intensities, seen_in_landmarks
from lit_faces.persons.pieces import Pieces, gather

_LEAST_SCORE = 0.25  # of dlib's detector; whole faces measured: from 0.6, covered ones: up to 0.25
_MOST_MIRROR = 0.045  # see mirror_error; whole faces measured: up to 0.032
_BLOCK = 60  # driving frames that are fitted together: more do not change the identity, and cost memory
_FAR = 10.0  # degrees of yaw between two source frames of a clip


@dataclass(frozen=True)
class PersonOptions:
    """Who it is.

    Attributes:
        source: photo or clip of the person, from the front, or a folder with several photos of the person.
        face, name, source_au, detector: see their help.
        more: further photos, clips and folders of the same person.
    """

    source: Path
    face: int | None = option(None, "which face of the photo, or person of the clip, from 0")
    name: str | None = option(None, "of the person (default: the file's name)")
    source_au: str = option("auto", "auto, neutral, detector, or stated: 6=2,12=3")
    detector: str = option("generic", f"reads the source, is adapted: {DETECTOR_HELP}")
    more: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what cannot be.

        Raises:
            ValueError: names the option.
        """
        if self.face is not None:
            at_least("face", self.face, 0)
        if self.name is not None and not self.name.strip():
            raise ValueError("--name: expected a name, got nothing; leave it out to take the file's name")
        check_au(self.source_au)

    @property
    def called(self) -> str:
        """The person's name."""
        return self.name or _name_of(Path(self.source))


@dataclass
class PersonSource:
    """What a person set is made from.

    Attributes:
        name: of the person: the file's name.
        kind: ``photo``, ``photos``, ``clip`` or ``photos and clips``.
        sha256: of the file.
        faces: K source pictures, the best first: landmarks cleaned by the fit, ``au_intensity`` estimated.
        fits: K fitted faces; all share one identity.
        neutral: probability that the first picture is neutral.
        notes: what a user should know.
        originals: the photographs of the K pictures at their own resolution.
        files: that the identity rests on.
    """

    name: str
    kind: str
    sha256: str
    faces: FaceBatch
    fits: list[FittedFace]
    neutral: float = float("nan")
    notes: list[str] = field(default_factory=list)
    originals: list[Original] = field(default_factory=list)
    files: tuple[Path, ...] = ()

    def nearest(self, pose: Tensor) -> Tensor:
        """For each asked pose (B, 3), the source picture whose head is turned most alike: int64 (B,)."""
        own = torch.stack([fit.pose for fit in self.fits])
        return (pose[:, None, :2] - own[None, :, :2]).square().sum(2).argmin(1)


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
    read = load_network(options.detector).predict_au
    found = read_source(options.source, size, LandmarkModel(), read, options.face, options.source_au, more=options.more)
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
    more: Sequence[Path | str] = (),
) -> PersonSource:
    """A person from a photo, a clip, a folder of photos, or several of these.

    Args:
        path: photo, video, or folder with photos of the one person.
        size: side of the crops, pixels.
        model: the landmark model.
        read: a generic AU detector.
        face: which face or person, where there are several.
        au: AUs of the picture: ``auto`` (:func:`likely_intensities`), ``detector``, ``neutral``, or stated
            (``6=2,12=3``).
        frames: source pictures that are taken from a clip or a folder, at most.
        analyser: finds the faces.
        more: further photos, videos and folders of the same person.

    Raises:
        FileNotFoundError, IsADirectoryError, ValueError: says what is wrong with the file, the face or ``au``.
    """
    path = Path(path)
    analyser = FaceAnalyser() if analyser is None else analyser
    check_au(au)
    if more or path.is_dir():
        pieces = gather([path, *map(Path, more)], size, face, analyser, check_visible)
        return _of_pieces(_name_of(path), pieces, model, read, au, frames)
    if is_clip(path):
        return _of_clip(path, faces_of_clip(path, size, face, analyser=analyser), model, read, au, frames)
    sample = source_from_photo(path, size, face, analyser)
    check_visible(path, sample, analyser)
    found = source_of_faces(collate([sample]), model, read, au, str(path), sample.provenance["sha256"])
    originals = [cut_original(load_photo(path), tuple(sample.provenance["crop"]))]
    return replace(found, originals=originals, files=(path,))


def source_of_faces(
    photo: FaceBatch, model: LandmarkModel, read: Reader, au: str = "auto", name: str = "", sha256: str = ""
) -> PersonSource:
    """A person from one aligned crop with its landmarks.

    Raises:
        ValueError: not exactly one face, or a face that the landmark model cannot be fitted to.
    """
    if len(photo) != 1:
        raise ValueError(f"photo: expected one face, got {len(photo)}")
    level, neutral, free = intensities(photo, model, read, au)
    fit = fit_clip(model, photo.landmarks, photo.image.shape[-1], level, free_jaw=free)[0]
    reason = refusal(fit)
    if reason:
        raise ValueError(f"{name or 'photo'}: {reason}")
    faces = replace(photo, landmarks=fit.landmarks[None], au_intensity=level)
    notes = [au_note(level[0], float(neutral[0]), au)]
    if bool(fit.wrong.any()):
        notes.append(f"{int(fit.wrong.sum())} landmarks did not fit and were replaced")
    originals = [original_of_crop(photo.image[0])]
    return PersonSource(_name(photo, name), "photo", sha256, faces, [fit], float(neutral[0]), notes, originals)


def _of_clip(path: Path, found: ClipFaces, model: LandmarkModel, read: Reader, au: str, frames: int) -> PersonSource:
    """Identity from all frames; the most neutral, frontal and sharp ones become sources."""
    seen = _seen_together(path, collate(found.samples), model, read, au)
    batch, level, neutral, fits = seen.faces, seen.level, seen.neutral, seen.fits
    chosen = _best(seen, frames)
    first = chosen[0]
    notes = [
        f"{len(fits)} of {found.sampled} frames looked at were used for the identity; sources: frames "
        f"{', '.join(str(int(batch.frame[row])) for row in chosen)}",
        au_note(level[first], float(neutral[first]), au),
    ]
    notes += found.notes
    if found.cuts:
        notes.append(f"the clip has {len(found.cuts)} cuts, the first before frame {found.cuts[0]}")
    if len(fits) == 1:
        notes.append("one frame only: a clip is worth more where the head turns")
    faces, sources = seen.select(chosen)
    sha = found.samples[0].provenance["sha256"]
    places = {one.frame: tuple(one.provenance["crop"]) for one in found.samples}
    cut = originals_of_clip(path, {int(n): places[int(n)] for n in faces.frame})
    originals = [cut[int(n)] for n in faces.frame]
    return PersonSource(path.stem, "clip", sha, faces, sources, float(neutral[first]), notes, originals, (path,))


@dataclass
class _Seen:
    """Pictures of one person, fitted together."""

    faces: FaceBatch
    level: Tensor
    neutral: Tensor
    fits: list[FittedFace]

    def select(self, rows: list[int]) -> tuple[FaceBatch, list[FittedFace]]:
        """Some of them as source pictures."""
        picked, fits = torch.tensor(rows), [self.fits[row] for row in rows]
        points = torch.stack([fit.landmarks for fit in fits])
        return replace(self.faces.select(picked), landmarks=points, au_intensity=self.level[picked]), fits


def _seen_together(path: Path, batch: FaceBatch, model: LandmarkModel, read: Reader, au: str) -> _Seen:
    """Identity from all pictures that can be used.

    Raises:
        ValueError: none can.
    """
    size = batch.image.shape[-1]
    level, neutral, free = intensities(batch, model, read, au)
    fits = fit_clip(model, batch.landmarks, size, level, free_jaw=free)
    reasons = [refusal(fit) for fit in fits]
    usable = [row for row, reason in enumerate(reasons) if reason is None]
    if not usable:
        raise ValueError(f"{path}: none of {len(fits)} frames can be used; the first: {reasons[0]}")
    if len(usable) < len(fits):  # a refused frame must not bend the identity
        pick = torch.tensor(usable)
        batch, level, neutral = batch.select(pick), level[pick], neutral[pick]
        fits = fit_clip(model, batch.landmarks, size, level, free_jaw=free)
    return _Seen(batch, level, neutral, fits)


def _best(seen: _Seen, most: int) -> list[int]:
    """The most neutral, frontal and sharp picture, and others that are turned otherwise and rest."""
    sharp = torch.tensor([sharpness(image) for image in seen.faces.image])
    pose = torch.stack([fit.pose for fit in seen.fits])
    cost = seen.level.sum(1) / MAX_INTENSITY + (pose[:, 0] / 20).square() + (pose[:, 1] / 15).square()
    cost = cost + (sharp.max() / sharp.clamp_min(1e-6)).log()
    chosen: list[int] = []
    for row in cost.argsort().tolist():
        apart = all(abs(float(pose[row, 0] - pose[other, 0])) >= _FAR for other in chosen)
        if not chosen or (len(chosen) < most and apart and float(seen.level[row].max()) < 1.0):
            chosen.append(row)
    return chosen


def _of_pieces(name: str, found: Pieces, model: LandmarkModel, read: Reader, au: str, most: int) -> PersonSource:
    """Several photos and clips of one person: one identity, the best pictures as sources."""
    seen = _seen_together(found.files[0], collate(found.samples), model, read, au)
    chosen = _best(seen, most)
    faces, fits = seen.select(chosen)
    rows = [int(number) for number in faces.subject]
    neutral = float(seen.neutral[chosen[0]])
    count, *others = found.notes(len(seen.fits), rows)
    notes = [count, au_note(seen.level[chosen[0]], neutral, au), *others]
    kind, originals = "photos" if not found.clips else "photos and clips", found.originals(rows)
    return PersonSource(name, kind, found.sha256, faces, fits, neutral, notes, originals, tuple(found.files))


def sharpness(image: Tensor) -> float:
    """Variance of the Laplacian of the middle of a crop, uint8 (3, S, S)."""
    import cv2

    size = image.shape[-1]
    grey = image.float().mean(0).numpy()[size // 5 : -size // 5, size // 5 : -size // 5]
    return float(cv2.Laplacian(grey, cv2.CV_32F).var())


def _name_of(source: Path) -> str:
    return source.resolve().name if source.is_dir() else source.stem


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
