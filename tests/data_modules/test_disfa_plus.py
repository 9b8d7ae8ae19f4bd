"""DISFA+: labels as written beside Mac leftovers and odd cases; a broken file is named and costs its own labels only."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from data_modules.disfa_plus import DISFAPlus
from lit_faces.core.facs import AU_INDEX
from tests.fake import disfa_plus as fake
from tests.fake.faces import check

TRIAL = "DISFAPlusDataset/Labels/SN001/A1_AU1_TrailNo_1"
KEY = "SN001_A1_AU1_TrailNo_1"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory):
    root = tmp_path_factory.mktemp("disfa_plus")
    return root, fake.write(root)


@pytest.fixture
def copy(original, tmp_path: Path):
    return Path(shutil.copytree(original[0], tmp_path / "copy")), original[1]


def test_labels_are_exactly_those_that_were_written(copy) -> None:
    root, expected = copy
    labels = root / TRIAL
    (labels / "._AU1.txt").write_bytes(b"\x00\x05\x16\x07")
    (root / "__MACOSX" / "Labels" / "SN099" / "A1_AU1_TrailNo_1").mkdir(parents=True)
    (labels / "AU14.txt").write_text("a\nb\n000.jpg     5\n")  # an AU that the set does not code
    pictures = root / TRIAL.replace("Labels", "Images")
    (pictures / "001.jpg").rename(pictures / "001.JPG")
    reader = DISFAPlus(root)
    clips = reader.clips()
    check(clips, expected)
    assert [(p.clip, Path(p.file).name) for p in reader.problems] == [("SN003_A5_AU1_4b_TrailNo_1", "AU15.txt")]
    lacking = next(clip for clip in clips if clip.key.startswith("SN003"))
    assert np.isnan(lacking.au_occurrence[:, AU_INDEX[15]]).all(), "a missing AU file is not coded, never 0"
    assert all(picture is not None for clip in clips for _, picture, _ in reader.pictures(clip))


def test_labels_follow_the_name_of_the_picture_not_the_order(copy) -> None:
    root, expected = copy
    for path in (root / TRIAL).glob("AU*.txt"):
        lines = path.read_text().splitlines()
        path.write_text("\n".join(lines[:2] + lines[:1:-1]) + "\n")
    check(DISFAPlus(root).clips(), expected)


def test_the_threshold_says_what_is_present(copy) -> None:
    for clip in DISFAPlus(copy[0], threshold=1.0).clips():
        coded = ~np.isnan(clip.au_intensity)
        assert np.array_equal(clip.au_occurrence[coded], clip.au_intensity[coded] >= 1)
        assert np.isnan(clip.au_occurrence[~coded]).all()


@pytest.mark.parametrize(
    ("content", "says", "line"),
    [
        (None, "missing", 0), (b"", "no rows", 0), (Path(), "cannot be read", 0),
        (b"\x80\xff\x00\n" * 5, "expected '000.jpg 0'", 3),
        (b"a\nb\n000.jpg  1\n001.jpg  x\n002.jpg  2\n", "found '001.jpg  x'", 4),
        (b"a\nb\n" + b"9" * 25 + b".jpg  1\n000.jpg  1\n", "expected '000.jpg 0'", 3),
        (b"a\nb\n000.jpg  1\n001.jpg  7\n002.jpg  2\n", "expected a frame and 0..5, found 1 and 7", 4),
    ],
    ids=["missing", "empty", "folder", "binary", "line", "huge", "value"],
)  # fmt: skip
def test_a_broken_file_is_named_and_costs_its_own_labels_only(copy, content, says: str, line: int) -> None:
    root, expected = copy
    path = root / TRIAL / "AU6.txt"
    path.unlink()
    if isinstance(content, Path):
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    reader = DISFAPlus(root)
    clips = {clip.key: clip for clip in reader.clips()}
    named = [p for p in reader.problems if p.file == f"{TRIAL}/AU6.txt" and says in p.reason]
    assert named and named[0].line == line and named[0].clip == KEY
    others = [column for au, column in AU_INDEX.items() if au != 6]
    for want in expected:
        clip = clips[want.key]
        assert clip.frames.tolist() == want.frames
        columns = others if want.key == KEY else slice(None)
        np.testing.assert_array_equal(clip.au_intensity[:, columns], want.au_intensity[:, columns])
    assert np.isnan(clips[KEY].au_intensity[[1, 3], AU_INDEX[6]]).all(), "frames 1 and 3 lost AU6"


def test_missing_pictures_keep_their_frame_and_are_named(copy) -> None:
    root, expected = copy
    pictures = root / TRIAL.replace("Labels", "Images")
    (pictures / "001.jpg").unlink()
    (pictures / "002.jpg").write_bytes(b"")
    reader = DISFAPlus(root)
    clips = reader.clips()
    check(clips, expected)
    clip = next(clip for clip in clips if clip.key == KEY)
    problems = {problem.frames: problem for _, _, problem in reader.pictures(clip) if problem}
    assert sorted(problems) == ["1", "2"]
    assert problems["1"].file.endswith("001.jpg") and "missing" in problems["1"].reason
    assert "0 bytes" in problems["2"].reason


def test_a_trial_without_pictures_lists_its_frames(copy) -> None:
    root, _ = copy
    shutil.rmtree(root / TRIAL.replace("Labels", "Images"))
    reader = DISFAPlus(root)
    assert KEY not in [clip.key for clip in reader.clips()]
    assert [p.frames for p in reader.problems if p.clip == KEY] == ["0-3"]


def test_case_and_nested_folders_do_not_matter(copy) -> None:
    root, expected = copy
    (root / "DISFAPlusDataset/Images/SN001").rename(root / "DISFAPlusDataset/Images/sn001")
    for path in (root / TRIAL, root / "DISFAPlusDataset/Images/SN003"):
        path.rename(path.with_name("moved"))
        path.mkdir()
        path.with_name("moved").rename(path / path.name)
    check(DISFAPlus(root).clips(), expected)


def test_the_layout_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"DISFA\+: no Labels folder .* unpack Labels\.zip"):
        DISFAPlus(tmp_path).clips()
