"""A look-alike of UNBC-McMaster: empty files are neutral, AU43 is binary, folders are nested as on Kaggle."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lit_faces.core.facs import AU_INDEX
from tests.fake.disfa import in_frame
from tests.fake.faces import NAN, Expected, framed, people, save, table, text

AUS = (4, 6, 7, 9, 10, 12, 20, 25, 26, 27, 43)
#: person, sequence, codes of each frame (AU, intensity); AU50 is outside our vocabulary, AU1 is not coded throughout
SEQUENCES = (
    ("042-ll042", "ll042t1aaaff", ((), ((6, 2), (43, 1), (7, 3)), ((50, 1), (1, 2)))),
    ("043-jh043", "jh043t1aaaff", (((4, 5), (9, 1)), (), ((25, 0),))),
)


def write(root: Path, seed: int = 0) -> list[Expected]:
    """Write it; returns what a reader must say."""
    faces = people(len(SEQUENCES), 3, seed)
    out = []
    for number, (person, sequence, frames) in enumerate(SEQUENCES):
        grades, present = table(3, AUS), table(3, AUS)
        for i, codes in enumerate(frames):
            stem = f"{sequence}{i + 1:03d}"
            row = number * 3 + i
            save(root / "Images" / "Images" / person / sequence / f"{stem}.png", framed(faces.image[row]))
            lines = "".join(f"   {au:.7e}   {value:.7e}   0.0000000e+00   0.0000000e+00\n" for au, value in codes)
            labels = root / "Frame_Labels" / "Frame_Labels"
            text(labels / "FACS" / person / sequence / f"{stem}_facs.txt", lines)
            text(labels / "PSPI" / person / sequence / f"{stem}_facs.txt", "   2.0000000e+00\n")
            marks = np.delete(in_frame(faces.landmarks[row].numpy()), (60, 64), axis=0)
            marks = "" if i == 2 else "".join(f"   {x:.7e}   {y:.7e}\n" for x, y in marks)
            text(root / "AAM_landmarks" / person / sequence / f"{stem}_aam.txt", marks)
            for au, value in codes:
                if au in AUS:
                    present[i, AU_INDEX[au]] = 1
                    grades[i, AU_INDEX[au]] = NAN if au == 43 or value == 0 else value
        out.append(Expected(sequence, f"unbc:{person}", [1, 2, 3], grades, present))
    return out
