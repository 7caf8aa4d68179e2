"""Counter-based random numbers: a row's noise depends on its key alone, not on the batch around it.

A key is one int64. Everything here is integer hashing (the finaliser of SplitMix64, Steele et al. 2014,
https://doi.org/10.1145/2660193.2660195) written once for NumPy arrays and torch tensors: both give the
same bits for integers and uniforms, and the same normals up to the last bits of log, cos and sin.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

_GOLDEN = 0x9E3779B97F4A7C15 - 2**64  # 2^64 / golden ratio, as a signed 64-bit integer
_MIX_1 = 0xBF58476D1CE4E5B9 - 2**64
_MIX_2 = 0x94D049BB133111EB - 2**64


def _shift(x: Any, bits: int) -> Any:
    """Logical right shift of signed 64-bit integers."""
    shifted = x >> bits
    shifted &= (1 << (64 - bits)) - 1
    return shifted


def _mix(x: Any) -> Any:
    """SplitMix64's finaliser: a bijection of 64-bit integers in which every input bit reaches every output bit.

    ``x`` is fresh memory of the caller's, and overwritten.
    """
    x ^= _shift(x, 30)
    x *= _MIX_1
    x ^= _shift(x, 27)
    x *= _MIX_2
    x ^= _shift(x, 31)
    return x


def fold_in(keys: Any, data: Any) -> Any:
    """Derive new keys from old ones and a counter or label.

    Args:
        keys: (B,) int64, NumPy array or torch tensor.
        data: An int, or (B,) int64 of the same kind as ``keys``.

    Returns:
        (B,) int64, of the same kind as ``keys``.
    """
    counter = (data * _GOLDEN + 2**63) % 2**64 - 2**63 if isinstance(data, int) else data * _GOLDEN
    return _mix(_mix(keys + _GOLDEN) ^ counter)


def keys_from_seeds(seeds: Any) -> np.ndarray:
    """Turn episode seeds into keys.

    Args:
        seeds: Sequence of B non-negative ints below 2**63.

    Returns:
        (B,) int64. Neighbouring seeds give unrelated keys.
    """
    return _mix(np.asarray(seeds, dtype=np.int64) + _GOLDEN)


def _grid(keys: Any, n: int) -> Any:
    """(B,) keys to (B, n) hashed counters."""
    if isinstance(keys, np.ndarray):
        columns: Any = np.arange(1, n + 1, dtype=np.int64)
    else:
        import torch

        columns = torch.arange(1, n + 1, dtype=torch.int64, device=keys.device)
    return _mix(keys[:, None] + columns * _GOLDEN)


def uniform(keys: Any, n: int) -> Any:
    """Uniform numbers in [0, 1) with 24 random bits.

    Args:
        keys: (B,) int64.
        n: Numbers per row.

    Returns:
        (B, n) float32, of the same kind as ``keys``.
    """
    bits = _shift(_grid(keys, n), 40)
    scale = 2.0**-24
    if isinstance(bits, np.ndarray):
        return bits.astype(np.float32) * np.float32(scale)
    return bits.float().mul_(scale)


def normal(keys: Any, n: int) -> Any:
    """Standard normal numbers (Box and Muller 1958, both branches used).

    Args:
        keys: (B,) int64.
        n: Numbers per row.

    Returns:
        (B, n) float32, of the same kind as ``keys``. The largest possible magnitude is 5.77.
    """
    half = (n + 1) // 2
    u = uniform(keys, 2 * half)
    if isinstance(u, np.ndarray):
        xp: Any = np
    else:
        import torch

        xp = torch
    radius = 1.0 - u[:, :half]  # in (0, 1]
    xp.log(radius, out=radius)
    radius *= -2.0
    xp.sqrt(radius, out=radius)
    angle = (2.0 * math.pi) * u[:, half:]
    both = xp.empty_like(u)
    xp.multiply(radius, xp.cos(angle), out=both[:, :half])
    xp.multiply(radius, xp.sin(angle), out=both[:, half:])
    return both[:, :n]


def randint(keys: Any, high: int) -> Any:
    """Integers in [0, high), one per row.

    Args:
        keys: (B,) int64.
        high: Exclusive bound, at most 2**31.

    Returns:
        (B,) int64, of the same kind as ``keys``. Bias is below ``high / 2**32``.
    """
    return (_shift(_mix(keys + _GOLDEN), 32) * high) >> 32
