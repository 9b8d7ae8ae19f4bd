"""Files of plain data (cards, manifests, settings, results), checked field by field with one message.

::

    card = ...                                                    # a dict from a file
    size = field(card, "size", int, path, minimum=16)             # ValueError: FILE: size: expected ..., found ...
    names = field(card, "learnt", list, path, of=str, default=[])
"""

from __future__ import annotations

import json
import math
import zipfile
import zlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import numpy as np

T = TypeVar("T")
MOST_BYTES = 200_000_000  # of a JSON file
_REQUIRED: Any = object()
_WORDS = {int: "a whole number", float: "a number", str: "text", bool: "true or false", list: "a list",
          dict: "named values"}  # fmt: skip


def field(
    content: Any,
    name: str,
    kind: type[T],
    where: Path | str,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    choices: Collection[Any] | None = None,
    of: type | None = None,
    default: Any = _REQUIRED,
) -> T:
    """One field of a mapping that was read from a file.

    Args:
        content: the mapping.
        name: of the field.
        kind: int, float (whole numbers too, finite ones only), str, bool, list or dict.
        where: the file, for the message.
        minimum: least number, or least length of a list, dict or text.
        maximum: greatest number or length.
        choices: what it may be.
        of: kind of a list's items, or of a dict's values.
        default: where the field is missing; without one it must be there.

    Returns:
        The value, as ``kind``.

    Raises:
        ValueError: names file, field, what was expected and what was found.
    """
    if not isinstance(content, Mapping):
        raise ValueError(f"{where}: expected named values, found {shown(content)}")
    if name not in content:
        if default is not _REQUIRED:
            return default  # type: ignore[no-any-return]  # the caller's word
        raise ValueError(f"{where}: {name} is missing: expected {_WORDS[kind]}")
    value = content[name]
    expected = _expected(kind, minimum, maximum, choices, of)
    if not _is(value, kind):
        raise ValueError(f"{where}: {name}: expected {expected}, found {shown(value)}")
    measured = len(value) if isinstance(value, str | list | Mapping) else value
    outside = isinstance(measured, int | float) and (
        (minimum is not None and measured < minimum) or (maximum is not None and measured > maximum)
    )
    if outside or (choices is not None and value not in choices):
        raise ValueError(f"{where}: {name}: expected {expected}, found {shown(value)}")
    items = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    for item in items if of is not None else ():
        if not _is(item, of):  # type: ignore[arg-type]  # not None here
            raise ValueError(f"{where}: {name}: expected {expected}, found {shown(item)} among them")
    return float(value) if kind is float else value  # type: ignore[return-value, arg-type]


def _is(value: Any, kind: type) -> bool:
    if isinstance(value, bool) and kind is not bool:
        return False
    if kind is float:
        if isinstance(value, int):
            return abs(value) <= 2**1023  # a larger one is no float
        return isinstance(value, float) and math.isfinite(value)
    return isinstance(value, Mapping if kind is dict else kind)


def _expected(
    kind: type, minimum: float | None, maximum: float | None, choices: Collection[Any] | None, of: type | None
) -> str:
    words = _WORDS[kind]
    if choices is not None:
        return "one of " + ", ".join(str(choice) for choice in choices)
    if of is not None:
        words += f" ({_WORDS[of]} each)"
    unit = " items" if kind in (list, dict) else " characters" if kind is str else ""
    if minimum is not None and maximum is not None:
        return f"{words}, {minimum}..{maximum}{unit}"
    if minimum is not None:
        return f"{words}, {minimum}{unit} or more"
    return f"{words}, at most {maximum}{unit}" if maximum is not None else words


def shown(value: Any) -> str:
    """A value from a file, short enough for a message."""
    if isinstance(value, Mapping | list):
        return f"{_WORDS[list if isinstance(value, list) else dict]} of {len(value)}"
    text = repr(value) if not isinstance(value, int) or abs(value) < 10**30 else "a number of very many digits"
    return text if len(text) <= 60 else f"{text[:57]}..."


def parse_json(text: str | bytes, where: Path | str, way_out: str = "write it again") -> Any:
    """JSON text from a file.

    Raises:
        ValueError: no JSON, nested too deeply, or not UTF-8; names the file.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError: UnicodeDecodeError, and int() of thousands of digits
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise ValueError(f"{where}: damaged, or no JSON ({reason}); {way_out}") from error


def read_json(path: Path | str, way_out: str = "write it again") -> dict[str, Any]:
    """The named values in a JSON file.

    Args:
        path: file.
        way_out: what somebody does whose file is damaged, for the message.

    Raises:
        FileNotFoundError: no such file.
        ValueError: damaged, too large, or no mapping; names the file.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        raise ValueError(f"{path}: not a regular file; {way_out}")
    with path.open("rb") as file:
        data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise ValueError(f"{path}: more than {MOST_BYTES:,} bytes: not a file of ours; {way_out}")
    content = parse_json(data, path, way_out)
    if not isinstance(content, dict):
        raise ValueError(f"{path}: damaged: expected named values, found {shown(content)}; {way_out}")
    return content


def read_npz(path: Path | str, way_out: str = "write it again") -> dict[str, np.ndarray]:
    """All arrays of an npz file; objects are never unpickled.

    Raises:
        FileNotFoundError: no such file.
        ValueError: damaged; names the file.
    """
    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as content:
            if not hasattr(content, "files"):
                raise ValueError("one array, no archive")
            return {name: content[name] for name in content.files}
    except FileNotFoundError:
        raise
    except (
        ValueError, OSError, EOFError, LookupError, TypeError, MemoryError, RuntimeError, NotImplementedError,
        zipfile.BadZipFile, zlib.error, SyntaxError, AttributeError,
    ) as error:  # fmt: skip
        raise ValueError(f"{path}: damaged, or no npz file ({type(error).__name__}: {error}); {way_out}") from error
