"""python -m lit_faces.fit, as typed: a whole small run, resuming, and what is answered to mistakes."""

import csv
import json
from pathlib import Path

import pytest
import torch

from lit_faces.fit import main
from lit_faces.reports.runs import read_run

SMALL = """
seed_everything: 0
model:
  class_path: lit_faces.tasks.reenactment.ReenactmentGAN
  init_args:
    generator: {class_path: lit_faces.models.generators.fused.FusedGenerator, init_args: {width: 8, condition_width: 8}}
    discriminator: {class_path: lit_faces.models.discriminators.MultiScaleDiscriminator, init_args: {width: 8}}
    init: scratch
    critic: null
    judge: null
    evaluation_images: 0
data:
  class_path: data_modules.rendered.RenderedFaces
  init_args: {size: 64, train_subjects: 4, val_subjects: 2, test_subjects: 2, frames: 4, eval_frames: 3, batch_size: 4, eval_batch_size: 4, pairs_per_epoch: 12}
trainer: {max_epochs: 2, accelerator: cpu, devices: 1, log_every_n_steps: 1, enable_progress_bar: false, enable_model_summary: false}
"""


@pytest.fixture
def experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    file = tmp_path / "small.yaml"
    file.write_text(SMALL)
    return file


def run_folder(experiment: Path) -> Path:
    (folder,) = (experiment.parent / "runs" / "small").iterdir()
    return folder


def test_a_whole_run_leaves_everything_in_its_folder(experiment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(experiment), "--wandb", "disabled"]) == 0
    folder = run_folder(experiment)
    said = capsys.readouterr().out.split("done: ")[1].splitlines()
    (panel,) = (folder / "panels").glob("test-*.png")
    looked_at = [line.removeprefix("look at: ") for line in said[1:]]
    assert [(experiment.parent / path).resolve() for path in looked_at] == [panel, folder / "plots" / "curves.png"]
    assert "plots/curves" not in read_run(folder, "small").pictures, "a report draws them of all runs together"
    results = json.loads((folder / "results.json").read_text())
    assert results["test/l1"] > 0 and results["run/experiment"] == "small"
    for name in (
        "config.yaml",
        "metrics.csv",
        "checkpoints/last.ckpt",
        "generator.safetensors",
        "strips/AU06.png",
        "strips/AU17.png",
    ):
        assert (folder / name).stat().st_size > 0, name
    assert list((folder / "panels").glob("test-*.png")) and list((folder / "panels").glob("val-*.png"))
    # the saved configuration is an experiment file itself, and the exported weights can be tested alone
    assert (
        main(
            [
                str(folder / "config.yaml"),
                "--name",
                "again",
                "--test_only",
                str(folder / "generator.safetensors"),
                "--wandb",
                "disabled",
            ]
        )
        == 0
    )
    (again,) = (experiment.parent / "runs" / "again").iterdir()
    assert json.loads((again / "results.json").read_text())["test/l1"] == pytest.approx(results["test/l1"], rel=1e-4)


@pytest.mark.parametrize("accumulate", ["1", "2"])
def test_killed_and_resumed_gives_the_same_weights(
    experiment: Path, monkeypatch: pytest.MonkeyPatch, accumulate: str
) -> None:
    from lit_faces.tasks.reenactment import ReenactmentGAN

    options = [
        "--fit_only",
        "--wandb",
        "disabled",
        "--checkpoint_every",
        "1",
        "--model.init_args.accumulate",
        accumulate,
    ]
    assert main([str(experiment), "--name", "whole", *options]) == 0
    whole = next((experiment.parent / "runs" / "whole").iterdir())
    original, steps = ReenactmentGAN.training_step, []

    def dies(self, batch, batch_idx):  # type: ignore[no-untyped-def]
        steps.append(batch_idx)
        if len(steps) == 5:  # in the middle of the second epoch
            raise SystemExit(9)
        return original(self, batch, batch_idx)

    monkeypatch.setattr(ReenactmentGAN, "training_step", dies)
    with pytest.raises(SystemExit):
        main([str(experiment), "--name", "killed", *options])
    monkeypatch.setattr(ReenactmentGAN, "training_step", original)
    killed = next((experiment.parent / "runs" / "killed").iterdir())
    assert main(["--resume", str(killed), *options]) == 0
    states = [
        torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"] for folder in (whole, killed)
    ]
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]), name
    steps_logged = [
        [row["step"] for row in csv.DictReader((folder / "metrics.csv").open())] for folder in (whole, killed)
    ]
    assert steps_logged[0] == steps_logged[1]  # nothing lost, nothing twice


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--model.init_args.lrr", "3"], "did you mean --model.init_args.lr"),
        (["--trainer.max_epoch", "3"], "did you mean --trainer.max_epochs"),
        (["--trainer.max_epochs", "x"], "expected int"),
        (["--data.init_args.train_subject", "3"], "did you mean --data.init_args.train_subjects"),
        (["--resume", "nowhere"], "no such run"),
        (["--test_only", "none.ckpt"], "none.ckpt"),
    ],
)
def test_mistakes_on_the_line_are_answered(
    experiment: Path, capsys: pytest.CaptureFixture[str], options: list[str], words: str
) -> None:
    assert main([str(experiment), *options]) == 2
    assert words in capsys.readouterr().err
    assert not (experiment.parent / "runs").exists()


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("max_epochs", "max_epoch", "trainer.max_epoch; did you mean trainer.max_epochs"),
        ("init: scratch", "innit: scratch", "model.init_args.innit"),
        ("FusedGenerator", "FussedGenerator", "did you mean lit_faces.models.generators.fused.FusedGenerator"),
        ("data:", "date:", "did you mean data"),
        ("trainer: {", "trainer: {{", "line"),
    ],
)
def test_mistakes_in_the_file_name_file_and_key(
    experiment: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, words: str
) -> None:
    experiment.write_text(SMALL.replace(old, new, 1))
    assert main([str(experiment)]) == 2
    message = capsys.readouterr().err
    assert words in message and "small.yaml" in message


def test_missing_file_names_the_nearest(experiment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(experiment.with_name("smal.yaml"))]) == 2
    assert "did you mean" in capsys.readouterr().err


def test_checkpoints_that_cannot_be_are_refused(
    experiment: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    other = tmp_path / "other.ckpt"
    torch.save({"state_dict": {"generator.x": torch.zeros(3)}, "global_step": 1}, other)
    assert main([str(experiment), "--test_only", str(other)]) == 2
    assert "another architecture" in capsys.readouterr().err
    broken = tmp_path / "broken.ckpt"
    broken.write_bytes(other.read_bytes()[:200])
    assert main([str(experiment), "--test_only", str(broken)]) == 2
    assert "broken.ckpt" in capsys.readouterr().err


class Bomb:
    """Unpickling it would touch a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):  # type: ignore[no-untyped-def]
        return (Path.touch, (self.path,))


def test_a_pickle_bomb_is_refused_unopened(
    experiment: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    trap = tmp_path / "exploded"
    torch.save({"state_dict": Bomb(trap)}, tmp_path / "bomb.ckpt")
    assert main([str(experiment), "--test_only", str(tmp_path / "bomb.ckpt")]) == 2
    assert "bomb.ckpt" in capsys.readouterr().err and not trap.exists()


def test_dry_run_prints_and_writes_nothing(experiment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(experiment), "--dry_run", "--trainer.max_epochs", "7"]) == 0
    assert "max_epochs: 7" in capsys.readouterr().out
    assert not (experiment.parent / "runs").exists()
