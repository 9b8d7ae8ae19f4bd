"""Open faces: 51 people of the Face Research Lab London Set, at rest and smiling, and 20 of its Canadian companion.

::

    images/l001_neutral.jpg, images/l001_happiness.jpg, images/c003f_neutral.jpg
    labels.csv         file,subject,emotion,age,gender,ethnicity,lip_gap,lips_parted,fold,mp_smile
    points189.csv      file,x0,y0,...,x188,y188      hand-placed points of the neutrals, pixels of the picture

L. DeBruine and B. Jones (figshare 5047666 and 4220517), CC BY 4.0. ``l001`` is the ``001`` of the London set and has
the same name here, ``london:001``, so that nobody is trained on in one set and tested in the other; ``c003f`` is
``canada:003f``. Folds 0, 1, 2 are parts 1, 2, 3 of :mod:`data_modules.folds`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_modules.portraits import (
    FRAMES,
    GENDERS,
    NUM_POINTS,
    Portrait,
    PortraitReader,
    age_in,
    number_in,
    parsed,
    word_in,
)
from data_modules.reader import PICTURES, Floats

_SETS = {"l": "london", "c": "canada"}
_SUBJECT = re.compile(r"([lc])(\d{3}[fm]?)")
_COLUMNS = ("file", "subject", "emotion")


@dataclass
class FacesCCBY(PortraitReader):
    """Reader of the open faces.

    Args:
        root: folder that holds ``labels.csv`` and ``images``.
        neutral: see :class:`~data_modules.portraits.PortraitReader`.
    """

    name = "faces_ccby"
    title = "open faces (London and Canadian set)"

    def _find(self) -> list[Portrait]:
        table = self.root / "labels.csv"
        if not table.exists() and not table.is_symlink():
            raise FileNotFoundError(
                f"{self.title}: no labels.csv in {self.root}; unpack the set there, or give the folder that holds it"
            )
        found: dict[tuple[str, str], Portrait] = {}
        for line, portrait in parsed(self, table, self.table(table, _COLUMNS), self._portrait):
            key = portrait.subject, portrait.emotion
            if key in found:
                self.report(table, f"{portrait.subject}, {portrait.emotion} stands twice; the first counts", line)
            else:
                found[key] = portrait
        named = {portrait.path.name for portrait in found.values()}
        images = self.folders("images", depth=1)
        here = [path.name for folder in images for _, path in self.files(folder, rf".*{PICTURES}")]
        if unlabelled := [name for name in here if name not in named]:
            self.report(table, f"{len(unlabelled)} pictures have no label: {', '.join(unlabelled[:3])} ...")
        self._one_fold(table, list(found.values()))
        return list(found.values())

    def _portrait(self, row: dict[str, str]) -> Portrait:
        who = _SUBJECT.fullmatch(row["subject"])
        if not who:
            raise ValueError(f"subject: expected one such as l001 or c003f, found {row['subject'][:20]!r}")
        emotion = word_in(row, "emotion", tuple(FRAMES), empty=False)
        if not re.fullmatch(rf"images/{row['subject']}_{emotion}{PICTURES}", row["file"]):
            raise ValueError(f"file: expected images/{row['subject']}_{emotion}.jpg, found {row['file'][:40]!r}")
        fold, parted = word_in(row, "fold", ("0", "1", "2")), word_in(row, "lips_parted", ("0", "1"))
        return Portrait(
            path=self.root / row["file"],
            subject=f"{_SETS[who[1]]}:{who[2]}",
            emotion=emotion,
            age=age_in(row, "age"),
            gender=word_in(row, "gender", GENDERS),
            ethnicity=row.get("ethnicity", "").lower(),
            lips_parted=parted == "1" if parted else None,
            mp_smile=number_in(row, "mp_smile", 0, 1),
            fold=int(fold) if fold else -1,
        )

    def _one_fold(self, table: Path, portraits: list[Portrait]) -> None:
        folds: dict[str, int] = {}
        for portrait in portraits:
            if folds.setdefault(portrait.subject, portrait.fold) != portrait.fold:
                self.report(table, f"{portrait.subject} is in two folds: a person is tested in one; correct the table")

    def points(self, portrait: Portrait) -> Floats:
        """The hand-placed points, float32 (189, 2), pixels; NaN for a smile, and for what the table has not."""
        file = self.root / "points189.csv"
        if not hasattr(self, "_points"):
            width = 2 * NUM_POINTS
            columns = [f"{axis}{number}" for number in range(NUM_POINTS) for axis in "xy"]
            self._points: dict[str, Floats] = {}
            for line, row in self.table(file, ["file", *columns]):
                try:
                    values = [number_in(row, column, -1e5, 1e5) for column in columns]
                except ValueError as error:
                    self.report(file, f"{error}; line left out", line)
                    continue
                self._points[row["file"]] = np.array(values, dtype=np.float32).reshape(width // 2, 2)
        nothing = np.full((NUM_POINTS, 2), np.nan, dtype=np.float32)
        return self._points.get(self.relative(portrait.path), nothing)


READER = FacesCCBY
