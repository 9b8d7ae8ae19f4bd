"""Options as types: a frozen dataclass owns its knobs and checks them; a command's parser is built from its fields.

::

    @dataclass(frozen=True)
    class SetOptions:
        n: int = option(300, "pictures wanted")

    add_options(parser, SetOptions, LearnOptions)    --n N, with the help and the default of the field
    read_options(SetOptions, vars(args))             back to the type, which refuses what cannot be

A notebook makes the dataclass itself: an option stands in one place, whoever asks for it.
"""

from __future__ import annotations

import argparse
import math
import os
import types
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import MISSING, Field, field, fields
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")
_KEY = "option"


def option(
    default: Any, help: str, flag: str = "", metavar: str | None = None, read: Callable[[str], Any] | None = None
) -> Any:
    """A field of an options class that is an option of the command line.

    Args:
        default: of both.
        help: what it is, without the default.
        flag: as typed; ``--`` and the field's name by default. A bool that is True by default needs one (``--no-...``).
        metavar: what stands for the value in the help.
        read: from what was typed to the value, where the field's type does not say it.
    """
    return field(default=default, metadata={_KEY: {"help": help, "flag": flag, "metavar": metavar, "read": read}})


class HelpFormatter(argparse.HelpFormatter):
    """Long options share their line with their help: a command's help fits a screen."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=30)


def add_options(parser: argparse.ArgumentParser, *classes: type) -> None:
    """Give a parser the options of the classes; one that two classes share stands once, as the first has it."""
    known: set[str] = set()
    for cls in classes:
        hints = get_type_hints(cls)
        for own in _options(cls):
            if own.name not in known:
                known.add(own.name)
                _add(parser, own, _plain_type(hints[own.name]))


def read_options(cls: type[T], typed: Mapping[str, Any], **more: Any) -> T:
    """An options class from what was typed.

    Args:
        cls: the class.
        typed: values by field name (``vars`` of what argparse gives); others are left alone.
        more: fields that are no options, or that stand for what was typed.

    Raises:
        ValueError: of the class; names the option.
    """
    values = dict(more)
    for own in _options(cls):
        if own.name in typed and own.name not in more:
            value, read = typed[own.name], own.metadata[_KEY]["read"]
            values[own.name] = read(value) if read is not None and isinstance(value, str) else value
    return cls(**values)


def at_least(name: str, value: Any, least: int) -> None:
    """Refuse what is no whole number from ``least``.

    Raises:
        ValueError: names the option.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{flag_of(name)}: expected {least} or more, got {value!r}")


def above_zero(name: str, value: Any) -> None:
    """Refuse what is no finite number above 0.

    Raises:
        ValueError: names the option.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ValueError(f"{flag_of(name)}: expected a number above 0, got {value!r}")


def one_of(name: str, value: Any, known: Collection[str]) -> None:
    """Refuse a word that is not known.

    Raises:
        ValueError: names the option and the words.
    """
    if value not in known:
        raise ValueError(f"{flag_of(name)}: expected one of {', '.join(known)}, got {value!r}")


def check_out(out: Path | str) -> None:
    """Refuse a place that cannot be written to, before anything dear is begun; nothing is made.

    Raises:
        OSError: names the place, and what is in the way.
    """
    out = Path(out)
    place = next(path for path in (out.absolute(), *out.absolute().parents) if path.exists() or path.is_symlink())
    if not place.is_dir():
        raise NotADirectoryError(f"--out {out}: {place} is no folder: choose another place")
    if not os.access(place, os.W_OK | os.X_OK):
        raise PermissionError(f"--out {out}: {place} cannot be written to: choose another place")


def flag_of(name: str) -> str:
    """``max_nme`` as it is typed: ``--max-nme``."""
    return f"--{name.replace('_', '-')}"


def _options(cls: type) -> Iterator[Field[Any]]:
    return (own for own in fields(cls) if _KEY in own.metadata)


def _plain_type(hint: Any) -> type:
    """``Path | None`` to ``Path``; ``tuple[int, ...]`` to ``tuple``."""
    if get_origin(hint) in (Union, types.UnionType):
        hint = next(part for part in get_args(hint) if part is not type(None))
    return get_origin(hint) or hint


def _add(parser: argparse.ArgumentParser, own: Field[Any], kind: type) -> None:
    about = own.metadata[_KEY]
    flag, text = about["flag"] or flag_of(own.name), about["help"].replace("%", "%%")
    if kind is bool:
        action = "store_false" if own.default is True else "store_true"
        parser.add_argument(flag, dest=own.name, action=action, help=text)
        return
    if own.default not in (None, MISSING, ""):
        text += f" (default: {_shown(own.default)})"
    known = kind if kind in (int, float, Path) and about["read"] is None else str
    default = own.default if known is kind or own.default is None else _shown(own.default)
    parser.add_argument(flag, dest=own.name, type=known, default=default, metavar=about["metavar"], help=text)


def _shown(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
