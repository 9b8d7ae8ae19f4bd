"""CSV files: lines are never joined or lost, numbers are numbers, and nothing that we write runs in a spreadsheet."""

import ast
import csv
import io
import math
from pathlib import Path

import numpy as np
import pytest

from lit_faces.core.csv_files import CsvError, check_line, csv_bytes, read_own, split_line, text_lines, to_number

ROOT = Path(__file__).resolve().parents[2]
NASTY = [
    "=1+1",
    "+x",
    "-x",
    "@sum",
    "\tx",
    "\rx",
    " =x",
    "'=x",
    "''-x",
    "'quoted'",
    "plain",
    "a,b",
    'a"b',
    "a\nb",
    "＝x",
]


def test_text_that_a_spreadsheet_would_run_is_written_harmless_and_read_back() -> None:
    data = csv_bytes(["=name", "value"], [[text, -1.5] for text in NASTY])
    cells = list(csv.reader(io.StringIO(data.decode(), newline="")))
    assert not any(row[0].lstrip()[:1] in ("=", "+", "-", "@", "＝") or row[0][:1] in ("\t", "\r") for row in cells)
    columns, rows = read_own(data)
    assert columns == ["=name", "value"] and [row["=name"] for row in rows] == NASTY
    assert {row["value"] for row in rows} == {"-1.5"}


def test_numbers_stay_numbers_and_missing_cells_are_empty() -> None:
    data = csv_bytes(["a", "b", "c"], [[-1, np.float32(-0.5), "-2.5"], {"a": -math.inf, "c": None}])
    assert data == b"a,b,c\n-1,-0.5,-2.5\n-inf,,\n"


def test_a_name_that_no_encoding_has_is_written_all_the_same() -> None:
    assert csv_bytes(["file"], [["caf\udce9.png"]]) == b"file\ncaf\\udce9.png\n"


def test_a_cut_row_of_our_own_is_filled() -> None:
    assert read_own(b"step,loss\n1,0.5\n2") == (
        ["step", "loss"],
        [{"step": "1", "loss": "0.5"}, {"step": "2", "loss": ""}],
    )
    assert read_own(b"") == ([], [])


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_line_ends_and_encodings_with_a_mark_are_understood(encoding: str, end: str) -> None:
    text = end.join(["a", "", "b\x0bc\u2028d\x85", ""])
    assert text_lines(text.encode(encoding)) == [(1, "a"), (3, "b\x0bc\u2028d\x85")]


@pytest.mark.parametrize(
    ("data", "says", "line"),
    [
        (b"PK\x03\x04rest", "Excel workbook", 1),
        (b"\x1f\x8brest", "gzip", 1),
        ("a,b\nc,d\n".encode("utf-16-le"), "UTF-16 without a byte-order mark", 1),
        (b"\xff\xfea\0\n\0b\0\0\xd8", "not whole UTF-16", 2),
    ],
)
def test_what_is_no_text_is_named(data: bytes, says: str, line: int) -> None:
    with pytest.raises(CsvError, match=says) as caught:
        text_lines(data)
    assert caught.value.line == line


def test_bytes_of_other_encodings_and_nul_are_named_in_their_line() -> None:
    lines = text_lines("a\nmüller\nb\0\n".encode("latin-1"))
    check_line(lines[0][1])
    with pytest.raises(ValueError, match=r"byte 0xfc at character 2 is no UTF-8 \(Latin-1"):
        check_line(lines[1][1])
    with pytest.raises(ValueError, match="NUL byte at character 2"):
        check_line(lines[2][1])


@pytest.mark.parametrize("line", ["a,b,c", '"a","b,c",d', '"a ""b""",,"c"', ' "a" ,b', '""', ",", 'a,"b;c"'])
def test_cells_are_those_of_the_csv_module(line: str) -> None:
    assert split_line(line) == [cell.strip(" ") for cell in next(csv.reader([line], skipinitialspace=True))]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('an"na,3', "cell 1: a stray quote"),
        ('a,"b,3', "cell 2: a quote opens and does not close"),
        ('a,"b"c,3', "cell 2: text after the closing quote"),
        ('a,b""c', "cell 2: a stray quote"),
        ('a,"', "cell 2: a quote opens"),
    ],
)
def test_stray_quotes_are_named(line: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        split_line(line)


@pytest.mark.parametrize(
    ("text", "value"),
    [("3", 3), (" -2.5 ", -2.5), ("+.5", 0.5), ("5.", 5), ("1e3", 1000), ("007", 7), ("", math.nan), ("NaN", math.nan),
     ("NA", math.nan), ("null", math.nan)],
)  # fmt: skip
def test_numbers(text: str, value: float) -> None:
    assert to_number(text) == pytest.approx(value, nan_ok=True)


@pytest.mark.parametrize("text", ["inf", "-Infinity", "1_0", "٣", "12:03", "1,5", "0x10", "1e999", "1 2", "--1", "5%"])
def test_what_is_no_number(text: str) -> None:
    with pytest.raises(ValueError, match="expected a number or nothing, found"):
        to_number(text)


def test_decimal_commas_where_they_may_be() -> None:
    assert to_number("2,5", comma=True) == to_number("2.5", comma=True) == 2.5
    for text in ("1.234,5", "1,234,5"):
        with pytest.raises(ValueError, match="a decimal comma"):
            to_number(text, comma=True)


def test_nothing_else_of_the_package_reads_or_writes_csv() -> None:
    for path in sorted(p for top in ("lit_faces", "data_modules") for p in (ROOT / top).rglob("*.py")):
        names = {
            alias.name
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.Import)
            for alias in node.names
        }
        assert "csv" not in names or path.name == "csv_files.py", f"{path}: use lit_faces.core.csv_files"
