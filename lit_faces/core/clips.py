"""From a video file to the aligned faces of one person: sampling, cuts, who is who."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from lit_faces.core.landmarks import Box, FaceAnalyser, align_crop, crop_frame
from lit_faces.core.photos import MIN_FACE, SURE_SCORE
from lit_faces.core.sample import FaceSample
from lit_faces.core.video import Frame, frames_of, read_frames, timeline

__all__ = ["SUFFIXES", "ClipFaces", "Look", "faces_of_clip", "is_clip", "read_frames", "spread"]

SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".mts", ".3gp", ".ogv")
SAME_PERSON = 0.6  # dlib's distance of embeddings
CUT = 0.5  # correlation of colour histograms of neighbouring samples below it: a cut
_PASSER_BY = 0.1  # who is in fewer of the frames with faces is not meant
_SAME_TIME = 1e-6  # seconds
_GREY = 128
_SMALL = 800  # pixels: smaller pictures are searched at double size where no face was found


@dataclass
class Sighting:
    """A face in a frame of a clip: its crop uint8 (3, S, S), the landmarks in it, the crop's centre and side."""

    frame: int
    seconds: float
    box: Box
    crop: torch.Tensor
    landmarks: torch.Tensor
    place: tuple[float, float, float]
    person: int = -1

    @property
    def side(self) -> float:
        """Of the crop, pixels of the frame."""
        return self.place[2]


@dataclass
class Look:
    """A frame of a clip that was looked at, with the face or without.

    Attributes:
        frame: number in the video.
        seconds: when it is shown, after the first frame.
        sample: which of the samples it is; None where the person was not found.
        picture: uint8 (3, S, S), the whole frame made square with grey; only where there is no sample.
    """

    frame: int
    seconds: float
    sample: int | None = None
    picture: torch.Tensor | None = None


@dataclass
class ClipFaces:
    """What was found of one person in a clip.

    Attributes:
        samples: aligned faces in the order of time; ``frame`` is the number in the video.
        seconds: time of each, seconds.
        rate: frames a second of the video, on the average.
        sampled: frames that were looked at.
        cuts: frame numbers where the picture changes at once.
        people: how many people there are, passers-by left out.
        looks: every frame that was looked at, in order; one without a face is there too.
        duration: of the whole clip, seconds, to the end of its last frame.
        notes: what a user should know.
    """

    samples: list[FaceSample]
    seconds: list[float]
    rate: float
    sampled: int
    cuts: list[int] = field(default_factory=list)
    people: int = 1
    looks: list[Look] = field(default_factory=list)
    duration: float = 0.0
    notes: list[str] = field(default_factory=list)

    def beside(self, made: torch.Tensor) -> torch.Tensor:
        """Every frame that was looked at beside what was made of it.

        Where there is no face, the frame itself stands beside the last picture that was made (before the first: the
        first), so that the rows keep the clip's time.

        Args:
            made: uint8 (n, 3, S, S), one of each sample.

        Returns:
            uint8 (rows, 3, S, 2 S), S as made.
        """
        rows, last = [], 0
        for look in self.looks:
            last = last if look.sample is None else look.sample
            seen = self.samples[last].image if look.sample is not None else look.picture
            left = torch.full_like(made[last], _GREY) if seen is None else _enlarged(seen, made.shape[-1])
            rows.append(torch.cat([left, made[last]], 2))
        return torch.stack(rows)


def _enlarged(picture: torch.Tensor, size: int) -> torch.Tensor:
    """A square picture uint8 (3, S, S) at another size."""
    if picture.shape[-1] == size:
        return picture
    found = torch.nn.functional.interpolate(picture[None].float(), (size, size), mode="bicubic", align_corners=False)
    return found[0].round().clamp(0, 255).to(torch.uint8)


def is_clip(path: Path | str) -> bool:
    """Whether the file's name says that it is a video."""
    return Path(path).suffix.lower() in SUFFIXES


def faces_of_clip(
    path: Path | str,
    size: int,
    person: int | None = None,
    limit: int = 48,
    analyser: FaceAnalyser | None = None,
    every: int | None = None,
) -> ClipFaces:
    """The aligned faces of one person in a clip.

    Args:
        path: video.
        size: side of the crops, pixels.
        person: which one, 0 being who is seen most; None means that there must be only one.
        limit: look at so many frames, spread over the whole clip: evenly in time where its rate varies.
        analyser: finds the faces; None makes one.
        every: look at each so many frames instead, the first ``limit`` of them.

    Raises:
        FileNotFoundError, IsADirectoryError: no such file.
        ValueError: unreadable video, or one that is cut short; no face in it; several people and no ``person``; no
            such ``person``; faces under 64 px.
    """
    path = Path(path)
    line = timeline(path)
    analyser = FaceAnalyser() if analyser is None else analyser
    frames = _at(path, spread(line.seconds, limit)) if every is None else _each(path, every, limit)
    found, looks, cuts, lost = _look(frames, size, analyser)
    if not found:
        raise ValueError(
            f"{path}: no face found in {len(looks)} frames looked at; use a clip from the front, upright, with the "
            f"face at least {MIN_FACE} px wide"
        )
    people = _tell_apart(found, cuts, analyser)
    chosen = _choose(people, person, path, len(looks))
    samples = _samples(path, chosen)
    if not samples:
        raise ValueError(f"{path}: all {len(chosen)} faces are under {MIN_FACE} px; use a clip taken closer")
    row_of = {sample.frame: row for row, sample in enumerate(samples)}
    for look in looks:
        look.sample = row_of.get(look.frame)
        look.picture = look.picture if look.sample is None else None
    notes = [f"{lost} of {len(looks)} frames of the clip cannot be decoded"] if lost else []
    seconds = [look.seconds for look in looks if look.sample is not None]
    rate = (len(line.seconds) - 1) / line.seconds[-1] if len(line.seconds) > 1 else 1 / line.end
    return ClipFaces(samples, seconds, rate, len(looks), cuts, len(people), looks, line.end, notes)


def spread(seconds: Sequence[float], limit: int) -> list[float]:
    """At most ``limit`` of the times of a clip's frames: evenly spread over its length, from its first to its last.

    Where frames are dense and sparse by turns, times that have no frame of their own give way to further frames.

    Args:
        seconds: of all frames, rising.
        limit: 1 or more.
    """
    times = np.asarray(seconds, dtype=np.float64)
    if len(times) <= limit:
        return times.tolist()
    wanted = np.linspace(times[0], times[-1], limit)
    after = np.searchsorted(times, wanted).clip(1, len(times) - 1)
    nearest = np.where(wanted - times[after - 1] <= times[after] - wanted, after - 1, after)
    picked = np.unique(nearest)
    others = np.setdiff1d(np.arange(len(times)), picked)
    more = others[np.linspace(0, len(others) - 1, limit - len(picked)).round().astype(int)]
    return times[np.union1d(picked, more)].tolist()


def _at(path: Path, times: list[float]) -> Iterator[Frame]:
    """The frames that are shown at ``times``, or the next ones after."""
    turn = 0
    for frame in frames_of(path):
        if turn < len(times) and frame.seconds >= times[turn] - _SAME_TIME:
            yield frame
            while turn < len(times) and times[turn] <= frame.seconds + _SAME_TIME:
                turn += 1


def _each(path: Path, every: int, limit: int) -> Iterator[Frame]:
    return itertools.islice((frame for frame in frames_of(path) if frame.number % every == 0), limit)


def _look(
    frames: Iterator[Frame], size: int, analyser: FaceAnalyser
) -> tuple[list[Sighting], list[Look], list[int], int]:
    """All faces, all frames, where the picture changes at once, and how many frames cannot be decoded."""
    found: list[Sighting] = []
    looks: list[Look] = []
    cuts: list[int] = []
    before, lost = None, 0
    for frame in frames:
        if frame.lost:
            lost += 1
            looks.append(Look(frame.number, frame.seconds))
            continue
        picture = frame.picture()
        looks.append(Look(frame.number, frame.seconds, picture=_squared(picture, size)))
        histogram = colour_histogram(picture)
        if before is not None and correlation(before, histogram) < CUT:
            cuts.append(frame.number)
        before = histogram
        boxes = [box for box in analyser.detect(picture, 0) if box.score >= SURE_SCORE]
        for box in boxes or analyser.detect(picture, 1 if max(picture.shape) <= _SMALL else 0):
            if box.score >= SURE_SCORE:
                points = analyser.landmarks(picture, box)
                crop, marks = align_crop(picture, points, size)
                cx, cy, side = (float(value) for value in crop_frame(points))
                found.append(Sighting(frame.number, frame.seconds, box, crop, marks, (cx, cy, side)))
    return found, looks, cuts, lost


def _samples(path: Path, chosen: list[Sighting]) -> list[FaceSample]:
    """The sightings of a person whose face is large enough, as samples."""
    with path.open("rb") as handle:
        sha = hashlib.file_digest(handle, "sha256").hexdigest()
    samples = []
    for seen in chosen:
        if seen.side >= MIN_FACE:
            about = {"clip": path.name, "sha256": sha, "frame": seen.frame, "score": round(seen.box.score, 3)}
            about["crop"] = [round(value, 3) for value in seen.place]
            samples.append(
                FaceSample(
                    seen.crop, seen.landmarks, subject=path.stem, source="clip", frame=seen.frame, provenance=about
                )
            )
    return samples


def _squared(picture: np.ndarray, size: int) -> torch.Tensor:
    """A whole frame as uint8 (3, size, size), grey where it is not square."""
    import cv2

    scale = size / max(picture.shape[:2])
    width, height = (max(1, round(side * scale)) for side in (picture.shape[1], picture.shape[0]))
    small = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
    square = np.full((size, size, 3), _GREY, np.uint8)
    top, left = (size - height) // 2, (size - width) // 2
    square[top : top + height, left : left + width] = small
    return torch.from_numpy(square).permute(2, 0, 1).contiguous()


def colour_histogram(picture: np.ndarray) -> np.ndarray:
    """Coarse colours of a frame, uint8 (H, W, 3): float (512,)."""
    small = picture[:: max(1, picture.shape[0] // 60), :: max(1, picture.shape[1] // 60)] // 32
    codes = small[..., 0].astype(int) * 64 + small[..., 1] * 8 + small[..., 2]
    return np.bincount(codes.ravel(), minlength=512).astype(float)


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Of two histograms; below :data:`CUT` between neighbouring frames, there is a cut between them."""
    one, other = one - one.mean(), other - other.mean()
    return float((one * other).sum() / max(np.sqrt((one**2).sum() * (other**2).sum()), 1e-9))


def overlap(one: Box, other: Box) -> float:
    """Intersection over union."""
    width = min(one.right, other.right) - max(one.left, other.left) + 1
    height = min(one.bottom, other.bottom) - max(one.top, other.top) + 1
    shared = max(0, width) * max(0, height)
    return shared / (one.width * one.height + other.width * other.height - shared)


def _tell_apart(sightings: list[Sighting], cuts: list[int], analyser: FaceAnalyser) -> list[list[Sighting]]:
    """People by embedding, most seen first; within a shot, a box that stays where it was stays the same person."""
    known: list[list[np.ndarray]] = []
    previous: list[Sighting] = []
    current: list[Sighting] = []
    breaks = set(cuts)
    for seen in sightings:
        if current and seen.frame != current[-1].frame:
            previous, current = current, []
            if any(previous[-1].frame < cut <= seen.frame for cut in breaks):
                previous = []
        same = [other for other in previous if overlap(other.box, seen.box) > 0.5]
        taken = {other.person for other in current}
        if len(same) == 1 and same[0].person not in taken:
            seen.person = same[0].person
        else:
            face = analyser.batch_embeddings(seen.crop[None], seen.landmarks[None])[0].numpy()
            distances = [float(np.linalg.norm(np.mean(faces, 0) - face)) for faces in known]
            free = [(d, k) for k, d in enumerate(distances) if k not in taken and d < SAME_PERSON]
            seen.person = min(free)[1] if free else len(known)
            if not free:
                known.append([])
            known[seen.person].append(face)
        current.append(seen)
    groups = [[seen for seen in sightings if seen.person == k] for k in range(len(known))]
    groups.sort(key=len, reverse=True)
    frames = len({seen.frame for seen in sightings})
    return [group for group in groups if len(group) > _PASSER_BY * frames] or groups[:1]


def _choose(people: list[list[Sighting]], person: int | None, path: Path, sampled: int) -> list[Sighting]:
    if person is None and len(people) == 1:
        return people[0]
    listing = "; ".join(
        f"person {k}: {len(group)} of {sampled} frames, first at {group[0].seconds:.1f} s, "
        f"x {group[0].box.left}..{group[0].box.right}, y {group[0].box.top}..{group[0].box.bottom}"
        for k, group in enumerate(people)
    )
    if person is None:
        raise ValueError(f"{path}: {len(people)} people in the clip; choose one with --face NUMBER: {listing}")
    if not 0 <= person < len(people):
        raise ValueError(f"{path}: there is no person {person}: {listing}")
    return people[person]
