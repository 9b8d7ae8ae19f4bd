"""A long clip: two people who cross, a cut, nobody, a rate that varies, a phone's rotation; right rows, ids and times."""

import csv
import os

import clips
import pytest

from lit_faces.predict import main


@pytest.mark.skipif("LIT_FACES_LONG" not in os.environ, reason="a minute and more: set LIT_FACES_LONG=1")
def test_a_thousand_frames(people, tmp_path):
    """Crossing 400 frames, a cut to person 1 alone 200, nobody 150, person 0 again 250; lying, with a matrix to turn."""
    frames = clips.crossing(people, 400)
    frames += [clips.stage([(people[1, 0], 160)], wall=240)] * 200
    frames += [clips.stage([], wall=240)] * 150 + [clips.stage([(people[0, 5], 200)], wall=240)] * 250
    times = [k / 25 for k in range(500)] + [20 + k / 12 for k in range(500)]
    clips.write(tmp_path / "long.webm", frames, times)
    clips.write_turned(tmp_path / "turned.mp4", frames[:400:40] + frames[400::60])
    assert main([str(tmp_path / "long.webm"), "--out", str(tmp_path / "aus.csv")]) == 0
    with (tmp_path / "aus.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    by_frame = [[row for row in rows if int(row["frame"]) == k] for k in range(1000)]
    assert [float(found[0]["timestamp"]) for found in by_frame] == pytest.approx(times, abs=2e-3)
    ids = [sorted(row["face_id"] for row in found if row["success"] == "1") for found in by_frame]
    left = min(by_frame[0], key=lambda row: float(row["crop_x"]))["face_id"]
    other = "1" if left == "0" else "0"
    right = max(by_frame[399], key=lambda row: float(row["crop_x"]))["face_id"]
    assert ids[0] == ids[399] == ["0", "1"] and right == left, "who was left is right, and has kept the id"
    assert sum(found == ["0", "1"] for found in ids[:400]) > 280, (
        "both but where one hides the other, a quarter of the way"
    )
    assert all(found == [other] for found in ids[402:600]) and all(found == [] for found in ids[604:750])
    assert all(found == [left] for found in ids[754:])
    assert main([str(tmp_path / "turned.mp4"), "--out", str(tmp_path / "turned.csv")]) == 0
    with (tmp_path / "turned.csv").open(newline="") as handle:
        turned = list(csv.DictReader(handle))
    assert turned[0]["width"] == str(clips.WIDE) and sum(row["success"] == "1" for row in turned) >= 20
