"""How fast a video is read, and how near to reading every frame by itself: ours in three ways, beside MediaPipe.

    python -m benchmarks.predict CLIP                      # frames/s, ratios, r with detection in every frame
    python -m benchmarks.predict CLIP --sizes --faces      # and how it grows with size (360p to 4K) and faces (1, 2, 4)
    python -m benchmarks.predict CLIP --hour               # memory over the clip looped for an hour of video
    python -m benchmarks.predict CLIP --mediapipe MODEL    # face_landmarker.task, with `pip install mediapipe`

Everything runs in turn in one process, several rounds, medians are shown; the load of the machine stands above.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
import torch

from lit_faces.core.devices import leave_a_core
from lit_faces.core.facs import AU_KEYS
from lit_faces.core.landmarks import FaceAnalyser, align_crop
from lit_faces.core.video import frames_of
from lit_faces.reading.pipeline import read_video
from lit_faces.reading.sources import Shot, video_shots
from lit_faces.reading.tracking import FaceTracker
from lit_faces.tasks.au_detector import AUDetector, load_detector

T = TypeVar("T")
MOVES = 0.7  # grades from the 5th to the 95th percentile: such an AU moves (shared/referees)


def tracked(shots: Iterator[Shot], detector: AUDetector, every: float = 0.5) -> np.ndarray:
    """Our way: intensities (n, 19)."""
    tracker = FaceTracker(every, ANALYSER)
    return np.array([row.intensity for part in read_video(shots, "clip", detector, tracker) for row in part.rows])


def plainly(clip: Path, detector: AUDetector) -> np.ndarray:
    """One frame after the other: detect, find landmarks, align, read."""
    found = []
    for frame in frames_of(clip):
        picture = frame.picture()
        crop = align_crop(picture, ANALYSER.landmarks(picture, ANALYSER.detect(picture, 0)[0]), detector.size)[0]
        found.append(detector.predict(crop[None]).intensity[0].numpy())
    return np.array(found)


def mediapipe_way(clip: Path, model: Path) -> np.ndarray:
    """MediaPipe's landmarker in video mode, blendshapes on."""
    import mediapipe
    from mediapipe.tasks.python import BaseOptions, vision

    options = vision.FaceLandmarkerOptions(
        BaseOptions(model_asset_path=str(model)), running_mode=vision.RunningMode.VIDEO, output_face_blendshapes=True
    )
    with vision.FaceLandmarker.create_from_options(options) as reader:
        for frame in frames_of(clip):
            image = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=frame.picture())
            reader.detect_for_video(image, round(1000 * frame.seconds))
    return np.zeros(0)


def larger(shots: Iterator[Shot], width: int, tiles: int = 1) -> Iterator[Shot]:
    """The frames in another width; ``tiles`` of them side by side."""
    for shot in shots:
        if shot.picture is not None:
            height = round(shot.picture.shape[0] * width / shot.picture.shape[1])
            picture = np.tile(cv2.resize(shot.picture, (width, height)), (1, tiles, 1))
            yield Shot(shot.number, shot.seconds, np.ascontiguousarray(picture))


def clocked(work: Callable[[], T], frames: int) -> tuple[float, float, T]:
    """Frames a second, CPU ms a frame, and what the work gave."""
    start, cpu = time.perf_counter(), time.process_time()
    found = work()
    return frames / (time.perf_counter() - start), 1000 * (time.process_time() - cpu) / frames, found


def compare(clip: Path, detector: AUDetector, rounds: int, model: Path | None) -> None:
    frames = sum(1 for _ in frames_of(clip))
    ways: dict[str, Callable[[], np.ndarray]] = {
        "predict": lambda: tracked(video_shots(clip), detector),
        "the same, detection in every frame": lambda: tracked(video_shots(clip), detector, 0.0),
        "one frame after the other": lambda: plainly(clip, detector),
    }
    if model is not None:
        ways["MediaPipe landmarker, video mode"] = lambda: mediapipe_way(clip, model)
    took: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    read: dict[str, np.ndarray] = {}
    for _ in range(rounds):
        for name, way in ways.items():
            rate, cpu, read[name] = clocked(way, frames)
            took[name].append((rate, cpu))
    first = statistics.median(rate for rate, _ in took["predict"])
    print("| way | frames/s | CPU ms a frame | predict is so many times as fast |\n|---|---|---|---|")
    for name, found in took.items():
        rate, cpu = (statistics.median(values) for values in zip(*found))
        print(f"| {name} | {rate:.1f} | {cpu:.1f} | {first / rate:.2f} |")
    ours, full = list(read.values())[:2]
    low, high = np.percentile(full, (5, 95), axis=0)
    moving = [k for k in range(len(AU_KEYS)) if high[k] - low[k] > MOVES]
    agree = {AU_KEYS[k]: float(np.corrcoef(ours[:, k], full[:, k])[0, 1]) for k in moving}
    print("r with detection in every frame:", ", ".join(f"{name} {r:.3f}" for name, r in agree.items()))
    print(f"least {min(agree.values()):.3f}, mean {np.mean(list(agree.values())):.3f} over {len(agree)} AUs that move")


def grow(clip: Path, detector: AUDetector, widths: list[int], tiles: list[int], count: int) -> None:
    print("| width | faces | frames/s (decoding at 640 px and resizing included) |\n|---|---|---|")
    for width, faces in itertools.chain(((w, 1) for w in widths), ((640, n) for n in tiles)):
        shots = itertools.islice(larger(video_shots(clip), width, faces), count)
        rate, _, _ = clocked(lambda shots=shots: tracked(shots, detector), count)
        print(f"| {width * faces} | {faces} | {rate:.1f} |", flush=True)


def looped(clip: Path, detector: AUDetector, seconds: float) -> None:
    """Resident memory over the clip, shown again and again."""

    def shots() -> Iterator[Shot]:
        number, offset, last = 0, 0.0, 0.0
        while offset < seconds:
            for shot in video_shots(clip):
                last = offset + shot.seconds
                yield Shot(number, last, shot.picture)
                number += 1
            offset = last + 0.04

    tracker = FaceTracker(0.5, ANALYSER)
    for part in read_video(shots(), "clip", detector, tracker):
        if part.number % 2000 == 1999:
            resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
            print(f"frame {part.number + 1}, {part.seconds:.0f} s of video: {resident:.0f} MiB", flush=True)


ANALYSER = FaceAnalyser()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--mediapipe", type=Path)
    parser.add_argument("--sizes", action="store_true")
    parser.add_argument("--faces", action="store_true")
    parser.add_argument("--hour", type=float, nargs="?", const=3600.0, help="seconds of looped video")
    args = parser.parse_args()
    leave_a_core()
    detector = load_detector("generic")
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, network threads {torch.get_num_threads()}")
    if args.hour:
        looped(args.clip, detector, args.hour)
        return
    compare(args.clip, detector, args.rounds, args.mediapipe)
    if args.sizes or args.faces:
        grow(args.clip, detector, [640, 1280, 1920, 3840] if args.sizes else [], [1, 2, 4] if args.faces else [], 120)


if __name__ == "__main__":
    main()
