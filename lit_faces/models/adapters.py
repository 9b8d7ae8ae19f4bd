r"""A person as a small change of a shared detector: low rank on its last layers, 50 KB at most.

::

    W' = W + up @ down        up (out, r), down (r, in * kh * kw), for convolutions and linear layers near the output
    b' = b + shift            for the intensity head

``up`` and ``shift`` begin at zero: a fresh delta reads as the shared detector does, to the last bit. The layers are
taken from the end of the network, the head first, as far as the budget goes; any ``nn.Conv2d`` and ``nn.Linear`` will
do, so timm's networks work as our own.

The shared weights are never written to. While a delta is *worn* the detector's parameters point at sums that were made
beside them; afterwards they point where they did before, which is why nobody else can notice.

    with worn(detector, delta): detector.predict(images)

A delta may carry reference faces of its person (:mod:`lit_faces.models.reference`): it was learnt beside them then,
and a detector that wears it looks at them.

Layers after Hu et al., LoRA (2021); on convolutions as in Zhong et al. (2024).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from lit_faces.core.fields import field
from lit_faces.core.weights import check_card, load_weights, save_weights
from lit_faces.models.reference import Beside, References

DELTA_FILE = "delta.safetensors"
MOST_BYTES = 50_000
_CARD, _HEADING = 3_000, 75  # bytes: of card and zero; of a tensor's entry in the file's header, beside its name
RANK = 2  # 50 KB hold the last six layers of ours at rank 4, nearly all at rank 2: better on validation people
_KIND = "delta"
_PARTS = ("up", "down", "shift")
_BESIDE = ("beside.features", "beside.intensity")
_PERSONAL = ("backbone.", "head.", "occurrence.", "expression.", "calibration.")


def detector_code(detector: nn.Module) -> str:
    """Twelve digits that name a detector by its weights, the same in memory and from its file (16-bit floats)."""
    digest = hashlib.sha256()
    for name, value in sorted(detector.state_dict().items()):
        if name.startswith(_PERSONAL):
            digest.update(f"{name}{tuple(value.shape)}".encode())
            numbers = value.detach().cpu()
            digest.update((numbers.half() if numbers.is_floating_point() else numbers).contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]


class Delta(nn.Module):
    """What a person changes in a detector; parameters by the name of what they change, dots as slashes.

    Args:
        detector: code of the shared detector, see :func:`detector_code`.
        references: faces of the person, as the *shared* detector remembers them.

    Attributes:
        up: (out, r) each.
        down: (r, inside) each, ``inside`` being what one output sees.
        shift: of the shape of what it is added to; parameters and buffers.
        beside: references that the detector looks at while the delta is worn; None: it reads alone.
    """

    def __init__(self, detector: str = "", references: References | None = None) -> None:
        super().__init__()
        self.detector = detector
        self.beside = None if references is None else Beside(references)
        self.up, self.down, self.shift = nn.ParameterDict(), nn.ParameterDict(), nn.ParameterDict()

    @classmethod
    def fresh(cls, detector: nn.Module, rank: int = RANK, seed: int = 0, references: References | None = None) -> Delta:
        """A delta that changes nothing yet: the intensity head, and as many of the last layers as the budget holds.

        Args:
            detector: with ``backbone`` and ``head``.
            rank: of each layer.
            seed: of ``down``.
            references: the person's, if it shall be learnt beside them.

        Raises:
            ValueError: a rank below 1; the budget does not even hold the head.
        """
        if rank < 1:
            raise ValueError(f"rank: expected 1 or more, got {rank}")
        made = cls(detector_code(detector), references)
        draws = torch.Generator().manual_seed(seed)
        left = MOST_BYTES - _CARD
        if references is not None:
            left -= 2 * (references.features.numel() + references.intensity.numel() + len(_BESIDE) * _HEADING)
        for name, layer in _layers_from_the_end(detector):
            outputs, inside = layer.weight.shape[0], layer.weight[0].numel()
            biased = name.startswith("head.") and layer.bias is not None
            key = f"{name}.weight".replace(".", "/")
            left -= 2 * (rank * (outputs + inside) + biased * outputs) + (2 + biased) * (len(key) + _HEADING)
            if left < 0:
                break
            made.up[key] = nn.Parameter(torch.zeros(outputs, rank))
            made.down[key] = nn.Parameter(torch.randn(rank, inside, generator=draws) / inside**0.5)
            if biased:
                made.shift[f"{name}.bias".replace(".", "/")] = nn.Parameter(torch.zeros(outputs))
        if not made.up:
            raise ValueError(f"rank {rank}: one layer already needs more than {MOST_BYTES} bytes; choose a lower one")
        return made

    def lowered(self, offset: Tensor) -> Delta:
        """This delta with a person's zero folded in: ``offset`` (A,) is taken off the calibrated intensities."""
        key = "calibration/shift"
        before = self.shift[key] if key in self.shift else torch.zeros(len(offset))
        self.shift[key] = nn.Parameter((before - offset.to(before)).detach(), requires_grad=False)
        return self

    def changes(self) -> dict[str, Tensor]:
        """What is added, by the name of the parameter (or buffer), with a graph; flat where it is of low rank."""
        low_rank = {key: self.up[key] @ self.down[key] for key in self.up}
        return {key.replace("/", "."): value for key, value in [*low_rank.items(), *self.shift.items()]}

    # -- the file -----------------------------------------------------------------------------------------------------

    def save(self, path: Path | str, more: Mapping[str, Tensor] | None = None, **card: Any) -> Path:
        """Write it as 16-bit floats, whole or not at all; returns where.

        Args:
            path: by custom ``delta.safetensors``.
            more: other tensors that shall lie in the file.
            card: more for the card, JSON; never a name.

        Raises:
            ValueError: more than 50 KB.
        """
        whole = {**self.state_dict(), **(more or {})}
        size = sum(2 * value.numel() + len(name) + _HEADING for name, value in whole.items())
        if size > MOST_BYTES:
            raise ValueError(f"{path}: {size} bytes, a delta has {MOST_BYTES} at most: choose a lower rank")
        state = {name: value.half() for name, value in whole.items()}
        save_weights(path, state, {"kind": _KIND, "detector": self.detector, **card})
        return Path(path)

    @classmethod
    def load(cls, path: Path | str) -> Delta:
        """A delta from its file.

        Raises:
            FileNotFoundError: no such file.
            ValueError: damaged, or no delta.
        """
        return cls.of_card(*load_weights(path), path)

    @classmethod
    def of_card(cls, state: Mapping[str, Tensor], card: Mapping[str, Any], path: Path | str) -> Delta:
        """A delta from what its file holds; raises as :meth:`load`."""
        check_card(path, card, _KIND, "a person's delta", "make one with `adapt --method delta`")
        return cls.of_state(state, field(card, "detector", str, path, minimum=1, maximum=64), str(path))

    @classmethod
    def of_state(cls, state: Mapping[str, Tensor], detector: str, where: str) -> Delta:
        """A delta from its ``state_dict``.

        Raises:
            ValueError: names or shapes that are no delta's.
        """
        given = [state.get(name) for name in _BESIDE]
        made = cls(detector, None if given == [None, None] else References.checked(given[0], given[1], where))
        for name, value in state.items():
            if name in _BESIDE:
                continue
            part, _, key = name.partition(".")
            if part not in _PARTS or not key or not value.is_floating_point() or not bool(value.isfinite().all()):
                raise ValueError(f"{where}: {name[:80]}: is no part of a delta: damaged? Make it again")
            getattr(made, part)[key] = nn.Parameter(value.detach().float(), requires_grad=False)
        paired = made.up.keys() == made.down.keys()
        if not paired or any(
            up.dim() != 2 or made.down[key].dim() != 2 or up.shape[1] != made.down[key].shape[0]
            for key, up in made.up.items()
        ):
            raise ValueError(f"{where}: the halves of its layers do not go together: damaged? Make it again")
        return made

    def check(self, detector: nn.Module, code: str | None = None, where: str = "delta") -> None:
        """Refuse to be worn by another detector than the one it was learnt on.

        Args:
            detector: that is to wear it.
            code: of it, where that is known already.
            where: what the message begins with.

        Raises:
            ValueError: another detector; a layer that it does not have.
        """
        code = detector_code(detector) if code is None else code
        if self.detector != code:
            raise ValueError(
                f"{where}: was learnt on the detector {self.detector}, not on {code}: a delta only fits its own; give "
                "that one with --detector, or learn the person again"
            )
        own = _own(detector)
        for name, value in self.changes().items():
            if name not in own or own[name].numel() != value.numel():
                raise ValueError(f"{where}: the detector has no {name} of {value.numel()} numbers: damaged?")


def _layers_from_the_end(detector: nn.Module) -> Iterator[tuple[str, nn.Conv2d | nn.Linear]]:
    """The intensity head, then the backbone's layers from its last."""
    for part in ("head", "backbone"):
        found = [
            (f"{part}.{name}" if name else part, module)
            for name, module in getattr(detector, part).named_modules()
            if isinstance(module, nn.Conv2d | nn.Linear)
        ]
        yield from reversed(found)


def _own(detector: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name."""
    return {**dict(detector.named_parameters()), **dict(detector.named_buffers())}


# -- wearing ----------------------------------------------------------------------------------------------------------


@torch.no_grad()
def folded(detector: nn.Module, delta: Delta) -> dict[str, Tensor]:
    """The sums that a detector points at while it wears a delta, by name of the parameter or buffer."""
    own = _own(detector)
    return {
        name: own[name].detach() + change.detach().to(own[name]).view_as(own[name])
        for name, change in delta.changes().items()
    }


@contextmanager
def wearing(detector: nn.Module, sums: Mapping[str, Tensor], beside: Beside | None = None) -> Iterator[None]:
    """Meanwhile a detector points at other weights (:func:`folded`) and looks at a person; its own stay as they are."""
    own = _own(detector)
    before = {name: own[name].data for name in sums}
    try:
        for name, value in sums.items():
            own[name].data = value
        if beside is not None:
            _look_at(detector, beside.references)
        yield
    finally:
        for name, value in before.items():
            own[name].data = value
        if beside is not None:
            _look_at(detector, None)


def _look_at(detector: nn.Module, references: References | None) -> None:
    detector.set_references(references)  # type: ignore[operator]  # a module's attributes have no types


@contextmanager
def worn(detector: nn.Module, delta: Delta | None) -> Iterator[None]:
    """Meanwhile a detector reads as a person's; None: as it is."""
    with wearing(detector, {} if delta is None else folded(detector, delta), None if delta is None else delta.beside):
        yield


def fold_in(detector: nn.Module, delta: Delta) -> None:
    """Make a detector (a copy) the person's own for good."""
    own = _own(detector)
    for name, value in folded(detector, delta).items():
        own[name].data = value
    if delta.beside is not None:
        _look_at(detector, delta.beside.references)


class _Added(nn.Module):
    """A parameter, and what a delta adds to it: what torch's parametrisations call."""

    def __init__(self, *factors: nn.Parameter) -> None:
        super().__init__()
        self.factors = nn.ParameterList(factors)

    def forward(self, value: Tensor) -> Tensor:
        """The sum, of the shape of ``value``."""
        first, *rest = self.factors
        return value + (first @ rest[0] if rest else first).view_as(value)


@contextmanager
def learning(detector: nn.Module, delta: Delta) -> Iterator[None]:
    """Meanwhile the detector's forward goes through the delta, whose parameters alone are trainable."""
    detector.requires_grad_(False)
    places: list[tuple[nn.Module, str]] = []
    try:
        for key in [*delta.up, *delta.shift]:
            path, _, name = key.replace("/", ".").rpartition(".")
            module = detector.get_submodule(path)
            factors = [delta.up[key], delta.down[key]] if key in delta.up else [delta.shift[key]]
            parametrize.register_parametrization(module, name, _Added(*factors))
            places.append((module, name))
        yield
    finally:
        for module, name in places:
            parametrize.remove_parametrizations(module, name, leave_parametrized=False)
