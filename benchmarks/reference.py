"""Claim: one resting photo of a person beside every frame makes a detector better for that person, and nobody pays.

    python -m benchmarks.reference --detector FILE [--ict PATH] [--people 48] [--frames 10]

People whom no training has seen: one photo of each at rest, and frames in other light, pose and camera. The same
detector reads them alone; less the person's zero (shrunk, and plain subtraction); less the detector's own features of
the photo where it has a reference head; beside a stranger's photo; and with each person's mean error taken off, which
nobody knows at use (oracle). ICC(3,1), mean over AUs, calibrated readings; intervals of the gain over people (BCa).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lit_faces.core.facs import AU_KEYS, MAX_INTENSITY, NUM_AUS
from lit_faces.metrics.bootstrap import bootstrap_over_subjects
from lit_faces.metrics.icc import icc_of_moments, pair_moments
from lit_faces.persons.zero import Evidence, Slopes, Zero
from lit_faces.rendering.renderer import FaceRenderer
from lit_faces.tasks.au_detector import AUDetector, load_detector

SEEDS = {"parametric": 9000, "ict": 9001}  # no training, validation or judge set has them
_PHOTO_SCENE, _PHOTO_FRAME = 7, 1000  # neither scene nor frame of the photo occurs among the frames


@dataclass
class People:
    """P people with F frames each, and a photo of each at rest.

    Attributes:
        photos: uint8 (P, 3, S, S).
        images: uint8 (P, F, 3, S, S).
        truth: float32 (P, F, 19), NaN = this head does not show the AU.
    """

    photos: Tensor
    images: Tensor
    truth: Tensor


def render_people(head: str, people: int, frames: int, size: int, at_once: int = 8) -> People:
    """The people of a head family; frames are spread over four scenes."""
    renderer = FaceRenderer(size, SEEDS[head.split(":")[0]], head, focus_aus=(6, 17))
    photos, images, truth = [], [], []
    for first in range(0, people, at_once):
        who = torch.arange(first, min(first + at_once, people))
        pose = 4.0 * torch.randn(len(who), 3, generator=torch.Generator().manual_seed(first))
        rest = torch.zeros(len(who), NUM_AUS)
        scene = torch.full_like(who, _PHOTO_SCENE)
        photos.append(renderer.render(who, torch.full_like(who, _PHOTO_FRAME), scene, au=rest, pose=pose).image)
        each, frame = who.repeat_interleave(frames), torch.arange(frames).repeat(len(who))
        batch = renderer.render(each, frame, frame % 4)
        images.append(batch.image.unflatten(0, (len(who), frames)))
        truth.append(batch.au_intensity.unflatten(0, (len(who), frames)))
    return People(torch.cat(photos), torch.cat(images), torch.cat(truth))


def ways(detector: AUDetector, people: People) -> Iterator[tuple[str, Tensor]]:
    """What each way reads, float32 (P, F, 19)."""
    count, frames = people.truth.shape[:2]
    generic = detector.predict_au(people.images.flatten(0, 1)).unflatten(0, (count, frames))
    yield "generic", generic
    rest = detector.predict_au(people.photos)
    yield "zero", torch.stack([_less(generic[k], rest[k], Slopes.shipped()) for k in range(count)])
    yield "subtraction", (generic - rest[:, None]).clamp(0, MAX_INTENSITY)
    error = (generic - people.truth).nanmean(1, keepdim=True).nan_to_num(0.0)
    yield "oracle (mean error off)", (generic - error).clamp(0, MAX_INTENSITY)
    if detector.reference is None:
        return
    for name, shift in (("reference", 0), ("a stranger's photo", 1)):
        yield name, torch.stack([_beside(detector, people, k, (k + shift) % count) for k in range(count)])


def _less(readings: Tensor, rest: Tensor, slopes: Slopes) -> Tensor:
    zero = Zero.of(AU_KEYS, slopes).pooled(Evidence(rest.double().numpy(), "photo"))
    return zero.apply(readings, AU_KEYS)


def _beside(detector: AUDetector, people: People, who: int, photo: int) -> Tensor:
    rest = torch.zeros(1, NUM_AUS)
    detector.set_references(detector.make_references(people.photos[photo : photo + 1], rest))
    found = detector.predict_au(people.images[who])
    detector.set_references(None)
    return found


def mean_icc(truth: np.ndarray, read: np.ndarray) -> float:
    """ICC(3,1), mean over the AUs that are coded, of (n, 19) arrays."""
    values = icc_of_moments(pair_moments(torch.from_numpy(truth), torch.from_numpy(read)), "3,1")
    return float(values.nanmean())


def compare(detector: AUDetector, people: People, resamples: int) -> list[tuple[str, float, str]]:
    """Rows of the table: way, ICC, gain over generic with its interval."""
    truth = people.truth.flatten(0, 1).double().numpy()
    subjects = np.repeat(np.arange(len(people.truth)), people.truth.shape[1])
    rows, generic = [], np.zeros(0)
    for name, found in ways(detector, people):
        read = found.flatten(0, 1).double().numpy()
        if name == "generic":
            generic = read
            rows.append((name, mean_icc(truth, read), ""))
            continue
        gain = bootstrap_over_subjects(
            lambda t, a, b: mean_icc(t, a) - mean_icc(t, b), [truth, read, generic], subjects, resamples
        )
        rows.append((name, mean_icc(truth, read), f"{gain.estimate:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]"))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--detector", default="generic")
    parser.add_argument("--ict", help="ICT-FaceKit: a checkout or its packed npz")
    parser.add_argument("--people", type=int, default=48)
    parser.add_argument("--frames", type=int, default=10)
    parser.add_argument("--resamples", type=int, default=400)
    args = parser.parse_args()
    detector = load_detector(args.detector)
    for head in ["parametric", *([f"ict:{args.ict}"] if args.ict else [])]:
        people = render_people(head, args.people, args.frames, detector.size)
        print(
            f"\n{head.split(':')[0]} heads, {args.people} people x {args.frames} frames\n{'':26}{'ICC':>7}  gain over generic"
        )
        for name, value, gain in compare(detector, people, args.resamples):
            print(f"{name:26}{value:7.3f}  {gain}")


if __name__ == "__main__":
    main()
