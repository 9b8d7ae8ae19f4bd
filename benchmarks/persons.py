"""Claim: one photo of a person, through a verified generated set, makes the detector better at that person.

    python -m benchmarks.persons [--people 20] [--n 300] [--head ict:PATH] [--labels agreed] [--jobs 1] [--out FILE]

For each unseen rendered person: one photo with a neutral face, found by dlib, its AUs estimated; a set of ``n`` verified
pictures; the personal detector learnt from it; scored on 64 other frames of the person in other light with random AUs.
Beside it: the generic detector, the photo alone (k = 1) and 20 real labelled frames. Each person is learnt alone.

ICC(3,1) a person is the mean over AUs that are active in at least 4 of the frames; intervals are bootstrapped over people.
Nobody's test frames are seen by anything but the final readings. Finished people are kept in ``--out`` and not redone.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lit_faces.core.landmarks import FaceAnalyser
from lit_faces.core.sample import FaceBatch
from lit_faces.fitting.landmark_model import LandmarkModel
from lit_faces.metrics.detector import scores
from lit_faces.persons.learner import PersonalLearner, shipped_fisher
from lit_faces.persons.maker import SetMaker, Settings
from lit_faces.persons.plan import make_plan
from lit_faces.persons.recipes import Recipe
from lit_faces.persons.source import source_of_faces
from lit_faces.persons.verify import labels_of
from lit_faces.rendering.renderer import POPULATION, FaceRenderer, render_population
from lit_faces.tasks.au_detector import load_detector

FIRST = {"val": 6_000_000, "test": 7_000_000}  # subjects: nobody else uses these numbers
TEST_FRAMES, FEW, GENERIC = 64, 20, (8_000_000, 64, 2)


def person(renderer: FaceRenderer, subject: int, few: int = FEW) -> tuple[FaceBatch, FaceBatch, FaceBatch]:
    """Photo (neutral), ``few`` frames to learn from, test frames (64); all in scenes of their own."""
    count = 1 + few + TEST_FRAMES
    au = torch.full((count, 19), float("nan"))
    au[0] = 0.0
    faces = renderer.render(torch.full((count,), subject), torch.arange(count), au=au)
    return faces.select(slice(0, 1)), faces.select(slice(1, 1 + few)), faces.select(slice(1 + few, count))


def learner_for(detector: Any, others: FaceBatch, reference: FaceBatch, seed: int) -> PersonalLearner:
    """A new learner of the shipped detector."""
    learner = PersonalLearner(detector, "ewc_replay", Recipe(seed=seed))
    learner.start(others, reference, shipped_fisher("generic"))
    return learner


def run(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Scores of everybody; goes on where it was stopped."""
    torch.set_num_threads(1)
    done = [json.loads(line) for line in args.out.read_text().splitlines()] if args.out.is_file() else []
    options = dict(POPULATION) if args.head == "parametric" else {"seed": 7001, "head": args.head}
    renderer = FaceRenderer(128, **options)
    detector, judge = load_detector("generic"), load_detector("packaged")
    others, strangers = render_population(128, 0, 320, 2), render_population(128, *GENERIC)
    start = learner_for(detector, others, strangers, 0)
    model, analyser = LandmarkModel(), FaceAnalyser()
    for number in range(args.first, args.first + args.people):
        if any(row["person"] == number for row in done):
            continue
        began = time.monotonic()
        photo, few, test = person(renderer, (FIRST[args.split] if args.head == "parametric" else 0) + number)
        found = analyser.batch_landmarks(photo.image)
        row: dict[str, Any] = {"person": number}
        try:
            given = FaceBatch(**{**vars(photo), "landmarks": found})
            source = source_of_faces(given, model, detector.predict_au, args.source_au, f"person {number}")
        except ValueError as error:
            print(f"{number}: {error}")
            done.append({**row, "refused": str(error)})
            args.out.open("a").write(json.dumps(done[-1]) + "\n")
            continue
        plan = make_plan("balanced", args.n, seed=number)
        settings = Settings(attempts=args.attempts)
        maker = SetMaker(source, plan, settings, judge=judge.predict_au, analyser=analyser)
        attempts, kept, _ = maker.make(list(range(args.n)))
        made = maker.batch(attempts, kept)
        row.update(kept=len(made), attempts=len(attempts), generation=time.monotonic() - began)
        row["distance"] = float(np.nanmedian([a.distance for a in attempts if a.kept]))
        good = sorted((a for a in attempts if a.kept), key=lambda a: a.slot)
        row["asked"] = [a.asked for a in good]
        row["achieved"] = [a.achieved for a in good]
        own = FaceBatch(**{**vars(photo), "landmarks": found, "au_intensity": source.faces.au_intensity})
        sets: dict[str, FaceBatch] = {}
        for how in args.labels.split(","):
            labels = labels_of(torch.tensor(row["asked"]), torch.tensor(row["achieved"]), how, settings.tolerances)
            sets[how] = FaceBatch(**{**vars(made), "au_intensity": labels, "au_occurrence": (labels >= 2) + labels * 0})
        if args.unverified:
            raw = SetMaker(source, plan, Settings(verify=False))
            sets["unverified"] = raw.batch(*raw.make(list(range(args.n)))[:2])
        if args.real:
            sets["k1"], sets["k20"] = own, few
        readings = {"generic": detector.predict_au(test.image)}
        drop = {"generic": detector.predict_au(strangers.image)}
        for name, faces in sets.items():
            learner = copy.deepcopy(start)
            learner.learn("person", faces, consolidate=False)
            readings[name] = learner.predict(test.image, "person")
            drop[name] = learner.predict(strangers.image)
        row["truth"] = rounded(test.au_intensity)
        row["readings"] = {name: rounded(value) for name, value in readings.items()}
        row["strangers"] = {name: mean_icc(strangers.au_intensity, value) for name, value in drop.items()}
        row["seconds"] = time.monotonic() - began
        done.append(row)
        with args.out.open("a") as file:
            file.write(json.dumps(row) + "\n")
        means = {name: round(mean_icc(test.au_intensity, value), 3) for name, value in readings.items()}
        print(
            f"{number}: {len(made)} of {args.n} kept, {len(attempts)} attempts, {row['seconds']:.0f} s, {means}",
            flush=True,
        )
    return done


def rounded(values: Tensor) -> list[list[float | None]]:
    """JSON."""
    return [[None if v != v else round(v, 3) for v in row] for row in values.tolist()]


def back(values: list[list[float | None]]) -> Tensor:
    """Of :func:`rounded`."""
    return torch.tensor([[float("nan") if v is None else v for v in row] for row in values])


def mean_icc(truth: Tensor, found: Tensor) -> float:
    """Mean ICC(3,1) over AUs that are active often enough."""
    return float(np.nanmean(scores(truth, found)[0]))


def interval(values: np.ndarray, draws: int = 10_000) -> tuple[float, float]:
    """95 % of the mean, bootstrap over people."""
    random = np.random.default_rng(0)
    means = np.nanmean(values[random.integers(0, len(values), (draws, len(values)))], 1)
    return float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975))


def report(rows: list[dict[str, Any]]) -> str:
    """Markdown."""
    good = [row for row in rows if "readings" in row]
    lines = [f"{len(good)} people ({len(rows) - len(good)} refused)", ""]
    lines += [
        "| learnt from | ICC(3,1), mean over people | gain | 95 % over people | better | pooled ICC | gain | gain, MAE | strangers |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    truth = [back(row["truth"]) for row in good]
    names = list(good[0]["readings"])
    base = np.array([mean_icc(t, back(row["readings"]["generic"])) for t, row in zip(truth, good)])
    mae = lambda name: np.array([float((back(r["readings"][name]) - t).abs().nanmean()) for t, r in zip(truth, good)])  # noqa: E731
    pooled = lambda name: mean_icc(torch.cat(truth), torch.cat([back(r["readings"][name]) for r in good]))  # noqa: E731
    for name in names:
        own = np.array([mean_icc(t, back(row["readings"][name])) for t, row in zip(truth, good)])
        gain = own - base
        low, high = interval(gain)
        strangers = np.mean([row["strangers"][name] - row["strangers"]["generic"] for row in good])
        lines.append(
            f"| {name} | {own.mean():.3f} | {gain.mean():+.3f} | {low:+.3f} to {high:+.3f} | {(gain > 0).mean():.0%} | "
            f"{pooled(name):.3f} | {pooled(name) - pooled('generic'):+.3f} | {(mae('generic') - mae(name)).mean():+.3f} | "
            f"{strangers:+.3f} |"
        )
    kept, attempts = sum(row["kept"] for row in good), sum(row["attempts"] for row in good)
    lines += [
        "",
        f"kept {kept} of {attempts} pictures asked for; {np.mean([row['seconds'] for row in good]):.0f} s a person",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=20)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--split", choices=("val", "test"), default="test")
    parser.add_argument("--n", type=int, default=300)
    parser.add_argument("--attempts", type=int, default=8)
    parser.add_argument("--head", default="parametric", help="parametric, or ict:PATH")
    parser.add_argument("--labels", default="agreed", help="with commas: asked, achieved, agreed")
    parser.add_argument("--source-au", default="auto")
    parser.add_argument("--unverified", action="store_true", help="the same without verification, beside")
    parser.add_argument("--real", action=argparse.BooleanOptionalAction, default=True, help="k = 1 and k = 20")
    parser.add_argument("--out", type=Path, default=Path("persons.jsonl"))
    args = parser.parse_args()
    print(report(run(args)))


if __name__ == "__main__":
    main()
