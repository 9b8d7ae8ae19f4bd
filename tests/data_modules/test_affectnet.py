"""AffectNet, both releases: labels as written; what is broken is named with its file and line, the rest is unharmed."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from data_modules.affectnet import AffectNet
from tests.fake import affectnet as fake
from tests.fake.faces import Expected, check

IMAGES = "Manually_Annotated_Images"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Expected]]:
    root = tmp_path_factory.mktemp("affectnet")
    return root, fake.write(root)


@pytest.fixture
def copy(original, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original[0], tmp_path / "copy"))


def problem_of(reader: AffectNet, file: str, says: str):
    """The problem of this file that says so; the file is named as seen from the root."""
    found = [p for p in reader.problems if p.file == file and says in p.reason]
    assert found, reader.problems
    return found[0]


@pytest.fixture
def new(tmp_path: Path) -> tuple[Path, list[Expected]]:
    return tmp_path / "new", fake.write(tmp_path / "new", release="2021")


def set_line(root: Path, number: int, line: str) -> None:
    """Replace a line of training.csv, the header is number 1."""
    lines = (root / "training.csv").read_text().splitlines()
    lines[number - 1] = line
    (root / "training.csv").write_text("\n".join(lines) + "\n")


def without(expected: list[Expected], frame: int) -> list[Expected]:
    """What remains when a row of the training set is lost."""
    train = expected[0]
    kept = [row for row, own in enumerate(train.frames) if own != frame]
    assert len(kept) == len(train.frames) - 1
    fewer = Expected(train.key, train.subject, [train.frames[r] for r in kept], train.au_intensity[kept],
                     train.au_occurrence[kept], [train.emotion[r] for r in kept], train.split)  # fmt: skip
    return [fewer, *expected[1:]]


def test_labels_of_2016_are_exactly_those_that_were_written(original) -> None:
    reader = AffectNet(original[0])
    clips = reader.clips()
    check(clips, original[1])
    assert reader.problems == []
    assert any("train: 2 faces" in choice for choice in reader.choices), "8 and 10 are counted"
    assert any("val is the authors' validation set" in choice for choice in reader.choices)
    assert [problem for clip in clips for _, _, problem in reader.pictures(clip) if problem] == []


def test_labels_of_2021_are_exactly_those_that_were_written(new) -> None:
    reader = AffectNet(new[0])
    clips = reader.clips()
    check(clips, new[1])
    assert reader.problems == []
    marks = reader.own_landmarks(clips[0])
    assert marks.shape == (len(clips[0]), 68, 2) and np.isfinite(marks).all()


def test_boxes_and_landmarks_of_2016_are_in_pixels(original) -> None:
    clip = AffectNet(original[0]).clips()[0]
    assert clip.boxes is not None and clip.boxes[0, :2].tolist() == [32, 0]
    assert np.abs(clip.boxes[0, 2:] - [224, 192]).max() <= 1
    marks = AffectNet(original[0]).own_landmarks(clip)
    assert np.isfinite(marks).all() and (marks > -32).all() and (marks < 288).all()


def test_uncertain_faces_are_kept_when_asked(original) -> None:
    clip = AffectNet(original[0], uncertain="keep").clips()[0]
    assert clip.frames.tolist() == [2, 3, 4, 5, 7] and clip.emotion[2] == -1, "8 stays without a label, 10 does not"


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("1/abc2.jpg,32,0,192,192,,11,0,0", "expected an expression 0..10, found 11"),
        ("1/abc2.jpg,32,0,192,192,,2.5,0,0", "expected an expression 0..10, found 2.5"),
        ("1/abc2.jpg,32,0", "expected an expression 0..10"),
        ("1/abc2.jpg,a,b,c,d,,0,0,0", "expected a face box in numbers"),
        ("1/abc2.jpg,32,0,192,192,1;2;3,0,0,0", "expected 136 coordinates"),
        (",32,0,192,192,,0,0,0", "no picture is named"),
        ("1/abc2.jpg,32,0,192,192,,0,0,0,7,8", "expected 9 columns, found 11"),
    ],
)  # fmt: skip
def test_a_broken_line_is_named_and_the_others_are_read(original, copy: Path, line: str, says: str) -> None:
    set_line(copy, 3, line)
    reader = AffectNet(copy)
    check(reader.clips(), without(original[1], 3))
    assert problem_of(reader, "training.csv", says).line == 3


@pytest.mark.parametrize("how", ["missing", "binary", "folder"])
def test_a_table_that_cannot_be_read_costs_its_own_split(original, copy: Path, how: str) -> None:
    (copy / "training.csv").unlink()
    if how == "folder":
        (copy / "training.csv").mkdir()
    elif how == "binary":
        (copy / "training.csv").write_bytes(bytes(range(256)) * 4)
    reader = AffectNet(copy)
    check(reader.clips(), original[1][1:])
    says = {"missing": "missing", "binary": "no column", "folder": "cannot be read"}[how]
    assert problem_of(reader, "training.csv", says).line == (1 if how == "binary" else 0)


def test_missing_pictures_keep_their_rows(original, copy: Path) -> None:
    (copy / IMAGES / "2/abc2.jpg").unlink()
    reader = AffectNet(copy)
    clips = reader.clips()
    check(clips, original[1])
    said = [(p.file, p.frames) for _, _, p in reader.pictures(clips[0]) if p]
    assert said == [(f"{IMAGES}/2/abc2.jpg", "3")]


@pytest.mark.parametrize("content", [b"junk", b"", None])
def test_a_broken_file_of_2021_is_named(new, content: bytes | None) -> None:
    root, expected = new
    path = root / "train_set/annotations/1_exp.npy"
    path.unlink()
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    reader = AffectNet(root)
    check(reader.clips(), without(expected, 1))
    assert problem_of(reader, "train_set/annotations/1_exp.npy", "no expression can be read").frames == "1"


def test_objects_are_not_unpickled(new) -> None:
    root, expected = new
    np.save(root / "train_set/annotations/1_exp.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    reader = AffectNet(root)
    check(reader.clips(), without(expected, 1))
    problem_of(reader, "train_set/annotations/1_exp.npy", "no expression can be read")


def test_numbers_are_read_like_strings_and_wrong_ones_are_named(new) -> None:
    root, expected = new
    np.save(root / "train_set/annotations/0_exp.npy", np.array(1))
    check(AffectNet(root).clips(), expected)
    np.save(root / "train_set/annotations/0_exp.npy", np.array(11))
    reader = AffectNet(root)
    check(reader.clips(), without(expected, 0))
    assert problem_of(reader, "train_set/annotations/0_exp.npy", "found 11").frames == "0"


def test_broken_landmarks_of_2021_are_named_and_missing(new) -> None:
    np.save(new[0] / "train_set/annotations/1_lnd.npy", np.zeros(5))
    reader = AffectNet(new[0])
    clip = reader.clips()[0]
    marks = reader.own_landmarks(clip)
    assert np.isnan(marks[1]).all() and np.isfinite(np.delete(marks, 1, axis=0)).all()
    assert problem_of(reader, "train_set/annotations/1_lnd.npy", "landmarks cannot be read").frames == "1"


def test_the_layout_must_be_there(copy: Path, tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    with pytest.raises(FileNotFoundError, match="neither train_set/images nor Manually_Annotated_Images"):
        AffectNet(tmp_path / "nothing").clips()
    with pytest.raises(FileNotFoundError, match="AffectNet"):
        AffectNet(copy, release="2021").clips()


def test_a_stray_quote_costs_no_lines(original, copy: Path) -> None:
    for number in (2, 3):
        line = (copy / "training.csv").read_text().splitlines()[number - 1]
        set_line(copy, number, '"' + line)
    reader = AffectNet(copy)
    check(reader.clips(), original[1])
    assert reader.problems == []


@pytest.mark.parametrize("name", ["2/ABC2.JPG", "x" * 300 + ".jpg"])
def test_names_in_another_case_are_found_and_absurd_ones_keep_their_row(original, copy: Path, name: str) -> None:
    lines = (copy / "training.csv").read_text().splitlines()
    set_line(copy, 3, lines[2].replace("2/abc2.jpg", name))
    reader = AffectNet(copy)
    clips = reader.clips()
    check(clips, original[1])
    said = [p.frames for _, _, p in reader.pictures(clips[0]) if p]
    assert said == ([] if name.startswith("2") else ["3"])
