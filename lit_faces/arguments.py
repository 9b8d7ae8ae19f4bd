"""Command lines and experiment files: what was typed, and the nearest right name for what was mistyped.

Nothing here imports torch or Lightning, so that a wrong file name is answered at once.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import pkgutil
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

RESERVED = {"class_path", "init_args", "dict_kwargs"}


class UsageError(ValueError):
    """What was typed cannot be run; the message says what to type instead."""


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known name that was probably meant, or None."""
    names = sorted(known)
    folded = {name.lower(): name for name in names}
    for cutoff in (0.75, 0.5):
        if found := difflib.get_close_matches(word.lower(), folded, n=1, cutoff=cutoff):
            return folded[found[0]]
    return None


def suggestion(word: str, known: Iterable[str], prefix: str = "") -> str:
    """``; did you mean X?`` or the list of what there is."""
    names = sorted(known)
    if found := nearest(word, names):
        return f"; did you mean {prefix}{found}?"
    shown = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
    return f"; known here: {shown}" if names else ""


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


class _StrictLoader(yaml.SafeLoader):
    """YAML without duplicate keys: PyYAML keeps the last one in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=deep)  # type: ignore[no-untyped-call]
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} stands twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


def read_experiment(path: Path) -> dict[str, Any]:
    """The mapping in an experiment file.

    Raises:
        UsageError: not UTF-8 text, not YAML, a key twice, or no mapping.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_StrictLoader)
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not a text file ({error.reason} at byte {error.start})") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark is not None else ""
        raise UsageError(f"{path}{where}: not valid YAML: {getattr(error, 'problem', error)}") from error
    if not isinstance(content, dict):
        raise UsageError(f"{path}: expected a mapping with model, data and trainer, found {type(content).__name__}")
    return content


def merge(base: dict[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with the entries of ``other`` over it, mapping by mapping."""
    merged = dict(base)
    for key, value in other.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), dict)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def find_class(path: str, where: str) -> type | None:
    """The class at ``path``; None for a short name, which jsonargparse looks up itself.

    Raises:
        UsageError: no such module or class; names the nearest one.
    """
    module_name, _, class_name = path.rpartition(".")
    if not module_name:
        return None
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # the module is there, something that it imports is not: that is no misspelling
        raise UsageError(f"{where}: no module {error.name!r}{_nearest_module(error.name, module_name)}") from error
    found = getattr(module, class_name, None)
    if found is None:
        names = [name for name, value in vars(module).items() if inspect.isclass(value)]
        hint = suggestion(class_name, names, prefix=f"{module_name}.")
        raise UsageError(f"{where}: no {class_name!r} in module {module_name!r}{hint}")
    return found if inspect.isclass(found) else None


def _nearest_module(missing: str, wanted: str) -> str:
    """The sibling of a missing module that was probably meant."""
    parent, _, name = missing.rpartition(".")
    folder = importlib.import_module(parent).__path__ if parent else None
    siblings = [module.name for module in pkgutil.iter_modules(folder)]
    found = nearest(name, siblings)
    if found is None:
        return ""
    right = ".".join(filter(None, (parent, found))) + wanted[len(missing) :]
    return f"; did you mean {right}?"


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


def check_keys(tree: Mapping[str, Any], groups: Mapping[str, set[str] | None], where: str) -> None:
    """Check every key of an experiment file.

    Args:
        tree: its content.
        groups: top-level keys, each with the keys that it takes (None: not checked here).
        where: the file, for the message.

    Raises:
        UsageError: the first key or class that does not exist.
    """
    for key, value in tree.items():
        if key not in groups:
            raise UsageError(f"{where}: unknown key {key}{suggestion(key, groups)}")
        names = groups[key]
        if names is not None and isinstance(value, Mapping):
            for sub in value:
                if sub not in names:
                    raise UsageError(f"{where}: unknown key {key}.{sub}{suggestion(sub, names, prefix=f'{key}.')}")
        _check_classes(value, key, where)


def _check_classes(node: Any, path: str, where: str) -> None:
    """Walk down to every ``class_path`` and compare its ``init_args`` with what the class takes."""
    if isinstance(node, list):
        for index, item in enumerate(node):
            _check_classes(item, f"{path}[{index}]", where)
    if not isinstance(node, Mapping):
        return
    if isinstance(node.get("class_path"), str):
        for key in node:
            if key not in RESERVED:
                raise UsageError(
                    f"{where}: unknown key {path}.{key}{suggestion(str(key), RESERVED, prefix=f'{path}.')}"
                )
        cls = find_class(node["class_path"], f"{where}: {path}.class_path")
        names = parameters(cls) if cls is not None else None
        for key in node.get("init_args") or {}:
            if names is not None and key not in names:
                inside = f"{path}.init_args."
                hint = suggestion(key, names, prefix=inside)
                raise UsageError(f"{where}: unknown key {inside}{key} ({node['class_path']}){hint}")
    for key, value in node.items():
        _check_classes(value, f"{path}.{key}", where)


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
