"""Closed-form confidence intervals: proportions, differences of proportions, quantiles."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy import special, stats


class Interval(NamedTuple):
    """A confidence interval; both ends belong to it."""

    low: float
    high: float


def _check(successes: int, n: int, level: float) -> None:
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"expected 0 <= successes <= n and n >= 1, got {successes} of {n}")
    if not 0 < level < 1:
        raise ValueError(f"a confidence level lies between 0 and 1, got {level}")


def wilson(successes: int, n: int, level: float = 0.95) -> Interval:
    """Score interval of a proportion (Wilson 1927, https://doi.org/10.1080/01621459.1927.10502953).

    Averaged over p a nominal 95 % interval covers 95.4 % at n = 20; at worst 91.7 % for p in [.05, .95], and less
    where p is so near 0 or 1 that a single success or failure decides.

    Args:
        successes: How many of ``n``.
        n: Number of trials, at least 1.
        level: Confidence level in (0, 1).

    Raises:
        ValueError: Counts or level out of range.
    """
    _check(successes, n, level)
    z = float(special.ndtri(0.5 + level / 2))
    p = successes / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == n else min(1.0, centre + half)
    return Interval(low, high)


def clopper_pearson(successes: int, n: int, level: float = 0.95) -> Interval:
    """Exact interval of a proportion (Clopper and Pearson 1934, https://doi.org/10.1093/biomet/26.4.404).

    Never covers less than ``level``; for claims.

    Args:
        successes: How many of ``n``.
        n: Number of trials, at least 1.
        level: Confidence level in (0, 1).

    Raises:
        ValueError: Counts or level out of range.
    """
    _check(successes, n, level)
    tail = (1 - level) / 2
    low = 0.0 if successes == 0 else float(special.betaincinv(successes, n - successes + 1, tail))
    high = 1.0 if successes == n else float(special.betaincinv(successes + 1, n - successes, 1 - tail))
    return Interval(low, high)


def agresti_caffo(successes_1: int, n_1: int, successes_2: int, n_2: int, level: float = 0.95) -> Interval:
    """Interval of the difference p1 - p2 of two independent proportions, clipped to [-1, 1].

    Agresti and Caffo 2000 (https://doi.org/10.1080/00031305.2000.10474560): one success and one failure are
    added to each sample.

    Args:
        successes_1: How many of ``n_1``.
        n_1: Trials of the first sample.
        successes_2: How many of ``n_2``.
        n_2: Trials of the second sample.
        level: Confidence level in (0, 1).

    Raises:
        ValueError: Counts or level out of range.
    """
    _check(successes_1, n_1, level)
    _check(successes_2, n_2, level)
    z = float(special.ndtri(0.5 + level / 2))
    p, q = (successes_1 + 1) / (n_1 + 2), (successes_2 + 1) / (n_2 + 2)
    half = z * math.sqrt(p * (1 - p) / (n_1 + 2) + q * (1 - q) / (n_2 + 2))
    return Interval(max(-1.0, p - q - half), min(1.0, p - q + half))


def quantile_interval(values: np.ndarray, q: float, level: float = 0.95) -> Interval | None:
    """Distribution-free interval of a quantile, from order statistics (David and Nagaraja 2003, section 7.1).

    Args:
        values: (n,) independent draws.
        q: Quantile in (0, 1).
        level: Confidence level in (0, 1).

    Returns:
        The interval, or None if n is too small for any pair of order statistics to reach the level.
    """
    n = len(values)
    tail = (1 - level) / 2
    # Order statistics x_(i) with P(x_(low) > quantile) <= tail and P(x_(high) < quantile) <= tail, counted from 1.
    low = int(stats.binom.ppf(tail, n, q)) if n else 0
    high = int(stats.binom.ppf(1 - tail, n, q)) + 1
    if low < 1 or high > n:
        return None
    ordered = np.sort(values)
    return Interval(float(ordered[low - 1]), float(ordered[high - 1]))


def needed_for_quantile(q: float, tolerated: int, confidence: float = 0.99) -> int:
    """Smallest n at which ``tolerated`` values above a bound still show that the q-quantile lies below it.

    The early-stopping rule of MLPerf Inference (``mlcommons/inference_policies``): the smallest n with
    P(Binomial(n, 1 - q) <= tolerated) <= 1 - confidence.

    Args:
        q: Quantile in (0, 1), for example 0.99.
        tolerated: How many values may lie above, 0 or more.
        confidence: In (0, 1).
    """
    low, high = tolerated, tolerated + 1
    while stats.binom.cdf(tolerated, high, 1 - q) > 1 - confidence:
        low, high = high, 2 * high
    while high - low > 1:  # the probability falls with n, so bisect
        middle = (low + high) // 2
        if stats.binom.cdf(tolerated, middle, 1 - q) > 1 - confidence:
            low = middle
        else:
            high = middle
    return high
