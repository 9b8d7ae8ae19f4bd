"""Three things at once: the next frames are decoded, faces are followed, and the network reads a batch of crops.

    decoder thread --frames--> this thread: tracking --faces--> network thread: crops, AUs, pose --> rows, in order

Queues are short, so that memory does not grow with the length of a video.
"""

from __future__ import annotations

import collections
import functools
import math
import queue
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lit_faces.core.alignment import align_crop
from lit_faces.core.landmarks import FaceAnalyser
from lit_faces.core.photos import sure_faces
from lit_faces.core.pictures import load_picture
from lit_faces.persons.gate import NOBODY, Gate
from lit_faces.reading.network import CropReader
from lit_faces.reading.pose import head_pose
from lit_faces.reading.refining import box_of, corners_of, frame_of, refine
from lit_faces.reading.rows import FaceRow
from lit_faces.reading.sources import Shot
from lit_faces.reading.tracking import FaceTracker
from lit_faces.tasks.black_box import FaceReader

BATCH = 16  # crops that the network reads at once
_BATCHES = 2  # that may wait for it
_AHEAD_BYTES = 60_000_000  # of decoded frames
_FRAME_BYTES = 500_000  # that a frame counts for besides: no more than 120 wait, however small
_SNAPSHOT = 64  # frames between states from which a killed run goes on


@dataclass
class Patch:
    """A face that is still to be aligned: as much of the picture as its crop shows, or a crop.

    Attributes:
        image: uint8 (H, W, 3), or a crop (3, S, S) as a tensor.
        points: landmarks in it, float32 (68, 2); nothing of a crop.
        who: whose it is, where that is known.
    """

    image: NDArray[np.uint8] | Tensor
    points: NDArray[np.float32] | None = None
    who: str = NOBODY

    @classmethod
    def of(cls, picture: NDArray[np.uint8], points: NDArray[np.float32], size: int) -> Patch:
        """Copied out of a picture, which need not be kept."""
        x, y, side = frame_of(points)
        reach = side / 2 + 2 * max(1.0, side / size) + 4  # what the filter reads, too
        left, top = (max(0, math.floor(place - reach)) for place in (x, y))
        part = picture[top : math.ceil(y + reach) + 1, left : math.ceil(x + reach) + 1]
        return cls(part.copy(), points - np.array([left, top], np.float32))

    def crop(self, size: int) -> Tensor:
        """The aligned crop, uint8 (3, S, S)."""
        if self.points is None:
            return torch.as_tensor(self.image)
        return align_crop(self.image, self.points, size)[0]


@dataclass
class Part:
    """The rows of one frame (or photo).

    Attributes:
        number: of the frame.
        seconds: its time.
        rows: one a face; one without a face where there is none.
        state: of the tracker after this frame, now and then: whoever has all rows up to here can go on from it.
        trouble: why a photo could not be read.
        faces: of the rows, not yet read.
    """

    number: int
    seconds: float
    rows: list[FaceRow]
    state: dict[str, Any] | None = None
    trouble: str = ""
    faces: list[Patch] = field(default_factory=list)


def read_video(
    shots: Iterable[Shot], name: str, detector: FaceReader | Gate, tracker: FaceTracker, batch: int = BATCH
) -> Iterator[Part]:
    """The rows of all frames, in order.

    Args:
        shots: frames; decoded in a thread of their own.
        name: of the video, for the rows.
        detector: reads the crops.
        tracker: follows the faces; as it was left where a run goes on.
        batch: crops that are read at once; fewer wait less.
    """
    reader = CropReader(detector)

    def parts() -> Iterator[Part]:
        for count, shot in enumerate(ahead(shots)):
            if shot.picture is None:
                tracker.lose()
                part = Part(shot.number, shot.seconds, [FaceRow(name, shot.number, shot.seconds)])
            else:
                part = _faces(shot, name, tracker, detector)
            if count % _SNAPSHOT == _SNAPSHOT - 1:
                part.state = {**tracker.state(), **(detector.state() if isinstance(detector, Gate) else {})}
            yield part

    yield from _read(parts(), reader, batch)


def read_photos(
    paths: Iterable[Path], detector: FaceReader | Gate, analyser: FaceAnalyser, batch: int = BATCH, first: int = 0
) -> Iterator[Part]:
    """The rows of photos, in order; faces from left to right. What cannot be read has a row, and says why.

    Args:
        paths: files.
        detector: reads the crops.
        analyser: finds the faces.
        batch: crops that are read at once.
        first: number of the first one.
    """

    def parts() -> Iterator[Part]:
        for number, path in enumerate(paths, first):
            try:
                picture = load_picture(path)
            except (OSError, ValueError) as error:
                yield Part(number, 0.0, [FaceRow(path.name, 0, 0.0)], {}, str(error))
            else:
                yield photo_part(picture, path.name, number, detector, analyser)

    yield from _read(parts(), CropReader(detector, compiled=False), batch)


def photo_part(
    picture: NDArray[np.uint8], name: str, number: int, detector: FaceReader | Gate, analyser: FaceAnalyser
) -> Part:
    """The faces of one picture, uint8 (H, W, 3), from left to right, not yet read."""
    part = Part(number, 0.0, [], {})
    for who, box in enumerate(sure_faces(analyser.detect(picture))):
        points = refine(picture, corners_of(box), analyser.points_in)
        _add_face(part, picture, FaceRow(name, 0, 0.0, person=who), points, box.score, detector.size)
        if isinstance(detector, Gate):
            part.faces[-1].who = detector.name_of(functools.partial(analyser.embedding, picture, points))
    if not part.rows:
        part.rows.append(FaceRow(name, 0, 0.0, picture.shape[1], picture.shape[0]))
    return part


def _faces(shot: Shot, name: str, tracker: FaceTracker, detector: FaceReader | Gate) -> Part:
    part = Part(shot.number, shot.seconds, [])
    picture = shot.picture
    if picture is None:
        return part
    for track in tracker.see(picture, shot.seconds):
        row = FaceRow(name, shot.number, shot.seconds, person=track.person)
        _add_face(part, picture, row, track.points, track.score, detector.size)
        if isinstance(detector, Gate):  # who a track is was asked when it came: that embedding serves here, too
            part.faces[-1].who = detector.who(track.person, functools.partial(tracker.people.face, track.person))
    if not part.rows:
        part.rows.append(FaceRow(name, shot.number, shot.seconds, picture.shape[1], picture.shape[0]))
    return part


def _add_face(
    part: Part, picture: NDArray[np.uint8], row: FaceRow, points: NDArray[np.float32], score: float, size: int
) -> None:
    box = box_of(points, score)
    row.width, row.height = picture.shape[1], picture.shape[0]
    row.score, row.landmarks = score, points
    row.box, row.crop = (box.left, box.top, box.width, box.height), frame_of(points)
    part.rows.append(row)
    part.faces.append(Patch.of(picture, points, size))


# -- the network beside it --------------------------------------------------------------------------------------------


def _read(parts: Iterable[Part], reader: CropReader, batch: int) -> Iterator[Part]:
    """Parts with everything read, in order; the network works while the next faces are looked for."""
    waiting: list[Part] = []
    pending: collections.deque[Future[list[Part]]] = collections.deque()
    with ThreadPoolExecutor(1, thread_name_prefix="network") as network:
        try:
            for part in parts:
                waiting.append(part)
                if sum(len(one.faces) for one in waiting) >= batch or len(waiting) >= 4 * batch:
                    pending.append(network.submit(read_parts, waiting, reader))
                    waiting = []
                while len(pending) > _BATCHES or (pending and pending[0].done()):
                    yield from pending.popleft().result()
            pending.append(network.submit(read_parts, waiting, reader))
            while pending:
                yield from pending.popleft().result()
        finally:
            network.shutdown(wait=False, cancel_futures=True)


def read_parts(parts: list[Part], reader: CropReader) -> list[Part]:
    """Align the faces of parts, let the detector read them, and write what it reads into their rows."""
    rows = [row for part in parts for row in part.rows if row.success]
    crops = [face.crop(reader.detector.size) for part in parts for face in part.faces]
    if crops:
        found = reader(torch.stack(crops), [face.who for part in parts for face in part.faces])
        for number, row in enumerate(rows):
            row.pose = head_pose(row.landmarks)
            row.intensity, row.present = found.intensity[number], found.present[number]
            if found.expression is not None:
                row.expression = found.expression[number]
    for part in parts:
        part.faces = []
    return parts


class _Room:
    """Bytes that may be held at once: whoever wants more waits."""

    def __init__(self, most: int) -> None:
        self.most, self.held, self.closed = most, 0, False
        self._changed = threading.Condition()

    def take(self, count: int) -> bool:
        """Wait for room for so many bytes; False once it is closed. One item always has room."""
        with self._changed:
            self._changed.wait_for(lambda: self.closed or self.held == 0 or self.held + count <= self.most)
            self.held += count
            return not self.closed

    def give(self, count: int) -> None:
        """Bytes that are no longer held."""
        with self._changed:
            self.held -= count
            self._changed.notify()

    def close(self) -> None:
        """Nobody takes anything any more."""
        with self._changed:
            self.closed = True
            self._changed.notify()


def ahead(shots: Iterable[Shot]) -> Iterator[Shot]:
    """The same, made in a thread that is a few frames ahead; its errors arrive where they belong."""
    ready: queue.SimpleQueue[Shot | BaseException | None] = queue.SimpleQueue()
    room = _Room(_AHEAD_BYTES)

    def work() -> None:
        try:
            for shot in shots:
                if not room.take(_bytes_of(shot)):
                    return
                ready.put(shot)
            ready.put(None)
        except BaseException as error:  # raised where the frames are wanted
            ready.put(error)

    threading.Thread(target=work, name="decoder", daemon=True).start()
    try:
        while (shot := ready.get()) is not None:
            if isinstance(shot, BaseException):
                raise shot
            room.give(_bytes_of(shot))
            yield shot
    finally:
        room.close()


def _bytes_of(shot: Shot) -> int:
    return _FRAME_BYTES if shot.picture is None else shot.picture.nbytes + _FRAME_BYTES
