"""A look-alike of FER2013 with the votes of FER+."""

from __future__ import annotations

from pathlib import Path

import cv2

from lit_faces.core.facs import EMOTION_INDEX
from tests.fake.faces import Expected, people, table, text

CODES = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")
ROWS = (("Training", 0), ("Training", 3), ("PublicTest", 6), ("Training", 4), ("PrivateTest", 5))
SPLITS = {"Training": "train", "PublicTest": "val", "PrivateTest": "test"}
#: neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF
VOTES = (
    (0, 0, 0, 0, 8, 1, 1, 0, 0, 0),
    (0, 9, 1, 0, 0, 0, 0, 0, 0, 0),
    (1, 0, 0, 0, 0, 0, 0, 9, 0, 0),
    (4, 0, 0, 4, 1, 0, 0, 0, 1, 0),  # a tie
    (0, 0, 0, 0, 0, 0, 0, 0, 0, 10),  # no face
)
PLUS = {0: "anger", 1: "happiness", 2: "contempt"}


def grey(seed: int = 0) -> list:
    """The pictures, uint8 (48, 48)."""
    small = [cv2.resize(image.permute(1, 2, 0).numpy(), (48, 48), interpolation=cv2.INTER_AREA)
             for image in people(len(ROWS), 1, seed).image]  # fmt: skip
    return [cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in small]


#: The original labels, and those of FER+.
VARIANTS = {"": ({}, {}), "plus": ({"labels": "ferplus"}, {"labels": "ferplus"})}


def write(root: Path, seed: int = 0, labels: str = "fer2013") -> list[Expected]:
    """Write both tables; returns what a reader must say with these labels."""
    lines = ["emotion,pixels,Usage"]
    lines += [f"{code},{' '.join(map(str, p.reshape(-1)))},{usage}" for (usage, code), p in zip(ROWS, grey(seed))]
    text(root / "fer2013" / "fer2013.csv", "\n".join(lines) + "\n")
    names = "neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"
    votes = [f"{usage},{'' if i == 1 else f'fer{i:07d}.png'},{','.join(map(str, v))}"
             for i, ((usage, _), v) in enumerate(zip(ROWS, VOTES))]  # fmt: skip
    text(root / "FERPlus" / "fer2013new.csv", "\n".join([f"Usage,Image name,{names}", *votes]) + "\n")
    out = []
    for usage, split in SPLITS.items():
        known = {i: CODES[code] for i, (own, code) in enumerate(ROWS) if own == usage}
        if labels == "ferplus":
            known = {i: PLUS[i] for i in known if i in PLUS}
        n, emotions = len(known), [EMOTION_INDEX[name] for name in known.values()]
        if n:
            out.append(Expected(f"{split}_0000", "fer2013:*", list(known), table(n), table(n), emotions, split))
    return out
