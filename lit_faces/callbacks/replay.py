"""Replay for any LightningModule, which need not know of it."""

from __future__ import annotations

from typing import Any

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback
from torch import Tensor

from lit_faces.continual.replay import FaceMemory, ReplayMemory
from lit_faces.core.sample import FaceBatch
from lit_faces.core.seeding import generator_for

_DRAWS = 0x4E9


class ReplayCallback(Callback):
    """Puts remembered rows behind those of each training batch, and the batch's own rows into the memory.

    Batches are :class:`FaceBatch` (with a :class:`FaceMemory`) or dicts of tensors (with a :class:`ReplayMemory`), and
    are lengthened in place, before ``training_step`` sees them. What is remembered is what the DataLoader gave, not
    what was drawn from the memory.

    In a distributed run every rank has a memory of its own share of the data; a checkpoint holds all of them. With as
    many ranks, each goes on with its own; with another number, all start from one merged memory.

    Args:
        memory: where rows are kept.
        share: remembered rows to new ones.
        learn: add the batches to the memory; False replays what it holds and keeps it as it is.
        seed: of the draws.

    Raises:
        ValueError: a share that is not above 0.

    Example:
        >>> callback = ReplayCallback(FaceMemory(capacity="64MB"), share=1.0)
    """

    def __init__(self, memory: ReplayMemory, share: float = 1.0, learn: bool = True, seed: int = 0) -> None:
        if share <= 0:
            raise ValueError(f"share of remembered rows: expected a number above 0, got {share}")
        self.memory, self.share, self.learn, self.seed = memory, share, learn, seed
        self.batches = 0
        self._world, self._rank = 1, 0
        self._restored: list[dict[str, Any]] | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Take this rank's memory out of what a checkpoint brought."""
        self._world, self._rank = trainer.world_size, trainer.global_rank
        self._settle()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """As :meth:`setup`, for a checkpoint that is loaded after it."""
        self._settle()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Lengthen the batch.

        Raises:
            TypeError: a batch that is neither a FaceBatch nor a dict of tensors, or that does not go with the memory.
        """
        draws = generator_for(self.seed, _DRAWS, self._rank, self.batches)
        self.batches += 1
        faces = isinstance(batch, FaceBatch)
        if not faces and not (isinstance(batch, dict) and all(isinstance(v, Tensor) for v in batch.values())):
            raise TypeError(f"ReplayCallback: expected a FaceBatch or a dict of tensors, got {type(batch).__name__}")
        if faces != isinstance(self.memory, FaceMemory):
            raise TypeError(f"ReplayCallback: {type(batch).__name__} does not go with a {type(self.memory).__name__}")
        content = batch.__dict__ if faces else batch
        new = {name: value.clone() if isinstance(value, Tensor) else list(value) for name, value in content.items()}
        if len(self.memory):
            count = max(1, round(self.share * len(next(v for v in content.values() if isinstance(v, Tensor)))))
            memory = self.memory
            old = memory.sample(count, draws).__dict__ if isinstance(memory, FaceMemory) else memory.draw(count, draws)
            for name, value in content.items():
                if isinstance(value, Tensor):
                    content[name] = torch.cat([value, old[name].to(value.device)])
                else:
                    content[name] = [*value, *old[name]]
        if self.learn:
            self.memory.add(FaceBatch(**new) if faces else new)  # type: ignore[arg-type]

    def state_dict(self) -> dict[str, Any]:
        """The memories of all ranks; Lightning asks every rank, so this may gather."""
        mine = self.memory.state_dict()
        states: list[Any] = [mine]
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            states = [None] * torch.distributed.get_world_size()
            torch.distributed.all_gather_object(states, mine)
        return {"memories": states, "batches": self.batches}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep them until the rank is known."""
        self.batches = int(state_dict["batches"])
        self._restored = list(state_dict["memories"])
        if not (torch.distributed.is_available() and torch.distributed.is_initialized()) and len(self._restored) == 1:
            self._settle()

    def _settle(self) -> None:
        if self._restored is None:
            return
        states, self._restored = self._restored, None
        if len(states) == self._world:
            self.memory.load_state_dict(states[self._rank])
            return
        self.memory.load_state_dict(states[0])
        for state in states[1:]:
            other = type(self.memory)(self.memory.capacity, self.memory.policy, self.memory.seed)
            other.load_state_dict(state)
            self.memory.merge(other)
