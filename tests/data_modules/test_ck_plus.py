"""CK+: labels of the peak as written, the first frame neutral; a broken file is named and costs its own labels only."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from data_modules.ck_plus import CKPlus
from lit_faces.core.facs import AU_INDEX
from tests.fake import ck_plus as fake
from tests.fake.disfa import in_frame
from tests.fake.faces import check, people

FACS = "FACS_labels/FACS/S005/001/S005_001_00000003_facs.txt"
EMOTION = "Emotion/S005/001/S005_001_00000003_emotion.txt"
IMAGES = "extended-cohn-kanade-images/cohn-kanade-images"
MARKS = "Landmarks/S005/001/S005_001_00000003_landmarks.txt"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory):
    root = tmp_path_factory.mktemp("ck_plus")
    return root, fake.write(root)


@pytest.fixture
def copy(original, tmp_path: Path):
    return Path(shutil.copytree(original[0], tmp_path / "copy")), original[1]


def replace(path: Path, content) -> None:
    """Other bytes in place of a file; None: gone; a Path: a folder of that name."""
    path.unlink()
    if isinstance(content, Path):
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)


@pytest.mark.parametrize("flat", [False, True])
def test_labels_are_exactly_those_that_were_written(copy, flat: bool) -> None:
    root, expected = copy
    (root / FACS).with_name("._S005_001_00000003_facs.txt").write_bytes(b"\x00\x05\x16\x07")
    (root / "__MACOSX" / "FACS" / "S005" / "001").mkdir(parents=True)
    if flat:  # FACS/S005 and cohn-kanade-images/S005, without the folders of the archives
        (root / "FACS_labels" / "FACS").rename(root / "FACS")
        (root / "FACS_labels").rmdir()
        (root / IMAGES).rename(root / "cohn-kanade-images")
        shutil.rmtree(root / "extended-cohn-kanade-images")
    reader = CKPlus(root)
    clips = reader.clips()
    check(clips, expected)
    assert [p.clip for p in reader.problems] == ["S895_001"], "it has no FACS file"
    assert any("not graded" in choice for choice in reader.choices)
    assert any("outside our 19" in choice for choice in reader.choices)
    assert all(picture is not None for clip in clips for _, picture, _ in reader.pictures(clip))


def test_intensity_0_is_present_and_not_graded(original) -> None:
    clip = CKPlus(original[0]).clips()[0]
    assert clip.au_occurrence[1, AU_INDEX[25]] == 1 and np.isnan(clip.au_intensity[1, AU_INDEX[25]])
    assert clip.au_occurrence[1, AU_INDEX[1]] == 0 and clip.au_intensity[1, AU_INDEX[1]] == 0


def test_the_neutral_frame_is_an_option(original) -> None:
    root, expected = original
    kept, dropped = CKPlus(root).clips(), CKPlus(root, neutral_first="drop").clips()
    assert [clip.frames.tolist() for clip in dropped] == [[e.frames[-1]] for e in expected]
    for whole, peak in zip(kept, dropped, strict=True):
        assert whole.emotion[0] == 0 and not whole.au_intensity[0].any() and not whole.au_occurrence[0].any()
        np.testing.assert_array_equal(whole.au_intensity[1:], peak.au_intensity)
        np.testing.assert_array_equal(whole.emotion[1:], peak.emotion)
    with pytest.raises(ValueError, match="neutral_first: expected one of keep, drop"):
        CKPlus(root, neutral_first="some")


@pytest.mark.parametrize(
    ("file", "content", "says", "line"),
    [
        (FACS, None, "no FACS codes for this sequence", 0), (FACS, b"", "empty", 0), (FACS, Path(), "cannot be read", 0),
        (FACS, b"\x80\xff\x00\n" * 3, "expected AU and intensity", 1),
        (FACS, b"9 5\n17\n", "expected AU and intensity, found '17'", 2),
        (FACS, b"9 5\n17 8\n", "expected an AU and 0..5, found 17 and 8", 2),
        (EMOTION, b"", "empty", 0), (EMOTION, Path(), "cannot be read", 0),
        (EMOTION, b"\xffx\n", "expected an emotion 0..7", 1), (EMOTION, b"\n8\n", "expected an emotion 0..7, found 8", 2),
    ],
)  # fmt: skip
def test_a_broken_file_is_named_and_costs_its_own_labels_only(copy, file: str, content, says: str, line: int) -> None:
    root, expected = copy
    replace(root / file, content)
    reader = CKPlus(root)
    clips = reader.clips()
    where = f"{IMAGES}/S005/001" if content is None else file
    named = [p for p in reader.problems if p.file == where and says in p.reason]
    assert named and named[0].line == line and named[0].clip == "S005_001"
    check(clips[1:], expected[1:])
    harmed, want = clips[0], expected[0]
    assert harmed.frames.tolist() == want.frames
    np.testing.assert_array_equal(harmed.au_occurrence[0], want.au_occurrence[0])
    if file == FACS:
        assert harmed.emotion.tolist() == want.emotion
        assert np.isnan(harmed.au_occurrence[1, AU_INDEX[17]])
    else:
        assert harmed.emotion.tolist() == [0, -1]
        np.testing.assert_array_equal(harmed.au_intensity, want.au_intensity)


def test_a_sequence_without_any_label_is_named(copy) -> None:
    root, expected = copy
    (root / FACS).unlink()
    (root / EMOTION).unlink()
    reader = CKPlus(root)
    check(reader.clips(), expected[1:])
    assert any(p.clip == "S005_001" and "neither FACS codes nor an emotion" in p.reason for p in reader.problems)


def test_missing_pictures_keep_the_peak_and_are_named(copy) -> None:
    root, expected = copy
    (root / IMAGES / "S005/001/S005_001_00000003.png").unlink()
    shutil.rmtree(root / IMAGES / "S005/002")
    reader = CKPlus(root)
    clips = reader.clips()
    check(clips, [expected[0], expected[2]])
    lost = [problem for _, _, problem in reader.pictures(clips[0]) if problem]
    assert [p.frames for p in lost] == ["3"] and lost[0].file.endswith("S005_001_00000003.png")
    assert [p.frames for p in reader.problems if p.clip == "S005_002"] == ["3"], "labels without a folder of pictures"


def test_shipped_landmarks(copy) -> None:
    root = copy[0]
    reader = CKPlus(root)
    clips = reader.clips()
    for number, clip in enumerate(clips):
        truth = [in_frame(people(3, 3).landmarks[number * 3 + frame].numpy()) for frame in (0, 2)]
        assert np.allclose(reader.own_landmarks(clip), truth, atol=1e-3)
    lines = (root / MARKS).read_text().splitlines()
    (root / MARKS).write_text("\n".join(lines[:30] + ["?? ??"] + lines[31:]))
    points = reader.own_landmarks(clips[0])
    assert np.isnan(points[1]).all() and np.isfinite(points[0]).all()
    assert any(p.file == MARKS and p.line == 31 for p in reader.problems)


def test_a_line_that_cannot_be_read_makes_no_au_absent(copy) -> None:
    for content in ("9 5\nx7 3\n", "9 5\n17.5 3\n"):
        (copy[0] / FACS).write_text(content)
        present = CKPlus(copy[0]).clips()[0].au_occurrence[1]
        assert present[AU_INDEX[9]] == 1 and np.isnan(np.delete(present, AU_INDEX[9])).all()


@pytest.mark.parametrize(
    ("file", "name"),
    [(FACS, "S007_009_00000003_facs.txt"), (FACS, f"S005_001_{'9' * 20}_facs.txt"), (EMOTION, "S005_001_00000002_emotion.txt")],
)  # fmt: skip
def test_labels_of_another_frame_or_sequence_are_not_taken(copy, file: str, name: str) -> None:
    (copy[0] / file).rename((copy[0] / file).with_name(name))
    reader = CKPlus(copy[0])
    clip = reader.clips()[0]
    assert any(p.file.endswith(name) and p.clip == "S005_001" for p in reader.problems)
    assert np.isnan(clip.au_occurrence[1]).all() if file == FACS else clip.emotion.tolist() == [0, -1]


def test_of_two_files_the_first_counts_and_the_other_is_named(copy) -> None:
    (copy[0] / FACS).with_name("S005_001_00000004_facs.txt").write_text("1 2\n")
    reader = CKPlus(copy[0])
    check(reader.clips(), copy[1])
    assert any(p.file.endswith("S005_001_00000004_facs.txt") for p in reader.problems)


def test_landmarks_that_are_not_there_are_said(copy) -> None:
    reader = CKPlus(copy[0])
    clip = reader.clips()[0]
    shutil.rmtree(copy[0] / "Landmarks" / "S005")
    assert np.isnan(reader.own_landmarks(clip)).all()
    assert sum("landmarks.txt" in p.file for p in reader.problems) == 2
    shutil.rmtree(copy[0] / "Landmarks")
    with pytest.raises(FileNotFoundError, match=r"unpack Landmarks\.zip"):
        CKPlus(copy[0]).own_landmarks(clip)


def test_the_layout_must_be_there(copy, tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    with pytest.raises(FileNotFoundError, match=r"no cohn-kanade-images folder .* unpack"):
        CKPlus(tmp_path / "nothing").clips()
    for name in ("FACS_labels", "Emotion"):
        shutil.rmtree(copy[0] / name)
    with pytest.raises(FileNotFoundError, match=r"unpack FACS_labels\.zip"):
        CKPlus(copy[0]).clips()
