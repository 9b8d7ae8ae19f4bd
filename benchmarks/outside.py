"""Tables that outside readers wrote (``readers.py --csv`` in their own environment): OpenFace and MediaPipe by our AUs.

They measure and never teach: nothing is trained on them, and nothing shipped is chosen by them on the people that a
figure is reported for.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.real_figures import Floats
from lit_faces.core.facs import AU_KEYS, MAX_INTENSITY

_OPENFACE = {"AU43": "AU45"}  # a blink: the closest that it has to closed eyes
_NOT_OPENFACE = ("AU24", "AU27")
#: MediaPipe's blendshapes that hardly move: as scores they still order pictures (the log of cheekSquint), as grades not.
_DEAD = ("AU06", "AU09")


@dataclass(frozen=True)
class Outside:
    """What a reader reads on n pictures or frames.

    Attributes:
        name: of the reader.
        grade: (n, 19), 0..5; NaN where it has no such AU or found no face.
        score: (n, 19), what it has before clipping.
    """

    name: str
    grade: Floats
    score: Floats


@dataclass(frozen=True)
class OutsideTable:
    """The rows of one or more tables by file name (``l001_neutral.jpg``, ``clip.mp4#17``)."""

    rows: dict[str, dict[str, str]]

    @classmethod
    def read(cls, paths: Sequence[Path]) -> OutsideTable:
        """Tables together.

        Raises:
            FileNotFoundError: no such file.
            ValueError: no table of ``readers.py``; names it.
        """
        rows: dict[str, dict[str, str]] = {}
        for path in paths:
            with Path(path).open(newline="", encoding="utf-8") as file:
                found = csv.DictReader(file)
                if not {"file", "of_AU12_raw", "mp_AU12"} <= set(found.fieldnames or ()):
                    raise ValueError(
                        f"{path}: expected a table of readers.py --csv, found {found.fieldnames or 'nothing'}"
                    )
                rows.update({Path(row["file"]).name: row for row in found})
        return cls(rows)

    def frames(self, clip: str) -> int:
        """How many frames of a clip are in the table."""
        return sum(name.startswith(f"{clip}#") for name in self.rows)

    def openface(self, names: Sequence[str]) -> Outside:
        """OpenFace 2 on these files: grades clipped to 0..5, raw scores."""
        columns = [None if key in _NOT_OPENFACE else f"of_{_OPENFACE.get(key, key)}" for key in AU_KEYS]
        grade = self._columns(names, columns)
        raw = self._columns(names, [None if name is None else f"{name}_raw" for name in columns])
        return Outside("OpenFace", grade.clip(0, MAX_INTENSITY), raw)

    def mediapipe(self, names: Sequence[str]) -> Outside:
        """MediaPipe on these files: blendshapes times five as grades; AU6 as a score is the log of its cheekSquint."""
        score = self._columns(names, [f"mp_{key}" for key in AU_KEYS])
        grade = score * MAX_INTENSITY
        grade[:, [AU_KEYS.index(key) for key in _DEAD]] = np.nan
        score[:, AU_KEYS.index("AU06")] = self._columns(names, ["mp_cheek_log"])[:, 0]
        return Outside("MediaPipe", grade, score)

    def _columns(self, names: Sequence[str], columns: Sequence[str | None]) -> Floats:
        nothing: dict[str, str] = {}
        found = [[_number(self.rows.get(name, nothing), column) for column in columns] for name in names]
        return np.array(found, dtype=np.float64).reshape(len(names), len(columns))


def _number(row: dict[str, str], column: str | None) -> float:
    try:
        return float(row[column]) if column is not None else math.nan
    except (KeyError, ValueError):
        return math.nan
