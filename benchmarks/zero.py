"""Estimate how much of a resting reading comes back in another photo of the same person, by AU: the zero's shrinkage.

    python -m benchmarks.zero --faces FACES_CCBY [--detector generic] [--fold-detectors A B C] [--without-fold K] [--out FILE]

The neutrals and smiles of the open people (:func:`lit_faces.persons.zero.fit_slopes`). Without ``--without-fold`` on all
of them: what the package carries (``--out lit_faces/weights/rest_slopes.json``). A figure on the people of fold K needs
slopes that were fitted without it: ``benchmarks.real`` refits them so. A detector that was trained on these people reads
them at 0 and says nothing of others: ``--fold-detectors`` are three that were refitted without fold 0, 1 and 2; each person
is read by the one that has not met them.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from benchmarks.open_faces import FOLDS, OpenFaces, pairs, read_open_faces
from lit_faces.core.facs import AU_KEYS
from lit_faces.core.files import replace_file
from lit_faces.persons.readers import reader_code
from lit_faces.persons.zero import Floats, Slopes, fit_slopes
from lit_faces.tasks.au_detector import load_detector

ATTRIBUTION = "Face Research Lab London Set, L. DeBruine & B. Jones, CC BY 4.0, altered (figures derived from it)"


def slopes_of(readings: Floats, faces: OpenFaces, names: tuple[str, ...], without: int | None = None) -> Slopes:
    """Slopes of readings (n, A) of all open faces, without one fold."""
    people = [person for person in faces.people() if person.any.fold != without]
    rows = pairs(people, faces)
    return fit_slopes(names, readings[rows[:, 0]], readings[rows[:, 1]])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", type=Path, required=True, help="folder with labels.csv and images")
    parser.add_argument("--detector", default="generic")
    parser.add_argument("--fold-detectors", nargs=3, metavar="FILE", help="weights refitted without fold 0, 1, 2")
    parser.add_argument("--without-fold", type=int, choices=FOLDS, help="leave these people out")
    parser.add_argument("--out", type=Path, help="JSON to write")
    args = parser.parse_args()
    detector = load_detector(args.detector)
    faces = read_open_faces(args.faces, detector.size)
    readings = detector.predict_au(faces.image).double().numpy()
    folds = np.array([one.fold for one in faces.portraits])
    for fold, path in zip(FOLDS, args.fold_detectors or (), strict=False):
        mine = folds == fold
        readings[mine] = load_detector(path).predict_au(faces.image[torch.from_numpy(mine)]).double().numpy()
    slopes = slopes_of(readings, faces, AU_KEYS, args.without_fold)
    for name, slope in zip(slopes.names, slopes.slope):
        print(f"{name} {slope:.2f}")
    print(f"all  {slopes.default:.2f}")
    if args.out is not None:
        refitted = " --fold-detectors A B C" if args.fold_detectors else ""
        left_out = "" if args.without_fold is None else f" --without-fold {args.without_fold}"
        content = {
            "what": "how much of a resting reading comes back in another photo of the person",
            "command": f"python -m benchmarks.zero --faces faces_ccby --detector {Path(args.detector).name}{refitted}{left_out}",
            "reader": reader_code(args.detector),
            "people": len(pairs([p for p in faces.people() if p.any.fold != args.without_fold], faces)),
            "attribution": ATTRIBUTION,
            "all": round(slopes.default, 3),
            "slope": {name: round(float(slope), 3) for name, slope in zip(slopes.names, slopes.slope)},
        }
        replace_file(args.out, (json.dumps(content, indent=1) + "\n").encode())
        print(args.out)


if __name__ == "__main__":
    main()
