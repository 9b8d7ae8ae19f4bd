"""Learning-rate schedules as functions of the share of the training done, so that resuming needs no state."""

from __future__ import annotations

import math


def warm_cosine(progress: float, warmup: float = 0.05, last: float = 0.05) -> float:
    """Factor of the learning rate: linear rise during ``warmup``, then a cosine down to ``last``.

    Args:
        progress: share of the training done, 0..1.
        warmup: share in which it rises (from a twentieth).
        last: factor at the end.
    """
    if progress < warmup:
        return max(0.05, progress / warmup)
    done = (progress - warmup) / max(1e-9, 1.0 - warmup)
    return last + (1.0 - last) * 0.5 * (1.0 + math.cos(math.pi * min(1.0, done)))
