"""Bootstrap over clusters, written in weights so that thousands of resamples are one matrix product.

A statistic is a function of weights: it takes (R, C) non-negative weights of the C clusters (episodes) and
returns R values. Ones give the estimate, multinomial counts the resamples, ones with a single zero the
jackknife. A statistic made of sums over clusters is then ``weights @ sums``, without any loop.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
from scipy import special

from wmbench.statistics.intervals import Interval

RESAMPLES = 2000
STUDENTISED_UP_TO = 400
"""Clusters beyond which the percentile interval is as good, and leaving out each in turn would cost too much."""

Statistic = Callable[[np.ndarray], np.ndarray]


@functools.lru_cache(maxsize=8)
def resample_weights(clusters: int, resamples: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    """How often each cluster is drawn in each resample.

    Args:
        clusters: C, at least 1.
        resamples: R.
        seed: The same seed gives the same weights.

    Returns:
        (R, C) float64 counts; every row sums to C. The same read-only array for the same arguments, since every
        number of a measure asks for it again.
    """
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(clusters,)))
    weights = rng.multinomial(clusters, np.full(clusters, 1 / clusters), size=resamples).astype(np.float64)
    weights.setflags(write=False)
    return weights


def bootstrap(
    statistic: Statistic,
    clusters: int,
    *,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
    method: str = "studentised",
    bounds: tuple[float, float] = (-np.inf, np.inf),
) -> Interval | None:
    """Confidence interval of a statistic by resampling whole clusters.

    The tails of the percentile interval are widened from the normal to Student's t (Hesterberg 2015, section 4.5.1,
    https://doi.org/10.1080/00031305.2015.1089789), which it needs with the few episodes of an evaluation. For skewed
    data that is not enough: ``studentised`` also takes the bootstrap-t (Efron and Tibshirani 1993, chapter 12) with
    the jackknife's standard error, and the wider of the two at each end. ``docs/measures/coverage.md`` has what each
    covers.

    Args:
        statistic: (R, C) weights to (R,) values. Values may be infinite (a time that is never reached).
        clusters: C, the number of independent clusters.
        level: Confidence level in (0, 1).
        resamples: R.
        seed: Seed of the resampling.
        method: ``"studentised"``, as above; where the statistic is infinite for some resamples, or there are more
            than :data:`STUDENTISED_UP_TO` clusters, it is the percentile interval. ``"percentile"``, for statistics
            whose resamples are not centred on the estimate. ``"bca"`` (bias-corrected and accelerated, Efron 1987).
        bounds: Least and largest possible value of what is estimated; the interval ends there.

    Returns:
        The interval; None with fewer than two clusters, from which no spread can be seen. An end may be infinite.

    Raises:
        ValueError: Unknown method, or a statistic that is NaN.
    """
    if method not in ("studentised", "percentile", "bca"):
        raise ValueError(f"unknown bootstrap method {method!r}: studentised, percentile or bca")
    if clusters < 2:
        return None
    weights = resample_weights(clusters, resamples, seed)
    drawn = np.asarray(statistic(weights), dtype=np.float64)
    if np.isnan(drawn).any():
        raise ValueError("the statistic is NaN for some resamples; give it a value there or mask the clusters")
    tails = _tails(clusters, level)
    if method == "bca":
        tails = _bca(statistic, clusters, drawn, tails)
    low, high = _ends(drawn, tails)
    if method == "studentised" and clusters <= STUDENTISED_UP_TO and np.isfinite(drawn).all():
        below, above = _studentised(statistic, weights, drawn, level)
        low, high = min(low, below), max(high, above)
    return Interval(max(low, bounds[0]), min(high, bounds[1]))


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


def _studentised(statistic: Statistic, weights: np.ndarray, drawn: np.ndarray, level: float) -> Interval:
    """Ends of the bootstrap-t.

    A resample's standard error is that of the clusters' jackknife influences under its weights, to which a quarter of
    a cluster of the original spread is added: a resample of equal clusters must not divide by zero.
    """
    clusters = weights.shape[1]
    estimate = float(np.asarray(statistic(np.ones((1, clusters))))[0])
    left_out = np.asarray(statistic(1.0 - np.eye(clusters)), dtype=np.float64)
    influence = (clusters - 1) * (left_out.mean() - left_out)
    variance = float(np.mean(influence**2))
    if not 0 < variance < np.inf:
        return Interval(estimate, estimate)
    spread = weights @ influence**2 / clusters - (weights @ influence / clusters) ** 2  # (R,)
    shrunk = (clusters * spread + 0.25 * variance) / (clusters + 0.25)
    ratios = (drawn - estimate) / np.sqrt(shrunk / variance)
    low, high = _ends(ratios, special.ndtri(np.array([0.5 - level / 2, 0.5 + level / 2])))
    return Interval(estimate - high, estimate - low)


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


def bootstrap_interval(
    values: np.ndarray, *, level: float = 0.95, seed: int = 0, bounds: tuple[float, float] = (-np.inf, np.inf)
) -> Interval | None:
    """Interval of the mean of independent values.

    Args:
        values: (n,) finite.
        level: Confidence level in (0, 1).
        seed: Seed of the resampling.
        bounds: Least and largest possible mean.

    Returns:
        The interval; None with fewer than two values.
    """
    values = np.asarray(values, dtype=np.float64)
    return bootstrap(lambda w: w @ values / w.sum(1), len(values), level=level, seed=seed, bounds=bounds)
