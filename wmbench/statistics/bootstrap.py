"""Bootstrap over clusters, written in weights so that thousands of resamples are one matrix product.

A statistic is a function of weights: it takes (R, C) non-negative weights of the C clusters (episodes) and
returns R values. Ones give the estimate, multinomial counts the resamples, ones with a single zero the
jackknife. A statistic made of sums over clusters is then ``weights @ sums``, without any loop.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import special

from wmbench.statistics.intervals import Interval

RESAMPLES = 2000
Statistic = Callable[[np.ndarray], np.ndarray]


def resample_weights(clusters: int, resamples: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    """How often each cluster is drawn in each resample.

    Args:
        clusters: C, at least 1.
        resamples: R.
        seed: The same seed gives the same weights.

    Returns:
        (R, C) float64 counts; every row sums to C.
    """
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(clusters,)))
    return rng.multinomial(clusters, np.full(clusters, 1 / clusters), size=resamples).astype(np.float64)


def bootstrap(
    statistic: Statistic,
    clusters: int,
    *,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
    method: str = "percentile",
) -> Interval | None:
    """Confidence interval of a statistic by resampling whole clusters.

    The tails are widened from the normal to Student's t (Hesterberg 2015, section 4.5.1,
    https://doi.org/10.1080/00031305.2015.1089789), which a plain percentile interval needs to cover what it
    promises with the few episodes of an evaluation.

    Args:
        statistic: (R, C) weights to (R,) values. Values may be infinite (a time that is never reached).
        clusters: C, the number of independent clusters.
        level: Confidence level in (0, 1).
        resamples: R.
        seed: Seed of the resampling.
        method: ``"percentile"``, or ``"bca"`` (bias-corrected and accelerated, Efron 1987) for smooth
            statistics of skewed data.

    Returns:
        The interval; None with fewer than two clusters, from which no spread can be seen. An end may be infinite.

    Raises:
        ValueError: Unknown method, or a statistic that is NaN.
    """
    if method not in ("percentile", "bca"):
        raise ValueError(f"unknown bootstrap method {method!r}: percentile or bca")
    if clusters < 2:
        return None
    drawn = np.asarray(statistic(resample_weights(clusters, resamples, seed)), dtype=np.float64)
    if np.isnan(drawn).any():
        raise ValueError("the statistic is NaN for some resamples; give it a value there or mask the clusters")
    tails = _tails(clusters, level)
    if method == "bca":
        tails = _bca(statistic, clusters, drawn, tails)
    return _ends(drawn, tails)


def widened_ends(drawn: np.ndarray, n: int, level: float) -> Interval:
    """Percentile interval of resampled values, widened as :func:`bootstrap` does.

    Args:
        drawn: (R,) values of the statistic, not NaN.
        n: How many independent items were resampled, at least 2.
        level: Confidence level in (0, 1).
    """
    return _ends(drawn, _tails(n, level))


def _tails(n: int, level: float) -> np.ndarray:
    """Normal quantiles at which the resampled distribution is cut, from Student's t with n - 1 degrees of freedom."""
    widen = np.sqrt(n / (n - 1)) * special.stdtrit(n - 1, 0.5 + level / 2)
    return np.array([-widen, widen])


def _ends(drawn: np.ndarray, tails: np.ndarray) -> Interval:
    """Order statistics, not interpolation: an infinite neighbour must not turn a finite end into infinity."""
    position = special.ndtr(tails) * (len(drawn) - 1)
    index = np.array([np.floor(position[0]), np.ceil(position[1])]).astype(int)
    low, high = np.sort(drawn)[index]
    return Interval(float(low), float(high))


def _bca(statistic: Statistic, clusters: int, drawn: np.ndarray, tails: np.ndarray) -> np.ndarray:
    """Shift the normal tails for bias (share of resamples below the estimate) and for skewness (jackknife)."""
    estimate = float(np.asarray(statistic(np.ones((1, clusters))))[0])
    below = (np.sum(drawn < estimate) + 0.5 * np.sum(drawn == estimate)) / len(drawn)
    bias = special.ndtri(np.clip(below, 0.5 / len(drawn), 1 - 0.5 / len(drawn)))
    left_out = np.asarray(statistic(1.0 - np.eye(clusters)))
    influence = left_out.mean() - left_out
    spread = np.sum(influence**2) ** 1.5
    acceleration = np.sum(influence**3) / (6 * spread) if spread > 0 else 0.0
    shifted = bias + tails
    return bias + shifted / (1 - acceleration * shifted)


def bootstrap_interval(values: np.ndarray, *, level: float = 0.95, seed: int = 0) -> Interval | None:
    """Interval of the mean of independent values.

    Args:
        values: (n,) finite.
        level: Confidence level in (0, 1).
        seed: Seed of the resampling.

    Returns:
        The interval; None with fewer than two values.
    """
    values = np.asarray(values, dtype=np.float64)
    return bootstrap(lambda weights: weights @ values / weights.sum(1), len(values), level=level, seed=seed)
