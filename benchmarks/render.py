"""Claim: at least 100 faces/s at 128 px on two cores, and how that grows with batch and size.

    python -m benchmarks.render [--device cuda]

Prints faces per second and the ratio to one picture at a time at the same size.
"""

from __future__ import annotations

import argparse
import time

import torch

from lit_faces.rendering.renderer import FaceRenderer


def speed(renderer: FaceRenderer, batch: int, seconds: float) -> float:
    """Faces per second over at least ``seconds``."""
    who = torch.arange(batch)
    renderer.render(who, who)
    done, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        renderer.render(who + done, who + done)
        done += batch
    if renderer.device.type == "cuda":
        torch.cuda.synchronize()
    return done / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 128, 256])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 16, 64, 256])
    args = parser.parse_args()
    name = torch.cuda.get_device_name() if args.device == "cuda" else f"{torch.get_num_threads()} CPU threads"
    print(f"{name}\n{'size':>5} {'batch':>6} {'faces/s':>9} {'ratio':>7}")
    for size in args.sizes:
        renderer, first = FaceRenderer(size, device=args.device), None
        for batch in args.batches:
            rate = speed(renderer, batch, args.seconds)
            first = first or rate
            print(f"{size:5d} {batch:6d} {rate:9.1f} {rate / first:7.2f}", flush=True)


if __name__ == "__main__":
    main()
