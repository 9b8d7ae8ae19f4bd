"""Lightning's trainer without ideas of its own about signals.

Lightning answers Ctrl-C with ``sys.exit(1)`` and ignores later ones, and takes SIGTERM for a note to be read some time;
with several processes it broadcasts inside the handler, and hangs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytorch_lightning as pl

from lit_faces.core.signals import SIGNALS, obeying_signals


@contextmanager
def obedient(trainer: pl.Trainer) -> Iterator[None]:
    """Around ``trainer.fit`` and its like: signals are ours, and none is swallowed.

    Args:
        trainer: about to work.

    Raises:
        Terminated: SIGTERM came meanwhile (:class:`lit_faces.core.signals.Terminated`).
        KeyboardInterrupt: SIGINT came, or somebody raised it.
    """
    # Lightning has no switch for this; should its private name go, its handlers come back and ours are called by them
    setattr(trainer._signal_connector, "register_signal_handlers", _nothing)  # noqa: B010  (mypy: a method)
    with obeying_signals(), SIGNALS.inside_library():
        yield


def _nothing() -> None:
    """Instead of Lightning's handlers."""
