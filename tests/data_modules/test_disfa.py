"""DISFA: what the look-alike writes is what the reader says; what is broken is named."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from data_modules.disfa import DISFA
from lit_faces.core.facs import AU_INDEX
from tests.fake import disfa as fake
from tests.fake.faces import check, framed, people


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory):
    root = tmp_path_factory.mktemp("disfa")
    return root, fake.write(root)


@pytest.fixture
def copy(original, tmp_path: Path):
    return Path(shutil.copytree(original[0], tmp_path / "DISFA")), original[1]


def test_labels_are_exactly_those_that_were_written(copy) -> None:
    reader = DISFA(copy[0])
    check(reader.clips(), copy[1])
    assert reader.problems == []
    clip = reader.clips()[0]
    assert np.isnan(clip.au_intensity[2, AU_INDEX[17]]), "code 9 is not coded"
    assert np.isnan(clip.au_intensity[:, AU_INDEX[14]]).all(), "DISFA does not code AU14"


@pytest.mark.parametrize("camera", ["left", "right"])
def test_the_frame_of_a_label_is_the_picture_before_it(copy, camera: str) -> None:
    reader = DISFA(copy[0], camera=camera)
    clip = reader.clips()[1]  # SN010: 11 labels, 12 pictures
    faces = people(2, 12)
    found = [picture for _, picture, _ in reader.pictures(clip)]
    assert len(found) == 11
    for position in (0, 4, 10):
        row = 12 + (position if camera == "left" else 11 - position)
        assert np.abs(found[position].astype(int) - framed(faces.image[row])).mean() < 8, "lossy codec, same picture"


def test_a_part_of_a_video_is_decoded_alike(copy) -> None:
    reader = DISFA(copy[0])
    clip = reader.clips()[0]
    whole = [picture for _, picture, _ in reader.pictures(clip)]
    part = [picture for _, picture, _ in reader.pictures(clip.select(slice(5, 9)))]
    assert all(np.array_equal(a, b) for a, b in zip(whole[5:9], part, strict=True))


def test_shipped_landmarks_of_both_file_families(copy) -> None:
    reader = DISFA(copy[0])
    for clip, number in zip(reader.clips(), (0, 1)):
        points = reader.own_landmarks(clip)
        keep = [i for i in range(68) if i not in (60, 64)]
        for row in range(len(clip)):
            truth = fake.in_frame(people(2, 12).landmarks[number * 12 + row].numpy())
            assert np.allclose(points[row, keep], truth[keep], atol=1e-3)
        assert np.isnan(points[:, [60, 64]]).all()
    with pytest.raises(ValueError, match="left camera"):
        DISFA(copy[0], camera="right").own_landmarks(clip)


def test_bad_frames_are_dropped_when_asked(tmp_path: Path) -> None:
    fake.write(tmp_path, frames=3, names=("SN001",))
    folder = tmp_path / "ActionUnit_Labels" / "ActionUnit_Labels" / "SN001"
    for path in folder.glob("*.txt"):
        path.write_text("".join(f"{frame},0\n" for frame in range(396, 423)))
    assert len(DISFA(tmp_path).clips()[0]) == 27
    assert DISFA(tmp_path, bad_frames="drop").clips()[0].frames.tolist() == [396, 397, 421, 422]


def damage(root: Path, what: str) -> Path:
    """Break one file; returns which."""
    labels = root / "ActionUnit_Labels" / "ActionUnit_Labels" / "SN001" / "SN001_au6.txt"
    if what == "missing":
        labels.unlink()
    elif what == "binary":
        labels.write_bytes(bytes(range(256)) * 4)
    elif what == "empty":
        labels.write_text("")
    elif what == "folder":
        labels.unlink()
        labels.mkdir()
    elif what == "value":
        labels.write_text(labels.read_text().replace("4,", "4,7777", 1))
    elif what == "cut":
        labels.write_text("\n".join(labels.read_text().splitlines()[:6]) + "\n7")
    elif what == "twice":
        labels.write_text(labels.read_text() + "5,0\n")
    return labels


@pytest.mark.parametrize(
    ("what", "says", "line"),
    [
        ("missing", "missing", 0), ("binary", "expected frame,intensity", 1), ("empty", "empty", 0),
        ("folder", "cannot be read", 0), ("value", "expected a frame and 0..5", 4), ("cut", "found '7'", 7),
        ("twice", "frame 5 stands twice", 13),
    ],
)  # fmt: skip
def test_a_broken_label_file_is_named_and_costs_its_own_labels_only(copy, what: str, says: str, line: int) -> None:
    path = damage(copy[0], what)
    reader = DISFA(copy[0])
    clips = {clip.key: clip for clip in reader.clips()}
    named = [p for p in reader.problems if p.file == str(path.relative_to(copy[0])) and says in p.reason]
    assert named and named[0].line == line
    assert len(clips["SN001"]) == 12
    expected = {e.key: e for e in copy[1]}
    other = [column for au, column in AU_INDEX.items() if au != 6]
    np.testing.assert_array_equal(clips["SN001"].au_intensity[:, other], expected["SN001"].au_intensity[:, other])
    np.testing.assert_array_equal(clips["SN010"].au_intensity, expected["SN010"].au_intensity)


def test_lost_rows_are_listed(copy) -> None:
    damage(copy[0], "cut")
    reader = DISFA(copy[0])
    reader.clips()
    assert any(p.frames == "7-12" and "AU6 is not coded in 6 frames" in p.reason for p in reader.problems)


def test_missing_and_broken_videos_are_named(copy) -> None:
    left = copy[0] / "Videos_LeftCamera"
    (left / "LeftVideoSN010_comp.avi").unlink()
    video = left / "LeftVideoSN001_comp.avi"
    video.write_bytes(video.read_bytes()[: video.stat().st_size // 2])
    reader = DISFA(copy[0])
    clips = reader.clips()
    assert [clip.key for clip in clips] == ["SN001"]
    assert any("LeftVideoSN010" in p.file and p.frames == "1-11" for p in reader.problems)
    shown = list(reader.pictures(clips[0]))
    assert [row for row, _, _ in shown] == list(range(12))
    lost = [problem for _, _, problem in shown if problem]
    good = sum(picture is not None for _, picture, _ in shown)
    assert 0 < good < 12 and len(lost) == 1 and lost[0].frames == f"{good + 1}-12" and "ends after" in lost[0].reason


def test_the_layout_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"unpack ActionUnit_Labels\.zip"):
        DISFA(tmp_path).clips()
    with pytest.raises(FileNotFoundError, match="no such folder"):
        DISFA(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="camera: expected one of left, right"):
        DISFA(tmp_path, camera="middle")
