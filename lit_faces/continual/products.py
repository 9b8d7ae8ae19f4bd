"""Layers that multiply their input by their weight, found by watching the operations of one forward pass.

The gradient of sample n is then one small matrix product, rows (O, L) @ columns (L, I); see
:mod:`lit_faces.continual.per_sample`. Which operations are known is the table :data:`READERS`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves


@dataclass
class Use:
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

    def only(self, names: set[str]) -> Use:
        """Without the parameters that are not among the names."""
        weight, bias = (name if name in names else None for name in (self.weight, self.bias))
        return replace(self, weight=weight, bias=bias)

    @property
    def names(self) -> list[str]:
        """Of the parameters whose gradients are products here."""
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


#: torch's function -> how its input and gradient become columns and rows; None: cannot be read here.
READERS: dict[Callable[..., Any], Callable[..., _Reading | None]] = {
    functional.linear: _linear,
    functional.conv2d: _conv2d,
    functional.batch_norm: _batch_norm,
    functional.group_norm: _group_norm,
    functional.layer_norm: _layer_norm,
}


class Watch(TorchFunctionMode):
    """Notes how a forward pass uses the parameters.

    Attributes:
        uses: operations that a product can stand for.
        opaque: names of parameters that also went elsewhere.
        touched: names of all that were used.
    """

    def __init__(self, parameters: dict[str, nn.Parameter]) -> None:
        super().__init__()
        self.names = {id(parameter): name for name, parameter in parameters.items()}
        self.uses: list[Use] = []
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

    def _read(self, func: Any, args: Any, kwargs: Any, out: Any) -> Use | None:
        if func not in READERS or not isinstance(out, Tensor) or not out.requires_grad:
            return None
        reading = READERS[func](*args, **kwargs)
        if reading is None:
            return None
        x, weight, bias, columns, rows = reading
        names = (self.names.get(id(weight)), self.names.get(id(bias)))
        return Use(*names, x, x._version, get_gradient_edge(out), columns, rows)

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


def add_squares(use: Use, rows: list[Tensor], sums: dict[str, Tensor]) -> None:
    """Add sum over n and directions of (rows (n, G, O, L) @ columns (n, G, L, I))^2, and of the rows' sums."""
    groups, outputs, places = rows[0].shape[1:]
    stacked = rows[0] if len(rows) == 1 else torch.cat(rows, 2)
    if use.weight is not None:
        columns = at_least_single(use.columns())
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


def at_least_single(tensor: Tensor) -> Tensor:
    """The tensor as float32, or float64 where it is."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
