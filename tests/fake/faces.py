"""Pictures and truth that all look-alikes share: rendered faces in frames of any size, and what a reader must return."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from data_modules.reader import Clip
from lit_faces.core.facs import AU_INDEX, NUM_AUS
from lit_faces.core.sample import FaceBatch
from lit_faces.rendering.renderer import FaceRenderer

NAN = float("nan")


@functools.lru_cache(maxsize=8)
def people(count: int, frames: int, seed: int = 0, size: int = 128) -> FaceBatch:
    """``count`` people in ``frames`` frames each, ordered by person."""
    import torch

    rows = torch.arange(count * frames)
    return FaceRenderer(size, seed=seed).render(rows // frames, rows % frames)


def framed(image, width: int = 256, height: int = 192) -> np.ndarray:
    """A crop uint8 (3, S, S) in the middle of a larger picture, uint8 (height, width, 3) RGB."""
    side = min(width, height)
    face = cv2.resize(image.permute(1, 2, 0).numpy(), (side, side), interpolation=cv2.INTER_AREA)
    left, top = (width - side) // 2, (height - side) // 2
    return cv2.copyMakeBorder(
        face, top, height - side - top, left, width - side - left, cv2.BORDER_REPLICATE
    )  # fmt: skip


def save(path: Path, picture: np.ndarray) -> Path:
    """Write a picture uint8 (H, W, 3) RGB; the suffix says the format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.ascontiguousarray(picture[:, :, ::-1]))
    return path


def text(path: Path, content: str) -> Path:
    """Write a text file as it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def write_video(path: Path, pictures: list[np.ndarray], codec: str = "cinepak") -> Path:
    """An AVI at 20 frames a second: Cinepak (needs the package av), or Motion JPEG by OpenCV."""
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = pictures[0].shape[:2]
    if codec == "mjpeg":
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 20, (width, height))
        for picture in pictures:
            writer.write(np.ascontiguousarray(picture[:, :, ::-1]))
        writer.release()
        return path
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("cinepak", rate=20)
        stream.width, stream.height, stream.pix_fmt = width, height, "rgb24"
        for picture in pictures:
            for packet in stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def codec() -> str:
    """The codec of the originals where it can be written, Motion JPEG elsewhere."""
    try:
        import av  # noqa: F401
    except ImportError:
        return "mjpeg"
    return "cinepak"


@dataclass
class Expected:
    """What a reader must say of one clip; AU tables are ``{row: {au: value}}`` over a base value."""

    key: str
    subject: str
    frames: list[int]
    au_intensity: np.ndarray
    au_occurrence: np.ndarray
    emotion: list[int] = field(default_factory=list)
    split: str = ""


def table(n: int, aus: tuple[int, ...] = (), value: float = 0.0) -> np.ndarray:
    """float32 (n, 19): ``value`` for ``aus``, NaN elsewhere."""
    out = np.full((n, NUM_AUS), np.nan, dtype=np.float32)
    out[:, [AU_INDEX[au] for au in aus]] = value
    return out


def check(clips: list[Clip], expected: list[Expected]) -> None:
    """Same clips in any order, exactly the same labels."""
    found = {clip.key: clip for clip in clips}
    assert len(found) == len(clips), "a key stands twice"
    assert sorted(found) == sorted(e.key for e in expected)
    for want in expected:
        clip = found[want.key]
        assert clip.subject == want.subject
        assert clip.frames.tolist() == want.frames
        np.testing.assert_array_equal(clip.au_intensity, want.au_intensity, err_msg=want.key)
        np.testing.assert_array_equal(clip.au_occurrence, want.au_occurrence, err_msg=want.key)
        assert clip.emotion.tolist() == (want.emotion or [-1] * len(want.frames))
        assert clip.split == want.split
        if clip.container is None:
            assert len(clip.pictures) == len(clip)
