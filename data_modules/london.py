"""Face Research Lab London Set (DeBruine and Jones 2017, figshare 5047666, CC BY 4.0): 102 people, at rest and smiling.

::

    neutral_front/001_03.jpg, neutral_front/001_03.tem       189 hand-placed points: their number, "x y" each, curves
    smiling_front/001_08.jpg
    london_faces_info.csv                                     face_id,face_age,face_gender,face_eth; X001 is 001

Profiles and three-quarter views (other folders) are not read. 51 of these people are ``faces_ccby``'s, under the same
names: what is trained on one set is never tested on the same person of the other.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_modules.portraits import FRAMES, GENDERS, NUM_POINTS, Portrait, PortraitReader, age_in, word_in
from data_modules.reader import PICTURES, Floats

_FOLDERS = {"neutral": "neutral_front", "happiness": "smiling_front"}
_ID = re.compile(r"X?(\d{1,3})", re.IGNORECASE)


@dataclass
class London(PortraitReader):
    """Reader of the London set.

    Args:
        root: folder that holds the unpacked archives.
        neutral: see :class:`~data_modules.portraits.PortraitReader`.
    """

    name = "london"
    title = "Face Research Lab London Set"

    def _find(self) -> list[Portrait]:
        folders = {emotion: self.folders(name) for emotion, name in _FOLDERS.items()}
        if not any(folders.values()):
            raise FileNotFoundError(
                f"{self.title}: neither neutral_front nor smiling_front under {self.root}; unpack the archives there"
            )
        people, found = self._people(), []
        for emotion, own in folders.items():
            if not own:
                self.report(self.root / _FOLDERS[emotion], "the folder is missing: unpack it there")
                continue
            folder = self.need(f"{_FOLDERS[emotion]} folder", f"{_FOLDERS[emotion]}.zip", own)
            found += self._pictures(folder, emotion, people)
        here = {emotion: {one.subject for one in found if one.emotion == emotion} for emotion in _FOLDERS}
        for emotion, other in (("neutral", "happiness"), ("happiness", "neutral")):
            if folders[emotion] and (lacking := sorted(here[other] - here[emotion])):
                some = ", ".join(name.partition(":")[2] for name in lacking[:5])
                names = f"{some}, ..." if len(lacking) > 5 else some
                self.report(folders[emotion][0], f"no picture of {names}, who {_does(other)}; copy the folder again")
        strangers = sorted(set(people) - {one.subject.partition(":")[2] for one in found})
        if strangers:
            self.report(self._info(), f"no picture of {len(strangers)} people: {', '.join(strangers[:5])}")
        return found

    def _pictures(self, folder: Path, emotion: str, people: dict[str, Portrait]) -> list[Portrait]:
        found: dict[str, Portrait] = {}
        strange = []
        for match, path in self.files(folder, rf"(.*){PICTURES}"):
            name = re.fullmatch(rf"(\d{{3}})_{FRAMES[emotion]:02d}", match[1])
            if not name:
                strange.append(path.name)
                continue
            known = people.get(name[1], Portrait(path, "", emotion))
            if people and name[1] not in people:
                self.report(self._info(), f"nothing is said of {name[1]}: age, gender and ethnicity stay unknown")
            portrait = Portrait(
                path, f"london:{name[1]}", emotion, age=known.age, gender=known.gender, ethnicity=known.ethnicity
            )
            if found.setdefault(name[1], portrait) is not portrait:
                self.report(path, f"{self.relative(found[name[1]].path)} is there too and counts; delete one")
        if strange:
            self.report(
                folder, f"{len(strange)} pictures are not named 001_{FRAMES[emotion]:02d}.jpg: {', '.join(strange[:3])}"
            )
        return list(found.values())

    def _info(self) -> Path:
        for folder in (self.root, *self.children(self.root)):
            for _, path in self.files(folder, r"london_faces_info\.csv"):
                return path
        return self.root / "london_faces_info.csv"

    def _people(self) -> dict[str, Portrait]:
        """What the table says of each number."""
        path = self._info()
        people: dict[str, Portrait] = {}
        for line, row in self.table(path, ("face_id",)):
            number = _ID.fullmatch(row["face_id"])
            gender = "face_gender" if "face_gender" in row else "face_sex"
            try:
                if not number:
                    raise ValueError(f"face_id: expected one such as X001, found {row['face_id'][:20]!r}")
                known = Portrait(
                    path, "", "neutral", age=age_in(row, "face_age"), gender=word_in(row, gender, GENDERS),
                    ethnicity=row.get("face_eth", "").lower(),
                )  # fmt: skip
            except ValueError as error:
                self.report(path, f"{error}; line left out", line)
                continue
            if people.setdefault(f"{int(number[1]):03d}", known) is not known:
                self.report(path, f"{row['face_id']} stands twice; the first counts", line)
        return people

    def points(self, portrait: Portrait) -> Floats:
        """The hand-placed points beside the picture, float32 (189, 2), pixels; NaN (and a problem) without them."""
        path = portrait.path.with_suffix(".tem")
        points = np.full((NUM_POINTS, 2), np.nan, dtype=np.float32)
        lines = self.lines(path)
        if lines is None:
            return points
        head = lines[0].strip() if lines else ""
        if head != str(NUM_POINTS):
            self.report(path, f"expected {NUM_POINTS} points, found {head[:20]!r}", 1)
            return points
        try:
            values = [[float(cell) for cell in line.split()] for line in lines[1 : 1 + NUM_POINTS]]
            found = np.array(values, dtype=np.float32)
            if found.shape != points.shape or not np.isfinite(found).all():
                raise ValueError
        except ValueError:
            self.report(path, f"expected {NUM_POINTS} lines 'x y' below the first; copy the file again")
            return points
        return found


def _does(emotion: str) -> str:
    return "rests" if emotion == "neutral" else "smiles"


READER = London
