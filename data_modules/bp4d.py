"""BP4D-Spontaneous (Zhang et al. 2014): 41 people, 8 tasks; occurrence of 12 protocol AUs, intensity of 5.

Two copies are in use, both are read::

    full   Sequences(2D+3D)/F001/T1/0000.jpg   AUCoding/AU_OCC/F001_T1.csv   AUCoding/AU_INT/AU06/F001_T1_AU06.csv
           2DFeatures/F001_T1.mat (HDF5)
    FERA   BP4D-training/F001/T1/2440.jpg      AUCoding/F001_T1.csv          AU Intensity Codes3.0/AU06/F001_T1_AU06.csv
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from data_modules.folds import BAD_FRAMES
from data_modules.reader import NOT_CODED, PICTURES, Clip, Floats, Reader, not_coded, option, spread_landmarks, tabulate
from lit_faces.core.csv_files import to_number
from lit_faces.core.facs import AU_INDEX


@dataclass
class BP4D(Reader):
    """Reader of BP4D.

    Args:
        root: folder that holds the unpacked archives.
        frame_offset: picture number = label frame + offset. ``0`` is what published protocols use; ``auto`` is -1 for
            a sequence that has a picture number 0, else 0.
        bad_frames: ``keep``, or ``drop`` the 271 frames where the shipped landmarks failed (as JAA-Net does).
    """

    name = "bp4d"
    title = "BP4D"
    aus = (1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17, 20, 23, 24, 27)
    has_landmarks = True
    tasks: ClassVar[str] = r"T\d+"

    frame_offset: str = option(
        "0",
        "picture number = label frame + offset; papers use 0; auto = -1 where picture 0 exists",
        ("auto", "0", "-1"),
    )
    bad_frames: str = option("keep", "drop the 271 frames where the shipped landmarks failed", ("keep", "drop"))

    def clips(self) -> list[Clip]:
        """One clip a coded sequence."""
        codes = self._occurrence_files()
        grades = self._intensity_files()
        folders = self._sequences()
        graded = sorted({au for files in grades.values() for au in files})
        for key in sorted(codes):
            for au in graded:
                if au not in grades.get(key, {}):
                    self.report(codes[key], f"no intensity file {key}_AU{au:02d}.csv: unpack it again", clip=key)
        clips = [self._clip(key, codes.get(key), grades.get(key, {}), folders.get(key)) for key in sorted(codes)]
        for key in sorted(set(folders) - set(codes)):
            if self._must_be_coded(key):
                self.report(folders[key], f"no AU codes for {key}: unpack AUCoding.zip", clip=key)
        for key in sorted(set(grades) - set(codes)):
            self.report(next(iter(grades[key].values())), f"intensities of {key}, but no occurrence file", clip=key)
        return [clip for clip in clips if clip is not None]

    def _must_be_coded(self, key: str) -> bool:
        return True

    def _skip(self, key: str) -> bool:
        return False

    def _occurrence_files(self) -> dict[str, Path]:
        pattern = rf"([FM]\d{{3}})_({self.tasks})\.csv"
        for folder in [*self.folders(r"AU_?OCC"), *self.folders(r"AU_?Coding")]:
            found = {f"{m[1]}_{m[2]}".upper(): path for m, path in self.files(folder, pattern)}
            if found:
                return {key: path for key, path in found.items() if not self._skip(key)}
        raise FileNotFoundError(
            f"{self.title}: no AU codes under {self.root} (looked for AUCoding/AU_OCC/F001_T1.csv and "
            "AUCoding/F001_T1.csv); unpack AUCoding.zip there"
        )

    def _intensity_files(self) -> dict[str, dict[int, Path]]:
        found: dict[str, dict[int, Path]] = {}
        for top in self.folders(r"AU_?INT|AU[ _-]Intensity[ _-]Codes.*"):
            for folder in self.folders(r"AU\d+", top, depth=2):
                for match, path in self.files(folder, rf"([FM]\d{{3}})_({self.tasks})_AU(\d+)\.csv"):
                    key = f"{match[1]}_{match[2]}".upper()
                    if int(match[3]) in AU_INDEX and not self._skip(key):
                        found.setdefault(key, {}).setdefault(int(match[3]), path)
        if not found:
            self.choose("no intensity files: occurrence only")
        return found

    def _sequences(self) -> dict[str, Path]:
        found: dict[str, Path] = {}
        tops = self.folders(r"Sequences.*|BP4D-training|2D\+?3D") or [self.root]
        for top in tops:
            for person in self.folders(r"[FM]\d{3}", top, depth=3):
                for task in self.folders(self.tasks, person, depth=1):
                    found.setdefault(f"{person.name}_{task.name}".upper(), task)
        if not found:
            raise FileNotFoundError(
                f"{self.title}: no pictures under {self.root} (looked for Sequences(2D+3D)/F001/T1/*.jpg and "
                "BP4D-training/F001/T1/*.jpg); unpack the sequences there"
            )
        return found

    def _clip(self, key: str, codes: Path | None, grades: dict[int, Path], folder: Path | None) -> Clip | None:
        assert codes is not None
        parsed = self._occurrence(codes, key)
        if parsed is None:
            return None
        frames, present = parsed
        graded = {au: self.graded(path, key) for au, path in grades.items()}
        intensity = tabulate(graded, frames)
        for au, path in grades.items():
            beyond = sorted(set(graded[au]) - set(frames))
            if beyond:
                self.report(codes, f"{len(beyond)} frames of {path.name} have no occurrence codes", 0, key, beyond)
            lost = sorted(set(frames) - set(graded[au]))
            if lost:
                self.report(path, f"AU{au} has no intensity in {len(lost)} frames that have a code", 0, key, lost)
        if folder is None:
            expected = self.root / key.replace("_", "/")
            self.report(expected, f"no pictures of {key}: unpack the sequences", 0, key, frames)
            return None
        pictures = {int(match[1]): path for match, path in self.files(folder, rf"0*(\d+){PICTURES}")}
        offset = self._offset(pictures)
        clip = Clip(
            key=key,
            subject=f"{self.name}:{key[:4]}",
            frames=np.array(frames),
            pictures=[pictures.get(f + offset, folder / f"{f + offset:04d}.jpg") for f in frames],
            au_intensity=intensity,
            au_occurrence=present,
        )
        if self.bad_frames == "drop":
            bad = BAD_FRAMES.get(self.name, {}).get(key, ())
            clip = clip.select(np.array([not any(a <= f <= b for a, b in bad) for f in frames], dtype=bool))
        return clip

    def _offset(self, pictures: dict[int, Path]) -> int:
        if self.frame_offset != "auto":
            self.choose(f"frame_offset {self.frame_offset}: picture number = label frame {int(self.frame_offset):+d}")
            return int(self.frame_offset)
        offset = -1 if 0 in pictures else 0
        self.choose(f"frame_offset auto: {offset:+d} where a sequence has {'a' if offset else 'no'} picture 0")
        return offset

    def _occurrence(self, path: Path, key: str) -> tuple[list[int], Floats] | None:
        """Frames and float32 (n, 19) of an OCC table: any number of columns, the first is the frame."""
        lines = self.lines(path, key)
        if lines is None:
            return None
        if len(lines) < 2:
            self.report(path, "no rows: the table is empty or cut short", clip=key)
            return None
        columns: dict[int, int] = {}
        width = len(lines[0].split(","))
        for place, cell in enumerate(lines[0].split(",")):
            text = cell.strip().strip("\"'").upper().removeprefix("AU").lstrip("_ ")
            # the first column is the frame, whatever it is called (BP4D+ calls it 1); then the first of a name counts
            if place and not text.isdigit():
                self.report(path, f"line 1: column {place + 1} is no AU: {cell[:20]!r}; its codes are lost", 1, key)
            elif place and int(text) in AU_INDEX:
                columns.setdefault(AU_INDEX[int(text)], place)
        if not columns:
            self.report(path, f"line 1 names no AU, found {lines[0][:40]!r}", 1, key)
            return None
        frames: list[int] = []
        values: list[Floats] = []
        bad: list[tuple[int, str]] = []
        seen: set[int] = set()
        for number, line in enumerate(lines[1:], 2):
            if not line.strip():
                continue
            cells = line.split(",")
            row = not_coded(1)[0]
            try:
                if len(cells) != width:
                    raise ValueError
                frame = to_number(cells[0])
                if frame != int(frame) or not 0 <= frame < 2**31 or int(frame) in seen:
                    raise ValueError
                for column, place in columns.items():
                    value = to_number(cells[place])
                    if value in (0.0, 1.0):
                        row[column] = value
                    elif value not in NOT_CODED:
                        raise ValueError
            except (ValueError, IndexError, OverflowError):
                bad.append((number, line))
                continue
            seen.add(int(frame))
            frames.append(int(frame))
            values.append(row)
        if bad:
            more = f" (and {len(bad) - 1} more lines)" if len(bad) > 1 else ""
            self.report(
                path, f"expected a frame and codes 0, 1 or 9, found {bad[0][1][:40]!r}{more}; line left out",
                bad[0][0], key,
            )  # fmt: skip
        if not frames:
            return None
        order = np.argsort(frames)
        return [frames[i] for i in order], np.stack(values)[order]

    def own_landmarks(self, clip: Clip) -> Floats:
        """49 points of ``2DFeatures`` (HDF5); entry i belongs to label frame i + 1; Matlab's pixels count from 1."""
        import h5py

        points = np.full((len(clip), 68, 2), np.nan, dtype=np.float32)
        folder = self.need("2DFeatures folder", "2DFeatures.zip", self.folders(r"2D_?Features"))
        files = self.files(folder, rf"{clip.key}\.mat")
        if not files:
            self.report(folder / f"{clip.key}.mat", "the landmarks are missing", clip=clip.key)
            return points
        try:
            with h5py.File(files[0][1]) as file:
                cells = np.asarray(file["fit/pred"]).reshape(-1)
                for row, frame in enumerate(clip.frames):
                    if not 1 <= frame <= len(cells):
                        continue
                    found = np.asarray(file[cells[frame - 1]])
                    if found.shape == (2, 49):  # an empty cell is (2,): tracking failed
                        points[row] = spread_landmarks(found.T.astype(np.float32), 49) - 1
        except (OSError, KeyError, TypeError, ValueError) as error:
            self.report(files[0][1], f"landmarks cannot be read ({error})", clip=clip.key)
        return points


READER = BP4D
