"""A look-alike of the London set: three people, frontal at rest and smiling, a profile that is not read."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lit_faces.core.facs import EMOTION_INDEX
from tests.fake.faces import Expected, framed, people, save, table, text

INFO = (
    "face_id,face_age,face_gender,face_eth\nX001,24,female,white\nX025,21,female,black\nX140,NA,male,east_asian/white\n"
)
NUMBERS = ("001", "025", "140")


def points() -> np.ndarray:
    """The 189 points of every neutral."""
    return (np.arange(378, dtype=np.float32).reshape(189, 2) / 4).round(2)


def write(root: Path, seed: int = 0) -> list[Expected]:
    """Write it, an archive a folder as people unzip them; returns what a reader must say."""
    faces = people(7, 1, seed)  # six are shown
    marks = "\n".join(["189", *(f"{x:.2f} {y:.2f}" for x, y in points()), "1", "0", "3", "0 1 2"]) + "\n"
    out = []
    for number, name in enumerate(NUMBERS):
        neutral, smile = (framed(faces.image[2 * number + i], 200, 200) for i in (0, 1))
        save(root / "neutral_front" / "neutral_front" / f"{name}_03.jpg", neutral)
        text(root / "neutral_front" / "neutral_front" / f"{name}_03.tem", marks)
        save(root / "smiling_front" / f"{name}_08.jpg", smile)
        grades = table(2)
        grades[0] = 0.0
        emotions = [EMOTION_INDEX["neutral"], EMOTION_INDEX["happiness"]]
        out.append(Expected(f"london-{name}", f"london:{name}", [3, 8], grades, grades.copy(), emotions))
    save(root / "neutral_profile" / "001_01.jpg", neutral)
    text(root / "london_faces_info.csv", INFO)
    return out
