"""EWC, L2-SP and SI for any LightningModule, which need not know of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.strategies import DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy
from torch import nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from lit_faces.continual.penalties import QuadraticPenalty


class PenaltyCallback(Callback):
    """Adds the gradient of penalties before each optimiser step, in closed form.

    Once a step, after gradients were accumulated and (DDP) averaged over ranks, before clipping: so the penalty does
    not depend on ``accumulate_grad_batches`` nor on the number of ranks, and clipping sees it.  With 16-bit gradients
    the scale is taken off first.  The penalties' state travels in the checkpoint.

    Each optimiser gets the gradient of its own parameters, whoever steps it: Lightning, a module that optimises by hand
    through ``self.optimizers()``, or one that steps the bare torch optimiser.  By hand, ``self.clip_gradients`` clips
    with the penalty too.  A module that clips by torch's own functions says beforehand that the gradients are there
    (:meth:`on_gradients_complete`, as :class:`lit_faces.tasks.base.FaceTask` does); else the penalty comes after its
    clipping, when the optimiser steps.

    Args:
        penalties: such as :class:`lit_faces.continual.ewc.EWC`; consolidate them between two calls of ``fit``, with the
            LightningModule as module.
        log: log ``penalty/<class>`` every ``log_every_n_steps``.

    Raises:
        TypeError: not a sequence of :class:`QuadraticPenalty`.

    Example:
        >>> from lit_faces.continual.ewc import EWC
        >>> callback = PenaltyCallback([EWC(strength=100.0)])
    """

    def __init__(self, penalties: Sequence[QuadraticPenalty], log: bool = True) -> None:
        self.penalties = list(penalties)
        for penalty in self.penalties:
            if not isinstance(penalty, QuadraticPenalty):
                raise TypeError(
                    f"penalties: expected EWC, L2SP or SI (QuadraticPenalty), got {type(penalty).__name__}; "
                    "a penalty that needs the batch (LwF) is a term of the loss in training_step"
                )
        self.log = log
        self._handles: list[RemovableHandle] = []
        self._added: set[int] = set()  # optimisers whose gradients hold the penalty already, by id
        self._unwrap: Callable[[], None] | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse strategies that cut parameters into pieces.

        Raises:
            ValueError: such a strategy.
        """
        if isinstance(trainer.strategy, FSDPStrategy | DeepSpeedStrategy | ModelParallelStrategy):
            raise ValueError(
                f"PenaltyCallback needs whole parameters on every rank, and {type(trainer.strategy).__name__} cuts "
                "them into pieces; train with strategy=ddp or on one device"
            )

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Watch the optimisers' steps, and clipping by hand."""
        self._unhook()

        def before(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
            # with a closure, Lightning asks on_before_optimizer_step from within, when gradients are there
            if len(args) < 2 and kwargs.get("closure") is None:
                self.on_gradients_complete(trainer, pl_module, optimizer)

        def after(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
            self._added.discard(id(optimizer))
            for penalty in self.penalties:
                penalty.after_step(pl_module, only=_parameters_of(optimizer))

        for optimizer in trainer.optimizers:
            self._handles += [optimizer.register_step_pre_hook(before), optimizer.register_step_post_hook(after)]
        if not pl_module.automatic_optimization:
            self._wrap_clipping(trainer, pl_module)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """A step that was left out (gradients that are not finite) took no penalty."""
        self._added.clear()

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Add the gradients, before Lightning clips.

        Raises:
            ValueError: an optimiser that takes the gradient scale of 16-bit training off by itself (fused), so that
                the gradients here still carry it.
        """
        if getattr(trainer.precision_plugin, "scaler", None) is not None and getattr(
            optimizer, "_step_supports_amp_scaling", False
        ):
            raise ValueError(
                "PenaltyCallback: a fused optimiser under precision=16-mixed hides the scale of its gradients; "
                "use fused=False, or precision=bf16-mixed or 32"
            )
        self.on_gradients_complete(trainer, pl_module, optimizer)

    def on_gradients_complete(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        """Add the gradients of the optimiser's own parameters; once, however often it is asked before the step.

        Args:
            trainer: of the training.
            pl_module: whose parameters are held.
            optimizer: torch's, or Lightning's around it.
        """
        optimizer = getattr(optimizer, "optimizer", optimizer)
        if id(optimizer) in self._added:
            return
        self._added.add(id(optimizer))
        own = _parameters_of(optimizer)
        for penalty in self.penalties:  # all look at the loss's own gradients, before any penalty is added
            penalty.before_step(pl_module, only=own)
        for penalty in self.penalties:
            penalty.gradient_(pl_module, only=own)
        if self.log and trainer.global_step % max(1, getattr(trainer, "log_every_n_steps", 50)) == 0:
            for number, penalty in enumerate(self.penalties):
                same = [p for p in self.penalties if type(p) is type(penalty)]
                name = f"penalty/{type(penalty).__name__.lower()}" + (f"_{number}" if len(same) > 1 else "")
                pl_module.log(name, penalty.penalty(pl_module).detach())

    def _wrap_clipping(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """By hand, Lightning has no hook between the gradients and ``clip_gradients``: this makes one."""
        clip = pl_module.clip_gradients

        def clip_with_penalty(optimizer: Any, *args: Any, **kwargs: Any) -> None:
            self.on_gradients_complete(trainer, pl_module, optimizer)
            clip(optimizer, *args, **kwargs)

        pl_module.__dict__["clip_gradients"] = clip_with_penalty
        self._unwrap = lambda: pl_module.__dict__.pop("clip_gradients", None)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Stop watching."""
        self._unhook()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop watching."""
        self._unhook()

    def state_dict(self) -> dict[str, Any]:
        """The penalties' states, tensors only."""
        return {"penalties": [penalty.state_dict() for penalty in self.penalties]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take them back, in the same order.

        Raises:
            ValueError: another number or kind of penalties.
        """
        states = state_dict["penalties"]
        if len(states) != len(self.penalties):
            raise ValueError(f"checkpoint: expected {len(self.penalties)} penalties, as here, found {len(states)}")
        for penalty, state in zip(self.penalties, states):
            penalty.load_state_dict(state)

    def _unhook(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []
        self._added.clear()
        if self._unwrap is not None:
            self._unwrap()
            self._unwrap = None


def _parameters_of(optimizer: Optimizer) -> list[nn.Parameter]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]
