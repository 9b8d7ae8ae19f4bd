"""Files that a user names: only regular files are opened, and what cannot be read is named."""

from __future__ import annotations

import difflib
import errno
import os
import stat
from pathlib import Path

MAX_BYTES = 2**30  # of a file that is read at once; the largest uncompressed photo within the pixel limit is below it

_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)


def check_file(path: Path | str, what: str = "photo") -> os.stat_result:
    """The file exists, is a regular file and is not empty; it is not opened (a pipe would hang, a device might act).

    Args:
        path: file.
        what: it should be, for the message.

    Raises:
        FileNotFoundError: no such file; says the nearest name.
        IsADirectoryError: a folder.
        PermissionError, OSError: the system does not let us look.
        ValueError: a pipe, a socket or a device; or a file of 0 bytes.
    """
    path = Path(path)
    try:
        found = os.stat(path)
    except ValueError:  # a NUL in the name
        raise FileNotFoundError(f"{str(path)!r}: no such {what}; the name cannot be one of a file") from None
    except OSError as error:
        raise _named(path, error, what) from error
    kind = stat.S_IFMT(found.st_mode)
    if kind == stat.S_IFDIR:
        raise IsADirectoryError(f"{path}: expected a {what}, found a folder; name one file in it")
    if kind != stat.S_IFREG:
        raise ValueError(
            f"{path}: expected a {what}, found {_KINDS.get(kind, 'no regular file')}, which is not opened; copy what "
            "comes from it to a file"
        )
    if found.st_size == 0:
        raise ValueError(f"{path}: the file is empty (0 bytes); copy or download the {what} again")
    return found


def read_file(path: Path | str, what: str = "photo", limit: int = MAX_BYTES) -> bytes:
    """All bytes of a regular file.

    Args:
        path: file.
        what: it should be, for the message.
        limit: bytes; larger files are refused unread.

    Raises:
        As :func:`check_file`; ValueError also for a file above ``limit``.
    """
    path = Path(path)
    size = check_file(path, what).st_size
    if size > limit:
        raise ValueError(f"{path}: {size / 1e6:.0f} MB is more than a {what} has (limit {limit / 1e6:.0f} MB)")
    try:
        # Should a pipe have taken the file's place meanwhile, opening it must not wait for a writer.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as handle:
            if not stat.S_ISREG(os.fstat(handle.fileno()).st_mode):
                raise ValueError(f"{path}: was changed while it was opened; start again")
            data = handle.read(size + 1)
    except OSError as error:
        raise _named(path, error, what) from error
    if len(data) != size:
        raise ValueError(f"{path}: the file changes while it is read; wait until it is written, and start again")
    return data


def _named(path: Path, error: OSError, what: str) -> OSError:
    """The system's error with the file's name and what to do."""
    if error.errno in _ABSENT:
        return FileNotFoundError(f"{path}: no such {what}{_nearest(path)}")
    kind = PermissionError if isinstance(error, PermissionError) else OSError
    advice = "; change its permissions or copy it" if kind is PermissionError else "; copy it to another disk"
    return kind(f"{path}: the {what} cannot be read ({(error.strerror or str(error)).lower()}){advice}")


def _nearest(path: Path) -> str:
    try:
        near = difflib.get_close_matches(path.name, [entry.name for entry in path.parent.iterdir()], n=1)
    except OSError:
        near = []
    return f"; did you mean {path.parent / near[0]}?" if near else "; check the path (quotes around spaces?)"
