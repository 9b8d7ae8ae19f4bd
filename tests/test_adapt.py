"""python -m lit_faces.adapt, as typed: one person today, another tomorrow."""

import json
import shutil

import pytest
import torch

from lit_faces.adapt import main
from lit_faces.core.weights import load_weights
from lit_faces.rendering.renderer import FaceRenderer
from lit_faces.rendering.sets import write_folder
from lit_faces.tasks.au_detector import AUDetector, load_detector

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("adapt")
    AUDetector("aligned_face_small", size=32).export_weights(root / "small.safetensors")
    for name, seed, count, each in (
        ("anna", 1, 10, 10),
        ("ben", 200, 10, 10),
        ("crowd", 300, 12, 2),
        ("known", 400, 12, 2),
    ):
        write_folder(FaceRenderer(32, seed=seed), root / name, count, frames_per_subject=each, progress=False)
    return root


def adapt(root, person, out, *more):
    sets = ["--generic", str(root / "crowd"), "--steps", "2", "--accelerator", "cpu"]
    if "--memory" not in more:
        sets += ["--others", str(root / "known")]
    return main(["--person", str(root / person), "--out", str(out), *sets, *more])


def test_one_person_then_another_from_the_memory(root, tmp_path, capsys):
    small = str(root / "small.safetensors")
    assert adapt(root, "anna", tmp_path / "a", "--detector", small, "--capacity", "20", "--held-out", "0.4") == 0
    said = capsys.readouterr()
    text = said.out
    assert "learn: 100%" in said.err and "2/2" in said.err, "a bar while it learns"
    assert (
        "ewc_replay on 4 faces" in text and "| AU17 |" in text and str(tmp_path / "a" / "detector.safetensors") in text
    )
    for name in ("detector.safetensors", "memory.safetensors", "report.md", "before_after.png", "calibration.png"):
        assert (tmp_path / "a" / name).stat().st_size > 100, name
    result = json.loads((tmp_path / "a" / "results.json").read_text())
    assert result["run/test_frames"] == 4 and result["run/seconds"] > 0
    assert load_weights(tmp_path / "a" / "detector.safetensors")[1]["method"] == "ewc_replay"
    assert load_detector(tmp_path / "a" / "detector.safetensors").size == 32

    first = tmp_path / "a"
    more = ("--detector", str(first / "detector.safetensors"), "--memory", str(first / "memory.safetensors"))
    assert adapt(root, "ben", tmp_path / "b", *more, "--name", "ben") == 0
    learnt = json.loads((tmp_path / "b" / "results.json").read_text())["run/learnt"]
    assert len(learnt) == 2 and learnt[1] == "ben"
    assert len(load_weights(tmp_path / "b" / "memory.safetensors")[0]["memory.rows.image"]) == 20
    assert adapt(root, "ben", tmp_path / "c", "--detector", str(first / "detector.safetensors")) == 2
    assert "would be forgotten" in capsys.readouterr().err
    assert adapt(root, "ben", first, "--detector", small) == 2
    assert "was made of other faces" in capsys.readouterr().err
    assert adapt(root, "ben", tmp_path / "c", "--detector", small, "--memory", str(first / "memory.safetensors")) == 2
    assert "is not the detector" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--method", "magic"], "--method: unknown method magic"),
        (["--held-out", "2"], "--held-out: expected 0..1"),
        (["--detector", "nowhere.safetensors"], "nowhere.safetensors: no such weights file"),
    ],
)
def test_mistakes_are_answered_in_one_line(more, message, root, tmp_path, capsys):
    assert adapt(root, "anna", tmp_path / "x", *more) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_a_calibration_needs_a_neutral_face(root, tmp_path, capsys):
    acting = tmp_path / "acting"
    shutil.copytree(root / "anna", acting)
    header, *rows = (acting / "labels.csv").read_text().splitlines()
    column = header.split(",").index("au12")
    cells = [row.split(",") for row in rows]
    smiling = [",".join([*row[:column], "3", *row[column + 1 :]]) for row in cells]
    (acting / "labels.csv").write_text("\n".join([header, *smiling]) + "\n")
    words = ["--detector", str(root / "small.safetensors"), "--method", "neutral", "--held-out", "0"]
    assert adapt(root, str(acting), tmp_path / "n", *words) == 2
    assert "needs a neutral face" in capsys.readouterr().err


def test_several_people_are_not_one(root, tmp_path, capsys):
    assert adapt(root, "crowd", tmp_path / "x", "--detector", str(root / "small.safetensors")) == 2
    assert "faces of 6 people" in capsys.readouterr().err
