"""What every data module shares: a sampler that can resume, loaders, and one place where ranks and workers are counted.

A dataset here answers *indices that never end*: index ``epoch * length + k`` is item ``k`` of that epoch. What an item
is follows from its index and the seed alone, so the stream is the same for every number of workers and ranks, and a run
that was killed continues where it stood.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import torch
from pytorch_lightning import LightningDataModule
from torch.utils.data import DataLoader, Dataset, Sampler
from torchdata.stateful_dataloader import StatefulDataLoader

_LOADER_OUTLIVES_S = 10  # more than a training waits for the end of its batch


class BatchDataset(Protocol):
    """A map-style dataset that gathers a whole batch at once."""

    def __len__(self) -> int:
        """Number of items of one epoch."""

    def __getitems__(self, indices: Sequence[int]) -> Any:
        """The collated batch of these indices; indices of later epochs are ``epoch * len(self) + k``."""


class EpochSampler(Sampler[int]):
    """The indices of one epoch for one rank, from ``(seed, epoch)`` alone.

    All ranks draw the same order and take every ``world``-th index of it, so that the global stream does not depend on
    the number of ranks.

    Args:
        length: number of items of one epoch, over all ranks.
        seed: seed of the order.
        shuffle: a new permutation each epoch; otherwise ascending.
        rank: this process.
        world: number of processes.
        even: drop the remainder so that every rank gets the same number of items (training needs it; evaluation wants
            every item exactly once).
    """

    def __init__(
        self, length: int, seed: int = 0, shuffle: bool = True, rank: int = 0, world: int = 1, even: bool = True
    ) -> None:
        if length < world:
            raise ValueError(f"{length} items cannot be shared by {world} processes: ask for more subjects or frames")
        if not 0 <= rank < world:
            raise ValueError(f"rank must be in 0..{world - 1}, got {rank}")
        self.length, self.seed, self.shuffle, self.rank, self.world, self.even = (
            length,
            seed,
            shuffle,
            rank,
            world,
            even,
        )
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch; Lightning calls it before every epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        usable = self.length // self.world * self.world if self.even else self.length
        return len(range(self.rank, usable, self.world))

    def __iter__(self) -> Iterator[int]:
        if self.shuffle:
            generator = torch.Generator().manual_seed((self.seed * 100_003 + self.epoch) % 2**63)
            order = torch.randperm(self.length, generator=generator)
        else:
            order = torch.arange(self.length)
        usable = self.length // self.world * self.world if self.even else self.length
        first = self.epoch * self.length if self.shuffle else 0
        yield from (order[self.rank : usable : self.world] + first).tolist()


def _outlive_sigterm(worker: int) -> None:
    """Signals often go to a whole group: a loader process that dies takes the checkpoint of the batch with it.

    In a job of SLURM it is ended with the step; elsewhere it ends itself, should nobody end it before.
    """
    ends = signal.SIG_IGN if "SLURM_JOB_ID" in os.environ else lambda *_: signal.alarm(_LOADER_OUTLIVES_S)
    signal.signal(signal.SIGTERM, ends)


def _as_gathered(batch: Any) -> Any:
    """The dataset has collated already."""
    return batch


class FaceDataModule(LightningDataModule):
    """Loaders over the datasets ``self.train_set``, ``self.val_set`` and ``self.test_set`` that a subclass sets up.

    Args:
        batch_size: items of one step of one process.
        eval_batch_size: items of one validation or test step.
        seed: seed of the order of the training stream.
        num_workers: loader processes; 0 is fastest for cached images on a small machine.
        pin_memory: page-locked batches; None means "when a CUDA device is there".
    """

    def __init__(
        self,
        batch_size: int = 16,
        eval_batch_size: int = 32,
        seed: int = 0,
        num_workers: int = 0,
        pin_memory: bool | None = None,
    ) -> None:
        super().__init__()
        if batch_size < 1 or eval_batch_size < 1:
            raise ValueError(f"batch sizes must be at least 1, got {batch_size} and {eval_batch_size}")
        self.batch_size, self.eval_batch_size, self.seed, self.num_workers = (
            batch_size,
            eval_batch_size,
            seed,
            num_workers,
        )
        self.pin_memory = torch.cuda.is_available() if pin_memory is None else pin_memory
        self.train_set: BatchDataset | None = None
        self.val_set: BatchDataset | None = None
        self.test_set: BatchDataset | None = None

    def _sampler(self, dataset: BatchDataset, train: bool) -> EpochSampler:
        rank = self.trainer.global_rank if self.trainer is not None else 0
        world = self.trainer.world_size if self.trainer is not None else 1
        return EpochSampler(len(dataset), self.seed, shuffle=train, rank=rank, world=world, even=train)

    def _common(self) -> dict[str, Any]:
        # a generator of its own: making an iterator must not advance the global RNG, or a resumed run drifts
        return {
            "num_workers": self.num_workers,
            "collate_fn": _as_gathered,
            "pin_memory": self.pin_memory,
            "generator": torch.Generator().manual_seed(self.seed),
            "persistent_workers": False,
            "worker_init_fn": _outlive_sigterm if self.num_workers else None,
        }

    def train_dataloader(self) -> StatefulDataLoader:
        """Shuffled, endless in epochs, resumable in the middle of one."""
        dataset = self._need("train")
        sampler = self._sampler(dataset, train=True)
        if self.trainer is not None:
            sampler.set_epoch(self.trainer.current_epoch)  # on resume Lightning iterates before it calls set_epoch
        if len(sampler) < self.batch_size:
            raise ValueError(
                f"one epoch has {len(sampler)} items for this process, fewer than batch_size={self.batch_size}: "
                "lower batch_size or ask for more subjects or frames"
            )
        return StatefulDataLoader(
            _indexable(dataset), batch_size=self.batch_size, sampler=sampler, drop_last=True, **self._common()
        )

    def _eval_dataloader(self, stage: str) -> DataLoader:
        dataset = self._need(stage)
        sampler = self._sampler(dataset, train=False)
        return DataLoader(_indexable(dataset), batch_size=self.eval_batch_size, sampler=sampler, **self._common())

    def val_dataloader(self) -> DataLoader:
        """People of the validation split, in order."""
        return self._eval_dataloader("val")

    def test_dataloader(self) -> DataLoader:
        """People of the test split, in order."""
        return self._eval_dataloader("test")

    def _need(self, stage: str) -> BatchDataset:
        dataset = getattr(self, f"{stage}_set")
        if dataset is None:
            raise RuntimeError(f"the {stage} set is not there yet: call prepare_data() and setup() first")
        return dataset


def _indexable(dataset: BatchDataset) -> Dataset:
    return dataset  # type: ignore[return-value]  # duck-typed: torch only calls __getitems__
