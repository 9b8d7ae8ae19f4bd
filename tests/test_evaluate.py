"""python -m lit_faces.evaluate, as typed."""

import json
from pathlib import Path

import pytest
import torch

from lit_faces.evaluate import main
from lit_faces.metrics.detector import detector_figures
from lit_faces.rendering.renderer import FaceRenderer
from lit_faces.rendering.sets import write_folder
from lit_faces.tasks.au_detector import load_detector


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("people")
    write_folder(FaceRenderer(64, seed=6, focus_aus=(6, 17)), root, 24, frames_per_subject=4, progress=False)
    return root


def test_it_writes_figures_with_intervals_and_plots(people: Path, tmp_path: Path, capsys) -> None:
    assert main(["--detector", "packaged", "--data", str(people), "--out", str(tmp_path), "--resamples", "50"]) == 0
    assert "24 faces of 6 people" in capsys.readouterr().out
    result = json.loads((tmp_path / "results.json").read_text())
    assert result["icc/AU17/low"] <= result["icc/AU17"] <= result["icc/AU17/high"]
    assert 0 <= result["auc/AU17"] <= 1 and result["people"] == 6 and result["run/detector"] == "packaged"
    for name in ("table.md", "icc.png", "calibration.png"):
        assert (tmp_path / name).stat().st_size > 100, name


def test_a_perfect_reading_is_perfect_and_what_is_not_coded_is_not_reported(people: Path) -> None:
    from lit_faces.core.labelled import read_labelled

    faces = read_labelled(people, 64)
    faces.au_intensity[:, 0] = faces.au_occurrence[:, 0] = float("nan")
    thresholds = load_detector("packaged").calibration.threshold
    result = detector_figures(faces, faces.au_intensity.nan_to_num(0.0), thresholds, resamples=20)
    assert result["icc/AU06"] == pytest.approx(1) and result["mae/mean"] == pytest.approx(0, abs=1e-6)
    assert result["auc/AU06"] == 1 and torch.tensor(result["icc/AU01"]).isnan()


def test_mistakes_are_answered_in_one_line(tmp_path: Path, capsys) -> None:
    assert main(["--detector", "packaged", "--data", str(tmp_path / "none")]) == 2
    assert "expected a folder with labels.csv" in capsys.readouterr().err
    assert main(["--detector", str(tmp_path / "no.safetensors"), "--data", str(tmp_path)]) == 2
    assert main(["--detector", "packaged", "--data", str(tmp_path), "--resamples", "-1"]) == 2
