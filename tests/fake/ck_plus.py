"""A look-alike of CK+: intensity 0, AUs outside our vocabulary, sequences without an emotion or without FACS codes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lit_faces.core.facs import AU_INDEX, AUS, EMOTION_INDEX
from tests.fake.disfa import in_frame
from tests.fake.faces import NAN, Expected, framed, people, save, table, text

#: sequence -> (AU, intensity) of the peak, emotion code; None: no file
SEQUENCES = {
    "S005_001": (((9, 5), (17, 4), (39, 2), (25, 0)), 3),
    "S005_002": (((1, 2), (4, 0), (64, 1)), None),
    "S895_001": (None, 5),
}
_EMOTIONS = {3: "disgust", 5: "happiness"}

LACKS = 1  # one FACS file, on purpose


def write(root: Path, seed: int = 0, frames: int = 3) -> list[Expected]:
    """Write it; returns what a reader must say."""
    faces = people(len(SEQUENCES), frames, seed)
    out = []
    for number, (key, (codes, emotion)) in enumerate(SEQUENCES.items()):
        person, sequence = key.split("_")
        rows = np.arange(number * frames, (number + 1) * frames)
        shown = list(range(1, frames + 1))
        suffix = "PNG" if key == "S005_002" else "png"
        for frame, row in zip(shown, rows):
            picture = root / "extended-cohn-kanade-images" / "cohn-kanade-images" / person / sequence
            save(picture / f"{key}_{frame:08d}.{suffix}", framed(faces.image[row]))
            marks = in_frame(faces.landmarks[row].numpy())
            lines = "".join(f"   {x:.7e}   {y:.7e}\n" for x, y in marks)
            text(root / "Landmarks" / person / sequence / f"{key}_{frame:08d}_landmarks.txt", lines)
        grades, present = table(2, AUS), table(2, AUS)
        if codes is None:
            grades[1], present[1] = NAN, NAN
        else:
            lines = "".join(f"   {au:.7e}   {value:.7e}\n" for au, value in codes)
            text(root / "FACS_labels" / "FACS" / person / sequence / f"{key}_{shown[-1]:08d}_facs.txt", lines)
            for au, value in codes:
                if au in AU_INDEX:
                    present[1, AU_INDEX[au]] = 1
                    grades[1, AU_INDEX[au]] = value or NAN
        folder = root / "Emotion" / person / sequence
        folder.mkdir(parents=True)
        if emotion is not None:
            text(folder / f"{key}_{shown[-1]:08d}_emotion.txt", f"   {emotion:.7e}\n")
        emotions = [0, -1 if emotion is None else EMOTION_INDEX[_EMOTIONS[emotion]]]
        out.append(Expected(key, f"ck_plus:{person}", [shown[0], shown[-1]], grades, present, emotions))
    text(root / "extended-cohn-kanade-images" / "cohn-kanade-images" / ".DS_Store", "")
    return out
