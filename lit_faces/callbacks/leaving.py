"""Leave a training in time: at the end of a batch, with a checkpoint of that very batch; all ranks together."""

from __future__ import annotations

import signal
import time
from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import WandbLogger

from lit_faces.callbacks.checkpoints import LastCheckpoint
from lit_faces.core.ranks import gather
from lit_faces.core.signals import SIGNALS, Signals
from lit_faces.slurm import in_job, requeue_and_wait

_MOST_BATCHES = 1000


class Leaving(Callback):
    """Obeys what :class:`lit_faces.core.signals.Signals` heard.

    In training SIGTERM and SIGINT wait for the end of the batch: checkpoint, and out. One process outside SLURM obeys
    them at once everywhere else. Several processes agree first, in validation and test too, and leave together; the
    evaluation starts again from the last checkpoint. SIGUSR1 of SLURM: the same, and the job is requeued; a preempting
    SLURM (SIGTERM) requeues by itself.

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
        self._alone = False
        self._every, self._batches, self._since = 1, 0, time.monotonic()  # the same of all ranks but for the time
        self._common: list[float] = []  # batches that every rank has, by DataLoader

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Whether there is anybody to agree with."""
        self._alone = trainer.world_size == 1 and not in_job()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """From here on flags are looked at."""
        self.signals.guarded = True
        self._every, self._batches, self._since = 1, 0, time.monotonic()

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """From here on flags are looked at."""
        self.signals.guarded = not self._alone
        self._count(trainer.num_test_batches)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Alone, nothing needs to be waited for."""
        self._count(trainer.num_sanity_val_batches if trainer.sanity_checking else trainer.num_val_batches)
        if self._alone:
            self._obey_at_once()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Training goes on."""
        self.signals.guarded = not trainer.sanity_checking

    def _obey_at_once(self) -> None:
        self.signals.guarded = False
        self.signals.obey()

    def _count(self, batches: list[int | float]) -> None:
        """Every image is evaluated once, so ranks may differ by a batch: where one has ended, nobody may ask."""
        self._common = [min(counts) for counts in zip(*gather(list(map(float, batches))), strict=True)]

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Nobody looks any longer."""
        self.signals.guarded = False
        if self._alone:
            self.signals.obey()

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
        if save and not self._alone:  # the slowest rank's batches count, and the same number for all
            slowest = max(float(one[2]) for one in heard)
            self._every = min(max(int(self.seconds / max(slowest, 1e-3)), 1), _MOST_BATCHES)
            self._batches, self._since = 0, time.monotonic()
        stop = max(stop for _, stop, _ in heard)
        if stop or any(requeue for requeue, _, _ in heard):
            self._leave(trainer, save, stop)

    def _leave(self, trainer: Trainer, save: bool, stop: int) -> None:
        """Save where it can be, end the logs, and go; ``stop`` is the signal, 0 = requeue."""
        if save:
            trainer._logger_connector.update_train_step_metrics()  # Lightning would log this batch after us
            self.checkpoint.save(trainer)
        if trainer.is_global_zero:
            for logger in trainer.loggers:
                logger.save()
                if isinstance(logger, WandbLogger):
                    logger.experiment.finish()
            what = "saved" if save else "the last checkpoint stays"
            why = {0: "time is nearly up", signal.SIGINT: "interrupted"}.get(stop, "told to stop")
            print(f"step {trainer.global_step}: {why}: {what}", flush=True)
        trainer.strategy.barrier()
        if not stop:
            requeue_and_wait()
        self.signals.stop = stop  # also where it was another rank's
        self.signals.obey()
