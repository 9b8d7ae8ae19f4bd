r"""Squares of the gradients of single samples, without a loop over samples where that can be had.

    sum over samples n and directions v of  (J_n^T c_nv)^2        J_n = d outputs_n / d theta, c_nv in output space

There are three ways, and each parameter takes the first that is right for it:

    products     one backward pass of a whole batch gives the gradient at the output of every layer. Where a layer
                 multiplies its input by its weight (linear, convolution, affine part of a norm), the gradient of sample
                 n is one small matrix product, rows (O, L) @ columns (L, I), L = places where the weight is used; so it
                 costs no more arithmetic than an ordinary backward pass (:mod:`lit_faces.continual.products`)
    torch.func   vmap over samples of vjp, for any other use (scales, tokens, tied weights)
    loop         a backward pass a sample and a direction: the definition

vmap refuses some layers (recurrent ones, ``.item()``, custom functions) and batches others wrongly without a word
(PReLU). So both fast ways are compared with the loop, on a few of the samples, before they are believed; what differs
or is refused goes through the loop, and a warning says so.
"""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vjp, vmap
from torch.overrides import TorchFunctionMode

from lit_faces.continual.products import Watch, add_squares, at_least_single

#: Directions whose gradients are multiplied in one go, so that a layer's input is unfolded and read once for all.
_TOGETHER = 4
#: Samples and random directions of the comparison with the loop.
_CHECKED, _PROBES = 3, 2

#: (outputs (n, K), *extras (n, ...)) -> directions (V, n, K)
Directions = Callable[..., Tensor]
_Sums = dict[str, Tensor]


def squared_gradients(
    model: nn.Module,
    inputs: Tensor,
    directions: Directions,
    extras: tuple[Tensor, ...] = (),
    batch_size: int = 32,
) -> dict[str, Tensor]:
    """Sum over samples and directions of the squared vector-Jacobian products of a model.

    The model runs in evaluation mode and is left as it was: modes, buffers and ``.grad`` untouched; so are the inputs.

    Args:
        model: maps (n, ...) to (n, K), each sample on its own.
        inputs: (N, ...), any device; moved to the model's in batches.
        directions: maps outputs (n, K), detached, and the extras of the same samples to (V, n, K).
        extras: tensors (N, ...) that ``directions`` needs, for example the targets.
        batch_size: samples at a time, for memory and speed only; about as much memory as a training step with a batch
            five times as large.

    Returns:
        Name of each trainable parameter -> float32 or float64 of its shape.

    Raises:
        ValueError: no inputs, nothing trainable, outputs that are not (n, K), or samples that are not independent.
    """
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    check_arguments(model, inputs, extras, batch_size)
    with evaluating(model):
        plan = _compared(model, parameters, _plan(model, parameters, inputs), inputs)
        sums = _zeros(parameters)
        for x, *more in batches(model, (inputs, *extras), batch_size):
            _add(model, parameters, plan, x, more, directions, sums, batch_size)
    return sums


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode with gradients and without compilation; afterwards modes and buffers are as they were."""
    modes = [(module, module.training) for module in model.modules()]
    buffers = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]  # some layers count their calls
    # importing the compiler takes seconds: what has not been imported has compiled nothing
    eager = torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else contextlib.nullcontext()
    model.eval()
    try:
        with torch.inference_mode(False), torch.enable_grad(), eager, _recurrent_layers_can_go_back(model):
            yield
    finally:
        for module, training in modes:
            module.training = training
        with torch.no_grad():
            for buffer, before in buffers:
                if not torch.equal(buffer, before):
                    buffer.copy_(before)


def _recurrent_layers_can_go_back(model: nn.Module) -> contextlib.AbstractContextManager[Any]:
    """CuDNN's recurrent layers have no backward pass in evaluation mode; torch's own have."""
    if torch.backends.cudnn.is_available() and any(isinstance(module, nn.RNNBase) for module in model.modules()):
        return torch.backends.cudnn.flags(enabled=False)
    return contextlib.nullcontext()


def batches(model: nn.Module, tensors: tuple[Tensor, ...], batch_size: int) -> Iterator[tuple[Tensor, ...]]:
    """Pieces of the tensors on the model's device."""
    device = next(model.parameters()).device
    for pieces in zip(*(tensor.split(batch_size) for tensor in tensors)):
        # a tensor that was made in inference mode cannot be saved for a backward pass: a clone can
        yield tuple((piece.clone() if piece.is_inference() else piece).to(device) for piece in pieces)


def outputs_of(model: nn.Module, x: Tensor) -> Tensor:
    """``model(x)``; a first layer that works in place gets a copy to work on.

    Raises:
        ValueError: outputs that are not (n, K).
    """
    outputs = model(x.clone())
    check_outputs(outputs, len(x))
    return outputs


def check_arguments(model: nn.Module, inputs: Tensor, extras: tuple[Tensor, ...], batch_size: int) -> None:
    """Refuse what has no gradient of single samples.

    Raises:
        ValueError: nothing trainable, no inputs, lengths that differ, or a BatchNorm without running statistics.
    """
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ValueError(f"{type(model).__name__}: no parameter is trainable (requires_grad), so there is no gradient")
    if len(inputs) == 0:
        raise ValueError("inputs: expected at least one sample, got none")
    if batch_size < 1:
        raise ValueError(f"batch_size: expected at least 1, got {batch_size}")
    for extra in extras:
        if extra.ndim == 0 or len(extra) != len(inputs):
            raise ValueError(f"targets and mask: expected one row an input, {len(inputs)}, got {tuple(extra.shape)}")
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is None:
            raise ValueError(
                f"{name or type(model).__name__}: BatchNorm with track_running_stats=False mixes the samples of a "
                "batch even in evaluation mode, so there is no gradient of one sample; track running statistics, or "
                "use GroupNorm"
            )


def check_outputs(outputs: Tensor, samples: int) -> None:
    """Refuse outputs that are not (samples, K).

    Raises:
        ValueError: says what the model gave.
    """
    if not isinstance(outputs, Tensor) or outputs.ndim != 2 or len(outputs) != samples:
        found = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
        raise ValueError(
            f"model: expected outputs (n, K), n = {samples}, got {found}; wrap it in a module that gives them"
        )


# -- which parameter goes which way ----------------------------------------------------------------------------------


@dataclass
class _Plan:
    """Names of the parameters by the way that they go, and of all that were touched by the forward pass of a pair.

    Attributes:
        layered: products cover them.
        others: left to torch.func.
        looped: left to the loop.
        touched: seen by the watch.
        outputs: K.
        dtype: of the outputs.
    """

    layered: set[str]
    others: set[str]
    touched: set[str]
    outputs: int
    dtype: torch.dtype
    looped: set[str] = field(default_factory=set)


def _plan(model: nn.Module, parameters: dict[str, nn.Parameter], inputs: Tensor) -> _Plan:
    """Two looks, at one sample and at two, tell which dimension of a layer's input is the sample."""
    (pair,) = next(batches(model, (inputs[[0, min(1, len(inputs) - 1)]],), 2))
    with Watch(parameters) as one:
        alone = outputs_of(model, pair[:1])
    with Watch(parameters) as two:
        together = outputs_of(model, pair)
    scale = float(together.detach().abs().max())
    if not torch.allclose(alone[0], together[0], rtol=0.0, atol=0.01 * scale, equal_nan=True):
        raise ValueError(
            "model: the outputs of a sample depend on what else is in the batch, or on chance, in evaluation mode too; "
            "gradients of single samples need a layer that treats samples apart (running statistics, no noise)"
        )
    used = _reached(together, parameters)
    before, after = one.shapes(1), two.shapes(2)
    layered = {name for name in used if name in before and before[name] == after.get(name)}
    return _Plan(layered, used - layered, two.touched, together.shape[1], together.dtype)


def _reached(outputs: Tensor, parameters: dict[str, nn.Parameter]) -> set[str]:
    """Names of the parameters that the outputs depend on."""
    names = {id(parameter): name for name, parameter in parameters.items()}
    seen, waiting = set(), [outputs.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            waiting += [following for following, _ in node.next_functions]
    leaves = (id(getattr(node, "variable", None)) for node in seen)
    return {names[leaf] for leaf in leaves if leaf in names}


def _compared(model: nn.Module, parameters: dict[str, nn.Parameter], plan: _Plan, inputs: Tensor) -> _Plan:
    """The plan, but for what is refused or differs from the loop on a few samples, which is left to the loop."""
    few = sorted({0, len(inputs) // 2, len(inputs) - 1})[:_CHECKED]
    draws = torch.Generator().manual_seed(0)
    probes = torch.randn(len(few), _PROBES, plan.outputs, generator=draws, dtype=torch.float64).to(plan.dtype)
    ((x, probes),) = batches(model, (inputs[few], probes), len(few))
    given: Directions = lambda outputs, rows: rows.transpose(0, 1)  # noqa: E731
    right = _zeros(parameters)
    _by_loop(model, parameters, right, x, [probes], given)
    reasons: dict[str, str] = {}
    layered, together, singly = _zeros(parameters), _zeros(parameters), _zeros(parameters)
    if plan.layered and not _by_layers(model, parameters, plan, x, [probes], given, layered):
        reasons |= dict.fromkeys(plan.layered, "which layers run depends on the data")
    if plan.others:
        try:  # a wrong batching rule may be right for one number of directions, by broadcasting
            _by_torch_func(model, parameters, plan, x, probes.transpose(0, 1), together, _PROBES * len(few))
            for probe in range(_PROBES):
                _by_torch_func(model, parameters, plan, x, probes[None, :, probe], singly, len(few))
        except Exception as error:  # whatever vmap has against a layer: the loop needs no vmap
            reasons |= dict.fromkeys(plan.others, f"vmap refuses them ({_first_line(error)})")
    tries = [(layered, plan.layered), (together, plan.others), (singly, plan.others)]
    wrong = {n for found, names in tries for n in names if not _agree(found[n], right, n, plan.dtype)} - reasons.keys()
    reasons |= dict.fromkeys(wrong, "computed for a whole batch, they differ from those of single samples")
    if not reasons:
        return plan
    _warn(model, reasons)
    looped = set(reasons) | (parameters.keys() - plan.layered - plan.others)  # other samples may reach the latter
    return _Plan(plan.layered - looped, plan.others - looped, plan.touched, plan.outputs, plan.dtype, looped)


def _agree(found: Tensor, right: _Sums, name: str, dtype: torch.dtype) -> bool:
    """Whether sums of squares are those of the loop, up to the rounding of the model's arithmetic.

    A parameter that has no effect (the bias of attention's keys) has noise for a gradient, which nothing reproduces:
    the bound is never below what noise comes to beside the largest gradient of the model.
    """
    exact = dtype in (torch.float32, torch.float64) and found.dtype in (torch.float32, torch.float64)
    noise = 1e-12 if exact and not found.is_cuda else 1e-8  # GPUs round the products of float32 to 10 bits
    largest = max(float(value.nan_to_num(0.0, 0.0, 0.0).max()) for value in right.values() if value.numel())
    own = float(right[name].nan_to_num(0.0, 0.0, 0.0).max()) if found.numel() else 0.0
    bound = (0.01 if exact else 0.25) * own + noise * largest
    return torch.allclose(found, right[name], rtol=0.0, atol=bound, equal_nan=True)


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0][:120] if str(error).strip() else 'no reason'}"


def _warn(model: nn.Module, reasons: dict[str, str]) -> None:
    """One warning a call, with the names under each reason."""
    told = []
    for reason in dict.fromkeys(reasons.values()):
        names = sorted(name for name, why in reasons.items() if why == reason)
        shown = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
        told.append(f"{shown}: {reason}")
    warnings.warn(
        f"{type(model).__name__}: gradients of single samples are taken one by one, which is right but slower, for "
        f"{'; for '.join(told)}",
        stacklevel=3,
    )


# -- the three ways ---------------------------------------------------------------------------------------------------


def _zeros(parameters: dict[str, nn.Parameter]) -> _Sums:
    return {name: at_least_single(torch.zeros_like(p)).detach() for name, p in parameters.items()}


def _add(
    model: nn.Module,
    parameters: dict[str, nn.Parameter],
    plan: _Plan,
    x: Tensor,
    extras: list[Tensor],
    directions: Directions,
    sums: _Sums,
    batch_size: int,
) -> None:
    """Add the squares of one batch."""
    looped: Iterable[str] = plan.looped
    if plan.layered and not _by_layers(model, parameters, plan, x, extras, directions, sums):
        looped = parameters  # these samples take another way through the model than the first ones
    elif plan.others:
        with torch.no_grad():
            wanted = directions(outputs_of(model, x), *extras)
        _by_torch_func(model, parameters, plan, x, wanted, sums, batch_size)
    if looped:
        _by_loop(model, {name: parameters[name] for name in looped}, sums, x, extras, directions)


def _by_layers(
    model: nn.Module,
    parameters: dict[str, nn.Parameter],
    plan: _Plan,
    x: Tensor,
    extras: list[Tensor],
    directions: Directions,
    sums: _Sums,
) -> bool:
    """Add products for one batch, a backward pass a direction; False where other layers ran: nothing was added."""
    with Watch(parameters) as watch:
        outputs = outputs_of(model, x)
    if watch.touched != plan.touched or not plan.layered <= watch.shapes(len(x)).keys():
        return False
    with torch.no_grad():
        uses = [use.only(plan.layered) for use in watch.uses if plan.layered.intersection(use.names)]
        chosen = [v.to(outputs) for v in directions(outputs.detach(), *extras) if v.any()]
    edges = [use.edge for use in uses]
    for start in range(0, len(chosen), _TOGETHER):
        found = [
            torch.autograd.grad(outputs, edges, direction, retain_graph=True, allow_unused=True)
            for direction in chosen[start : start + _TOGETHER]
        ]
        with torch.no_grad():
            for use, gradients in zip(uses, zip(*found)):
                if gradients[0] is not None:
                    add_squares(use, [at_least_single(use.rows(gradient)) for gradient in gradients], sums)
    return True


class _AnyLayout(TorchFunctionMode):
    """Ignores memory formats, which vmap has not implemented: they change the speed only."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **{key: value for key, value in (kwargs or {}).items() if key != "memory_format"})


def _by_torch_func(
    model: nn.Module,
    parameters: dict[str, nn.Parameter],
    plan: _Plan,
    x: Tensor,
    wanted: Tensor,
    sums: _Sums,
    batch_size: int,
) -> None:
    """Add the squares of ``plan.others`` for directions (V, n, K): ``vmap`` over samples and directions of ``vjp``."""
    values = {name: parameters[name].detach() for name in sorted(plan.others)}

    def of_one(sample: Tensor, rows: Tensor) -> _Sums:
        outputs, pull, *_ = vjp(lambda chosen: functional_call(model, chosen, (sample[None],))[0], values)
        squares = {name: torch.zeros_like(value, dtype=sums[name].dtype) for name, value in values.items()}
        for some in rows.to(outputs.dtype).split(batch_size):
            (gradients,) = vmap(pull)(some)
            squares = {name: squares[name] + gradients[name].to(squares[name]).square().sum(0) for name in squares}
        return squares

    # samples x directions in flight stay near batch_size
    size = max(1, batch_size // max(1, len(wanted)))
    for piece, rows in zip(x.clone().split(size), wanted.transpose(0, 1).split(size)):
        with _AnyLayout():
            found = vmap(of_one)(piece, rows)
        for name, squares in found.items():
            sums[name] += squares.sum(0).detach()


def _by_loop(
    model: nn.Module,
    parameters: dict[str, nn.Parameter],
    sums: _Sums,
    x: Tensor,
    extras: list[Tensor],
    directions: Directions,
) -> None:
    """Add the squares of the given parameters by the definition."""
    for number in range(len(x)):
        rows = slice(number, number + 1)
        outputs = outputs_of(model, x[rows])
        if not outputs.requires_grad:  # this sample meets no trainable parameter
            continue
        chosen = [v.to(outputs) for v in directions(outputs.detach(), *(extra[rows] for extra in extras)) if v.any()]
        for direction in chosen:
            found = torch.autograd.grad(
                outputs, list(parameters.values()), direction, retain_graph=True, allow_unused=True
            )
            for name, gradient in zip(parameters, found):
                if gradient is not None:
                    sums[name] += gradient.detach().to(sums[name]).square()
