"""Words of libraries that would stand between a user and ours, about nothing that a user can change."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_WARNINGS = (
    r"Found \d+ module\(s\) in eval mode at the start of training",  # networks that we freeze on purpose
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",  # Lightning under a new torch
    r"The `srun` command is available on your system but is not used",  # Lightning, wherever SLURM is installed
    r"'set_vital' is deprecated",  # torchdata under a new torch
    r"\s*skip_none parameter was deprecated",  # jsonargparse; the older ones of our range know no other
)
_RECORDS = ("💡 Tip", "`weights_only` was not set")  # Lightning's advertisement; what we load is our own checkpoint
_LOGGERS = ("pytorch_lightning.utilities.rank_zero", "pytorch_lightning.trainer.connectors.checkpoint_connector")


def _worth_reading(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith(_RECORDS)


def quiet_libraries() -> None:
    """Keep those messages off the screen; ``LIT_FACES_DEBUG=1`` lets them through."""
    if os.environ.get("LIT_FACES_DEBUG"):
        return
    for message in _WARNINGS:
        warnings.filterwarnings("ignore", message=message)
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_worth_reading)  # the same filter is added once


@contextmanager
def quiet_descriptor() -> Iterator[None]:
    """Nothing reaches stderr meanwhile, also from C, whose libraries print what Python cannot filter."""
    kept = os.dup(2)
    nothing = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nothing, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)
