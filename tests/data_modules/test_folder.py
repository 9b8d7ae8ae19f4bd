"""A folder with a table of labels: what is left out is a problem with its line, and nobody changes place or name."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_modules.folder import Folder
from data_modules.preparation import write_failures
from lit_faces.core.csv_files import read_own
from lit_faces.core.facs import AU_INDEX
from lit_faces.core.labelled import read_labelled

SIX = AU_INDEX[6]


def folder(root: Path, table: str | bytes, pictures: tuple[str, ...] = ("1.png", "2.png")) -> Path:
    for name in pictures:
        Image.new("RGB", (32, 32)).save(root / name)
    (root / "labels.csv").write_bytes(table if isinstance(table, bytes) else table.encode())
    return root


def prepared(root: Path) -> tuple[Folder, list[tuple[str, str, list[float]]]]:
    reader = Folder(root, set_name="set")
    return reader, [(c.subject, c.split, c.au_intensity[:, SIX].tolist()) for c in reader.clips()]


@pytest.mark.parametrize(
    "table",
    [
        "file, subject, au6\n1.png, anna, 3\n2.png, ben, 1\n",
        "file,subject,AU06_r\r\n1.png,anna,3\r\n2.png,ben,1\r\n",
        "\ufefffile;subject;au6\n1.png;anna;3,0\n\n2.png;ben;1,0",
        "File\tSubject\tAU 6\r1.png\tanna\t3\r2.png\tben\t1\r".encode("utf-16"),
        '"file","subject","au6"\n"1.png","anna","3"\n"2.png","ben","1"\n',
    ],
)
def test_both_readers_understand_the_same_tables(tmp_path: Path, table: str | bytes) -> None:
    root = folder(tmp_path, table)
    reader, clips = prepared(root)
    assert clips == [("set:anna", "", [3.0]), ("set:ben", "", [1.0])] and reader.problems == []
    batch = read_labelled(root, 32)
    assert batch.subject == ["anna", "ben"] and batch.au_intensity[:, SIX].tolist() == [3.0, 1.0]


@pytest.mark.parametrize(
    ("table", "line", "says"),
    [
        ("file,subject,split,au6\n1.png,anna,train,3\n2.png,anna,test,1\n", 3, "person 'anna' is in test here"),
        ("file,subject,frame,au6\n1.png,anna,inf,3\n2.png,ben,2,1\n", 2, "column frame: expected a number"),
        ('file,subject,au6\n1.png,an"na,3\n2.png,ben,1\n', 2, "a stray quote"),
        ("file,subject,au6\n1.png,anna,3\n2.png,ben,1,1\n", 3, "4 cells, but line 1 names 3"),
    ],
)
def test_a_bad_line_is_left_out_by_prepare_and_refused_by_the_others(tmp_path: Path, table, line, says) -> None:
    root = folder(tmp_path, table)
    reader, clips = prepared(root)
    assert len(clips) == 1
    (problem,) = reader.problems
    assert (problem.file, problem.line) == ("labels.csv", line) and says in problem.reason
    with pytest.raises(ValueError, match=rf"labels\.csv, line {line}: .*{says}"):
        read_labelled(root, 32)


def test_a_table_of_which_nothing_can_be_read_is_refused(tmp_path: Path) -> None:
    root = folder(tmp_path, "file,subject,au6,AU06\n1.png,anna,3,0\n")
    for read in (lambda: Folder(root).clips(), lambda: read_labelled(root, 32)):
        with pytest.raises(ValueError, match=r"labels\.csv, line 1: columns 'au6' and 'AU06'"):
            read()


def test_a_stray_quote_loses_no_other_row(tmp_path: Path) -> None:
    lines = [f"{1 + i % 2}.png,anna,{i},{i % 5}" for i in range(2000)]
    lines[12] = f'"{lines[12]}'
    reader, clips = prepared(folder(tmp_path, "\n".join(["file,subject,frame,au6", *lines])))
    assert clips[0][2] == [float(i % 5) for i in range(2000) if i != 12]
    assert [problem.line for problem in reader.problems] == [14]


def test_nobody_in_particular_may_stand_in_all_splits(tmp_path: Path) -> None:
    table = "file,split,au6\n1.png,test,3\n2.png,train,1\n"
    reader, clips = prepared(folder(tmp_path, table))
    assert clips == [("set:*", "test", [3.0]), ("set:*", "train", [1.0])] and reader.problems == []
    assert len({clip.key for clip in reader.clips()}) == 2


def test_what_is_not_read_is_said_by_both(tmp_path: Path, caplog) -> None:
    root = folder(tmp_path, "file,confidence,AU45_r\n1.png,0.9,2\n")
    reader, _ = prepared(root)
    said = "columns that are not read: confidence, AU45_r (lit_faces has no AU45)"
    assert f"labels.csv: {said}" in reader.choices
    assert any("nothing is coded" in choice for choice in reader.choices)
    read_labelled(root, 32)
    assert [record.getMessage() for record in caplog.records] == [f"{root / 'labels.csv'}: {said}"]


@pytest.mark.parametrize(("need", "says"), [("any", "nothing is coded"), ("intensity", "no AU is graded")])
def test_a_set_in_which_nothing_is_coded_is_refused_where_labels_are_needed(tmp_path: Path, need, says) -> None:
    root = folder(tmp_path, "file,au6,emotion\n1.png,,\n2.png,nan,\n")
    assert len(read_labelled(root, 32)) == 2
    with pytest.raises(ValueError, match=says):
        read_labelled(root, 32, need=need)
    folder(tmp_path, "file,au6,emotion\n1.png,,fear\n")
    if need == "any":
        assert len(read_labelled(root, 32, need=need)) == 1


def test_a_table_of_another_name_is_not_passed_over_in_silence(tmp_path: Path) -> None:
    root = folder(tmp_path, "file,au6\n1.png,3\n")
    (root / "labels.csv").rename(root / "Labels.CSV")
    reader, clips = prepared(root)
    assert len(clips) == 1 and "Labels.CSV not read: the table must be named labels.csv" in next(iter(reader.choices))
    (root / "labels.csv").mkdir()
    with pytest.raises(ValueError, match="not a regular file"):
        prepared(root)


def test_frames_that_are_counted_anew_are_said(tmp_path: Path) -> None:
    reader, _ = prepared(folder(tmp_path, "file,subject,frame\n1.png,anna,5\n2.png,anna,5\n"))
    assert reader.clips()[0].frames.tolist() == [0, 1]
    assert "anna: frame numbers are missing or stand twice; counted in the order of the table" in reader.choices


def test_names_that_spreadsheets_would_run_are_read_and_listed_harmless(tmp_path: Path) -> None:
    name = "=HYPERLINK(1).png"
    root = folder(tmp_path, f"file,subject,au6\n{name},-anna,3\n-1.png,-anna,1\n", (name, "-1.png"))
    reader, clips = prepared(root)
    assert clips == [("set:-anna", "", [3.0, 1.0])]
    assert [picture is not None for _, picture, _ in reader.pictures(reader.clips()[0])] == [True, True]
    reader.report(root / name, "-1 faces", 2)
    write_failures(tmp_path / "failures.csv", reader.problems)
    text = (tmp_path / "failures.csv").read_text()
    assert f"\n'{name},2,,,'-1 faces\n" in text
    (row,) = read_own(text.encode())[1]
    assert row["file"] == name and row["reason"] == "-1 faces"


def test_other_tables_know_no_infinite_boxes() -> None:
    from data_modules.affectnet import _points

    assert np.isnan(_points("")).all()
    with pytest.raises(ValueError, match="136 coordinates"):
        _points(";".join(["1e300"] * 136))
