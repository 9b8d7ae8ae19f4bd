"""Claim: many people, one after another, each a delta of 50 KB in one registry, and nobody forgets or notices.

    python -m benchmarks.deltas [--people 20] [--k 20] [--method delta] [--head parametric|ict:PATH] [--out deltas.jsonl]

For each unseen rendered person: a resting photo and ``k`` labelled frames are learnt from; scored on 64 other frames of
the person in other light with random AUs. After all have been learnt, everybody is read again through the registry:

named         the person's delta, because the name is known: gain, and what the people after them have cost
recognised    asked once, by the mean of five frames' embeddings, as of a track; all frames are then read as that person
strangers     128 frames of 64 people who were never learnt, asked likewise

ICC(3,1) a person is the mean over AUs that are active in at least 4 of the frames; intervals are bootstrapped over people.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.persons import FIRST, TEST_FRAMES, interval, mean_icc
from benchmarks.persons import person as one_person
from lit_faces.core.landmarks import FaceAnalyser
from lit_faces.core.sample import FaceBatch, joined
from lit_faces.models.adapters import Delta, detector_code
from lit_faces.persons.gate import Gate
from lit_faces.persons.learner import PersonalLearner, shipped_fisher
from lit_faces.persons.recipes import Recipe
from lit_faces.persons.registry import Entry, Registry
from lit_faces.rendering.renderer import POPULATION, FaceRenderer, render_population
from lit_faces.tasks.au_detector import AUDetector, load_detector

_LOOKS, _STRANGERS = 5, (8_000_000, 128, 2)


def started(detector: AUDetector, method: str, steps: int) -> PersonalLearner:
    """A learner of the shipped detector, as `adapt` begins one."""
    learner = PersonalLearner(detector, method, Recipe(steps=steps))
    if learner.how.replay:
        learner.start(render_population(128, 0, 320, 2), None, shipped_fisher("generic"))
    return learner


def recognised(gate: Gate, analyser: FaceAnalyser, images: Tensor) -> str:
    """Who a track is, by its first frames."""
    faces = analyser.batch_embeddings(images[:_LOOKS]).numpy()
    face = faces[np.isfinite(faces).all(1)]
    return gate.name_of(lambda: face.mean(0)) if len(face) else ""


def run(args: argparse.Namespace) -> None:
    """Learn everybody, read everybody, say what was found."""
    detector, analyser = load_detector("generic"), FaceAnalyser()
    options = dict(POPULATION) if args.head == "parametric" else {"seed": 7001, "head": args.head}
    renderer = FaceRenderer(128, **options)
    first = FIRST["test"] if args.head == "parametric" else 0
    learner = started(detector, args.method, args.steps)
    _, number, each = _STRANGERS
    strangers = render_population(128, *_STRANGERS)
    unlearnt = detector.predict_au(strangers.image)
    tests: dict[str, FaceBatch] = {}
    before: dict[str, Tensor] = {}
    just_learnt: dict[str, Tensor] = {}
    spent: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        registry = Registry.create(Path(folder) / "people", detector_code(detector))
        for person in range(args.people):
            name = f"person {person}"
            photo, few, test = one_person(renderer, first + person, args.k)
            support = joined(photo, few)  # the resting photo first
            began = time.monotonic()
            learner.learn(name, support, consolidate=False)
            delta = learner.personal[name]
            spent.append(time.monotonic() - began)
            assert isinstance(delta, Delta)
            face = analyser.batch_embeddings(support.image[:1]).numpy()[0]
            registry.add(name, Entry(delta, None, face if np.isfinite(face).all() else None))
            gate = Gate(detector, registry, name)
            tests[name], before[name] = test, detector.predict_au(test.image)
            just_learnt[name] = gate.predict_as(test.image, [name] * TEST_FRAMES).intensity
            told = [mean_icc(test.au_intensity, one) for one in (before[name], just_learnt[name])]
            print(f"{name}: {told[0]:.3f} -> {told[1]:.3f}, {spent[-1]:.0f} s", flush=True)
        gate = Gate(detector, registry, recognise=True)
        after = {name: gate.predict_as(test.image, [name] * TEST_FRAMES).intensity for name, test in tests.items()}
        who = {name: recognised(gate, analyser, test.image) for name, test in tests.items()}
        asked = {name: gate.predict_as(test.image, [who[name]] * TEST_FRAMES).intensity for name, test in tests.items()}
        asked_strangers = [recognised(gate, analyser, strangers.image[k : k + each]) for k in range(0, number, each)]
        strange = [name for name in asked_strangers for _ in range(each)]
        alone = gate.predict_as(strangers.image, [""] * number).intensity
        wrong = gate.predict_as(strangers.image, strange).intensity
        size = np.mean([path.stat().st_size for path in (registry.folder / "people").iterdir()])
    report(tests, before, just_learnt, after, asked, who)
    icc = [mean_icc(strangers.au_intensity, one) for one in (unlearnt, alone, wrong)]
    nobody = np.mean([name == "" for name in strange])
    print(f"strangers: ICC {icc[0]:.3f}; unnamed {icc[1] - icc[0]:+.4f} ({_same(alone, unlearnt)}); recognised "
          f"{icc[2] - icc[0]:+.4f}, {nobody:.1%} read as nobody")  # fmt: skip
    print(f"a delta: {size / 1e3:.1f} KB, {np.median(spent):.1f} s to learn from {args.k + 1} frames")
    if args.out is not None:
        rows = [{"person": name, "who": who[name]} for name in tests]
        args.out.write_text("".join(json.dumps(row) + "\n" for row in rows))


def report(
    tests: dict[str, FaceBatch],
    before: dict[str, Tensor],
    just_learnt: dict[str, Tensor],
    after: dict[str, Tensor],
    asked: dict[str, Tensor],
    who: dict[str, str],
) -> None:
    """Gains and backward transfer, with intervals over people."""

    def each(readings: dict[str, Tensor]) -> np.ndarray:
        return np.array([mean_icc(test.au_intensity, readings[name]) for name, test in tests.items()])

    base, first, last, free = (each(one) for one in (before, just_learnt, after, asked))
    right, nobody = (np.mean([found == wanted for wanted, found in pairs]) for pairs in (
        [(name, found) for name, found in who.items()], [("", found) for found in who.values()]
    ))  # fmt: skip
    low, high = interval(last - base)
    print(f"{len(base)} people one after another: ICC {base.mean():.3f} -> {last.mean():.3f}, gain "
          f"{(last - base).mean():+.3f} ({low:+.3f} to {high:+.3f}), better for {(last > base).mean():.0%}")  # fmt: skip
    same = all(torch.equal(after[name], just_learnt[name]) for name in tests)
    print(f"backward transfer, named: {(last - first).mean():+.4f} ({'bit for bit' if same else 'not the same bits'})")
    low, high = interval(free - base)
    print(f"recognised once a track: gain {(free - base).mean():+.3f} ({low:+.3f} to {high:+.3f}); {right:.0%} are the "
          f"right person, {nobody:.0%} nobody")  # fmt: skip


def _same(first: Tensor, second: Tensor) -> str:
    return "bit for bit" if torch.equal(first, second) else "not the same bits"


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=20)
    parser.add_argument("--k", type=int, default=20, help="labelled frames of a person, beside the resting photo")
    parser.add_argument("--method", default="delta", help="delta, delta_alone, delta_ewc_replay")
    parser.add_argument("--steps", type=int, default=Recipe().steps)
    parser.add_argument("--head", default="parametric", help="parametric, or ict:PATH")
    parser.add_argument("--out", type=Path, help="JSON lines: who was recognised")
    args = parser.parse_args()
    torch.set_num_threads(1)
    run(args)


if __name__ == "__main__":
    main()
