"""Command lines and experiment files: what was typed, and the nearest right name for what was mistyped.

Nothing here imports torch or Lightning, so that a wrong file name is answered at once.
"""

from __future__ import annotations

import inspect
import re
import sys
import typing
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from lit_faces.core.classes import bases_of, find_class, hints_of
from lit_faces.core.words import UsageError, nearest, suggestion
from lit_faces.core.yamls import measure, read_yaml

__all__ = [
    "UsageError", "check_keys", "check_option", "existing_file", "find_class", "guard_parser", "merge", "nearest",
    "option_names", "parameters", "read_experiment", "split_arguments", "suggestion", "tidy",
]  # fmt: skip

RESERVED = {"class_path", "init_args", "dict_kwargs"}


def split_arguments(argv: list[str], flags: Collection[str] = ()) -> tuple[list[Path], list[str]]:
    """Positional experiment files, and all options in the form that jsonargparse wants.

    Args:
        argv: what was typed.
        flags: options that need no value.

    Raises:
        UsageError: a positional argument that is no experiment file, or that does not exist.
    """
    files: list[Path] = []
    options: list[str] = []
    takes_value = False
    for argument in argv:
        if takes_value or argument.startswith("-"):
            takes_value = False
            if argument.startswith("--"):
                name, equals, value = argument.partition("=")
                name = name.replace("-", "_").replace("__", "--", 1)
                if name in flags and not equals:
                    argument = f"{name}=true"
                else:
                    argument = name + equals + value
                    takes_value = not equals and not name.startswith(("--print_config", "--help"))
            options.append(argument)
        elif Path(argument).suffix in (".yaml", ".yml"):
            files.append(existing_file(Path(argument)))
        else:
            candidates = [str(path) for path in sorted(Path("experiments").glob("*.y*ml"))]
            raise UsageError(
                f"{argument!r} is neither an experiment file nor an option{suggestion(argument, candidates)}"
            )
    return files, options


def existing_file(path: Path) -> Path:
    """The path itself.

    Raises:
        UsageError: no such file; names the nearest one in that folder.
    """
    if path.is_file():
        return path
    folder = path.parent
    if not folder.is_dir():
        raise UsageError(f"{path}: no such file, and there is no folder {folder}")
    others = [other.name for other in folder.iterdir() if other.suffix == path.suffix]
    raise UsageError(f"{path}: no such file{suggestion(path.name, others, prefix=f'{folder}/')}")


def read_experiment(path: Path) -> dict[str, Any]:
    """The mapping in an experiment file; see :func:`lit_faces.core.yamls.read_yaml`.

    Raises:
        UsageError: not UTF-8 text, not YAML, a key twice, beyond the bounds, or no mapping.
    """
    return read_yaml(path)


def merge(base: dict[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with the entries of ``other`` over it, mapping by mapping; arguments of another class are dropped."""
    merged = dict(base)
    if "class_path" in base and other.get("class_path", base["class_path"]) != base["class_path"]:
        merged.pop("init_args", None)  # as jsonargparse does with those that the new class does not take
    for key, value in other.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), dict)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def parameters(cls: type) -> set[str] | None:
    """Names that ``cls(...)`` accepts; None when it takes anything."""
    names: set[str] = set()
    for base in cls.__mro__:
        if "__init__" not in vars(base):
            continue
        signature = inspect.signature(vars(base)["__init__"]).parameters.values()
        names |= {p.name for p in signature if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)} - {"self"}
        if not any(p.kind is p.VAR_KEYWORD for p in signature):
            return names
    return None


def check_keys(
    tree: Mapping[str, Any], groups: Mapping[str, set[str] | None], where: str, hints: Mapping[str, Any] | None = None
) -> None:
    """Check every key of an experiment file, and that every class in it is of the kind that belongs there.

    Nothing is called. A class in a place of plain data is data: it is not even imported.

    Args:
        tree: its content.
        groups: top-level keys, each with the keys that it takes (None: not checked here).
        where: the file, for the message.
        hints: annotations of top-level keys and of the arguments of plain groups (``trainer.callbacks``).

    Raises:
        UsageError: the first key or class that does not exist, or that is of another kind.
    """
    hints = hints or {}
    for key, value in tree.items():
        if key not in groups:
            raise UsageError(f"{where}: unknown key {key}{suggestion(str(key), groups)}")
        names = groups[key]
        if names is None or not isinstance(value, Mapping):
            _check_classes(value, key, where, hints.get(key))
            continue
        for sub, inner in value.items():
            if sub not in names:
                raise UsageError(f"{where}: unknown key {key}.{sub}{suggestion(str(sub), names, prefix=f'{key}.')}")
            _check_classes(inner, f"{key}.{sub}", where, hints.get(f"{key}.{sub}"))


def _check_classes(node: Any, path: str, where: str, hint: Any) -> None:
    """Walk down to every class that a file names, with the annotation of its place; stop where plain data begins."""
    bases = bases_of(hint)
    if not bases:
        return
    if isinstance(node, list):
        for index, item in enumerate(node):
            _check_classes(item, f"{path}[{index}]", where, hint)
    elif isinstance(node, str):
        if str not in typing.get_args(hint) and "." in node and not Path(node).is_file():
            find_class(node, f"{where}: {path}", bases)
    elif isinstance(node, Mapping):
        cls = _class_of(node, path, where, bases)
        if cls is not None:
            _check_arguments(node, cls, path, where)


def _class_of(node: Mapping[str, Any], path: str, where: str, bases: tuple[type, ...]) -> type | None:
    """The class that a mapping stands for: its class_path, or the only one that the place takes."""
    if "class_path" not in node:
        return bases[0] if len(bases) == 1 and "init_args" not in node else None
    for key in node:
        if key not in RESERVED:
            raise UsageError(f"{where}: unknown key {path}.{key}{suggestion(str(key), RESERVED, prefix=f'{path}.')}")
    return find_class(node["class_path"], f"{where}: {path}.class_path", bases)


def _check_arguments(node: Mapping[str, Any], cls: type, path: str, where: str) -> None:
    """Compare the arguments of a class with what it takes, and go on with each."""
    inside = f"{path}.init_args." if "class_path" in node else f"{path}."
    given = (node.get("init_args") or {}) if "class_path" in node else node
    if not isinstance(given, Mapping):
        raise UsageError(f"{where}: {inside.rstrip('.')}: expected arguments by name, found {type(given).__name__}")
    names, hints = parameters(cls), hints_of(cls)
    for key, value in given.items():
        if names is not None and key not in names:
            raise UsageError(
                f"{where}: unknown key {inside}{key} ({cls.__module__}.{cls.__qualname__})"
                f"{suggestion(str(key), names, prefix=inside)}"
            )
        _check_classes(value, f"{inside}{key}", where, hints.get(key))


def guard_parser() -> None:
    """Make jsonargparse refuse what :func:`check_keys` cannot see: classes in options, in defaults and in other files.

    It then imports nothing of the standard library for a value, builds no class in a place without a type, and reads
    YAML within the bounds. Its settings are of the process.
    """
    import jsonargparse

    jsonargparse.set_parsing_settings(
        import_path_denylist=sorted(name for name in sys.stdlib_module_names if name.isidentifier()),
        instantiate_subclass_spec_in_any=False,
    )
    read = jsonargparse.get_loader("yaml")
    if getattr(read, "measured", False):
        return

    def measured(text: str) -> Any:
        measure(text)
        return read(text)

    measured.measured = True  # type: ignore[attr-defined]
    jsonargparse.set_loader("yaml", measured, exceptions=(yaml.YAMLError, ValueError))


def option_names(options: Iterable[str]) -> Iterator[str]:
    """The dotted keys of ``--a.b.c value`` and ``--a.b=value``."""
    for option in options:
        if option.startswith("--"):
            yield option[2:].partition("=")[0].rstrip("+")


def check_option(name: str, tree: Mapping[str, Any], groups: Mapping[str, set[str] | None]) -> None:
    """Check one dotted option against the classes that the experiment names.

    Raises:
        UsageError: no such key; names the nearest one.
    """
    first, *rest = name.split(".")
    if first not in groups:
        raise UsageError(f"unknown option --{name}{suggestion(first, groups, prefix='--')}")
    names = groups[first]
    if names is not None:
        if rest and rest[0] not in names | {"help"}:
            raise UsageError(f"unknown option --{name}{suggestion(rest[0], names, prefix=f'--{first}.')}")
        return
    node, done = tree.get(first), [first]
    for part in rest:
        if part == "init_args" and isinstance(node, Mapping):
            done.append(part)
            continue
        if not isinstance(node, Mapping) or not isinstance(node.get("class_path"), str) or part in RESERVED | {"help"}:
            return
        cls = find_class(node["class_path"], f"{'.'.join(done)}.class_path")
        known = parameters(cls) if cls is not None else None
        if known is not None and part not in known:
            prefix = f"--{'.'.join(done)}."
            raise UsageError(f"unknown option --{name} ({node['class_path']}){suggestion(part, known, prefix=prefix)}")
        node = (node.get("init_args") or {}).get(part)
        done.append(part)


def tidy(message: str, tree: Mapping[str, Any]) -> str:
    """A jsonargparse message as one line, with the full key where it only says the last part of it."""
    text = re.sub(r"<class '([\w.]+)'>", lambda match: match[1].rpartition(".")[2], message)
    if match := re.match(r'Parser key "([^"]+)":\s*(.*)', text, flags=re.S):
        key, rest = match.groups()
        full = key if "." in key else next(_paths_ending_in(tree, key), key)
        given = re.search(r"Given value: (.*)|Got value: (.*)", rest)
        expected = [word for word in re.findall(r"Expected an? ([^.\n]+)", rest) if word != "NoneType"]
        if given and expected:
            value = (given[1] or given[2]).strip()
            return f"{full}: expected {' or '.join(dict.fromkeys(expected))}, got {value!r}"
        text = f"{full}: {rest}"
    if match := re.match(r"the following arguments are required: (.+)", text):
        return f"missing key: {match[1]} (every experiment names a model and data by class_path)"
    return " ".join(text.split())


def _paths_ending_in(node: Any, key: str, path: str = "") -> Iterator[str]:
    if isinstance(node, Mapping):
        for name, value in node.items():
            here = f"{path}.{name}" if path else str(name)
            if name == key:
                yield here
            yield from _paths_ending_in(value, key, here)
