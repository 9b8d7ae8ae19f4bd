"""Progress of a run: tqdm bars on a terminal, a line now and then in a log file."""

from __future__ import annotations

import sys
import time
from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback, ProgressBar, TQDMProgressBar


def progress_callback(every_s: float = 20.0) -> Callback:
    """Bars when somebody watches, lines when the output goes to a file."""
    return TQDMProgressBar(refresh_rate=2, leave=False) if sys.stderr.isatty() else ProgressLines(every_s)


class ProgressLines(ProgressBar):
    """One line every ``every_s`` seconds: epoch, step, images/s, time left, and what the progress bar would show."""

    def __init__(self, every_s: float = 20.0) -> None:
        super().__init__()
        self.every_s = every_s
        self._last = self._start = 0.0
        self._first = 0

    def disable(self) -> None:
        """Nothing to switch off: there is no bar."""

    def enable(self) -> None:
        """Nothing to switch on."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._last = self._start = time.monotonic()
        self._first = self._batches(trainer, 0)

    def _batches(self, trainer: Trainer, batch_idx: int) -> int:
        return trainer.current_epoch * int(trainer.num_training_batches) + batch_idx

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Print when it is time."""
        now = time.monotonic()
        if now - self._last < self.every_s or not trainer.is_global_zero:
            return
        self._last = now
        per_epoch = int(trainer.num_training_batches)
        done = self._batches(trainer, batch_idx + 1)
        rate = (done - self._first) / (now - self._start)
        images = len(batch["source"] if isinstance(batch, dict) else batch) * trainer.world_size
        line = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}, step {batch_idx + 1}/{per_epoch}, "
        line += f"{rate * images:.1f} images/s"
        if trainer.max_epochs and trainer.max_epochs > 0 and rate > 0:
            left = int((trainer.max_epochs * per_epoch - done) / rate)
            line += f", {left // 60}:{left % 60:02d} left"
        shown = {k: v for k, v in self.get_metrics(trainer, pl_module).items() if isinstance(v, int | float)}
        line += "".join(f", {name} {value:.4g}" for name, value in shown.items())
        print(line, flush=True)
