"""Where the time of `prepare` goes, and how many frames/s one core does.

    python -m benchmarks.prepare          # on rendered faces in pictures of the size that DISFA and BP4D have

One process, one thread. Decoding, detection and the shape predictor are OpenCV's and dlib's; the rest is ours, the window
that the predictor gets included.
"""

from __future__ import annotations

import argparse
import functools
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import cv2
import torch

from data_modules.bp4d import BP4D
from data_modules.disfa import DISFA
from data_modules.preparation import Settings, prepare
from lit_faces.rendering.renderer import FaceRenderer

LIBRARIES = ("decode", "detect")


def faces(count: int):
    """Rendered faces at 512 px and the whole picture around them."""
    rows = torch.arange(count)
    return FaceRenderer(256, seed=3).render(rows // 8, rows % 8).image.permute(0, 2, 3, 1).numpy()


def put(face, width: int, height: int, side: int):
    """A face of ``side`` pixels in a larger picture."""
    small = cv2.resize(face, (side, side), interpolation=cv2.INTER_CUBIC)
    left, top = (width - side) // 2, (height - side) // 2
    return cv2.copyMakeBorder(small, top, height - side - top, left, width - side - left, cv2.BORDER_REPLICATE)


def write_disfa(root: Path, count: int) -> None:
    """One person: a Cinepak video of 1024x768 (Motion JPEG where PyAV is missing)."""
    from tests.fake.disfa import AUS
    from tests.fake.faces import codec, text, write_video

    pictures = [put(face, 1024, 768, 600) for face in faces(count)]
    write_video(root / "Videos_LeftCamera" / "LeftVideoSN001_comp.avi", pictures, codec())
    for au in AUS:
        rows = "".join(f"{i + 1},0\n" for i in range(count))
        text(root / "ActionUnit_Labels" / "SN001" / f"SN001_au{au}.txt", rows)


def write_bp4d(root: Path, count: int) -> None:
    """One sequence of JPEG pictures of 1040x1392."""
    from tests.fake.faces import save, text

    for i, face in enumerate(faces(count)):
        save(root / "BP4D-training" / "F001" / "T1" / f"{i + 1:04d}.jpg", put(face, 1040, 1392, 1000))
    header = ",".join(map(str, range(100)))
    text(root / "AUCoding" / "F001_T1.csv",
         header + "\n" + "".join(f"{i + 1}," + ",".join("0" * 99) + "\n" for i in range(count)))  # fmt: skip


@functools.cache
def predictor() -> float:
    """Seconds of dlib's shape predictor alone, median of 50."""
    import dlib

    from lit_faces.core.landmarks import PREDICTOR_FILE, find_model_file

    model = dlib.shape_predictor(str(find_model_file(PREDICTOR_FILE)))
    picture, box = put(faces(1)[0], 880, 880, 640), dlib.rectangle(240, 240, 640, 640)
    spent = []
    for _ in range(50):
        start = time.perf_counter()
        model(picture, box)
        spent.append(time.perf_counter() - start)
    return statistics.median(spent)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=48, help="frames of each set")
    args = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    out = Path(tempfile.mkdtemp(prefix="prepare"))
    try:
        for name, reader_class, write in (("DISFA", DISFA, write_disfa), ("BP4D", BP4D, write_bp4d)):
            write(out / name, args.frames)
            for landmarks in ("warm-up", "dlib"):
                reader = reader_class(out / name)
                start = time.perf_counter()
                outcome = prepare(reader, out / f"{name}-{landmarks}", Settings(), reader.clips())
                wall = time.perf_counter() - start
            seconds = outcome.seconds
            library = sum(seconds.get(stage, 0.0) for stage in LIBRARIES) + predictor() * outcome.made
            print(
                f"\n{name}: {outcome.made / wall:.1f} frames/s on one core, {outcome.faces} of {outcome.made} have a face"
            )
            for stage, spent in sorted(seconds.items(), key=lambda item: -item[1]):
                print(f"  {stage:12}{1000 * spent / outcome.made:>8.2f} ms/frame{spent / wall:>8.1%}")
            print(f"  {'the rest':12}{1000 * (wall - sum(seconds.values())) / outcome.made:>8.2f} ms/frame"
                  f"{1 - sum(seconds.values()) / wall:>8.1%}")  # fmt: skip
            print(
                f"  ours (all but {', '.join(LIBRARIES)} and the predictor's {1000 * predictor():.1f} ms): {1 - library / wall:.1%}; bar 20 %"
            )
    finally:
        shutil.rmtree(out)


if __name__ == "__main__":
    main()
