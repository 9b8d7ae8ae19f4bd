"""A generator from its weight file: whichever it is, for the card says what to build."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lit_faces.arguments import UsageError, find_class, parameters, suggestion
from lit_faces.core.shipped import weights_path
from lit_faces.core.weights import load_weights
from lit_faces.models.generators.base import Generator
from lit_faces.models.generators.fused import FusedGenerator
from lit_faces.tasks.reenactment import KIND, ReenactmentGAN


def load_generator(path: Path | str = "packaged") -> ReenactmentGAN:
    """A generator for use, not for training.

    Args:
        path: file of :meth:`~lit_faces.tasks.reenactment.ReenactmentGAN.export_weights`; ``packaged`` for the one that
            ships with lit_faces.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no generator's weights, or a card that names no generator that can be built.
    """
    path = weights_path("generator", path)
    _, card = load_weights(path)
    generator = built(card, str(path))
    task = ReenactmentGAN(generator, init=str(path), critic=None, judge=None, export=False)
    task.load_initial_weights()
    return task.eval()


def built(card: Mapping[str, Any], where: str) -> Generator:
    """The generator that a card describes, with random weights.

    Args:
        card: of a weight file; without ``network`` (older files, the shipped base) it is the fused generator.
        where: the file, for messages.

    Raises:
        ValueError: of another kind of file, or a class that is missing, is no generator, or refuses its arguments.
            Nothing that is no generator is called.
    """
    kind = card.get("kind")
    if kind != KIND:
        raise ValueError(f"{where}: expected weights of a generator (kind {KIND!r}), its card says {kind!r}")
    described = card.get("network")
    if described is None:
        return FusedGenerator()
    if not isinstance(described, Mapping) or set(described) != {"class_path", "init_args"}:
        raise ValueError(f"{where}: card: network: expected class_path and init_args, got {described!r:.80}")
    path, arguments = described["class_path"], described["init_args"]
    if not isinstance(path, str) or not isinstance(arguments, dict):
        raise ValueError(f"{where}: card: network: expected a dotted name and a mapping, got {described!r:.80}")
    cls = _generator_class(path, where)
    known = parameters(cls)
    for name in arguments:
        if known is not None and name not in known:
            raise ValueError(f"{where}: card: {path} takes no {name!r}{suggestion(name, known)}")
    try:
        return cls(**arguments)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{where}: card: {path} cannot be built with {arguments!r:.120}: {error}") from error


def _generator_class(path: str, where: str) -> type[Generator]:
    try:
        found = find_class(path, f"{where}: card: network.class_path")
    except (UsageError, ImportError, ValueError) as error:
        raise ValueError(
            f"{error}; a generator of one's own must be importable: run this where its file is, or put the folder on "
            "PYTHONPATH"
        ) from error
    if found is None or not issubclass(found, Generator) or inspect.isabstract(found):
        raise ValueError(
            f"{where}: card: network.class_path: expected a child of {Generator.__module__}.Generator, got {path!r}"
        )
    return found
