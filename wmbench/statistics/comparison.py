"""Is one policy better than another? Paired tests on shared starts, and intervals over training seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import special, stats

from wmbench.statistics.bootstrap import RESAMPLES, widened_ends
from wmbench.statistics.intervals import Interval

MANY_SEEDS = 20
"""Training seeds from which on a bootstrap over them covers what it promises; below, Student's t is used."""


def mcnemar(first: np.ndarray, second: np.ndarray) -> float:
    """Two-sided exact p that two policies solve the same starts equally often (McNemar 1947, binomial form).

    Only starts that exactly one of them solves count; under the null each is a fair coin.

    Args:
        first: (n,) bool, solved by the first policy.
        second: (n,) bool, solved by the second, on the same starts.

    Raises:
        ValueError: Not of the same length.
    """
    only_first, only_second, _ = _discordant(first, second)
    total = only_first + only_second
    return min(1.0, 2.0 * float(stats.binom.cdf(min(only_first, only_second), total, 0.5)))


def paired_difference(first: np.ndarray, second: np.ndarray, level: float = 0.95) -> Interval:
    """Interval of the difference of two success rates on the same starts, clipped to [-1, 1].

    The adjusted Wald interval of Bonett and Price 2012 (https://doi.org/10.3102/1076998611411915): half a start is
    added to each of the two kinds that only one policy solves, in the form (x + 1) / (n + 2).

    Args:
        first: (n,) bool.
        second: (n,) bool, on the same starts.
        level: Confidence level in (0, 1).

    Raises:
        ValueError: Not of the same length, or empty.
    """
    only_first, only_second, n = _discordant(first, second)
    if n == 0:
        raise ValueError("there are no pairs to compare")
    p, q = (only_first + 1) / (n + 2), (only_second + 1) / (n + 2)
    half = float(special.ndtri(0.5 + level / 2)) * math.sqrt((p + q - (p - q) ** 2) / (n + 2))
    return Interval(max(-1.0, p - q - half), min(1.0, p - q + half))


def holm(p: Sequence[float]) -> list[float]:
    """P-values adjusted for being several (Holm 1979): reject those below a level, and all errors together stay below.

    Args:
        p: One per comparison, in [0, 1].
    """
    order = np.argsort(p, kind="stable")
    adjusted = np.empty(len(p))
    running = 0.0
    for rank, index in enumerate(order):
        running = max(running, min(1.0, (len(p) - rank) * p[index]))
        adjusted[index] = running
    return adjusted.tolist()


def t_interval(values: np.ndarray, level: float = 0.95) -> Interval | None:
    """Student's interval of a mean.

    Args:
        values: (n,) finite.
        level: Confidence level in (0, 1).

    Returns:
        The interval; None with fewer than two values.
    """
    values = np.asarray(values, dtype=np.float64)
    n = len(values)
    if n < 2:
        return None
    half = float(special.stdtrit(n - 1, 0.5 + level / 2)) * float(values.std(ddof=1)) / math.sqrt(n)
    return Interval(float(values.mean()) - half, float(values.mean()) + half)


def interval_over_seeds(scores: Sequence[np.ndarray], level: float = 0.95, *, seed: int = 0) -> Interval | None:
    """Interval of the expected score of a training method, from episodes of several training seeds.

    The seeds are what is independent. With few of them (below :data:`MANY_SEEDS`) this is Student's interval of the
    seeds' means, since a hierarchical bootstrap over three seeds covers 81 % where 95 % is asked for; with more it
    is that bootstrap.

    Args:
        scores: Per training seed the scores of its episodes, (n_s,) each, finite and not empty.
        level: Confidence level in (0, 1).
        seed: Of the resampling.

    Returns:
        The interval; None with a single seed.
    """
    if len(scores) < MANY_SEEDS:
        return t_interval(np.array([np.mean(s) for s in scores]), level)
    return hierarchical_bootstrap(scores, level, seed=seed)


def hierarchical_bootstrap(
    scores: Sequence[np.ndarray], level: float = 0.95, *, resamples: int = RESAMPLES, seed: int = 0
) -> Interval | None:
    """Resample training seeds, then the episodes of each drawn seed; the mean of the seeds' means.

    Args:
        scores: Per training seed the scores of its episodes, (n_s,) each, finite and not empty.
        level: Confidence level in (0, 1).
        resamples: R.
        seed: Of the resampling.

    Returns:
        The interval; None with a single seed.
    """
    n = len(scores)
    if n < 2:
        return None
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(n,)))
    chosen = rng.integers(n, size=(resamples, n))
    means = np.empty((resamples, n))
    for s, episodes in enumerate(scores):
        values = np.asarray(episodes, dtype=np.float64)
        places = chosen == s
        weights = rng.multinomial(len(values), np.full(len(values), 1 / len(values)), size=int(places.sum()))
        means[places] = weights @ values / len(values)
    return widened_ends(means.mean(1), n, level)


def _discordant(first: np.ndarray, second: np.ndarray) -> tuple[int, int, int]:
    """Starts that only the first solves, that only the second solves, and all."""
    a, b = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    if a.shape != b.shape or a.ndim != 1:
        raise ValueError(f"pairs need two flat arrays of one length, got shapes {a.shape} and {b.shape}")
    return int((a & ~b).sum()), int((~a & b).sum()), len(a)
