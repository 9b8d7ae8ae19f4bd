"""From a picture of a data set to an aligned crop with 68 landmarks, and to bytes."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_modules.reader import Clip, Reader

BLACK = 10  # mean grey value below which a picture is black
_SEARCH = 640  # pixels: faces are first searched in a picture of this size
_WIDE = 1280
_BOX = 420  # pixels: larger faces are shrunk to this width for the landmarks, which dlib rounds to pixels
_ANALYSER: list[Any] = []  # one a process: loading takes a second


class Clock:
    """Where the time goes, by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._stage, self._start = "", 0.0

    def __call__(self, stage: str) -> Clock:
        """Name the stage that begins: ``with clock("decode"): ...``."""
        self._stage, self._start = stage, time.perf_counter()
        return self

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        self.seconds[self._stage] = self.seconds.get(self._stage, 0.0) + time.perf_counter() - self._start


def face_crop(
    reader: Reader, clip: Clip, row: int, picture: NDArray[np.uint8], own: Any, size: int, clock: Clock
) -> tuple[NDArray[np.uint8], NDArray[np.float32]] | None:
    """Crop uint8 (size, size, 3) and its landmarks (68, 2); None when there is no face."""
    from lit_faces.core.landmarks import Box, FaceAnalyser, align_crop

    if reader.aligned:
        unknown = np.full((68, 2), np.nan, np.float32)
        return _whole(picture, size, unknown if clip.landmarks is None else clip.landmarks[row], clock)
    points = own
    if points is None or not np.isfinite(points[36:60]).all():
        if not _ANALYSER:
            _ANALYSER.append(FaceAnalyser())
        with clock("detect"):
            box = find_face(_ANALYSER[0], picture)
            if box is None and clip.boxes is not None and np.isfinite(clip.boxes[row]).all():
                box = Box(*(round(float(v)) for v in clip.boxes[row]))
        if box is None:
            unknown = np.full((68, 2), np.nan, np.float32)
            return _whole(picture, size, unknown, clock) if reader.cropped else None
        with clock("landmarks"):
            scale = min(1.0, _BOX / box.width)
            small = picture if scale == 1.0 else _shrink(picture, scale, fast=scale > 0.4)
            factor = np.array([picture.shape[1] / small.shape[1], picture.shape[0] / small.shape[0]])
            points = (_ANALYSER[0].landmarks(small, box.scaled(scale)) + 0.5) * factor - 0.5
    with clock("align"):
        try:
            crop, marks = align_crop(picture, points, size)
        except ValueError:
            return None
        return np.ascontiguousarray(crop.permute(1, 2, 0).numpy()), marks.numpy()


def _whole(
    picture: NDArray[np.uint8], size: int, marks: NDArray[np.float32], clock: Clock
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """The whole picture as a square, its border replicated where it is none."""
    import cv2

    with clock("align"):
        height, width = picture.shape[:2]
        side = max(height, width)
        left, top = (side - width) // 2, (side - height) // 2
        square = cv2.copyMakeBorder(picture, top, side - height - top, left, side - width - left, cv2.BORDER_REPLICATE)
        how = cv2.INTER_AREA if size < side else cv2.INTER_CUBIC
        crop = square if side == size else cv2.resize(square, (size, size), interpolation=how)
        moved = (marks + np.array([left, top], np.float32) + 0.5) * (size / side) - 0.5
        return crop, moved.astype(np.float32)  # type: ignore[return-value]


def find_face(analyser: Any, picture: NDArray[np.uint8]) -> Any | None:
    """The largest sure face of a picture, searched small first: four times as fast, and it finds nearly all."""
    for longest, upsample in ((_SEARCH, 0), (_WIDE, 1)):
        scale = min(1.0, longest / max(picture.shape[:2]))
        small = picture if scale == 1.0 else _shrink(picture, scale)
        boxes = analyser.detect(small, upsample)
        if boxes:
            sure = [box for box in boxes if box.score >= 0.35] or boxes[:1]
            return max(sure, key=lambda box: box.width).scaled(1 / scale)
    return None


def _shrink(picture: NDArray[np.uint8], scale: float, fast: bool = False) -> NDArray[np.uint8]:
    """Smaller; ``fast`` looks at four pixels only, enough down to 0.4 for finding points."""
    import cv2

    size = (round(picture.shape[1] * scale), round(picture.shape[0] * scale))
    return cv2.resize(picture, size, interpolation=cv2.INTER_LINEAR if fast else cv2.INTER_AREA)  # type: ignore[return-value]


def encode(crop: NDArray[np.uint8], encoding: str) -> bytes:
    """uint8 (H, W, 3) RGB as JPEG (quality 95, colours not subsampled: wrinkles are thin) or PNG."""
    import cv2

    options = (
        [cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
        if encoding == "jpg"
        else [cv2.IMWRITE_PNG_COMPRESSION, 3]
    )
    return cv2.imencode(f".{encoding}", np.ascontiguousarray(crop[:, :, ::-1]), options)[1].tobytes()
