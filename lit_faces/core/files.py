"""Files that appear whole or not at all, folders that have one owner.

Every writer of the package goes through :func:`replace_file` or :func:`replacing`; whoever works in a folder for longer
than one file holds :func:`locked`; a folder that must be new is claimed with :func:`claim_folder`.
"""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

LOCK = ".lock"


class BusyError(OSError):
    """Another process works there."""


@contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """A temporary file beside ``path``; it takes the place of ``path`` when the block ends well, and goes otherwise.

    The parent folder is made. The temporary file keeps the ending of ``path`` (some writers choose the format by it),
    is hidden, and is never another process's: folders may be shared between machines.

    Args:
        path: what is to be there afterwards.

    Yields:
        Where to write.

    Raises:
        OSError: of the writer, or disk full, or not writable; what stood at ``path`` is as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    unique = f"{socket.gethostname()}.{os.getpid()}.{uuid.uuid4().hex[:8]}"
    temporary = path.with_name(f".{path.stem[:80]}.{unique}.tmp{path.suffix}")
    try:
        yield temporary
        _flush(temporary)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _flush(path: Path) -> None:
    """To the disk, so that a power cut after the rename does not leave an empty file."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def replace_file(path: Path | str, data: bytes) -> None:
    """Write a file so that it is there whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def remove_listed(folder: Path | str, names: Iterable[str]) -> list[str]:
    """Stands in until the branch `places` lands."""
    removed = []
    for name in names:
        with suppress(FileNotFoundError):
            (Path(folder) / name).unlink()
            removed.append(name)
    return removed


def claim_folder(folder: Path | str) -> Path:
    """Make a folder that nobody has: ``folder``, or ``folder.2``, ``folder.3`` ... where it is taken.

    Two processes that ask at once get two folders.

    Raises:
        OSError: it cannot be made (read-only, disk full).
    """
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    count = 1
    while True:
        found = folder if count == 1 else folder.with_name(f"{folder.name}.{count}")
        try:
            found.mkdir()
        except FileExistsError:
            count += 1
        else:
            return found


@contextmanager
def locked(folder: Path | str, doing: str, wait: bool = False, name: str = LOCK) -> Iterator[Path]:
    """Be the only process that works in a folder; the system lets go when the process ends, however it ends.

    Args:
        folder: is made where it is missing.
        doing: what is being done there, for the other's message ("generate").
        wait: until the other is done, instead of refusing.
        name: of the lock file.

    Yields:
        The lock file, which says who holds it.

    Raises:
        BusyError: another process holds it; says which.
        OSError: no lock can be taken there (read-only, no space, a file system without locks).
    """
    from filelock import FileLock, Timeout

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    lock = FileLock(path, timeout=-1 if wait else 0)
    try:
        lock.acquire()
    except Timeout as error:
        raise BusyError(
            f"{folder}: another process is at work there ({_holder(path)}): wait for it, or choose another folder"
        ) from error
    try:
        path.write_text(f"{doing}, process {os.getpid()} on {socket.gethostname()}\n")
        yield path
    finally:
        lock.release()


def _holder(path: Path) -> str:
    try:
        return path.read_text().strip() or "unknown"
    except OSError:
        return "unknown"
