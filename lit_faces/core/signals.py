"""Signals: heard once, obeyed at a moment that suits, never swallowed, and obeyed for certain after a while.

SIGTERM raises :class:`Terminated` and SIGINT KeyboardInterrupt, so that ``finally`` runs and locks go. Whoever needs to
come to a good moment first (the end of a training batch) *guards* meanwhile, and asks :meth:`Signals.obey`. Libraries
that have ideas of their own about signals are called inside :meth:`Signals.inside_library`. Should the process still be
there after :data:`PATIENCE_S`, or should Ctrl-C come a second time, it ends hard.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NoReturn

#: Seconds from the first signal to the hard end. SIGTERM asks for a checkpoint, so a batch that is guarded may end:
#: longer only where one takes longer; below the ten seconds that containers give.
PATIENCE_S: Mapping[int, float] = {signal.SIGINT: 2.5, signal.SIGTERM: 2.5}
GUARDED_PATIENCE_S: Mapping[int, float] = {signal.SIGINT: 2.5, signal.SIGTERM: 8.0}


class Terminated(SystemExit):
    """SIGTERM arrived; a SystemExit, so that nothing that catches errors swallows it."""

    def __init__(self) -> None:
        super().__init__(128 + signal.SIGTERM)


class Interrupted(SystemExit):
    """SIGINT arrived inside a library that would swallow KeyboardInterrupt."""

    def __init__(self) -> None:
        super().__init__(128 + signal.SIGINT)


class Signals:
    """What this process has been told.

    Attributes:
        stop: the first of SIGINT and SIGTERM that came; 0 = none.
        requeue: time is nearly up (SIGUSR1 of SLURM).
        guarded: somebody asks :meth:`obey` before long; otherwise a signal is obeyed where it arrives.
        patient: no hard end (a job of SLURM, whose ranks wait for each other; SLURM ends it by itself).
        farewell: says, at a hard end, what to do next; gets the signal's number.
    """

    def __init__(self) -> None:
        self.listening = False
        self.forget()

    def forget(self) -> None:
        """As if nothing had been heard."""
        self.stop, self.requeue, self.guarded, self.patient = 0, False, False, False
        self.farewell: Callable[[int], None] | None = None
        self._inside = 0
        self._pid = os.getpid()
        self._watch: threading.Timer | None = None

    @property
    def in_child(self) -> bool:
        """Whether this is a process that was forked from the one that listens."""
        return os.getpid() != self._pid

    def heard(self, number: int, *_: Any) -> None:
        """The handler of SIGINT and SIGTERM."""
        if self.in_child:  # a signal often goes to the whole group
            if number == signal.SIGINT and self._inside:
                return  # a DataLoader's process: who forked it ends it, after the batch
            self._raise(number)
        if self.stop:
            if number == signal.SIGINT:
                self._end_hard(number)
            return
        self.stop = number
        if not self.patient:
            self._watch_over(number, (GUARDED_PATIENCE_S if self.guarded else PATIENCE_S)[number])
        if not self.guarded:
            self._raise(number)

    def obey(self) -> None:
        """Leave, if a signal came while it was guarded.

        Raises:
            Terminated: SIGTERM.
            KeyboardInterrupt: SIGINT (:class:`Interrupted` inside a library).
        """
        if self.stop:
            self._raise(self.stop)

    def answered(self) -> None:
        """What came was how somebody ends what has no end of its own (a camera): as if nothing had been heard."""
        if self._watch is not None:
            self._watch.cancel()
        self.stop, self._watch = 0, None

    def _raise(self, number: int) -> NoReturn:
        if number == signal.SIGTERM:
            raise Terminated
        raise Interrupted if self._inside else KeyboardInterrupt

    @contextmanager
    def inside_library(self) -> Iterator[None]:
        """Around a library that catches KeyboardInterrupt, or everything, and goes on: it cannot, for a signal.

        Raises:
            Terminated: SIGTERM came meanwhile.
            KeyboardInterrupt: SIGINT came.
        """
        self._inside += 1
        try:
            yield
        except BaseException as error:
            self._inside -= 1
            if self.stop and not isinstance(error, Terminated):
                self._raise(self.stop)
            raise
        self._inside -= 1
        self.obey()

    def _watch_over(self, number: int, seconds: float) -> None:
        self._watch = threading.Timer(seconds, self._end_hard, (number,))
        self._watch.daemon = True
        self._watch.start()

    def _end_hard(self, number: int) -> None:
        """From any thread: nobody is asked."""
        if self.farewell is not None:
            self.farewell(number)
        self.end(number)

    def end(self, number: int) -> NoReturn:
        """End the process now, and those that it has forked."""
        for child in multiprocessing.active_children():
            child.kill()
        os._exit(128 + number)

    def start(self) -> dict[int, Any]:
        """Listen; the handlers that were there before."""
        self.forget()
        self.listening = True
        return {number: signal.signal(number, self.heard) for number in (signal.SIGINT, signal.SIGTERM)}

    def finish(self, before: Mapping[int, Any]) -> None:
        """Listen no longer."""
        if self._watch is not None:
            self._watch.cancel()
        self.listening = False
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


SIGNALS = Signals()


@contextmanager
def obeying_signals() -> Iterator[Signals]:
    """SIGTERM raises :class:`Terminated`, SIGINT KeyboardInterrupt; see the top of the file. May be nested."""
    if SIGNALS.listening or threading.current_thread() is not threading.main_thread():  # others may not ask
        yield SIGNALS
        return
    before = SIGNALS.start()
    try:
        yield SIGNALS
    finally:
        SIGNALS.finish(before)
