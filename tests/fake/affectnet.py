"""Look-alikes of both releases of AffectNet."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lit_faces.core.facs import EMOTION_INDEX
from tests.fake.disfa import in_frame
from tests.fake.faces import Expected, framed, people, save, table, text

CODES = ("neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger", "contempt")
HEADER = "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,expression,valence,arousal"
LABELS = {"train": (1, 0, 8, 7, 10, 3), "val": (4, 6)}

#: By release: what is written, and how it is read.
VARIANTS = {"2016": ({"release": "2016"}, {}), "2021": ({"release": "2021"}, {})}


def write(root: Path, seed: int = 0, release: str = "2016") -> list[Expected]:
    """Write it; 8 (none) and 10 (no face) are left out, the last suffix is in upper case (2016)."""
    faces = people(8, 1, seed)
    out, number = [], 0
    for split, codes in LABELS.items():
        lines, kept = [HEADER], []
        for i, code in enumerate(codes):
            marks = in_frame(faces.landmarks[number].numpy())
            picture = framed(faces.image[number])
            number += 1
            if release == "2016":
                name = f"{i + 1}/abc{number}.jpg"
                suffix = ".JPG" if i == len(codes) - 1 else ".jpg"
                save(root / "Manually_Annotated_Images" / Path(name).with_suffix(suffix), picture)
                points = ";".join(f"{value:.2f}" for value in marks.reshape(-1))
                lines.append(f"{name},32,0,192,192,{points},{code},0.1,-0.2")
            else:
                folder = root / f"{split}_set"
                save(folder / "images" / f"{i}.jpg", picture)
                (folder / "annotations").mkdir(parents=True, exist_ok=True)
                np.save(folder / "annotations" / f"{i}_exp.npy", np.array(str(code)))
                np.save(folder / "annotations" / f"{i}_lnd.npy", marks.reshape(-1))
            if code < 8:
                kept.append((i + 2 if release == "2016" else i, EMOTION_INDEX[CODES[code]]))
        if release == "2016":
            name = {"train": "training", "val": "validation"}[split]
            text(root / f"{name}.csv", "\n".join(lines) + "\n")
        frames, emotions = [k for k, _ in kept], [e for _, e in kept]
        n = len(kept)
        out.append(Expected(f"{split}_0000", "affectnet:*", frames, table(n), table(n), emotions, split))
    return out
