"""A look-alike of Aff-Wild2: -1 codes, gaps, the names of two years' challenges, a second person."""

from __future__ import annotations

from pathlib import Path

import cv2

from lit_faces.core.facs import AU_INDEX, EMOTION_INDEX
from tests.fake.faces import NAN, Expected, people, save, table, text

AUS = (1, 2, 4, 6, 7, 10, 12, 15, 23, 24, 25, 26)
NAMES = ("Neutral", "Anger", "Disgust", "Fear", "Happiness", "Sadness", "Surprise", "Other")


def write(root: Path, seed: int = 0) -> list[Expected]:
    """Write three videos: AUs and expressions, AUs only, expressions only (``_left``); picture 3 of each is missing."""
    faces = people(3, 5, seed)
    videos = (("1-30-1280x720", "train", True, True), ("video55", "val", True, False), ("7_left", "train", False, True))
    out = []
    for number, (video, split, has_aus, has_expression) in enumerate(videos):
        frames = [1, 2, 4, 5]
        for frame in frames:
            face = faces.image[number * 5 + frame - 1].permute(1, 2, 0).numpy()
            crop = cv2.resize(face, (112, 112), interpolation=cv2.INTER_AREA)
            save(root / "cropped_aligned" / "cropped_aligned" / video / f"{frame:05d}.jpg", crop)
        present, emotions = table(4), [-1] * 4
        folder = "Train_Set" if split == "train" else "Validation_Set"
        if has_aus:
            lines = [",".join(f"AU{au}" for au in AUS)]
            for frame in range(1, 6):
                codes = [-1 if frame == 5 else (frame + au) % 2 for au in AUS]
                lines.append(",".join(map(str, codes)))
                if frame in frames:
                    for au, code in zip(AUS, codes):
                        present[frames.index(frame), AU_INDEX[au]] = NAN if code < 0 else code
            text(root / "annotations" / "AU_Detection_Challenge" / folder / f"{video}.txt", "\n".join(lines) + "\n")
        if has_expression:
            codes = (4, 1, 0, 7, -1)
            lines = [",".join(NAMES), *map(str, codes)]
            top = "EXPR_Recognition_Challenge" if number else "EXPR_Classification_Challenge"
            text(root / "annotations" / top / folder / f"{video}.txt", "\n".join(lines) + "\n")
            emotions = [EMOTION_INDEX["happiness"], EMOTION_INDEX["anger"], -1, -1]
        out.append(Expected(video, f"affwild2:{video}", frames, table(4), present, emotions, split))
    return out
