"""One forked process reads damaged files; its parent sees what becomes of it: a word, a crash, or nothing for long."""

import gc
import json
import os
import resource
import select
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

SECONDS = 10  # that one file may take
_MEMORY = 12 * 2**30  # that a worker may ask for beyond what its parent has


@dataclass
class Outcomes:
    """What became of all files.

    Attributes:
        count: of each of ``read``, ``refused``, ``raw``, ``crash``, ``hang``.
        bad: seed and what happened, of the last three.
    """

    count: Counter[str] = field(default_factory=Counter)
    bad: list[str] = field(default_factory=list)


def run(read: Callable[[int], str], seeds: range) -> Outcomes:
    """Call ``read(seed)`` for every seed in a forked process; a new one takes over after a crash or a hang.

    Args:
        read: damages a file and reads it; returns the file's name.
        seeds: of the damages.
    """
    outcomes, left = Outcomes(), list(seeds)
    while left:
        pipe, end = os.pipe()
        gc.collect()  # what is freed in the child must not be the parent's: a decoder would wait for its threads there
        process = os.fork()
        if process == 0:
            os.close(pipe)
            _work(read, left, end)
        os.close(end)
        left = left[_watch(process, pipe, left, outcomes) :]
        os.close(pipe)
    return outcomes


def _work(read: Callable[[int], str], seeds: list[int], end: int) -> None:
    """The forked process: a line a file, and no way back into pytest."""
    try:
        gc.freeze()
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + _MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        for seed in seeds:
            outcome, what = _outcome(read, seed)
            os.write(end, (json.dumps([outcome, what]) + "\n").encode())
    finally:
        os._exit(0)


def _outcome(read: Callable[[int], str], seed: int) -> tuple[str, str]:
    try:
        return "read", read(seed)
    except (ValueError, OSError) as error:  # the package's own are of these; each must name the file
        named = any(word in str(error) for word in getattr(read, "names", ()))
        return ("refused", "") if named else ("raw", f"{type(error).__name__}: {str(error)[:300]} {_where(error)}")
    except BaseException as error:
        return "raw", f"{type(error).__name__}: {str(error)[:300]} {_where(error)}"


def _where(error: BaseException) -> str:
    frames = traceback.extract_tb(sys.exc_info()[2] or error.__traceback__)
    return " < ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in reversed(frames[-4:]))


def _watch(process: int, pipe: int, seeds: list[int], outcomes: Outcomes) -> int:
    """Take the worker's lines; returns how many seeds are done with."""
    done, buffer, began = 0, b"", time.monotonic()
    while True:
        ready, _, _ = select.select([pipe], [], [], max(0.0, began + SECONDS - time.monotonic()))
        if not ready:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            _note(outcomes, "hang", f"seed {seeds[done]}: nothing for {SECONDS} s")
            return done + 1
        data = os.read(pipe, 65536)
        if not data:
            _, status = os.waitpid(process, 0)
            if done < len(seeds):
                how = f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"exit {os.WEXITSTATUS(status)}"
                _note(outcomes, "crash", f"seed {seeds[done]}: {how}")
                return done + 1
            return done
        *lines, buffer = (buffer + data).split(b"\n")
        for line in lines:
            outcome, what = json.loads(line)
            if outcome == "raw":
                _note(outcomes, outcome, f"seed {seeds[done]}: {what}")
            else:
                outcomes.count[outcome] += 1
            done, began = done + 1, time.monotonic()


def _note(outcomes: Outcomes, outcome: str, what: str) -> None:
    outcomes.count[outcome] += 1
    outcomes.bad.append(f"{outcome}: {what}")
