"""Aff-Wild2: labels as written; what is broken is named with its file and line, the rest is unharmed."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from data_modules.affwild2 import AffWild2
from tests.fake import affwild2 as fake
from tests.fake.faces import Expected, check

CROPS = "cropped_aligned/cropped_aligned"
AUS = "annotations/AU_Detection_Challenge/Train_Set/1-30-1280x720.txt"
EMOTIONS = "annotations/EXPR_Recognition_Challenge/Train_Set/7_left.txt"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Expected]]:
    root = tmp_path_factory.mktemp("affwild2")
    return root, fake.write(root)


@pytest.fixture
def copy(original, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original[0], tmp_path / "copy"))


def problem_of(reader: AffWild2, file: str, says: str):
    """The problem of this file that says so; the file is named as seen from the root."""
    found = [p for p in reader.problems if p.file == file and says in p.reason]
    assert found, reader.problems
    return found[0]


def add_line(path: Path, line: str) -> None:
    path.write_text(path.read_text() + line + "\n")


def test_labels_are_exactly_those_that_were_written(original) -> None:
    reader = AffWild2(original[0])
    clips = reader.clips()
    check(clips, original[1])
    assert reader.problems == []
    assert any("1-30-1280x720: 1 rows without a crop" in choice for choice in reader.choices), "gaps are counted"
    assert [problem for clip in clips for _, _, problem in reader.pictures(clip) if problem] == []


def test_a_frame_is_the_picture_of_its_number(original) -> None:
    clip = AffWild2(original[0]).clips()[0]
    assert [path.name for path in clip.pictures] == [f"{frame:05d}.jpg" for frame in (1, 2, 4, 5)]


def test_names_of_2020_are_read_too(original, copy: Path) -> None:
    annotations = copy / "annotations"
    (annotations / "AU_Detection_Challenge").rename(annotations / "AU_Set")
    (annotations / "EXPR_Recognition_Challenge").rename(annotations / "EXPR_Set")
    reader = AffWild2(copy)
    check(reader.clips(), original[1])
    assert reader.problems == []


def test_validation_wins_over_training(copy: Path) -> None:
    target = copy / "annotations/EXPR_Classification_Challenge/Validation_Set/1-30-1280x720.txt"
    target.parent.mkdir()
    (copy / "annotations/EXPR_Classification_Challenge/Train_Set/1-30-1280x720.txt").rename(target)
    reader = AffWild2(copy)
    assert {clip.key: clip.split for clip in reader.clips()} == {
        "1-30-1280x720": "val", "7_left": "train", "video55": "val",
    }  # fmt: skip
    assert any("1-30-1280x720 is in training and validation" in choice for choice in reader.choices)


@pytest.mark.parametrize("line", ["0,1", "0,1,2,0,0,0,0,0,0,0,0,0", "", "#!? damaged", "0.5" + ",0" * 11])
def test_a_broken_line_of_aus_costs_its_own_frame(original, copy: Path, line: str) -> None:
    lines = (copy / AUS).read_text().splitlines()
    lines[2] = line
    (copy / AUS).write_text("\n".join(lines) + "\n")
    reader = AffWild2(copy)
    clips = {clip.key: clip for clip in reader.clips()}
    said = problem_of(reader, AUS, "expected 12 codes 0, 1 or -1")
    assert (said.line, said.clip, said.frames) == (3, "1-30-1280x720", "2")
    hurt, truth = clips["1-30-1280x720"], original[1][0]
    assert hurt.frames.tolist() == [1, 2, 4, 5] and hurt.emotion.tolist() == truth.emotion
    assert np.isnan(hurt.au_occurrence[1]).all()
    np.testing.assert_array_equal(hurt.au_occurrence[[0, 2, 3]], truth.au_occurrence[[0, 2, 3]])
    check([clips["video55"], clips["7_left"]], original[1][1:])


@pytest.mark.parametrize("line", ["8", "-2", "x", "1.5", "1,2", "--1", "²"])
def test_a_wrong_expression_is_named(original, copy: Path, line: str) -> None:
    add_line(copy / EMOTIONS, line)
    reader = AffWild2(copy)
    check(reader.clips(), original[1])
    said = problem_of(reader, EMOTIONS, "expected one number from -1 to 7")
    assert (said.line, said.frames) == (7, "6")


@pytest.mark.parametrize("how", ["binary", "folder", "empty"])
def test_annotations_that_cannot_be_read_cost_their_own_labels(original, copy: Path, how: str) -> None:
    (copy / AUS).unlink()
    if how == "folder":
        (copy / AUS).mkdir()
    else:
        (copy / AUS).write_bytes(bytes(range(256)) * 4 if how == "binary" else b"")
    reader = AffWild2(copy)
    clips = {clip.key: clip for clip in reader.clips()}
    says = {"binary": "expected a header AU1,AU2", "folder": "cannot be read", "empty": "empty"}[how]
    assert problem_of(reader, AUS, says).line == (1 if how == "binary" else 0)
    assert clips["1-30-1280x720"].emotion.tolist() == original[1][0].emotion
    assert np.isnan(clips["1-30-1280x720"].au_occurrence).all()
    check([clips["video55"], clips["7_left"]], original[1][1:])


def test_crops_beyond_the_rows_are_named(copy: Path) -> None:
    (copy / AUS).write_text("\n".join((copy / AUS).read_text().splitlines()[:4]) + "\n")
    reader = AffWild2(copy)
    reader.clips()
    assert problem_of(reader, AUS, "the rows end before the crops do").frames == "4-5"


def test_a_video_without_crops_is_named(original, copy: Path) -> None:
    shutil.rmtree(copy / CROPS / "video55")
    reader = AffWild2(copy)
    check(reader.clips(), [original[1][0], original[1][2]])
    said = problem_of(reader, "annotations/AU_Detection_Challenge/Validation_Set/video55.txt", "no crops of video55")
    assert (said.clip, said.frames) == ("video55", "1-5")


def test_the_layout_must_be_there(copy: Path, tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    with pytest.raises(FileNotFoundError, match="cropped_aligned"):
        AffWild2(tmp_path / "nothing").clips()
    shutil.rmtree(copy / "annotations")
    with pytest.raises(FileNotFoundError, match="no annotations"):
        AffWild2(copy).clips()


def test_a_video_of_both_years_does_not_change_the_split_of_others(copy: Path) -> None:
    folder = copy / "annotations/AU_Set/Train_Set"  # sorted after AU_Detection_Challenge, where video55 is validation
    folder.mkdir(parents=True)
    rows = (copy / "annotations/AU_Detection_Challenge/Validation_Set/video55.txt").read_text()
    for video in ("video55", "video56"):
        (folder / f"{video}.txt").write_text(rows)
    shutil.copytree(copy / CROPS / "video55", copy / CROPS / "video56")
    reader = AffWild2(copy)
    splits = {clip.key: clip.split for clip in reader.clips()}
    assert splits["video55"] == "val" and splits["video56"] == "train"
    assert any("AU_Set/Train_Set/video55.txt taken" in choice for choice in reader.choices)


def test_folders_in_another_case_are_found(original, copy: Path) -> None:
    (copy / CROPS / "video55").rename(copy / CROPS / "Video55")
    check(AffWild2(copy).clips(), original[1])
