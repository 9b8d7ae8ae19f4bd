"""Real people: how a detector reads people at rest and smiling, beside outside readers. The table of docs/results.md.

    /opt/readers/bin/python ../shared/referees/readers.py --csv readers.csv ../shared/data/faces_ccby/images ../shared/data/real/*.mp4
    python -m benchmarks.real --faces ../shared/data/faces_ccby --readings readers.csv --clips ../shared/data/real --out real

Our detector, our detector with each person's own photo as zero, MediaPipe and OpenFace; every figure with an interval over
people. A detector that was trained on these people is not tested on them: ``--fold-detectors A B C`` are three that were
refitted without fold 0, 1 and 2, and each person is read by the one that has not seen them; ``--detector`` then reads the
clips only. The zero's slopes are refitted likewise.

Writes OUT/real.json (flat figures) and OUT/real.md; ``--docs docs/results.md`` puts the page there, between its two marks.
"""  # fmt: skip

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.open_faces import FOLDS, OpenFaces, read_open_faces
from benchmarks.outside import OutsideTable
from benchmarks.real_clips import ClipReading, read_clips, resting_medians
from benchmarks.real_figures import RealTable
from benchmarks.real_report import BESIDE, clip_figures, figures_of, markdown, studio_figures
from benchmarks.studio import elsewhere
from benchmarks.zero import slopes_of
from lit_faces.core.facs import AU_KEYS, EMOTIONS
from lit_faces.core.files import replace_file
from lit_faces.persons.calibration import hidden_at_rest
from lit_faces.persons.zero import Evidence, Floats, Zero
from lit_faces.reports.results import circumstances, write_json
from lit_faces.tasks.au_detector import AUDetector, load_detector

BEGIN, END = "<!-- real: begin -->", "<!-- real: end -->"


@dataclass
class Ours:
    """What our detector reads on n pictures.

    Attributes:
        grade: (n, 19), 0..5.
        present: (n, 19), 0 or 1.
        named: n expressions, empty where it names none.
    """

    grade: Floats
    present: Floats
    named: list[str]


def read_by(detectors: Sequence[AUDetector], folds: np.ndarray, images: torch.Tensor) -> Ours:
    """Each picture read by the detector of its person's fold (one detector reads all)."""
    count = len(images)
    grade, present, named = np.full((count, len(AU_KEYS)), np.nan), np.full((count, len(AU_KEYS)), np.nan), [""] * count
    for number, detector in enumerate(detectors):
        rows = np.arange(count) if len(detectors) == 1 else np.flatnonzero(folds == FOLDS[number])
        reading = detector.predict(images[rows])
        grade[rows], present[rows] = reading.intensity.numpy(), detector.occurs(reading).numpy()
        if reading.expression is not None:
            for row, index in zip(rows, reading.expression.argmax(1).tolist()):
                named[row] = EMOTIONS[index]
    return Ours(grade, present, named)


def table_of(faces: OpenFaces, ours: Ours) -> RealTable:
    """The open faces as our detector reads them."""
    known = faces.portraits
    return RealTable(
        subject=np.array([one.subject for one in known]),
        neutral=np.array([one.neutral for one in known]),
        strong=np.array([one.strong for one in known]),
        parted=np.array([bool(one.lips_parted) for one in known]),
        gender=np.array([one.gender for one in known]),
        ethnicity=np.array([one.ethnicity for one in known]),
        age=np.array([one.age for one in known]),
        grade=ours.grade,
        score=ours.grade,
        present=ours.present,
    )


def with_own_zero(table: RealTable, faces: OpenFaces, folds: np.ndarray) -> RealTable:
    """Everybody less the zero of their own resting photo; slopes from the other folds' people.

    Only the smiles are then a test: the resting photo is what the zero was made of.
    """
    grade = table.grade.copy()
    hidden = hidden_at_rest(faces.landmarks).numpy()
    slopes = {fold: slopes_of(table.grade, faces, AU_KEYS, without=fold) for fold in FOLDS}
    for person in faces.people():
        rest, smile = faces.row(person.neutral), faces.row(person.smile)
        if rest < 0:
            continue
        evidence = np.where(hidden[rest], np.nan, table.grade[rest])
        zero = Zero.of(AU_KEYS, slopes[int(folds[rest])]).pooled(Evidence(evidence, person.subject))
        for row in {rest, smile} - {-1}:
            grade[row] = zero.apply(torch.from_numpy(table.grade[row]), AU_KEYS).numpy()
    return table.of(grade)


def beside_own_photo(
    table: RealTable, faces: OpenFaces, folds: np.ndarray, detectors: Sequence[AUDetector]
) -> RealTable:
    """Everybody read beside their own resting photo, by detectors with a reference head.

    Only the smiles are then a test: a photo read beside itself is none.
    """
    grade, present = table.grade.copy(), np.array(table.present, copy=True)
    hidden = hidden_at_rest(faces.landmarks)
    for person in faces.people():
        rest, smile = faces.row(person.neutral), faces.row(person.smile)
        if rest < 0:
            continue
        detector = detectors[0] if len(detectors) == 1 else detectors[FOLDS.index(int(folds[rest]))]
        known = torch.zeros(1, len(AU_KEYS)).masked_fill(hidden[rest : rest + 1], torch.nan)
        detector.set_references(detector.make_references(faces.image[rest : rest + 1], known))
        rows = sorted({rest, smile} - {-1})
        reading = detector.predict(faces.image[rows])
        grade[rows], present[rows] = reading.intensity.numpy(), detector.occurs(reading).numpy()
        detector.set_references(None)
    return replace(table, grade=grade, score=grade, present=present)


def measure(args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """All figures, flat, and the page."""
    shipped = load_detector(args.detector)
    detectors = [load_detector(path) for path in args.fold_detectors] if args.fold_detectors else [shipped]
    faces = read_open_faces(args.faces, detectors[0].size)
    folds = np.array([one.fold for one in faces.portraits])
    ours = read_by(detectors, folds, faces.image)
    table = table_of(faces, ours)
    outside = OutsideTable.read(args.readings)
    files = [one.path.name for one in faces.portraits]
    openface, mediapipe = outside.openface(files), outside.mediapipe(files)
    tables = {
        "ours": table,
        "ours, own zero": with_own_zero(table, faces, folds),
        **({BESIDE: beside_own_photo(table, faces, folds, detectors)} if detectors[0].reference is not None else {}),
        "MediaPipe": table.of(mediapipe.grade, mediapipe.score),
        "OpenFace": table.of(openface.grade, openface.score),
    }
    figures: dict[str, Any] = figures_of(tables, ours.named, args.resamples)
    moved = {name: read_by(detectors, folds, images).grade for name, images in elsewhere(faces.image, faces.landmarks).items()}  # fmt: skip
    figures |= studio_figures(table, moved)
    clips: list[ClipReading] = []
    if args.clips is not None:
        clips = read_clips(args.clips, shipped, outside, args.every)
        figures |= clip_figures(clips, args.resamples)
        figures |= resting_medians(args.clips, shipped, clips)
    figures["run/people"], figures["run/pictures"] = len(faces.people()), len(faces.portraits)
    figures["run/lost"], figures["run/resamples"] = len(faces.lost), args.resamples
    figures["run/detector"] = Path(args.detector).name
    figures["run/fold_detectors"] = [Path(path).name for path in args.fold_detectors or ()]
    return figures, markdown(figures)


def between_marks(text: str, page: str) -> str:
    """A document with ``page`` between its marks.

    Raises:
        ValueError: it has not one mark of each kind, in order.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or BEGIN in rest or END in after:
        raise ValueError(f"--docs: expected one line {BEGIN} and one {END} below it")
    return f"{before}{begin}\n\n{page}\n{end}{after}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", type=Path, required=True, help="the open faces: folder with labels.csv and images")
    parser.add_argument("--readings", type=Path, nargs="+", required=True, help="tables of readers.py --csv")
    parser.add_argument("--clips", type=Path, help="folder with clips (and photos), for agreement and resting medians")
    parser.add_argument("--detector", default="generic", help="generic, or weights")
    parser.add_argument("--fold-detectors", nargs=3, metavar="FILE", help="weights refitted without fold 0, 1, 2")
    parser.add_argument("--every", type=int, default=4, help="each so many frames of a clip are read")
    parser.add_argument("--resamples", type=int, default=1000, help="of the bootstrap over people")
    parser.add_argument("--out", type=Path, default=Path("real"), help="folder for real.json and real.md")
    parser.add_argument(
        "--docs", type=Path, help="page with the marks 'real: begin' and 'real: end' to bring up to date"
    )
    args = parser.parse_args()
    began = time.monotonic()
    if args.docs is not None:
        between_marks(args.docs.read_text(encoding="utf-8"), "")  # before minutes of work
    figures, page = measure(args)
    figures |= {"run/seconds": time.monotonic() - began, **circumstances()}
    args.out.mkdir(parents=True, exist_ok=True)
    write_json(args.out / "real.json", figures)
    replace_file(args.out / "real.md", page.encode())
    if args.docs is not None:
        replace_file(args.docs, between_marks(args.docs.read_text(encoding="utf-8"), page).encode())
    print(page)
    print(args.out / "real.json", args.out / "real.md")


if __name__ == "__main__":
    main()
