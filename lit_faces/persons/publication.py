"""A folder whose files belong together appears as if at once, and says what it was made of.

The files are written into ``out/.work``; when all are there, ``made_of.json`` is written beside them, with their names
and a digest of everything that was asked; then they move into ``out``, ``made_of.json`` last. Whoever is killed while
writing has changed nothing; whoever is killed while moving has the rest moved by the next one: :func:`recover`.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lit_faces.core.files import remove_listed, replace_file

MADE_OF = "made_of.json"
_WORK = ".work"


def recover(out: Path) -> None:
    """Put in order what a killed process has left; the caller holds the folder's lock."""
    work = out / _WORK
    if (work / MADE_OF).is_file():
        _move(work, out)
    shutil.rmtree(work, ignore_errors=True)


def made_of(out: Path) -> str | None:
    """The digest of what the folder was made of; None where nothing is finished there."""
    return _read(out)[0]


@contextmanager
def publishing(out: Path, digest: str, overwrite: bool = False) -> Iterator[Path]:
    """A folder to write into; its files appear in ``out`` when the block ends well.

    Args:
        out: the caller holds its lock, and has called :func:`recover`.
        digest: of everything that was asked.
        overwrite: remove what was published there before.

    Raises:
        ValueError: something else was published there.
    """
    before, names = _read(out)
    if before is not None and before != digest and not overwrite:
        raise ValueError(f"{out}: was made of other faces or with other settings: choose another --out, or --overwrite")
    work = out / _WORK
    work.mkdir()
    try:
        yield work
        files = sorted(path.name for path in work.iterdir())
        replace_file(work / MADE_OF, (json.dumps({"digest": digest, "files": files}, indent=1) + "\n").encode())
        remove_listed(out, [MADE_OF, *(name for name in names if name not in files)])
        _move(work, out)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _read(out: Path) -> tuple[str | None, list[str]]:
    try:
        content = json.loads((out / MADE_OF).read_text())
        return str(content["digest"]), [str(name) for name in content["files"]]
    except (OSError, ValueError, KeyError, TypeError):
        return None, []


def _move(work: Path, out: Path) -> None:
    for path in sorted(work.iterdir(), key=lambda path: path.name == MADE_OF):
        os.replace(path, out / path.name)
