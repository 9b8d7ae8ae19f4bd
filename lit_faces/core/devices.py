"""Where networks run."""

from __future__ import annotations

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
