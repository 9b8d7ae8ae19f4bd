"""Tables as OpenFace, py-feat and Parquet have them; the person's zero."""

import csv
import json
from dataclasses import replace

import numpy as np
import pyarrow.parquet as parquet
import pytest

from lit_faces.core.facs import AU_INDEX, AU_KEYS, NUM_AUS
from lit_faces.reading.formats import write_table
from lit_faces.reading.rows import FaceRow, cells, columns, from_cells
from lit_faces.reading.zero import RestingEstimate, take_off, zero_of_file


def face(frame=0, person=0, level=2.0, margin=0.9):
    row = FaceRow("a.mp4", frame, frame / 25, 640, 360, person, 1.2, (10, 20, 100, 100))
    row.landmarks, row.crop = np.arange(136, dtype=np.float32).reshape(68, 2), (60.0, 70.0, 150.0)
    row.pose = np.array([5, -3, 1], np.float32)
    row.intensity = np.full(NUM_AUS, level, np.float32)
    row.present = (row.intensity >= 2).astype(np.float32)
    row.expression = np.full(8, (1 - margin) / 7, np.float32)
    row.expression[1] = margin
    return row


ROWS = [face(), face(0, 1, 0.5), FaceRow("a.mp4", 1, 0.04, 640, 360), face(2, 0, 4.0, 0.2)]


def read(path):
    with path.open(newline="") as handle:
        return list(csv.DictReader(handle))


def test_an_openface_user_s_script_finds_its_columns(tmp_path):
    found = read(write_table(tmp_path / "a.csv", ROWS, "openface", False))
    assert [row["frame"] for row in found] == ["1", "1", "2", "3"] and found[3]["timestamp"] == "0.080"
    assert [row["AU06_r"] for row in found if int(row["success"])] == ["2.00", "0.50", "4.00"]
    assert found[2]["AU45_c"] == "0.00" and float(found[2]["confidence"]) == 0 and found[0]["face_id"] == "0"
    assert "AU28_c" not in found[0] and {"pose_Rx", "AU45_r", "AU24_c"} <= set(found[0])
    spaced = write_table(tmp_path / "b.csv", ROWS, "openface-2.0", True).read_text().splitlines()[0]
    assert " AU06_r" in spaced.split(",") and " x_0" in spaced.split(",")


def test_a_fex_has_py_feat_s_columns_and_scale(tmp_path):
    found = read(write_table(tmp_path / "a.csv", ROWS, "fex", False))
    assert float(found[0]["AU12"]) == pytest.approx(0.4) and found[0]["FaceRectWidth"] == "100"
    assert found[2]["AU12"] == "" and found[0]["y_1"] == "3.00" and found[1]["Identity"] == "Person_1"
    assert np.degrees([float(found[0][name]) for name in ("Pitch", "Roll", "Yaw")]) == pytest.approx(
        [-3, 1, 5], abs=0.01
    )


def test_py_feat_s_reader_finds_what_it_needs(tmp_path):
    """The columns that feat.utils.io.read_feat of py-feat 2.1.5 asks for (feat/utils/__init__.py), of Detectorv1."""
    names = list(read(write_table(tmp_path / "a.csv", ROWS, "fex", False))[0])
    needed = ["FaceRectX", "FaceRectY", "FaceRectWidth", "FaceRectHeight", "FaceScore"]
    needed += ["anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral"]
    needed += [f"{axis}_{k}" for axis in "xy" for k in range(68)]
    needed += ["Pitch", "Roll", "Yaw", "X", "Y", "Z", "frame", "input", "Identity"]
    assert set(needed) <= set(names) and {name for name in names if "AU" in name} == set(AU_KEYS)
    assert not {"valence", "arousal"} & set(names), "with these it would be taken for a Detectorv2's"


def test_parquet_is_typed(tmp_path):
    table = parquet.read_table(write_table(tmp_path / "a.parquet", iter(ROWS), "parquet", True))
    assert table.num_rows == 4 and table["AU12"].to_pylist() == [2.0, 0.5, None, 4.0]
    assert table["success"].to_pylist() == [True, True, False, True] and table["y_1"][0].as_py() == 3.0


def test_rows_come_back_from_the_own_table():
    for row in ROWS:
        cell = {name: "" if value is None else str(value) for name, value in zip(columns(True), cells(row, True))}
        again = from_cells(cell)
        assert (again.frame, again.person, again.width) == (row.frame, row.person, row.width)
        assert np.array_equal(again.intensity, row.intensity, equal_nan=True)
        assert again.confidence == pytest.approx(row.confidence, abs=1e-4)
        assert np.array_equal(again.landmarks, row.landmarks, equal_nan=True)


def test_an_expression_without_a_margin_is_uncertain():
    assert [row.emotion for row in ROWS] == ["happiness", "happiness", "", "uncertain"]


def test_the_zero_of_a_clip_is_the_low_end_of_each_person():
    rng = np.random.default_rng(0)
    rows = []
    for frame in range(200):
        for person, rest in ((0, 1.0), (1, 0.2)):
            row = face(frame, person, rest)
            row.intensity += np.where(frame % 2, rng.uniform(0, 3), 0.0).astype(np.float32)
            rows.append(row)
    rows += [face(201, 2)]
    zeros = RestingEstimate().add(rows).zeros()
    assert zeros.people[0] == pytest.approx(1.0, abs=0.02) and zeros.people[1] == pytest.approx(0.2, abs=0.02)
    assert 2 not in zeros.people and "face 2" in zeros.notes[0]
    assert zeros.of(rows[0]).intensity == pytest.approx(0.0, abs=0.02)
    assert zeros.facts()["kind"] == "auto" and "percentile 10" in zeros.facts()["rule"]


def test_what_the_zero_leaves_nothing_of_is_not_present():
    zero = np.zeros(NUM_AUS, np.float32)
    zero[AU_INDEX[6]] = 1.5
    left = take_off(face(), zero)
    assert left.intensity[AU_INDEX[6]] == 0.5 and left.present[AU_INDEX[6]] == 0
    assert left.present[AU_INDEX[12]] == 1 and face().present[AU_INDEX[6]] == 1


def test_a_zero_file_that_is_none_is_refused(tmp_path):
    path = tmp_path / "zero.json"
    path.write_text(json.dumps({"zero": {"AU06": 0.75}}))
    assert zero_of_file(path)[AU_INDEX[6]] == 0.75
    for text, message in (("{", "no JSON"), ("{}", "by AU"), ('{"AU06": 9}', "AU06: expected a number from 0 to 5")):
        path.write_text(text)
        with pytest.raises(ValueError, match=rf"zero\.json: .*{message}"):
            zero_of_file(path)


def test_a_resting_estimate_of_a_detector_that_lacks_aus() -> None:
    intensity = np.full(19, np.nan, np.float32)
    intensity[AU_KEYS.index("AU12")] = 1.5
    rows = [replace(face(k, 0), intensity=intensity) for k in range(30)]
    zero = RestingEstimate().add(rows).zeros().people[0]
    assert zero[AU_KEYS.index("AU12")] == pytest.approx(1.5) and np.delete(zero, AU_KEYS.index("AU12")).max() == 0
