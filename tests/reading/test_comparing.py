"""Tables of other tools beside ours, against labels."""

import json

import numpy as np
import pytest

from lit_faces.core.facs import NUM_AUS
from lit_faces.evaluate import main
from lit_faces.reading.foreign import read_readings
from lit_faces.reading.formats import write_table
from lit_faces.reading.rows import FaceRow


def rows(count=12, off=0.0):
    found = []
    for frame in range(count):
        row = FaceRow("clip.mp4", frame, frame / 25, 640, 360, 0, 1.5, (10, 10, 90, 90), crop=(50.0, 50.0, 130.0))
        row.pose = np.zeros(3, np.float32)
        row.intensity = np.full(NUM_AUS, (frame % 5) + off * (frame % 2), np.float32)
        row.present = (row.intensity >= 2).astype(np.float32)
        row.expression = np.full(8, 0.125, np.float32)
        found.append(row)
    return found


@pytest.fixture
def labels(tmp_path):
    lines = [f"clip.mp4,{frame},s{frame % 2},{frame % 5},{frame % 5}" for frame in range(12)]
    path = tmp_path / "labels.csv"
    path.write_text("\n".join(["file,frame,subject,AU06_r,au12", *lines]) + "\n")
    return path


@pytest.mark.parametrize(("kind", "tool"), [("csv", "lit_faces"), ("openface", "OpenFace"), ("fex", "py-feat")])
def test_a_perfect_tool_is_perfect_in_every_format(tmp_path, labels, kind, tool):
    path = write_table(tmp_path / "a.csv", rows(), kind, False)
    out = tmp_path / "out"
    assert main(["--readings", str(path), "--labels", str(labels), "--out", str(out), "--resamples", "0"]) == 0
    figures = json.loads((out / "results.json").read_text())
    assert figures[f"{tool}/icc/AU06"] == pytest.approx(1, abs=1e-3) and figures[f"{tool}/faces"] == 12
    assert figures[f"{tool}/icc/AU04"] is None, "not labelled"
    assert (out / tool / "calibration.png").stat().st_size > 100


def test_tools_stand_side_by_side(tmp_path, labels, capsys):
    good = write_table(tmp_path / "good.csv", rows(), "csv", False)
    lost = [*rows(off=-1.0)[1:10], FaceRow("clip.mp4", 10, 0.4, 640, 360)]
    bad = write_table(tmp_path / "bad.csv", [row for row in lost if row.intensity[0] != -1], "openface-2.0", False)
    assert main(["--readings", str(good), str(bad), "--labels", str(labels.parent), "--resamples", "0"]) == 0
    said = capsys.readouterr()
    head = next(line for line in said.out.splitlines() if line.startswith("| AU |"))
    assert "lit_faces: ICC(3,1) | OpenFace: ICC(3,1)" in head
    line = next(line for line in said.out.splitlines() if line.startswith("| AU06"))
    ours, theirs = (float(cell) for cell in line.split("|")[2:4])
    assert ours == 1 and theirs < 0.95 and "no reading for" in said.err


def test_labels_of_one_video_need_not_name_its_file(tmp_path, capsys):
    path, labels = tmp_path / "a.csv", tmp_path / "labels.csv"
    write_table(path, rows(), "csv", False)
    labels.write_text("frame,AU06\n" + "".join(f"{frame},{frame % 5}\n" for frame in range(12)))
    assert main(["--readings", str(path), "--labels", str(labels), "--resamples", "0"]) == 0
    assert "| AU06 | 1.00 | 0.00 |" in capsys.readouterr().out
    labels.write_text("AU06\n1\n")
    assert main(["--readings", str(path), "--labels", str(labels), "--resamples", "0"]) == 2
    assert "there is no column 'file'" in capsys.readouterr().err


def test_openface_s_blink_is_our_closed_eyes_and_frames_count_from_one(tmp_path):
    path = tmp_path / "of.csv"
    path.write_text(
        "frame, face_id, timestamp, confidence, success, AU06_r, AU45_r, AU45_c\n1, 0, 0, .9, 1, 2.5, 1, 1\n"
    )
    found = read_readings(path)
    assert found.keys == [("", 0)] and found.intensity[0, -1] == 1 and found.present[0, -1] == 1
    assert found.intensity[0, 4] == 2.5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", "not those of a table that lit_faces, OpenFace or py-feat wrote"),
        ("frame,success,AU06_r\n1,1,x\n", "line 2: expected a number"),
        ("frame,success,AU06_r\n1,1,9\n", "line 2: column 3: expected 0..5"),
        ("frame,success,AU06_r\n900,1,2\n", "none of its 1 rows meets a label"),
    ],
)
def test_what_cannot_be_compared_is_said(tmp_path, labels, capsys, text, message):
    path = tmp_path / "x.csv"
    path.write_text(text)
    assert main(["--readings", str(path), "--labels", str(labels)]) == 2
    assert "x.csv" in (said := capsys.readouterr().err) and message in said


def test_half_of_it_is_not_enough(tmp_path, labels, capsys):
    assert main(["--labels", str(labels)]) == 2 and main([]) == 2
    assert "--readings and --labels" in capsys.readouterr().err
