r"""Squares of the gradients of single samples, without a loop over samples.

    sum over samples n and directions v of  (J_n^T c_nv)^2        J_n = d outputs_n / d theta, c_nv in output space

One backward pass of a whole batch gives the gradient at the output of every layer.  Where a layer multiplies its input
by its weight (linear, convolution, affine part of a norm), the gradient of sample n is one small matrix product:

    rows (O, L) @ columns (L, I)      L = places where the weight is used (pixels, tokens)

so it costs no more arithmetic than an ordinary backward pass.  Such layers are found by watching the *operations* of
one forward pass, not the module types, so subclasses, functional calls and in-place activations make no difference.
Parameters that are used in any other way (scales, tokens, recurrent or tied weights) go through :mod:`torch.func`.
"""

from __future__ import annotations

import contextlib
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.func import functional_call, vjp, vmap
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

#: Directions whose gradients are multiplied in one go, so that a layer's input is unfolded and read once for all.
_TOGETHER = 4

#: (outputs (n, K), *extras (n, ...)) -> directions (V, n, K)
Directions = Callable[..., Tensor]


def squared_gradients(
    model: nn.Module,
    inputs: Tensor,
    directions: Directions,
    extras: tuple[Tensor, ...] = (),
    batch_size: int = 32,
) -> dict[str, Tensor]:
    """Sum over samples and directions of the squared vector-Jacobian products of a model.

    The model runs in evaluation mode and is left as it was: modes, buffers and ``.grad`` untouched.

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
        sums = {name: _at_least_single(torch.zeros_like(p)).detach() for name, p in parameters.items()}
        plan = _plan(model, parameters, inputs)
        for x, *more in batches(model, (inputs, *extras), batch_size):
            if plan.layered:
                _by_layers(model, parameters, plan, x, more, directions, sums)
            if plan.others:
                values = {name: parameters[name].detach() for name in plan.others}
                _by_torch_func(model, values, x, more, directions, sums, batch_size)
    return sums


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode with gradients and without compilation; afterwards every module has its own mode again."""
    modes = [(module, module.training) for module in model.modules()]
    # importing the compiler takes seconds: what has not been imported has compiled nothing
    eager = torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else contextlib.nullcontext()
    model.eval()
    try:
        with torch.inference_mode(False), torch.enable_grad(), eager:
            yield
    finally:
        for module, training in modes:
            module.training = training


def batches(model: nn.Module, tensors: tuple[Tensor, ...], batch_size: int) -> Iterator[tuple[Tensor, ...]]:
    """Pieces of the tensors on the model's device."""
    device = next(model.parameters()).device
    for pieces in zip(*(tensor.split(batch_size) for tensor in tensors)):
        # a tensor that was made in inference mode cannot be saved for a backward pass: a clone can
        yield tuple((piece.clone() if piece.is_inference() else piece).to(device) for piece in pieces)


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


# -- which parameters are used how ------------------------------------------------------------------------------------


@dataclass
class _Use:
    """One operation ``f(x; weight, bias)`` of a forward pass whose gradients are products.

    Attributes:
        weight: its name, or None where it is not trainable.
        bias: its name, or None.
        x: the operation's input, samples first.
        version: of ``x`` when it was read.
        edge: where in the graph the gradient at the operation's output is found, whatever happens to that in place.
        columns: () -> (n, G, L, I), from ``x``; G groups that share nothing.
        rows: gradient at the output -> (n, G, O, L).
    """

    weight: str | None
    bias: str | None
    x: Tensor
    version: int
    edge: GradientEdge
    columns: Callable[[], Tensor]
    rows: Callable[[Tensor], Tensor]

    def only(self, names: set[str]) -> _Use:
        """Without the parameters that are not among the names."""
        weight, bias = (name if name in names else None for name in (self.weight, self.bias))
        return replace(self, weight=weight, bias=bias)

    @property
    def names(self) -> list[str]:
        return [name for name in (self.weight, self.bias) if name is not None]


_Reading = tuple[Tensor, Tensor | None, Tensor | None, Callable[[], Tensor], Callable[[Tensor], Tensor]]


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> _Reading:
    return (
        x,
        weight,
        bias,
        lambda: x.reshape(len(x), 1, -1, x.shape[-1]),
        lambda d: d.reshape(len(d), 1, -1, d.shape[-1]).mT,
    )


def _pair(value: Any) -> tuple[int, int]:
    first, last = (value, value) if isinstance(value, int) else (value[0], value[-1])
    return first, last


def _conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> _Reading | None:
    if x.ndim != 4 or isinstance(padding, str):
        return None

    def columns() -> Tensor:
        (kh, kw), (sh, sw), (ph, pw), (dh, dw) = weight.shape[2:], *map(_pair, (stride, padding, dilation))
        padded = functional.pad(x, (pw, pw, ph, ph))
        n, c, h, w = padded.stride()
        height, width = (
            (size - d * (k - 1) - 1) // s + 1 for size, d, k, s in zip(padded.shape[2:], (dh, dw), (kh, kw), (sh, sw))
        )
        # copying a strided view is four times faster than functional.unfold
        patches = padded.as_strided((*x.shape[:2], kh, kw, height, width), (n, c, h * dh, w * dw, h * sh, w * sw))
        return patches.reshape(len(x), groups, -1, height * width).mT

    return x, weight, bias, columns, lambda d: d.flatten(2).unflatten(1, (groups, -1))


def _batch_norm(
    x: Tensor,
    mean: Tensor | None,
    var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> _Reading | None:
    if training or mean is None or var is None:
        return None
    normal = lambda: functional.batch_norm(x, mean, var, None, None, False, 0.0, eps)  # noqa: E731
    return x, weight, bias, lambda: normal().reshape(*x.shape[:2], -1, 1), lambda d: d.reshape(*d.shape[:2], 1, -1)


def _group_norm(
    x: Tensor, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> _Reading:
    normal = lambda: functional.group_norm(x, num_groups, None, None, eps)  # noqa: E731
    return x, weight, bias, lambda: normal().reshape(*x.shape[:2], -1, 1), lambda d: d.reshape(*d.shape[:2], 1, -1)


def _layer_norm(
    x: Tensor, shape: Any, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> _Reading:
    size = prod(shape)
    places = lambda t: t.reshape(len(t), -1, size).mT  # noqa: E731 (n, size, L)
    normal = lambda: functional.layer_norm(x, shape, None, None, eps)  # noqa: E731
    return x, weight, bias, lambda: places(normal())[..., None], lambda d: places(d)[:, :, None]


_READERS: dict[Callable[..., Any], Callable[..., _Reading | None]] = {
    functional.linear: _linear,
    functional.conv2d: _conv2d,
    functional.batch_norm: _batch_norm,
    functional.group_norm: _group_norm,
    functional.layer_norm: _layer_norm,
}


class _Watch(TorchFunctionMode):
    """Notes how a forward pass uses the parameters.

    Attributes:
        uses: operations that a product can stand for.
        opaque: names of parameters that also went elsewhere.
        touched: names of all that were used.
    """

    def __init__(self, parameters: dict[str, nn.Parameter]) -> None:
        super().__init__()
        self.names = {id(parameter): name for name, parameter in parameters.items()}
        self.uses: list[_Use] = []
        self.opaque: set[str] = set()
        self.touched: set[str] = set()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        touched = [self.names[id(leaf)] for leaf in tree_leaves((args, kwargs)) if id(leaf) in self.names]
        if touched and any(isinstance(leaf, Tensor) for leaf in tree_leaves(out)):
            self.touched.update(touched)
            use = self._read(func, args, kwargs, out)
            if use is not None and sorted(use.names) == sorted(touched):
                self.uses.append(use)
            else:
                self.opaque.update(touched)
        return out

    def _read(self, func: Any, args: Any, kwargs: Any, out: Any) -> _Use | None:
        if func not in _READERS or not isinstance(out, Tensor) or not out.requires_grad:
            return None
        reading = _READERS[func](*args, **kwargs)
        if reading is None:
            return None
        x, weight, bias, columns, rows = reading
        names = (self.names.get(id(weight)), self.names.get(id(bias)))
        return _Use(*names, x, x._version, get_gradient_edge(out), columns, rows)

    def shapes(self, samples: int) -> dict[str, tuple[int, ...]]:
        """Shape of one sample at the only use of each parameter; without those that a product does not cover."""
        times = Counter(name for use in self.uses for name in use.names)
        return {
            name: tuple(use.x.shape[1:])
            for use in self.uses
            if len(use.x) == samples and use.x._version == use.version
            for name in use.names
            if times[name] == 1 and name not in self.opaque
        }


@dataclass
class _Plan:
    """Names of the parameters that products cover, of the others that matter, and of all that are used at all."""

    layered: set[str]
    others: set[str]
    touched: set[str]


def _plan(model: nn.Module, parameters: dict[str, nn.Parameter], inputs: Tensor) -> _Plan:
    """Two looks, at one sample and at two, tell which dimension of a layer's input is the sample."""
    (pair,) = next(batches(model, (inputs[[0, min(1, len(inputs) - 1)]],), 2))
    with _Watch(parameters) as one:
        alone = model(pair[:1])
    with _Watch(parameters) as two:
        together = model(pair)
    check_outputs(alone, 1)
    check_outputs(together, 2)
    scale = float(together.detach().abs().max())
    if not torch.allclose(alone[0], together[0], rtol=0.0, atol=0.01 * scale, equal_nan=True):
        raise ValueError(
            "model: the outputs of a sample depend on what else is in the batch, or on chance, in evaluation mode too; "
            "gradients of single samples need a layer that treats samples apart (running statistics, no noise)"
        )
    used = _reached(together, parameters)
    before, after = one.shapes(1), two.shapes(2)
    layered = {name for name in used if name in before and before[name] == after.get(name)}
    return _Plan(layered, used - layered, two.touched)


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


# -- the two ways -----------------------------------------------------------------------------------------------------


def _by_layers(
    model: nn.Module,
    parameters: dict[str, nn.Parameter],
    plan: _Plan,
    x: Tensor,
    extras: list[Tensor],
    directions: Directions,
    sums: dict[str, Tensor],
) -> None:
    """Add the squares of one batch, one backward pass a direction."""
    with _Watch(parameters) as watch:
        outputs = model(x)
    if watch.touched != plan.touched or not plan.layered <= watch.shapes(len(x)).keys():
        raise ValueError("model: which layers run depends on the data; pass samples that take the same way together")
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
                    _add_squares(use, [_at_least_single(use.rows(gradient)) for gradient in gradients], sums)


def _at_least_single(tensor: Tensor) -> Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def _add_squares(use: _Use, rows: list[Tensor], sums: dict[str, Tensor]) -> None:
    """Add sum over n and directions of (rows (n, G, O, L) @ columns (n, G, L, I))^2, and of the rows' sums."""
    groups, outputs, places = rows[0].shape[1:]
    stacked = rows[0] if len(rows) == 1 else torch.cat(rows, 2)
    if use.weight is not None:
        columns = _at_least_single(use.columns())
        if places == 1:  # (d x)^2 = d^2 x^2: the sum over samples is itself one product
            squares = stacked.square().squeeze(3).permute(1, 2, 0) @ columns.square().squeeze(2).transpose(0, 1)
        elif columns.shape[-1] == 1:
            squares = (stacked * columns.mT).sum(-1, keepdim=True).square_().sum(0)
        else:
            squares = (stacked @ columns).square_().sum(0)
        squares = squares.view(groups, len(rows), outputs, -1).sum(1)
        sums[use.weight] += squares.reshape(sums[use.weight].shape)
    if use.bias is not None:
        squares = stacked.sum(-1).square_().sum(0).view(groups, len(rows), outputs).sum(1)
        sums[use.bias] += squares.reshape(sums[use.bias].shape)


class _AnyLayout(TorchFunctionMode):
    """Ignores memory formats, which vmap has not implemented: they change the speed only."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **{key: value for key, value in (kwargs or {}).items() if key != "memory_format"})


def _by_torch_func(
    model: nn.Module,
    values: dict[str, Tensor],
    x: Tensor,
    extras: list[Tensor],
    directions: Directions,
    sums: dict[str, Tensor],
    batch_size: int,
) -> None:
    """The same for any differentiable use of the parameters: ``vmap`` over samples and directions of ``vjp``."""

    def of_one(sample: Tensor, *more: Tensor) -> dict[str, Tensor]:
        outputs, pull, *_ = vjp(lambda chosen: functional_call(model, chosen, (sample[None],))[0], values)
        wanted = directions(outputs[None], *(extra[None] for extra in more))[:, 0]
        squares = {name: torch.zeros_like(value, dtype=sums[name].dtype) for name, value in values.items()}
        for some in wanted.to(outputs.dtype).split(batch_size):
            (gradients,) = vmap(pull)(some)
            squares = {name: squares[name] + gradients[name].to(squares[name]).square().sum(0) for name in squares}
        return squares

    with torch.no_grad():
        number = len(directions(model(x[:1]), *(extra[:1] for extra in extras)))
    # samples x directions in flight stay near batch_size
    for piece in zip(*(tensor.split(max(1, batch_size // number)) for tensor in (x, *extras))):
        with _AnyLayout():
            found = vmap(of_one)(*piece)
        for name, squares in found.items():
            sums[name] += squares.sum(0).detach()
