"""The command: videos, photos and folders in, tables out; what is unusable is said in one sentence and costs nothing."""

import csv
import json
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent / "reading"))

import clips

from lit_faces.predict import main
from lit_faces.reading import pipeline, run


@pytest.fixture(scope="module")
def people():
    return clips.people()


@pytest.fixture(scope="module")
def story(people, tmp_path_factory):
    """Two who cross, then nobody, then one of them; the times vary."""
    frames = clips.crossing(people, 10) + [clips.stage([], 240)] * 4 + [clips.stage([(people[0, 5], 200)], 240)] * 5
    times = [0.05 * k for k in range(12)] + [0.6 + 0.11 * k for k in range(7)]
    return clips.write(tmp_path_factory.mktemp("story") / "story.webm", frames, times), times


def read(path):
    with path.open(newline="") as handle:
        return list(csv.DictReader(handle))


def one_sentence(capsys):
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("python -m lit_faces.predict")]
    assert len(lines) == 1 and "Traceback" not in lines[0]
    return lines[0]


@pytest.fixture(scope="module")
def table(story, tmp_path_factory):
    out = tmp_path_factory.mktemp("table") / "aus.csv"
    overlay = out.with_name("seen.mp4")
    assert main([str(story[0]), "--out", str(out), "--page", "--overlay", str(overlay)]) == 0
    return out


def test_every_frame_and_face_has_a_row_with_its_true_time(story, table):
    rows = read(table)
    by_frame = [[row for row in rows if int(row["frame"]) == k] for k in range(19)]
    assert [len(found) for found in by_frame[:3]] == [2, 2, 2] and all(len(found) == 1 for found in by_frame[10:])
    assert [float(found[0]["timestamp"]) for found in by_frame] == pytest.approx(story[1], abs=1e-3)
    empty = by_frame[11][0]
    assert empty["success"] == "0" and empty["face_id"] == empty["AU12"] == empty["box_x"] == ""
    returned = by_frame[18][0]
    smiling, resting = float(returned["AU12"]), [float(row["AU12"]) for row in by_frame[0]]
    assert smiling > 2 > max(resting) and returned["AU12_c"] == "1" and float(returned["confidence"]) > 0.5
    left = min(by_frame[0], key=lambda row: float(row["crop_x"]))
    assert returned["face_id"] == left["face_id"]
    assert not list(table.parent.glob("*.partial.*"))


def test_what_is_written_beside_the_table(table):
    said = json.loads(table.with_suffix(".json").read_text())
    assert said["frames"] == 19 and said["about"]["detector"] == "generic" and said["zero"]["kind"] == "none"
    page = table.with_suffix(".html").read_text()
    assert "Face 0" in page and "data:image/png;base64" in page
    with av.open(str(table.with_name("seen.mp4"))) as box:
        frames = list(box.decode(video=0))
    assert len(frames) == 19 and (frames[0].width, frames[0].height) == (clips.WIDE, clips.HIGH)
    assert float(frames[-1].time) == pytest.approx(1.26, abs=2e-3)


def test_a_killed_run_goes_on_and_ends_with_the_same_table(story, table, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(pipeline, "_SNAPSHOT", 4)
    out = tmp_path / "aus.csv"
    append, count = run.Partial.append, []

    def stop(self, rows):
        append(self, rows)
        count.append(rows[0].frame)
        if len(count) == 14:
            raise KeyboardInterrupt

    monkeypatch.setattr(run.Partial, "append", stop)
    assert main([str(story[0]), "--out", str(out), "--batch", "4"]) == 130
    assert "the same command goes on" in capsys.readouterr().err
    kept = read(tmp_path / "aus.partial.csv")
    assert len({row["frame"] for row in kept}) == 14 and not out.exists()
    monkeypatch.setattr(run.Partial, "append", append)
    seen = []
    monkeypatch.setattr(run, "video_shots", lambda path, after: seen.append(after) or pipeline_shots(path, after))
    assert main([str(story[0]), "--out", str(out), "--batch", "4"]) == 0
    assert seen == [11], "the frames of the last state are not read again"
    numbers = [[float(row["AU12"] or -1), float(row["timestamp"])] for row in read(out)]
    assert (
        np.abs(np.array(numbers) - [[float(r["AU12"] or -1), float(r["timestamp"])] for r in read(table)]).max() < 2e-3
    )
    assert [row["face_id"] for row in read(out)] == [row["face_id"] for row in read(table)]
    assert main([str(story[0]), "--out", str(out), "--batch", "4"]) == 0
    assert "is there already" in capsys.readouterr().out


pipeline_shots = run.video_shots


def test_a_phone_s_turned_clip_and_photos_of_a_folder(people, tmp_path, capsys):
    upright = [clips.stage([(people[0, 5], 120)])] * 3
    clips.write_turned(tmp_path / "phone.mp4", upright)
    Image.fromarray(clips.stage([(people[0, 0], 0), (people[1, 5], 300)])).save(tmp_path / "two.png")
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff no photo")
    out = tmp_path / "tables"
    assert main([str(tmp_path), "--out", str(out)]) == 1
    turned = read(out / "phone.csv")
    assert [row["success"] for row in turned] == ["1"] * 3 and turned[0]["width"] == str(clips.WIDE)
    assert abs(float(turned[0]["roll"])) < 15 and float(turned[0]["AU12"]) > 2
    photos = read(out / "photos.csv")
    assert [(row["file"], row["face_id"], row["success"]) for row in photos] == [
        ("broken.jpg", "", "0"), ("two.png", "0", "1"), ("two.png", "1", "1"),
    ]  # fmt: skip
    assert float(photos[2]["AU12"]) > 2 > float(photos[1]["AU12"])
    assert "broken.jpg: damaged or cut short" in capsys.readouterr().err


def test_shares_are_apart_and_whole(people, tmp_path):
    for number in range(3):
        Image.fromarray(clips.stage([(people[0, number], 100)])).save(tmp_path / f"{number}.png")
    for share in ("1/2", "2/2"):
        assert main([str(tmp_path), "--out", str(tmp_path / "out"), "--share", share, "--format", "openface"]) == 0
    files = [row["file"] for k in (1, 2) for row in read(tmp_path / "out" / f"photos.{k}-of-2.csv")]
    assert files == ["0.png", "2.png", "1.png"]


def test_the_zero_of_a_resting_photo_is_taken_off_its_person(people, story, table, tmp_path):
    Image.fromarray(clips.stage([(people[0, 5], 150)])).save(tmp_path / "anna.png")
    out = tmp_path / "aus.csv"
    assert main([str(story[0]), "--out", str(out), "--zero", str(tmp_path / "anna.png")]) == 0
    before, after = read(table)[-1], read(out)[-1]
    assert float(before["AU12"]) > 2 and float(after["AU12"]) < 0.5 and after["AU12_c"] == "0"
    said = json.loads(out.with_suffix(".json").read_text())["zero"]
    assert said["kind"] == "photo" and list(said["by_face"]) == [after["face_id"]]


def sound(path: Path) -> None:
    with av.open(str(path), "w") as box:
        stream = box.add_stream("aac", rate=16000)
        wave = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        wave.sample_rate = 16000
        box.mux(stream.encode(wave))
        box.mux(stream.encode())


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        ("none.mp4", lambda path: path.write_bytes(b""), "empty"),
        ("words.mp4", lambda path: path.write_bytes(b"words " * 900), "no decoder of this installation reads it"),
        ("song.mp4", sound, "or no video"),
        ("absent.mp4", lambda path: None, "no such video or photo"),
        ("folder", lambda path: path.mkdir(), "no video and no photo in it"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(tmp_path, capsys, name, make, message):
    make(tmp_path / name)
    assert main([str(tmp_path / name), "--out", str(tmp_path / "out" / "aus.csv")]) == 2
    said = one_sentence(capsys)
    assert name in said and message in said
    assert not list((tmp_path / "out").glob("*.csv*"))


@pytest.mark.parametrize("name", ["aus.csv", "aus.json"])
def test_files_of_others_are_not_replaced(people, tmp_path, capsys, name):
    Image.fromarray(clips.stage([(people[0, 0], 100)])).save(tmp_path / "a.png")
    (tmp_path / name).write_text("{}")
    assert main([str(tmp_path / "a.png"), "--out", str(tmp_path / "aus.csv")]) == 2
    assert f"{name}: is there already" in one_sentence(capsys) and (tmp_path / name).read_text() == "{}"


@pytest.mark.parametrize(
    ("source", "out", "message"),
    [
        ("https://example.org/a.mp4", "aus.csv", "an address is not read; download the file"),
        ("a.png", "aus.xlsx", "a table is .csv or .parquet"),
    ],
)
def test_what_is_no_file_of_ours_is_refused_before_anything_is_read(people, tmp_path, capsys, source, out, message):
    Image.fromarray(clips.stage([(people[0, 0], 100)])).save(tmp_path / "a.png")
    named = source if ":" in source else str(tmp_path / source)
    assert main([named, "--out", str(tmp_path / out)]) == 2
    assert message in one_sentence(capsys) and not (tmp_path / out).exists()


def test_an_absent_camera_is_one_sentence(tmp_path, capsys):
    assert main(["camera:77", "--out", str(tmp_path / "aus.csv")]) == 2
    assert "camera:77: there is no such camera" in one_sentence(capsys)


def test_a_video_without_a_face_says_so_in_every_row(tmp_path, capsys):
    clips.write(tmp_path / "wall.webm", [clips.stage([], 90)] * 5)
    assert main([str(tmp_path / "wall.webm"), "--out", str(tmp_path / "aus.csv")]) == 0
    assert "no face in any of 5 frames" in one_sentence(capsys)
    assert [row["success"] for row in read(tmp_path / "aus.csv")] == ["0"] * 5


def test_what_is_there_of_a_cut_clip_is_kept(people, tmp_path, capsys):
    frames = [clips.stage([(people[0, 0], 100 + k)]) for k in range(12)]
    whole = clips.write_jpegs(tmp_path / "cut.avi", frames)
    data = whole.read_bytes()
    whole.write_bytes(data[: len(data) * 2 // 3])
    assert main([str(whole), "--out", str(tmp_path / "aus.csv")]) == 1
    assert "cut.avi: the clip is cut short" in capsys.readouterr().err
    rows = read(tmp_path / "aus.csv")
    assert 3 < len(rows) < 12 and rows[0]["success"] == "1"


def test_a_stretch_that_cannot_be_decoded_keeps_its_rows(people, tmp_path, capsys):
    frames = [clips.stage([(people[0, 0], 100 + k)]) for k in range(9)]
    path = clips.write_jpegs(tmp_path / "holes.avi", frames)
    data = bytearray(path.read_bytes())
    starts = [k for k in range(data.find(b"movi"), len(data) - 4) if data[k : k + 4] == b"00dc"][:9]
    for number in (3, 4):
        data[starts[number] + 8 : starts[number + 1]] = bytes(starts[number + 1] - starts[number] - 8)
    path.write_bytes(bytes(data))
    assert main([str(path), "--out", str(tmp_path / "aus.csv")]) == 1
    assert "2 of 9 frames cannot be decoded" in one_sentence(capsys)
    rows = read(tmp_path / "aus.csv")
    assert [row["success"] for row in rows] == ["1"] * 3 + ["0"] * 2 + ["1"] * 4
    assert {row["face_id"] for row in rows} == {"0", ""}
