"""Claim: outside readers see on our faces the AUs that were asked: OpenFace and MediaPipe against FACS truth.

    python -m lit_faces.render set --head parametric --n 160 --frames-per-subject 8 --size 256 --seed 9100 --out DIR
    READERS/bin/python readers.py --csv DIR/readers.csv DIR/images
    python -m benchmarks.truth DIR ...

Any family of heads (``photo:DIR``, ``ict:PATH``). r and ICC(3,1) over all pictures, by AU; AUs that are not shown have
no figure. The readers measure; nothing is trained on them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.outside import OutsideTable
from benchmarks.real_figures import pearson
from lit_faces.core.csv_files import read_own
from lit_faces.core.facs import AU_KEYS, AUS
from lit_faces.core.inputs import read_file
from lit_faces.metrics.icc import icc


def agreement(truth: NDArray[np.float64], read: NDArray[np.float64]) -> tuple[float, float]:
    """Pearson's r and ICC(3,1) of two columns (n,), NaN = not known; NaN where either does not vary."""
    known = np.isfinite(truth) & np.isfinite(read)
    if known.sum() < 3 or truth[known].std() < 1e-6 or read[known].std() < 1e-6:
        return float("nan"), float("nan")
    return pearson(truth, read), icc(np.stack([truth[known], read[known]], 1))


def table_of(folder: Path) -> list[str]:
    """Lines of one set's table."""
    rows = read_own(read_file(folder / "labels.csv", "table"))[1]
    truth = np.array([[float(row.get(f"au{number}") or "nan") for number in AUS] for row in rows])
    names = [Path(row["file"]).name for row in rows]
    readers = OutsideTable.read([folder / "readers.csv"])
    openface, mediapipe = readers.openface(names), readers.mediapipe(names)
    lines = [
        f"{folder}: {len(rows)} pictures",
        "| AU | OpenFace r | ICC | raw r | MediaPipe r |",
        "|---|---|---|---|---|",
    ]
    found = []
    for column, key in enumerate(AU_KEYS):
        if np.nanstd(truth[:, column]) < 1e-6:
            continue
        r, value = agreement(truth[:, column], openface.grade[:, column])
        raw = agreement(truth[:, column], openface.score[:, column])[0]
        other = agreement(truth[:, column], mediapipe.score[:, column])[0]
        found.append((r, value, raw, other))
        lines.append(f"| {key} | {r:.2f} | {value:.2f} | {raw:.2f} | {other:.2f} |")
    means = " | ".join(f"{value:.2f}" for value in np.nanmean(np.array(found), 0))
    return [*lines, f"| mean | {means} |"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", help="rendered sets, each with readers.csv beside labels.csv")
    for folder in parser.parse_args().folders:
        print("\n".join(table_of(folder)), end="\n\n")


if __name__ == "__main__":
    main()
