"""Classes that a file or an option names: looked up, and checked against what belongs in that place, before any call.

Importing a module runs it. What may be imported is therefore the user's own code and installed packages, as with
``import`` in a script; never the standard library (``subprocess.Popen`` is a class, too), nor a package's
``__main__``, which is a program.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import sys
import types
import typing
from collections.abc import Iterator
from typing import Any

from lit_faces.core.words import UsageError, nearest, suggestion

_PLAIN = (str, int, float, bool, bytes, list, dict, tuple, set, frozenset, type(None), object, type)


def find_class(path: str, where: str, base: type | tuple[type, ...] | None = None) -> type | None:
    """The class at ``path``, which nothing has called yet; None for a short name, which jsonargparse looks up itself.

    Args:
        path: dotted path of a class.
        where: file and key, for the message.
        base: what it must be a subclass of (any of them); of a Protocol it must have the methods. None means that
            the caller checks.

    Raises:
        UsageError: no such module or class (names the nearest one), one that may not be named, or one of another kind.
    """
    found = find_object(path, where, _kind(base))
    if found is None:
        return None
    if not inspect.isclass(found):
        raise UsageError(f"{where}: {path}: expected a class, found a {type(found).__name__}")
    if base is not None and (lack := _lack(found, base)):
        raise UsageError(f"{where}: {path}: expected {_kind(base)}; {lack}")
    return found


def find_object(path: str, where: str, kind: str = "a class of lit_faces or your own") -> Any:
    """What stands at ``path``, a class or a function; None for a short name.

    Args:
        path: dotted path.
        where: file and key, for the message.
        kind: what is expected there, in words.

    Raises:
        UsageError: no such module or name (names the nearest class), or one that may not be named.
    """
    if not isinstance(path, str):
        raise UsageError(f"{where}: expected the dotted path of a class, found {type(path).__name__}")
    module_name, _, class_name = path.rpartition(".")
    if not all(part.isidentifier() for part in path.split(".")):
        raise UsageError(f"{where}: {path[:80]!r} is no dotted path of a class")
    if not module_name:
        return None
    first, last = module_name.split(".")[0], module_name.split(".")[-1]
    if first in sys.stdlib_module_names or (last == "__main__" and module_name != last):
        raise UsageError(f"{where}: {path}: refused: {kind} is expected here, nothing of Python's own library")
    found = getattr(_imported(module_name, where), class_name, None)
    if found is None:
        names = [name for name, value in vars(sys.modules[module_name]).items() if inspect.isclass(value)]
        hint = suggestion(class_name, names, prefix=f"{module_name}.")
        raise UsageError(f"{where}: no {class_name!r} in module {module_name!r}{hint}")
    return found


def _imported(name: str, where: str) -> types.ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise UsageError(f"{where}: {name} needs the module {error.name!r}, which is not installed") from error
        raise UsageError(f"{where}: no module {error.name!r}{_nearest_module(error.name, name)}") from error
    except (Exception, SystemExit) as error:  # a module of the user's: it may fail in any way, or be a script
        raise UsageError(f"{where}: importing {name} failed: {type(error).__name__}: {error}") from error


def _nearest_module(missing: str, wanted: str) -> str:
    """The sibling of a missing module that was probably meant."""
    parent, _, name = missing.rpartition(".")
    folder = getattr(importlib.import_module(parent), "__path__", []) if parent else None
    found = nearest(name, [module.name for module in pkgutil.iter_modules(folder)])
    if found is None:
        return ""
    right = ".".join(filter(None, (parent, found))) + wanted[len(missing) :]
    return f"; did you mean {right}?"


def _kind(base: type | tuple[type, ...] | None) -> str:
    bases = base if isinstance(base, tuple) else (base,) if base is not None else ()
    return " or ".join(f"a {one.__name__}" for one in bases) or "a class of lit_faces or your own"


def _lack(cls: type, base: type | tuple[type, ...]) -> str:
    """Why a class is not of the kind; empty if it is."""
    for one in base if isinstance(base, tuple) else (base,):
        if not getattr(one, "_is_protocol", False):
            if issubclass(cls, one):
                return ""
        elif not _missing(cls, one):
            return ""
    if isinstance(base, tuple) or not getattr(base, "_is_protocol", False):
        return "it is none"
    return f"it has no {', '.join(_missing(cls, base))}"


def _missing(cls: type, protocol: type) -> list[str]:
    """Methods and properties of a protocol that a class lacks; plain attributes are set in ``__init__``."""
    wanted = [
        name for one in protocol.__mro__ for name, value in vars(one).items()
        if getattr(one, "_is_protocol", False) and one is not typing.Protocol and not name.startswith("_")
        and (inspect.isfunction(value) or isinstance(value, property))
    ]  # fmt: skip
    return [
        name
        for name in wanted
        if inspect.isfunction(inspect.getattr_static(protocol, name)) and not callable(getattr(cls, name, None))
    ]


def bases_of(hint: Any) -> tuple[type, ...]:
    """Classes whose subclasses an annotation takes, inside unions and containers too; none where it takes data."""
    found = dict.fromkeys(_classes_in(hint))
    return tuple(found)


def _classes_in(hint: Any) -> Iterator[type]:
    arguments = typing.get_args(hint)
    if arguments:
        if typing.get_origin(hint) is not typing.Literal:
            for argument in arguments:
                yield from _classes_in(argument)
    elif inspect.isclass(hint) and hint not in _PLAIN:
        yield hint


def hints_of(cls: type) -> dict[str, Any]:
    """Annotations of ``cls(...)``'s arguments, those of base classes that ``**kwargs`` reaches included."""
    found: dict[str, Any] = {}
    for one in reversed(cls.__mro__):
        if "__init__" in vars(one):
            try:
                found.update(typing.get_type_hints(vars(one)["__init__"]))
            except (NameError, TypeError, AttributeError):  # names under TYPE_CHECKING: jsonargparse resolves those
                continue
    found.pop("return", None)
    return found
