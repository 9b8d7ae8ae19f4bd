"""A callback that writes down what each rank is and ends with."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback


class RankNotes(Callback):
    """Writes ``rank-R.json`` when training starts and ends.

    Args:
        folder: where.
    """

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    def _write(self, trainer: Trainer, **more: Any) -> None:
        note = {
            "pid": os.getpid(),
            "world": trainer.world_size,
            "node": os.environ.get("SLURMD_NODENAME"),
            "environment": type(trainer._accelerator_connector.cluster_environment).__name__,
            "restart": os.environ.get("SLURM_RESTART_COUNT"),
            **more,
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / f"rank-{trainer.global_rank}.json").write_text(json.dumps(note))

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._write(trainer, started_at=trainer.global_step)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        state = {name: value.detach().cpu().double().numpy() for name, value in pl_module.state_dict().items()}
        weights = {name: hashlib.sha256(value.tobytes()).hexdigest()[:12] for name, value in sorted(state.items())}
        self._write(trainer, weights=weights, steps=trainer.global_step)
