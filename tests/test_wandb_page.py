"""The W&B page, read back from the offline file with W&B's own reader: everything that is promised is there."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from lit_faces import generate
from lit_faces.arguments import read_experiment
from lit_faces.fit import build, main
from lit_faces.reports.tracking import direction, resolve_mode, track_detector
from tests.wandb_file import OfflineRun

ROOT = Path(__file__).resolve().parents[1]
GENERATOR = """
model:
  class_path: lit_faces.tasks.reenactment.ReenactmentGAN
  init_args:
    generator: {class_path: lit_faces.models.generators.fused.FusedGenerator, init_args: {width: 8, condition_width: 8}}
    discriminator: {class_path: lit_faces.models.discriminators.MultiScaleDiscriminator, init_args: {width: 8}}
    init: scratch
    critic: null
    judge: null
    evaluation_images: 4
data:
  class_path: data_modules.rendered.RenderedFaces
  init_args: {size: 64, train_subjects: 4, val_subjects: 2, test_subjects: 2, frames: 4, eval_frames: 3, batch_size: 4, eval_batch_size: 4, pairs_per_epoch: 12}
trainer: {max_epochs: 2, accelerator: cpu, devices: 1, log_every_n_steps: 1, enable_progress_bar: false, enable_model_summary: false}
"""
DETECTOR = """
model:
  class_path: lit_faces.tasks.au_detector.AUDetector
  init_args: {backbone: aligned_face_small, size: 64, weight_occurrence: 0.5, occurrence_head: true, expression_head: true, calibrate: true}
data:
  class_path: data_modules.rendered.RenderedFaces
  init_args: {mode: frames, size: 64, train_subjects: 4, val_subjects: 2, test_subjects: 2, frames: 4, eval_frames: 12, batch_size: 4, eval_batch_size: 4}
trainer: {max_epochs: 1, accelerator: cpu, devices: 1, log_every_n_steps: 1, enable_progress_bar: false, enable_model_summary: false}
"""


def fit(text: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> OfflineRun:
    monkeypatch.chdir(folder)
    (folder / "small.yaml").write_text(text)
    assert main(["small.yaml", "--wandb", "offline"]) == 0
    return OfflineRun.read(folder / "runs")


def test_the_page_of_a_generator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = fit(GENERATOR, tmp_path, monkeypatch)
    keys = run.logged()
    assert {"panels/val", "panels/test", "strips/val/AU06", "strips/val/AU17", "strips/AU06", "strips/AU17",
            "plots/people", "tables/results", "tables/people", "train/l1", "val/l1", "test/l1",
            "trainer/global_step", "epoch"} <= keys  # fmt: skip
    assert {key.partition("/")[0] for key in keys if not key.startswith("_")} == {
        "train", "val", "test", "panels", "strips", "plots", "tables", "trainer", "epoch",
    }  # fmt: skip
    assert "strips/AU06-photo" not in keys
    assert "asked landmarks" in run.captions()["panels/val"] and "0 to 5" in run.captions()["strips/AU06"]
    assert run.summaries()["val/l1"] == ["min"] and run.summaries()["test/l1"] == ["last"]
    (made,) = run.artifacts(used=False).items()
    assert made[0].startswith("generator-") and made[1] == ["generator.safetensors"]
    (read,) = run.artifacts(used=True).items()
    assert read[0].startswith("data-") and read[1] == ["data.json"]
    config = run.config()
    assert "run/git_revision" in config and "packages/torch" in config and read[0] in config["inputs"]
    assert config["data"]["class_path"] == "data_modules.rendered.RenderedFaces" and "lr" not in config


def test_the_page_of_a_detector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = fit(DETECTOR, tmp_path, monkeypatch)
    assert {"plots/calibration", "plots/icc", "plots/people", "plots/expressions", "tables/aus", "tables/people",
            "tables/results", "val/icc/mean", "val/mse", "test/icc/mean", "test/f1/mean"} <= run.logged()  # fmt: skip
    assert run.summaries()["val/icc/mean"] == ["max"] and run.summaries()["val/mse"] == ["min"]
    assert [name.partition("-")[0] for name in run.artifacts(used=False)] == ["detector"]
    (folder,) = (tmp_path / "runs" / "small").iterdir()
    people = (folder / "people.csv").read_text().splitlines()
    assert people[0] == "subject,faces,icc,mae,f1,expression_accuracy" and len(people) == 3


def test_nothing_of_a_person_is_logged_and_lineage_joins_the_runs(tmp_path: Path, monkeypatch, shared_data) -> None:
    photo = tmp_path / "secret_name.png"
    photo.write_bytes((shared_data / "real" / "ski_astronaut_astronaut.png").read_bytes())
    monkeypatch.setenv("WANDB_API_KEY", "0123456789secretkey0123456789secretkey01")
    out = tmp_path / "set"
    words = [
        str(photo),
        "--out",
        str(out),
        "--n",
        "4",
        "--attempts",
        "2",
        "--jobs",
        "1",
        "--focus",
        "none",
        "--generator",
        "packaged",
    ]
    assert generate.main([*words, "--wandb", "offline"]) == 0
    first = OfflineRun.read(out)
    (person_set,) = first.artifacts(used=False)
    assert {name.partition("-")[0] for name in first.artifacts(used=True)} == {"generator", "detector"}
    assert {"plots/asked_achieved", "plots/leak", "tables/aus", "set/kept"} <= first.logged()
    assert not {key for key in first.logged() if "contact" in key or "source" in key}
    detector = ROOT / "lit_faces" / "weights" / "detector.safetensors"
    learnt = tmp_path / "learnt"
    learnt.mkdir()
    (learnt / "detector.safetensors").write_bytes(detector.read_bytes())
    track_detector(learnt, "offline", {"person/after/icc/AU06": 0.5, "run/person": "secret_name"}, "generic", out, {})
    second = OfflineRun.read(learnt)
    assert person_set in second.artifacts(used=True) and "person/after/icc/AU06" in second.logged()
    for text in (first.text, second.text):
        assert "secret_name" not in text and "secretkey" not in text


def test_directions() -> None:
    for name in ("val/icc/AU06", "test/f1_norm/mean", "test/is_n240_dlib_identities", "test/identity/same_share"):
        assert direction(name) == "max", name
    for name in ("test/l1", "test/fid_n24_dlib", "test/leak/AU17", "test/identity/distance", "val/mse", "test/nme"):
        assert direction(name) == "min", name
    assert direction("train/images") is None and direction("val/keep") is None
    with pytest.raises(ValueError, match="expected auto, offline"):
        resolve_mode("on")


@pytest.mark.parametrize("file", sorted((ROOT / "experiments" / "sweeps").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_sweep_runs_commands_that_fit_accepts(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from wandb.cli.cli import sweep  # noqa: F401  # the reader of such files
    from wandb.sdk.launch.sweeps.utils import load_sweep_config

    monkeypatch.chdir(ROOT)
    config = load_sweep_config(str(file))
    assert config == yaml.safe_load(file.read_text())
    assert config["method"] in ("grid", "random", "bayes") and config["metric"]["goal"] in ("minimize", "maximize")
    command = config["command"]
    assert command[:4] == ["${env}", "${interpreter}", "-m", "lit_faces.fit"] and command[-1] == "${args}"
    assert (direction(config["metric"]["name"]) == "max") == (config["metric"]["goal"] == "maximize")
    experiment = command[4]
    assert read_experiment(ROOT / experiment)
    options = []
    for name, given in config["parameters"].items():
        value = given["values"][0] if "values" in given else given.get("min", given.get("value"))
        options.append(f"--{name}={value}")
    assert build([experiment, *command[5:-1], *options]).trainer is not None


def test_wandb_reads_a_sweep_file() -> None:
    """The schema is the server's; the file is at least read by the command."""
    done = subprocess.run([sys.executable, "-m", "wandb", "sweep", "--help"], capture_output=True, text=True)
    assert done.returncode == 0 and "CONFIG_YAML" in done.stdout
