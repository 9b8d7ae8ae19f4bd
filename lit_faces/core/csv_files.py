"""CSV files as text and cells: what other programs wrote is read without losing a line, what we write runs nowhere.

Two kinds of reading, because two kinds of files exist. Tables of users (:func:`text_lines`, :func:`split_line`) are
read line by line: one line is one row, so that a stray quote costs its own line and never the thousand below it. Our
own files (:func:`read_own`) hold what :func:`csv_bytes` wrote, line breaks in cells included.

Spreadsheets run a cell that begins with ``=``, ``+``, ``-`` or ``@`` as a formula. :func:`csv_bytes` puts an apostrophe
before such text (CWE-1236); :func:`plain` takes it off again, so that a picture ``-1.png`` is still found.
"""

from __future__ import annotations

import codecs
import csv
import io
import math
import numbers
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TextIO

_FORMULA = re.compile(r"'*(?:[\t\r\n]|\s*[=+\-@\uff1d\uff0b\uff0d\uff20])")  # the wide forms count in Japanese Excel
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_NOTHING = frozenset(("", "nan", "na", "n/a", "null", "none"))
_QUOTED = re.compile(r'[",\r\n]')
_BREAK = re.compile(r"\r\n|\r|\n")
_FOREIGN = (
    (b"PK\x03\x04", "an Excel workbook or another ZIP archive"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook"),
    (b"\x1f\x8b", "compressed with gzip"),
    (b"%PDF", "a PDF"),
)
_WIDE = (  # the longer marks first: UTF-32's begins as UTF-16's does
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_SHOWN = 40  # characters of a cell in a message


class CsvError(ValueError):
    """A file, or a line of it, is no table.

    Attributes:
        line: which line, from 1.
    """

    def __init__(self, reason: str, line: int = 1) -> None:
        super().__init__(reason)
        self.line = line


# -- reading ----------------------------------------------------------------------------------------------------------


def text_lines(data: bytes) -> list[tuple[int, str]]:
    """The lines of a text file that hold something, with their numbers from 1.

    UTF-8, UTF-16 and UTF-32 with a byte-order mark are understood; lines may end with LF, CR or both. Bytes that are
    no UTF-8 stay in their line as surrogates: :func:`check_line` names them.

    Raises:
        CsvError: not text at all, or an encoding that cannot be read; says which.
    """
    for magic, what in _FOREIGN:
        if data.startswith(magic):
            raise CsvError(f"no text but {what}; save the table as CSV (UTF-8)")
    encoding = next((name for mark, name in _WIDE if data.startswith(mark)), "")
    if encoding:
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError as error:
            line = data[: error.start].decode(encoding, errors="ignore").count("\n") + 1
            raise CsvError(f"not whole {encoding.upper()}; save the table as CSV (UTF-8)", line) from error
    else:
        if data[:400].count(0) > len(data[:400]) // 4:
            raise CsvError("UTF-16 without a byte-order mark, or no text; save the table as CSV (UTF-8)")
        text = data.decode("utf-8-sig", errors="surrogateescape")
    lines = enumerate(physical_lines(text), 1)
    return [(at, line) for at, line in lines if line.strip() and line.strip() != "\x1a"]  # DOS ends with ^Z


def physical_lines(text: str) -> list[str]:
    """The lines of a text as editors count them; ``str.splitlines`` cuts at ten more characters."""
    lines = _BREAK.split(text)
    return lines if lines[-1] else lines[:-1]


def check_line(line: str) -> None:
    """Refuse characters that no table has.

    Raises:
        ValueError: a NUL, or bytes that are no UTF-8; says where in the line.
    """
    if "\0" in line:
        raise ValueError(f"a NUL byte at character {line.index(chr(0)) + 1}; the file is damaged, or no text")
    try:
        line.encode()
    except UnicodeEncodeError as error:
        byte = ord(line[error.start]) - 0xDC00
        raise ValueError(
            f"byte 0x{byte:02x} at character {error.start + 1} is no UTF-8 (Latin-1 or Windows-1252?); "
            "save the table as CSV (UTF-8)"
        ) from None


def split_line(line: str, delimiter: str = ",") -> list[str]:
    """The cells of one line.

    Raises:
        ValueError: a quote that opens and does not close on this line, stands inside a cell, or closes too early.
    """
    if '"' not in line:
        return line.split(delimiter)
    end = rf"(?={re.escape(delimiter)}|\Z)"
    quoted, bare = re.compile(rf' *"((?:[^"]|"")*)" *{end}'), re.compile(rf'([^"{re.escape(delimiter)}]*){end}')
    cells: list[str] = []
    at = 0
    while at <= len(line):
        found = quoted.match(line, at) or bare.match(line, at)
        if not found:
            raise ValueError(f"cell {len(cells) + 1}: {_stray(line[at:])}; found {short(line[at:])}")
        cells.append(found[1].replace('""', '"'))
        at = found.end() + 1
    return cells


def _stray(rest: str) -> str:
    if not rest.lstrip().startswith('"'):
        return "a stray quote; drop it, or quote the whole cell and write the quote twice"
    if rest.replace('""', "").count('"') == 1:
        return "a quote opens and does not close on its line"
    return "text after the closing quote; a quote inside a quoted cell is written twice"


def to_number(text: str, comma: bool = False) -> float:
    """A cell as a finite number; NaN where it says nothing (empty, nan, NA, null, none).

    Stricter than ``float``: no ``inf``, ``1_000`` or digits of other scripts.

    Args:
        text: the cell.
        comma: a decimal comma is understood.

    Raises:
        ValueError: anything else; says what was found.
    """
    text = text.strip()
    if text.lower() in _NOTHING:
        return math.nan
    plain_text = text.replace(",", ".") if comma and text.count(",") == 1 and "." not in text else text
    if not _NUMBER.fullmatch(plain_text):
        guess = " (a time?)" if ":" in text else " (a decimal comma?)" if "," in text else ""
        raise ValueError(f"expected a number or nothing, found {short(text)}{guess}")
    value = float(plain_text)
    if not math.isfinite(value):
        raise ValueError(f"expected a number or nothing, found {short(text)}, which is too large")
    return value


def short(text: str) -> str:
    """A cell as messages show it: quoted, nothing in it acts on a terminal, no longer than a line."""
    return repr(text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "...")


# -- our own files ----------------------------------------------------------------------------------------------------


def csv_bytes(columns: Sequence[str], rows: Iterable[Sequence[Any] | Mapping[str, Any]], header: bool = True) -> bytes:
    r"""A CSV file that spreadsheets show and do not run; :func:`read_own` reads it back.

    Args:
        columns: their names.
        rows: values in the order of the columns, or by name (what is missing stays empty). Numbers are written as they
            are, text that a spreadsheet would run gets an apostrophe, None is empty.
        header: write the names first.

    Returns:
        UTF-8; characters of file names that no encoding has are written as ``\udcXX``.
    """
    lines = [_line(columns)] if header else []
    for row in rows:
        lines.append(_line([row.get(name) for name in columns] if isinstance(row, Mapping) else row))
    return "".join(lines).encode(errors="backslashreplace")


def _line(values: Sequence[Any]) -> str:
    """One row; not by csv.writer, which leaves a lone CR unquoted before Python 3.13."""
    cells = [_cell(value) for value in values]
    return ",".join(cells if cells != [""] else ['""']) + "\n"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    text = str(value)
    if not isinstance(value, numbers.Number) and _FORMULA.match(text) and not _NUMBER.fullmatch(text):
        text = f"'{text}"
    return '"' + text.replace('"', '""') + '"' if _QUOTED.search(text) else text


def plain(text: str) -> str:
    """A cell as it was before :func:`csv_bytes` made it harmless."""
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text


def read_own(data: bytes) -> tuple[list[str], list[dict[str, str]]]:
    """Read what :func:`csv_bytes` wrote.

    Returns:
        The columns, and the rows by column; cells that a cut row lacks are empty.
    """
    text = data.decode("utf-8-sig", errors="replace").replace("\0", "")
    head, *rows = list(csv.reader(io.StringIO(text, newline=""))) or [[]]
    names = [plain(name) for name in head]
    return names, [{**dict.fromkeys(names, ""), **dict(zip(names, map(plain, row)))} for row in rows if row]


def rows_of_own(handle: TextIO) -> Iterator[dict[str, str]]:
    """Rows of a long file of :func:`csv_bytes`, one at a time, by column.

    Args:
        handle: open with ``newline=""``.
    """
    for row in csv.DictReader(handle):
        yield {name: plain(text) for name, text in row.items()}
