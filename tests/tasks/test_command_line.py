"""The tasks are built by LightningCLI from plain values, and their checkpoints are loaded without naming networks."""

import sys

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.cli import LightningCLI

from lit_faces.models.discriminators import MultiScaleDiscriminator
from lit_faces.models.generators.warp_only import WarpOnlyGenerator
from lit_faces.tasks.au_detector import AUDetector
from lit_faces.tasks.reenactment import ReenactmentGAN

pytestmark = pytest.mark.filterwarnings("ignore")

YAML = """
model:
  class_path: lit_faces.tasks.reenactment.ReenactmentGAN
  init_args:
    generator:
      class_path: lit_faces.models.generators.warp_only.WarpOnlyGenerator
      init_args: {width: 4, condition_width: 8, motion_width: 8}
    discriminator:
      class_path: lit_faces.models.discriminators.MultiScaleDiscriminator
      init_args: {width: 4}
    init: scratch
    judge: null
    weights: {adversarial: 0.02, sparsity: 0.0}
trainer: {accelerator: cpu, max_epochs: 1, logger: false, enable_progress_bar: false, enable_checkpointing: false}
"""


def command_line(monkeypatch, tmp_path, *options):
    (tmp_path / "experiment.yaml").write_text(YAML)
    monkeypatch.setattr(sys, "argv", ["fit", "--config", str(tmp_path / "experiment.yaml"), *options])
    return LightningCLI(
        pl.LightningModule,
        subclass_mode_model=True,
        run=False,
        save_config_callback=None,
        auto_configure_optimizers=False,
    )


def test_a_run_from_yaml_loads_again_from_its_checkpoint_alone(monkeypatch, tmp_path, pair_loader):
    cli = command_line(monkeypatch, tmp_path, "--model.weights.l1", "2.0", "--model.generator.width", "6")
    task = cli.model
    assert isinstance(task, ReenactmentGAN) and isinstance(task.generator, WarpOnlyGenerator)
    assert isinstance(task.discriminator, MultiScaleDiscriminator)
    assert (task.weights.l1, task.weights.adversarial, task.weights.gradient) == (2.0, 0.02, 1.0)
    assert task.generator.encoder.stem.out_channels == 6
    cli.trainer.fit(task, pair_loader(2))
    cli.trainer.save_checkpoint(tmp_path / "a.ckpt")
    torch.load(tmp_path / "a.ckpt", weights_only=True)
    again = ReenactmentGAN.load_from_checkpoint(tmp_path / "a.ckpt")
    assert again.weights == task.weights
    assert all(torch.equal(a, b) for a, b in zip(task.ema.parameters(), again.ema.parameters()))


def test_a_misspelt_loss_weight_is_refused(monkeypatch, tmp_path, capsys):
    with pytest.raises(SystemExit):
        command_line(monkeypatch, tmp_path, "--model.weights.adverserial", "0.1")
    assert "adverserial" in capsys.readouterr().err


def test_the_detector_is_built_from_plain_values(monkeypatch):
    monkeypatch.setattr(
        sys,
        "argv",
        ["fit", "--model", "AUDetector", "--model.backbone", "aligned_face_small", "--model.size", "32"],
    )
    cli = LightningCLI(pl.LightningModule, subclass_mode_model=True, run=False, save_config_callback=None)
    assert isinstance(cli.model, AUDetector) and cli.model.size == 32
