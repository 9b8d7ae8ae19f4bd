"""The landmarks of a face whose place is nearly known: from the last frame, or from a detection.

dlib's predictor starts from a box, and what it finds depends a little on that box. So the box is always derived from
landmarks by one rule, twice over: whether a face was detected in this frame or followed from the last one, both come to
nearly the same points (mean of several starts), and AUs read on them agree.

Where a hand covers the mouth, or a face moves fast, the starts do not agree: there the predictor has several answers,
and which one comes depends on where it came from. The starts say so themselves (:attr:`Followed.spread`), and a face of
which they disagree is to be detected anew.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lit_faces.core.alignment import cut_out
from lit_faces.core.landmarks import Box, crop_frame

Points = NDArray[np.float64]
Start = tuple[float, float, float]
#: ``points_in`` of :class:`FaceAnalyser`, which asks dlib box by box, or its ``points_at_once``, for videos.
Finder = Callable[[NDArray[np.uint8], Points], Points]
#: dlib's box in units of the aligned crop: offset of its centre and its side; means over a clip of 472 frames.
_BOX_X, _BOX_Y, _BOX_SIDE = 0.0, -0.018, 0.689
#: Shifts and sizes of the boxes whose landmarks are averaged: of a face that is followed; of one that is detected.
_SHIFTS = (-0.04, -0.013, 0.013, 0.04)
_STARTS: tuple[Start, ...] = tuple((x, y, 1.0) for x in _SHIFTS for y in (-0.03, 0.03))
_MANY_STARTS: tuple[Start, ...] = tuple((x, y, 1.0 + 25.0 * x * y) for x in _SHIFTS for y in _SHIFTS)
_STEPS = 2  # from the detector's box to one that the landmarks themselves would say
_WINDOW = 1.6  # part of the picture that is looked at, in box widths
_PIXELS = 300  # smaller faces are enlarged to this width: dlib rounds landmarks to pixels


def frame_of(points: NDArray[np.floating]) -> tuple[float, float, float]:
    """Centre and side of the aligned crop of landmarks (68, 2), as floats."""
    x, y, side = crop_frame(np.asarray(points, dtype=np.float64))
    return float(x), float(y), float(side)


def box_corners(points: NDArray[np.floating], start: Start = (0.0, 0.0, 1.0)) -> Points:
    """Where dlib's detector would see the face: float (2, 2), left and top, right and bottom.

    Args:
        points: (68, 2), pixels.
        start: shift to the right and down, in units of the crop, and factor of the size.
    """
    return _corners_in(frame_of(points), start)


def _corners_in(frame: tuple[float, float, float], start: Start) -> Points:
    x, y, side = frame
    half = _BOX_SIDE * side * start[2] / 2
    x, y = x + (_BOX_X + start[0]) * side, y + (_BOX_Y + start[1]) * side
    return np.array([[x - half, y - half], [x + half, y + half]])


def box_of(points: NDArray[np.floating], score: float = 0.0) -> Box:
    """:func:`box_corners` as a box in whole pixels."""
    (left, top), (right, bottom) = np.rint(box_corners(points)).astype(int).tolist()
    return Box(left, top, right, bottom, score)


def corners_of(box: Box) -> Points:
    """Left and top, right and bottom of a box, float (2, 2)."""
    return np.array([[box.left, box.top], [box.right, box.bottom]], dtype=np.float64)


class Window:
    """A square part of a picture around a face, enlarged where the face is small.

    Args:
        picture: uint8 (H, W, 3), RGB.
        corners: of the face, float (2, 2).
        pixels: width of the face in the window, at least.
        largest: width of the face in the window, at most; with None large faces stay as they are, but for those from
            1,200 pixels on.
        grey: without colours, which the predictor does not see and which cost most of the time.

    Attributes:
        image: uint8 (S, S, 3), or (S, S) in grey.
        scale: pixels of the window a pixel of the picture.
        origin: float (2,): point p of the picture is at ``(p - origin) * scale``.
    """

    def __init__(
        self,
        picture: NDArray[np.uint8],
        corners: Points,
        pixels: int = _PIXELS,
        largest: int | None = None,
        grey: bool = True,
    ) -> None:
        import cv2

        extent = max(float((corners[1] - corners[0]).max()), 2.0)
        # whole pixels are cut out, which is ten times as fast as a warp; of the largest faces, which fill megabytes,
        # each second or third one: at least twice as many as are asked for are left
        step = max(1, int(extent // (2 * (pixels if largest is None else largest))))
        scale = max(1 / step, pixels / extent)
        if largest is not None:
            scale = min(scale, largest / extent)
        side = math.ceil(_WINDOW * extent / step)
        left, top = (math.floor(middle - step * side / 2 + 0.5) for middle in corners.mean(0).tolist())
        part: Any = _cut_out(picture, left, top, side, step, grey)
        size = round(step * side * scale)
        if size != side:
            how = cv2.INTER_LINEAR if size > side else cv2.INTER_AREA
            part = cv2.resize(part, (size, size), interpolation=how)
        self.image: NDArray[np.uint8] = np.ascontiguousarray(part)
        self.scale = size / (step * side)
        self.origin = np.array([left, top], np.float64) + 0.5 / self.scale - 0.5 * step

    def inside(self, points: Points) -> Points:
        """Points of the picture in the window."""
        return (points - self.origin) * self.scale

    def outside(self, points: Points) -> Points:
        """Points of the window in the picture."""
        return points / self.scale + self.origin


def _cut_out(picture: NDArray[np.uint8], left: int, top: int, side: int, step: int, grey: bool) -> NDArray[np.uint8]:
    """``side`` x ``side`` pixels, each ``step``-th from (left, top) on; outside the border is replicated."""
    import cv2

    lines, line = picture[top % step :: step], top // step
    first, last = max(left, 0), min(left + step * side, picture.shape[1])
    high, low = max(line, 0), min(line + side, len(lines))
    if not grey or first >= last or high >= low:
        part: Any = cut_out(lines, left, line, left + step * side, line + side)[:, ::step]
        return cv2.cvtColor(part, cv2.COLOR_RGB2GRAY) if grey else part  # type: ignore[return-value]
    part = cv2.cvtColor(lines[high:low, first:last], cv2.COLOR_RGB2GRAY)  # less to replicate than with colours
    part, column = part[:, (left - first) % step :: step], (left - first) // step
    return cut_out(part, column, line - high, column + side, line - high + side)


class Followed(NamedTuple):
    """Landmarks from those of the last frame.

    Attributes:
        points: float32 (68, 2), pixels of the picture.
        spread: mean distance of a start's points from the mean of all, of the crop's side; on whole faces 0.002.
    """

    points: NDArray[np.float32]
    spread: float


def follow(picture: NDArray[np.uint8], points: NDArray[np.floating], finder: Finder) -> Followed:
    """Landmarks of a face that was at ``points`` in the last frame.

    Args:
        picture: uint8 (H, W, 3), RGB.
        points: (68, 2), pixels.
        finder: of landmarks.
    """
    window = Window(picture, box_corners(points))
    found = _from_starts(window, frame_of(points), _STARTS, finder)
    mean = np.mean(found, 0)
    spread = float(np.linalg.norm(found - mean, axis=2).mean()) / frame_of(mean)[2]
    return Followed(mean.astype(np.float32), spread)


def refine(picture: NDArray[np.uint8], corners: Points, finder: Finder) -> NDArray[np.float32]:
    """Landmarks from the detector's box, which jumps about: from the box itself, then from those that landmarks say.

    Args:
        picture: uint8 (H, W, 3), RGB.
        corners: where the face is, as dlib's detector frames it, float (2, 2).
        finder: of landmarks.

    Returns:
        float32 (68, 2), pixels of ``picture``.
    """
    window = Window(picture, corners)
    points = _in_boxes(window, corners[None], finder)[0]
    for _ in range(_STEPS):
        points = _in_boxes(window, box_corners(points)[None], finder)[0]
    return np.mean(_from_starts(window, frame_of(points), _MANY_STARTS, finder), 0).astype(np.float32)


def _from_starts(window: Window, frame: tuple[float, float, float], starts: Sequence[Start], finder: Finder) -> Points:
    """Landmarks of each start, float (n, 68, 2), pixels of the picture."""
    return _in_boxes(window, np.array([_corners_in(frame, start) for start in starts]), finder)


def _in_boxes(window: Window, boxes: Points, finder: Finder) -> Points:
    """Landmarks of the face in each box (n, 2, 2) of the picture, float (n, 68, 2), pixels of the picture."""
    return window.outside(finder(window.image, window.inside(boxes)))
