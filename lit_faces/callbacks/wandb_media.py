"""The same pictures and figures to Weights & Biases, offline unless the user is logged in."""

from __future__ import annotations

import math
import netrc
import os
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import WandbLogger

from lit_faces.callbacks.checkpoints import LAST

_HOST = "api.wandb.ai"
_MODES = {"dryrun": "offline", "run": "online"}  # older names
_WEIGHTS = ("generator.safetensors", "detector.safetensors", f"checkpoints/{LAST}")


def default_wandb_mode() -> str:
    """``$WANDB_MODE``, else ``online`` for a user who is logged in, else ``offline``. Asks no server.

    Logged in means ``$WANDB_API_KEY``, or an entry for W&B's host (or ``$WANDB_BASE_URL``'s) in the netrc file.
    """
    if mode := os.environ.get("WANDB_MODE"):
        return _MODES.get(mode, mode)
    if os.environ.get("WANDB_API_KEY"):
        return "online"
    host = urlparse(os.environ.get("WANDB_BASE_URL") or f"https://{_HOST}").hostname
    try:
        hosts = netrc.netrc(os.environ.get("NETRC") or None).hosts
    except (OSError, netrc.NetrcParseError):
        return "offline"
    return "online" if host in hosts else "offline"


def wandb_run(trainer: Trainer) -> Any:
    """The run of the trainer's WandbLogger; None without one, and on ranks that do not log."""
    for logger in trainer.loggers:
        if isinstance(logger, WandbLogger) and trainer.is_global_zero:
            return logger.experiment
    return None


class WandbMedia(Callback):
    """Logs panels and strips as captioned images, the results as a table, the exported weights as an artifact.

    Does nothing without a WandbLogger.

    Args:
        upload_photos: also the strips of a real photograph; by default they stay in the run's folder.
    """

    def __init__(self, upload_photos: bool = False) -> None:
        self.upload_photos = upload_photos

    def _log_image(self, trainer: Trainer, key: str, file: Path) -> None:
        run = wandb_run(trainer)
        if run is None or not file.is_file():
            return
        import wandb

        picture = wandb.Image(str(file), caption=f"{file.stem}, step {trainer.global_step}")
        run.log({key: picture, "trainer/global_step": trainer.global_step})

    def _log_panel(self, trainer: Trainer, stage: str) -> None:
        """The panel of this step, if one was drawn."""
        file = Path(trainer.default_root_dir) / "panels" / f"{stage}-{trainer.global_step:06d}.png"
        self._log_image(trainer, f"panels/{stage}", file)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The panel of this validation."""
        if not trainer.sanity_checking:
            self._log_panel(trainer, "val")

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Pictures, table and weights, and how to look at them."""
        run = wandb_run(trainer)
        if run is None:
            return
        import wandb

        self._log_panel(trainer, "test")
        root = Path(trainer.default_root_dir)
        for file in sorted((root / "strips").glob("AU*.png")):
            if self.upload_photos or not file.stem.endswith("-photo"):
                self._log_image(trainer, f"strips/{file.stem}", file)
        figures = {k: float(v) for k, v in sorted(trainer.callback_metrics.items()) if k.startswith("test/")}
        rows = [[name, value if math.isfinite(value) else None] for name, value in figures.items()]
        run.log({"results": wandb.Table(columns=["name", "value"], data=rows)})
        weights = next((root / name for name in _WEIGHTS if (root / name).is_file()), None)
        if weights is not None:
            artifact = wandb.Artifact(f"{weights.stem}-{run.id}", type="model")
            artifact.add_file(str(weights))
            run.log_artifact(artifact)
        folder = Path(run.dir).parent
        if run.offline:
            print(f"W&B, offline: browse with `wandb leet {folder}`, upload with `wandb sync {folder}`", flush=True)
        else:
            print(f"W&B: {run.url}; browse here with `wandb leet {folder}`", flush=True)
