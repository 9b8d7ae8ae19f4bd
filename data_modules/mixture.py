"""Several sources as one stream: which face comes when follows from (seed, epoch) alone.

Each source is an endless stream of seeded permutations of its faces; an epoch takes the next ``n_k`` of source ``k``
and mixes them. So no face comes again before all others of its source have come, also across epochs, and the stream is
the same for any number of processes and workers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

#: (source, row of the source, how often the row came before)
Draw = tuple[int, int, int]


def shares(weights: Sequence[float], length: int) -> list[int]:
    """``length`` items dealt to the weights by largest remainder.

    Raises:
        ValueError: a weight is negative or not finite, or all are 0.
    """
    if any(not (math.isfinite(weight) and weight >= 0) for weight in weights) or not sum(weights):
        raise ValueError(f"weights: expected numbers of 0 or more, not all 0, got {list(weights)}")
    exact = [weight / sum(weights) * length for weight in weights]
    counts = [int(value) for value in exact]
    order = sorted(range(len(exact)), key=lambda k: (counts[k] - exact[k], k))
    for k in order[: length - sum(counts)]:
        counts[k] += 1
    return counts


class MixtureBatches(Sampler[list[Draw]]):
    """Batches of one rank, epoch after epoch.

    Every rank gets the same number of batches. Without ``drop_last`` the sizes of batches differ by one at most and
    every item of the epoch is given to exactly one rank; with it all batches have ``batch_size`` and what is left over
    opens the next epoch.

    Args:
        sizes: faces of each source.
        weights: share of each source in the stream; None means every face once an epoch.
        batch_size: faces of one step of one rank, at most (more by one when there are fewer than ``world`` over).
        length: faces of an epoch, over all ranks; None means as many as there are.
        seed: of the order.
        rank: this process.
        world: number of processes.
        drop_last: equal batches.

    Raises:
        ValueError: an empty source with a weight, fewer faces than processes, or a rank that does not exist.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        weights: Sequence[float] | None = None,
        batch_size: int = 16,
        length: int | None = None,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
        drop_last: bool = False,
    ) -> None:
        if not 0 <= rank < world:
            raise ValueError(f"rank must be in 0..{world - 1}, got {rank}")
        weights = list(map(float, sizes)) if weights is None else list(weights)
        length = sum(sizes) if length is None else length
        if drop_last:
            length = length // (batch_size * world) * batch_size * world
        if length < world:
            raise ValueError(
                f"an epoch of {sum(sizes)} faces is too short for {world} processes with batch_size={batch_size}: "
                "lower batch_size, or prepare more"
            )
        self.sizes, self.counts = list(sizes), shares(weights, length)
        for k, (size, count) in enumerate(zip(self.sizes, self.counts)):
            if count and not size:
                raise ValueError(f"source {k} has a weight but no face to train on")
        self.length, self.batch_size, self.seed, self.rank, self.world = length, batch_size, seed, rank, world
        self.batches = max(1, min(-(-length // (batch_size * world)), length // world))
        self.epoch = 0

    @property
    def sampler(self) -> MixtureBatches:
        """Where Lightning looks for ``set_epoch``."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[list[Draw]]:
        source, row, cycle = self.order(self.epoch)
        for b in range(self.batches):
            first, last = b * self.length // self.batches, (b + 1) * self.length // self.batches
            mine = slice(first + self.rank, last, self.world)
            yield list(zip(source[mine].tolist(), row[mine].tolist(), cycle[mine].tolist()))

    def order(self, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Source, row and cycle of every item of an epoch, over all ranks."""
        parts = [self._of_source(k, epoch) for k in range(len(self.sizes))]
        labels = np.concatenate([np.full(len(rows), k) for k, (rows, _) in enumerate(parts)])
        rows, cycles = (np.concatenate(columns) for columns in zip(*parts))
        mixed = np.random.default_rng((self.seed, 1, epoch)).permutation(self.length)
        return labels[mixed], rows[mixed], cycles[mixed]

    def _of_source(self, k: int, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        size, count = self.sizes[k], self.counts[k]
        if not count:
            return np.empty(0, np.int64), np.empty(0, np.int64)
        item = np.arange(epoch * count, (epoch + 1) * count)
        cycle = item // size
        rows = np.empty(count, np.int64)
        for number in np.unique(cycle):
            here = cycle == number
            order = np.random.default_rng((self.seed, 0, k, int(number))).permutation(size)
            rows[here] = order[item[here] % size]
        return rows, cycle


class Sequential(Sampler[list[Draw]]):
    """Every face of every source once, in order, each at one rank only; for validation and test.

    Raises:
        ValueError: fewer faces than ranks.
    """

    def __init__(self, sizes: Sequence[int], batch_size: int, rank: int = 0, world: int = 1) -> None:
        draws = [(k, row, 0) for k, size in enumerate(sizes) for row in range(size)]
        if len(draws) < world:  # a rank without a batch skips the evaluation, and the others wait for it
            raise ValueError(
                f"{len(draws)} faces cannot be shared by {world} processes: ask for more, or fewer processes"
            )
        self.draws, self.batch_size = draws[rank::world], batch_size

    def __len__(self) -> int:
        return -(-len(self.draws) // self.batch_size)

    def __iter__(self) -> Iterator[list[Draw]]:
        for first in range(0, len(self.draws), self.batch_size):
            yield self.draws[first : first + self.batch_size]
