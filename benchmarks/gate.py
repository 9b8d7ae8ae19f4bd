"""Claim: of people in a registry the right one is known, strangers are nobody, and knowing them costs next to nothing.

    python -m benchmarks.gate --faces faces_ccby [--rendered 40] [--people 1000]

**Open people**: everybody is enrolled on the resting photo (71), 51 are asked with the smile. Right: the person's own
delta would be worn. Stranger: the person is left out of the registry, and nobody's is. The threshold is chosen on people
of the other folds and used on this one's. **Rendered people**: enrolled at rest, asked in three other lights and poses, at rest
and with any expression; folds of people likewise. Both also at the threshold that the package uses for everybody.

**Cost**: a registry of 1,000 people with a delta each. What is paid once a track (embedding, comparing, reading the file,
adding it to the weights) stands apart from what is paid in every frame.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.open_faces import FOLDS, read_open_faces
from lit_faces.core.landmarks import FaceAnalyser
from lit_faces.models.adapters import Delta, detector_code, folded
from lit_faces.persons.gate import Gate
from lit_faces.persons.registry import THRESHOLD, Entry, Registry
from lit_faces.rendering.renderer import FaceRenderer
from lit_faces.tasks.au_detector import load_detector

_FIRST, _SEED, _ASKED = 9_100_000, 31, 3  # rendered people whom nobody else uses
Floats = NDArray[np.float64]


def distances(asked: Floats, whose: NDArray[np.int64], enrolled: Floats) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Of each asked face: distance to its own enrolment, to the nearest other one, and whether its own is the nearest."""
    found = np.linalg.norm(asked[:, None] - enrolled[None], axis=-1)
    rows = np.arange(len(asked))
    own = found[rows, whose]
    found[rows, whose] = np.inf
    other = found.min(1)
    return own, other, own < other


def best_threshold(own: Floats, other: Floats) -> float:
    """Highest share of right people plus share of strangers kept out, in the middle of the gap."""
    values = np.unique(np.concatenate([own, other]))
    middles = (values[1:] + values[:-1]) / 2
    score = [(own < t).mean() + (other >= t).mean() for t in middles]
    best = np.flatnonzero(np.isclose(score, max(score)))
    return float(middles[best[len(best) // 2]])


def shares(own: Floats, other: Floats, nearest: NDArray[np.bool_], threshold: float) -> str:
    """How many are right, and how many strangers are nobody."""
    right, nobody = (own < threshold) & nearest, other >= threshold
    return f"right {right.sum()} of {len(right)} ({right.mean():.1%}), strangers read as nobody {nobody.mean():.1%}"


def report(name: str, asked: Floats, whose: NDArray[np.int64], enrolled: Floats, fold: NDArray[np.int64]) -> None:
    """Shares with the threshold of the other folds, and with the package's.

    Args:
        name: of the people.
        asked: embeddings (n, 128).
        whose: row of ``enrolled`` of each.
        enrolled: embeddings (people, 128).
        fold: of each of ``enrolled``.
    """
    own, other, nearest = distances(asked, whose, enrolled)
    right, nobody, chosen = np.zeros(len(own), bool), np.zeros(len(own), bool), []
    for number in FOLDS:
        elsewhere = np.flatnonzero(fold != number)
        theirs = np.isin(whose, elsewhere)
        place = {row: k for k, row in enumerate(elsewhere.tolist())}
        known = np.array([place[row] for row in whose[theirs].tolist()])
        apart = distances(asked[theirs], known, enrolled[elsewhere])
        chosen.append(best_threshold(apart[0], apart[1]))
        mine = fold[whose] == number
        right[mine], nobody[mine] = (own < chosen[-1])[mine] & nearest[mine], other[mine] >= chosen[-1]
    print(f"{name}: {len(enrolled)} enrolled, asked {len(own)} times")
    print(f"  own distance {np.median(own):.2f} (largest {own.max():.2f}), nearest other {np.median(other):.2f} "
          f"(smallest {other.min():.2f})")  # fmt: skip
    print(f"  thresholds of other people {', '.join(f'{t:.2f}' for t in chosen)}: right {right.sum()} of {len(right)} "
          f"({right.mean():.1%}), strangers read as nobody {nobody.mean():.1%}")  # fmt: skip
    print(f"  threshold of the package {THRESHOLD}: {shares(own, other, nearest, THRESHOLD)}")


def open_people(root: Path, analyser: FaceAnalyser) -> None:
    """People of the open faces."""
    faces = read_open_faces(root)
    found = analyser.batch_embeddings(faces.image, faces.landmarks).double().numpy()
    people = [person for person in faces.people() if faces.row(person.neutral) >= 0]
    enrolled = np.array([faces.row(person.neutral) for person in people])
    fold = np.array([faces.portraits[row].fold for row in enrolled])
    asked = [(faces.row(person.smile), k) for k, person in enumerate(people) if faces.row(person.smile) >= 0]
    rows, whose = np.array(asked).T
    report("open people, smile against rest", found[rows], whose, found[enrolled], fold)


def rendered_people(count: int, analyser: FaceAnalyser) -> None:
    """Rendered people in other light: at rest, with any expression, and with the mean of three frames, as of a track."""
    each = 1 + 2 * _ASKED
    who, frame = torch.arange(count).repeat_interleave(each), torch.arange(each).repeat(count)
    au = torch.full((len(who), 19), float("nan"))
    au[frame <= _ASKED] = 0.0
    faces = FaceRenderer(160, seed=_SEED).render(_FIRST + who, frame, au=au)
    found = analyser.batch_embeddings(faces.image).double().numpy().reshape(count, each, -1)
    seen = np.isfinite(found).all((1, 2))
    print(f"rendered: dlib finds every face of {seen.sum()} of {count} people")
    found, fold = found[seen], np.arange(count)[seen] % len(FOLDS)
    whose = np.arange(len(found))
    for what, rows in {"at rest": range(1, 1 + _ASKED), "any expression": range(1 + _ASKED, each)}.items():
        asked = found[:, list(rows)]
        flat = asked.reshape(-1, asked.shape[-1])
        report(f"rendered people, other light, {what}", flat, whose.repeat(_ASKED), found[:, 0], fold)
        report(f"the same, mean of {_ASKED} frames", asked.mean(1), whose, found[:, 0], fold)


def median_ms(work: Callable[[], object], repeats: int = 15) -> float:
    """Milliseconds, median."""
    spent = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        spent.append(1e3 * (time.perf_counter() - began))
    return float(np.median(spent))


def cost(people: int, analyser: FaceAnalyser) -> None:
    """What a registry of many people costs."""
    detector = load_detector("generic")
    draws = np.random.default_rng(0)
    template = Delta.fresh(detector)
    for up in template.up.values():
        up.data.normal_(0.0, 1e-3)
    image = torch.randint(0, 256, (16, 3, detector.size, detector.size), dtype=torch.uint8)
    with tempfile.TemporaryDirectory() as folder:
        faces = draws.normal(0.0, 0.07, (people, 128)).astype(np.float32)
        entries = {f"person {k}": Entry(template, None, faces[k]) for k in range(people)}
        Registry.create(Path(folder) / "people", detector_code(detector)).add_all(entries)
        where = Path(folder) / "people"
        size = sum(path.stat().st_size for path in where.rglob("*") if path.is_file())
        registry = Registry(where)
        gate = Gate(detector, registry, recognise=True)
        name = f"person {people - 1}"
        for what, work in {
            "open the registry": lambda: Registry(where),
            "compare a face with everybody": lambda: registry.recognise(faces[-1]),
            "read a delta from the disk": lambda: Registry(where).get(name),
            "add a delta to the weights": lambda: folded(detector, template),
        }.items():
            print(f"  once a track: {what}: {median_ms(work):.2f} ms")
        first = torch.zeros(1, dtype=torch.int64)
        drawn = FaceRenderer(256, seed=1).render(first, first).image[0]
        picture = np.ascontiguousarray(drawn.permute(1, 2, 0).numpy())
        marks = analyser.landmarks(picture)
        print(f"  once a track: dlib's embedding: {median_ms(lambda: analyser.embedding(picture, marks), 5):.0f} ms "
              "(the tracker takes it anyway)")  # fmt: skip
        gate.predict_as(image, [name] * 16)
        rounds = [
            (median_ms(lambda: detector.predict(image), 3), median_ms(lambda: gate.predict_as(image, [name] * 16), 3))
            for _ in range(8)
        ]
        shared, own = np.median(np.array(rounds), axis=0) / 16
    print(
        f"  in every frame: shared {shared:.2f} ms, as a known person {own:.2f} ms: {100 * (own / shared - 1):+.1f} %"
    )
    print(f"  {people} people: {size / 1e6:.0f} MB on the disk, {size / people / 1e3:.1f} KB each")


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", type=Path, help="folder of the open faces")
    parser.add_argument("--rendered", type=int, default=40, help="people")
    parser.add_argument("--people", type=int, default=1000, help="in the registry whose cost is measured")
    args = parser.parse_args()
    torch.set_num_threads(1)
    analyser = FaceAnalyser()
    if args.faces is not None:
        open_people(args.faces, analyser)
    if args.rendered:
        rendered_people(args.rendered, analyser)
    if args.people:
        print(f"a registry of {args.people}:")
        cost(args.people, analyser)


if __name__ == "__main__":
    main()
