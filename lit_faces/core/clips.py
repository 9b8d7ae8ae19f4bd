"""From a video file to the aligned faces of one person: sampling, cuts, who is who."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lit_faces.core.inputs import check_file
from lit_faces.core.landmarks import Box, FaceAnalyser, align_crop, crop_frame
from lit_faces.core.photos import MIN_FACE, SURE_SCORE
from lit_faces.core.quiet import quiet_descriptor
from lit_faces.core.sample import FaceSample

SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".mts", ".3gp")
SAME_PERSON = 0.6  # dlib's distance of embeddings
_CUT = 0.5  # correlation of colour histograms of neighbouring samples below it: a cut
_PASSER_BY = 0.1  # who is in fewer of the frames with faces is not meant
_MAX_PIXELS = 40_000_000
_SMALL = 800  # pixels: smaller pictures are searched at double size where no face was found


@dataclass
class Sighting:
    """A face in a frame of a clip: its crop uint8 (3, S, S), the landmarks in it, and the crop's side in the frame."""

    frame: int
    seconds: float
    box: Box
    crop: torch.Tensor
    landmarks: torch.Tensor
    side: float
    person: int = -1


@dataclass
class ClipFaces:
    """What was found of one person in a clip.

    Attributes:
        samples: aligned faces in the order of time; ``frame`` is the number in the video.
        seconds: time of each, seconds.
        rate: frames a second of the video.
        sampled: frames that were looked at.
        cuts: frame numbers where the picture changes at once.
        people: how many people there are, passers-by left out.
    """

    samples: list[FaceSample]
    seconds: list[float]
    rate: float
    sampled: int
    cuts: list[int] = field(default_factory=list)
    people: int = 1


def is_clip(path: Path | str) -> bool:
    """Whether the file's name says that it is a video."""
    return Path(path).suffix.lower() in SUFFIXES


def read_frames(path: Path | str, every: int = 1) -> Iterator[tuple[int, float, np.ndarray]]:
    """Frames of a video: number, seconds, uint8 (H, W, 3), RGB.

    Args:
        path: file.
        every: only each so many.

    Raises:
        FileNotFoundError, IsADirectoryError: no such file.
        ValueError: no decoder knows it, or it has no frame.
    """
    import cv2

    path = Path(path)
    check_file(path, "clip")
    _quiet(cv2)
    video = cv2.VideoCapture(str(path))
    try:
        if not video.isOpened():
            raise ValueError(
                f"{path}: no decoder of this installation reads it (unknown codec, or no video); convert it: "
                f"ffmpeg -i {path.name} -c:v libx264 {path.stem}_h264.mp4"
            )
        rate = video.get(cv2.CAP_PROP_FPS) or 25.0
        number = 0
        while video.grab():
            if number % every == 0:
                done, picture = video.retrieve()
                if not done or picture is None:
                    break
                if picture.shape[0] * picture.shape[1] > _MAX_PIXELS:
                    raise ValueError(f"{path}: frames of {picture.shape[1]}x{picture.shape[0]} px; make it smaller")
                yield number, number / rate, np.ascontiguousarray(picture[:, :, ::-1])
            number += 1
        if number == 0:
            raise ValueError(f"{path}: the video has no frame that can be decoded; convert it or record it again")
    finally:
        video.release()


def _quiet(cv2: Any) -> None:
    """The decoders' own messages would hide ours."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    logging = getattr(getattr(cv2, "utils", None), "logging", None)
    if logging is not None:
        logging.setLogLevel(logging.LOG_LEVEL_SILENT)


def write_video(path: Path, frames: torch.Tensor, rate: float) -> Path:
    """Write a video that browsers play (WebM, VP8), atomically.

    Args:
        path: ``*.webm``.
        frames: uint8 (T, 3, H, W), RGB, H and W even.
        rate: frames a second.

    Raises:
        OSError: this OpenCV cannot encode VP8.
    """
    import cv2

    _quiet(cv2)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp.webm")
    size = (frames.shape[3], frames.shape[2])
    with quiet_descriptor():  # it complains of the tag, then writes a good file
        writer = cv2.VideoWriter(str(temporary), cv2.VideoWriter.fourcc(*"VP80"), rate, size)
    if not writer.isOpened():
        raise OSError(
            f"{path}: this installation of OpenCV cannot write VP8 video; install opencv-python-headless from PyPI"
        )
    for frame in frames.permute(0, 2, 3, 1).numpy():
        writer.write(np.ascontiguousarray(frame[:, :, ::-1]))
    writer.release()
    temporary.replace(path)
    return path


def count_frames(path: Path | str) -> tuple[int, float]:
    """Number of frames as the container states it (0: unknown), and frames a second."""
    import cv2

    _quiet(cv2)
    video = cv2.VideoCapture(str(path))
    count, rate = int(video.get(cv2.CAP_PROP_FRAME_COUNT)), float(video.get(cv2.CAP_PROP_FPS) or 25.0)
    video.release()
    return (count if 0 < count < 10**8 else 0), rate


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
        limit: look at so many frames, evenly spaced.
        analyser: finds the faces; None makes one.
        every: look at each so many frames instead, the first ``limit`` of them.

    Raises:
        FileNotFoundError, IsADirectoryError: no such file.
        ValueError: unreadable video; no face in it; several people and no ``person``; no such ``person``; faces under
            64 px.
    """
    path = Path(path)
    check_file(path, "clip")
    analyser = FaceAnalyser() if analyser is None else analyser
    count, rate = count_frames(path)
    step = max(1, count // limit) if every is None else every
    sightings: list[Sighting] = []
    cuts: list[int] = []
    sampled, before = 0, None
    for number, seconds, picture in read_frames(path, step):
        if sampled >= limit:
            break
        sampled += 1
        histogram = _histogram(picture)
        if before is not None and _correlation(before, histogram) < _CUT:
            cuts.append(number)
        before = histogram
        boxes = [box for box in analyser.detect(picture, 0) if box.score >= SURE_SCORE]
        for box in boxes or analyser.detect(picture, 1 if max(picture.shape) <= _SMALL else 0):
            if box.score >= SURE_SCORE:
                points = analyser.landmarks(picture, box)
                sightings.append(
                    Sighting(number, seconds, box, *align_crop(picture, points, size), float(crop_frame(points)[2]))
                )
    if not sightings:
        raise ValueError(
            f"{path}: no face found in {sampled} frames looked at; use a clip from the front, upright, with the "
            f"face at "
            f"least {MIN_FACE} px wide"
        )
    people = _tell_apart(sightings, cuts, analyser)
    chosen = _choose(people, person, path, sampled)
    samples, seconds_of = [], []
    small = 0
    sha = hashlib.sha256(path.read_bytes()).hexdigest()
    for seen in chosen:
        if seen.side < MIN_FACE:
            small += 1
            continue
        about = {"clip": path.name, "sha256": sha, "frame": seen.frame, "score": round(seen.box.score, 3)}
        samples.append(
            FaceSample(seen.crop, seen.landmarks, subject=path.stem, source="clip", frame=seen.frame, provenance=about)
        )
        seconds_of.append(seen.seconds)
    if not samples:
        raise ValueError(f"{path}: all {small} faces are under {MIN_FACE} px; use a clip taken closer")
    return ClipFaces(samples, seconds_of, rate, sampled, cuts, len(people))


def _histogram(picture: np.ndarray) -> np.ndarray:
    """Coarse colours of a frame."""
    small = picture[:: max(1, picture.shape[0] // 60), :: max(1, picture.shape[1] // 60)] // 32
    codes = small[..., 0].astype(int) * 64 + small[..., 1] * 8 + small[..., 2]
    return np.bincount(codes.ravel(), minlength=512).astype(float)


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    one, other = one - one.mean(), other - other.mean()
    return float((one * other).sum() / max(np.sqrt((one**2).sum() * (other**2).sum()), 1e-9))


def _overlap(one: Box, other: Box) -> float:
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
        same = [other for other in previous if _overlap(other.box, seen.box) > 0.5]
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
