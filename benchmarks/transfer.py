"""Claim: a detector that has only seen parametric heads reads AUs on held-out people and on scanned heads.

    python -m benchmarks.transfer --ict PATH [--detector lit_faces/weights/judge.safetensors] [--n 480]

Prints ICC(3,1) and MAE per AU on held-out parametric people and on ICT-FaceKit heads. ``--remove-bias`` also prints the
ICC after each person's mean error is taken off: what knowing the person would give.
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor

from lit_faces.core.facs import AU_KEYS
from lit_faces.metrics.icc import icc
from lit_faces.rendering.renderer import FaceRenderer
from lit_faces.tasks.au_detector import AUDetector, load_detector

HELD_OUT_SEED = 9001  # no training, validation or judge set has it


def read(
    detector: AUDetector, head: str, count: int, frames: int, focus: tuple[int, ...]
) -> tuple[Tensor, Tensor, Tensor]:
    """Truth (n, 19), prediction (n, 19) and subject (n,)."""
    renderer = FaceRenderer(detector.size, HELD_OUT_SEED, head, focus_aus=focus)
    subjects = torch.arange(count // frames).repeat_interleave(frames)
    batch = renderer.render(subjects, torch.arange(frames).repeat(count // frames))
    return batch.au_intensity, detector.predict_au(batch.image, mirror=True), subjects


def per_au(truth: Tensor, predicted: Tensor) -> Tensor:
    """ICC(3,1) per AU (19,); NaN where an AU is not coded."""
    rows = []
    for column in range(truth.shape[1]):
        known = ~truth[:, column].isnan()
        rows.append(
            icc(torch.stack([truth[known, column], predicted[known, column]], 1)) if known.any() else float("nan")
        )
    return torch.tensor(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--detector", default="packaged")
    parser.add_argument("--ict", help="ICT-FaceKit: a checkout or its packed npz")
    parser.add_argument("--n", type=int, default=480)
    parser.add_argument("--frames", type=int, default=8, help="pictures of each person, each in another light")
    args = parser.parse_args()
    detector = load_detector(args.detector)
    heads = ["parametric", *([f"ict:{args.ict}"] if args.ict else [])]
    columns, titles = [], []
    for head in heads:
        truth, predicted, subject = read(detector, head, args.n, args.frames, (6, 17))
        error = predicted - truth
        columns += [per_au(truth, predicted), (predicted - truth).abs().nanmean(0)]
        mean = torch.stack([error[subject == s].nanmean(0) for s in subject.unique()])
        columns.append(per_au(truth, predicted - mean[subject].nan_to_num(0.0)))
        name = head.split(":")[0]
        titles += [f"{name} ICC", "MAE", "ICC, person's mean error off"]
    print(f"{args.n} pictures of {args.n // args.frames} people a head\n{'AU':6}" + "".join(f"{t:>30}" for t in titles))
    for row, key in enumerate(AU_KEYS):
        print(f"{key:6}" + "".join(f"{float(c[row]):30.3f}" for c in columns))
    print(f"{'mean':6}" + "".join(f"{float(c.nanmean()):30.3f}" for c in columns))


if __name__ == "__main__":
    main()
