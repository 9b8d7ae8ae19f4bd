"""Worker processes that end when their parent does, however that one ends."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time


def follow(parent: int) -> None:
    """To be called first in a worker: Ctrl-C is the parent's business, and a worker does not outlive it.

    Args:
        parent: process number of the parent, taken *there*: this process may be another's child by now.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal interrupts all processes at once; the parent tells us

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)  # nobody waits for us

    threading.Thread(target=watch, daemon=True, name="watch-parent").start()


def end_workers() -> None:
    """End the processes that this one started and that still work, at once; what they wrote is whole or not there."""
    for process in multiprocessing.active_children():
        process.terminate()
