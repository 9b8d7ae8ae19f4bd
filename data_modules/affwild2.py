"""Aff-Wild2 (Kollias & Zafeiriou 2019): 12 AUs present or absent, and expressions, in every frame of web videos.

::

    cropped_aligned/<video>/00001.jpg                          numbered from 1, with gaps where no face was found
    AU_Detection_Challenge/Train_Set/<video>.txt               (2020: AU_Set) a header, then row i for picture i
    EXPR_Classification_Challenge/Validation_Set/<video>.txt   (EXPR_Recognition_Challenge; 2020: EXPR_Set)

-1 is not coded. Valence and arousal are not read. A second person of a video has a name of their own (``_left``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_modules.reader import PICTURES, Clip, Reader, not_coded
from lit_faces.core.facs import AU_INDEX, EMOTION_INDEX

_SPLITS = {"train": "train", "training": "train", "validation": "val"}
_EMOTIONS = {
    "neutral": "neutral", "anger": "anger", "disgust": "disgust", "fear": "fear", "happiness": "happiness",
    "sadness": "sadness", "surprise": "surprise",
}  # fmt: skip


@dataclass
class AffWild2(Reader):
    """Reader of Aff-Wild2.

    Args:
        root: folder that holds the crops and the annotations.
    """

    name = "affwild2"
    title = "Aff-Wild2"
    aus = (1, 2, 4, 6, 7, 10, 12, 15, 23, 24, 25, 26)
    cropped = True

    def clips(self) -> list[Clip]:
        """One clip a video and person; AUs and expressions are joined by frame."""
        crops = self.need("cropped_aligned folder", "the cropped_aligned batches", self.folders("cropped_aligned.*"))
        folders = {
            f.name.lower(): f for top in self.folders("cropped_aligned.*") or [crops] for f in self.children(top)
        }
        self.choose("row i is picture i; -1 and the expression Other are not coded; no subject numbers but the video's")
        aus = self._annotations(r"AU_(?:Detection_Challenge|Set)")
        expressions = self._annotations(r"EXPR_(?:\w+_Challenge|Set)")
        if not aus and not expressions:
            raise FileNotFoundError(
                f"Aff-Wild2: no annotations under {self.root} (AU_Detection_Challenge/Train_Set, ...)"
            )
        without = sorted(set(folders) - {video.lower() for video in [*aus, *expressions]})
        if without:
            self.choose(
                f"{len(without)} videos have crops and no annotation (the test set's have none): {without[0]} ..."
            )
        clips = []
        for video in sorted(set(aus) | set(expressions)):
            clip = self._clip(video, aus.get(video), expressions.get(video), folders.get(video.lower()))
            if clip is not None:
                clips.append(clip)
        return clips

    def _annotations(self, pattern: str) -> dict[str, tuple[str, Path]]:
        found: dict[str, tuple[str, Path]] = {}
        for top in self.folders(pattern):
            for folder in self.folders(r"(?:train|training|validation)_?set", top, depth=1):
                split = _SPLITS[re.sub(r"_?set$", "", folder.name.lower())]
                for match, path in self.files(folder, r"(.+)\.txt"):
                    before, other = found.get(match[1], (split, path))
                    if before != split:
                        self.choose(f"{match[1]} is in training and validation; it counts as validation")
                    if other != path:
                        self.choose(f"{match[1]}: {self.relative(path)} taken, {self.relative(other)} left")
                    found[match[1]] = split if before == split else "val", path
        return found

    def _clip(
        self, video: str, aus: tuple[str, Path] | None, expression: tuple[str, Path] | None, folder: Path | None
    ) -> Clip | None:
        present = self._present(aus[1], video) if aus else {}
        emotions = self._emotions(expression[1], video) if expression else {}
        frames = sorted(set(present) | set(emotions))
        if folder is None:
            some = next(path for _, path in filter(None, (aus, expression)))
            self.report(some, f"no crops of {video}: unpack its batch into cropped_aligned", 0, video, frames)
            return None
        pictures = {int(match[1]): path for match, path in self.files(folder, rf"0*(\d+){PICTURES}")}
        gaps = len(set(frames) - set(pictures))
        if gaps:
            self.choose(f"{video}: {gaps:,} rows without a crop (no face was found) are left out")
        for rows, told in ((present, aus), (emotions, expression)):
            beyond = sorted(frame for frame in pictures if frame > max(rows, default=0))
            if told and beyond:
                self.report(told[1], f"the rows end before the crops do: {len(beyond):,} not coded", 0, video, beyond)
        frames = [frame for frame in frames if frame in pictures]
        if not frames:
            return None
        table = not_coded(len(frames))
        for row, frame in enumerate(frames):
            for au, value in present.get(frame, {}).items():
                table[row, AU_INDEX[au]] = value
        splits = {split for split, _ in filter(None, (aus, expression))}
        if len(splits) > 1:
            self.choose(f"{video} is in training and validation; it counts as validation")
        return Clip(
            key=video,
            subject=f"affwild2:{video}",
            frames=np.array(frames),
            pictures=[pictures[frame] for frame in frames],
            au_occurrence=table,
            emotion=np.array([emotions.get(frame, -1) for frame in frames]),
            split="val" if "val" in splits else "train",
        )

    def _present(self, path: Path, video: str) -> dict[int, dict[int, float]]:
        lines = self.lines(path, video)
        if not lines:
            if lines is not None:
                self.report(path, "the file is empty", clip=video)
            return {}
        names = [re.fullmatch(r"\s*AU_?0*([0-9]{1,3})\s*", name, re.IGNORECASE) for name in lines[0].split(",")]
        if None in names:
            self.report(path, f"expected a header AU1,AU2,..., found {lines[0][:40]!r}", 1, video)
            return {}
        numbers = [int(name[1]) for name in names if name]
        if len(set(numbers)) < len(numbers):
            self.report(path, f"an AU stands twice in the header {lines[0][:40]!r}", 1, video)
            return {}
        found: dict[int, dict[int, float]] = {}
        bad = []
        for frame, line in enumerate(lines[1:], 1):
            cells = [cell.strip() for cell in line.split(",")]
            if cells == [""] or len(cells) != len(numbers) or not set(cells) <= {"0", "1", "-1"}:
                bad.append((frame, line))
            else:
                found[frame] = {au: float(cell) for au, cell in zip(numbers, cells) if au in AU_INDEX and cell != "-1"}
        self._bad(path, bad, f"{len(numbers)} codes 0, 1 or -1", video)
        return found

    def _emotions(self, path: Path, video: str) -> dict[int, int]:
        lines = self.lines(path, video)
        if not lines:
            if lines is not None:
                self.report(path, "the file is empty", clip=video)
            return {}
        names = [name.strip().lower() for name in lines[0].split(",")]
        if len(names) < 2 or not set(names) <= {*_EMOTIONS, "other"}:
            self.report(path, f"expected a header Neutral,Anger,..., found {lines[0][:40]!r}", 1, video)
            return {}
        found, bad = {}, []
        for frame, line in enumerate(lines[1:], 1):
            text = line.strip()
            if re.fullmatch(r"-?[0-9]{1,3}", text) and -1 <= int(text) < len(names):
                name = names[int(text)] if int(text) >= 0 else "other"
                found[frame] = EMOTION_INDEX[_EMOTIONS[name]] if name in _EMOTIONS else -1
            else:
                bad.append((frame, line))
        self._bad(path, bad, f"one number from -1 to {len(names) - 1}", video)
        return found

    def _bad(self, path: Path, bad: list[tuple[int, str]], expected: str, video: str) -> None:
        if bad:
            frames = [frame for frame, _ in bad]
            self.report(path, f"expected {expected}, found {bad[0][1][:40]!r}", bad[0][0] + 1, video, frames)


READER = AffWild2
