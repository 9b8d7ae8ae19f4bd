"""The one reader of YAML: plain values, with bounds on size, depth and aliases, no tags, no key twice.

A file is measured before anything is built from it: nine lines of aliases can stand for a billion values, and a
thousand brackets overflow the interpreter's stack.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from lit_faces.core.words import UsageError

MOST_BYTES = 200_000
MOST_DEPTH = 40
MOST_VALUES = 20_000  # with aliases written out
_BASE: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_COLLECTIONS = re.compile(r"[\[{&*\n]")  # without one of these a string is a single value
_FLOAT = re.compile(
    r"""^(?:[-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?
    |[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+
    |[-+]?\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?
    |[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$""",
    re.X,
)


class BoundsError(yaml.YAMLError):
    """More than the bounds allow, or something that they forbid."""

    def __init__(self, problem: str, mark: Any = None) -> None:
        super().__init__(problem)
        self.problem, self.problem_mark = problem, mark


class _Loader(_BASE):  # type: ignore[misc]  # the C base has no types
    """Numbers as everybody writes them (1e-3 is one), dates as text, keys once and of text."""

    yaml_implicit_resolvers = {
        letter: [(tag, pattern) for tag, pattern in pairs if not tag.endswith((":timestamp", ":float"))]
        for letter, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                shown = str(getattr(key_node, "value", key))[:40] if not isinstance(key, list | dict) else "a list"
                raise BoundsError(f"key {shown} is no text: write it in quotes", key_node.start_mark)
            if key in seen:
                raise BoundsError(f"key {key!r} stands twice", key_node.start_mark)
            seen.add(key)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep=deep)
        return mapping


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789."))


def measure(text: str) -> None:
    """Check size, depth, aliases and tags of YAML text without building it.

    Raises:
        BoundsError: a bound is passed.
        yaml.YAMLError: no YAML.
    """
    if len(text) > MOST_BYTES:
        raise BoundsError(f"{len(text):,} characters; at most {MOST_BYTES:,} are read")
    sizes: dict[str, int] = {}  # values below each anchor
    opened: list[tuple[str | None, int]] = [(None, 0)]
    for event in yaml.parse(text, Loader=_BASE):
        mark = event.start_mark
        if isinstance(event, yaml.AliasEvent):
            anchor, size = None, sizes.get(str(event.anchor), 1)
            if event.anchor in {name for name, _ in opened}:
                raise BoundsError(f"alias *{event.anchor} stands inside itself", mark)
        elif isinstance(event, yaml.CollectionStartEvent | yaml.ScalarEvent):
            if event.tag is not None:
                raise BoundsError(f"tag {event.tag!r}: plain values only, no tags", mark)
            anchor, size = event.anchor, 1
            if isinstance(event, yaml.CollectionStartEvent):
                opened.append((anchor, 0))
                if len(opened) > MOST_DEPTH:
                    raise BoundsError(f"more than {MOST_DEPTH} levels deep", mark)
                continue
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, size = opened.pop()
            size += 1
        else:
            continue
        if anchor is not None:
            sizes[anchor] = size
        name, before = opened[-1]
        opened[-1] = (name, before + size)
        if before + size > MOST_VALUES:
            raise BoundsError(f"more than {MOST_VALUES:,} values, aliases written out", mark)


def parse_yaml(text: str, where: str) -> Any:
    """The plain values that YAML text stands for.

    Args:
        text: at most MOST_BYTES characters.
        where: the file, for the message.

    Raises:
        UsageError: no YAML, or more than the bounds allow; names file and line.
    """
    try:
        measure(text)
        content = yaml.load(text, Loader=_Loader)
        for inner in _texts(content):
            _measure_inner(inner)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark is not None else ""
        what = getattr(error, "problem", None) or " ".join(str(error).split())
        raise UsageError(f"{where}{line}: not valid YAML: {what}") from error
    except ValueError as error:  # of int(): thousands of digits
        raise UsageError(f"{where}: not valid YAML: {error}") from error
    return content


def _texts(node: Any) -> Iterator[str]:
    """Every text in plain values."""
    if isinstance(node, str):
        yield node
    elif isinstance(node, Mapping):
        for key, value in node.items():
            yield key
            yield from _texts(value)
    elif isinstance(node, list):
        for value in node:
            yield from _texts(value)


def _measure_inner(text: str) -> None:
    """A value in quotes may be read as YAML once more, by the parser of typed arguments."""
    if _COLLECTIONS.search(text) is None:
        return
    try:
        measure(text)
    except BoundsError:
        raise
    except yaml.YAMLError:
        return  # plain text


def read_yaml(path: Path | str) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        FileNotFoundError: no such file.
        UsageError: not UTF-8 text, not YAML, beyond the bounds, or no mapping; names file and line.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        raise UsageError(f"{path}: not a regular file")
    with path.open("rb") as file:
        data = file.read(4 * MOST_BYTES + 1)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not a text file ({error.reason} at byte {error.start})") from error
    content = parse_yaml(text, str(path))
    if not isinstance(content, dict):
        raise UsageError(f"{path}: expected a mapping (key: value), found {type(content).__name__}")
    return content
