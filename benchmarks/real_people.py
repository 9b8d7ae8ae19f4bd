"""Claim: after which method does a detector read a *real* person better, from one frame of their clip?

    python -m benchmarks.real_people --clips ../shared/data/real --readings clips.csv [--n 200] [--every 4]

Of each clip the most resting frame is the photo, and nothing else of the person is learnt from: a zero; the photo beside
the frames that are read; a set of ``n`` verified pictures made from it, learnt as a delta, as a delta beside the photo, by
EWC + replay, by fine-tuning. All other frames are then read. Nobody has coded them: what is counted is the correlation
with OpenFace over the frames, of the AUs that move there and that the readers can be trusted on, and with MediaPipe
beside it. The readers measure, they never teach. Two clips are two people: what helps both is a hint, not a proof.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.outside import OutsideTable
from benchmarks.real_figures import Floats, clip_agreement, pearson
from benchmarks.real_report import TRUSTED
from lit_faces.core.clips import faces_of_clip, is_clip
from lit_faces.core.facs import AU_KEYS, NUM_AUS
from lit_faces.core.landmarks import FaceAnalyser
from lit_faces.core.sample import FaceBatch, collate, joined
from lit_faces.core.shipped import PHOTO_HEAD
from lit_faces.fitting.landmark_model import LandmarkModel
from lit_faces.persons.learner import PersonalLearner, shipped_fisher
from lit_faces.persons.maker import SetMaker, Settings
from lit_faces.persons.plan import make_plan
from lit_faces.persons.recipes import Recipe
from lit_faces.persons.source import source_of_faces
from lit_faces.persons.zero import Evidence, Slopes, Zero
from lit_faces.rendering.renderer import render_population
from lit_faces.tasks.au_detector import AUDetector, load_detector

METHODS = ("delta", "delta_reference", "ewc_replay", "finetune")
_FRAMES = 100_000


def made_from(photo: FaceBatch, detector: AUDetector, count: int) -> FaceBatch:
    """The photo, and the verified pictures that are made from it, labelled."""
    model = LandmarkModel()
    source = source_of_faces(photo, model, detector.predict_au, "neutral", "person")
    maker = SetMaker(source, make_plan("balanced", count, 0), Settings(PHOTO_HEAD, size=detector.size))
    attempts, kept, _ = maker.make(list(range(count)))
    print(f"{len(kept)} of {len(attempts)} pictures kept", flush=True)
    resting = dataclasses.replace(photo, au_intensity=torch.zeros(1, NUM_AUS), au_occurrence=torch.zeros(1, NUM_AUS))
    return joined(resting, maker.batch(attempts, kept))


def ways(detector: AUDetector, photo: FaceBatch, images: Tensor, count: int, methods: Sequence[str]) -> Iterator[tuple]:
    """Name and readings (T, 19) of each way."""
    generic = detector.predict_au(images)
    yield "generic", generic
    rest = Evidence(detector.predict_au(photo.image)[0].double().numpy(), "photo")
    yield "zero", Zero.of(AU_KEYS, Slopes.shipped()).pooled(rest).apply(generic, AU_KEYS)
    if detector.reference is not None:
        detector.set_references(detector.make_references(photo.image, torch.zeros(1, NUM_AUS)))
        yield "reference", detector.predict_au(images)
        detector.set_references(None)
    faces = made_from(photo, detector, count)
    others = render_population(detector.size, 0, 320, 2)
    for method in methods:
        learner = PersonalLearner(copy.deepcopy(detector), method, Recipe())
        learner.start(others, fisher=shipped_fisher("generic"))
        learner.learn("person", faces, consolidate=False)
        yield f"set, {method}", learner.predict(images, "person")


def compare(path: Path, detector: AUDetector, outside: OutsideTable, args: argparse.Namespace) -> None:
    """Print the table of a clip."""
    clip = faces_of_clip(path, detector.size, limit=_FRAMES, every=args.every, analyser=FaceAnalyser())
    batch = collate(clip.samples)
    names = [f"{path.name}#{int(frame)}" for frame in batch.frame]
    openface, mediapipe = outside.openface(names), outside.mediapipe(names)
    rest = int(detector.predict_au(batch.image).sum(1).argmin())
    known = ~np.isnan(openface.score[:, AU_KEYS.index("AU12")])
    known[rest] = False
    print(f"\n{path.name}: photo is frame {int(batch.frame[rest])}; {int(known.sum())} other frames")
    before: Floats = np.zeros(0)
    for name, found in ways(detector, batch.select(slice(rest, rest + 1)), batch.image, args.n, args.methods):
        ours = found.double().numpy()[known]
        moves = clip_agreement(ours, openface.score[known], openface.grade[known], 1)[1]
        moves &= np.array([key in TRUSTED for key in AU_KEYS])
        r = np.array([pearson(ours[:, k], openface.score[known][:, k]) for k in range(NUM_AUS)])
        theirs = [pearson(ours[:, k], mediapipe.score[known][:, k]) for k in np.flatnonzero(moves)]
        before = r if name == "generic" else before
        worse = [AU_KEYS[k] for k in np.flatnonzero(moves) if r[k] < before[k] - 0.05]
        at17 = r[AU_KEYS.index("AU17")]
        print(f"{name:24} r with OpenFace {np.nanmean(r[moves]):.2f} (MediaPipe {np.nanmean(theirs):.2f}), AU17 {at17:.2f}; "
              f"resting median at most {np.median(ours, 0).max():.2f}; worse by .05: {' '.join(worse) or '-'}", flush=True)  # fmt: skip


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--detector", default="generic")
    parser.add_argument("--clips", type=Path, required=True, help="folder with clips")
    parser.add_argument("--readings", type=Path, nargs="+", required=True, help="tables of readers.py of their frames")
    parser.add_argument("--n", type=int, default=200, help="pictures of a set")
    parser.add_argument("--every", type=int, default=4, help="each so many frames are read")
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    args = parser.parse_args()
    torch.set_num_threads(1)
    detector, outside = load_detector(args.detector), OutsideTable.read(args.readings)
    for path in sorted(args.clips.iterdir()):
        if is_clip(path):
            compare(path, detector, outside, args)


if __name__ == "__main__":
    main()
