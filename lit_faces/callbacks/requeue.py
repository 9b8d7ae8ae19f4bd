"""Leave a SLURM job in time: all ranks agree at the end of a batch, save, and only then is the job requeued."""

from __future__ import annotations

import signal
import time
from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import WandbLogger

from lit_faces.callbacks.checkpoints import LastCheckpoint
from lit_faces.core.ranks import gather
from lit_faces.slurm import SIGNALS, Signals, requeue_and_wait

_MOST_BATCHES = 1000


class Requeue(Callback):
    """Obeys what :class:`lit_faces.slurm.Signals` heard.

    SIGUSR1 in training: checkpoint of this very batch, requeue. In validation or test: requeue from the last
    checkpoint, and the evaluation starts again. SIGTERM: checkpoint, and out; a preempting SLURM requeues by itself.

    Args:
        checkpoint: what saves.
        seconds: between two agreements in training, about: each is a collective call (on a GPU: a wait). Batches of
            validation and test, which may take long, end with one each.
        signals: flags; None means the process's.
    """

    def __init__(self, checkpoint: LastCheckpoint, seconds: float = 5.0, signals: Signals | None = None) -> None:
        if not seconds > 0:
            raise ValueError(f"seconds: expected more than 0, got {seconds}")
        self.checkpoint, self.seconds = checkpoint, seconds
        self.signals = SIGNALS if signals is None else signals
        self._every, self._batches, self._since = 1, 0, time.monotonic()  # the same of all ranks but for the time
        self._common: list[float] = []  # batches that every rank has, by DataLoader

    def _guard(self) -> None:
        signal.signal(signal.SIGTERM, self.signals._on_stop)  # Lightning's broadcasts inside the handler, and hangs
        self.signals.guarded = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """From here on flags are looked at. Not at ``on_fit_start``: Lightning takes SIGTERM after that."""
        self._guard()
        self._every, self._batches, self._since = 1, 0, time.monotonic()

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
        self._batches += 1  # ranks have equally many
        if self._batches >= self._every:
            self._agree(trainer, save=True)

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
        if batch_idx < self._common[dataloader_idx] and not trainer.sanity_checking:
            self._agree(trainer, save=False)

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
        if batch_idx < self._common[dataloader_idx] and not trainer.sanity_checking:
            self._agree(trainer, save=False)

    def _agree(self, trainer: Trainer, save: bool) -> None:
        seconds = (time.monotonic() - self._since) / max(self._batches, 1)
        heard = gather((self.signals.requeue, self.signals.stop, seconds))
        if save:  # the slowest rank's batches count, and the same number for all
            slowest = max(float(one[2]) for one in heard)
            self._every = min(max(int(self.seconds / max(slowest, 1e-3)), 1), _MOST_BATCHES)
            self._batches, self._since = 0, time.monotonic()
        if not any(requeue or stop for requeue, stop, _ in heard):
            return
        again = not any(stop for _, stop, _ in heard)
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
