"""Claim: whoever keeps another tool profits too: a person's zero, and a line an AU from the person's generated set.

    /opt/readers/bin/python ../shared/referees/readers.py --csv readers.csv ../shared/data/faces_ccby/images
    python -m benchmarks.blackbox --faces ../shared/data/faces_ccby --readings readers.csv [--reader MediaPipe]
    python -m benchmarks.photohead sweep --faces ../shared/data/faces_ccby --folds 2 --people 12 --out sweep
    /opt/readers/bin/python ../shared/referees/readers.py --csv sweep/readers.csv sweep
    python -m benchmarks.blackbox --faces ../shared/data/faces_ccby --readings readers.csv --sweep sweep

The black box is MediaPipe's face landmarker (blendshapes times five for grades; its AU6 and AU9 are dead) or OpenFace:
nothing of either is looked into. Slopes of the zero are estimated on people of the other folds.

**False readings** (grade 1 or more) are counted where nothing is done: AUs that a smile does not move, and each person
has two photos, so one sets the zero and the *other* is read: at rest after a zero from the smile, smiling after a zero
from the resting photo. **AUC**: smiles against resting faces, the zero from the resting photo. A resting face has no other
photo that shows its mouth at rest, so two bounds are given: resting faces less nothing (the zero can only lose), and less
their own zero (it has seen them). **Set**: lines from readings to what was asked, fitted on the generated
pictures of the resting photo, applied to both photos.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.open_faces import MOVED, STAYS
from benchmarks.outside import OutsideTable
from data_modules.faces_ccby import FacesCCBY
from data_modules.portraits import by_person
from lit_faces.continual.calibration import labelled_affine
from lit_faces.core.facs import AU_KEYS
from lit_faces.metrics.bootstrap import bootstrap_over_subjects
from lit_faces.metrics.classification import auc as auc_of_columns
from lit_faces.persons.zero import Evidence, Slopes, Zero, fit_slopes

GRADE = 1.0
SMILE = ("AU06", "AU12")
Floats = NDArray[np.float64]


class People:
    """Everybody with both photographs, as a black box reads them.

    Args:
        root: the open faces.
        table: of ``readers.py``.
        reader: ``MediaPipe`` or ``OpenFace``.

    Attributes:
        names: as their files begin (n,), ``l014``.
        fold: int (n,).
        rest, smile: grades (n, 19), NaN = the reader has no such AU.
    """

    def __init__(self, root: Path, table: OutsideTable, reader: str) -> None:
        people = [one for one in by_person(FacesCCBY(root).portraits()) if one.neutral and one.smile]
        self.names = np.array([one.neutral.path.stem.partition("_")[0] for one in people if one.neutral])
        self.fold = np.array([one.any.fold for one in people])
        read = table.mediapipe if reader == "MediaPipe" else table.openface
        self.rest = read([one.neutral.path.name for one in people if one.neutral]).grade
        self.smile = read([one.smile.path.name for one in people if one.smile]).grade
        known = np.isfinite(self.rest).any(1) & np.isfinite(self.smile).any(1)
        self.names, self.fold = self.names[known], self.fold[known]
        self.rest, self.smile = self.rest[known], self.smile[known]

    def slopes(self, fold: int) -> Slopes:
        """How much of a resting reading returns, from people of the other folds; AUs that a smile moves borrow."""
        others = self.fold != fold
        first, second = (np.nan_to_num(table[others]) for table in (self.rest, self.smile))
        stays = np.array([key in STAYS for key in AU_KEYS])
        return fit_slopes([key for key in AU_KEYS if key in STAYS], first[:, stays], second[:, stays])


def less_zero(readings: Floats, source: Floats, people: People, hidden: Sequence[str] = ()) -> Floats:
    """Readings (n, 19) less the zero that each person's ``source`` (n, 19) sets; ``hidden``: AUs it says nothing of."""
    masked = np.where([key in hidden for key in AU_KEYS], np.nan, source)
    out = np.empty_like(readings)
    for row in range(len(readings)):
        zero = Zero.of(AU_KEYS, people.slopes(int(people.fold[row]))).pooled(Evidence(masked[row], f"{row:08x}"))
        out[row] = zero.apply(torch.from_numpy(readings[row]), AU_KEYS).numpy()
    return out


def share(found: Floats, names: NDArray[np.str_]) -> str:
    """A mean over people and AUs with its interval."""
    one = bootstrap_over_subjects(lambda x: np.nanmean(x, 0), {"x": found[:, None]}, names, 1000, method="percentile")
    return f"{float(one.estimate[0]):.3f} ({float(one.low[0]):.3f} to {float(one.high[0]):.3f})"


def false_share(readings: Floats) -> Floats:
    """Of each person, the share of AUs that stay and are read at grade 1 or more."""
    stays = np.array([key in STAYS for key in AU_KEYS])
    values = readings[:, stays]
    return (values >= GRADE).mean(1, where=np.isfinite(values))


def auc(smile: Floats, rest: Floats) -> float:
    """Chance that a smile is read higher than a resting face; ties count one half."""
    scores = np.concatenate([smile, rest])
    labels = np.repeat([1.0, 0.0], [len(smile), len(rest)])
    labels[~np.isfinite(scores)] = np.nan
    return float(auc_of_columns(torch.from_numpy(labels)[:, None], torch.from_numpy(scores)[:, None])[0])


def report(people: People) -> None:
    """The table of the zero."""
    n = people.names
    rest_after, smile_after = (
        less_zero(people.rest, people.smile, people, MOVED),
        less_zero(people.smile, people.rest, people),
    )
    own = less_zero(people.rest, people.rest, people)
    print(f"{len(n)} people; false readings: share of AUs that stay, read at grade {GRADE:g} or more\n")
    print("| read | before | after the zero |\n|---|---|---|")
    for what, before, after in (
        ("at rest; zero from the smile", people.rest, rest_after),
        ("smiling; zero from the resting photo", people.smile, smile_after),
    ):
        print(f"| {what} | {share(false_share(before), n)} | {share(false_share(after), n)} |")
    print("\n| by AU: people at rest with a false reading, before, after |\n|---|")
    for key in STAYS:
        k = AU_KEYS.index(key)
        if np.isfinite(people.rest[:, k]).any():
            print(f"| {key}: {int((people.rest[:, k] >= GRADE).sum())}, {int((rest_after[:, k] >= GRADE).sum())} |")
    print(
        "\n| AUC, smile against rest | before | after, rest less nothing | after, rest less its own |\n|---|---|---|---|"
    )
    for key in SMILE:
        k = AU_KEYS.index(key)
        if np.isfinite(people.smile[:, k]).any():
            values = [auc(people.smile[:, k], people.rest[:, k]), auc(smile_after[:, k], people.rest[:, k])]
            print(f"| {key} | {values[0]:.3f} | {values[1]:.3f} | {auc(smile_after[:, k], own[:, k]):.3f} |")


def by_set(people: People, folder: Path, reader: str) -> None:
    """The table of lines that were fitted on generated pictures of each person's resting photo."""
    table = OutsideTable.read([folder / "readers.csv"])
    with (folder / "asked.csv").open(newline="") as file:
        asked = [row for row in csv.DictReader(file) if row["file"] in table.rows]
    read = table.mediapipe if reader == "MediaPipe" else table.openface
    rows, before, after = [], [[], []], [[], []]
    for subject in dict.fromkeys(row["subject"] for row in asked):
        places = np.flatnonzero(people.names == subject)
        if not len(places):
            continue
        mine = [row for row in asked if row["subject"] == subject]
        truth = np.zeros((len(mine), len(AU_KEYS)))
        for k, row in enumerate(mine):
            if int(row["au"]):
                truth[k, AU_KEYS.index(f"AU{int(row['au']):02d}")] = float(row["grade"])
        found = read([row["file"] for row in mine]).grade
        target = np.where(np.isfinite(found), truth, np.nan)
        line = labelled_affine(torch.from_numpy(np.nan_to_num(found)).float(), torch.from_numpy(target).float())
        rows.append(places[0])
        for k, photo in enumerate((people.rest, people.smile)):
            given = photo[places[0]]
            before[k].append(given)
            said = line(torch.from_numpy(np.nan_to_num(given)).float()[None])[0].numpy()
            after[k].append(np.where(np.isfinite(given), said, np.nan))
    if not rows:
        raise ValueError(f"{folder}: nobody of its asked.csv is among the people with two photographs")
    names = people.names[rows]
    print(f"\n{len(rows)} people, a line an AU from {len(asked) // max(1, len(rows))} generated pictures each\n")
    print("| false readings | before | after |\n|---|---|---|")
    tables = [[np.array(one) for one in group] for group in (before, after)]
    for k, what in enumerate(("at rest (the photo that the set was made of)", "smiling")):
        shares = [share(false_share(group[k]), names) for group in tables]
        print(f"| {what} | {shares[0]} | {shares[1]} |")
    print("\n| AUC | before | after | mean grade of smiles, before, after |\n|---|---|---|---|")
    for key in SMILE:
        k = AU_KEYS.index(key)
        if np.isfinite(tables[0][1][:, k]).any():
            values = [auc(group[1][:, k], group[0][:, k]) for group in tables]
            means = [f"{np.nanmean(group[1][:, k]):.2f}" for group in tables]
            print(f"| {key} | {values[0]:.3f} | {values[1]:.3f} | {means[0]}, {means[1]} |")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", type=Path, required=True)
    parser.add_argument("--readings", type=Path, nargs="+", required=True, help="tables of readers.py --csv")
    parser.add_argument("--reader", choices=("MediaPipe", "OpenFace"), default="MediaPipe")
    parser.add_argument("--sweep", type=Path, help="folder of `benchmarks.photohead sweep`, with readers.csv")
    args = parser.parse_args()
    people = People(args.faces, OutsideTable.read(args.readings), args.reader)
    report(people)
    if args.sweep is not None:
        by_set(people, args.sweep, args.reader)


if __name__ == "__main__":
    main()
