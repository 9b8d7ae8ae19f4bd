"""What sets of posed photographs share: one studio, each person once at rest and perhaps once smiling.

"Neutral" and "smiling" are what the people were *asked*, no FACS codes. So little is certain: a neutral is 0 for every
AU (but AU25 where the lips are seen apart), and a smile has more AU12 than the same person's neutral. The first is a
label here; the second is none, for it says no grade, and training and benchmarks take it from :class:`Portrait`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np

from data_modules.reader import Clip, Floats, Reader, not_coded, option
from lit_faces.core.csv_files import to_number
from lit_faces.core.facs import AU_INDEX, EMOTION_INDEX

#: Frame numbers, after the numbers of the London set's pictures: ``001_03.jpg`` rests, ``001_08.jpg`` smiles.
FRAMES = {"neutral": 3, "happiness": 8}
#: MediaPipe's smile above which a smile counts as strong.
STRONG_SMILE = 0.5
#: Hand-placed points of the authors' template.
NUM_POINTS = 189
GENDERS = ("female", "male")
_OLDEST = 120.0


@dataclass(frozen=True)
class Portrait:
    """One photograph and what is known of it.

    Attributes:
        path: the picture.
        subject: who, ``london:001``; two sets with the same people use the same name.
        emotion: what was asked, ``neutral`` or ``happiness``.
        age: years; NaN = unknown.
        gender: ``female`` or ``male``; empty = unknown.
        ethnicity: as the set says it; empty = unknown.
        lips_parted: whether the lips are seen apart; None = unknown.
        mp_smile: MediaPipe's smile, 0..1; NaN = unknown.
        fold: 0, 1, 2 of the *subject*; -1 = none.
    """

    path: Path
    subject: str
    emotion: str
    age: float = float("nan")
    gender: str = ""
    ethnicity: str = ""
    lips_parted: bool | None = None
    mp_smile: float = float("nan")
    fold: int = -1

    @property
    def neutral(self) -> bool:
        """Whether the person was asked to rest."""
        return self.emotion == "neutral"

    @property
    def strong(self) -> bool:
        """A smile that is one: MediaPipe's is above one half."""
        return not self.neutral and self.mp_smile > STRONG_SMILE


@dataclass
class Person:
    """The photographs of one person.

    Attributes:
        subject: who.
        neutral: at rest, or None.
        smile: smiling, or None.
    """

    subject: str
    neutral: Portrait | None = None
    smile: Portrait | None = None

    @property
    def any(self) -> Portrait:
        """One of the two: age, gender, ethnicity and fold are the same in both."""
        found = self.neutral or self.smile
        assert found is not None, "a person has a photograph"
        return found


def by_person(portraits: Sequence[Portrait]) -> list[Person]:
    """Portraits together, a person each, in order of their names."""
    people: dict[str, Person] = {}
    for portrait in portraits:
        person = people.setdefault(portrait.subject, Person(portrait.subject))
        if portrait.neutral:
            person.neutral = portrait
        else:
            person.smile = portrait
    return [people[name] for name in sorted(people)]


@dataclass
class PortraitReader(Reader):
    """Base of the readers of such sets.

    Args:
        root: the unzipped copy.
        neutral: ``zero``: the label of a neutral is 0 for every AU; ``uncoded``: none.
    """

    aus: ClassVar[tuple[int, ...]] = tuple(AU_INDEX)

    neutral: str = option("zero", "labels of a resting face: 0 for every AU, or none", ("zero", "uncoded"))

    _portraits: list[Portrait] | None = field(default=None, init=False, repr=False, compare=False)

    def portraits(self) -> list[Portrait]:
        """Every photograph, ordered by person, neutral first; what cannot be read is a problem and left out.

        Raises:
            FileNotFoundError: the layout is not there at all.
        """
        if self._portraits is None:
            found = self._find()
            self._portraits = sorted(found, key=lambda one: (one.subject, FRAMES[one.emotion]))
        return self._portraits

    def _find(self) -> list[Portrait]:
        """The photographs in any order."""
        raise NotImplementedError(f"{type(self).__name__} must say which photographs there are")

    def points(self, portrait: Portrait) -> Floats:
        """The hand-placed points of a photograph, float32 (189, 2), pixels of the picture; NaN where there are none."""
        raise NotImplementedError(f"{type(self).__name__} must say where the points of a photograph are")

    def clips(self) -> list[Clip]:
        """A clip a person: frame 3 at rest, frame 8 smiling."""
        self.choose("neutral and smiling are what people were asked; a smile's AUs are not coded")
        if self.neutral == "zero":
            self.choose("a neutral is 0 for every AU, but AU25 where the lips are seen apart")
        groups: dict[str, list[Portrait]] = {}
        for portrait in self.portraits():
            groups.setdefault(portrait.subject, []).append(portrait)
        return [self._clip(subject, own) for subject, own in groups.items()]

    def _clip(self, subject: str, own: Sequence[Portrait]) -> Clip:
        grades = not_coded(len(own))
        if self.neutral == "zero":
            for row, portrait in enumerate(own):
                if portrait.neutral:
                    grades[row] = 0.0
                    if portrait.lips_parted:
                        grades[row, AU_INDEX[25]] = np.nan
        return Clip(
            key=subject.replace(":", "-"),
            subject=subject,
            frames=np.array([FRAMES[portrait.emotion] for portrait in own]),
            pictures=[portrait.path for portrait in own],
            au_intensity=grades,
            au_occurrence=grades.copy(),
            emotion=np.array([EMOTION_INDEX[portrait.emotion] for portrait in own]),
        )

    def table(self, path: Path, needed: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
        """Rows of a table as line number and cells by column, in lower case; what is no row is a problem.

        No cell of these tables holds a comma, so that a stray quote costs no more than its line.
        """
        lines = self.lines(path)
        if not lines:
            if lines is not None:
                self.report(path, "the file is empty")
            return []
        names = [cell.lower() for cell in _cells(lines[0])]
        if missing := [name for name in needed if name not in names]:
            self.report(path, f"line 1 has no column {missing[0]}", 1)
            return []
        rows = []
        for number, line in enumerate(lines[1:], 2):
            cells = _cells(line)
            if not line.strip():
                continue
            if len(cells) != len(names):
                self.report(path, f"expected {len(names)} cells, found {len(cells)}; line left out", number)
                continue
            rows.append((number, dict(zip(names, cells))))
        return rows


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.replace('"', "").split(",")]


def number_in(row: Mapping[str, str], column: str, low: float, high: float) -> float:
    """A number of a row; NaN where the cell is empty or the column is not there.

    Raises:
        ValueError: no number, or none from ``low`` to ``high``; names the column.
    """
    text = row.get(column, "")
    if text.upper() in ("", "NA", "NAN"):
        return float("nan")
    try:
        value = to_number(text)
    except ValueError:
        value = float("nan")
    if not low <= value <= high:
        raise ValueError(f"{column}: expected {low:g}..{high:g} or nothing, found {text[:20]!r}")
    return value


def word_in(row: Mapping[str, str], column: str, allowed: Sequence[str], empty: bool = True) -> str:
    """A word of a row, in lower case.

    Raises:
        ValueError: another word; names the column.
    """
    word = row.get(column, "").lower()
    word = "" if word in ("na", "nan") else word
    if word not in allowed and not (empty and not word):
        raise ValueError(f"{column}: expected one of {', '.join(allowed)}, found {word[:20]!r}")
    return word


def age_in(row: Mapping[str, str], column: str) -> float:
    """Years, or NaN."""
    return number_in(row, column, 0, _OLDEST)


def parsed(
    reader: Reader, path: Path, rows: Sequence[tuple[int, dict[str, str]]], parse: Callable[[dict[str, str]], Portrait]
) -> list[tuple[int, Portrait]]:
    """Rows as portraits with their lines; a row that ``parse`` refuses is reported and left out."""
    found = []
    for line, row in rows:
        try:
            found.append((line, parse(row)))
        except ValueError as error:
            reader.report(path, f"{error}; line left out", line)
    return found
