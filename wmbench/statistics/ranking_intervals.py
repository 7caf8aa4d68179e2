"""Intervals of rank violations and regret: the items stay as they are, what is uncertain are their means over episodes.

Resampling the items covers 60 to 80 % instead of 95 % for these statistics of extremes (``docs/measures/coverage.md``).
"""

from __future__ import annotations

import itertools
import math

import numpy as np
from scipy import special

from wmbench.statistics.bootstrap import resample_weights
from wmbench.statistics.intervals import Interval, clopper_pearson
from wmbench.statistics.ranking import mmrv, picked

Bounds = tuple[np.ndarray, np.ndarray]
MANY_TIES = 5000
"""Ways to break a tie up to which all are gone through."""


def mean_bounds(outcomes: np.ndarray, level: float = 0.95, shared: int = 1) -> Bounds | None:
    """Bounds of the mean of every row, each alone or several at once.

    Clopper and Pearson's for outcomes that are all 0 or 1, Student's otherwise.

    Args:
        outcomes: (K, E) finite.
        level: Confidence level in (0, 1) at which ``shared`` of the intervals hold together.
        shared: How many intervals share the error 1 - level.

    Returns:
        Lower and upper bounds, (K,) each; None with fewer than two outcomes per row.
    """
    outcomes = np.asarray(outcomes, dtype=np.float64)
    n = outcomes.shape[1]
    if n < 2:
        return None
    each = 1 - (1 - level) / shared
    mean = outcomes.mean(1)
    if np.isin(outcomes, (0.0, 1.0)).all():
        ends = np.array([clopper_pearson(round(total), n, each) for total in outcomes.sum(1)])
        return ends[:, 0], ends[:, 1]
    half = special.stdtrit(n - 1, 0.5 + each / 2) * outcomes.std(1, ddof=1) / math.sqrt(n)
    return mean - half, mean + half


def mmrv_interval(
    learned: np.ndarray,
    true: np.ndarray,
    variant: str = "sym",
    level: float = 0.95,
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval | None:
    """Interval of the MMRV that the same items would show on average if evaluated anew with as many episodes.

    Episodes are resampled, the items stay. Noise alone violates ranks, and a resample has that of the data and its own:
    its MMRV is too high. So the interval reaches from the lower to the upper end of two: the percentile interval, and
    the estimate less the resamples' spread about their own mean (ours).

    Args:
        learned: (K, E') outcomes; a row that is not finite has the estimate minus infinity.
        true: (K, E) finite outcomes; if E' = E, column by column of the same starts, which are resampled together.
        variant: As :func:`wmbench.statistics.ranking.mmrv` has them.
        level: Confidence level in (0, 1).
        resamples: How many.
        seed: Of the resampling.

    Returns:
        The interval, at least 0; None with fewer than two episodes.
    """
    if min(learned.shape[1], true.shape[1]) < 2:
        return None
    n, m = true.shape[1], learned.shape[1]
    lost = ~np.isfinite(learned).all(1)
    filled = np.where(lost[:, None], 0.0, learned)

    def violation(w: np.ndarray, v: np.ndarray) -> np.ndarray:
        """(R, E) weights of true episodes and (R, E') of learned ones to (R,)."""
        return mmrv(np.where(lost, -np.inf, v @ filled.T / m), w @ true.T / n, variant)

    value = float(violation(np.ones((1, n)), np.ones((1, m)))[0])
    weights = resample_weights(n, resamples, seed)
    drawn = violation(weights, weights if m == n else resample_weights(m, resamples, seed + 1))
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2], method="inverted_cdf")
    centre = float(drawn.mean())
    return Interval(float(max(0.0, min(low, value - (high - centre)))), float(max(high, value + (centre - low))))


def regret_interval(
    estimate: np.ndarray,
    outcomes: np.ndarray,
    k: int,
    *,
    variant: str = "range",
    ties: str = "expected",
    level: float = 0.95,
) -> Interval | None:
    """Interval of the regret that the k items picked would have if evaluated for ever.

    It follows from bounds of the true means, each as strict as it has to be (Bonferroni). The regret exceeds its upper
    end only if the one best item (the k best for ``top-k-mean``) exceeds its bound or one of the picked falls below
    its own; it falls short of its lower end only if one of all items is beyond its bound on one side.

    Args:
        estimate: (K,) S, which picked; finite or minus infinity.
        outcomes: (K, E) finite outcomes in the true simulator.
        k: 1 to K.
        variant: ``range``, ``raw`` or ``top-k-mean``, as :func:`wmbench.statistics.ranking.regret_at_k` has them.
        ties: ``expected`` or ``worst``.
        level: Confidence level in (0, 1).

    Returns:
        The interval; None with fewer than two episodes, or where more than :data:`MANY_TIES` ways lead to the k picked.
    """
    certain, tied = picked(estimate, k)
    best = k if variant == "top-k-mean" else 1
    every = mean_bounds(outcomes, level, shared=len(outcomes))
    high, low = (mean_bounds(outcomes, level, shared=2 * n) for n in (best, len(certain) + len(tied)))
    if every is None or high is None or low is None:
        return None
    least = regret_bounds(estimate, every, k, variant=variant, ties=ties)
    largest = regret_bounds(estimate, (low[0], high[1]), k, variant=variant, ties=ties)
    return Interval(least.low, largest.high) if least and largest else None


def regret_bounds(
    estimate: np.ndarray, true: Bounds, k: int, *, variant: str = "range", ties: str = "expected"
) -> Interval | None:
    """Least and largest regret of the k items picked, while every true mean stays inside its bounds.

    If the bounds hold all at once, so does this.

    Args:
        estimate: (n,) S, which picked; finite or minus infinity.
        true: Lower and upper bounds of R, (n,) each.
        k: 1 to n.
        variant: ``range``, ``raw`` or ``top-k-mean``, as :func:`wmbench.statistics.ranking.regret_at_k` has them.
        ties: ``expected`` or ``worst``.

    Returns:
        The interval; None where more than :data:`MANY_TIES` ways lead to the k picked.
    """
    certain, tied = picked(estimate, k)
    m = k - len(certain)
    if math.comb(len(tied), m) > MANY_TIES:
        return None
    ends = np.array(
        [
            _regret_of(np.concatenate([certain, chosen]).astype(int), *true, variant)
            for chosen in itertools.combinations(tied, m)
        ]
    )  # (ways, 2)
    least, largest = ends.mean(0) if ties == "expected" else ends.max(0)
    return Interval(float(least), float(largest))


def _regret_of(inside: np.ndarray, low: np.ndarray, high: np.ndarray, variant: str) -> tuple[float, float]:
    """Least and largest regret of having picked the items ``inside``."""
    outside = np.setdiff1d(np.arange(len(low)), inside)
    if variant == "top-k-mean":
        # exchange the best outside for the worst inside for as long as that gains
        m = min(len(inside), len(outside))
        gains = [np.sort(out[outside])[::-1][:m] - np.sort(own[inside])[:m] for out, own in ((low, high), (high, low))]
        least, largest = (float(np.maximum(g, 0.0).sum()) / len(inside) for g in gains)
        return least, largest
    own_low, own_high = low[inside].max(), high[inside].max()
    least = max(0.0, float(low[outside].max(initial=-np.inf) - own_high))
    largest = max(0.0, float(high[outside].max(initial=-np.inf) - own_low))
    if variant == "raw":
        return least, largest
    # regret / (regret + what the picked are above the least): rises with the one, falls with the other
    wide, narrow = max(0.0, float(own_high - low.min())), max(0.0, float(own_low - high.min()))
    return (least / (least + wide) if least > 0 else 0.0), (largest / (largest + narrow) if largest > 0 else 0.0)
