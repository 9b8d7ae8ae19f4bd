"""What every command does around its work: one line for what cannot be done, exit codes, signals.

======  =============================================================================================
code    meaning
======  =============================================================================================
0       done
1       failed half-way through no fault of what was typed (a process died)
2       what was typed, or what it names, cannot be used; or the disk is full or read-only: one line
130     interrupted (Ctrl-C): one line says how to go on
143     told to stop (SIGTERM): the same
======  =============================================================================================

``LIT_FACES_DEBUG=1`` shows the traceback instead of the line.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_DISK = {
    errno.ENOSPC: "the disk is full: make room and run the same command again",
    errno.EDQUOT: "the disk quota is used up: make room and run the same command again",
    errno.EFBIG: "the file would be larger than the largest size that is allowed here (ulimit -f, or the file system)",
    errno.EROFS: "the place is read-only: choose another one",
}


class Terminated(SystemExit):
    """SIGTERM arrived; a SystemExit, so that nothing that catches errors swallows it."""

    def __init__(self) -> None:
        super().__init__(128 + signal.SIGTERM)


def _terminate(*_: Any) -> None:
    raise Terminated


@contextmanager
def obeying_signals() -> Iterator[None]:
    """SIGTERM raises :class:`Terminated`, as SIGINT raises KeyboardInterrupt, so that ``finally`` runs and locks go."""
    if threading.current_thread() is not threading.main_thread():  # only the main thread may ask
        yield
        return
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def run_command(program: str, work: Callable[[], Any], go_on: str = "run the same command again") -> int:
    """Do the work of a command; its exit code.

    Args:
        program: as the user typed it, for the messages.
        work: what is to be done; what it returns is ignored, but for an int, which is the exit code.
        go_on: what somebody does who has interrupted it.

    Returns:
        See the table above. Errors that are not the user's (a bug) are raised.
    """
    try:
        with obeying_signals():
            done = work()
    except KeyboardInterrupt:
        _say(f"\n{program}: interrupted; {go_on}")
        return 128 + signal.SIGINT
    except Terminated:
        _say(f"\n{program}: told to stop; {go_on}")
        return 128 + signal.SIGTERM
    except (ValueError, OSError) as error:
        if os.environ.get("LIT_FACES_DEBUG"):
            raise
        _say(f"{program}: error: {one_line(error)}")
        return 2
    return done if isinstance(done, int) and not isinstance(done, bool) else 0


def one_line(error: BaseException) -> str:
    """What an error says, on one line, with the way out where the disk is the trouble."""
    if isinstance(error, OSError) and error.errno in _DISK:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{_DISK[error.errno]}"
    return " ".join(str(error).split()) or type(error).__name__


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
