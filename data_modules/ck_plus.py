"""CK+ (Lucey et al. 2010): 593 sequences from neutral to peak, 123 people; AUs of the peak frame, 327 emotions.

::

    cohn-kanade-images/S005/001/S005_001_00000011.png
    FACS/S005/001/S005_001_00000011_facs.txt            rows "AU intensity"; intensity 0 = present, not graded
    Emotion/S005/001/S005_001_00000011_emotion.txt      one number
    Landmarks/S005/001/S005_001_00000011_landmarks.txt  68 rows "x y"
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_modules.reader import PICTURES, Clip, Floats, Reader, not_coded, option
from lit_faces.core.facs import AU_INDEX, AUS, EMOTION_INDEX

_EMOTIONS = ("neutral", "anger", "contempt", "disgust", "fear", "happiness", "sadness", "surprise")


@dataclass
class CKPlus(Reader):
    """Reader of CK+.

    Args:
        root: folder that holds the unpacked archives.
        neutral_first: ``keep`` the first frame of each sequence as a neutral one (the protocol), or ``drop``.
    """

    name = "ck_plus"
    title = "CK+"
    aus = AUS
    has_landmarks = True

    neutral_first: str = option("keep", "the first frame of a sequence as a neutral face", ("keep", "drop"))

    def clips(self) -> list[Clip]:
        """One clip a sequence: its peak, and its first frame."""
        images = self.need("cohn-kanade-images folder", "extended-cohn-kanade-images.zip",
                           self.folders(r"(?:extended-)?cohn-kanade-images"))  # fmt: skip
        facs = self._by_sequence(self._tops(r"FACS(?:_labels)?"), "facs")
        emotions = self._by_sequence(self._tops(r"Emotion(?:_labels)?"), "emotion")
        if not facs and not emotions:
            raise FileNotFoundError(f"CK+: no FACS labels under {self.root}; unpack FACS_labels.zip there")
        self.choose("an AU that a FACS file does not list is absent; intensity 0 is present, not graded")
        self.choose(f"neutral_first {self.neutral_first}: the first frame as a neutral face")
        clips = []
        for person in self.folders(r"S\d{3}", images, depth=2):
            for folder in self.folders(r"\d{3}", person, depth=1):
                key = f"{person.name.upper()}_{folder.name}"
                clip = self._clip(key, folder, facs.pop(key, None), emotions.pop(key, None))
                if clip is not None:
                    clips.append(clip)
        for left in (facs, emotions):
            for key, path in left.items():
                self.report(path, f"no pictures of {key}: unpack the images", clip=key, frames=[_number(path)])
        return clips

    def _tops(self, pattern: str) -> list[Path]:
        return self.folders(pattern)

    def _by_sequence(self, tops: list[Path], what: str) -> dict[str, Path]:
        found: dict[str, Path] = {}
        for top in tops:
            for folder in [top, *self.folders("FACS|Emotion", top, depth=1)]:
                for person in self.folders(r"S\d{3}", folder, depth=1):
                    for sequence in self.folders(r"\d{3}", person, depth=1):
                        key = f"{person.name.upper()}_{sequence.name}"
                        for match, path in self.files(sequence, rf"(.*)_{what}\.txt"):
                            if not re.fullmatch(rf"{key}_\d{{1,9}}", match[1], re.IGNORECASE):
                                self.report(path, f"the name is not {key}_FRAME_{what}.txt; left out", clip=key)
                            elif found.setdefault(key, path) != path:
                                self.report(path, f"{found[key].name} is there too and counts; delete one", clip=key)
        return found

    def _clip(self, key: str, folder: Path, facs: Path | None, emotion: Path | None) -> Clip | None:
        pictures = {int(match[1]): path for match, path in self.files(folder, rf"{key}_0*(\d{{1,9}}){PICTURES}")}
        labels = facs or emotion
        if labels is None:
            self.report(folder, "neither FACS codes nor an emotion for this sequence", clip=key)
            return None
        if facs is None:
            self.report(folder, "no FACS codes for this sequence: unpack FACS_labels.zip again", clip=key)
        peak = _number(labels)
        frames = [peak]
        first = min(pictures, default=peak)
        if self.neutral_first == "keep" and 1 < first < peak:
            self.report(folder, f"the first picture has number {first}: is the neutral one missing?", clip=key)
        if self.neutral_first == "keep" and first < peak:
            frames = [first, peak]
        intensity, present = not_coded(len(frames)), not_coded(len(frames))
        numbers = [-1] * len(frames)
        if facs is not None and (coded := self._codes(facs, key)) is not None:
            intensity[-1], present[-1] = coded
        if emotion is not None and _number(emotion) != peak:
            self.report(
                emotion, f"the emotion is of frame {_number(emotion)}, the AUs of frame {peak}; emotion left out",
                0, key, [_number(emotion)],
            )  # fmt: skip
        elif emotion is not None:
            numbers[-1] = self._emotion(emotion, key)
        if len(frames) == 2:
            intensity[0], present[0], numbers[0] = 0.0, 0.0, EMOTION_INDEX["neutral"]
        return Clip(
            key=key,
            subject=f"ck_plus:{key[:4]}",
            frames=np.array(frames),
            pictures=[pictures.get(frame, folder / f"{key}_{frame:08d}.png") for frame in frames],
            au_intensity=intensity,
            au_occurrence=present,
            emotion=np.array(numbers),
        )

    def _codes(self, path: Path, key: str) -> tuple[Floats, Floats] | None:
        before = len(self.problems)
        rows = self.rows(path, 2, "AU and intensity", key)
        if not rows:
            return None
        grades, present = not_coded(1)[0], not_coded(1)[0]
        if len(self.problems) == before and all(au == int(au) for _, (au, _) in rows):
            # a line that cannot be read may be any AU: then none is known to be absent
            grades[:], present[:] = 0.0, 0.0
        for line, (au, value) in rows:
            if au != int(au) or not 0 <= value <= 5:
                self.report(path, f"expected an AU and 0..5, found {au:g} and {value:g}; not coded", line, key)
                if au in AU_INDEX:
                    grades[AU_INDEX[int(au)]] = present[AU_INDEX[int(au)]] = np.nan
            elif int(au) in AU_INDEX:
                present[AU_INDEX[int(au)]] = 1.0
                grades[AU_INDEX[int(au)]] = value if value else np.nan
            else:
                self.choose("AUs outside our 19 are left out")
        return grades, present

    def _emotion(self, path: Path, key: str) -> int:
        rows = self.rows(path, 1, "an emotion 0..7", key)
        if not rows:
            return -1
        line, (value,) = rows[0]
        if value not in range(len(_EMOTIONS)):
            self.report(path, f"expected an emotion 0..7, found {value:g}", line, key)
            return -1
        return EMOTION_INDEX[_EMOTIONS[int(value)]]

    def own_landmarks(self, clip: Clip) -> Floats:
        """68 points of the AAM; the files count pixels as we do, as far as is known."""
        points = np.full((len(clip), 68, 2), np.nan, dtype=np.float32)
        person, sequence = clip.key.split("_")
        top = self.need("Landmarks folder", "Landmarks.zip", self.folders(r"Landmarks"))
        found = [f for p in self.folders(person, top, depth=1) for f in self.folders(sequence, p, depth=1)]
        folder = found[0] if found else top / person / sequence
        pattern = rf"{clip.key}_0*(\d{{1,9}})_landmarks\.txt"
        files = {int(match[1]): path for match, path in self.files(folder, pattern)} if found else {}
        for row, frame in enumerate(clip.frames):
            path = files.get(int(frame), folder / f"{clip.key}_{frame:08d}_landmarks.txt")
            rows = self.rows(path, 2, "x y", clip.key)
            if rows is not None and len(rows) == 68:
                points[row] = [values for _, values in rows]
            elif rows:
                self.report(path, f"expected 68 points, found {len(rows)}", 0, clip.key, [frame])
        return points


def _number(path: Path) -> int:
    """``S005_001_00000011_facs.txt`` -> 11."""
    return int(path.stem.rsplit("_", 2)[1])


READER = CKPlus
