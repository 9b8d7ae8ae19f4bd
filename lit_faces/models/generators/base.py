"""What a generator is: one class to derive from, which remembers what it was built with.

A generator's weights travel with a card that names its class and arguments (:func:`specification`), so that whoever
finds the file can build it again: `generate`, `personalise` and the study take any generator that way.
"""

from __future__ import annotations

import inspect
import json
from typing import Any

from torch import Tensor, nn

from lit_faces.models.conditioning import Condition
from lit_faces.models.generators.output import GeneratorOutput


class Generator(nn.Module):
    """Base of all generators: ``__init__`` with typed arguments, and :meth:`forward`.

    Attributes:
        name: short, for tables and for the shipped weights (``fused``); the class's name where a child gives none.
        arguments: what it was built with, defaults included.
    """

    name: str = ""
    arguments: dict[str, Any]

    def __new__(cls, *args: Any, **kwargs: Any) -> Generator:
        """Remember the arguments; a copy brings its own."""
        made = super().__new__(cls)
        signature = inspect.signature(cls.__init__)
        try:
            bound = signature.bind_partial(made, *args, **kwargs)
        except TypeError:
            return made  # __init__ says what is wrong with them
        bound.apply_defaults()
        named = dict(list(bound.arguments.items())[1:])  # without self
        for key, parameter in signature.parameters.items():
            if parameter.kind is parameter.VAR_KEYWORD:
                named |= named.pop(key, {})
        made.__dict__["arguments"] = named
        return made

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if not cls.name:
            cls.name = cls.__name__

    def forward(self, source: Tensor, condition: Condition) -> GeneratorOutput:
        """Make pictures.

        Args:
            source: float (B, 3, S, S) in [-1, 1].
            condition: the request: landmarks and AUs of source and target.

        Returns:
            The pictures, float (B, 3, S, S) in [-1, 1], and whatever else it knows of how they were made.
        """
        raise NotImplementedError(f"{type(self).__name__} has no forward(source, condition)")


def specification(generator: Generator) -> dict[str, Any]:
    """How to build a generator again: ``class_path`` and ``init_args``, JSON values.

    Raises:
        ValueError: an argument that JSON has no word for (a module, a tensor, a function).
    """
    path = f"{type(generator).__module__}.{type(generator).__qualname__}"
    for key, value in generator.arguments.items():
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"{path}: the argument {key} is a {type(value).__name__}, which the card of its weights cannot hold: "
                "take numbers, texts, lists and dicts, and build modules inside"
            ) from error
    return {"class_path": path, "init_args": json.loads(json.dumps(generator.arguments))}
