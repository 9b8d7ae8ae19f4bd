"""The reader of label tables: every line becomes a row or a problem that names it; nothing is lost or changes people."""

import math
import os
import random
import re
from pathlib import Path

import numpy as np
import pytest

from lit_faces.core.columns import canonical
from lit_faces.core.csv_files import csv_bytes
from lit_faces.core.facs import AU_INDEX, EMOTION_INDEX
from lit_faces.core.label_checks import is_coded, settle
from lit_faces.core.tables import LabelRow, LabelTable, picture_path, read_table

COUNT = 1000 if os.environ.get("LIT_FACES_LONG") == "1" else 50
SIX = AU_INDEX[6]


def read(text: str | bytes) -> LabelTable:
    return read_table(text if isinstance(text, bytes) else text.encode(), "labels.csv")


def only(text: str) -> LabelRow:
    found = read(text)
    assert found.problems == [] and len(found.rows) == 1
    return found.rows[0]


def short(found: LabelTable) -> list[tuple[str, str, float]]:
    return [(row.file, row.subject, float(row.au_intensity[SIX])) for row in found.rows]


@pytest.mark.parametrize(
    ("name", "means"),
    [("au6", "au6"), ("AU06", "au6"), ("au_6", "au6"), (" Au 06 ", "au6"), ("AU06_r", "au6"), ("AU06_c", "occ6"),
     ("occ6", "occ6"), ("OCC_06", "occ6"), ("File", "file"), ("ＡＵ6", "au6"), ("Yaw", "yaw"), ("X67", "x67"),
     ("AU28_c", ""), ("AU45_r", ""), ("x_0", ""), ("x68", ""), ("au6_left", ""), ("occ6_r", ""), ("confidence", "")],
)  # fmt: skip
def test_names_as_other_tools_write_them(name: str, means: str) -> None:
    assert canonical(name) == means


def test_all_that_a_row_can_say() -> None:
    row = only(
        "file, subject ,Frame,SPLIT,au6,AU12_c,emotion,yaw,x0,y0\na.png, anna ,7.0,Test,2.5,1,Happiness,-3,1.5,2\n"
    )
    assert (row.file, row.subject, row.frame, row.split) == ("a.png", "anna", 7, "test")
    assert row.au_intensity[SIX] == 2.5 and row.au_occurrence[SIX] == 1 and row.emotion == EMOTION_INDEX["happiness"]
    assert math.isnan(row.au_intensity[AU_INDEX[12]]) and row.au_occurrence[AU_INDEX[12]] == 1
    assert row.landmarks[0].tolist() == [1.5, 2.0] and np.isnan(row.landmarks[1:]).all()
    assert row.pose[0] == -3 and np.isnan(row.pose[1:]).all()
    bare = only("file\na.png")
    assert (bare.subject, bare.split, bare.frame, bare.emotion) == ("", "", None, -1) and not is_coded([bare])


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_other_separators_and_decimal_commas(delimiter: str) -> None:
    found = read("file,subject,au6\na.png,anna,X\nb.png,ben,3".replace(",", delimiter).replace("X", "2,5"))
    assert short(found) == [("a.png", "anna", 2.5), ("b.png", "ben", 3)]
    assert any("decimal commas" in note for note in found.notes)
    assert short(read(f"sep={delimiter}\nfile{delimiter}subject{delimiter}au6\na.png{delimiter}anna{delimiter}2")) == [
        ("a.png", "anna", 2.0)
    ]


def test_two_decimal_marks_in_one_table_are_refused() -> None:
    found = read("file;subject;au6\na.png;anna;2,5\nb.png;ben;1.234\nc.png;carl;4\n")
    assert [row.line for row in found.rows] == [2, 4]
    assert "another decimal mark than line 2" in found.problems[0].reason and found.problems[0].line == 3


@pytest.mark.parametrize(
    ("head", "says"),
    [
        ("file,au6,AU06", "columns 'au6' and 'AU06'"),
        ("file,AU06_r,au_6", "columns 'AU06_r' and 'au_6'"),
        ("file,occ6,AU06_c", "columns 'occ6' and 'AU06_c'"),
        ("file,subject,Subject", "columns 'subject' and 'Subject'"),
        ("file,note,note", "columns 'note' and 'note'"),
        ("picture,au6,a", r"no column 'file' \(found: picture, au6, a\)"),
        ('fi"le,au6,a', "stray quote"),
        ("file\0,au6,a", "NUL byte"),
    ],
)
def test_tables_that_cannot_be_read_at_all(head: str, says: str) -> None:
    found = read(f"\n{head}\na.png,1,2\n")
    assert found.rows == [] and len(found.problems) == 1
    assert found.problems[0].whole and found.problems[0].line == 2 and re.search(says, found.problems[0].reason)


@pytest.mark.parametrize("text", ["", "\n\n", "\ufeff", "file,au6\n", "file,au6\n,\n"])
def test_empty_tables_are_said(text: str) -> None:
    found = read(text)
    assert found.rows == [] and re.search("empty|no row stands", found.problems[0].reason)


BAD = [
    ("a.png,anna,1,9,,", "column AU06: expected 0..5 or nothing, found 9"),
    ("a.png,anna,1,-1,,", "column AU06: expected 0..5 or nothing, found -1"),
    ("a.png,anna,1,1e300,,", "column AU06: expected 0..5 or nothing, found 1e+300"),
    ("a.png,anna,1,12:03,,", "column AU06: expected a number or nothing, found '12:03' (a time?)"),
    ("a.png,anna,1,inf,,", "column AU06: expected a number or nothing, found 'inf'"),
    ("a.png,anna,1,,0.5,", "column AU12_c: expected 0, 1 or nothing, found 0.5"),
    ("a.png,anna,1,,,1e300", "column x0: expected -100000..100000 or nothing, found 1e+300"),
    ("a.png,anna,inf,,,", "column frame: expected a number or nothing, found 'inf'"),
    ("a.png,anna,-1,,,", "column frame: expected a whole number"),
    ("a.png,anna,1.5,,,", "column frame: expected a whole number"),
    ("a.png,anna,1e3,,,", "column frame: expected a whole number"),
    ("a.png,anna,12:03,,,", "column frame: expected a number or nothing, found '12:03' (a time?)"),
    ("a.png,anna,99999999999999999999,,,", "column frame: expected a whole number"),
    (",anna,1,2,,", "column file is empty"),
    ("a.png,anna,1,2,5,,", "7 cells, but line 1 names 6 columns"),
    ("a.png,anna,1", "3 cells, but line 1 names 6 columns"),
    ('a.png,an"na,1,2,,', "cell 2: a stray quote"),
    ('a.png,"anna,1,2,,', "cell 2: a quote opens and does not close on its line"),
    ("a.png,an\0na,1,2,,", "a NUL byte at character 9"),
    ("a.png,anna\u200b,1,2,,", "column subject: 'anna\\u200b' holds an invisible character (U+200B)"),
    ("a.png,M\ufffdller,1,2,,", "lost a letter in a wrong encoding"),
]


@pytest.mark.parametrize(("line", "says"), BAD)
def test_a_bad_row_costs_itself_and_names_line_and_column(line: str, says: str) -> None:
    found = read(f"file,subject,frame,AU06,AU12_c,x0\nb.png,ben,1,2,,\n{line}\nc.png,carl,3,4,1,\n")
    assert short(found) == [("b.png", "ben", 2), ("c.png", "carl", 4)]
    assert [problem.line for problem in found.problems] == [3] and says in found.problems[0].reason


def test_words_that_are_not_known_are_refused() -> None:
    found = read("file,split,emotion\na.png,training,\nb.png,,joy\n")
    assert "expected one of train, val, test, found 'training'" in found.problems[0].reason
    assert "expected one of neutral, happiness" in found.problems[1].reason


def test_latin_1_is_named_with_its_line() -> None:
    found = read("file,subject,au6\na.png,anna,1\nb.png,müller,2\n".encode("latin-1"))
    assert short(found) == [("a.png", "anna", 1)] and found.problems[0].line == 3
    assert "Latin-1" in found.problems[0].reason


def test_composed_and_decomposed_letters_are_one_person() -> None:
    assert len({row.subject for row in read("file,subject\na.png,Ren\u00e9\nb.png,Rene\u0301\n").rows}) == 1


def test_every_column_that_is_not_read_is_said_once() -> None:
    found = read("file,subjct,AU45_r,confidence,x_0,x_1,x_2,AU06_r\na.png,1,1,1,1,1,1,2\n")
    assert found.notes == [
        "columns that are not read: subjct (did you mean subject?), AU45_r (lit_faces has no AU45), confidence, "
        "x_0 ... x_2 (3)"
    ]
    assert found.taken == "intensity 0..5: AU06_r"


def test_a_cell_without_a_column_is_not_dropped() -> None:
    found = read("file,au6,\na.png,1,\nb.png,2,3\n")
    assert len(found.rows) == 1 and "'3' stands in a column without a name" in found.problems[0].reason


def test_a_person_and_a_picture_stand_in_one_split() -> None:
    found = settle(
        read(
            "file,subject,split\n1.png,anna,train\n2.png,anna,test\n3.png,ben,test\n4.png,anna,\n5.png,,train\n"
            "6.png,,test\n./3.png,,train\n7.png,carl,\n"
        ).rows
    )
    assert [(row.file, row.split) for row in found.rows] == [
        ("1.png", "train"), ("3.png", "test"), ("4.png", "train"), ("5.png", "train"), ("6.png", "test"), ("7.png", ""),
    ]  # fmt: skip
    assert [problem.line for problem in found.problems] == [3, 8]
    assert "person 'anna' is in test here, but in train at line 2" in found.problems[0].reason
    assert "picture '3.png' is in train here, but in test at line 4" in found.problems[1].reason
    assert any(note.startswith("1 rows without a split") for note in found.notes)


@pytest.mark.parametrize(("values", "said"), [("01", True), ("00", False), ("02", False)])
def test_intensities_that_may_be_probabilities_are_said(values: str, said: bool) -> None:
    notes = settle(read("file,au6\n" + "".join(f"{i}.png,{v}\n" for i, v in enumerate(values))).rows).notes
    assert any("taken for intensities" in note for note in notes) == said


def test_people_and_pictures_that_may_be_confused_are_said() -> None:
    notes = settle(read("file,subject\n1.png,anna\n2.png,Anna\n1.png,ben\n").rows).notes
    assert "'anna' and 'Anna' are taken for two people" in notes
    assert "'1.png' is 'anna' at line 2 and 'ben' at line 4" in notes


@pytest.mark.parametrize("name", ["-1.png", "=a.png", "'=b.png", "@c.png", "a,b.png", "Rene\u0301.png", "p/1.png"])
def test_names_that_spreadsheets_would_run_are_found_again(name: str, tmp_path: Path) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
    (row,) = read(csv_bytes(["file", "subject"], [[name, "-anna"]])).rows
    assert picture_path(tmp_path, row.file) == tmp_path / name and row.subject == "-anna"
    (raw,) = read(f'file\n"{name}"\n').rows  # a table that we did not write
    assert picture_path(tmp_path, raw.file) == tmp_path / name


def test_pictures_are_found_as_other_systems_write_them(tmp_path: Path) -> None:
    (tmp_path / "set" / "p01").mkdir(parents=True)
    for place in (tmp_path / "set" / "p01" / "1.png", tmp_path / "2.png", tmp_path / "set" / "Ren\u00e9.png"):
        place.touch()
    here = tmp_path / "set"
    assert picture_path(here, r"p01\1.png") == here / "p01" / "1.png"
    assert picture_path(here, "Rene\u0301.png") == here / "Ren\u00e9.png"
    assert picture_path(here, "../2.png").is_file() and picture_path(here, str(tmp_path / "2.png")).is_file()
    assert picture_path(here, "x" * 5000) == here / ("x" * 5000)


def mutated(data: bytes, chance: random.Random) -> bytes:
    kind = chance.choice(("replace", "insert", "delete", "cut", "double", "swap"))
    at, end = sorted(chance.sample(range(len(data)), 2))
    odd = chance.choice(
        (b'"', b",", b"\n", b"\r", b"\0", b"\xff", b";", b"\t", b"'", b"=", b"\x85", b"\xe2\x80\xa8", b"9")
    )
    if kind == "replace":
        return data[:at] + odd + data[at + 1 :]
    if kind == "insert":
        return data[:at] + odd + data[at:]
    if kind == "delete":
        return data[:at] + data[min(end, at + 40) :]
    if kind == "cut":
        return data[:end]
    lines = data.split(b"\n")
    one, two = chance.randrange(len(lines)), chance.randrange(len(lines))
    if kind == "double":
        return b"\n".join([*lines[:one], lines[one], *lines[one:]])
    lines[one], lines[two] = lines[two], lines[one]
    return b"\n".join(lines)


def test_no_line_is_lost_in_silence_whatever_is_damaged() -> None:
    head = b"file,subject,frame,au6,note"
    whole = [b'%d.png,p%d,%d,%d,"a, b"' % (i, i % 3, i, i % 6) for i in range(30)]
    known = {line: short(read(head + b"\n" + line))[0] for line in whole}
    said_of_whole = read(b"\n".join([head, *whole])).notes
    chance, damaged = random.Random(15), 0
    for _ in range(COUNT):
        data = mutated(b"\n".join([head, *whole, b""]), chance)
        found = read(data)
        lines = re.split(rb"\r\n|\r|\n", data)
        if found.problems and found.problems[0].whole:
            damaged += 1
            continue
        if head not in lines:
            understood = set(short(found)) <= set(known.values()) or b"au9" in data  # another AU is no slip that shows
            assert found.notes != said_of_whole or understood, "a name that is not known any more is said"
            continue
        first = next(i for i, line in enumerate(lines) if line.strip())
        rest = {i for i, line in enumerate(lines, 1) if line.strip(b", ") and i > first + 1}
        assert {row.line for row in found.rows} | {problem.line for problem in found.problems} == rest
        assert len(found.rows) + len(found.problems) == len(rest)
        damaged += bool(found.problems)
        for row, said in zip(found.rows, short(found), strict=True):
            assert said == known.get(lines[row.line - 1], said), "a whole line is read as it stands"
        lost = {problem.line for problem in found.problems}
        assert not any(lines[at - 1] in known for at in lost), "a whole line is never blamed"
    assert damaged > COUNT // 4, "most damages change nothing that counts: the test tests too little"
