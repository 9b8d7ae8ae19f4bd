"""One row for every frame and face, and the table that keeps them: the tool's own CSV.

A frame without a face has one row with ``success`` 0 and nothing in the columns of a face.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lit_faces.core.facs import AU_KEYS, EMOTIONS, NUM_AUS
from lit_faces.core.photos import SURE_SCORE

_SLOPE = 4.0  # of the confidence at a score of 0.35, where one detection in two is a false alarm
MARGIN = 0.2  # between the two likeliest expressions; below it the face is ``uncertain``
UNCERTAIN = "uncertain"

FACTS = ("file", "frame", "timestamp", "face_id", "success", "confidence")
BOX = ("box_x", "box_y", "box_width", "box_height")
POSE = ("yaw", "pitch", "roll")
PRESENT = tuple(f"{key}_c" for key in AU_KEYS)
MARKS = tuple(f"{axis}_{k}" for axis in "xy" for k in range(68))  # as OpenFace and py-feat order them
PLACE = ("crop_x", "crop_y", "crop_side")
SIZE = ("width", "height")


@dataclass
class FaceRow:
    """What was read of one face in one frame; ``person`` -1: there is none.

    Attributes:
        file: name of the video or photo.
        frame: number in the video, 0 first; of a photo 0.
        seconds: when the frame is shown, after the first.
        width: of the picture, pixels; 0 where it could not be decoded.
        height: likewise.
        person: number of the face.
        score: of dlib's detector.
        box: left, top, width and height, pixels.
        landmarks: float32 (68, 2), pixels of the picture.
        crop: centre and side of the aligned crop, pixels.
        pose: yaw, pitch, roll, degrees, float32 (3,).
        intensity: float32 (19,), 0..5.
        present: float32 (19,), 0 or 1.
        expression: float32 (8,), probabilities in the order of ``EMOTIONS``; NaN from a detector that reads none.
    """

    file: str
    frame: int
    seconds: float
    width: int = 0
    height: int = 0
    person: int = -1
    score: float = float("nan")
    box: tuple[int, int, int, int] = (0, 0, 0, 0)
    landmarks: NDArray[np.float32] = field(default_factory=lambda: np.full((68, 2), np.nan, np.float32))
    crop: tuple[float, float, float] = (float("nan"),) * 3
    pose: NDArray[np.float32] = field(default_factory=lambda: np.full(3, np.nan, np.float32))
    intensity: NDArray[np.float32] = field(default_factory=lambda: np.full(NUM_AUS, np.nan, np.float32))
    present: NDArray[np.float32] = field(default_factory=lambda: np.full(NUM_AUS, np.nan, np.float32))
    expression: NDArray[np.float32] = field(default_factory=lambda: np.full(len(EMOTIONS), np.nan, np.float32))

    @property
    def success(self) -> bool:
        """Whether a face was found."""
        return self.person >= 0

    @property
    def confidence(self) -> float:
        """0..1, one half at the detector's score of 0.35; 0 without a face."""
        return 1.0 / (1.0 + float(np.exp(-_SLOPE * (self.score - SURE_SCORE)))) if self.success else 0.0

    @property
    def emotion(self) -> str:
        """The likeliest expression; ``uncertain`` where the second is near; empty where none is read."""
        if not np.isfinite(self.expression).all():
            return ""
        best = np.argsort(-self.expression)
        near = self.expression[best[0]] - self.expression[best[1]] < MARGIN
        return UNCERTAIN if near else EMOTIONS[int(best[0])]


def columns(landmarks: bool) -> list[str]:
    """Of the own CSV, in their order."""
    return [
        *FACTS,
        *BOX,
        *POSE,
        *AU_KEYS,
        *PRESENT,
        "expression",
        *EMOTIONS,
        *PLACE,
        *SIZE,
        *(MARKS if landmarks else ()),
    ]


def cells(row: FaceRow, landmarks: bool) -> list[object]:
    """A row of the own CSV; None is an empty cell."""
    known: dict[str, object] = {"file": row.file, "frame": row.frame, "timestamp": f"{row.seconds:.6f}"}
    known |= {"success": int(row.success), "confidence": f"{row.confidence:.4f}"}
    known |= {"width": row.width or None, "height": row.height or None}
    if row.success:
        known |= {"face_id": row.person, **dict(zip(BOX, row.box)), "expression": row.emotion or None}
        known |= dict(zip(POSE, numbers(row.pose, 2))) | dict(zip(AU_KEYS, numbers(row.intensity, 3)))
        known |= dict(zip(PRESENT, numbers(row.present, 0))) | dict(zip(EMOTIONS, numbers(row.expression, 4)))
        known |= dict(zip(PLACE, numbers(np.array(row.crop), 2)))
        if landmarks:
            known |= dict(zip(MARKS, numbers(row.landmarks.T.ravel(), 2)))
    return [known.get(name) for name in columns(landmarks)]


def numbers(values: NDArray[np.floating], digits: int) -> list[str | None]:
    """Numbers as text, NaN as nothing."""
    return [f"{value:.{digits}f}" if value == value else None for value in values.tolist()]


def from_cells(cells: Mapping[str, str]) -> FaceRow:
    """A row as :func:`cells` wrote it (the score's place is taken by what gives the same confidence).

    Raises:
        ValueError, KeyError: not such a row.
    """
    row = FaceRow(cells["file"], int(cells["frame"]), float(cells["timestamp"]))
    row.width, row.height = int(cells["width"] or 0), int(cells["height"] or 0)
    if cells["success"] != "1":
        return row

    def floats(names: tuple[str, ...]) -> NDArray[np.float32]:
        return np.array([float(cells[name] or "nan") for name in names], np.float32)

    row.person = int(cells["face_id"])
    confidence = min(max(float(cells["confidence"]), 1e-6), 1 - 1e-6)
    row.score = SURE_SCORE + float(np.log(confidence / (1 - confidence))) / _SLOPE
    row.box = tuple(int(cells[name]) for name in BOX)  # type: ignore[assignment]  # four of them
    row.crop = tuple(float(cells[name]) for name in PLACE)  # type: ignore[assignment]  # three
    row.pose, row.intensity, row.present = floats(POSE), floats(AU_KEYS), floats(PRESENT)
    row.expression = floats(EMOTIONS)
    if MARKS[0] in cells:
        row.landmarks = floats(MARKS).reshape(2, 68).T
    return row


def typed_cells(row: FaceRow, landmarks: bool) -> dict[str, object]:
    """A row for a table in memory: numbers as numbers, what is not known as None."""
    found: dict[str, object] = {"file": row.file, "frame": row.frame, "timestamp": row.seconds}
    found |= {"success": int(row.success), "confidence": row.confidence, "width": row.width, "height": row.height}
    if not row.success:
        return found
    found |= {"face_id": row.person, **dict(zip(BOX, row.box)), "expression": row.emotion or None}
    named = ((POSE, row.pose), (AU_KEYS, row.intensity), (PRESENT, row.present), (EMOTIONS, row.expression))
    for names, values in named:
        found |= dict(zip(names, values.tolist()))
    found |= dict(zip(PLACE, row.crop))
    return found | dict(zip(MARKS, row.landmarks.T.ravel().tolist())) if landmarks else found
