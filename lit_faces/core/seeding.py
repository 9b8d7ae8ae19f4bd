"""Random numbers that can be told apart and put back: a generator for each item, and the state of all global ones."""

from __future__ import annotations

import hashlib
import random
from typing import Any

import numpy as np
import torch


def derive_seed(seed: int, *indices: int | str) -> int:
    """One seed from a seed and any indices, the same on every machine and in every Python.

    Returns:
        0 <= seed < 2**63: the first bytes of the SHA-256 of the arguments. ``(1, 23)``, ``(12, 3)`` and ``(1, "23")``
        give different seeds.
    """
    digest = hashlib.sha256(
        repr((int(seed), *(i if isinstance(i, str) else int(i) for i in indices))).encode()
    ).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def generator_for(seed: int, *indices: int | str, device: torch.device | str = "cpu") -> torch.Generator:
    """A torch generator of its own for one item, so that item k is the same whatever the batch size or the rank.

    torch's CPU generator uses the low 32 bits of the seed: two of 65,000 items may draw the same numbers.

    Args:
        seed: the run's seed.
        indices: what tells the item apart: epoch, sample, ``"flip"``, ...
        device: of the generator.
    """
    return torch.Generator(device=device).manual_seed(derive_seed(seed, *indices))


def capture_rng() -> dict[str, Any]:
    """State of the global generators of Python, NumPy and torch (CPU and every CUDA device).

    Returns:
        Lists, numbers, strings and tensors only: ``torch.load(weights_only=True)`` reads it back from a checkpoint.
    """
    version, words, gauss = random.getstate()
    name, key, position, has_gauss, cached = np.random.get_state()
    return {
        "python": [version, list(words), gauss],
        "numpy": [str(name), [int(word) for word in key], int(position), int(has_gauss), float(cached)],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_rng(state: dict[str, Any]) -> None:
    """Put back what :func:`capture_rng` took. CUDA devices that this machine lacks are left out.

    Raises:
        ValueError: the state was not made by :func:`capture_rng`.
    """
    missing = [key for key in ("python", "numpy", "torch", "cuda") if key not in state]
    if missing:
        raise ValueError(f"random state: expected the keys of capture_rng(), {missing[0]!r} is missing")
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    name, key, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, np.array(key, dtype=np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state["torch"].cpu())
    if torch.cuda.is_available():
        for device, device_state in enumerate(state["cuda"][: torch.cuda.device_count()]):
            torch.cuda.set_rng_state(device_state.cpu(), device)
