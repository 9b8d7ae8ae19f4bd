"""BP4D in both layouts and BP4D+: what the look-alikes write is what the readers say."""

from pathlib import Path

import numpy as np
import pytest

from data_modules.bp4d import BP4D
from data_modules.bp4d_plus import BP4DPlus
from lit_faces.core.facs import AU_INDEX
from tests.fake import bp4d as fake
from tests.fake.faces import check, framed, people


@pytest.mark.parametrize("layout", ["full", "fera", "plus"])
def test_labels_are_exactly_those_that_were_written(tmp_path: Path, layout: str) -> None:
    expected = fake.write(tmp_path, layout=layout)
    reader = (BP4DPlus if layout == "plus" else BP4D)(tmp_path)
    clips = reader.clips()
    check(clips, expected)
    assert reader.problems == []
    for number, clip in enumerate(clips):
        order = ("F001", "M009", "F013").index(clip.key[:4])
        for row, picture, problem in reader.pictures(clip):
            assert problem is None
            truth = framed(people(3, 8).image[order * 8 + row])
            assert np.abs(picture.astype(int) - truth).mean() < 6, (number, row)


def test_offset_auto_follows_picture_zero_and_is_logged(tmp_path: Path) -> None:
    fake.write(tmp_path)
    task = tmp_path / "Sequences(2D+3D)" / "Sequences(2D+3D)" / "F001" / "T1"
    (task / "0000.jpg").write_bytes((task / "0001.jpg").read_bytes())
    by_key = {}
    for offset in ("0", "auto", "-1"):
        reader = BP4D(tmp_path, frame_offset=offset)
        by_key[offset] = {clip.key: clip for clip in reader.clips()}
        assert any(f"frame_offset {offset}" in choice for choice in reader.choices)
    assert by_key["0"]["F001_T1"].pictures[0].name == "0001.jpg"
    assert by_key["auto"]["F001_T1"].pictures[0].name == "0000.jpg"
    assert by_key["auto"]["M009_T3"].pictures[0].name == "005.jpg"
    assert by_key["-1"]["M009_T3"].pictures[1].name == "005.jpg"


def test_shipped_landmarks(tmp_path: Path) -> None:
    fake.write(tmp_path)
    reader = BP4D(tmp_path)
    clips = {clip.key: clip for clip in reader.clips()}
    keep = [i for i in range(17, 68) if i not in (60, 64)]
    for number, key in enumerate(("F001_T1", "M009_T3")):
        points = reader.own_landmarks(clips[key])
        assert np.isnan(points[2]).all(), "an empty cell"
        for row in (0, 1, 3, 7):
            truth = fake.in_frame(people(3, 8).landmarks[number * 8 + row].numpy())
            assert np.allclose(points[row, keep], truth[keep], atol=1e-3)
    (tmp_path / "2DFeatures" / "F001_T1.mat").write_bytes(b"nothing")
    assert np.isnan(reader.own_landmarks(clips["F001_T1"])).all()
    assert "F001_T1.mat" in reader.problems[-1].file


def test_bad_frames_are_dropped_when_asked(tmp_path: Path) -> None:
    fake.write(tmp_path)
    codes = tmp_path / "AUCoding" / "AU_OCC"
    rows = (codes / "M009_T3.csv").read_text().splitlines()
    lines = [rows[0]] + [f"{frame}," + rows[1].partition(",")[2] for frame in range(747, 763)]
    (codes / "M009_T4.csv").write_text("\n".join(lines))
    keep = {clip.key: clip for clip in BP4D(tmp_path, bad_frames="drop").clips()}
    task = tmp_path / "Sequences(2D+3D)" / "Sequences(2D+3D)" / "M009" / "T4"
    assert "M009_T4" not in keep, "no pictures"
    task.mkdir()
    clips = {clip.key: clip for clip in BP4D(tmp_path, bad_frames="drop").clips()}
    assert clips["M009_T4"].frames.tolist() == [747, 748, 754, 761, 762]


@pytest.mark.parametrize(
    ("name", "content", "says", "line"),
    [
        ("AU_OCC/F001_T1.csv", "", "no rows", 0),
        ("AU_OCC/F001_T1.csv", "a,b\n1,2\n", "line 1 names no AU", 1),
        ("AU_OCC/F001_T1.csv", "0,1,2\n1,0,1\n2,0\n3,0,4\nx,0,0\n", "found '2,0' (and 2 more lines)", 3),
        ("AU_INT/AU06/F001_T1_AU06.csv", "1,0\n2,17\n", "expected a frame and 0..5, found 2 and 17", 2),
        ("AU_INT/AU06/F001_T1_AU06.csv", "1,0\n2,1\n", "AU6 has no intensity in 6 frames", 0),
    ],
)
def test_broken_tables_are_named(tmp_path: Path, name: str, content: str, says: str, line: int) -> None:
    expected = fake.write(tmp_path)
    (tmp_path / "AUCoding" / name).write_text(content)
    reader = BP4D(tmp_path)
    clips = [clip for clip in reader.clips() if clip.key != "F001_T1"]
    check(clips, [e for e in expected if e.key != "F001_T1"])
    assert any(p.file == f"AUCoding/{name}" and says in p.reason and p.line == line for p in reader.problems)


def test_missing_pictures_are_named_one_by_one_and_missing_folders_whole(tmp_path: Path) -> None:
    fake.write(tmp_path)
    task = tmp_path / "Sequences(2D+3D)" / "Sequences(2D+3D)" / "F001" / "T1"
    (task / "0003.jpg").unlink()
    (task / "0004.jpg").write_bytes((task / "0004.jpg").read_bytes()[:900])
    reader = BP4D(tmp_path)
    clip = next(clip for clip in reader.clips() if clip.key == "F001_T1")
    problems = {problem.frames: problem for _, _, problem in reader.pictures(clip) if problem}
    assert "missing" in problems["3"].reason and "0003.jpg" in problems["3"].file
    assert "cut short" in problems["4"].reason and "0004.jpg" in problems["4"].file
    assert sorted(problems) == ["3", "4"]
    for path in task.iterdir():
        path.unlink()
    task.rmdir()
    reader = BP4D(tmp_path)
    assert "F001_T1" not in [clip.key for clip in reader.clips()]
    assert any("no pictures of F001_T1" in p.reason and p.frames == "1-8" for p in reader.problems)


def test_sequences_without_codes_are_named(tmp_path: Path) -> None:
    fake.write(tmp_path)
    (tmp_path / "AUCoding" / "AU_OCC" / "F001_T1.csv").unlink()
    reader = BP4D(tmp_path)
    assert [clip.key for clip in reader.clips()] == ["F013_T2", "M009_T3"]
    said = " ".join(problem.reason for problem in reader.problems)
    assert "no AU codes for F001_T1" in said and "intensities of F001_T1, but no occurrence file" in said


def test_the_odd_sequence_of_bp4d_plus_is_left_out_and_that_is_logged(tmp_path: Path) -> None:
    fake.write(tmp_path, layout="plus")
    reader = BP4DPlus(tmp_path)
    assert "F041_T7" not in [clip.key for clip in reader.clips()]
    assert any("F041_T7 is left out" in choice for choice in reader.choices)
    reader = BP4DPlus(tmp_path, odd_sequences="keep")
    reader.clips()
    assert any(problem.clip == "F041_T7" for problem in reader.problems)


def test_no_layout(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no AU codes"):
        BP4D(tmp_path).clips()
    fake.write(tmp_path)
    assert AU_INDEX[6] == 4
