"""Look-alikes of public data sets: ``NAME.py`` writes one for the reader ``data_modules.NAME``.

A look-alike has ``write(root, ...)``, which returns what a reader must say (:class:`tests.fake.faces.Expected`), and,
where that is needed, ``VARIANTS`` (word to: arguments of ``write``, options of the reader) and ``LACKS``, the number of
files that it leaves out as the original does. All readers with a look-alike are tested alike, without being listed.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

from data_modules import reader_names


def look_alikes() -> list[str]:
    """Names of the data sets that have one."""
    here = {file.stem for folder in __path__ for file in Path(folder).glob("*.py")}
    return sorted(here & set(reader_names()))


def look_alike(name: str) -> ModuleType:
    """The module that writes one."""
    return importlib.import_module(f"tests.fake.{name}")


def variants() -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """Every look-alike, ``NAME`` or ``NAME-VARIANT``: arguments of its ``write``, options of its reader."""
    found: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {}
    for name in look_alikes():
        for word, how in getattr(look_alike(name), "VARIANTS", {"": ({}, {})}).items():
            found[f"{name}-{word}" if word else name] = how
    return found
