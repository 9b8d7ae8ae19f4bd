r"""Penalties on leaving what is known: one parabola a parameter (EWC, L2-SP, SI), or the old model's answers (LwF).

    penalty(theta) = strength / 2 * (constant + sum_i importance_i (theta_i - anchor_i)^2)
    gradient       = strength * importance_i (theta_i - anchor_i)

``penalty(module)`` is a term of a loss, with a graph.  ``gradient_(module)`` adds the same gradient to ``.grad`` and
needs none; :class:`lit_faces.callbacks.penalties.PenaltyCallback` does that for any LightningModule.
"""

from __future__ import annotations

import copy
import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal, get_args

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

Likelihood = Literal["bernoulli", "categorical", "gaussian"]


def check_likelihood(likelihood: str) -> None:
    """Refuse a name that is not a likelihood.

    Raises:
        ValueError: names those that are.
    """
    if likelihood not in get_args(Likelihood):
        raise ValueError(f"likelihood: expected one of {', '.join(get_args(Likelihood))}, got {likelihood!r}")


class QuadraticPenalty:
    """A parabola about an anchor, parameter by parameter; 0 until there is something to keep.

    Parameters that it has not met (a new head) are free, and frozen ones have no gradient.

    Args:
        strength: lambda, at least 0.

    A penalty of one's own says in :meth:`consolidate` how importances are found; the signature is the same for all.

    Attributes:
        at_start: whether it is consolidated on what was known before the first task (by
            :class:`lit_faces.persons.learner.PersonalLearner`).
        after_each: whether it is consolidated after each task.
        takes_fisher: whether :meth:`add_task` may be given the exact Gaussian Fisher information that was found before.
        importance: name -> tensor of the parameter's shape, at least 0.
        anchor: name -> where the parameter is held.
        constant: float64 scalar, see the module's formula.
        tasks: how many tasks are kept.

    Raises:
        ValueError: negative strength.
    """

    at_start = True
    after_each = True
    takes_fisher = False

    def __init__(self, strength: float = 1.0) -> None:
        if not strength >= 0:
            raise ValueError(f"strength: expected a number >= 0, got {strength}")
        self.strength = strength
        self.importance: dict[str, Tensor] = {}
        self.anchor: dict[str, Tensor] = {}
        self.constant = torch.zeros((), dtype=torch.float64)
        self.tasks = 0

    def consolidate(
        self,
        module: nn.Module,
        inputs: Tensor | None = None,
        targets: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> None:
        """Remember the task that was just learnt: find importances, and hold the parameters where they are.

        Args:
            module: maps inputs to outputs (n, K); the module that :meth:`penalty` will be asked about.
            inputs: (N, ...), some samples of the task; penalties that measure nothing on samples do not read them.
            targets: (N, K), NaN = not coded; likewise.
            mask: bool (K,) or (N, K), the outputs that count; likewise.

        Raises:
            NotImplementedError: a child that does not say how.
        """
        raise NotImplementedError(f"{type(self).__name__}: consolidate must say how importances are found")

    @torch.inference_mode(False)  # what is kept outlives a validation hook
    @torch.no_grad()
    def add_task(self, module: nn.Module, importance: Mapping[str, Tensor]) -> None:
        """Remember a task whose importances are known: they add up, and the parameters are held where they are.

        Args:
            module: as the task left it.
            importance: by name of parameter, its shape, at least 0.

        Raises:
            ValueError: names or shapes that the module does not have.
        """
        for name, parameter in self.matching(module, importance).items():
            new, known = importance[name].detach().to(parameter.device), self.importance.get(name)
            self.importance[name] = new.clone() if known is None else known.to(parameter.device) + new
            self.anchor[name] = parameter.detach().clone()
        self.tasks += 1

    def penalty(self, module: nn.Module) -> Tensor:
        """The penalty at the module's parameters: a scalar with a graph.

        Raises:
            ValueError: a parameter that is kept has another name or shape in the module.
        """
        device = next((p.device for p in module.parameters()), torch.device("cpu"))
        total = self.constant.to(torch.get_default_dtype()).to(device)
        for parameter, importance, anchor in self._held(module):
            total = total + (importance * (parameter - anchor).square()).sum()
        return 0.5 * self.strength * total

    @torch.no_grad()
    def gradient_(self, module: nn.Module, only: Iterable[Tensor] | None = None) -> None:
        """Add the penalty's gradient to ``.grad``; once an optimiser step, however many batches that step sums up.

        Args:
            module: its parameters are matched by name.
            only: the parameters to touch (those of one optimiser); None means all.

        Raises:
            ValueError: as :meth:`penalty`.
        """
        wanted = None if only is None else {id(parameter) for parameter in only}
        for parameter, importance, anchor in self._held(module):
            if not parameter.requires_grad or (wanted is not None and id(parameter) not in wanted):
                continue
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            parameter.grad.add_((importance * (parameter - anchor)).to(parameter.grad), alpha=self.strength)

    def before_step(self, module: nn.Module, only: Iterable[Tensor] | None = None) -> None:
        """Look at the gradients of the loss before an optimiser step; nothing to do for most penalties.

        Args:
            module: its parameters are matched by name.
            only: the parameters that step (those of one optimiser); None means all.
        """

    def after_step(self, module: nn.Module, only: Iterable[Tensor] | None = None) -> None:
        """Look at the parameters after that step, ``only`` as before."""

    def state_dict(self) -> dict[str, Tensor]:
        """Contiguous tensors only, so that safetensors and ``torch.load(weights_only=True)`` can hold it."""
        state = {"constant": self.constant.clone(), "tasks": torch.tensor(self.tasks)}
        for part, tensors in self._tensors().items():
            state |= {f"{part}.{name}": value.detach().clone().contiguous() for name, value in tensors.items()}
        return state

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take the state of :meth:`state_dict`; the strength stays.

        Raises:
            ValueError: not a state of this kind of penalty.
        """
        parts = self._tensors()
        unknown = [key for key in state if key not in ("constant", "tasks") and key.split(".")[0] not in parts]
        missing = [key for key in ("constant", "tasks") if key not in state]
        if unknown or missing:
            raise ValueError(
                f"state of {type(self).__name__}: expected constant, tasks, {', '.join(f'{p}.NAME' for p in parts)}; "
                f"{'unexpected ' + unknown[0] if unknown else 'missing ' + missing[0]}: made by another penalty?"
            )
        for part, tensors in parts.items():
            tensors.clear()
            tensors.update(
                {key[len(part) + 1 :]: v.detach().clone() for key, v in state.items() if key.startswith(part + ".")}
            )
        if self.importance.keys() != self.anchor.keys():
            raise ValueError(f"state of {type(self).__name__}: importances and anchors are of different parameters")
        self.constant, self.tasks = state["constant"].detach().cpu().double().clone(), int(state["tasks"])

    def matching(self, module: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, nn.Parameter]:
        """The module's parameters under the names of ``tensors``.

        Raises:
            ValueError: a name that the module lacks, or another shape.
        """
        own = dict(module.named_parameters())
        for name, tensor in tensors.items():
            if name not in own:
                near = [o for o in own if o.endswith(f".{name}") or name.endswith(f".{o}")]
                near = near or difflib.get_close_matches(name, own, n=1)
                raise ValueError(
                    f"{type(self).__name__}: {type(module).__name__} has no parameter {name!r}"
                    f"{f' (nearest: {near[0]!r})' if near else ''}; pass the same module as when it was remembered"
                )
            if own[name].shape != tensor.shape:
                raise ValueError(
                    f"{type(self).__name__}: parameter {name!r} has shape {tuple(own[name].shape)}, remembered "
                    f"{tuple(tensor.shape)}; a layer that grows needs a new name (and is then free), and a sharded "
                    "parameter (FSDP) is not supported"
                )
        return {name: own[name] for name in tensors}

    def _held(self, module: nn.Module) -> Iterator[tuple[nn.Parameter, Tensor, Tensor]]:
        """Parameter, importance and anchor, moved to the parameter's device once."""
        for name, parameter in self.matching(module, self.anchor).items():
            for tensors in (self.importance, self.anchor):
                if tensors[name].device != parameter.device:
                    tensors[name] = tensors[name].to(parameter.device)
            yield parameter, self.importance[name], self.anchor[name]

    def _tensors(self) -> dict[str, dict[str, Tensor]]:
        """What the state holds, by the first part of its names."""
        return {"importance": self.importance, "anchor": self.anchor}


def _trainable(module: nn.Module) -> dict[str, nn.Parameter]:
    return {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}


class L2SP(QuadraticPenalty):
    """Stay near the starting point (Li et al. 2018): alpha / 2 ||w - w0||^2 + beta / 2 ||new||^2.

    Args:
        strength: alpha.
        strength_new: beta, ordinary weight decay on parameters that the starting point had not learnt.
        new: those parameters, by the start of their names: ``("head.",)``.

    Raises:
        ValueError: negative strength, or new parameters without a strength above 0.
    """

    after_each = False  # the starting point stays where it was

    def __init__(self, strength: float = 1.0, strength_new: float = 0.0, new: Sequence[str] = ()) -> None:
        super().__init__(strength)
        if strength_new < 0 or (strength_new > 0 and not (strength > 0 and new)):
            raise ValueError(
                f"strength_new: expected >= 0, and above 0 only with strength > 0 and names of new parameters, got "
                f"{strength_new}, strength={strength}, new={tuple(new)}"
            )
        self.strength_new, self.new = strength_new, tuple(new)

    @torch.inference_mode(False)
    @torch.no_grad()
    def consolidate(
        self,
        module: nn.Module,
        inputs: Tensor | None = None,
        targets: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> None:
        """Make the module's parameters of now the starting point; samples are not read.

        Raises:
            ValueError: nothing is trainable.
        """
        if not _trainable(module):
            raise ValueError(
                f"L2SP: no parameter of {type(module).__name__} is trainable; call requires_grad_(True) first"
            )
        ratio = self.strength_new / self.strength if self.strength else 0.0
        for name, parameter in _trainable(module).items():
            fresh = bool(self.new) and name.startswith(self.new)
            self.importance[name] = torch.full_like(parameter, ratio if fresh else 1.0)
            self.anchor[name] = torch.zeros_like(parameter) if fresh else parameter.detach().clone()
        self.tasks += 1


class SI(QuadraticPenalty):
    """Synaptic intelligence (Zenke et al. 2017): what each parameter did for the loss along the way of training.

        path_i      = - sum over optimiser steps of g_i (change of theta_i)
        importance += max(path, 0) / ((change over the task)^2 + damping)

    The paper writes its penalty c sum(...) without the half: strength = 2 c.  A path below 0 counts as 0: an importance
    below 0 would push away from the anchor.  g is the loss's gradient without penalties, after any accumulation,
    before clipping.  The first step starts the first task.

    Args:
        strength: 2 c.
        damping: xi, in squared units of the parameters, above 0.

    Raises:
        ValueError: negative strength, or damping not above 0.
    """

    at_start = False  # no step was seen yet

    def __init__(self, strength: float = 0.2, damping: float = 0.1) -> None:
        super().__init__(strength)
        if not damping > 0:
            raise ValueError(f"damping: expected a number > 0, got {damping}")
        self.damping = damping
        self.path: dict[str, Tensor] = {}
        self.start: dict[str, Tensor] = {}
        self._pending: dict[str, tuple[Tensor, Tensor]] = {}  # gradient and parameter before the step

    @torch.no_grad()
    def before_step(self, module: nn.Module, only: Iterable[Tensor] | None = None) -> None:
        """Keep gradients and parameters; call when ``.grad`` is complete and holds no penalty."""
        wanted = None if only is None else {id(parameter) for parameter in only}
        for name, parameter in _trainable(module).items():
            if name not in self.start:
                self.start[name], self.path[name] = parameter.detach().clone(), torch.zeros_like(parameter)
            if wanted is None or id(parameter) in wanted:
                self._pending.pop(name, None)
                if parameter.grad is not None:
                    self._pending[name] = parameter.grad.clone(), parameter.detach().clone()

    @torch.no_grad()
    def after_step(self, module: nn.Module, only: Iterable[Tensor] | None = None) -> None:
        """Add the step to the path."""
        wanted = None if only is None else {id(parameter) for parameter in only}
        for name, parameter in module.named_parameters():
            if name not in self._pending or (wanted is not None and id(parameter) not in wanted):
                continue
            gradient, before = self._pending.pop(name)
            moved = parameter - before
            # a step that was skipped for infinite gradients moves nothing, and 0 * inf is not 0
            self.path[name] = self.path[name].to(moved.device) - torch.where(moved == 0, 0.0, gradient * moved)

    @torch.inference_mode(False)
    @torch.no_grad()
    def consolidate(
        self,
        module: nn.Module,
        inputs: Tensor | None = None,
        targets: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> None:
        """End the task: turn the path into importances, hold the parameters, start the next path; no samples are read.

        Raises:
            ValueError: no step was seen, or the parameters have other names or shapes.
        """
        if not self.start:
            raise ValueError(
                "SI: no optimiser step was seen; train with PenaltyCallback, or call before_step and after_step"
            )
        for name, parameter in self.matching(module, self.start).items():
            here = parameter.detach().clone()
            start, path = self.start[name].to(here.device), self.path[name].to(here.device)
            gained = path.clamp(min=0) / ((here - start).square() + self.damping)
            known = self.importance.get(name)
            self.importance[name] = gained if known is None else known.to(here.device) + gained
            self.anchor[name], self.start[name], self.path[name] = here, here.clone(), torch.zeros_like(here)
        self.tasks += 1

    def _tensors(self) -> dict[str, dict[str, Tensor]]:
        return {**super()._tensors(), "path": self.path, "start": self.start}


def distillation_loss(
    outputs: Tensor, old_outputs: Tensor, likelihood: Likelihood = "bernoulli", temperature: float = 2.0
) -> Tensor:
    """How far predictions have moved from the old model's: KL(old || new), mean over samples, summed over outputs.

    Li & Hoiem 2016 write the cross-entropy, which differs by a constant; this is 0 at the old model.  Softened
    logits z / T are weighted by T^2 (Hinton et al. 2015), so that the gradient's scale does not depend on T.  For
    gaussian heads it is half the squared difference, and T plays no part.  To second order at T = 1 it is the exact
    EWC penalty on the same inputs, off-diagonal terms included.

    Args:
        outputs: (n, K), logits or means.
        old_outputs: (n, K); no gradient flows there.
        likelihood: ``bernoulli``, ``categorical`` or ``gaussian``.
        temperature: T, above 0.

    Returns:
        Scalar, at least 0.

    Raises:
        ValueError: unknown likelihood, shapes that differ, temperature not above 0.
    """
    check_likelihood(likelihood)
    if outputs.shape != old_outputs.shape or outputs.ndim != 2 or not len(outputs):
        raise ValueError(f"expected two (n, K), got {tuple(outputs.shape)} and {tuple(old_outputs.shape)}")
    if not temperature > 0:
        raise ValueError(f"temperature: expected a number > 0, got {temperature}")
    old_outputs = old_outputs.detach()
    if likelihood == "gaussian":
        return 0.5 * (outputs - old_outputs).square().sum(1).mean()
    new, old = outputs / temperature, old_outputs / temperature
    if likelihood == "categorical":
        divergence = old.softmax(1) * (old.log_softmax(1) - new.log_softmax(1))
    else:
        on, off = (
            functional.logsigmoid(old) - functional.logsigmoid(new),
            functional.logsigmoid(-old) - functional.logsigmoid(-new),
        )
        divergence = old.sigmoid() * on + (-old).sigmoid() * off
    return temperature**2 * divergence.sum(1).mean()


class LwF:
    """Learning without forgetting (Li & Hoiem 2016): on the new pictures, keep answering as the old model did.

    Unlike the other penalties it needs the batch: add ``lwf.penalty(self, x, outputs)`` to the loss in
    ``training_step``.  0 until :meth:`consolidate`.

    Args:
        strength: lambda_o.
        likelihood: of the outputs.
        temperature: T of :func:`distillation_loss`.

    Attributes:
        old: frozen copy of the module in evaluation mode, or None.

    Raises:
        ValueError: unknown likelihood or negative strength.
    """

    def __init__(self, strength: float = 1.0, likelihood: Likelihood = "bernoulli", temperature: float = 2.0) -> None:
        check_likelihood(likelihood)
        if not strength >= 0:
            raise ValueError(f"strength: expected a number >= 0, got {strength}")
        self.strength, self.likelihood, self.temperature = strength, likelihood, temperature
        self.old: nn.Module | None = None

    def consolidate(
        self,
        module: nn.Module,
        inputs: Tensor | None = None,
        targets: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> None:
        """Freeze a copy of the module as it is now; samples are not read."""
        self.old = copy.deepcopy(module).eval().requires_grad_(False)

    def penalty(self, module: nn.Module, inputs: Tensor, outputs: Tensor | None = None) -> Tensor:
        """Strength * :func:`distillation_loss` on a batch.

        Args:
            module: the model in training.
            inputs: (n, ...).
            outputs: ``module(inputs)`` where it is known already, (n, K).

        Returns:
            Scalar with a graph.
        """
        if self.old is None:
            return inputs.new_zeros((), dtype=torch.get_default_dtype())
        with torch.no_grad():
            wanted = self.old.to(inputs.device)(inputs)
        outputs = module(inputs) if outputs is None else outputs
        return self.strength * distillation_loss(outputs, wanted, self.likelihood, self.temperature)

    def state_dict(self) -> dict[str, Tensor]:
        """The old model's state under ``old.``; empty before :meth:`consolidate`."""
        return {} if self.old is None else {f"old.{k}": v.detach().clone() for k, v in self.old.state_dict().items()}

    def load_state_dict(self, state: Mapping[str, Tensor], module: nn.Module) -> None:
        """Take the state of :meth:`state_dict`.

        Args:
            state: tensors.
            module: of the old model's architecture; it is copied, not changed.

        Raises:
            RuntimeError: the state is of another architecture (torch names the keys).
        """
        self.old = None
        if state:
            self.consolidate(module)
            assert isinstance(self.old, nn.Module)
            self.old.load_state_dict({key.removeprefix("old."): value for key, value in state.items()})
