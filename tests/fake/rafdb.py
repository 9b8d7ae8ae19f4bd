"""A look-alike of RAF-DB: aligned crops of 100 px, the misspelt list."""

from __future__ import annotations

from pathlib import Path

import cv2

from lit_faces.core.facs import EMOTION_INDEX
from tests.fake.faces import Expected, people, save, table, text

CODES = {1: "surprise", 2: "fear", 3: "disgust", 4: "happiness", 5: "sadness", 6: "anger", 7: "neutral"}
LABELS = {"train": (5, 4, 7, 1, 2), "test": (3, 6)}


def write(root: Path, seed: int = 0) -> list[Expected]:
    """Write it; returns what a reader must say."""
    faces = people(7, 1, seed)
    lines, out, number = [], [], 0
    for split, codes in LABELS.items():
        for i, code in enumerate(codes, 1):
            name = f"{split}_{i:05d}"
            crop = cv2.resize(faces.image[number].permute(1, 2, 0).numpy(), (100, 100), interpolation=cv2.INTER_AREA)
            save(root / "basic" / "Image" / "aligned" / "aligned" / f"{name}_aligned.jpg", crop)
            lines.append(f"{name}.jpg {code}")
            number += 1
        n = len(codes)
        emotions = [EMOTION_INDEX[CODES[code]] for code in codes]
        out.append(Expected(f"{split}_0000", "rafdb:*", list(range(1, n + 1)), table(n), table(n), emotions, split))
    text(root / "basic" / "EmoLabel" / "list_patition_label.txt", "\n".join(lines) + "\n")
    return out
