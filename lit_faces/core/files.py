"""Files that appear whole or not at all, folders that have one owner.

Every writer of the package goes through :func:`replace_file` or :func:`replacing` (:class:`Replacement` where a block
does not fit); whoever works in a folder for longer than one file holds :func:`locked`; a folder that must be new is
claimed with :func:`claim_folder`; what is thrown away is what a list says is ours: :func:`remove_listed`.

While a file is written it is called ``.NAME.HOST.PID.RANDOM.tmp[.ENDING]`` in the folder of its target, so that what a
killed process has left is known for what it is (:func:`remove_stale`).
"""

from __future__ import annotations

import errno
import os
import re
import socket
import stat
import sys
import threading
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

LOCK = ".lock"
_HOLDER = ".by"  # the ending of the note beside a lock that says who holds it
_TEMPORARY = re.compile(r"\..*\.(?P<host>[^.]+)\.(?P<pid>\d+)\.[0-9a-f]{8}\.tmp(\.[^.]*)?", re.DOTALL)
_STEM, _SUFFIX = 80, 24  # bytes of the target's name that a temporary file keeps; a name has 255 at most
_DAY = 86_400  # seconds after which another machine's temporary file is nobody's
_NO_FLUSH = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP)  # file systems that cannot be told to flush
_BLOCK = 4096  # bytes; no file system has smaller blocks that matter
_held: set[tuple[int, int, Path]] = set()  # locks by process and thread: whoever has one may take it again


class BusyError(OSError):
    """Another process works there."""


# -- one file ---------------------------------------------------------------------------------------------------------


class Replacement:
    """A file that is being written beside its place; :meth:`commit` puts it there, :meth:`discard` leaves no trace.

    A symbolic link stays one: the file that it leads to is replaced. A file that is replaced keeps its permissions, a
    new one has those of the umask.

    Args:
        path: what is to be there afterwards; its folder is made.
        ending: whether the temporary file ends as ``path`` does; not where a reader takes all files of an ending.

    Attributes:
        path: the file that is replaced, links followed.
        temporary: where to write.

    Raises:
        OSError: the place cannot be written to, or holds something that is no file.
    """

    def __init__(self, path: Path | str, ending: bool = True) -> None:
        self.path = _target(Path(path))
        self.path.parent.mkdir(parents=True, exist_ok=True)
        suffix = self.path.suffix if ending else ""
        if len(os.fsencode(suffix)) > _SUFFIX:
            suffix = ""
        stem = os.fsencode(self.path.stem)[:_STEM].decode(errors="ignore")
        unique = f"{_host()}.{os.getpid()}.{uuid.uuid4().hex[:8]}"
        self.temporary = self.path.with_name(f".{stem}.{unique}.tmp{suffix}")

    def commit(self) -> None:
        """Put the file in its place, on the disk: a power cut must not leave an empty one.

        Raises:
            OSError: it cannot be; names the file.
        """
        try:
            _flush(self.temporary)
            with suppress(FileNotFoundError):
                os.chmod(self.temporary, stat.S_IMODE(self.path.stat().st_mode))
            os.replace(self.temporary, self.path)
        except OSError as error:
            raise self.named(error) from error

    def discard(self) -> None:
        """Remove what was written."""
        with suppress(FileNotFoundError):
            self.temporary.unlink()

    def named(self, error: OSError) -> OSError:
        """The error of a writer, with the name of the file that was to be, as far as it is about this file."""
        if error.errno is None or error.filename not in (None, str(self.temporary), os.fsencode(self.temporary)):
            return error
        return type(error)(error.errno, error.strerror or os.strerror(error.errno), str(self.path))


def _target(path: Path) -> Path:
    """The file that a name stands for, links followed.

    Raises:
        OSError: a circle of links, a folder, a device.
    """
    if path.is_symlink():
        try:
            path = path.resolve()
        except RuntimeError as error:  # what Python before 3.13 says of a circle
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path)) from error
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return path
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "is a device or a pipe, not a file: choose another name", str(path))
    return path


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _NO_FLUSH:
            raise
    finally:
        os.close(handle)


@contextmanager
def replacing(path: Path | str, ending: bool = True) -> Iterator[Path]:
    """A temporary file beside ``path``; it takes the place of ``path`` when the block ends well, and goes otherwise.

    The parent folder is made. The temporary file keeps the ending of ``path`` (some writers choose the format by it),
    is hidden, and is never another process's: folders may be shared between machines. :class:`Replacement` says more.

    Args:
        path: what is to be there afterwards.
        ending: whether the temporary file ends as ``path`` does.

    Yields:
        Where to write.

    Raises:
        OSError: of the writer, or disk full, or not writable; what stood at ``path`` is as it was.
    """
    replacement = Replacement(path, ending)
    try:
        yield replacement.temporary
        replacement.commit()
    except OSError as error:
        replacement.discard()
        raise replacement.named(error) from error
    except BaseException:
        replacement.discard()
        raise


def replace_file(path: Path | str, data: bytes) -> None:
    """Write a file so that it is there whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def reserve(path: Path | str, size: int) -> None:
    """Take the room for a file before anything is written or mapped; what it holds already stays.

    A map of a file whose blocks are not there ends the process with a bus error when the disk is full.

    Args:
        path: is made where it is missing.
        size: bytes that the file has at least afterwards; new ones are 0.

    Raises:
        OSError: there is no room; names the file.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        if size > 0:
            _allocate(handle, size)
    except OSError as error:
        raise type(error)(error.errno, error.strerror, str(path)) from error
    finally:
        os.close(handle)


def _allocate(handle: int, size: int) -> None:
    try:
        os.posix_fallocate(handle, 0, size)
    except OSError as error:
        if error.errno not in _NO_FLUSH:
            raise
        for place in [*range(0, size, _BLOCK), size - 1]:  # a file system that takes no orders: a byte in every block
            os.pwrite(handle, os.pread(handle, 1, place) or b"\0", place)


# -- what is left and what is ours ------------------------------------------------------------------------------------


def remove_stale(folder: Path | str, ours: str | None = None) -> list[str]:
    """Remove the temporary files that processes which are no more have left in a folder; not in folders below it.

    Args:
        folder: where to look.
        ours: what the names of the files begin with that only the holder of the folder's lock writes: if others write
            them still, their parent is dead and they will be soon.

    Returns:
        Their names.
    """
    removed = []
    with os.scandir(folder) as entries:
        found = [(entry, _TEMPORARY.fullmatch(entry.name)) for entry in entries]
    for entry, name in found:
        if name is None or not entry.is_file(follow_symlinks=False):
            continue
        with suppress(FileNotFoundError, PermissionError):
            old = time.time() - entry.stat(follow_symlinks=False).st_mtime > _DAY
            orphan = ours is not None and entry.name.startswith(f".{ours}") and int(name["pid"]) != os.getpid()
            if old or orphan or (name["host"] == _host() and not _lives(int(name["pid"]))):
                os.unlink(entry.path)
                removed.append(entry.name)
    return removed


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())[:63] or "host"


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def remove_listed(folder: Path | str, names: Iterable[str]) -> list[str]:
    """Remove the files of a folder that a list (a manifest) says are ours; everything else in it stays.

    Folders inside that are empty then go too. Take the lock of the folder first.

    Args:
        folder: where the files lie.
        names: paths in the folder, with ``/``; what is not there is passed over.

    Returns:
        The names that were removed.

    Raises:
        ValueError: a name leads out of the folder, or to something that is no plain file (a link, a folder, a device);
            then nothing has been removed.
    """
    folder, names = Path(folder), list(names)
    for name in names:
        if reason := _not_ours(folder, name):
            raise ValueError(
                f"{folder}: the list of its files names {str(name)[:200]!r}, which {reason}; nothing was removed: "
                "look at it, or choose another folder"
            )
    removed: list[str] = []
    within: set[Path] = set()
    for name in names:
        with suppress(FileNotFoundError):
            (folder / name).unlink()
            removed.append(name)
            within.update((folder / name).relative_to(folder).parents)
    for part in sorted(within - {Path(".")}, key=lambda part: -len(part.parts)):
        with suppress(OSError):  # somebody else's files are in it
            (folder / part).rmdir()
    return removed


def _not_ours(folder: Path, name: object) -> str:
    """Why a file may not be removed on the word of a list; nothing when it may."""
    if not isinstance(name, str) or not name or "\0" in name:
        return "is not a file name"
    path = Path(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        return "leads out of the folder"
    for length in range(1, len(path.parts) + 1):
        try:
            mode = (folder / Path(*path.parts[:length])).lstat().st_mode
        except (FileNotFoundError, NotADirectoryError):
            return ""
        except OSError as error:
            return f"cannot be looked at ({error.strerror})"
        if stat.S_ISLNK(mode):
            return "is a link" if length == len(path.parts) else "lies behind a link"
        if length == len(path.parts) and not stat.S_ISREG(mode):
            return "is not a file"
    return ""


# -- folders ----------------------------------------------------------------------------------------------------------


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

    Whoever has it may take it again (the outer block lets go). What dead processes have left in the folder is removed.
    The lock's file stays, and means nothing by itself. Whoever only reads needs no lock.

    Args:
        folder: is made where it is missing.
        doing: what is being done there, for the other's message ("generate").
        wait: until the other is done, instead of refusing.
        name: of the lock file.

    Yields:
        The lock file.

    Raises:
        BusyError: another process holds it; says which.
        OSError: no lock can be taken there (read-only, no space, a file system without locks).
    """
    from filelock import FileLock, Timeout

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder.resolve() / name
    mine = (os.getpid(), threading.get_ident(), path)
    if mine in _held:
        yield path
        return
    note = path.with_name(name + _HOLDER)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666))  # a group that shares a folder shares locks
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        if not wait:
            raise BusyError(
                f"{folder}: another process is at work there ({_holder(note)}): wait for it, or choose another folder"
            ) from error
        print(f"{folder}: waiting for another process ({_holder(note)})", file=sys.stderr, flush=True)
        lock.acquire(timeout=-1)
    _held.add(mine)
    try:
        with suppress(OSError):  # a courtesy
            note.write_text(f"{doing}, process {os.getpid()} on {socket.gethostname()}\n")
        remove_stale(folder)
        yield path
    finally:
        _held.discard(mine)
        with suppress(OSError):
            note.unlink()
        lock.release()


def default_cache_dir() -> Path:
    """``$LIT_FACES_CACHE``, or ``~/.cache/lit_faces``.

    Raises:
        FileNotFoundError: there is no home folder.
    """
    try:
        return Path(os.environ.get("LIT_FACES_CACHE") or "~/.cache/lit_faces").expanduser()
    except RuntimeError as error:
        raise FileNotFoundError(
            "no home folder to keep a cache in: set LIT_FACES_CACHE to a folder of yours"
        ) from error


def is_lock(name: str) -> bool:
    """Whether a file of this name is a lock or the note beside one, which belong in no manifest and no digest."""
    return name.removesuffix(_HOLDER).endswith(LOCK)


def _holder(note: Path) -> str:
    try:
        return note.read_text(errors="replace").strip()[:200] or "unknown"
    except OSError:
        return "unknown"
