"""The video again, with what was read drawn on it: box, landmarks, and a bar for each AU that is there."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lit_faces.core.facs import AU_KEYS, MAX_INTENSITY
from lit_faces.core.files import replacing
from lit_faces.reading.pipeline import ahead
from lit_faces.reading.rows import FaceRow
from lit_faces.reading.sources import video_shots

_COLOURS = ((64, 220, 255), (255, 190, 60), (140, 255, 120), (255, 120, 200))
_LONGEST = 1280  # pixels: larger videos are drawn smaller
_BARS = 8  # AUs a face, the strongest
_LEAST = 0.5  # intensity that is worth a bar
_MILLISECOND = Fraction(1, 1000)


def write_overlay(path: Path, video: Path, rows: Iterator[list[FaceRow]]) -> Path:
    """Draw the rows of a video on its frames, with their true times; a few frames are in memory at a time.

    Args:
        path: ``.mp4`` (H.264) or ``.webm`` (VP8).
        video: that was read.
        rows: of each frame, in order.

    Raises:
        OSError: it cannot be written.
    """
    import av

    webm = path.suffix.lower() == ".webm"
    with replacing(path) as temporary, av.open(str(temporary), "w", format="webm" if webm else "mp4") as container:
        stream: Any = None
        last = -1
        for shot in ahead(video_shots(video)):
            found = next(rows, [])
            if shot.picture is None:
                continue
            picture = draw(shot.picture, found)
            if stream is None:
                stream = container.add_stream("libvpx" if webm else "libx264", rate=1000)
                stream.height, stream.width = picture.shape[:2]
                stream.pix_fmt, stream.codec_context.time_base = "yuv420p", _MILLISECOND
                stream.options = {"crf": "23", "deadline": "realtime"} if webm else {"crf": "23", "preset": "veryfast"}
            if picture.shape[:2] != (stream.height, stream.width):  # a stream that changes its size
                picture = _fitted(picture, stream.width, stream.height)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            last = max(last + 1, round(1000 * shot.seconds))
            frame.pts, frame.time_base = last, _MILLISECOND
            container.mux(stream.encode(frame))
        if stream is not None:
            container.mux(stream.encode(None))
    return path


def draw(picture: NDArray[np.uint8], rows: list[FaceRow]) -> NDArray[np.uint8]:
    """A frame with its faces' boxes, landmarks and bars; sides even, at most 1280 px."""
    import cv2

    height, width = picture.shape[:2]
    scale = min(1.0, _LONGEST / max(height, width))
    shown = _fitted(picture, max(2, round(width * scale) // 2 * 2), max(2, round(height * scale) // 2 * 2))
    line = max(1, round(shown.shape[1] / 640))
    for row in rows:
        if not row.success:
            continue
        colour = _COLOURS[row.person % len(_COLOURS)]
        left, top, wide, high = (round(value * scale) for value in row.box)
        cv2.rectangle(shown, (left, top), (left + wide, top + high), colour, line, cv2.LINE_AA)
        for x, y in np.nan_to_num(row.landmarks * scale):
            cv2.circle(shown, (round(float(x)), round(float(y))), line, colour, -1, cv2.LINE_AA)
        said = f"face {row.person}  {row.emotion}"
        cv2.putText(
            shown, said, (left, top - 4 * line), cv2.FONT_HERSHEY_SIMPLEX, 0.42 * line, colour, line, cv2.LINE_AA
        )
        _bars(shown, row, left + wide + 6 * line, top, line, colour)
    return shown


def _bars(shown: NDArray[np.uint8], row: FaceRow, x: int, y: int, line: int, colour: tuple[int, int, int]) -> None:
    import cv2

    step, width = 14 * line, 50 * line
    x = min(x, shown.shape[1] - width - 36 * line)
    strongest = [k for k in np.argsort(-row.intensity)[:_BARS].tolist() if row.intensity[k] >= _LEAST]
    for place, number in enumerate(sorted(strongest)):
        top = y + place * step
        long = round(width * float(row.intensity[number]) / MAX_INTENSITY)
        cv2.rectangle(shown, (x + 34 * line, top), (x + 34 * line + width, top + 9 * line), (60, 60, 60), -1)
        cv2.rectangle(shown, (x + 34 * line, top), (x + 34 * line + long, top + 9 * line), colour, -1)
        place_of_text = (x, top + 9 * line)
        for ink, thick in (((0, 0, 0), line + 2), ((255, 255, 255), line)):
            cv2.putText(
                shown, AU_KEYS[number], place_of_text, cv2.FONT_HERSHEY_SIMPLEX, 0.34 * line, ink, thick, cv2.LINE_AA
            )


def _fitted(picture: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    import cv2

    if picture.shape[:2] == (height, width):
        return picture.copy()
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)  # type: ignore[return-value]  # of cv2
