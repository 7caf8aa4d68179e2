"""Tests by exchange: of a correlation by permuting one side, of a difference by flipping the signs of pairs."""

from __future__ import annotations

import itertools

import numpy as np

from wmbench.statistics.correlation import KINDS, pairwise_sign, to_unit

DRAWN = 9999
"""Exchanges drawn where there are too many to go through all."""

EXACT_UP_TO = 8
"""Items up to which all permutations are counted (8! = 40,320)."""

EXACT_PAIRS = 16
"""Pairs up to which all signs are counted (65,536)."""


def permutation_p(x: np.ndarray, y: np.ndarray, kind: str = "pearson", *, seed: int = 0) -> tuple[float, float] | None:
    """One-sided p of no association against a positive one, by permuting ``y``.

    All n! permutations up to n = 8; beyond, 9,999 drawn ones and the one observed.

    Args:
        x: (n,).
        y: (n,).
        kind: ``pearson``, ``spearman`` or ``kendall``.
        seed: Of the drawn permutations.

    Returns:
        p, and its floor: the smallest p that this many items and their ties could give. None where the correlation
        is not defined.
    """
    n = len(x)
    if np.isnan(KINDS[kind](x, y)[0]):
        return None
    x, y = np.asarray(x), np.asarray(y)
    if n <= EXACT_UP_TO:
        orders = np.array(list(itertools.permutations(range(n))))
    else:
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(n,)))
        orders = np.concatenate([np.arange(n)[None], rng.permuted(np.tile(np.arange(n), (DRAWN, 1)), axis=1)])
    scores = _scores(x, y, orders, kind)  # the first is the one observed
    best = _scores(np.sort(x), np.sort(y), orders[:1], kind)[0]
    slack = 1e-12 * best
    floor = np.mean(scores >= best - slack) if n <= EXACT_UP_TO else 1 / len(orders)
    return float(np.mean(scores >= scores[0] - slack)), float(floor)


def _scores(x: np.ndarray, y: np.ndarray, orders: np.ndarray, kind: str) -> np.ndarray:
    """The part of the correlation that permuting changes: sum of products of values, ranks or pairwise signs."""
    if kind == "kendall":
        n, a, b = len(x), pairwise_sign(x).ravel(), pairwise_sign(y).ravel()
        parts = np.array_split(orders, 1 + orders.size * n // 2_000_000)  # a part's n x n tables fit into a cache
        return np.concatenate([b[(p[:, :, None] * n + p[:, None, :]).reshape(len(p), -1)] @ a for p in parts])
    if kind == "spearman":
        x, y = (((a > a[:, None]) + 0.5 * (a == a[:, None])).sum(0) for a in (x, y))
    x, y = to_unit(x) - to_unit(x).mean(), to_unit(y) - to_unit(y).mean()
    return y[orders] @ x


def sign_flip_p(differences: np.ndarray, *, seed: int = 0) -> tuple[float, float]:
    """Two-sided p that paired differences are symmetric around 0, by flipping signs (Fisher 1935).

    All signs up to 16 differences that are not 0; beyond, 9,999 drawn ones and the one observed.

    Args:
        differences: (n,) finite.
        seed: Of the drawn signs.

    Returns:
        p, and its floor: the smallest p that this many differences could give.
    """
    values = np.asarray(differences, dtype=np.float64)
    values = values[values != 0]
    n = len(values)
    if n == 0:
        return 1.0, 1.0
    values = values / np.abs(values).max()
    if n <= EXACT_PAIRS:
        signs = 1.0 - 2.0 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)  # (2^n, n)
    else:
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(n,)))
        signs = np.concatenate([np.ones((1, n)), rng.choice([-1.0, 1.0], size=(DRAWN, n))])
    sums = np.abs(signs @ values)
    floor = 2.0 ** (1 - n) if n <= EXACT_PAIRS else 1 / len(signs)
    return float(np.mean(sums >= sums[0] - 1e-12 * n)), floor
