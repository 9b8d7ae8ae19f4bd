"""The one reader of label tables (``labels.csv``): faces by row, and a word about everything that is not understood.

Only the column ``file`` is needed. Names are folded, and known as other tools write them::

    file subject frame split emotion yaw pitch roll x0 y0 ... x67 y67
    au6  AU06  au_6  AU 6  AU06_r    intensity 0..5 (OpenFace: _r)
    occ6  AU06_c                     occurrence, 0 or 1 (OpenFace: _c)

Cells stand between commas, semicolons, tabs or bars; where it is not commas, decimal commas are understood. An empty
cell is *not coded*. :func:`read_table` raises nothing: it gives the rows that are whole, a :class:`TableProblem` for
every other line, and notes on what was chosen; the caller refuses or goes on without.
:func:`lit_faces.core.label_checks.settle` then looks at all rows of a set together.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lit_faces.core.columns import DELIMITERS, MARKS, POSE, canonical, delimiter_of, fold, in_runs
from lit_faces.core.csv_files import CsvError, check_line, plain, short, split_line, text_lines, to_number
from lit_faces.core.facs import AU_INDEX, AUS, EMOTION_INDEX, MAX_INTENSITY, NUM_AUS, OCCURRENCE_THRESHOLD, occurrence

TABLE = "labels.csv"
SPLITS = ("train", "val", "test")
_FRAME = re.compile(r"\d+(?:\.0*)?", re.ASCII)  # 7.0 is how pandas writes a 7 in a column with gaps
_DIGITS = re.compile(r"[0-9.\-]*")
_MOST_DEGREES, _MOST_PIXELS, _MOST_FRAME = 360.0, 1e5, 2**31 - 1
#: Format characters that no name needs: two people would look the same and be two.
_INVISIBLE = frozenset("\u00ad\u200b\u2060\ufeff\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


@dataclass(frozen=True)
class TableProblem:
    """A line that cannot be read.

    Attributes:
        table: as the caller calls it.
        line: from 1.
        reason: column, what was found, what to do.
        whole: nothing of the table can be read.
    """

    table: str
    line: int
    reason: str
    whole: bool = False

    def __str__(self) -> str:
        return f"{self.table}, line {self.line}: {self.reason}"


@dataclass
class LabelRow:
    """A face of a table; what no cell says is NaN, -1, None or empty.

    Attributes:
        table, line: where it stands.
        file: the picture, as written; empty in a table of one video's frames.
        subject: who.
        split: ``train``, ``val``, ``test`` or empty.
        frame: 0 or more.
        au_intensity: float32 (19,), 0..5.
        au_occurrence: float32 (19,), 0 or 1; from the intensity where no cell says it.
        emotion: index into ``EMOTIONS``.
        landmarks: float32 (68, 2), pixels of the picture.
        pose: float32 (3,), yaw, pitch, roll in degrees.
    """

    table: str
    line: int
    file: str
    subject: str
    split: str
    frame: int | None
    au_intensity: NDArray[np.float32]
    au_occurrence: NDArray[np.float32]
    emotion: int
    landmarks: NDArray[np.float32]
    pose: NDArray[np.float32]

    def problem(self, reason: str) -> TableProblem:
        """A problem with this row."""
        return TableProblem(self.table, self.line, reason)


@dataclass
class LabelTable:
    """What a table says.

    Attributes:
        rows: that are whole, in order.
        problems: every other line that holds something, once.
        notes: what is not read, and what was chosen; each once.
        taken: what the columns of AUs were taken for; empty without any.
    """

    rows: list[LabelRow] = field(default_factory=list)
    problems: list[TableProblem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    taken: str = ""


def read_table(data: bytes, table: str, threshold: float = OCCURRENCE_THRESHOLD, of_frames: bool = False) -> LabelTable:
    """Read a table of labels; every line that holds something becomes a row or a problem.

    Args:
        data: the file.
        table: what problems call it.
        threshold: least intensity that counts as present, where the table does not say occurrence itself.
        of_frames: a table of one video need not name its file in every row: ``frame`` is enough.
    """
    result = LabelTable()
    try:
        lines = text_lines(data)
        reader = _RowReader(lines, table, threshold, of_frames)
    except CsvError as error:
        result.problems.append(TableProblem(table, error.line, str(error), whole=True))
        return result
    for at, line in lines:
        if at <= reader.header_line or not line.strip(reader.delimiter + " "):  # as Excel writes empty rows
            continue
        try:
            result.rows.append(reader.row(at, line))
        except ValueError as error:
            result.problems.append(TableProblem(table, at, str(error)))
    if not result.rows and not result.problems:
        reason = "no row stands below the names of the columns"
        result.problems.append(TableProblem(table, reader.header_line, reason, whole=True))
    result.notes, result.taken = reader.notes(), reader.taken()
    return result


class _RowReader:
    """Turns lines into rows, once the line with the names of the columns is understood.

    Raises:
        CsvError: no such line; a column stands twice.
    """

    def __init__(self, lines: Sequence[tuple[int, str]], table: str, threshold: float, of_frames: bool) -> None:
        self.table, self.threshold, self.of_frames = table, threshold, of_frames
        names = list(lines)
        asked = re.fullmatch(r'"?sep=([^\w"])"?', names[0][1], re.IGNORECASE) if names else None
        if asked:  # a word of Excel's to itself
            names = names[1:]
        if not names:
            raise CsvError("the table is empty")
        self.header_line, head = names[0]
        try:
            check_line(head)
        except ValueError as error:
            raise CsvError(str(error), self.header_line) from error
        self.delimiter = asked[1] if asked else delimiter_of(head)
        try:
            self.names = [name.strip() for name in split_line(head, self.delimiter)]
        except ValueError as error:
            raise CsvError(str(error), self.header_line) from error
        self.place: dict[str, int] = {}
        self._place_columns()
        self.aus = [(AU_INDEX[n], place) for n in AUS if (place := self.place.get(f"au{n}")) is not None]
        self.present = [(AU_INDEX[n], place) for n in AUS if (place := self.place.get(f"occ{n}")) is not None]
        self.marks = [(i, self.place[name]) for i, name in enumerate(MARKS) if name in self.place]
        self.pose = [(i, self.place[name]) for i, name in enumerate(POSE) if name in self.place]
        self.decimal: tuple[str, int] = ("", 0)  # the first decimal mark that was met, and its line

    def _place_columns(self) -> None:
        seen: dict[str, int] = {}
        for place, name in enumerate(self.names):
            key = canonical(name) or fold(name)
            if key in seen and key:
                first = self.names[seen[key]]
                raise CsvError(
                    f"columns {short(first)} and {short(name)} (number {seen[key] + 1} and {place + 1}) say the same; "
                    "keep one of them",
                    self.header_line,
                )
            seen[key] = place
            if canonical(name):
                self.place[key] = place
        self.of_frames = self.of_frames and "file" not in self.place and "frame" in self.place
        if "file" not in self.place and not self.of_frames:
            found = ", ".join(filter(None, self.names[:8]))[:80]
            raise CsvError(f"there is no column 'file' (found: {found or 'nothing'})", self.header_line)

    # -- rows ---------------------------------------------------------------------------------------------------------

    def row(self, line_number: int, line: str) -> LabelRow:
        """One line as a row.

        Raises:
            ValueError: says the column, what was found, and what to do where that is known.
        """
        check_line(line)
        cells = split_line(line, self.delimiter)
        if len(cells) != len(self.names):
            hint = "; a decimal comma, or a comma in a name that is not quoted?" if len(cells) > len(self.names) else ""
            raise ValueError(f"{len(cells)} cells, but line {self.header_line} names {len(self.names)} columns{hint}")
        for name, cell in zip(self.names, cells):
            if not name and cell.strip():
                raise ValueError(f"{short(cell)} stands in a column without a name; name the column, or empty it")
        file = self._text(cells, "file")
        if not file and not self.of_frames:
            raise ValueError("column file is empty; name the picture or drop the line")
        graded = self._numbers(cells, self.aus, NUM_AUS, line_number, (0.0, MAX_INTENSITY))
        present = self._numbers(cells, self.present, NUM_AUS, line_number, (0.0, 1.0), whole=True)
        marks = self._numbers(cells, self.marks, len(MARKS), line_number, (-_MOST_PIXELS, _MOST_PIXELS))
        return LabelRow(
            table=self.table,
            line=line_number,
            file=file,
            subject=self._text(cells, "subject"),
            split=self._word(cells, "split", SPLITS),
            frame=self._frame(cells),
            au_intensity=graded,
            au_occurrence=np.where(np.isnan(present), occurrence(graded, self.threshold), present),
            emotion=EMOTION_INDEX.get(self._word(cells, "emotion", tuple(EMOTION_INDEX)), -1),
            landmarks=marks.reshape(68, 2),
            pose=self._numbers(cells, self.pose, len(POSE), line_number, (-_MOST_DEGREES, _MOST_DEGREES)),
        )

    def _text(self, cells: Sequence[str], column: str) -> str:
        if column not in self.place:
            return ""
        text = plain(cells[self.place[column]].strip()).strip()
        for letter in text:
            if letter == "\ufffd":
                raise ValueError(f"column {column}: {short(text)} lost a letter in a wrong encoding; write it again")
            if letter in _INVISIBLE or unicodedata.category(letter) == "Cc":
                raise ValueError(
                    f"column {column}: {short(text)} holds an invisible character (U+{ord(letter):04X}); write it again"
                )
        # a composed and a decomposed letter are one; a file on disk is found under either (see picture_path)
        return text if column == "file" else unicodedata.normalize("NFC", text)

    def _word(self, cells: Sequence[str], column: str, allowed: Sequence[str]) -> str:
        word = self._text(cells, column).casefold()
        if word and word not in allowed:
            raise ValueError(f"column {column}: expected one of {', '.join(allowed)}, found {short(word)}")
        return word

    def _frame(self, cells: Sequence[str]) -> int | None:
        if "frame" not in self.place:
            return None
        text = cells[self.place["frame"]].strip()
        named = self.names[self.place["frame"]]
        value = self._number(text, named, None)
        if math.isnan(value):
            return None
        if not _FRAME.fullmatch(text) or value > _MOST_FRAME:
            raise ValueError(f"column {named}: expected a whole number from 0 to {_MOST_FRAME}, found {short(text)}")
        return int(text.partition(".")[0])

    def _numbers(
        self,
        cells: Sequence[str],
        columns: Sequence[tuple[int, int]],
        size: int,
        line: int,
        span: tuple[float, float],
        whole: bool = False,
    ) -> NDArray[np.float32]:
        values = np.full(size, np.nan, dtype=np.float32)
        low, high = span
        sure = [] if whole or self.delimiter != "," else _sure([cells[place] for _, place in columns], low, high)
        if sure:
            values[[index for index, _ in columns]] = sure
            return values
        for index, place in columns:
            value = self._number(cells[place], self.names[place], line)
            if value == value and (not low <= value <= high or (whole and value not in (0.0, 1.0))):
                expected = "0, 1" if whole else f"{low:g}..{high:g}"
                raise ValueError(
                    f"column {self.names[place]}: expected {expected} or nothing, found {value:g}; "
                    "leave uncoded cells empty"
                )
            values[index] = value
        return values

    def _number(self, text: str, column: str, line: int | None) -> float:
        """A number; with ``line``, its decimal mark must be that of the lines before: 1.234 may be a thousand."""
        try:
            value = to_number(text, comma=self.delimiter != ",")
        except ValueError as error:
            raise ValueError(f"column {column}: {error}") from error
        mark = "," if "," in text else "." if "." in text else ""
        if line is not None and mark and self.delimiter != ",":
            if mark != (self.decimal[0] or mark):
                raise ValueError(
                    f"column {column}: {short(text)} has another decimal mark than line {self.decimal[1]}; "
                    "write all numbers alike"
                )
            self.decimal = self.decimal if self.decimal[0] else (mark, line)
        return value

    # -- what is to be said -------------------------------------------------------------------------------------------

    def taken(self) -> str:
        """What the columns of AUs were taken for."""
        kinds = (("intensity 0..5", self.aus), ("occurrence 0 or 1", self.present))
        return "; ".join(f"{kind}: {', '.join(self.names[at] for _, at in found)}" for kind, found in kinds if found)

    def notes(self) -> list[str]:
        """What is not read, and how the cells were taken."""
        said = []
        if self.delimiter != ",":
            name = DELIMITERS.get(self.delimiter, short(self.delimiter))
            decimal = ", with decimal commas" if self.decimal[0] == "," else ""
            said.append(f"cells between {name}{decimal}")
        unread = [name for name in self.names if name and not canonical(name)]
        if unread:
            said.append(f"columns that are not read: {', '.join(in_runs(unread))}")
        return said


def _sure(texts: Sequence[str], low: float, high: float) -> list[float]:
    """Cells of which every one is a plain number in its range (136 landmarks are, mostly); else nothing."""
    if not _DIGITS.fullmatch("".join(texts)):
        return []
    try:
        values = list(map(float, texts))
    except ValueError:  # an empty cell, or digits that are no number
        return []
    return values if all(low <= value <= high for value in values) else []


def picture_path(folder: Path, file: str) -> Path:
    """Where the picture of a row is: below the folder of its table, or where an absolute path or ``..`` leads.

    What cannot be found as it is written is looked for as other systems write it: composed and decomposed letters,
    backslashes, an apostrophe that was the name's own.
    """
    spellings = [file, unicodedata.normalize("NFC", file), unicodedata.normalize("NFD", file), f"'{file}"]
    spellings += [name.replace("\\", "/") for name in spellings if "\\" in name]
    for name in spellings:
        try:
            if (folder / name).is_file():
                return folder / name
        except (OSError, ValueError):  # a name that is too long
            continue
    return folder / file
