"""A generator from its weight file: whichever it is, for the card says what to build."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lit_faces.core.classes import find_class
from lit_faces.core.fields import field
from lit_faces.core.shipped import weights_path
from lit_faces.core.weights import check_card, load_weights
from lit_faces.core.words import UsageError
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
    check_card(where, card, KIND, "the weights of a generator", "give the generator.safetensors that fit has exported")
    if "network" not in card:
        return FusedGenerator()
    network = field(card, "network", dict, where)
    path = field(network, "class_path", str, f"{where}: network", minimum=1)
    arguments = field(network, "init_args", dict, f"{where}: network")
    try:
        found = find_class(path, f"{where}: network.class_path", Generator)
    except UsageError as error:
        raise ValueError(
            f"{error}; a generator of one's own must be importable: run this where its file is, or put its folder on "
            "PYTHONPATH"
        ) from error
    if found is None:
        raise ValueError(f"{where}: network.class_path: expected the dotted path of a Generator, found {path!r:.80}")
    try:
        return found(**arguments)  # type: ignore[no-any-return]  # a Generator, as was checked
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{where}: network: {path} cannot be built with {arguments!r:.120}: {error}") from error
