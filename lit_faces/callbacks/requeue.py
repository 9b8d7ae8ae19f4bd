"""Leave a SLURM job in time: all ranks agree at the end of a batch, save, and only then is the job requeued."""

from __future__ import annotations

import signal
from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import WandbLogger

from lit_faces.callbacks.checkpoints import LastCheckpoint
from lit_faces.core.ranks import gather
from lit_faces.slurm import SIGNALS, Signals, requeue_and_wait


class Requeue(Callback):
    """Obeys what :class:`lit_faces.slurm.Signals` heard.

    SIGUSR1 in training: checkpoint of this very batch, requeue. In validation or test: requeue from the last
    checkpoint, and the evaluation starts again. SIGTERM: checkpoint, and out; a preempting SLURM requeues by itself.

    Args:
        checkpoint: what saves.
        every: batches between two agreements; each costs a collective call (on a GPU: a wait).
        signals: flags; None means the process's.
    """

    def __init__(self, checkpoint: LastCheckpoint, every: int = 10, signals: Signals | None = None) -> None:
        if every < 1:
            raise ValueError(f"every: expected 1 or more, got {every}")
        self.checkpoint, self.every = checkpoint, every
        self.signals = SIGNALS if signals is None else signals
        self._common: list[float] = []  # batches that every rank has, by DataLoader

    def _guard(self) -> None:
        signal.signal(signal.SIGTERM, self.signals._on_stop)  # Lightning's broadcasts inside the handler, and hangs
        self.signals.guarded = True

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """From here on flags are looked at."""
        self._guard()

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """From here on flags are looked at."""
        self._guard()
        self._count(trainer.num_test_batches)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count."""
        self._count(trainer.num_sanity_val_batches if trainer.sanity_checking else trainer.num_val_batches)

    def _count(self, batches: list[int | float]) -> None:
        """Every image is evaluated once, so ranks may differ by a batch: where one has ended, nobody may ask."""
        self._common = [min(counts) for counts in zip(*gather(list(map(float, batches))), strict=True)]

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Nobody looks any longer."""
        self.signals.guarded = False

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Nobody looks any longer."""
        self.signals.guarded = False

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Agree, save, leave."""
        self._agree(trainer, batch_idx, save=True)  # ranks have equally many

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Agree, leave."""
        if batch_idx < self._common[dataloader_idx]:
            self._agree(trainer, batch_idx, save=False)

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Agree, leave."""
        if batch_idx < self._common[dataloader_idx]:
            self._agree(trainer, batch_idx, save=False)

    def _agree(self, trainer: Trainer, batch_idx: int, save: bool) -> None:
        if batch_idx % self.every or trainer.sanity_checking:
            return
        anybody = trainer.strategy.reduce_boolean_decision
        if not anybody(self.signals.requeue or self.signals.stop, all=False):
            return
        again = anybody(self.signals.requeue, all=False) and not anybody(self.signals.stop, all=False)
        if save:
            trainer._logger_connector.update_train_step_metrics()  # Lightning would log this batch after us
            self.checkpoint.save(trainer)
        if trainer.is_global_zero:
            for logger in trainer.loggers:
                logger.save()
                if isinstance(logger, WandbLogger):
                    logger.experiment.finish()
            what = "saved" if save else "the last checkpoint stays"
            print(f"step {trainer.global_step}: {'time is nearly up' if again else 'told to stop'}: {what}", flush=True)
        trainer.strategy.barrier()
        if again:
            requeue_and_wait()
        raise SystemExit(128 + signal.SIGTERM)
