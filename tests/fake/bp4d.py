"""Look-alikes of BP4D in both layouts, and of BP4D+."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from lit_faces.core.facs import AU_INDEX
from tests.fake.disfa import in_frame
from tests.fake.faces import NAN, Expected, framed, people, save, table, text

GRADED = (6, 10, 12, 14, 17)
CODED = (1, 2, 4, 6, 7, 10, 12, 14, 15, 17, 23, 24)
OURS = (1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17, 20, 23, 24, 25, 26, 27, 43)
PLUS_HEADER = (1, 1, 2, 4, 5, 6, 7, *range(9, 21), 22, 23, 24, *range(27, 40))  # its frame column is called 1
NARROW_HEADER = (*range(1, 8), *range(9, 36))  # 34 AUs and the frame: 35 columns


def write(root: Path, seed: int = 0, layout: str = "full", frames: int = 8) -> list[Expected]:
    """Write F001 T1 (4-digit names) and M009 T3 (3-digit names, labels begin at 5); F013 T2 has a 35-column table.

    Args:
        root: folder to write to.
        seed: of the people.
        layout: ``full``, ``fera`` or ``plus``.
        frames: of each sequence.
    """
    tasks = {"full": ("T1", "T3", "T2"), "fera": ("T1", "T3", "T2"), "plus": ("T1", "T6", "T7")}[layout]
    people_of = ("F001", "M009", "F013")
    faces = people(len(people_of), frames, seed)
    pictures = {"full": "Sequences(2D+3D)/Sequences(2D+3D)", "fera": "BP4D-training", "plus": "2D+3D"}[layout]
    occ = "AUCoding/AUCoding" if layout == "fera" else "AUCoding/AU_OCC"
    out = []
    for number, (person, task) in enumerate(zip(people_of, tasks)):
        first = 5 if person == "M009" else 1
        rows = np.arange(number * frames, (number + 1) * frames)
        shown = list(range(first, first + frames))
        grades = _grades(faces, rows)
        present = _present(faces, rows)
        if person == "F001":
            grades[1, AU_INDEX[6]] = NAN  # code 9
            present[3, AU_INDEX[2]] = NAN
        key = f"{person}_{task}"
        header = {"plus": PLUS_HEADER}.get(layout, NARROW_HEADER if person == "F013" else tuple(range(100)))
        text(root / occ / f"{key}.csv", _occurrence(header, shown, present, named=header is NARROW_HEADER))
        places = {AU_INDEX[au] for au in header[1 if header is PLUS_HEADER else 0 :] if au in AU_INDEX}
        for column in set(range(19)) - places:
            present[:, column] = NAN
        _intensity(root, layout, key, shown, grades)
        offset = -1 if layout == "plus" else 0
        digits = 3 if person == "M009" else 4
        if layout == "plus":  # all frames of the video are there, the coded ones are a part of them
            for early in range(first - 1):
                save(root / pictures / person / task / f"{early:0{digits}d}.jpg", framed(faces.image[rows[0]]))
        for row, frame in zip(rows, shown):
            save(root / pictures / person / task / f"{frame + offset:0{digits}d}.jpg", framed(faces.image[row]))
        if layout != "fera":
            save(root / pictures / person / task / f"{frames + 50:0{digits}d}.jpg", framed(faces.image[rows[0]]))
            _features(root / "2DFeatures" / f"{key}.mat", faces, rows, first)
        name = "bp4d_plus" if layout == "plus" else "bp4d"
        out.append(Expected(key, f"{name}:{person}", shown, grades, present))
    if layout == "plus":  # the sequence whose frames and labels do not match
        text(root / occ / "F041_T7.csv", "1,1\n5,1\n")
    return out


def _grades(faces, rows) -> np.ndarray:
    grades = table(len(rows), GRADED)
    for au in GRADED:
        grades[:, AU_INDEX[au]] = np.rint(faces.au_intensity[rows, AU_INDEX[au]].numpy())
    return grades


def _present(faces, rows) -> np.ndarray:
    """0/1 for the 12 protocol AUs, 9 (NaN) for the others that have a column."""
    present = table(len(rows))
    for au in CODED:
        present[:, AU_INDEX[au]] = faces.au_intensity[rows, AU_INDEX[au]].numpy() >= 1
    return present


def _occurrence(header, frames, present, named: bool) -> str:
    first = header if header[:2] == (1, 1) or header[0] == 0 else (0, *header)
    lines = [",".join(["Frame", *(f"AU{au}" for au in header)] if named else map(str, first))]
    for frame, row in zip(frames, present):
        cells = [str(frame)]
        for au in first[1:]:
            value = row[AU_INDEX[au]] if au in AU_INDEX else NAN
            cells.append("9" if value != value else str(int(value)))
        lines.append(",".join(cells))
    return "\n".join(lines) + "\n"


def _intensity(root: Path, layout: str, key: str, frames, grades) -> None:
    top = root / ("AU Intensity Codes3.0" if layout == "fera" else "AUCoding/AU_INT")
    for au in GRADED:
        values = ["9" if v != v else str(int(v)) for v in grades[:, AU_INDEX[au]]]
        text(top / f"AU{au:02d}" / f"{key}_AU{au:02d}.csv", "".join(f"{f},{v}\n" for f, v in zip(frames, values)))


def _features(path: Path, faces, rows, first: int) -> None:
    """MATLAB v7.3: references to 2x49 points; cells before the coded segment and one inside are empty."""
    path.parent.mkdir(parents=True, exist_ok=True)
    keep = [i for i in range(17, 68) if i not in (60, 64)]
    with h5py.File(path, "w") as file:
        cells = file.create_dataset("fit/pred", (first - 1 + len(rows), 1), dtype=h5py.ref_dtype)
        for i in range(len(cells)):
            row = i - (first - 1)
            empty = row < 0 or row == 2
            data = np.zeros(2, np.uint64) if empty else in_frame(faces.landmarks[rows[row]].numpy())[keep].T + 1
            cells[i, 0] = file.create_dataset(f"#refs#/{i}", data=data).ref
