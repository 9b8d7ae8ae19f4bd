r"""Elastic weight consolidation: how much does each parameter matter to what is known, and how to hold it there.

    penalty(theta) = strength / 2 * sum_i F_i (theta_i - theta*_i)^2                  Kirkpatrick et al. 2017, eq. 3

F is the diagonal of the Fisher information.  For the usual heads its expectation over labels is a closed form, with
z_k the outputs, p the probabilities and a mean over samples (never over batches) in front:

    bernoulli    sum_k p_k (1 - p_k) (dz_k / dtheta)^2      K independent labels: E[(p_j - y_j)(p_k - y_k)] = 0, j != k
    categorical  sum_y p_y (d log p_y / dtheta)^2
    gaussian     sum_k (dz_k / dtheta)^2                    unit variance

No label is sampled or needed.  Two common stand-ins have names of their own (van de Ven 2025, arXiv:2502.11756,
compares them): ``empirical`` squares the gradient at the given label of each sample, ``batched`` squares the gradient
of a batch's mean, as Avalanche does; that one shrinks like 1 / batch_size, and the best strength with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from lit_faces.continual.penalties import Likelihood, QuadraticPenalty, check_likelihood
from lit_faces.continual.per_sample import (
    Directions,
    batches,
    check_arguments,
    evaluating,
    outputs_of,
    squared_gradients,
)
from lit_faces.core.ranks import gather, place

Kind = Literal["exact", "empirical", "batched"]
Mode = Literal["separate", "online"]


def fisher_diagonal(
    model: nn.Module,
    inputs: Tensor,
    likelihood: Likelihood = "bernoulli",
    kind: Kind = "exact",
    targets: Tensor | None = None,
    batch_size: int = 32,
    mask: Tensor | None = None,
) -> dict[str, Tensor]:
    """Diagonal of the Fisher information of a model's parameters: mean over samples.

    The model runs in evaluation mode (no dropout; BatchNorm normalises by its running statistics, which stay as they
    are, and its scale and shift have a Fisher like any parameter) and is left as it was.

    Args:
        model: maps inputs (n, ...) to outputs (n, K): logits for bernoulli and categorical, means for gaussian.
        inputs: (N, ...), any device.
        likelihood: ``bernoulli`` (K independent labels), ``categorical`` (one of K), ``gaussian`` (unit variance).
        kind: ``exact`` takes the expectation over all labels, ``empirical`` the given ones, ``batched`` squares the
            mean gradient of ``batch_size`` samples.
        targets: for empirical and batched (exact does not read them). bernoulli and gaussian: (N, K), NaN = not
            coded; categorical: integer (N,), negative = not coded. What is not coded adds nothing.
        batch_size: samples at a time. Exact and empirical do not depend on it, up to rounding; batched does. It
            bounds the memory, see :func:`lit_faces.continual.per_sample.squared_gradients`.
        mask: bool (K,) or (N, K), the outputs that count; bernoulli and gaussian only.

    Returns:
        Name of each trainable parameter -> non-negative float32 (float64 where the parameter is), its shape, on its
        device. 0 for a parameter that the outputs do not depend on.

    Raises:
        ValueError: unknown name, targets missing or of another shape, outputs that are not (n, K), a model whose
            samples are not independent (BatchNorm with ``track_running_stats=False``), nothing trainable, no inputs.

    Example:
        >>> layer = nn.Linear(2, 1, bias=False)
        >>> _ = nn.init.zeros_(layer.weight)
        >>> fisher_diagonal(layer, torch.tensor([[2.0, 0.0], [0.0, 4.0]]))  # p = 1/2: mean of x^2 / 4
        {'weight': tensor([[0.5000, 2.0000]])}
    """
    check_likelihood(likelihood)
    if kind not in get_args(Kind):
        raise ValueError(f"kind of Fisher: expected one of {', '.join(get_args(Kind))}, got {kind!r}")
    if mask is not None and likelihood == "categorical":
        raise ValueError("mask: a class cannot be left out of a categorical likelihood; leave samples out instead")
    if mask is not None and mask.ndim == 1:
        mask = mask.expand(len(inputs), -1)
    masks = () if mask is None else (mask.bool(),)
    if kind == "exact":
        sums = squared_gradients(model, inputs, _EXACT[likelihood], masks, batch_size)
        return {name: value.div_(len(inputs)) for name, value in sums.items()}
    if targets is None:
        raise ValueError(f"kind={kind!r} reads labels: give targets, or take kind='exact', which needs none")
    residual = _ResidualOf(likelihood)
    if kind == "batched":
        return _batched(model, inputs, residual, (targets, *masks), batch_size)
    sums = squared_gradients(model, inputs, residual, (targets, *masks), batch_size)
    return {name: value.div_(len(inputs)) for name, value in sums.items()}


# Exact: directions c_v with sum_v c_v c_v^T = the Fisher information of the outputs, (V, n, K) from outputs (n, K).


def _bernoulli(logits: Tensor, mask: Tensor | None = None) -> Tensor:
    return _each((logits.sigmoid() * (-logits).sigmoid()).sqrt(), mask)


def _gaussian(means: Tensor, mask: Tensor | None = None) -> Tensor:
    return _each(torch.ones_like(means), mask)


def _categorical(logits: Tensor) -> Tensor:
    p = logits.softmax(1)
    unit = torch.eye(p.shape[1], dtype=p.dtype, device=p.device)
    return p.sqrt().T[:, :, None] * (unit[:, None] - p[None])


def _each(scale: Tensor, mask: Tensor | None) -> Tensor:
    """One direction an output: (n, K) -> (K, n, K)."""
    if mask is not None:
        _same_shape("mask", mask, scale)
        scale = scale * mask
    return scale.diag_embed().transpose(0, 1)


_EXACT: dict[Likelihood, Directions] = {
    "bernoulli": _bernoulli,
    "categorical": _categorical,
    "gaussian": _gaussian,
}


class _ResidualOf:
    """Gradient of the log likelihood at the labels with respect to the outputs: (1, n, K), 0 where not coded."""

    def __init__(self, likelihood: Likelihood) -> None:
        self.likelihood = likelihood

    def __call__(self, outputs: Tensor, targets: Tensor, mask: Tensor | None = None) -> Tensor:
        if self.likelihood == "categorical":
            if targets.ndim != 1 or targets.is_floating_point():
                raise ValueError(f"targets: expected integer classes (n,), got {targets.dtype} {tuple(targets.shape)}")
            wanted = torch.arange(outputs.shape[1], device=targets.device) == targets[:, None]
            return torch.where(targets[:, None] < 0, 0.0, wanted.to(outputs.dtype) - outputs.softmax(1))[None]
        _same_shape("targets", targets, outputs)
        known = ~targets.isnan() if targets.is_floating_point() else torch.ones_like(targets, dtype=torch.bool)
        if mask is not None:
            _same_shape("mask", mask, outputs)
            known = known & mask
        predicted = outputs.sigmoid() if self.likelihood == "bernoulli" else outputs
        return torch.where(known, targets.to(outputs.dtype) - predicted, 0.0)[None]


def _same_shape(what: str, tensor: Tensor, outputs: Tensor) -> None:
    if tensor.shape != outputs.shape:
        raise ValueError(
            f"{what}: expected the shape of the outputs, (n, {outputs.shape[1]}), got (n, "
            f"{', '.join(map(str, tensor.shape[1:]))})"
        )


def _batched(
    model: nn.Module, inputs: Tensor, residual: _ResidualOf, extras: tuple[Tensor, ...], batch_size: int
) -> dict[str, Tensor]:
    """Mean over batches of the squared gradient of the batch's mean log likelihood."""
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    check_arguments(model, inputs, extras, batch_size)
    count = 0
    with evaluating(model):
        sums = {name: torch.zeros_like(p) for name, p in parameters.items()}
        for x, *more in batches(model, (inputs, *extras), batch_size):
            outputs = outputs_of(model, x)
            direction = residual(outputs.detach(), *more)[0] / len(x)
            found = torch.autograd.grad(outputs, list(parameters.values()), direction, allow_unused=True)
            for total, gradient in zip(sums.values(), found):
                if gradient is not None:
                    total += gradient.square()
            count += 1
    return {name: value.div_(count) for name, value in sums.items()}


def _precision(parameter: Tensor) -> torch.dtype:
    return torch.promote_types(parameter.dtype, torch.float32)


class EWC(QuadraticPenalty):
    r"""Keeps what mattered to earlier tasks (people) near where it was.

    ``separate`` (Kirkpatrick et al. 2017; Huszar 2018 on what it sums) has a term a task t,
    sum_t F_t (theta - theta_t)^2.  A sum of parabolas is one parabola and a constant, so the state does not grow:

        F = sum_t F_t,   theta* = sum_t F_t theta_t / F,   constant = what is left

    ``online`` (Schwarz et al. 2018) has one term about the last task's parameters, F <- decay F + F_t.

    Args:
        strength: lambda; the best one depends on ``kind`` (see :mod:`lit_faces.continual.ewc`). Avalanche writes the
            penalty without the half: its ``ewc_lambda`` is strength / 2.
        mode: ``separate`` or ``online``.
        decay: gamma of online, 0..1.
        likelihood: of the model's outputs, see :func:`fisher_diagonal`.
        kind: of Fisher.
        batch_size: samples at a time.

    Raises:
        ValueError: unknown name, negative strength, decay outside 0..1, or a decay for separate terms.
    """

    def __init__(
        self,
        strength: float = 1.0,
        mode: Mode = "online",
        decay: float = 1.0,
        likelihood: Likelihood = "bernoulli",
        kind: Kind = "exact",
        batch_size: int = 32,
    ) -> None:
        super().__init__(strength)
        check_likelihood(likelihood)
        if mode not in get_args(Mode):
            raise ValueError(f"mode of EWC: expected one of {', '.join(get_args(Mode))}, got {mode!r}")
        if not 0 <= decay <= 1 or (mode == "separate" and decay != 1):
            raise ValueError(f"decay: expected 0..1, and 1 for separate terms, got {decay} for {mode!r}")
        self.mode, self.decay = mode, decay
        self.likelihood, self.kind, self.batch_size = likelihood, kind, batch_size

    @property
    def takes_fisher(self) -> bool:  # type: ignore[override]  # a fact of the instance here
        """Whether the Fisher information is the one that the detector ships with: exact and Gaussian."""
        return (self.likelihood, self.kind) == ("gaussian", "exact")

    def consolidate(
        self,
        module: nn.Module,
        inputs: Tensor | None = None,
        targets: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> None:
        """Remember the task that was just learnt, from some of its samples; a few hundred are enough.

        In a distributed run all ranks call it, each with its own samples, however many, none included; what is kept is
        the mean over all of them, the same on every rank.

        Args:
            module: maps inputs to outputs (n, K); the module that :meth:`penalty` will be asked about.
            inputs: (N, ...); with one process N >= 1.
            targets: see :func:`fisher_diagonal`; also ``mask``.
            mask: outputs that count.

        Raises:
            ValueError: see :func:`fisher_diagonal`.
            RuntimeError: another rank has failed; says how.
        """
        if inputs is None:
            raise ValueError("EWC: consolidate measures on samples: give inputs")
        if place()[1] == 1:
            fisher = fisher_diagonal(module, inputs, self.likelihood, self.kind, targets, self.batch_size, mask)
        else:
            fisher = self._fisher_of_all_ranks(module, inputs, targets, mask)
        self.add_task(module, fisher)

    def _fisher_of_all_ranks(
        self, module: nn.Module, inputs: Tensor, targets: Tensor | None, mask: Tensor | None
    ) -> dict[str, Tensor]:
        """Mean over the samples of all ranks. A rank that fails says so, or the others would wait for it for ever."""
        fisher: dict[str, Tensor] = {}
        failure: Exception | None = None
        if len(inputs):
            try:
                fisher = fisher_diagonal(module, inputs, self.likelihood, self.kind, targets, self.batch_size, mask)
            except Exception as error:
                failure = error
        shares = -(-len(inputs) // self.batch_size) if self.kind == "batched" else len(inputs)
        heard = gather((shares, None if failure is None else f"{type(failure).__name__}: {failure}"))
        if failure is not None:
            raise failure
        for rank, (_, told) in enumerate(heard):
            if told is not None:
                raise RuntimeError(f"EWC: rank {rank} could not find its Fisher information: {told}")
        total = sum(count for count, _ in heard)
        if not total:
            raise ValueError("inputs: expected at least one sample on some rank, got none")
        for name, parameter in module.named_parameters():
            if parameter.requires_grad:
                value = fisher.get(name, torch.zeros_like(parameter, dtype=_precision(parameter)))
                fisher[name] = value.detach().mul(shares / total)
                torch.distributed.all_reduce(fisher[name])
        return fisher

    @torch.inference_mode(False)  # what is kept outlives a validation hook
    @torch.no_grad()
    def add_task(self, module: nn.Module, importance: Mapping[str, Tensor]) -> None:
        """Remember a task whose Fisher information is known already, at the module's parameters.

        Args:
            module: as the task left it.
            importance: Fisher information by name of parameter, its shape.

        Raises:
            ValueError: names or shapes that the module does not have.
        """
        parameters = self.matching(module, importance)
        for known in self.importance.values():
            known *= self.decay
        for name, parameter in parameters.items():
            new, here = importance[name].to(parameter.device), parameter.detach().clone()
            if name not in self.importance:
                self.importance[name], self.anchor[name] = new.clone(), here
                continue
            old, there = self.importance[name].to(parameter.device), self.anchor[name].to(parameter.device)
            total = old + new
            if self.mode == "separate":
                share = torch.where(total > 0, new / total, 1.0)
                self.constant = self.constant + (old * share * (here - there).square()).sum().double().cpu()
                here = there + share * (here - there)
            self.importance[name], self.anchor[name] = total, here
        self.tasks += 1
