"""What must hold of a replay memory that was read from a file, before it is drawn from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from lit_faces.core.facs import NUM_AUS
from lit_faces.core.fields import field

WHERE = "state of a replay memory"


def checked_policy(plain: Mapping[str, Any]) -> Any:
    """How it was filled; the memory itself knows the words."""
    return field(plain, "policy", str, WHERE)


def checked_seed(plain: Mapping[str, Any]) -> int:
    """Of its draws."""
    return field(plain, "seed", int, WHERE)


def check_cells(plain: Mapping[str, Any]) -> None:
    """Each place belongs to one cell.

    Raises:
        ValueError: names what is damaged.
    """
    places: list[int] = []
    for cell in field(plain, "cells", list, WHERE, of=list):
        if len(cell) != 4 or not isinstance(cell[0], str) or not isinstance(cell[2], bool):
            raise ValueError(f"{WHERE}: cells: expected name, number, true or false, and places each: damaged?")
        seen = field({"seen": cell[1]}, "seen", int, WHERE, minimum=0)
        places += field({"places": cell[3]}, "places", list, WHERE, of=int, maximum=seen)
    if sorted(places) != list(range(len(places))):
        raise ValueError(f"{WHERE}: cells: expected each of {len(places)} places once: damaged?")


def check_draws(stored: Mapping[str, Tensor], own: Tensor) -> None:
    """The state of the random generator is one.

    Raises:
        ValueError: it is not.
    """
    draws = stored.get("draws")
    if draws is None or draws.shape != own.shape or draws.dtype != own.dtype:
        raise ValueError(f"{WHERE}: draws: expected the state of a random generator: damaged?")


def check_faces(stored: Mapping[str, Tensor], plain: Mapping[str, Any]) -> None:
    """Refuse rows that are no faces, or that are of people without a name.

    Raises:
        ValueError: names the tensor and what it should be.
    """
    where = WHERE
    known = field(plain, "names", list, where, of=str)
    if len(set(known)) != len(known):
        raise ValueError(f"{where}: names: a name stands twice: damaged?")
    names = len(known)
    rows = {key.partition(".")[2]: value for key, value in stored.items() if key.startswith("rows.")}
    if not rows:
        return
    shapes: dict[str, tuple[int, ...]] = {
        "landmarks": (68, 2), "au_intensity": (NUM_AUS,), "au_occurrence": (NUM_AUS,), "emotion": (), "pose": (3,),
        "frame": (), "subject": (), "source": (),
    }  # fmt: skip
    for name, shape in shapes.items():
        value = rows.get(name)
        if value is None or tuple(value.shape[1:]) != shape or not len(value.shape):
            found = "nothing" if value is None else f"(n, {', '.join(map(str, value.shape[1:]))})"
            raise ValueError(f"{where}: {name}: expected (n, {', '.join(map(str, shape))}), found {found}: damaged?")
        if name in ("subject", "source") and len(value) and not (int(value.min()) >= 0 and int(value.max()) < names):
            raise ValueError(f"{where}: {name}: expected numbers of {names} names: damaged?")
        if value.is_floating_point() and bool(value.isinf().any()):
            raise ValueError(f"{where}: {name}: holds infinite values: damaged?")
    image = rows.get("image")
    if image is None or image.dtype != torch.uint8 or image.dim() != 4 or image.shape[1] != 3:
        raise ValueError(f"{where}: image: expected uint8 (n, 3, S, S): damaged?")
