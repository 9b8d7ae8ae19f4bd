"""What processes of one training tell each other, on any device and backend."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def place() -> tuple[int, int]:
    """Rank and number of processes; (0, 1) outside a distributed training."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1


def gather(value: Any) -> list[Any]:
    """``value`` of every rank, in their order. All ranks must call it."""
    _, world = place()
    if world == 1:
        return [value]
    values: list[Any] = [None] * world
    torch.distributed.all_gather_object(values, value)
    return values


def gather_tensors(value: Tensor, group: Any = None) -> list[Tensor]:
    """As :func:`gather`, for torchmetrics' ``dist_sync_fn``: CPU tensors of any shape, also under NCCL."""
    return [other.to(value.device) for other in gather(value.cpu())]


def interleave(parts: list[list[Any]]) -> list[Any]:
    """Rows that were dealt out one by one (rank r has rows r, r + world, ...) in their first order."""
    longest = max(map(len, parts))
    return [part[row] for row in range(longest) for part in parts if row < len(part)]
