"""Claim: morphology looks like expression. A generic detector's bias on people with AU-like static traits.

    python -m benchmarks.confounders [--detector generic] [--people 400] [--altered 120] [--out FOLDER]

Per person, bias = mean over frames of (reading - truth). Two comparisons for each trait, with 95 % intervals over people:

* people who have the trait against people who do not, as they come (other traits, age, sex differ too);
* the same people in the same frames with the trait set to 0.9 and to 0: nothing else differs.

People are of the detector's own population (experiments/detector.yaml) and never seen by it.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch

from lit_faces.core.facs import AU_INDEX
from lit_faces.metrics.bootstrap import bootstrap_over_subjects
from lit_faces.rendering.identity import TRAITS
from lit_faces.rendering.renderer import POPULATION, FaceRenderer
from lit_faces.rendering.sampler import People
from lit_faces.rendering.skin import STATIC_TRAITS
from lit_faces.tasks.au_detector import load_detector

#: AU and the traits that look like it.
PAIRS = ((6, "heavy_cheeks"), (6, "crows_feet"), (6, "eye_bags"), (17, "raised_chin"), (17, "dimpled_chin"))
FIRST, FRAMES = 2_010_000, 4


class Altered(FaceRenderer):
    """The same people with one trait set."""

    trait: str | None = None
    value = 0.0

    def people(self, subjects: torch.Tensor) -> People:
        """The same people, the trait apart."""
        people = super().people(subjects)
        if self.trait is not None:
            column_of(people, self.trait).fill_(self.value)
        return people


def column_of(people: People, trait: str) -> torch.Tensor:
    """The trait of everybody, (B,), a view."""
    if trait in TRAITS:
        return people.shape[:, len(TRAITS) * -1 + list(TRAITS).index(trait)]
    return people.skin["static"][:, list(STATIC_TRAITS).index(trait)]


def biases(detector, renderer: FaceRenderer, count: int) -> np.ndarray:
    """Mean over frames of reading minus truth: (people, 19)."""
    index = torch.arange(count * FRAMES)
    faces = renderer.render(FIRST + index // FRAMES, index % FRAMES)
    wrong = detector.predict_au(faces.image) - faces.au_intensity
    return wrong.reshape(count, FRAMES, -1).mean(1).numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--detector", default="generic")
    parser.add_argument("--people", type=int, default=400, help="who come as they are")
    parser.add_argument("--altered", type=int, default=120, help="who are rendered with and without the trait")
    parser.add_argument("--out", type=Path, help="folder for confounders.json and confounders.png")
    args = parser.parse_args()
    start = time.time()
    detector = load_detector(args.detector)
    renderer = Altered(**POPULATION)
    people = renderer.people(FIRST + torch.arange(args.people))
    found = biases(detector, renderer, args.people)
    rows = []
    print(f"{args.people} people x {FRAMES} frames as they are, {args.altered} altered; bias in grades 0..5")
    print(
        f"{'AU':<5}{'trait':<15}{'with':>6}{'bias with':>11}{'without':>9}{'difference (95 %)':>26}{'altered: on - off (95 %)':>30}"
    )
    for au, trait in PAIRS:
        bias = found[:, AU_INDEX[au]]
        has = (column_of(people, trait) > 0).numpy()

        def difference(values, flags):
            return values[flags > 0].mean() - values[flags == 0].mean()

        seen = bootstrap_over_subjects(difference, [bias, has.astype(float)], np.arange(len(bias)))
        sides = []
        for value in (0.9, 0.0):
            renderer.trait, renderer.value = trait, value
            sides.append(biases(detector, renderer, args.altered)[:, AU_INDEX[au]])
        renderer.trait = None
        moved = bootstrap_over_subjects(np.mean, [sides[0] - sides[1]], np.arange(args.altered))
        row = {
            "au": au, "trait": trait, "people_with": int(has.sum()), "with": float(bias[has].mean()),
            "without": float(bias[~has].mean()), "difference": [float(x) for x in seen], "altered": [float(x) for x in moved],
        }  # fmt: skip
        rows.append(row)
        print(
            f"AU{au:<3}{trait:<15}{row['people_with']:>6}{row['with']:>11.2f}{row['without']:>9.2f}"
            f"{seen.estimate:>10.2f} ({seen.low:+.2f} to {seen.high:+.2f}){moved.estimate:>12.2f} ({moved.low:+.2f} to {moved.high:+.2f})",
            flush=True,
        )
    print(
        f"person-to-person standard deviation of the bias: AU6 {found[:, AU_INDEX[6]].std():.2f}, AU17 {found[:, AU_INDEX[17]].std():.2f}; {time.time() - start:.0f} s"
    )
    if args.out is not None:
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / "confounders.json").write_text(json.dumps(rows, indent=1))
        plot(rows, args.out / "confounders.png")


def plot(rows: list[dict], path: Path) -> None:
    """Bars of both differences."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.2), layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(rows))
    for shift, key, label in (
        (-0.2, "difference", "people with against without"),
        (0.2, "altered", "same face, trait on against off"),
    ):
        values = np.array([row[key] for row in rows])
        axes.bar(
            places + shift, values[:, 0], 0.38, yerr=np.abs(values[:, 1:] - values[:, :1]).T, capsize=2, label=label
        )
    axes.axhline(0, color="grey", linewidth=0.7)
    axes.set_xticks(places, [f"{row['trait']}\nAU{row['au']}" for row in rows], fontsize=8)
    axes.set_ylabel("bias, grades")
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    main()
