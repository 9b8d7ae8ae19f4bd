"""Two processes give the figures of one: FID, KID, ICC, identity, landmark error, per-person tables."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[1]
GENERATOR = """
model:
  class_path: lit_faces.tasks.reenactment.ReenactmentGAN
  init_args:
    generator: {class_path: lit_faces.models.generators.fused.FusedGenerator}
    discriminator: null
    init: scratch
    critic: null
    evaluation_images: 13
data:
  class_path: data_modules.rendered.RenderedFaces
  init_args: {size: 128, train_subjects: 2, val_subjects: 2, test_subjects: 5, frames: 4, eval_frames: 4, batch_size: 4, eval_batch_size: 1, pairs_per_epoch: 12}
trainer: {accelerator: cpu, devices: 1, enable_progress_bar: false, enable_model_summary: false}
"""
DETECTOR = """
model:
  class_path: lit_faces.tasks.au_detector.AUDetector
  init_args: {weight_occurrence: 0.5, occurrence_head: true, expression_head: true}
data:
  class_path: data_modules.rendered.RenderedFaces
  init_args: {mode: frames, size: 128, train_subjects: 2, val_subjects: 2, test_subjects: 5, frames: 4, eval_frames: 9, batch_size: 4, eval_batch_size: 1}
trainer: {accelerator: cpu, devices: 1, enable_progress_bar: false, enable_model_summary: false}
"""


def result_of(text: str, weights: Path, processes: int, folder: Path) -> Path:
    """The run folder of a test by so many processes."""
    (folder / "small.yaml").write_text(text)
    command = [sys.executable, "-W", "ignore", "-m", "lit_faces.fit", "small.yaml", "--name", f"on{processes}"]
    command += ["--wandb", "disabled", "--test_only", str(weights), "--trainer.devices", str(processes)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    (run,) = (folder / "runs" / f"on{processes}").iterdir()  # one folder, whatever the number of processes
    return run


@pytest.mark.parametrize("task", ["generator", "detector"])
def test_two_processes_give_the_figures_of_one(task: str, tmp_path: Path) -> None:
    text, name = {"generator": (GENERATOR, "base_fused"), "detector": (DETECTOR, "detector")}[task]
    weights = ROOT / "lit_faces" / "weights" / f"{name}.safetensors"
    one, two = (result_of(text, weights, processes, tmp_path) for processes in (1, 2))
    first, second = (json.loads((run / "results.json").read_text()) for run in (one, two))
    assert (first["run/world_size"], second["run/world_size"]) == (1, 2)
    figures = {name: value for name, value in first.items() if name.startswith("test/")}
    wanted = {
        "generator": ("test/fid_n13_dlib", "test/kid_n13_dlib", "test/au_fidelity/icc/AU12", "test/identity/distance"),
        "detector": ("test/icc/AU06", "test/f1/mean", "test/expression/accuracy"),
    }
    assert all(figures[name] is not None for name in wanted[task])
    for name, value in figures.items():
        assert second[name] == (None if value is None else pytest.approx(value, rel=1e-6, abs=1e-6)), name
    assert (one / "people.csv").read_text() == (two / "people.csv").read_text()
