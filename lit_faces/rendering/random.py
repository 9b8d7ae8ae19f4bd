"""Counter-based random numbers: the same draw for the same key, whatever the batch size and the device.

Each number is a hash (the SplitMix64 finaliser, Steele, Lea & Flood 2014) of ``(seed, stream, item, column)``.  No
generator state exists, so face 17 is the same face alone, in a batch of 64 and on a GPU.
"""

from __future__ import annotations

import torch
from torch import Tensor

_MASK = (1 << 64) - 1


def _signed(value: int) -> int:
    """A 64-bit pattern as the int64 that torch stores it in."""
    value &= _MASK
    return value - (1 << 64) if value >= 1 << 63 else value


_GAMMA = _signed(0x9E3779B97F4A7C15)
_MIX1 = _signed(0xBF58476D1CE4E5B9)
_MIX2 = _signed(0x94D049BB133111EB)


def _shift(x: Tensor, bits: int) -> Tensor:
    """Logical right shift of int64."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _mix(x: Tensor) -> Tensor:
    x = (x ^ _shift(x, 30)) * _MIX1
    x = (x ^ _shift(x, 27)) * _MIX2
    return x ^ _shift(x, 31)


def key(seed: int, stream: int, *items: Tensor) -> Tensor:
    """Combine a seed, a stream number and int64 item numbers (B,) into one key (B,).

    Every word is hashed before it joins a state that is multiplied between words, so that no sum of seed and item is
    shared by another pair: subject 7 of seed 3000 is nobody of seed 3001.
    """
    state = torch.zeros_like(items[0])
    for word in (torch.full_like(state, _signed(seed)), torch.full_like(state, _signed(stream)), *items):
        state = _mix(state * _GAMMA + _mix(word + _MIX2))
    return _mix(state)


def uniform(keys: Tensor, count: int) -> Tensor:
    """Uniform draws in (0, 1), float32 (B, count), from keys (B,)."""
    columns = torch.arange(1, count + 1, device=keys.device, dtype=torch.int64) * _GAMMA
    bits = _shift(_mix(keys[:, None] + columns), 40)
    return (bits.to(torch.float32) + 0.5) * (1.0 / (1 << 24))


def normal(keys: Tensor, count: int) -> Tensor:
    """Standard normal draws, float32 (B, count) (Box-Muller, in float64 so that devices agree)."""
    u = uniform(keys, 2 * count).double()
    radius = (-2.0 * u[:, :count].log()).sqrt()
    return (radius * (2.0 * torch.pi * u[:, count:]).cos()).float()


def pixel_noise(keys: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Approximately normal noise for a picture, float32 (B, *shape): the sum of three uniforms from one hash a value."""
    count = shape[0] * shape[1] * shape[2]
    columns = torch.arange(1, count + 1, device=keys.device, dtype=torch.int64) * _GAMMA
    bits = _mix(keys[:, None] + columns)
    total = (bits & 0xFFFF) + (_shift(bits, 16) & 0xFFFF) + (_shift(bits, 32) & 0xFFFF)
    return ((total.to(torch.float32) + 1.5) / 65536.0 - 1.5).mul_(2.0).reshape(len(keys), *shape)
