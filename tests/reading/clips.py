"""Made clips of rendered people: who is where in each frame is known."""

import struct
from pathlib import Path

import numpy as np
import torch

from lit_faces.core.facs import AU_INDEX, NUM_AUS
from lit_faces.core.video import write_video
from lit_faces.rendering.renderer import FaceRenderer

SIDE = 144  # pixels, of a face's square
WIDE, HIGH = 480, 200
UNIT = 1 << 16


def people() -> np.ndarray:
    """Two people who are told apart by dlib, AU12 from 0 to 5: uint8 (2, 6, S, S, 3)."""
    renderer = FaceRenderer(SIDE, seed=21)
    au = torch.zeros(6, NUM_AUS)
    au[:, AU_INDEX[12]] = torch.linspace(0, 5, 6)
    found = []
    for subject in (2, 8):
        who = torch.full((6,), subject)
        found.append(renderer.render(who, torch.zeros(6, dtype=torch.long), 0 * who, au, torch.zeros(6, 3)).image)
    return torch.stack(found).permute(0, 1, 3, 4, 2).contiguous().numpy()


def stage(faces: list[tuple[np.ndarray, int]], wall: int = 120) -> np.ndarray:
    """A frame uint8 (HIGH, WIDE, 3) with faces at x; the later ones stand in front."""
    frame = np.full((HIGH, WIDE, 3), wall, np.uint8)
    for face, x in faces:
        inside = slice(max(0, x), min(WIDE, x + SIDE))
        if inside.stop > inside.start:
            frame[28 : 28 + SIDE, inside] = face[:, inside.start - x : inside.stop - x]
    return frame


def crossing(who: np.ndarray, steps: int = 16) -> list[np.ndarray]:
    """Person 0 goes from left to right, person 1, in front, from right to left."""
    frames = []
    for step in range(steps):
        place = round(10 + (WIDE - SIDE - 20) * step / (steps - 1))
        frames.append(stage([(who[0, step % 2], place), (who[1, step % 2], WIDE - SIDE - place)]))
    return frames


def write(path: Path, frames: list[np.ndarray], times: float | list[float] = 20.0) -> Path:
    """A clip of the frames."""
    return write_video(path, torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2).contiguous(), times)


def write_turned(path: Path, frames: list[np.ndarray]) -> Path:
    """A clip as a phone on its side writes it: stored lying, with a matrix that says how to turn it."""
    import av

    lying = [np.ascontiguousarray(np.rot90(frame)) for frame in frames]
    with av.open(str(path), "w", format="mp4") as box:
        stream = box.add_stream("libx264", rate=20, options={"crf": "12"})
        stream.height, stream.width = lying[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for frame in lying:
            box.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        box.mux(stream.encode())
    data = bytearray(path.read_bytes())
    struct.pack_into(">9i", data, data.find(b"tkhd") + 44, 0, UNIT, 0, -UNIT, 0, 0, 0, 0, 1 << 30)
    path.write_bytes(bytes(data))
    return path


def write_jpegs(path: Path, frames: list[np.ndarray]) -> Path:
    """An AVI in which every frame stands alone, 20 a second."""
    import av

    with av.open(str(path), "w", format="avi") as box:
        stream = box.add_stream("mjpeg", rate=20)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuvj420p"
        for frame in frames:
            box.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        box.mux(stream.encode())
    return path
