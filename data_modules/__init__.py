"""Data modules and readers of data sets.

A reader is one file, ``data_modules/NAME.py``, that ends with ``READER = TheClass``; ``prepare NAME`` finds it by that
name. The file may lie in a folder ``data_modules`` of your own: put the folder that holds it on ``PYTHONPATH``.
"""

from __future__ import annotations

import pkgutil
import re
from pathlib import Path

__path__ = pkgutil.extend_path(__path__, __name__)
_READER = re.compile(r"^READER\b", re.MULTILINE)


def reader_names() -> list[str]:
    """Names of the data sets that can be read, found without importing a single reader."""
    return sorted(
        file.stem
        for folder in __path__
        for file in Path(folder).glob("*.py")
        if _READER.search(file.read_text(encoding="utf-8", errors="replace"))
    )
