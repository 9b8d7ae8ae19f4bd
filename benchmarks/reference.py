"""Claim: one resting photo of a person beside every frame makes a detector better for that person, and nobody pays.

    python -m benchmarks.reference --detector FILE [--ict PATH] [--people 48] [--frames 10] [--learn delta ewc_replay]

People whom no training has seen: one photo of each at rest, and frames in other light, pose and camera. The same
detector reads them alone; less the person's zero (shrunk, and plain subtraction); less the detector's own features of
the photo where it has a reference head; beside a stranger's photo; and with each person's mean error taken off, which
nobody knows at use (oracle). ``--learn`` also learns each person alone from 20 labelled frames, by methods that train.
ICC(3,1), mean over AUs, calibrated readings; intervals of the gain over people (BCa).
"""

from __future__ import annotations

import argparse
import copy
import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from lit_faces.core.facs import AU_KEYS, MAX_INTENSITY, NUM_AUS
from lit_faces.core.sample import FaceBatch, joined
from lit_faces.metrics.bootstrap import bootstrap_over_subjects
from lit_faces.metrics.icc import icc_of_moments, pair_moments
from lit_faces.persons.learner import PersonalLearner, shipped_fisher
from lit_faces.persons.recipes import Recipe
from lit_faces.persons.zero import Evidence, Slopes, Zero
from lit_faces.rendering.renderer import FaceRenderer, render_population
from lit_faces.tasks.au_detector import AUDetector, load_detector

SEEDS = {"parametric": 9000, "ict": 9001}  # no training, validation or judge set has them
_PHOTO_SCENE, _PHOTO_FRAME = 7, 1000  # neither scene nor frame of the photo occurs among the frames
_LEARNT, _FIRST_LEARNT, _LEARNT_SCENE = 20, 2000, 8  # frames to learn from: others again


@dataclass
class People:
    """P people with F frames each, and a photo of each at rest.

    Attributes:
        photos: uint8 (P, 3, S, S).
        images: uint8 (P, F, 3, S, S).
        truth: float32 (P, F, 19), NaN = this head does not show the AU.
        labelled: of each the photo, at rest, and 20 other frames, with their AUs.
    """

    photos: Tensor
    images: Tensor
    truth: Tensor
    labelled: list[FaceBatch]


def render_people(head: str, people: int, frames: int, size: int, labelled: bool = False, at_once: int = 8) -> People:
    """The people of a head family; frames are spread over four scenes, those to learn from over two others."""
    renderer = FaceRenderer(size, SEEDS[head.split(":")[0]], head, focus_aus=(6, 17))
    photos, images, truth = [], [], []
    learnt: list[FaceBatch] = []
    for first in range(0, people, at_once):
        who = torch.arange(first, min(first + at_once, people))
        pose = 4.0 * torch.randn(len(who), 3, generator=torch.Generator().manual_seed(first))
        rest = torch.zeros(len(who), NUM_AUS)
        scene = torch.full_like(who, _PHOTO_SCENE)
        photo = renderer.render(who, torch.full_like(who, _PHOTO_FRAME), scene, au=rest, pose=pose)
        photos.append(photo.image)
        each, frame = who.repeat_interleave(frames), torch.arange(frames).repeat(len(who))
        batch = renderer.render(each, frame, frame % 4)
        images.append(batch.image.unflatten(0, (len(who), frames)))
        truth.append(batch.au_intensity.unflatten(0, (len(who), frames)))
        for k, one in enumerate(who.tolist() if labelled else ()):
            count = torch.arange(_LEARNT)
            few = renderer.render(torch.full_like(count, one), _FIRST_LEARNT + count, _LEARNT_SCENE + count % 2)
            learnt.append(joined(photo.select(slice(k, k + 1)), few))
    return People(torch.cat(photos), torch.cat(images), torch.cat(truth), learnt)


class _Learner:
    """Learns one person after another, each alone, in a process of its own."""

    def __init__(self, detector: AUDetector, method: str, others: FaceBatch) -> None:
        torch.set_num_threads(1)
        self.detector, self.method, self.others = detector, method, others
        self.fisher = shipped_fisher("generic")

    def __call__(self, frames: FaceBatch, images: Tensor) -> Tensor:
        learner = PersonalLearner(copy.deepcopy(self.detector), self.method, Recipe())
        learner.start(self.others, fisher=self.fisher)
        learner.learn("person", frames, consolidate=False)
        return learner.predict(images, "person").clone()


_OWN: list[_Learner] = []


def _begin(detector: AUDetector, method: str, others: FaceBatch) -> None:
    _OWN.append(_Learner(detector, method, others))


def _learn_one(frames: FaceBatch, images: Tensor) -> Tensor:
    return _OWN[0](frames, images)


def learnt(detector: AUDetector, people: People, method: str, workers: int = 1) -> Tensor:
    """Readings (P, F, 19) after each person was learnt alone from their photo and labelled frames."""
    others = render_population(detector.size, 0, 320, 2)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _begin, (detector, method, others)) as pool:
        found = pool.map(_learn_one, people.labelled, people.images)
        return torch.stack(list(tqdm(found, method, len(people.labelled), unit="person")))


def ways(
    detector: AUDetector, people: People, methods: Sequence[str] = (), workers: int = 1
) -> Iterator[tuple[str, Tensor]]:
    """What each way reads, float32 (P, F, 19)."""
    count, frames = people.truth.shape[:2]
    generic = detector.predict_au(people.images.flatten(0, 1)).unflatten(0, (count, frames))
    yield "generic", generic
    rest = detector.predict_au(people.photos)
    yield "zero", torch.stack([_less(generic[k], rest[k], Slopes.shipped()) for k in range(count)])
    yield "subtraction", (generic - rest[:, None]).clamp(0, MAX_INTENSITY)
    error = (generic - people.truth).nanmean(1, keepdim=True).nan_to_num(0.0)
    yield "oracle (mean error off)", (generic - error).clamp(0, MAX_INTENSITY)
    for method in methods:
        yield f"{_LEARNT} labelled frames, {method}", learnt(detector, people, method, workers)
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


def compare(
    detector: AUDetector, people: People, resamples: int, methods: Sequence[str] = (), workers: int = 1
) -> Iterator[tuple[str, float, str]]:
    """Rows of the table, as they come: way, ICC, gain over generic with its interval."""
    truth = people.truth.flatten(0, 1).double().numpy()
    subjects = np.repeat(np.arange(len(people.truth)), people.truth.shape[1])
    generic = np.zeros(0)
    for name, found in ways(detector, people, methods, workers):
        read = found.flatten(0, 1).double().numpy()
        if name == "generic":
            generic = read
            yield name, mean_icc(truth, read), ""
            continue
        gain = bootstrap_over_subjects(
            lambda t, a, b: mean_icc(t, a) - mean_icc(t, b), [truth, read, generic], subjects, resamples
        )
        yield name, mean_icc(truth, read), f"{gain.estimate:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--detector", default="generic")
    parser.add_argument("--ict", help="ICT-FaceKit: a checkout or its packed npz")
    parser.add_argument("--heads", nargs="+", help="families of heads instead of parametric and --ict")
    parser.add_argument("--people", type=int, default=48)
    parser.add_argument("--frames", type=int, default=10)
    parser.add_argument("--learn", nargs="+", default=[], help="methods of adapt that learn from 20 labelled frames")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes that learn")
    parser.add_argument("--resamples", type=int, default=400)
    args = parser.parse_args()
    detector = load_detector(args.detector)
    for head in args.heads or ["parametric", *([f"ict:{args.ict}"] if args.ict else [])]:
        people = render_people(head, args.people, args.frames, detector.size, bool(args.learn))
        print(
            f"\n{head.split(':')[0]} heads, {args.people} people x {args.frames} frames\n{'':36}{'ICC':>7}  gain over generic"
        )
        for name, value, gain in compare(detector, people, args.resamples, args.learn, args.workers):
            print(f"{name:36}{value:7.3f}  {gain}", flush=True)


if __name__ == "__main__":
    main()
