"""A look-alike of the open faces: two people of the London set at rest and smiling, two of the Canadian at rest."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lit_faces.core.facs import AU_INDEX, EMOTION_INDEX
from tests.fake.faces import NAN, Expected, framed, people, save, table, text

HEAD = "file,subject,emotion,age,gender,ethnicity,lip_gap,lips_parted,fold,mp_smile"
#: Person: age, gender, ethnicity, fold.
PEOPLE = {
    "l001": ("24", "female", "white", 1), "l025": ("21", "female", "black", 0),
    "c003f": ("19", "female", "", 0), "c095m": ("20", "male", "", 1),
}  # fmt: skip
NAMES = {"l001": "london:001", "l025": "london:025", "c003f": "canada:003f", "c095m": "canada:095m"}
#: Lip gap, parted, MediaPipe's smile.
SEEN = {
    ("l001", "neutral"): ("0.008", 0, "0.010"), ("l001", "happiness"): ("0.126", 1, "0.643"),
    ("l025", "neutral"): ("0.031", 1, "0.015"), ("l025", "happiness"): ("0.001", 0, "0.311"),
    ("c003f", "neutral"): ("0.003", 0, "0.001"), ("c095m", "neutral"): ("0.004", 0, "0.001"),
}  # fmt: skip


def points() -> np.ndarray:
    """The 189 points of every neutral."""
    return (np.arange(378, dtype=np.float32).reshape(189, 2) / 4).round(2)


def write(root: Path, seed: int = 0) -> list[Expected]:
    """Write it; returns what a reader must say."""
    faces = people(7, 1, seed)  # six are shown
    rows, marks, out = [], [], []
    for who, (age, gender, ethnicity, fold) in PEOPLE.items():
        emotions = [emotion for name, emotion in SEEN if name == who]
        grades = table(len(emotions))
        grades[0] = 0.0
        if SEEN[who, "neutral"][1]:
            grades[0, AU_INDEX[25]] = NAN
        for emotion in emotions:
            file = f"images/{who}_{emotion}.jpg"
            save(root / file, framed(faces.image[len(rows)], 192, 240))
            gap, parted, smile = SEEN[who, emotion]
            rows.append(f"{file},{who},{emotion},{age},{gender},{ethnicity},{gap},{parted},{fold},{smile}")
            if emotion == "neutral":
                marks.append(",".join([file, *(f"{value:.2f}" for value in points().ravel())]))
        name = NAMES[who]
        frames = [3, 8][: len(emotions)]
        numbers = [EMOTION_INDEX[emotion] for emotion in emotions]
        out.append(Expected(name.replace(":", "-"), name, frames, grades, grades.copy(), numbers))
    text(root / "labels.csv", "\n".join([HEAD, *rows]) + "\n")
    columns = ",".join(["file", *(f"{axis}{i}" for i in range(189) for axis in "xy")])
    text(root / "points189.csv", "\n".join([columns, *marks]) + "\n")
    return out
