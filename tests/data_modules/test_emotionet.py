"""EmotioNet: labels as written; what is broken is named with its file and line, the rest is unharmed."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from data_modules.emotionet import EmotioNet
from lit_faces.core.facs import AU_INDEX
from tests.fake import emotionet as fake
from tests.fake.faces import Expected, check

CSV = "EmotioNet_FACS_aws_2020_24600.csv"
OLD = "dataFile_0001.txt"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Expected]]:
    root = tmp_path_factory.mktemp("emotionet")
    return root, fake.write(root)


@pytest.fixture
def copy(original, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original[0], tmp_path / "copy"))


def problem_of(reader: EmotioNet, file: str, says: str):
    """The problem of this file that says so; the file is named as seen from the root."""
    found = [p for p in reader.problems if p.file == file and says in p.reason]
    assert found, reader.problems
    return found[0]


def set_line(path: Path, number: int, change) -> None:
    lines = path.read_text().splitlines()
    lines[number - 1] = change(lines[number - 1])
    path.write_text("\n".join(lines) + "\n")


def cells_changed(line: str, place: int, value: str) -> str:
    cells = line.split(",")
    cells[place] = value
    return ",".join(cells)


def test_labels_are_exactly_those_that_were_written(original) -> None:
    reader = EmotioNet(original[0])
    clips = reader.clips()
    check(clips, original[1])
    assert [problem for clip in clips for _, _, problem in reader.pictures(clip) if problem] == []


def test_pictures_that_were_not_downloaded_are_one_problem_of_the_list(original) -> None:
    reader = EmotioNet(original[0])
    reader.clips()
    assert len(reader.problems) == 1
    said = problem_of(reader, CSV, "1 pictures were not downloaded: N_0000000002_00002")
    assert (said.line, said.frames) == (4, "4")


def test_999_is_not_coded(original) -> None:
    clip = EmotioNet(original[0]).clips()[0]
    assert np.isnan(clip.au_occurrence[:, AU_INDEX[7]]).all() and np.isnan(clip.au_intensity).all()
    assert np.isfinite(clip.au_occurrence[:, AU_INDEX[1]]).all()


def test_flat_folders_are_read_too(original, copy: Path) -> None:
    for path in [p for p in (copy / "images").rglob("*") if p.is_file()]:
        path.rename(copy / path.name.lower())
    shutil.rmtree(copy / "images")
    check(EmotioNet(copy).clips(), original[1])


@pytest.mark.parametrize(
    "change",
    [
        lambda line: cells_changed(line, 2, "2"),
        lambda line: cells_changed(line, 5, "x"),
        lambda line: cells_changed(line, 0, ""),
        lambda line: ",".join(line.split(",")[:30]),
        lambda line: "#!? damaged",
        lambda line: '"' + line,
    ],
)  # fmt: skip
def test_a_broken_line_is_named_and_the_others_are_read(original, copy: Path, change) -> None:
    set_line(copy / CSV, 3, change)
    reader = EmotioNet(copy)
    clips = {clip.key: clip for clip in reader.clips()}
    said = problem_of(reader, CSV, "expected a URL and codes 0, 1 or 999")
    assert (said.line, said.frames) == (3, "3")
    truth = original[1][0]
    assert clips[truth.key].frames.tolist() == [2, 5]
    np.testing.assert_array_equal(clips[truth.key].au_occurrence, truth.au_occurrence[[0, 2]])
    check([clips[original[1][1].key]], original[1][1:])


def test_a_broken_line_of_an_old_list_is_named(original, copy: Path) -> None:
    set_line(copy / OLD, 2, lambda line: line.replace("\t", " "))
    reader = EmotioNet(copy)
    clips = {clip.key: clip for clip in reader.clips()}
    assert problem_of(reader, OLD, "expected a URL and codes").line == 2
    assert clips["dataFile_0001_0000"].frames.tolist() == [1]
    check([clips[original[1][0].key]], original[1][:1])


@pytest.mark.parametrize("how", ["binary", "folder", "missing", "empty"])
def test_a_list_that_cannot_be_read_costs_its_own_labels(original, copy: Path, how: str) -> None:
    (copy / CSV).unlink()
    if how == "folder":
        (copy / CSV).mkdir()
    elif how != "missing":
        (copy / CSV).write_bytes(bytes(range(256)) * 4 if how == "binary" else b"")
    reader = EmotioNet(copy)
    check(reader.clips(), original[1][1:])
    assert any("3 pictures are in no list" in problem.reason for problem in reader.problems), "nothing is silent"
    if how != "missing":
        says = {"binary": "expected the columns URL", "folder": "", "empty": "empty"}[how]
        assert problem_of(reader, CSV, says).line == (1 if how == "binary" else 0)


def test_a_picture_listed_twice_counts_once(original, copy: Path) -> None:
    with (copy / CSV).open("a") as handle:
        handle.write((copy / CSV).read_text().splitlines()[1] + "\n")
    reader = EmotioNet(copy)
    check(reader.clips(), original[1])
    assert problem_of(reader, CSV, "N_0000000000_00000 stands twice; the first counts").line == 6


def test_pictures_in_no_list_are_counted(original, copy: Path) -> None:
    shutil.copy(copy / "images/0/N_0000000000_00000.jpg", copy / "images/N_0000000099_00099.jpg")
    reader = EmotioNet(copy)
    check(reader.clips(), original[1])
    assert any("1 pictures are in no list" in problem.reason for problem in reader.problems)


def test_broken_pictures_are_named_when_they_are_read(original, copy: Path) -> None:
    (copy / "images/0/N_0000000000_00000.jpg").write_bytes(b"junk")
    reader = EmotioNet(copy)
    clips = reader.clips()
    check(clips, original[1])
    said = [(p.file, p.frames) for _, _, p in reader.pictures(clips[0]) if p]
    assert said == [("images/0/N_0000000000_00000.jpg", "2")]


def test_the_layout_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no list"):
        EmotioNet(tmp_path).clips()


def test_a_text_that_is_no_list_is_one_problem(original, copy: Path) -> None:
    (copy / "notes.txt").write_text("hello\n" * 50)
    reader = EmotioNet(copy)
    check(reader.clips(), original[1])
    said = [problem for problem in reader.problems if problem.file == "notes.txt"]
    assert [(p.line, p.frames) for p in said] == [(1, "1-50")] and "49 more lines" in said[0].reason


def test_lists_of_one_name_have_keys_of_their_own(copy: Path) -> None:
    (copy / "more").mkdir()
    line = (copy / OLD).read_text().splitlines()[1]
    (copy / "more" / OLD).write_text(line + "\n")
    set_line(copy / OLD, 2, lambda _: "")
    assert sorted(clip.key for clip in EmotioNet(copy).clips()) == [
        "EmotioNet_FACS_aws_2020_24600_0000", "dataFile_0001_0000", "more_dataFile_0001_0000",
    ]  # fmt: skip
