"""The same pictures and figures to Weights & Biases, offline unless the user is logged in."""

from __future__ import annotations

import netrc
import os
from pathlib import Path
from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import WandbLogger


def default_wandb_mode() -> str:
    """``$WANDB_MODE``, else ``online`` for a user who is logged in, else ``offline``. Asks no server."""
    if mode := os.environ.get("WANDB_MODE"):
        return mode
    if os.environ.get("WANDB_API_KEY"):
        return "online"
    try:
        hosts = netrc.netrc().hosts
    except (OSError, netrc.NetrcParseError):
        return "offline"
    return "online" if any("wandb" in host for host in hosts) else "offline"


class WandbMedia(Callback):
    """Logs panels and strips as captioned images, the results as a table, the exported weights as an artifact.

    Args:
        upload_photos: also the strips, which show a real photograph.
    """

    def __init__(self, upload_photos: bool = False) -> None:
        self.upload_photos = upload_photos

    def _run(self, trainer: Trainer) -> Any:
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger) and trainer.is_global_zero:
                return logger.experiment
        return None

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The newest validation panel."""
        self._images(trainer, "panels/val", "panels", "val-*.png")

    def _images(self, trainer: Trainer, key: str, folder: str, pattern: str) -> None:
        run = self._run(trainer)
        files = sorted((Path(trainer.default_root_dir) / folder).glob(pattern))
        if run is None or not files:
            return
        import wandb

        picture = wandb.Image(str(files[-1]), caption=f"{files[-1].stem}, step {trainer.global_step}")
        run.log({key: picture, "trainer/global_step": trainer.global_step})

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Pictures, table and weights, and how to look at them."""
        run = self._run(trainer)
        if run is None:
            return
        import wandb

        self._images(trainer, "panels/test", "panels", "test-*.png")
        root = Path(trainer.default_root_dir)
        if self.upload_photos:
            for file in sorted((root / "strips").glob("*.png")):
                self._images(trainer, f"strips/{file.stem}", "strips", file.name)
        rows = [
            [name, float(value)] for name, value in sorted(trainer.callback_metrics.items()) if name.startswith("test/")
        ]
        run.log({"results": wandb.Table(columns=["figure", "value"], data=rows)})
        weights = next(
            (f for f in (root / "generator.safetensors", root / "detector.safetensors") if f.is_file()), None
        )
        if weights is not None:
            artifact = wandb.Artifact(f"{weights.stem}-{run.id}", type="model")
            artifact.add_file(str(weights))
            run.log_artifact(artifact)
        if run.settings.mode == "offline" or os.environ.get("WANDB_MODE") == "offline":
            folder = Path(run.dir).parent
            print(f"W&B is offline: browse with `wandb leet {folder}`, upload with `wandb sync {folder}`", flush=True)
