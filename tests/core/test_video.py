"""Video files: times of the stream, whole or cut in every container, turned, written with their times."""

import gc
import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from lit_faces.core.video import frames_of, read_frames, timeline, write_video

#: Container by name of file, with a codec for it and options of the container.
KINDS = {
    "a.avi": ("mjpeg", "yuvj420p", {}),
    "cinepak.avi": ("cinepak", "rgb24", {}),
    "a.mkv": ("libx264", "yuv420p", {}),
    "live.mkv": ("mjpeg", "yuvj420p", {"live": "1"}),
    "a.webm": ("libvpx", "yuv420p", {}),
    "a.mp4": ("libx264", "yuv420p", {}),
    "front.mp4": ("libx264", "yuv420p", {"movflags": "faststart"}),
    "a.mov": ("mjpeg", "yuvj420p", {}),
    "a.3gp": ("libx264", "yuv420p", {}),
    "a.wmv": ("wmv2", "yuv420p", {}),
    "a.mpg": ("mpeg2video", "yuv420p", {}),
    "a.flv": ("flv1", "yuv420p", {}),
    "a.ts": ("mpeg2video", "yuv420p", {}),
}
EVEN = [40 * k for k in range(20)]
VARIED = [*range(0, 990, 33), *range(990, 3990, 200)]
UNIT = 1 << 16


def picture(number: int = 0) -> np.ndarray:
    """Noise that differs from frame to frame, so that no codec makes it small; the left upper corner is red."""
    found = np.random.default_rng(number).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    found[:32, :48] = (255, 0, 0)
    return found


def write(path: Path, times: list[int], codec: str, pixels: str, options: dict | None = None, rate: int = 25) -> Path:
    with path.open("wb") as handle, av.open(handle, "w", format=FORMATS[path.suffix], options=options or {}) as box:
        stream = box.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = 96, 64, pixels
        for number, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(picture(number), format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            box.mux(stream.encode(frame))
        box.mux(stream.encode())
    return path


FORMATS = {
    ".avi": "avi",
    ".mkv": "matroska",
    ".webm": "webm",
    ".mp4": "mp4",
    ".mov": "mov",
    ".3gp": "3gp",
    ".wmv": "asf",
    ".mpg": "mpeg",
    ".flv": "flv",
    ".ts": "mpegts",
}


@pytest.mark.parametrize("name", KINDS)
def test_times_are_those_of_the_stream_and_a_cut_is_said(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, EVEN, *KINDS[name])
    line, frames = timeline(path), list(frames_of(path))
    assert line.seconds == pytest.approx([time / 1000 for time in EVEN], abs=2e-3)
    assert line.end == pytest.approx(0.8, abs=5e-3)
    assert [frame.number for frame in frames] == list(range(20))
    assert [frame.seconds for frame in frames] == pytest.approx(line.seconds, abs=1e-6)
    data, packet = path.read_bytes(), 188 if path.suffix == ".ts" else 0
    for part in (0.1, 0.3, 0.5, 0.77, 0.95):
        place = int(part * len(data))
        place += packet and place % packet == 0  # between two packets, a broadcast ends as it might end
        path.write_bytes(data[:place])
        for read in (timeline, lambda p: list(read_frames(p))):
            with pytest.raises(ValueError, match=rf"{name}: .*(cut short|no decoder|no frame)"):
                read(path)


@pytest.mark.parametrize("name", ["v.mkv", "v.webm", "v.mov"])
def test_a_variable_rate_keeps_its_times(tmp_path: Path, name: str) -> None:
    codec, pixels = ("libvpx", "yuv420p") if name == "v.webm" else ("mjpeg", "yuvj420p")
    path = write(tmp_path / name, VARIED, codec, pixels, rate=1000)
    seconds = [time / 1000 for time in VARIED]
    assert timeline(path).seconds == pytest.approx(seconds, abs=1e-3)
    assert [second for _, second, _ in read_frames(path)] == pytest.approx(seconds, abs=1e-3)
    assert [number for number, _, _ in read_frames(path, 20)] == [0, 20, 40]


def test_counts_and_rates_in_headers_are_not_believed(tmp_path: Path) -> None:
    path = write(tmp_path / "a.avi", EVEN, "mjpeg", "yuvj420p")
    data = bytearray(path.read_bytes())
    stream = data.find(b"strh") + 8
    for count in (0, 7, 10**6):
        struct.pack_into("<I", data, 48, count)  # avih: dwTotalFrames
        struct.pack_into("<I", data, stream + 32, count)  # strh: dwLength
        path.write_bytes(bytes(data))
        assert len(list(read_frames(path))) == len(timeline(path).seconds) == 20
    struct.pack_into("<II", data, stream + 20, 0, 0)  # scale and rate of nothing
    path.write_bytes(bytes(data))
    seconds = [second for _, second, _ in read_frames(path)]
    assert len(seconds) == 20 and min(np.diff(seconds)) > 0


def test_the_first_frame_is_at_zero(tmp_path: Path) -> None:
    path = write(tmp_path / "late.mkv", [time + 5000 for time in EVEN], "mjpeg", "yuvj420p")
    assert timeline(path).seconds[0] == 0 and next(frames_of(path)).seconds == 0
    assert timeline(path).end == pytest.approx(0.8, abs=5e-3)


@pytest.mark.parametrize(
    ("matrix", "right"),
    [
        ((0, UNIT, -UNIT, 0), lambda p: np.rot90(p, -1)),
        ((-UNIT, 0, 0, -UNIT), lambda p: np.rot90(p, 2)),
        ((0, -UNIT, UNIT, 0), lambda p: np.rot90(p, 1)),
        ((-UNIT, 0, 0, UNIT), lambda p: p[:, ::-1]),
        ((UNIT, 0, 0, -UNIT), lambda p: p[::-1]),
        ((0, UNIT, UNIT, 0), lambda p: p.swapaxes(0, 1)),
    ],
)
def test_a_phone_s_rotation_is_applied_once(tmp_path: Path, matrix: tuple[int, ...], right) -> None:
    path = write(tmp_path / "a.mp4", EVEN, "libx264", "yuv420p")
    stored = next(frames_of(path)).picture()
    data = bytearray(path.read_bytes())
    a, b, c, d = matrix
    struct.pack_into(">9i", data, data.find(b"tkhd") + 44, a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(bytes(data))
    found = next(frames_of(path)).picture()
    assert np.array_equal(found, right(stored)) and found.flags.c_contiguous


def test_a_damaged_frame_keeps_its_number(tmp_path: Path) -> None:
    path = write(tmp_path / "a.avi", EVEN, "mjpeg", "yuvj420p")
    data = bytearray(path.read_bytes())
    starts = [k for k in range(data.find(b"movi"), len(data) - 4) if data[k : k + 4] == b"00dc"][:20]
    data[starts[5] + 8 : starts[6]] = bytes(starts[6] - starts[5] - 8)
    path.write_bytes(bytes(data))
    frames = list(frames_of(path))
    assert [frame.number for frame in frames if frame.lost] == [5] and len(frames) == 20
    assert [number for number, _, _ in read_frames(path)] == [k for k in range(20) if k != 5]
    assert frames[6].seconds == pytest.approx(0.24)
    with pytest.raises(ValueError, match="frame 5 cannot be decoded"):
        frames[5].picture()


def test_without_whole_the_frames_of_half_a_file_are_given(tmp_path: Path) -> None:
    path = write(tmp_path / "a.avi", EVEN, "cinepak", "rgb24")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    frames = list(frames_of(path, whole=False))
    assert 5 < len(frames) < 15 and frames[-1].lost and not any(frame.lost for frame in frames[:-1])


@pytest.mark.parametrize(
    "text",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile:{clip}\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile {clip}\n",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=video 5555 RTP/AVP 96\n",
        "only words " * 50,
    ],
)
def test_a_list_of_other_files_is_no_clip(tmp_path: Path, text: str) -> None:
    clip = write(tmp_path / "b.mkv", EVEN, "mjpeg", "yuvj420p")
    path = tmp_path / "a.mp4"
    path.write_text(text.format(clip=clip))
    with pytest.raises(ValueError, match=r"a\.mp4: no decoder of this installation reads it"):
        list(frames_of(path))


def test_sound_alone_is_no_clip(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as box:
        stream = box.add_stream("aac", rate=16000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        sound.sample_rate = 16000
        box.mux(stream.encode(sound))
        box.mux(stream.encode())
    with pytest.raises(ValueError, match=r"no decoder.*or no video"):
        timeline(path)


def test_what_is_written_comes_back_with_its_times(tmp_path: Path) -> None:
    frames = torch.stack([torch.full((3, 64, 96), value, dtype=torch.uint8) for value in (20, 120, 220)])
    frames[:, 0, :, 48:] = 255
    path = write_video(tmp_path / "a.webm", frames, 5.0)
    found = list(read_frames(path))
    assert [number for number, _, _ in found] == [0, 1, 2] and [s for _, s, _ in found] == pytest.approx([0, 0.2, 0.4])
    for (_, _, seen), frame in zip(found, frames):
        assert seen.shape == (64, 96, 3) and seen.dtype == np.uint8
        assert np.abs(seen[8:-8, 8:40].astype(int) - frame.permute(1, 2, 0)[8:-8, 8:40].numpy()).max() < 12
    line = timeline(write_video(tmp_path / "b.webm", frames, [1.0, 1.033, 3.0], end=4.5))
    assert line.seconds == pytest.approx([0, 0.033, 2.0], abs=1e-3) and line.end == pytest.approx(3.5, abs=1e-3)
    assert timeline(write_video(tmp_path / "c.webm", frames[:1], 10.0)).end == pytest.approx(0.1)
    same = timeline(write_video(tmp_path / "d.webm", frames, [0.0, 0.0, 0.0], end=1.0))
    assert len(same.seconds) == 3 and same.end == pytest.approx(1.0)
    for times in ([0.0, 1.0], [0.0, 2.0, 1.0]):
        with pytest.raises(ValueError, match=r"e\.webm: expected 3 times"):
            write_video(tmp_path / "e.webm", frames, times)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.webm", "b.webm", "c.webm", "d.webm"]


def test_frames_that_were_read_are_gone(tmp_path: Path) -> None:
    clip = write(tmp_path / "clip.mp4", EVEN, "libx264", "yuv420p")
    gc.collect()
    gc.disable()  # a long video is not to wait for it: a frame may have megabytes
    try:
        assert all(frame.picture().any() for frame in frames_of(clip))
        assert sum(isinstance(one, av.VideoFrame) for one in gc.get_objects()) <= 1
    finally:
        gc.enable()
