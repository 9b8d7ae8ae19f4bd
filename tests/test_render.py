"""python -m lit_faces.render, as typed."""

import csv
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image

from lit_faces.core.files import locked
from lit_faces.render import main
from lit_faces.rendering.renderer import FaceRenderer
from tests.core.test_files import files_of_at_most


def test_set_writes_png_and_labels_and_resumes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["set", "--out", str(tmp_path / "a"), "--size", "64", "--seed", "7"]
    assert main([*arguments, "--n", "70", "--frames-per-subject", "2"]) == 0
    rows = list(csv.DictReader((tmp_path / "a" / "labels.csv").open()))
    assert len(rows) == 70 and len(list((tmp_path / "a" / "images").iterdir())) == 70
    assert list(rows[0])[:3] == ["file", "subject", "au1"] and "au43" in rows[0] and list(rows[0])[-1] == "y67"
    assert Image.open(tmp_path / "a" / rows[3]["file"]).size == (64, 64)
    assert rows[0]["subject"] == rows[1]["subject"] != rows[2]["subject"]
    before = (tmp_path / "a" / "labels.csv").read_bytes()
    picture = (tmp_path / "a" / "images" / "000069.png").read_bytes()
    # cut after the first 64, as a kill would leave it
    (tmp_path / "a" / "labels.csv").write_bytes(b"".join(before.splitlines(keepends=True)[:65]))
    (tmp_path / "a" / "images" / "000069.png").unlink()
    assert main([*arguments, "--n", "70", "--frames-per-subject", "2"]) == 0
    assert (tmp_path / "a" / "labels.csv").read_bytes() == before
    assert (tmp_path / "a" / "images" / "000069.png").read_bytes() == picture


def test_shards_hold_png_and_csv(tmp_path: Path) -> None:
    import tarfile

    assert main(["set", "--out", str(tmp_path), "--size", "64", "--n", "3", "--format", "shards"]) == 0
    with tarfile.open(tmp_path / "shard-00000.tar") as tar:
        assert tar.getnames() == ["000000.png", "000000.csv", "000001.png", "000001.csv", "000002.png", "000002.csv"]


def test_foreign_labels_are_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "labels.csv").write_text("file,happy\na.png,1\n")
    assert main(["set", "--out", str(tmp_path), "--size", "64", "--n", "1"]) == 2
    assert "labels.csv" in capsys.readouterr().err
    assert (tmp_path / "labels.csv").read_text().startswith("file,happy")


@pytest.mark.parametrize(
    ("extra", "word"),
    [(["--head", "ict:nowhere.npz"], "ICT-FaceKit"), (["--size", "100"], "multiple of 8"), (["--n", "0"], "--n")],
)
def test_bad_arguments_are_clear(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], extra: list[str], word: str
) -> None:
    assert main(["set", "--out", str(tmp_path), "--n", "1", *extra]) == 2
    assert word in capsys.readouterr().err


def test_sheets_are_drawn(tmp_path: Path) -> None:
    assert main(["sheet", "--out", str(tmp_path), "--size", "64", "--people", "1"]) == 0
    assert {p.name for p in tmp_path.iterdir()} == {"crowd.png", "identities_x_aus.png", "au_sweeps.png", "poses.png"}


def test_a_person_has_a_photo_and_labelled_frames(tmp_path: Path) -> None:
    assert main(["person", "--out", str(tmp_path), "--size", "64", "--n", "3", "--seed", "5"]) == 0
    rows = list(csv.DictReader((tmp_path / "labelled" / "labels.csv").open()))
    assert len(rows) == 3 and len({row["subject"] for row in rows}) == 1
    assert Image.open(tmp_path / "photo.png").size == (128, 128)
    assert (tmp_path / "clip.webm").stat().st_size > 1000


def test_a_set_has_one_writer_and_one_kind_of_settings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["set", "--out", str(tmp_path), "--size", "64", "--n", "2"]
    with locked(tmp_path, "somebody"), ThreadPoolExecutor(1) as another:
        assert another.submit(main, arguments).result() == 2
    assert "another process is at work there (somebody, process" in capsys.readouterr().err
    assert main(arguments) == 0
    before = (tmp_path / "labels.csv").read_bytes()
    assert main([*arguments, "--seed", "8"]) == 2
    assert "settings.json: this set was begun with seed = 0, asked is 8" in capsys.readouterr().err
    assert (tmp_path / "labels.csv").read_bytes() == before


@pytest.mark.parametrize("form", ["folder", "shards"])
def test_somebody_elses_files_are_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str], form: str) -> None:
    mine = tmp_path / ("images/000000.png" if form == "folder" else "shard-00000.tar")
    mine.parent.mkdir(exist_ok=True)
    mine.write_text("mine")
    assert main(["set", "--out", str(tmp_path), "--size", "64", "--n", "1", "--format", form]) == 2
    assert "not of a rendered set" in capsys.readouterr().err and mine.read_text() == "mine"


def test_a_full_disk_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with files_of_at_most(2_000):
        assert main(["set", "--out", str(tmp_path), "--size", "64", "--n", "1"]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "error:" in line]
    assert "000000.png: the file would be larger" in line
    assert [path.name for path in (tmp_path / "images").iterdir()] == []
    (tmp_path / "file").write_text("")
    assert main(["sheet", "--out", str(tmp_path / "file" / "x"), "--size", "64", "--people", "1"]) == 2


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_says_how_to_go_on(tmp_path: Path, capsys, monkeypatch, sent: signal.Signals, code: int) -> None:
    arguments = ["set", "--out", str(tmp_path), "--size", "64", "--n", "70", "--format", "folder"]
    real = FaceRenderer.render

    def render(self, subjects, *more):
        if int(subjects[0]) >= 64:
            os.kill(os.getpid(), sent)
        return real(self, subjects, *more)

    monkeypatch.setattr(FaceRenderer, "render", render)
    assert main(arguments) == code
    assert "run the same command again: what is whole is kept" in capsys.readouterr().err
    assert len((tmp_path / "labels.csv").read_text().splitlines()) == 65
    monkeypatch.undo()
    assert main(arguments) == 0 and len((tmp_path / "labels.csv").read_text().splitlines()) == 71
