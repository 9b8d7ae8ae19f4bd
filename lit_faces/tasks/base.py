"""What the tasks share: three short configure methods, and checkpoints that resume exactly and hold plain data only."""

from __future__ import annotations

import math
import subprocess
import sys
import warnings
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import nn

import lit_faces
from lit_faces.core.facs import AUS
from lit_faces.core.memory import keep_freed_memory
from lit_faces.core.seeding import capture_rng, generator_for, restore_rng
from lit_faces.tasks.schedule import warm_cosine

_RNG, _COUNTS = "rng", "counts"


class FaceTask(pl.LightningModule):
    """Base of the tasks.

    A child calls ``super().__init__()``, ``self.keep_hyperparameters()`` and ``self.configure()``; the networks, losses
    and metrics are made in three methods with one job each.

    Attributes:
        images_seen: training images so far, all ranks (Lightning's ``global_step`` counts optimiser steps).
        batches_seen: training batches so far.
    """

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.seed = seed
        self.images_seen = 0
        self.batches_seen = 0
        self._rng_to_restore: dict[str, Any] | None = None

    @property
    def batches_per_step(self) -> int:
        """Batches of one optimiser step."""
        return 1

    def configure(self) -> None:
        """Make the networks, losses and metrics."""
        self.configure_models()
        self.configure_losses()
        self.configure_metrics()

    def configure_models(self) -> None:
        """Make the networks."""

    def configure_losses(self) -> None:
        """Make the losses."""

    def configure_metrics(self) -> None:
        """Make the metrics."""

    def log_every(self) -> int:
        """Batches between two lines of the log."""
        return max(1, int(getattr(self.trainer, "log_every_n_steps", 50)))

    def step_generator(self) -> torch.Generator:
        """The random numbers of this training batch: they follow from (seed, rank, batch number) alone."""
        return generator_for(self.seed, self.global_rank, self.batches_seen, device="cpu")

    def count(self, images: int) -> None:
        """Count one training batch of ``images``."""
        self.images_seen += images * self.trainer.world_size
        self.batches_seen += 1

    def progress(self) -> float:
        """Share of the training done, 0..1; 0 when its length is not known."""
        total = self.total_batches()
        return min(1.0, self.batches_seen / total) if total < math.inf else 0.0

    def gradients_complete(self, optimizer: Any) -> None:
        """Before clipping by hand: callbacks that add to gradients (penalties) add now, and clipping sees it.

        Args:
            optimizer: the one that is about to step.
        """
        for callback in self.trainer.callbacks:  # type: ignore[attr-defined]  # set by a connector
            complete = getattr(callback, "on_gradients_complete", None)
            if complete is not None:
                complete(self.trainer, self, optimizer)

    def rate(self, warmup: float = 0.05) -> float:
        """Factor of the learning rate at this batch: :func:`warm_cosine`, or 1 where nothing bounds the training.

        With ``max_time`` alone the share that is done is not known, and a clock would give each rank its own rate.
        """
        return warm_cosine(self.progress(), warmup) if self.total_batches() < math.inf else 1.0

    def total_batches(self) -> float:
        """Training batches of the whole run; infinite when neither epochs nor steps bound it."""
        trainer = self.trainer
        steps = trainer.max_steps if trainer.max_steps is not None and trainer.max_steps > 0 else math.inf
        by_steps = steps * self.batches_per_step
        epochs = trainer.max_epochs if trainer.max_epochs is not None and trainer.max_epochs > 0 else math.inf
        return max(1, min(by_steps, epochs * trainer.num_training_batches))

    def on_fit_start(self) -> None:
        """Tune the memory allocator of a CPU run."""
        if self.device.type == "cpu":
            keep_freed_memory()

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """On resuming, put the global random state back (only now: building loaders has drawn from it)."""
        if self._rng_to_restore is not None:
            restore_rng(self._rng_to_restore)
            self._rng_to_restore = None

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the global random state; leave out networks among the hyperparameters (a task that was built by hand)."""
        checkpoint[_RNG] = capture_rng()
        checkpoint[_COUNTS] = {"images": self.images_seen, "batches": self.batches_seen}
        parameters = checkpoint.get(self.CHECKPOINT_HYPER_PARAMS_KEY)
        if parameters:
            plain = {
                key: asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
                for key, value in parameters.items()
                if not isinstance(value, nn.Module)
            }
            checkpoint[self.CHECKPOINT_HYPER_PARAMS_KEY] = plain

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Read the counts; remember the random state until the first batch."""
        counts = checkpoint.get(_COUNTS, {})
        self.images_seen, self.batches_seen = counts.get("images", 0), counts.get("batches", 0)
        self._rng_to_restore = checkpoint.get(_RNG)

    def card(self, kind: str, **more: Any) -> dict[str, Any]:
        """What is written into an exported weight file: JSON values only."""
        figures = {}
        if self._trainer is not None:
            figures = {k: round(float(v), 5) for k, v in self.trainer.callback_metrics.items() if k.startswith("val/")}
        return {
            "kind": kind,
            "lit_faces": lit_faces.__version__,
            "torch": str(torch.__version__),
            "aus": list(AUS),
            "images_seen": self.images_seen,
            "command": typed_command(),
            "git": _revision(),
            "figures": figures,
            **more,
        }


def one_cycle(task: pl.LightningModule, lr: float, weight_decay: float, warmup: float) -> Any:
    """AdamW (no decay on norms and biases), one cycle over the whole training, as ``configure_optimizers`` returns it.

    Args:
        task: whose parameters.
        lr: highest learning rate.
        weight_decay: of AdamW.
        warmup: share of the training in which the learning rate rises.
    """
    decayed = [p for p in task.parameters() if p.ndim > 1]
    others = [p for p in task.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=lr)
    steps = task.trainer.estimated_stepping_batches
    if not 0 < steps < float("inf"):
        return optimizer
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=lr, total_steps=int(steps), pct_start=warmup, div_factor=10.0
    )
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def quiet_save_hyperparameters(task: pl.LightningModule, frame: Any) -> None:
    """``save_hyperparameters`` of a task's ``__init__``, without the advice to ignore its networks.

    A task built from YAML stores their class paths, and ignoring them would lose those.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*is an instance of `nn.Module`.*")
        warnings.filterwarnings("ignore", message=".*removed from hparams because it cannot be pickled.*")
        task.save_hyperparameters(frame=frame, logger=False)  # loggers get the whole experiment from fit


def typed_command() -> str:
    """What was typed, for a card that travels: of every path its last name only, but of experiments below this folder.

    Example:
        ``lit-faces fit experiments/au6_17.yaml --data.path faces``
    """
    program, words = Path(sys.argv[0]), sys.argv[1:]
    called = ["python", "-m", f"lit_faces.{program.stem}"] if program.parent.name == "lit_faces" else [program.stem]
    return " ".join([*called, *map(_without_folder, words)])


def _without_folder(word: str) -> str:
    option, equals, value = word.partition("=") if word.startswith("-") else ("", "", word)
    path = Path(value)
    shipped = path.parts[:1] == ("experiments",) and ".." not in path.parts
    return word if "/" not in value or shipped else f"{option}{equals}{path.name}"


def _revision() -> str:
    """Git revision of the installed package, or ``unknown``."""
    folder = Path(lit_faces.__file__).parent
    command = ["git", "-C", str(folder), "rev-parse", "--short", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=5).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"
