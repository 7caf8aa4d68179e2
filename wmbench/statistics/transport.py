"""Distances between two samples, as seminorms of the weights of their pairs, so that any bootstrap can use them.

Item i of one sample belongs with item i of the other (the same start). A distance is a function of signed weights p of
the items: with p summing to 1 it is the distance between the weighted samples, and since it is a seminorm of p,
:func:`wmbench.statistics.clustered.norm_interval` bounds it even where it is 0.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Seminorm = Callable[[np.ndarray], np.ndarray]
"""(R, E) weights to (R,) values of at least 0."""


def wasserstein(x: np.ndarray, y: np.ndarray) -> Seminorm:
    """Wasserstein-1 distance of two samples on a line: the area between their distribution functions.

    Args:
        x: (E,) finite.
        y: (E,) finite.
    """
    order, values = _pooled(x, y)
    width = np.append(np.diff(values), 0.0)  # (2E,)
    return lambda p: np.abs(_steps(p, order)) @ width


def circular_wasserstein(x: np.ndarray, y: np.ndarray) -> Seminorm:
    """The same for angles, on the circle (Rabin, Delon and Gousseau 2011, https://doi.org/10.1007/s10851-011-0284-0).

    The least over all places to cut it open: the area between the distribution functions' difference and its median.

    Args:
        x: (E,) rad, finite.
        y: (E,) rad, finite.
    """
    order, values = _pooled(np.mod(x, 2 * np.pi), np.mod(y, 2 * np.pi))
    width = np.append(np.diff(values), 2 * np.pi - values[-1] + values[0])  # (2E,) the last goes round

    def distance(p: np.ndarray) -> np.ndarray:
        steps = _steps(p, order)  # (R, 2E)
        rank = np.argsort(steps, axis=1)
        reached = np.cumsum(width[rank], axis=1) >= np.pi
        middle = np.take_along_axis(rank, reached.argmax(1)[:, None], 1)
        return np.abs(steps - np.take_along_axis(steps, middle, 1)) @ width

    return distance


def energy_distance(x: np.ndarray, y: np.ndarray) -> Seminorm:
    """Energy distance sqrt(2 E|X - Y| - E|X - X'| - E|Y - Y'|) (Szekely and Rizzo 2013), in D dimensions.

    Args:
        x: (E, D) finite.
        y: (E, D) finite.
    """
    both = np.concatenate([x, y])
    apart = np.linalg.norm(both[:, None] - both, axis=-1)  # (2E, 2E)
    n = len(x)
    cross = apart[:n, n:]
    form = cross + cross.T - apart[:n, :n] - apart[n:, n:]  # (E, E)
    return lambda p: np.sqrt(np.maximum(np.einsum("re,ef,rf->r", p, form, p, optimize=True), 0.0))


def mean_of(norms: list[Seminorm]) -> Seminorm:
    """The mean of several distances."""
    return lambda p: np.mean([norm(p) for norm in norms], axis=0)


def _pooled(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The order of both samples' values together, and the values in it."""
    values = np.concatenate([x, y]).astype(np.float64)
    order = np.argsort(values, kind="stable")
    return order, values[order]


def _steps(p: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Difference of the distribution functions after each pooled value: (R, E) to (R, 2E)."""
    return np.cumsum(np.concatenate([p, -p], axis=1)[:, order], axis=1)
