"""What every command does around its work: its name, one line for what cannot be done, exit codes, signals.

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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lit_faces.core.signals import SIGNALS, Interrupted, Terminated, obeying_signals

__all__ = ["Interrupted", "Terminated", "called_as_lit_faces", "obeying_signals", "one_line", "program", "run_command"]
_DISK = {
    errno.ENOSPC: "the disk is full: make room and run the same command again",
    errno.EDQUOT: "the disk quota is used up: make room and run the same command again",
    errno.EFBIG: "the file would be larger than the largest size that is allowed here (ulimit -f, or the file system)",
    errno.EROFS: "the place is read-only: choose another one",
}
#: Errors of libraries about what was typed, by their class or the beginning of its module: importing them is slow.
_USERS = ("MisconfigurationException",)
_USERS_MODULES = ("wandb.errors",)
_called_as_lit_faces = False


def program(verb: str) -> str:
    """How a command was called, for its messages: ``lit-faces fit`` or ``python -m lit_faces.fit``."""
    return f"lit-faces {verb}" if _called_as_lit_faces else f"python -m lit_faces.{verb}"


@contextmanager
def called_as_lit_faces() -> Iterator[None]:
    """Meanwhile commands are called ``lit-faces VERB``."""
    global _called_as_lit_faces
    before, _called_as_lit_faces = _called_as_lit_faces, True
    try:
        yield
    finally:
        _called_as_lit_faces = before


def run_command(
    program: str,
    work: Callable[[], Any],
    go_on: str | Callable[[], str] = "run the same command again",
    patient: bool = False,
) -> int:
    """Do the work of a command; its exit code.

    Args:
        program: as the user typed it, for the messages: :func:`program`.
        work: what is to be done; what it returns is ignored, but for an int, which is the exit code.
        go_on: what somebody does who has interrupted it.
        patient: a signal is never obeyed by force (:class:`lit_faces.core.signals.Signals`).

    Returns:
        See the table above. Errors that are not the user's (a bug) are raised.
    """

    def words(number: int) -> str:
        what = "interrupted" if number == signal.SIGINT else "told to stop"
        return f"\n{program}: {what}; {go_on if isinstance(go_on, str) else go_on()}"

    def farewell(number: int) -> None:
        os.write(2, f"{words(number)}\n".encode())  # at a hard end, somebody may hold the lock of sys.stderr

    outermost = not SIGNALS.listening

    def leave(number: int) -> int:
        _say(words(number))
        if outermost and not patient and _is_our_process():
            sys.stdout.flush()
            SIGNALS.end(number)  # tidying up after heavy imports takes the interpreter seconds
        return 128 + number

    with obeying_signals() as signals:
        signals.patient, signals.farewell = patient, farewell
        try:
            done = work()
        except KeyboardInterrupt:
            return leave(signals.stop or signal.SIGINT)
        except (Interrupted, Terminated) as error:
            return leave(signals.stop or int(str(error.code)) - 128)
        except Exception as error:
            if signals.stop:
                return leave(signals.stop)  # an error of leaving, or a signal that was taken for one
            if os.environ.get("LIT_FACES_DEBUG") or not _is_users(error):
                raise
            _say(f"{program}: error: {one_line(error)}")
            return 2
        if signals.stop:
            return leave(signals.stop)
    return done if isinstance(done, int) and not isinstance(done, bool) else 0


def _is_our_process() -> bool:
    """Whether this process was started for a command, not for a notebook or a test that calls one."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return (spec is not None and spec.name.startswith("lit_faces.")) or Path(sys.argv[0]).stem == "lit-faces"


def _is_users(error: Exception) -> bool:
    """Whether an error is about what was typed or its surroundings, not a bug."""
    named = any(kind.__name__ in _USERS or kind.__module__.startswith(_USERS_MODULES) for kind in type(error).__mro__)
    return named or isinstance(error, ValueError | OSError) or bool(_out_of_memory(error))


def _out_of_memory(error: BaseException) -> str:
    """The way out where Python or torch say in their own words that there is no memory; nothing for other errors."""
    said = str(error)
    if isinstance(error, RuntimeError) and ("shared memory" in said or "Bus error" in said):
        return "the shared memory (/dev/shm) is full: fewer loader processes (--data.num_workers 0), or a larger one"
    torchs = isinstance(error, RuntimeError) and (
        type(error).__name__ == "OutOfMemoryError" or "not enough memory" in said
    )
    if isinstance(error, MemoryError) or torchs:
        return "not enough memory: smaller batches or pictures, fewer processes, or another machine"
    return ""


def one_line(error: BaseException) -> str:
    """What an error says, on one line, with the way out where disk or memory are the trouble."""
    if way_out := _out_of_memory(error):
        return way_out
    if isinstance(error, OSError) and error.errno in _DISK:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{_DISK[error.errno]}"
    return " ".join(str(error).split()) or type(error).__name__


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
