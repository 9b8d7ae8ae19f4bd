"""Video files: frames with the times that the stream gives them, whole files only, and writing.

What is decoded counts: headers lie about rate and number of frames, so neither is read. Files are opened here and
handed to the decoder as bytes: to it a name such as ``10:30.mp4`` would be a protocol, and a play list an order to
fetch others.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lit_faces.core.containers import missing_bytes
from lit_faces.core.files import replacing
from lit_faces.core.inputs import check_file

if TYPE_CHECKING:
    import av
    import torch

MAX_PIXELS = 40_000_000  # of a frame
_BUFFER = 2**20  # bytes that the decoder asks for at once
#: Containers that are read; no play lists, no lists of pictures, nothing that names other files.
_CONTAINERS = (
    "avi,mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,mpeg,mpegts,mpegvideo,asf,flv,ogg,gif,dv,m4v,h264,hevc,mjpeg,nut,swf,mxf"
)
_MILLISECOND = Fraction(1, 1000)
_STEP = 1 / 25  # seconds from frame to frame where neither stream nor rate says any


@dataclass(frozen=True)
class Frame:
    """A frame of a video.

    Attributes:
        number: in the order of showing, 0 first; a frame that cannot be decoded has its number too.
        seconds: when it is shown, after the first.
    """

    number: int
    seconds: float
    _decoded: av.VideoFrame | None = None
    _matrix: tuple[int, int, int, int] | None = None

    @property
    def lost(self) -> bool:
        """Whether it cannot be decoded."""
        return self._decoded is None

    def picture(self) -> NDArray[np.uint8]:
        """uint8 (H, W, 3), RGB, as it is meant to be seen.

        Raises:
            ValueError: the frame is lost.
        """
        if self._decoded is None:
            raise ValueError(f"frame {self.number} cannot be decoded")
        picture: NDArray[np.uint8] = self._decoded.to_ndarray(format="rgb24")  # type: ignore[assignment]  # by format
        return np.ascontiguousarray(_turned(picture, self._matrix))


@dataclass(frozen=True)
class Timeline:
    """When the frames of a video are shown: ``seconds`` in order, the first 0, and the ``end`` of the last."""

    seconds: list[float]
    end: float


def frames_of(path: Path | str, whole: bool = True) -> Iterator[Frame]:
    """All frames of a video, decoded one after the other.

    Args:
        path: file.
        whole: refuse a file that is cut short; otherwise its frames are given until there are no more.

    Raises:
        FileNotFoundError, IsADirectoryError: no such file.
        ValueError: no decoder knows it; it is cut short; it has no frame; its frames are too large.
    """
    path = Path(path)
    with _opened(path, whole) as (container, stream):
        shown = _Shown(stream)
        lost: list[int | None] = []  # times of frames that could not be decoded; earlier ones may still come
        cut = False
        for packet, frames in _decode(container, stream, path, whole):
            cut = packet.is_corrupt if packet.size else cut
            for frame in frames:
                if frame is None:
                    lost.append(packet.pts)
                    continue
                if frame.width * frame.height > MAX_PIXELS:
                    raise ValueError(f"{path}: frames of {frame.width}x{frame.height} px; make it smaller")
                while lost and (lost[0] is None or frame.pts is None or lost[0] < frame.pts):
                    yield shown.next(lost.pop(0))
                yield shown.next(frame.pts, frame)
        for stamp in lost:
            yield shown.next(stamp)
        if not shown.decoded:
            raise ValueError(f"{path}: the video has no frame that can be decoded; convert it or record it again")
        if cut and whole:
            raise ValueError(_cut_short(path, "it ends in the middle of a frame"))


def read_frames(path: Path | str, every: int = 1) -> Iterator[tuple[int, float, NDArray[np.uint8]]]:
    """Frames of a whole video: number, seconds after the first, uint8 (H, W, 3) RGB; those that are lost are left out.

    Args:
        path: file.
        every: only each so many.

    Raises:
        As :func:`frames_of`.
    """
    for frame in frames_of(path):
        if frame.number % every == 0 and not frame.lost:
            yield frame.number, frame.seconds, frame.picture()


def timeline(path: Path | str) -> Timeline:
    """When the frames of a whole video are shown; nothing is decoded.

    Raises:
        As :func:`frames_of`.
    """
    path = Path(path)
    import av

    stamps: list[int] = []
    last, cut, unit = 0, False, Fraction(1)
    with _opened(path, whole=True) as (container, stream):
        unit = stream.time_base or Fraction(1, 1000)
        try:
            for packet in container.demux(stream):
                stamp = packet.dts if packet.pts is None else packet.pts
                if not packet.size or packet.is_discard or stamp is None:
                    continue
                cut = packet.is_corrupt
                if not stamps or stamp >= max(stamps[-8:]):
                    last = packet.duration or 0
                stamps.append(stamp)
        except av.error.FFmpegError as error:
            raise ValueError(_cut_short(path, str(error.strerror))) from error
    if cut:
        raise ValueError(_cut_short(path, "it ends in the middle of a frame"))
    if not stamps:  # a stream without any time
        seconds = [frame.seconds for frame in frames_of(path)]
    else:
        stamps = sorted(set(stamps))
        seconds = [float((stamp - stamps[0]) * unit) for stamp in stamps]
    step = (seconds[-1] / (len(seconds) - 1) if len(seconds) > 1 else 0) or _STEP
    return Timeline(seconds, seconds[-1] + (float(last * unit) or step))


def length_hint(path: Path | str) -> float:
    """Seconds that the header of a video claims, for a bar that says the time left; 0 where it says nothing.

    Raises:
        FileNotFoundError, IsADirectoryError: no such file.
        ValueError: no decoder knows it.
    """
    with _opened(Path(path), whole=False) as (container, stream):
        own = stream.duration * stream.time_base if stream.duration and stream.time_base else 0
        return max(0.0, float(own or (container.duration or 0) / 1e6))


def write_video(
    path: Path, frames: torch.Tensor, times: float | Sequence[float], end: float | None = None, comment: str = ""
) -> Path:
    """Write a video that browsers play (WebM, VP8), atomically.

    Args:
        path: ``*.webm``.
        frames: uint8 (T, 3, H, W), RGB, H and W even.
        times: frames a second; or when each is shown, T seconds, none before the last.
        end: when the last one is no more shown, seconds; None means as long as the mean of the others.
        comment: what the file says of itself (:func:`lit_faces.core.provenance.statement`).

    Raises:
        ValueError: not one time a frame, or times that go backwards.
        OSError: it cannot be written.
    """
    import av

    stamps = _stamps(path, len(frames), times, end)
    lasting = {start: stop - start for start, stop in itertools.pairwise(stamps)}
    height, width = frames.shape[2:]
    with (
        replacing(path) as temporary,
        temporary.open("wb") as handle,
        av.open(handle, "w", format="webm") as container,
    ):
        if comment:
            container.metadata["COMMENT"] = comment
        rate = Fraction(1000 * len(frames), stamps[-1]).limit_denominator(1000)
        stream = container.add_stream("libvpx", rate=min(max(rate, Fraction(1)), Fraction(1000)), options=_VP8)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.bit_rate = max(500_000, 20 * width * height)
        stream.codec_context.time_base = _MILLISECOND
        for stamp, picture in zip(stamps, frames.permute(0, 2, 3, 1).numpy()):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts, frame.time_base = stamp, _MILLISECOND
            _mux(container, stream.encode(frame), lasting)
        _mux(container, stream.encode(None), lasting)
    return path


# No frame that is not shown, none late; quality before bytes.
_VP8 = {"crf": "8", "deadline": "good", "cpu-used": "5", "auto-alt-ref": "0", "lag-in-frames": "0"}


def _stamps(path: Path, count: int, times: float | Sequence[float], end: float | None) -> list[int]:
    """Milliseconds (WebM counts in them) at which each frame begins, rising from 0, and at which the last one ends."""
    if isinstance(times, int | float):
        shown = [k / times for k in range(count)]
        end = count / times if end is None else end
    else:
        shown = [float(time) for time in times]
    if not count or len(shown) != count or any(b < a for a, b in itertools.pairwise(shown)):
        raise ValueError(f"{path}: expected {count} times, none before the last, got {len(shown)}")
    if end is None:
        end = shown[-1] + ((shown[-1] - shown[0]) / (count - 1) if count > 1 else _STEP)
    stamps: list[int] = []
    for time in [*shown, end]:
        stamps.append(max(round(1000 * (time - shown[0])), stamps[-1] + 1 if stamps else 0))
    return stamps


def _mux(container: Any, packets: Any, lasting: dict[int, int]) -> None:
    for packet in packets:
        packet.duration = lasting.get(packet.pts, 0)
        container.mux(packet)


@contextmanager
def _opened(path: Path, whole: bool) -> Iterator[tuple[Any, Any]]:
    """Container and video stream of a regular file.

    Raises:
        FileNotFoundError, IsADirectoryError, ValueError: see :func:`frames_of`.
    """
    import av

    check_file(path, "clip")
    lacking = missing_bytes(path) if whole else 0
    if lacking:
        size = path.stat().st_size
        raise ValueError(_cut_short(path, f"at least {lacking} of {size + lacking} bytes are missing"))
    with path.open("rb") as handle:
        try:
            options = {"format_whitelist": _CONTAINERS, "protocol_whitelist": "none"}
            container = av.open(handle, "r", options=options, buffer_size=_BUFFER)
        except (av.error.FFmpegError, ValueError, IndexError) as error:
            raise ValueError(_undecodable(path)) from error
        with container:
            stream = _video_stream(container)
            if stream is None:
                raise ValueError(_undecodable(path))
            width, height = stream.width, stream.height
            if width * height > MAX_PIXELS:
                raise ValueError(f"{path}: frames of {width}x{height} px; make it smaller")
            stream.thread_type = "SLICE"  # whole frames in threads: an error would be told with another packet
            yield container, stream


def _video_stream(container: Any) -> Any:
    """The first stream that is a video with a decoder, and no picture on the cover of a song; None if there is none."""
    for stream in container.streams.video:
        if stream.codec_context is not None and not stream.disposition & stream.disposition.__class__.attached_pic:
            return stream
    return None


def _decode(container: Any, stream: Any, path: Path, whole: bool) -> Iterator[tuple[Any, list[Any]]]:
    """Packets with the frames that they bring; None is a frame that cannot be decoded."""
    import av

    try:
        for packet in container.demux(stream):
            try:
                frames = packet.decode()
                found = [None if frame.is_corrupt else frame for frame in frames]
                yield packet, [None] if packet.is_corrupt and packet.size and found else found
            except av.error.FFmpegError:
                yield packet, [None] if packet.size else []
    except av.error.FFmpegError as error:  # of the container
        if whole:
            raise ValueError(_cut_short(path, str(error.strerror))) from error


class _Shown:
    """Numbers frames and says when they are shown: after the first, never backwards; one step later where none is."""

    def __init__(self, stream: Any) -> None:
        rate = stream.average_rate or stream.guessed_rate
        self.unit = stream.time_base or _MILLISECOND
        self.step = float(1 / rate) if rate else _STEP
        self.first: float | None = None
        self.last = -self.step
        self.number = self.decoded = 0
        self._turn = 0.0
        self._matrix: tuple[int, int, int, int] | None = None

    def next(self, stamp: int | None, frame: Any = None) -> Frame:
        if stamp is None:
            self.last += self.step
        else:
            time = float(stamp * self.unit)
            if self.first is None:
                self.first = time - max(0.0, self.last + self.step)
            self.last = max(self.last, time - self.first)
        self.number += 1
        if frame is not None:
            turn = float(getattr(frame, "rotation", 0.0))
            if not self.decoded or turn != self._turn:  # whoever looks at a frame's side data keeps it: PyAV's circle
                self._turn, self._matrix = turn, _display_matrix(frame)
            self.decoded += 1
        return Frame(self.number - 1, self.last, frame, self._matrix)


def _display_matrix(frame: Any) -> tuple[int, int, int, int] | None:
    """The part of the container's matrix that turns and mirrors, row by row; None where there is none."""
    from av.sidedata.sidedata import Type

    data = frame.side_data.get(Type.DISPLAYMATRIX)
    if data is None:
        return None
    values = np.frombuffer(bytes(data), np.int32)
    return int(values[0]), int(values[1]), int(values[3]), int(values[4])


def _turned(picture: NDArray[np.uint8], matrix: tuple[int, int, int, int] | None) -> NDArray[np.uint8]:
    """Turned by quarters and mirrored as ``x' = a x + c y, y' = b x + d y`` says."""
    if matrix is None:
        return picture
    a, b, c, d = matrix
    if abs(a) + abs(d) < abs(b) + abs(c):
        picture, a, d = picture.swapaxes(0, 1), c, b
    if d < 0:
        picture = picture[::-1]
    if a < 0:
        picture = picture[:, ::-1]
    return picture


def _undecodable(path: Path) -> str:
    return (
        f"{path}: no decoder of this installation reads it (unknown codec, or no video); convert it: "
        f"ffmpeg -i {path.name} -c:v libx264 {path.stem}_h264.mp4"
    )


def _cut_short(path: Path, why: str) -> str:
    return (
        f"{path}: the clip is cut short ({why}); copy or download it again, or make a clip of what there is: "
        f"ffmpeg -i {path.name} -c copy {path.stem}_part{path.suffix}"
    )
