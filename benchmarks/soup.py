"""Claim: the mean of the weights of trainings that began from one detector reads new people better than each of them.

    python -m benchmarks.soup A.safetensors B.safetensors --out mean.safetensors

Model soups (Wortsman et al. 2022). Trainings from one start end in one valley: so do those with and without a second family
of heads. Scale and thresholds of the mean are fitted on the validation people of ``experiments/detector.yaml``, as ``fit``
fits them; ICC(3,1) on them, calibrated, is printed for each.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor

from data_modules.rendered import RenderedFaces
from lit_faces.core.facs import AU_KEYS
from lit_faces.core.sample import FaceBatch
from lit_faces.core.weights import load_weights
from lit_faces.metrics.icc import icc_of_moments, pair_moments
from lit_faces.tasks.au_detector import AUDetector, load_detector


def mean_of(detectors: list[AUDetector]) -> AUDetector:
    """The first detector with the mean of the weights of all, running statistics included.

    Raises:
        ValueError: detectors of other shapes.
    """
    states = [one.state_dict() for one in detectors]
    for other in states[1:]:
        if other.keys() != states[0].keys() or any(other[k].shape != v.shape for k, v in states[0].items()):
            raise ValueError("detectors of different architectures have no mean: give two trainings from one start")
    mean = {
        key: torch.stack([state[key].float() for state in states]).mean(0) if value.is_floating_point() else value
        for key, value in states[0].items()
    }
    detectors[0].load_state_dict(mean)
    return detectors[0]


def icc_on(detector: AUDetector, faces: FaceBatch) -> Tensor:
    """ICC(3,1) by AU, calibrated readings."""
    read = detector.predict_au(faces.image)
    return icc_of_moments(pair_moments(faces.au_intensity.double(), read.double()), "3,1")


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("detectors", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    data = RenderedFaces(mode="frames", val_subjects=60, scenes=4, eval_frames=4, seed=5000, smooth_share=0.35,
                         spread=1.15, train_subjects=1, test_subjects=1)  # fmt: skip
    data.prepare_data()
    data.setup("validate")
    assert data.val_set is not None
    faces: FaceBatch = data.val_set.__getitems__(range(len(data.val_set)))
    detectors = [load_detector(path) for path in args.detectors]
    for path, one in zip(args.detectors, detectors):
        print(f"{path.name:28} ICC {float(icc_on(one, faces).nanmean()):.3f}", flush=True)
    mean = mean_of(detectors)
    mean.fit_calibration(faces)
    found = icc_on(mean, faces)
    print(f"{'the mean of their weights':28} ICC {float(found.nanmean()):.3f}")
    card = load_weights(args.detectors[-1])[1]
    kept = {key: card[key] for key in ("seen", "began_from", "images_seen") if key in card}
    figures = {f"val/icc/{key}": round(float(value), 5) for key, value in zip(AU_KEYS, found)}
    mean.export_weights(args.out, figures=figures, averaged=len(detectors), **kept)


if __name__ == "__main__":
    main()
