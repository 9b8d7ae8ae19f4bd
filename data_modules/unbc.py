"""UNBC-McMaster Shoulder Pain Archive (Lucey et al. 2011): 25 people, 200 sequences, 11 AUs in every frame.

::

    Images/042-ll042/ll042t1aaaff/ll042t1aaaff001.png
    Frame_Labels/FACS/042-ll042/ll042t1aaaff/ll042t1aaaff001_facs.txt  rows "AU intensity on off"; empty: neutral
    AAM_landmarks/042-ll042/ll042t1aaaff/ll042t1aaaff001_aam.txt         66 rows "x y", some files empty

PSPI and sequence labels are not read. Kaggle copies nest Images/Images and Frame_Labels/Frame_Labels.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_modules.reader import PICTURES, Clip, Floats, Reader, not_coded, spread_landmarks
from lit_faces.core.facs import AU_INDEX

_BINARY = 43


@dataclass
class UNBC(Reader):
    """Reader of UNBC-McMaster.

    Args:
        root: folder that holds the unpacked archives.
    """

    name = "unbc"
    title = "UNBC-McMaster"
    aus = (4, 6, 7, 9, 10, 12, 20, 25, 26, 27, 43)
    has_landmarks = True

    def clips(self) -> list[Clip]:
        """One clip a sequence."""
        images = self.need("Images folder", "Images.zip", self.folders("images"))
        labels = self.need("Frame_Labels folder", "Frame_Labels.zip", self.folders("frame_?labels"))
        facs = self.need("Frame_Labels/FACS folder", "Frame_Labels.zip", self.folders("facs", labels, depth=2))
        self.choose("AU43 is coded as present or absent only; an empty FACS file is a neutral frame")
        clips, seen = [], set()
        for person in map(self._innermost, self.children(images)):
            for sequence in map(self._innermost, self.children(person)):
                seen.add((person.name.lower(), sequence.name.lower()))
                clip = self._clip(person.name.lower(), sequence, self._below(facs, person.name, sequence.name))
                if clip is not None:
                    clips.append(clip)
        for person in map(self._innermost, self.children(facs)):
            for sequence in map(self._innermost, self.children(person)):
                if (person.name.lower(), sequence.name.lower()) not in seen:
                    frames = [int(m[1]) for m, _ in self.files(sequence, r".*?(\d+)_facs\.txt")]
                    self.report(sequence, "no pictures of this sequence: unpack Images.zip", 0, sequence.name, frames)
        return clips

    def _below(self, top: Path, *names: str) -> Path:
        """The folder ``top/NAME/NAME``, whatever the case."""
        for name in names:
            top = next(iter(self.folders(re.escape(name), top, depth=1)), top / name) if top.is_dir() else top / name
        return top

    def _clip(self, person: str, sequence: Path, labels: Path) -> Clip | None:
        name = sequence.name
        pictures = {int(m[1]): path for m, path in self.files(sequence, rf"{re.escape(name)}_?0*(\d{{1,9}}){PICTURES}")}
        if not labels.is_dir():
            self.report(labels, "no FACS labels of this sequence: unpack Frame_Labels.zip", 0, name, pictures)
            return None
        files = {int(m[1]): path for m, path in self.files(labels, rf"{re.escape(name)}_?0*(\d{{1,9}})_facs\.txt")}
        unlabelled = sorted(set(pictures) - set(files))
        if unlabelled:
            self.report(labels, f"no FACS file for {len(unlabelled)} pictures", 0, name, unlabelled)
        named = set(files.values())
        for _, path in self.files(labels, r".*_facs\.txt"):
            if path not in named:
                self.report(path, f"the name is not {name}FRAME_facs.txt; left out", clip=name)
        frames = sorted(set(files) | set(pictures)) if files else []
        if not frames:
            return None
        intensity, present = not_coded(len(frames)), not_coded(len(frames))
        for row, frame in enumerate(frames):
            if frame in files:
                self._codes(files[frame], name, intensity[row], present[row])
        return Clip(
            key=name,
            subject=f"unbc:{person}",
            frames=np.array(frames),
            pictures=[pictures.get(frame, sequence / f"{name}{frame:03d}.png") for frame in frames],
            au_intensity=intensity,
            au_occurrence=present,
        )

    def _codes(self, path: Path, name: str, intensity: Floats, present: Floats) -> None:
        """Fill one frame; a file that cannot be read leaves it not coded."""
        before = len(self.problems)
        rows = self.rows(path, 4, "AU, intensity, onset, offset", name, empty=True)
        if rows is None or len(self.problems) > before:
            return
        columns = [AU_INDEX[au] for au in self.aus]
        intensity[columns], present[columns] = 0.0, 0.0
        for line, (au, value, *_) in rows:
            if au != int(au) or not 0 <= value <= 5:
                self.report(path, f"expected an AU and 0..5, found {au:g} and {value:g}; frame not coded", line, name)
                intensity[:], present[:] = np.nan, np.nan
                return
            if int(au) not in self.aus:
                self.choose("AUs that the set does not code throughout, or that are outside our 19, are left out")
                continue
            column = AU_INDEX[int(au)]
            present[column] = 1.0
            intensity[column] = value if value and au != _BINARY else np.nan

    def own_landmarks(self, clip: Clip) -> Floats:
        """66 points of the AAM; empty files give NaN."""
        points = np.full((len(clip), 68, 2), np.nan, dtype=np.float32)
        person = clip.subject.partition(":")[2]
        top = self.need("AAM_landmarks folder", "AAM_landmarks.zip", self.folders(r"AAM_?landmarks"))
        folder = self._below(top, person, clip.key)
        files = self.files_of(folder) if folder.is_dir() else {}
        lost = sorted({int(frame) for frame in clip.frames} - set(files))
        if lost:
            self.report(folder, f"no landmark file for {len(lost)} frames", 0, clip.key, lost)
        for row, frame in enumerate(clip.frames):
            path = files.get(int(frame))
            rows = self.rows(path, 2, "x y", clip.key, empty=True) if path else None
            if path and rows and len(rows) == 66:
                points[row] = spread_landmarks(np.array([v for _, v in rows], dtype=np.float32), 66)
            elif path and rows:
                self.report(path, f"expected 66 points, found {len(rows)}", 0, clip.key, [frame])
        return points

    def files_of(self, folder: Path) -> dict[int, Path]:
        """Landmark files of a sequence by frame number, listed once."""
        cache: dict[Path, dict[int, Path]] = self.__dict__.setdefault("_listed", {})
        if folder not in cache:
            cache[folder] = {
                int(m[1]): p for m, p in self.files(folder, rf"{re.escape(folder.name)}_?0*(\d{{1,9}})_aam\.txt")
            }
        return cache[folder]


READER = UNBC
