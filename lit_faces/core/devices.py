"""Where networks run."""

from __future__ import annotations

import os

ACCELERATORS = ("auto", "cpu", "gpu", "cuda")


def device_of(accelerator: str) -> str:
    """``cpu`` or ``cuda`` for an ``--accelerator``; ``auto`` is the GPU where there is one.

    Raises:
        ValueError: another word, or a GPU that is not there.
    """
    import torch

    if accelerator not in ACCELERATORS:
        raise ValueError(f"--accelerator: expected one of {', '.join(ACCELERATORS)}, got {accelerator!r}")
    there = torch.cuda.is_available()
    if accelerator in ("gpu", "cuda") and not there:
        raise ValueError(f"--accelerator {accelerator}: no GPU is there; use cpu or auto")
    return "cuda" if there and accelerator != "cpu" else "cpu"


def leave_a_core() -> None:
    """Networks use all cores but one, because something else works beside them; ``OMP_NUM_THREADS`` goes before."""
    import torch

    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) - 1))
