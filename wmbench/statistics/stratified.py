"""Scores of several tasks and few runs each: intervals that keep tasks apart and know how few runs there are."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from scipy import optimize, special

from wmbench.statistics.bootstrap import RESAMPLES, resample_weights
from wmbench.statistics.intervals import Interval

FEW_RUNS, FEW_TASKS = 10, 2
"""Up to so many runs or tasks, Student's quantile takes the degrees of freedom of one task alone."""


def welch_interval(
    groups: Sequence[np.ndarray], coefficients: Sequence[float] | None = None, level: float = 0.95
) -> Interval | None:
    """Student's interval of a weighted sum of group means, with Welch's and Satterthwaite's degrees of freedom.

    One group gives the usual t-interval, two with coefficients 1 and -1 Welch's.

    Args:
        groups: Finite values of each group, (n_g,) each.
        coefficients: One per group; equal ones that sum to 1 by default.
        level: Confidence level in (0, 1).

    Returns:
        The interval; None if a group has fewer than two values.
    """
    if any(len(g) < 2 for g in groups):
        return None
    c = np.full(len(groups), 1 / len(groups)) if coefficients is None else np.asarray(coefficients)
    counts = np.array([len(g) for g in groups])
    parts = c**2 * np.array([np.var(g, ddof=1) for g in groups]) / counts
    centre = float(c @ np.array([np.mean(g) for g in groups]))
    half = _student(parts, counts - 1, level) * math.sqrt(float(parts.sum()))
    return Interval(centre - half, centre + half)


def square_and_add(p: float, own: Interval, q: float, other: Interval) -> Interval:
    """Interval of a difference p - q of rates from the intervals of each (Newcombe 1998, method 10).

    Args:
        p: The one.
        own: Its interval.
        q: The other.
        other: Its interval.
    """
    low = p - q - math.hypot(p - own.low, other.high - q)
    return Interval(low, p - q + math.hypot(own.high - p, q - other.low))


def wider(one: Interval | None, other: Interval, bounds: tuple[float, float]) -> Interval:
    """The wider of two intervals at each end, inside bounds; the other one if there is only that.

    Args:
        one: An interval or None.
        other: Another.
        bounds: Least and largest possible value.
    """
    low, high = one or other
    return Interval(max(bounds[0], min(low, other.low)), min(bounds[1], max(high, other.high)))


def skewed_interval(
    groups: Sequence[np.ndarray],
    level: float = 0.95,
    *,
    resamples: int = RESAMPLES,
    bounds: tuple[float, float] = (-np.inf, np.inf),
) -> Interval | None:
    """Interval of the mean of group means of skewed values, such as shortfalls that are 0 at best.

    The wider end of Welch's (with the degrees of freedom of the smallest group where there are few runs or groups) and
    of a bootstrap-t within groups (Efron and Tibshirani 1993, chapter 12), a quarter of a value of the group's own
    spread being added to every resample's.

    Args:
        groups: Finite values of each group, (n_g,) each.
        level: Confidence level in (0, 1).
        resamples: R.
        bounds: Least and largest possible value; the interval ends there.

    Returns:
        The interval; None if a group has fewer than two values.
    """
    plain = welch_interval(groups, level=level)
    if plain is None:
        return None
    counts = np.array([len(g) for g in groups])
    centre, error = float(np.mean([np.mean(g) for g in groups])), np.zeros(resamples)
    variance, spread = 0.0, np.zeros(resamples)
    for g, values in enumerate(np.asarray(v, dtype=np.float64) for v in groups):
        n = len(values)
        offset, weights = values - values.mean(), resample_weights(n, resamples, g)
        shift, own = weights @ offset / n, float(np.mean(offset**2))
        error += shift / len(groups)
        spread += (n * (weights @ offset**2 / n - shift**2) + 0.25 * own) / (n + 0.25) / (n - 1)
        variance += own / (n - 1)
    if not variance > 0:
        return Interval(*np.clip(plain, *bounds))
    ratios = np.sort(error / np.sqrt(spread / variance))
    tail = (1 - level) / 2 * (resamples - 1)
    ends = [centre - ratios[math.ceil(resamples - 1 - tail)], centre - ratios[math.floor(tail)]]
    if counts.sum() <= FEW_RUNS or len(groups) <= FEW_TASKS:
        half = float(special.stdtrit(counts.min() - 1, 0.5 + level / 2)) * math.sqrt(variance) / len(groups)
        ends += [centre - half, centre + half]
    return wider(plain, Interval(float(min(ends)), float(max(ends))), bounds)


def stratified_interval(
    scores: Sequence[np.ndarray],
    statistic: Callable[[np.ndarray], np.ndarray],
    level: float = 0.95,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    bounds: tuple[float, float] = (-np.inf, np.inf),
) -> Interval | None:
    """Interval of a statistic of all runs, such as their interquartile mean, by resampling runs within each task.

    The resampling is that of rliable (Agarwal et al. 2021, https://arxiv.org/abs/2108.13264), whose percentiles cover
    77 to 93 % with 3 to 10 runs. Here the resamples give the standard error (times sqrt(n / (n - 1)) for what
    resampling n runs loses), and Student's t, with Satterthwaite's degrees of freedom from the tasks' jackknife
    variances, the quantile. With :data:`FEW_RUNS` runs or :data:`FEW_TASKS` tasks or fewer it takes those of the
    smallest task.

    Args:
        scores: One array of runs per task, (n_t,) each, finite.
        statistic: (R, N) scores of all N runs to (R,); for the jackknife also with one run less.
        level: Confidence level in (0, 1).
        resamples: R.
        seed: Of the resampling.
        bounds: Least and largest possible value; the interval ends there.

    Returns:
        The interval; None if a task has a single run.
    """
    runs = [np.asarray(s, dtype=np.float64) for s in scores]
    counts = np.array([len(r) for r in runs])
    if (counts < 2).any():
        return None
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=tuple(int(n) for n in counts)))
    drawn = np.concatenate([r[rng.integers(len(r), size=(resamples, len(r)))] for r in runs], axis=1)
    inflate = math.sqrt(float(np.mean(counts / (counts - 1))))
    error = float(np.std(statistic(drawn), ddof=1)) * inflate
    flat = np.concatenate(runs)
    kept = flat[np.nonzero(~np.eye(len(flat), dtype=bool))[1].reshape(len(flat), -1)]  # (N, N - 1)
    parts = _jackknife_parts(statistic(kept), counts)
    value = float(statistic(flat[None])[0])
    if len(flat) <= FEW_RUNS or len(runs) <= FEW_TASKS:
        quantile = float(special.stdtrit(counts.min() - 1, 0.5 + level / 2))
    else:
        quantile = _student(parts, counts - 1, level)
    return Interval(max(bounds[0], value - quantile * error), min(bounds[1], value + quantile * error))


def improvement(
    scores: Sequence[np.ndarray], others: Sequence[np.ndarray], level: float = 0.95
) -> tuple[float, Interval | None]:
    """Probability of improvement, P(X > Y) + P(X = Y) / 2 averaged over tasks, and an interval that holds near 0 and 1.

    A bootstrap shrinks to a point when the runs of two methods separate, which three runs each do by chance every
    tenth time. So this is the pseudo-score interval for an area under the ROC curve (Newcombe 2006, method 5,
    https://doi.org/10.1002/sim.2324), with the variance of Hanley and McNeil (1982) at all values, raised by what the
    jackknife finds beyond it, and Student's quantile.

    Args:
        scores: Runs of the one method, (n_t,) per task, finite.
        others: Runs of the other, (m_t,) for the same tasks.
        level: Confidence level in (0, 1).

    Returns:
        The probability, and its interval inside [0, 1]: None if there is a task with a single run.
    """
    wins = [
        np.greater.outer(x, y) + 0.5 * np.equal.outer(x, y) for x, y in zip(scores, others, strict=True)
    ]  # (n_t, m_t) each
    value = float(np.mean([w.mean() for w in wins]))
    counts = np.array([n for w in wins for n in w.shape])
    if (counts < 2).any():
        return value, None
    # leaving out run i of a task moves that task's mean only
    left_out = [
        (w.sum() - w.sum(1 - axis)) / (w.size - w.shape[1 - axis]) / len(wins) for w in wins for axis in (0, 1)
    ]  # (n_t,), (m_t,), ...
    error = float(_jackknife_parts(np.concatenate(left_out), counts).sum())
    n, m = sum(w.shape[0] for w in wins), sum(w.shape[1] for w in wins)

    def variance(p: float) -> float:
        half = (n + m) / 2 - 1
        return max(0.0, p * (1 - p) / (n * m) * (1 + half * (1 - p) / (2 - p) + half * p / (1 + p)))

    design = 1.0 if value in (0.0, 1.0) else max(1.0, error / variance(value))
    scale = float(special.stdtrit(int((counts - 1).sum()), 0.5 + level / 2)) * math.sqrt(design)

    def end(sign: int, limit: float) -> float:
        """Where the distance from the estimate outgrows the deviation that the place itself would have."""

        def excess(p: float) -> float:
            return sign * (p - value) - scale * math.sqrt(variance(p))

        return float(optimize.brentq(excess, value + sign * 1e-12, limit))

    return value, Interval(end(-1, 0.0) if value > 0 else 0.0, end(1, 1.0) if value < 1 else 1.0)


def iqm_rows(scores: np.ndarray) -> np.ndarray:
    """Interquartile mean of every row: (R, N) to (R,); see :func:`wmbench.statistics.iqm`."""
    ordered = np.sort(scores, axis=1)
    cut = ordered.shape[1] // 4
    return ordered[:, cut : ordered.shape[1] - cut].mean(1)


def _jackknife_parts(left_out: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Variance that each stratum contributes: (N,) leave-one-out values, stratum by stratum, to (S,)."""
    parts = np.split(left_out, np.cumsum(counts)[:-1])
    return np.array([(len(p) - 1) / len(p) * ((p - p.mean()) ** 2).sum() for p in parts])


def _student(parts: np.ndarray, freedom: np.ndarray, level: float) -> float:
    """Student's quantile for a sum of estimated variances (Satterthwaite 1946)."""
    total = float(parts.sum())
    degrees = total**2 / float((parts**2 / freedom).sum()) if total > 0 else float(freedom.sum())
    return float(special.stdtrit(degrees, 0.5 + level / 2))
