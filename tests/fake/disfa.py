"""A look-alike of DISFA: two people (SN001, SN010), both cameras, nested unzips, both families of landmark files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.io import savemat

from lit_faces.core.facs import AU_INDEX
from tests.fake.faces import NAN, Expected, codec, framed, people, table, text, write_video

AUS = (1, 2, 4, 5, 6, 9, 12, 15, 17, 20, 25, 26)
PEOPLE = ("SN001", "SN010")


def labels_of(faces, rows) -> np.ndarray:
    """The renderer's intensities as whole grades, float32 (n, 19)."""
    grades = table(len(rows), AUS)
    for au in AUS:
        grades[:, AU_INDEX[au]] = np.rint(faces.au_intensity[rows, AU_INDEX[au]].numpy())
    return grades


def write(root: Path, seed: int = 0, frames: int = 12, names: tuple[str, ...] = PEOPLE) -> list[Expected]:
    """Write it; returns what a reader must say.

    SN010's labels have one row less than its video has pictures, as in the original; SN001's frame 3 has the code 9 in
    AU17 (not coded), which the original does not have but copies do.
    """
    faces = people(len(names), frames, seed)
    out = []
    for number, name in enumerate(names):
        rows = np.arange(number * frames, (number + 1) * frames)
        pictures = [framed(faces.image[row]) for row in rows]
        write_video(root / "Videos_LeftCamera" / f"LeftVideo{name}_comp.avi", pictures, codec())
        write_video(root / "Video_RightCamera" / f"RightVideo{name}_Comp.avi", pictures[::-1], codec())
        count = frames - 1 if name == "SN010" else frames
        grades = labels_of(faces, rows[:count])
        if name == "SN001":
            grades[2, AU_INDEX[17]] = NAN
        folder = root / "ActionUnit_Labels" / "ActionUnit_Labels" / name
        for au in AUS:
            lines = [f"{i + 1},{9 if v != v else int(v)}" for i, v in enumerate(grades[:, AU_INDEX[au]])]
            text(folder / f"{name}_au{au}.txt", "\r\n".join(lines) + "\r\n")
        _landmarks(root / "Landmark_Points" / "Landmark_Points" / name / "tmp_frame_lm", name, faces, rows)
        occurrence = np.where(np.isnan(grades), np.nan, grades >= 2).astype(np.float32)
        out.append(Expected(name, f"disfa:{name}", list(range(1, count + 1)), grades, occurrence))
    text(root / "__MACOSX" / "ActionUnit_Labels" / "SN099" / "._SN099_au1.txt", "junk")
    return out


def _landmarks(folder: Path, name: str, faces, rows) -> None:
    """66 points: SN010's files count from 1 (l00001), the others' from 0; Matlab's pixels start at 1."""
    folder.mkdir(parents=True)
    keep = [i for i in range(68) if i not in (60, 64)]
    for position, row in enumerate(rows):
        stem = f"l0{position + 1:04d}_lm.mat" if name == "SN010" else f"{name}_{position:04d}_lm.mat"
        savemat(folder / stem, {"pts": in_frame(faces.landmarks[row].numpy())[keep] + 1})


def in_frame(points: np.ndarray, side: int = 192, left: int = 32, size: int = 128) -> np.ndarray:
    """Landmarks of a crop in the frame that :func:`faces.framed` makes of it."""
    return (points + 0.5) * (side / size) - 0.5 + np.array([left, 0])
