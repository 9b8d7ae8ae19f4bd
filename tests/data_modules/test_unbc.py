"""UNBC-McMaster: an empty file is a neutral face, a missing or broken one is named and is never neutral."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from data_modules.unbc import UNBC
from lit_faces.core.facs import AU_INDEX
from tests.fake import unbc as fake
from tests.fake.disfa import in_frame
from tests.fake.faces import check, people

KEY = "ll042t1aaaff"
SEQUENCE = f"Frame_Labels/Frame_Labels/FACS/042-ll042/{KEY}"
FACS = f"{SEQUENCE}/{KEY}002_facs.txt"
IMAGES = f"Images/Images/042-ll042/{KEY}"
MARKS = f"AAM_landmarks/042-ll042/{KEY}/{KEY}002_aam.txt"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory):
    root = tmp_path_factory.mktemp("unbc")
    return root, fake.write(root)


@pytest.fixture
def copy(original, tmp_path: Path):
    return Path(shutil.copytree(original[0], tmp_path / "copy")), original[1]


@pytest.mark.parametrize("flat", [False, True])
def test_labels_are_exactly_those_that_were_written(copy, flat: bool) -> None:
    root, expected = copy
    (root / SEQUENCE / f"._{KEY}002_facs.txt").write_bytes(b"\x00\x05\x16\x07")
    (root / "__MACOSX" / "Images" / "042-ll042").mkdir(parents=True)
    (root / IMAGES / f"{KEY}003.png").rename(root / IMAGES / f"{KEY}003.PNG")
    if flat:  # as the original archives unpack; Kaggle's copy nests
        for name in ("Images", "Frame_Labels"):
            (root / name).rename(root / "outer")
            (root / "outer" / name).rename(root / name)
            (root / "outer").rmdir()
    reader = UNBC(root)
    clips = reader.clips()
    check(clips, expected)
    assert reader.problems == []
    assert all(picture is not None for clip in clips for _, picture, _ in reader.pictures(clip))


def test_ungraded_codes_are_present_without_an_intensity(original) -> None:
    clips = {clip.key: clip for clip in UNBC(original[0]).clips()}
    for key, row, au in ((KEY, 1, 43), ("jh043t1aaaff", 2, 25)):
        assert clips[key].au_occurrence[row, AU_INDEX[au]] == 1 and np.isnan(clips[key].au_intensity[row, AU_INDEX[au]])
    assert not clips[KEY].au_intensity[0, [AU_INDEX[au] for au in UNBC.aus]].any(), "an empty file is neutral"
    assert np.isnan(clips[KEY].au_occurrence[:, AU_INDEX[1]]).all(), "AU1 is not coded, although a file lists it"


@pytest.mark.parametrize(
    ("content", "says", "line"),
    [
        (Path(), "cannot be read", 0), (b"\x80\xff\x00\n" * 3, "expected AU, intensity, onset, offset", 1),
        (b"6 2 0 0\nx7 3 0 0\n", "found 'x7 3 0 0'", 2), (b"6 2 0 0\n\n7 3\n", "found '7 3'", 3),
        (b"6 2 0 0\n7 9 0 0\n", "expected an AU and 0..5, found 7 and 9", 2),
    ],
    ids=["folder", "binary", "line", "cut", "value"],
)  # fmt: skip
def test_a_broken_file_is_named_and_costs_its_frame_only(copy, content, says: str, line: int) -> None:
    root, expected = copy
    (root / FACS).unlink()
    if isinstance(content, Path):
        (root / FACS).mkdir()
    else:
        (root / FACS).write_bytes(content)
    reader = UNBC(root)
    clips = reader.clips()
    named = [p for p in reader.problems if p.file == FACS and says in p.reason]
    assert named and named[0].line == line and named[0].clip == KEY
    expected = [e for e in expected if e.key != KEY]
    check([clip for clip in clips if clip.key != KEY], expected)
    harmed = next(clip for clip in clips if clip.key == KEY)
    assert harmed.frames.tolist() == [1, 2, 3]
    assert np.isnan(harmed.au_intensity[1]).all() and np.isnan(harmed.au_occurrence[1]).all()
    assert not np.isnan(harmed.au_occurrence[[0, 2], AU_INDEX[6]]).any()


def test_a_missing_file_is_not_a_neutral_face(copy) -> None:
    root, expected = copy
    (root / FACS).unlink()
    reader = UNBC(root)
    clips = {clip.key: clip for clip in reader.clips()}
    assert [(p.file, p.clip, p.frames) for p in reader.problems] == [(SEQUENCE, KEY, "2")]
    clip, want = clips[KEY], next(e for e in expected if e.key == KEY)
    assert clip.frames.tolist() == [1, 2, 3] and np.isnan(clip.au_occurrence[1]).all()
    whole = [0, 2]
    np.testing.assert_array_equal(clip.au_intensity[clip.frames != 2], want.au_intensity[whole])
    check([clips["jh043t1aaaff"]], [e for e in expected if e.key != KEY])


def test_missing_pictures_keep_their_frame_and_are_named(copy) -> None:
    root, expected = copy
    (root / IMAGES / f"{KEY}002.png").unlink()
    shutil.rmtree(root / "Images" / "Images" / "043-jh043")
    reader = UNBC(root)
    clips = reader.clips()
    check(clips, [e for e in expected if e.key == KEY])
    lost = [problem for _, _, problem in reader.pictures(clips[0]) if problem]
    assert [p.frames for p in lost] == ["2"] and lost[0].file == f"{IMAGES}/{KEY}002.png"
    assert [(p.clip, p.frames) for p in reader.problems] == [("jh043t1aaaff", "1-3")]


def test_shipped_landmarks(copy) -> None:
    root = copy[0]
    reader = UNBC(root)
    clips = {clip.key: clip for clip in reader.clips()}
    keep = [i for i in range(68) if i not in (60, 64)]
    for number, key in enumerate((KEY, "jh043t1aaaff")):
        points = reader.own_landmarks(clips[key])
        for row in (0, 1):
            truth = in_frame(people(2, 3).landmarks[number * 3 + row].numpy())
            assert np.allclose(points[row, keep], truth[keep], atol=1e-3)
        assert np.isnan(points[:, [60, 64]]).all() and np.isnan(points[2]).all(), "the third file is empty"
    assert reader.problems == []
    lines = (root / MARKS).read_text().splitlines()
    (root / MARKS).write_text("\n".join(lines[:9] + ["??"] + lines[10:]))
    points = reader.own_landmarks(clips[KEY])
    assert np.isnan(points[1]).all() and np.isfinite(points[0, keep]).all()
    assert any(p.file == MARKS and p.line == 10 for p in reader.problems)


def test_case_nested_folders_and_brackets_do_not_matter(copy) -> None:
    root, expected = copy
    (root / "Frame_Labels/Frame_Labels/FACS/042-ll042").rename(root / "Frame_Labels/Frame_Labels/FACS/042-LL042")
    path = root / "Images/Images/043-jh043"
    path.rename(path.with_name("moved"))
    path.mkdir()
    path.with_name("moved").rename(path / path.name)
    (path / path.name / "jh043t1aaaff (copy").mkdir()
    check(UNBC(root).clips(), expected)


def test_a_label_file_of_another_sequence_is_named(copy) -> None:
    (copy[0] / FACS).rename((copy[0] / FACS).with_name(f"{KEY}{'9' * 20}_facs.txt"))
    reader = UNBC(copy[0])
    reader.clips()
    assert any("99999_facs.txt" in p.file and p.clip == KEY for p in reader.problems)


def test_landmarks_that_are_not_there_are_said(copy) -> None:
    reader = UNBC(copy[0])
    clip = next(clip for clip in reader.clips() if clip.key == KEY)
    (copy[0] / MARKS).unlink()
    assert np.isnan(reader.own_landmarks(clip)[1]).all()
    assert [(p.clip, p.frames) for p in reader.problems] == [(KEY, "2")]
    shutil.rmtree(copy[0] / "AAM_landmarks")
    with pytest.raises(FileNotFoundError, match=r"unpack AAM_landmarks\.zip"):
        UNBC(copy[0]).own_landmarks(clip)


def test_the_layout_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"UNBC-McMaster: no Images folder .* unpack Images\.zip"):
        UNBC(tmp_path).clips()
