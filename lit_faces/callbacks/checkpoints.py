"""Checkpoints that a kill or a full disk cannot spoil: written beside, then renamed."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.plugins.io import TorchCheckpointIO

from lit_faces.callbacks.metrics_csv import MetricsCSV
from lit_faces.core.files import replace_file

LAST = "last.ckpt"


class WholeFiles(TorchCheckpointIO):
    """Writes every checkpoint of a trainer, also those of Lightning's ModelCheckpoint, whole or not at all."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Beside its place first; an object store's address is left to Lightning."""
        if "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        buffer = io.BytesIO()  # torch.save into a file says RuntimeError when the disk is full
        torch.save(checkpoint, buffer)
        replace_file(Path(path), buffer.getvalue())

    @classmethod
    def serve(cls, trainer: Trainer) -> None:
        """Write the checkpoints of a trainer, unless its strategy or the experiment has a way of its own."""
        strategy = trainer.strategy
        if type(strategy.checkpoint_io) is TorchCheckpointIO:
            strategy.checkpoint_io = cls()


class LastCheckpoint(Callback):
    """Keeps ``checkpoints/last.ckpt`` of the run up to date.

    Args:
        every_n_batches: batches between two writes; the end of training writes too.
    """

    def __init__(self, every_n_batches: int = 200) -> None:
        if every_n_batches < 1:
            raise ValueError(f"checkpoint_every must be at least 1, got {every_n_batches}")
        self.every_n_batches = every_n_batches
        self._validation_due = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Whole files."""
        WholeFiles.serve(trainer)

    def save(self, trainer: Trainer) -> Path:
        """Write the checkpoint now; all ranks call it at the end of a training batch."""
        _write_row(trainer)
        loop = trainer.fit_loop
        return self._write(trainer, loop.epoch_loop._should_check_val_fx(loop._data_fetcher))  # type: ignore[arg-type]

    def _write(self, trainer: Trainer, validation_due: bool) -> Path:
        path = Path(trainer.default_root_dir) / "checkpoints" / LAST
        self._validation_due = validation_due
        trainer.save_checkpoint(path)
        self._validation_due = False
        return path

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Where a validation is due, say so."""
        if self._validation_due:
            _validation_begins(checkpoint["loops"]["fit_loop"])

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write when it is time."""
        if (batch_idx + 1) % self.every_n_batches == 0:
            self.save(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write before a validation in training, which may take long and be interrupted."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._write(trainer, validation_due=True)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write at the end of every epoch."""
        self._write(trainer, validation_due=False)


def _write_row(trainer: Trainer) -> None:
    """Let metrics.csv have the row of this batch before a checkpoint counts the batch: a kill may come in between.

    Lightning logs the batch after the callbacks' ``on_train_batch_end``, and then again: the same row.
    """
    loggers = trainer.loggers
    trainer.loggers = [logger for logger in loggers if isinstance(logger, MetricsCSV)]
    try:
        trainer._logger_connector.update_train_step_metrics()
    finally:
        trainer.loggers = loggers


def _validation_begins(loops: dict[str, Any]) -> None:
    """Counts of a checkpoint as if its validation's first batch were at work: resumed, it is validated from the start.

    Lightning takes a checkpoint from after the last training batch for one from after the validation, and leaves that
    validation out.
    """
    for counts in (loops["epoch_loop.batch_progress"]["total"], loops["epoch_loop.batch_progress"]["current"]):
        counts["completed"] = counts["processed"]
    validation = loops["epoch_loop.val_loop.batch_progress"]
    validation["current"] = {"ready": 0, "started": 0, "processed": 0, "completed": 0}
    for counts in (validation["total"], validation["current"]):
        counts["ready"] = counts["started"] = counts["completed"] + 1
        counts["processed"] = counts["completed"]
