"""RAF-DB: labels as written; what is broken is named with its file and line, the rest is unharmed."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from data_modules.rafdb import RAFDB
from tests.fake import rafdb as fake
from tests.fake.faces import Expected, check

LIST = "basic/EmoLabel/list_patition_label.txt"
ALIGNED = "basic/Image/aligned/aligned"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Expected]]:
    root = tmp_path_factory.mktemp("rafdb")
    return root, fake.write(root)


@pytest.fixture
def copy(original, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original[0], tmp_path / "copy"))


def problem_of(reader: RAFDB, file: str, says: str):
    """The problem of this file that says so; the file is named as seen from the root."""
    found = [p for p in reader.problems if p.file == file and says in p.reason]
    assert found, reader.problems
    return found[0]


def add_line(root: Path, line: str) -> None:
    (root / LIST).write_text((root / LIST).read_text() + line + "\n")


def test_labels_are_exactly_those_that_were_written(original) -> None:
    reader = RAFDB(original[0])
    clips = reader.clips()
    check(clips, original[1])
    assert reader.problems == []
    shown = [(picture.shape, problem) for clip in clips for _, picture, problem in reader.pictures(clip)]
    assert shown == [((100, 100, 3), None)] * 7


def test_labels_belong_to_names_not_to_the_order_of_the_list(original, copy: Path) -> None:
    (copy / LIST).write_text("\n".join(reversed((copy / LIST).read_text().splitlines())) + "\n")
    check(RAFDB(copy).clips(), original[1])


def test_original_pictures_have_the_same_labels(original, copy: Path) -> None:
    for path in (copy / ALIGNED).iterdir():
        target = copy / "basic/Image/original" / path.name.replace("_aligned", "")
        target.parent.mkdir(exist_ok=True)
        shutil.copy(path, target)
    reader = RAFDB(copy, pictures_of="original")
    clips = reader.clips()
    check(clips, original[1])
    assert reader.problems == [] and clips[0].pictures[0] == copy / "basic/Image/original/train_00001.jpg"


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("train_00001.jpg 4", "train_00001.jpg stands twice"),
        ("train_00009.jpg 8", "expected 'train_00001.jpg 1..7', found 'train_00009.jpg 8'"),
        ("train_00009.jpg 0", "expected 'train_00001.jpg 1..7'"),
        ("train_00009.jpg", "expected 'train_00001.jpg 1..7'"),
        ("valid_00009.jpg 5", "expected 'train_00001.jpg 1..7'"),
        ("train_99999999999999999999.jpg 5", "expected 'train_00001.jpg 1..7'"),
    ],
)  # fmt: skip
def test_a_broken_line_is_named_and_the_others_are_read(original, copy: Path, line: str, says: str) -> None:
    add_line(copy, line)
    reader = RAFDB(copy)
    check(reader.clips(), original[1])
    assert problem_of(reader, LIST, says).line == 8


@pytest.mark.parametrize("how", ["binary", "folder", "empty"])
def test_a_list_that_cannot_be_read_is_named(copy: Path, how: str) -> None:
    (copy / LIST).unlink()
    if how == "folder":
        (copy / LIST).mkdir()
    else:
        (copy / LIST).write_bytes(bytes(range(256)) * 4 if how == "binary" else b"")
    reader = RAFDB(copy)
    assert reader.clips() == []
    assert "7 pictures have no label" in problem_of(reader, LIST, "pictures").reason
    if how == "binary":
        assert problem_of(reader, LIST, "expected 'train_00001.jpg 1..7'").line == 1
    if how == "folder":
        problem_of(reader, LIST, "cannot be read")


def test_missing_and_broken_pictures_keep_their_rows(original, copy: Path) -> None:
    (copy / ALIGNED / "train_00002_aligned.jpg").unlink()
    (copy / ALIGNED / "train_00004_aligned.jpg").write_bytes(b"junk")
    reader = RAFDB(copy)
    clips = reader.clips()
    check(clips, original[1])
    shown = list(reader.pictures(clips[0]))
    assert [picture is not None for _, picture, _ in shown] == [True, False, True, False, True]
    said = [(p.file, p.frames) for _, _, p in shown if p]
    assert said == [(f"{ALIGNED}/train_0000{n}_aligned.jpg", str(n)) for n in (2, 4)]


def test_clips_hold_a_thousand_pictures_at_most(copy: Path) -> None:
    rows = "".join(f"train_{n:05d}.jpg {n % 7 + 1}\n" for n in range(1, 2051))
    (copy / LIST).write_text(rows + "test_00001.jpg 3\ntest_00002.jpg 6\n")
    clips = RAFDB(copy).clips()
    assert [(c.key, c.split, len(c)) for c in clips] == [
        ("train_0000", "train", 1000), ("train_0001", "train", 1000), ("train_0002", "train", 50),
        ("test_0000", "test", 2),
    ]  # fmt: skip
    assert np.concatenate([c.frames for c in clips[:3]]).tolist() == list(range(1, 2051))


def test_the_layout_must_be_there(copy: Path, tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    with pytest.raises(FileNotFoundError, match="EmoLabel"):
        RAFDB(tmp_path / "nothing").clips()
    (copy / LIST).unlink()
    with pytest.raises(FileNotFoundError, match="list_patition_label"):
        RAFDB(copy).clips()
    with pytest.raises(ValueError, match="expected one of aligned, original"):
        RAFDB(copy, pictures_of="cropped")
