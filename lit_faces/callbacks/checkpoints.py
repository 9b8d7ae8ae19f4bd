"""Checkpoints that a kill cannot spoil: written beside, then renamed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback

LAST = "last.ckpt"


class LastCheckpoint(Callback):
    """Keeps ``checkpoints/last.ckpt`` of the run up to date.

    Args:
        every_n_batches: batches between two writes; the end of training writes too.
    """

    def __init__(self, every_n_batches: int = 200) -> None:
        if every_n_batches < 1:
            raise ValueError(f"checkpoint_every must be at least 1, got {every_n_batches}")
        self.every_n_batches = every_n_batches

    def save(self, trainer: Trainer) -> Path:
        """Write the checkpoint now; all ranks call it."""
        folder = Path(trainer.default_root_dir) / "checkpoints"
        temporary = folder / (LAST + ".tmp")
        trainer.save_checkpoint(temporary)
        if trainer.is_global_zero:
            os.replace(temporary, folder / LAST)
        return folder / LAST

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write when it is time."""
        if (batch_idx + 1) % self.every_n_batches == 0:
            self.save(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write at the end of every epoch."""
        self.save(trainer)
