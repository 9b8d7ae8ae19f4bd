"""FER2013 and FER+: labels as written; what is broken is named with its file and line, the rest is unharmed."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from data_modules.fer2013 import FER2013
from tests.fake import fer2013 as fake
from tests.fake.faces import Expected, check

TABLE = "fer2013/fer2013.csv"
PLUS = "FERPlus/fer2013new.csv"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Expected]]:
    root = tmp_path_factory.mktemp("fer2013")
    return root, fake.write(root)


@pytest.fixture
def copy(original, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original[0], tmp_path / "copy"))


def problem_of(reader: FER2013, file: str, says: str):
    """The problem of this file that says so; the file is named as seen from the root."""
    found = [p for p in reader.problems if p.file == file and says in p.reason]
    assert found, reader.problems
    return found[0]


def set_line(root: Path, file: str, number: int, change) -> None:
    lines = (root / file).read_text().splitlines()
    lines[number - 1] = change(lines[number - 1])
    (root / file).write_text("\n".join(lines) + "\n")


def frames_of(clips) -> dict[str, list[int]]:
    return {clip.split: clip.frames.tolist() for clip in clips}


@pytest.mark.parametrize("labels", ["fer2013", "ferplus"])
def test_labels_are_exactly_those_that_were_written(tmp_path: Path, labels: str) -> None:
    expected = fake.write(tmp_path, labels=labels)
    reader = FER2013(tmp_path, labels=labels)
    check(reader.clips(), expected)
    assert reader.problems == []
    if labels == "ferplus":
        assert any("FER+: 2 pictures" in choice for choice in reader.choices), "a tie and no face are counted"
    else:
        assert any("one source" in choice for choice in reader.choices)


def test_the_pixels_are_those_of_the_row(copy: Path) -> None:
    (copy / TABLE).write_bytes((copy / TABLE).read_bytes().replace(b"\n", b"\r\n"))
    reader, truth, seen = FER2013(copy), fake.grey(), []
    for clip in reader.clips():
        assert clip.container == copy / TABLE
        for frame, (_, picture, problem) in zip(clip.frames, reader.pictures(clip), strict=True):
            assert problem is None and picture.shape == (48, 48, 3) and picture.dtype == np.uint8
            assert all(np.array_equal(picture[:, :, c], truth[frame]) for c in range(3))
            seen.append(int(frame))
    assert sorted(seen) == [0, 1, 2, 3, 4]


def test_a_part_of_a_clip_has_its_own_pixels(original) -> None:
    reader = FER2013(original[0])
    clip = reader.clips()[0].select(slice(1, None))
    pictures = [picture for _, picture, _ in reader.pictures(clip)]
    assert [np.array_equal(p[:, :, 0], fake.grey()[f]) for p, f in zip(pictures, (1, 3), strict=True)] == [True] * 2


@pytest.mark.parametrize(
    "line",
    [
        "7,1 2 3,Training",
        "-1,1 2 3,Training",
        "x,1 2 3,Training",
        "3,1 2 3,Test",
        "#!? damaged",
        "3",
        pytest.param("1" * 5000 + ",1,Training", id="long"),
    ],
)
def test_a_broken_row_is_named_and_the_others_keep_their_numbers(copy: Path, line: str) -> None:
    set_line(copy, TABLE, 3, lambda _: line)
    reader = FER2013(copy)
    assert frames_of(reader.clips()) == {"train": [0, 3], "val": [2], "test": [4]}
    said = problem_of(reader, TABLE, "expected 0..6,pixels,Usage")
    assert (said.line, said.frames) == (3, "1")


@pytest.mark.parametrize(
    "change",
    [
        lambda line: line.replace(",", ",7 ", 1),  # one too many
        lambda line: line.replace(" ", "", 1),  # glued
        lambda line: ",".join([line[0], "256 " + line.split(",")[1].split(" ", 1)[1], "Training"]),
        lambda line: ",".join([line[0], "-1 " + line.split(",")[1].split(" ", 1)[1], "Training"]),
        lambda line: line.replace(" ", " x", 1),
        lambda line: line[0] + ",,Training",
        lambda line: line.replace(" ", " 99999999999999999999", 1),
    ],
)  # fmt: skip
def test_pixels_that_cannot_be_are_named(copy: Path, change) -> None:
    set_line(copy, TABLE, 3, change)
    reader = FER2013(copy)
    clip = next(clip for clip in reader.clips() if clip.split == "train")
    shown = list(reader.pictures(clip))
    assert [row for row, _, _ in shown] == [0, 1, 2]
    assert [picture is not None for _, picture, _ in shown] == [True, False, True]
    said = shown[1][2]
    assert said.file == TABLE and said.frames == "1" and "2304 grey values 0..255" in said.reason


@pytest.mark.parametrize("how", ["binary", "folder", "empty"])
def test_a_table_that_cannot_be_read_is_named(copy: Path, how: str) -> None:
    (copy / TABLE).unlink()
    if how == "folder":
        (copy / TABLE).mkdir()
    else:
        (copy / TABLE).write_bytes(bytes(range(256)) * 4 if how == "binary" else b"")
    reader = FER2013(copy)
    assert reader.clips() == []
    assert problem_of(reader, TABLE, "cannot be read" if how == "folder" else "expected the header").line == (
        0 if how == "folder" else 1
    )


def test_a_broken_row_of_votes_is_named_and_the_others_are_read(copy: Path) -> None:
    set_line(copy, PLUS, 3, lambda line: line.replace("9", "many"))
    reader = FER2013(copy, labels="ferplus")
    assert frames_of(reader.clips()) == {"train": [0], "val": [2]}
    said = problem_of(reader, PLUS, "expected ten")
    assert (said.line, said.frames) == (3, "1")


def test_rows_without_votes_are_named(copy: Path) -> None:
    (copy / PLUS).write_text("\n".join((copy / PLUS).read_text().splitlines()[:3]) + "\n")
    reader = FER2013(copy, labels="ferplus")
    assert frames_of(reader.clips()) == {"train": [0, 1]}
    lost = [p.frames for p in reader.problems if p.file == TABLE and "fer2013new.csv is shorter" in p.reason]
    assert lost in (["2", "3", "4"], ["2-4"])


def test_the_layout_must_be_there(copy: Path, tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    with pytest.raises(FileNotFoundError, match=r"fer2013\.csv"):
        FER2013(tmp_path / "nothing").clips()
    (copy / PLUS).unlink()
    assert len(FER2013(copy).clips()) == 3, "FER+ is not needed for FER2013's own labels"
    with pytest.raises(FileNotFoundError, match=r"fer2013new\.csv"):
        FER2013(copy, labels="ferplus").clips()


def test_a_usage_that_differs_between_the_tables_is_named(copy: Path) -> None:
    set_line(copy, PLUS, 4, lambda line: line.replace("PublicTest", "Training"))
    reader = FER2013(copy, labels="ferplus")
    assert frames_of(reader.clips()) == {"train": [0, 1]}
    said = problem_of(reader, PLUS, "Usage 'Training', but PublicTest in fer2013.csv")
    assert (said.line, said.frames) == (4, "2")


def test_votes_beyond_the_rows_are_named(copy: Path) -> None:
    with (copy / PLUS).open("a") as handle:
        handle.write("Training,fer0000005.png,9,0,0,0,0,0,0,0,0,0\n")
    reader = FER2013(copy, labels="ferplus")
    assert frames_of(reader.clips()) == {"train": [0, 1], "val": [2]}
    assert problem_of(reader, PLUS, "votes have no row in fer2013.csv").frames == "5"


def test_blank_lines_do_not_shift_the_line_that_is_named(copy: Path) -> None:
    set_line(copy, TABLE, 1, lambda line: line + "\n\n")
    set_line(copy, TABLE, 5, lambda _: "9,1,Training")
    reader = FER2013(copy)
    reader.clips()
    said = problem_of(reader, TABLE, "expected 0..6")
    assert (said.line, said.frames) == (5, "1")
