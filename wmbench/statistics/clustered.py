"""Intervals for clustered items that stay honest where a percentile bootstrap does not: near 0, near 1, and for norms.

A statistic is a function of cluster weights, as in :mod:`wmbench.statistics.bootstrap`. How well each interval
covers is simulated in ``tests/wmbench/test_statistics_clustered.py``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import optimize, special

from wmbench.statistics.bootstrap import RESAMPLES, Statistic, bootstrap
from wmbench.statistics.intervals import Interval
from wmbench.statistics.selective import Ranking


def jackknife(statistic: Statistic, clusters: int) -> tuple[float, float]:
    """A statistic and its standard error, by leaving out one cluster at a time (Efron and Stein 1981).

    Args:
        statistic: (R, C) weights to (R,) finite values.
        clusters: C, at least 2.
    """
    value = float(statistic(np.ones((1, clusters)))[0])
    left_out = statistic(1.0 - np.eye(clusters))
    return value, math.sqrt((clusters - 1) / clusters * float(((left_out - left_out.mean()) ** 2).sum()))


def proportion_interval(
    successes: np.ndarray,
    counts: np.ndarray,
    *,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval | None:
    """Interval of a proportion of clustered items: Wilson's by their effective number, and the bootstrap over clusters.

    The wider of the two at each end: near 0 and 1 the bootstrap shrinks to nothing, and where a few clusters hold most
    of the failures Wilson's is too short. For Wilson's, the number of items is divided by the design effect (jackknife
    variance over binomial variance, at least 1; Kish 1965), and the normal quantile becomes Student's with C - 1
    degrees. If all items agree nothing can be seen of the spread, and only clusters count as independent.

    Args:
        successes: (C,) successes in each cluster.
        counts: (C,) items in each cluster; clusters without items do not count.
        level: Confidence level in (0, 1).
        resamples: R of the bootstrap.
        seed: Seed of the resampling.

    Returns:
        The interval, inside [0, 1]; None with fewer than two clusters.
    """
    used = np.asarray(counts) > 0
    hits, items = np.asarray(successes, dtype=np.float64)[used], np.asarray(counts, dtype=np.float64)[used]
    clusters = len(items)

    def share(w: np.ndarray) -> np.ndarray:
        return (w @ hits) / (w @ items)

    drawn = bootstrap(share, clusters, level=level, resamples=resamples, seed=seed, bounds=(0.0, 1.0))
    if drawn is None:
        return None
    p, error = jackknife(share, clusters)
    n, t = items.sum(), _student(clusters, level)
    n = clusters if p in (0.0, 1.0) else n / max(1.0, error**2 / (p * (1 - p) / n))
    centre = (p + t * t / (2 * n)) / (1 + t * t / n)
    half = t / (1 + t * t / n) * math.sqrt(p * (1 - p) / n + t * t / (4 * n * n))
    low, high = (0.0 if p == 0.0 else centre - half), (1.0 if p == 1.0 else centre + half)
    return Interval(max(0.0, min(low, drawn.low)), min(1.0, max(high, drawn.high)))


def auroc_interval(ranking: Ranking, positive: np.ndarray, level: float = 0.95) -> Interval | None:
    """Pseudo-score interval of an area under the ROC curve (Newcombe 2006, method 5, https://doi.org/10.1002/sim.2324).

    All areas theta with |theta - estimate| <= t sqrt(deff V(theta)), V being the variance of Hanley and McNeil (1982,
    https://doi.org/10.1148/radiology.143.1.7063747) and deff the jackknife's variance over V (at least 1). Unlike a
    bootstrap it does not shrink to a point when the two classes separate; then only clusters count as independent.

    Args:
        ranking: The items by score.
        positive: (N,) bool, some True and some False.
        level: Confidence level in (0, 1).

    Returns:
        The interval, inside [0, 1]; None with fewer than two clusters.
    """
    clusters = ranking.clusters
    if clusters < 2:
        return None
    yes = np.asarray(positive, dtype=bool)
    area, error = jackknife(lambda w: ranking.auroc(yes, w), clusters)
    apart = area in (0.0, 1.0)
    positives, negatives = (len(np.unique(ranking.cluster[part])) if apart else int(part.sum()) for part in (yes, ~yes))
    pairs, half = positives * negatives, (positives + negatives) / 2 - 1

    def variance(theta: float) -> float:
        return theta * (1 - theta) / pairs * (1 + half * (1 - theta) / (2 - theta) + half * theta / (1 + theta))

    design = 1.0 if apart else max(1.0, error**2 / variance(area))
    scale = _student(clusters, level) * math.sqrt(design)

    def end(sign: int, limit: float) -> float:
        """Where the distance from the estimate, minus the scaled deviation (larger next to it), crosses zero."""

        def excess(theta: float) -> float:
            return sign * (theta - area) - scale * math.sqrt(max(variance(theta), 0.0))

        return float(optimize.brentq(excess, area + sign * 1e-12, limit))

    return Interval(end(-1, 0.0) if area > 0 else 0.0, end(1, 1.0) if area < 1 else 1.0)


def logit_interval(
    statistic: Statistic,
    clusters: int,
    *,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval | None:
    """Interval of a smooth statistic inside (0, 1): the jackknife's on the logit scale, and the bootstrap's.

    The wider of the two at each end; the first has Student's quantile.

    Args:
        statistic: (R, C) weights to (R,) values.
        clusters: C.
        level: Confidence level in (0, 1).
        resamples: R of the bootstrap.
        seed: Seed of the resampling.

    Returns:
        The interval; None with fewer than two clusters, or where the estimate is exactly 0 or 1.
    """
    drawn = bootstrap(statistic, clusters, level=level, resamples=resamples, seed=seed, bounds=(0.0, 1.0))
    if drawn is None:
        return None
    value, error = jackknife(statistic, clusters)
    if not 0 < value < 1:
        return None
    half, centre = _student(clusters, level) * error / (value * (1 - value)), special.logit(value)
    low, high = float(special.expit(centre - half)), float(special.expit(centre + half))
    return Interval(min(low, drawn.low), max(high, drawn.high))


def norm_interval(
    gap: Statistic,
    norm: Callable[[np.ndarray], np.ndarray],
    clusters: int,
    *,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval | None:
    """Interval of the norm of a vector of differences, such as a calibration error, that may reach 0.

    The estimate of a norm is too large by its noise, and so are all its resamples: near 0 a percentile interval always
    misses. The upper end is the percentile's. The lower end is the estimate less the noise's own quantile: the norm of
    (resampled less estimated differences) bounds by the triangle inequality how far the estimate can be from the truth.

    Args:
        gap: (R, C) weights to (R, L) differences.
        norm: (R, L) to (R,), a norm.
        clusters: C.
        level: Confidence level in (0, 1).
        resamples: R.
        seed: Seed of the resampling.

    Returns:
        The interval, at least 0; None with fewer than two clusters.
    """
    if clusters < 2:
        return None
    centre = gap(np.ones((1, clusters)))
    options: Any = {"level": level, "resamples": resamples, "seed": seed, "method": "percentile"}
    plain = bootstrap(lambda w: norm(gap(w)), clusters, **options)
    noise = bootstrap(lambda w: norm(gap(w) - centre), clusters, **options)
    assert plain is not None
    assert noise is not None
    value = float(norm(centre)[0])
    return Interval(max(0.0, min(plain.low, value - noise.high)), max(plain.high, value))


def _student(clusters: int, level: float) -> float:
    return float(special.stdtrit(clusters - 1, 0.5 + level / 2))
