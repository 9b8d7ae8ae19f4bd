"""A look-alike of DISFA+: two people, trials, two header lines, one trial that lacks an AU file."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lit_faces.core.facs import AU_INDEX
from tests.fake.disfa import AUS, labels_of
from tests.fake.faces import NAN, Expected, framed, people, save, text

TRIALS = (("SN001", "A1_AU1_TrailNo_1"), ("SN001", "Z_SupriseText_TrailNo_2"), ("SN003", "A5_AU1_4b_TrailNo_1"))

LACKS = 1  # AU15 of one trial, on purpose


def write(root: Path, seed: int = 0, frames: int = 4) -> list[Expected]:
    """Write it; returns what a reader must say. SN003's trial has no AU15.txt."""
    faces = people(len(TRIALS), frames, seed)
    top = root / "DISFAPlusDataset"
    out = []
    for number, (person, trial) in enumerate(TRIALS):
        rows = np.arange(number * frames, (number + 1) * frames)
        grades = labels_of(faces, rows)
        for au in AUS:
            if person == "SN003" and au == 15:
                grades[:, AU_INDEX[15]] = NAN
                continue
            lines = ["% intensity of the AU in every frame", "% frame      intensity"]
            lines += [f"{i:03d}.jpg     {int(v)}" for i, v in enumerate(grades[:, AU_INDEX[au]])]
            text(top / "Labels" / person / trial / f"AU{au}.txt", "\n".join(lines) + "\n")
        for i, row in enumerate(rows):
            save(top / "Images" / person / trial / f"{i:03d}.jpg", framed(faces.image[row]))
        present = np.where(np.isnan(grades), np.nan, grades >= 2).astype(np.float32)
        out.append(Expected(f"{person}_{trial}", f"disfa:{person}", list(range(frames)), grades, present))
    return out
