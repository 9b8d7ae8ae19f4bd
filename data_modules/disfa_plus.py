"""DISFA+ (Mavadati et al. 2016): nine people of DISFA, posed and spontaneous trials, 12 AUs graded 0..5.

::

    DISFAPlusDataset/
      Images/SN001/A1_AU1_TrailNo_1/000.jpg          "Trail" is how they spell it
      Labels/SN001/A1_AU1_TrailNo_1/AU1.txt          two header lines, then "000.jpg     0"
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_modules.reader import PICTURES, Clip, Reader, option, tabulate
from lit_faces.core.facs import occurrence

_ROW = re.compile(r"\s*0*(\d{1,9})\.jpe?g[\s,;]+(-?\d+(?:\.\d+)?)\s*", re.IGNORECASE)
_HEADER = 2


@dataclass
class DISFAPlus(Reader):
    """Reader of DISFA+.

    Args:
        root: folder that holds the unpacked archive.
        threshold: least intensity that counts as present.
    """

    name = "disfa_plus"
    title = "DISFA+"
    aus = (1, 2, 4, 5, 6, 9, 12, 15, 17, 20, 25, 26)

    threshold: float = option(2.0, "least intensity that counts as present")

    def clips(self) -> list[Clip]:
        """One clip a trial; the number of a frame is the number of its picture."""
        labels = self.need("Labels folder", "Labels.zip", self.folders("labels"))
        images = self.need("Images folder", "Images.zip", self.folders("images"))
        self.choose(f"subjects are people of DISFA and carry its name; occurrence: intensity >= {self.threshold:g}")
        clips = []
        for person in self.folders(r"SN\d{3}", labels, depth=2):
            for trial in map(self._innermost, self.children(person)):
                clip = self._clip(person.name.upper(), trial, images)
                if clip is not None:
                    clips.append(clip)
        labelled = {clip.key for clip in clips}
        for person in self.folders(r"SN\d{3}", images, depth=2):
            for trial in self.children(person):
                key = f"{person.name.upper()}_{trial.name}"
                if key not in labelled and not any(problem.clip == key for problem in self.problems):
                    self.report(trial, "no labels for this trial: unpack Labels.zip", clip=key)
        return clips

    def _clip(self, person: str, trial: Path, images: Path) -> Clip | None:
        key = f"{person}_{trial.name}"
        files = {int(match[1]): path for match, path in self.files(trial, r"AU0?(\d+)\.txt")}
        grades = {au: self._grades(files.get(au, trial / f"AU{au}.txt"), key) for au in self.aus}
        frames = sorted(set().union(*grades.values()))
        for au, path in files.items():
            lost = sorted(set(frames) - set(grades.get(au, frames)))
            if lost:
                self.report(path, f"AU{au} is not coded in {len(lost)} frames that others code", 0, key, lost)
        if not frames:
            return None
        people = self.folders(person, images, depth=2)
        folder = next((f for p in people for f in self.folders(re.escape(trial.name), p, depth=1)), None)
        if folder is None:
            where = images / person / trial.name
            self.report(where, "no pictures of this trial: unpack Images.zip", 0, key, frames)
            return None
        pictures = {int(match[1]): path for match, path in self.files(folder, rf"0*(\d{{1,9}}){PICTURES}")}
        intensity = tabulate(grades, frames)
        return Clip(
            key=key,
            subject=f"disfa:{person}",
            frames=np.array(frames),
            pictures=[pictures.get(frame, folder / f"{frame:03d}.jpg") for frame in frames],
            au_intensity=intensity,
            au_occurrence=occurrence(intensity, self.threshold),
        )

    def _grades(self, path: Path, key: str) -> dict[int, float]:
        lines = self.lines(path, key)
        if lines is None:
            return {}
        rows, bad = [], []
        for number, line in enumerate(lines, 1):
            found = _ROW.fullmatch(line)
            if found:
                rows.append((number, [float(found[1]), float(found[2])]))
            elif line.strip() and number > _HEADER:
                bad.append((number, line))
        if bad:
            more = f" (and {len(bad) - 1} more lines)" if len(bad) > 1 else ""
            self.report(path, f"expected '000.jpg 0', found {bad[0][1][:40]!r}{more}", bad[0][0], key)
        elif not rows:
            self.report(path, "the file has no rows", clip=key)
        return self.graded(path, key, rows=rows)


READER = DISFAPlus
