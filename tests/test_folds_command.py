"""Public-data experiments on look-alikes, end to end: prepare, fit on the mixture, all folds in one table."""

import json
import shutil
from pathlib import Path

import pytest

from lit_faces.fit import main as fit
from lit_faces.folds import main
from lit_faces.prepare import main as prepare
from lit_faces.rendering.renderer import FaceRenderer
from lit_faces.rendering.sets import write_folder
from lit_faces.runs.folds import finished, gather
from tests.fake import bp4d, disfa, rafdb

ROOT = Path(__file__).resolve().parents[1]
NAMES = ("SN001", "SN002", "SN013", "SN018", "SN003", "SN029")
SMALL = ["--trainer.max_epochs", "1", "--data.batch_size", "8", "--data.num_workers", "0", "--wandb", "disabled",
         "--model.init", "null", "--model.backbone", "aligned_face_small", "--trainer.precision", "32-true"]  # fmt: skip


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the prepared sets that the experiments name."""
    root = tmp_path_factory.mktemp("work")
    disfa.write(root / "DISFA", frames=3, names=NAMES)
    bp4d.write(root / "BP4D", frames=6)
    rafdb.write(root / "RAF")
    write_folder(FaceRenderer(128, seed=9), root / "faces", 8, frames_per_subject=4, progress=False)
    for name, raw in (("disfa", "DISFA"), ("bp4d", "BP4D"), ("rafdb", "RAF"), ("generated", "faces")):
        assert prepare([name, "--root", str(root / raw), "--out", str(root / "prepared" / name), "--jobs", "1"]) == 0
    return root


@pytest.mark.parametrize(
    ("name", "more", "figure"),
    [
        ("disfa_bp4d_generated", ["--data.length", "32"], "test/icc/AU12"),
        ("cross_bp4d_disfa", [], "test/f1/mean"),
        ("expressions_rafdb", [], "test/expression/accuracy"),
    ],
)
def test_an_experiment_trains_and_is_tested_on_look_alikes(
    workplace: Path, monkeypatch, capsys, name: str, more: list[str], figure: str
) -> None:
    monkeypatch.chdir(workplace)
    assert fit([str(ROOT / "experiments" / f"{name}.yaml"), *SMALL, *more]) == 0
    run = next((workplace / "runs" / name).iterdir())
    assert figure in json.loads((run / "results.json").read_text())
    said = capsys.readouterr().out
    assert "train: " in said and "test: " in said
    if name == "disfa_bp4d_generated":
        assert "DISFA" in said and "BP4D" in said and "the generated set" in said and "weight 0.4" in said


def test_all_folds_are_run_gathered_and_not_run_again(workplace: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(workplace)
    command = [str(ROOT / "experiments" / "disfa_detector.yaml"), "--parts", "1,3", *SMALL]
    assert main(command) == 0
    folder = workplace / "runs" / "disfa_detector"
    gathered = json.loads((folder / "folds.json").read_text())
    assert gathered["test/icc/mean"]["folds"] == 2
    assert "| test/icc/mean |" in (folder / "folds.md").read_text()
    before = sorted(folder.glob("part*/*"))
    assert main(command) == 0 and sorted(folder.glob("part*/*")) == before
    assert main([*command, "--data.seed", "5"]) == 2
    assert "made by another command" in capsys.readouterr().err
    run = next((folder / "part3").glob("2*"))
    (run / "results.json").unlink()  # killed in its test: resumed from its checkpoint
    assert main(command) == 0 and (run / "results.json").is_file()
    shutil.rmtree(folder / "part1")
    assert main([*command, "--report"]) == 0


def test_the_table_says_where_a_figure_is_not_defined() -> None:
    text, gathered = gather({f"part{k}": {"test/f1/AU01": value} for k, value in ((1, 0.5), (2, None), (3, 0.7))})
    assert gathered["test/f1/AU01"] == {
        "mean": pytest.approx(0.6), "sd": pytest.approx(0.1414, abs=1e-4), "folds": 2, "part1": 0.5, "part2": None,
        "part3": 0.7,
    }  # fmt: skip
    assert "| test/f1/AU01 | 0.500 | - | 0.700 | 0.600 | 0.141 |" in text


@pytest.mark.parametrize(("argv", "says"), [(["--parts", "4"], "--parts"), (["--report"], "no fold is done")])
def test_what_cannot_be_is_said(tmp_path: Path, monkeypatch, capsys, argv: list[str], says: str) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([str(ROOT / "experiments" / "disfa_detector.yaml"), *argv]) == 2
    assert says in capsys.readouterr().err
    assert finished(tmp_path) is None


def test_one_person_is_left_out_at_a_time(workplace: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(workplace)
    experiment = str(ROOT / "experiments" / "disfa_detector.yaml")
    assert main([experiment, "--leave-one-out", "--list"]) == 0
    assert capsys.readouterr().out.split() == sorted(NAMES)
    command = [experiment, "--leave-one-out", "--name", "loso", *SMALL]
    assert main([*command, "--index", "2"]) == 0
    (run,) = (workplace / "runs" / "loso").glob("SN*/2*")
    assert run.parent.name == sorted(NAMES)[1] and "held_out_subject: SN002" in (run / "config.yaml").read_text()
    assert main([*command, "--index", "7"]) == 2
    assert "there are 6 folds" in capsys.readouterr().err


def test_many_folds_are_shown_by_their_extremes() -> None:
    text, gathered = gather({f"S{k}": {"test/icc/AU06": k / 10} for k in range(9)})
    assert "0.000 (S0)" in text and "0.800 (S8)" in text and gathered["test/icc/AU06"]["S3"] == pytest.approx(0.3)
