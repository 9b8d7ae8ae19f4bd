"""EWC, L2-SP and SI for any LightningModule, which need not know of them."""

from __future__ import annotations

from collections.abc import Sequence
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
    the scale is taken off first.  Each optimiser gets the gradient of its own parameters, so that several optimisers
    and manual optimisation work too.  The penalties' state travels in the checkpoint.

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
        """Watch the optimisers' steps."""
        self._unhook()

        def after(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
            for penalty in self.penalties:
                penalty.after_step(pl_module)

        self._handles = [optimizer.register_step_post_hook(after) for optimizer in trainer.optimizers]

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Add the gradients.

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
        own: list[nn.Parameter] = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        for penalty in self.penalties:  # all look at the loss's own gradients, before any penalty is added
            penalty.before_step(pl_module)
        for penalty in self.penalties:
            penalty.gradient_(pl_module, only=own)
        if self.log and trainer.global_step % max(1, getattr(trainer, "log_every_n_steps", 50)) == 0:
            for number, penalty in enumerate(self.penalties):
                same = [p for p in self.penalties if type(p) is type(penalty)]
                name = f"penalty/{type(penalty).__name__.lower()}" + (f"_{number}" if len(same) > 1 else "")
                pl_module.log(name, penalty.penalty(pl_module).detach())

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
