"""A training of a second: a task with dropout and data that resume exactly, and that can be signalled in any phase."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader

from lit_faces.tasks.base import FaceTask, quiet_save_hyperparameters

EXPERIMENT = """
seed_everything: 0
model: {class_path: tests.runs.toy.Toy}
data: {class_path: tests.runs.toy.ToyData}
trainer: {max_epochs: 3, accelerator: cpu, devices: 1, log_every_n_steps: 1, enable_progress_bar: false, enable_model_summary: false}
wandb: disabled
"""
BATCHES = 8  # of an epoch


class Toy(FaceTask):
    """Regression of sums, with dropout from the global random numbers.

    Args:
        at: phase in which the process sends itself a signal: setup, train, last_batch, val, test, test_end; empty = never.
        number: the signal.
        nap: seconds that a training batch takes.
        manual: optimised by hand.
    """

    def __init__(self, at: str = "", number: int = 15, nap: float = 0.0, manual: bool = False) -> None:
        super().__init__()
        import inspect

        quiet_save_hyperparameters(self, inspect.currentframe())
        self.at, self.number, self.nap = at, number, nap
        self.automatic_optimization = not manual
        self.net = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.3), nn.Linear(8, 1))

    def tell(self, phase: str) -> None:
        """Send the signal, if it is time."""
        if phase == self.at:
            self.at = ""
            os.kill(os.getpid(), self.number)
            time.sleep(0.01)  # python obeys between two instructions

    def setup(self, stage: str) -> None:
        self.tell("setup")

    def training_step(self, batch: Tensor, batch_idx: int) -> Any:
        if self.batches_seen == BATCHES + 3:
            self.tell("train")
        if self.batches_seen == BATCHES - 1:
            self.tell("last_batch")
        time.sleep(self.nap)
        loss = (self.net(batch)[:, 0] - batch.sum(1)).square().mean()
        self.log("train/loss", loss)
        self.count(len(batch))
        return loss

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self.tell("val")
        self.log("val/loss", (self.net(batch)[:, 0] - batch.sum(1)).square().mean())

    def test_step(self, batch: Tensor, batch_idx: int) -> None:
        self.tell("test")
        self.log("test/loss", (self.net(batch)[:, 0] - batch.sum(1)).square().mean())

    def on_test_epoch_end(self) -> None:
        self.tell("test_end")

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=0.01)


class ToyData(pl.LightningDataModule):
    """Random rows.

    Args:
        folder: has to be there.
        batch_size: rows of a batch.
    """

    def __init__(self, folder: str | None = None, batch_size: int = 4) -> None:
        super().__init__()
        self.folder, self.batch_size = folder, batch_size
        self.rows = torch.randn(BATCHES * 4, 8, generator=torch.Generator().manual_seed(5))

    def setup(self, stage: str) -> None:
        if self.folder is not None and not Path(self.folder).is_dir():
            raise FileNotFoundError(f"{self.folder}: no such folder: prepare the set first")

    def train_dataloader(self) -> Any:
        return StatefulDataLoader(self.rows, batch_size=self.batch_size, generator=torch.Generator().manual_seed(1))

    def val_dataloader(self) -> Any:
        return DataLoader(self.rows[:8], batch_size=self.batch_size, generator=torch.Generator().manual_seed(1))

    def test_dataloader(self) -> Any:
        return DataLoader(self.rows[8:16], batch_size=self.batch_size, generator=torch.Generator().manual_seed(1))
