"""Tests that may be looked at after every episode: e-values and confidence sequences for success rates.

An e-value is a non-negative number that is at most 1 on average, at any stopping time, if the null is true; so it
exceeds 1 / alpha at any time with probability at most alpha (Ville 1939). Here it is the likelihood ratio of a beta
mixture against the null (Robbins 1970; Ramdas et al. 2023, https://doi.org/10.1214/23-STS894). Nobody needs to say
beforehand how many episodes there will be.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import optimize, special

from wmbench.statistics.intervals import Interval


def log_e_proportion(
    successes: np.ndarray | int, n: np.ndarray | int, null: float, prior: tuple[float, float] = (1.0, 1.0)
) -> np.ndarray:
    """Log e-value against a success rate of exactly ``null``.

    That is ln of B(a + k, b + n - k) / B(a, b) / (p^k (1 - p)^(n - k)).

    Args:
        successes: (...) k.
        n: (...) trials.
        null: p in [0, 1].
        prior: a and b of the beta mixture.

    Returns:
        (...) float64; infinite where the null cannot have produced the data.
    """
    k, m = np.asarray(successes, dtype=np.float64), np.asarray(n, dtype=np.float64) - successes
    mixture = special.betaln(prior[0] + k, prior[1] + m) - special.betaln(*prior)
    return mixture - special.xlogy(k, null) - special.xlog1py(m, -null)


def confidence_sequence(successes: int, n: int, level: float = 0.95) -> Interval:
    """Interval of a success rate that holds at all times at once.

    All rates whose e-value is below 1 / (1 - level). Wider than Wilson's interval, but it stays valid however often
    one looks and whenever one stops.

    Args:
        successes: How many so far.
        n: Trials so far, 0 or more.
        level: Confidence level in (0, 1).

    Raises:
        ValueError: Counts or level out of range.
    """
    if not 0 <= successes <= n or not 0 < level < 1:
        raise ValueError(f"expected 0 <= successes <= n and a level in (0, 1), got {successes} of {n} at {level}")
    return Interval(_lowest_rate(successes, n, level), 1.0 - _lowest_rate(n - successes, n, level))


def _lowest_rate(successes: int, n: int, level: float) -> float:
    """Smallest rate that is not yet refuted; the largest is one minus that of the failures."""
    if successes == 0:
        return 0.0
    limit = -np.log1p(-level)

    def excess(log_p: float) -> float:  # by the logarithm, since the rate may be tiny
        return float(log_e_proportion(successes, n, np.exp(log_p))) - limit

    return float(np.exp(optimize.brentq(excess, np.log(1e-300), np.log(successes / n))))


@dataclass(frozen=True)
class SequentialComparison:
    """What is known after each pair of episodes on the same start.

    Attributes:
        log_e_first: (n,) log e-value that the first is better, after each pair.
        log_e_second: (n,) the same for the second.
        better: ``"first"``, ``"second"``, or None if nothing could be decided.
        decided_at: Number of pairs after which that was known; None if it is not.
    """

    log_e_first: np.ndarray
    log_e_second: np.ndarray
    better: str | None
    decided_at: int | None


def compare_sequentially(first: np.ndarray, second: np.ndarray, level: float = 0.95) -> SequentialComparison:
    """Which of two policies solves the same starts more often, with an error of at most 1 - level at any stopping time.

    Only starts that exactly one of them solves count: under the null each of the two is as likely to be the one,
    whatever the starts are. That holds, too, for rounds of one episode each on starts of their own. The e-value for
    "the first wins more than half of them" is the likelihood ratio of a uniform mixture over (1/2, 1] against 1/2, and
    likewise for the second; each is allowed half of the error. After stopping, print :func:`mean_sequence` of the
    differences: an interval for a fixed number of episodes no longer holds.

    Args:
        first: (n,) bool, solved by the first policy, in the order of evaluation.
        second: (n,) bool, on the same starts.
        level: Confidence level in (0, 1).

    Raises:
        ValueError: Not of the same length.
    """
    a, b = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    if a.shape != b.shape or a.ndim != 1:
        raise ValueError(f"pairs need two flat arrays of one length, got shapes {a.shape} and {b.shape}")
    wins, losses = np.cumsum(a & ~b), np.cumsum(b & ~a)
    evidence = {"first": _log_e_better(wins, losses), "second": _log_e_better(losses, wins)}
    limit = np.log(2 / (1 - level))
    decisions = [(int(np.argmax(e >= limit)) + 1, name) for name, e in evidence.items() if (e >= limit).any()]
    decided_at, better = min(decisions, default=(None, None))
    return SequentialComparison(evidence["first"], evidence["second"], better, decided_at)


def _log_e_better(wins: np.ndarray, losses: np.ndarray) -> np.ndarray:
    """The logarithm of 2^(1 + k + m) int_{1/2}^1 p^k (1 - p)^m dp."""
    with np.errstate(divide="ignore"):
        upper = np.log(special.betaincc(wins + 1.0, losses + 1.0, 0.5))
    return (1 + wins + losses) * np.log(2) + special.betaln(wins + 1.0, losses + 1.0) + upper


def mean_sequence(values: np.ndarray, low: float, high: float, level: float = 0.95, *, grid: int = 1001) -> Interval:
    """Interval of the mean of bounded values that holds at all times at once, whatever their distribution.

    The hedged betting martingale of Waudby-Smith and Ramdas 2024 (https://doi.org/10.1093/jrsssb/qkad009, section 4.4)
    bets on every candidate mean from above and from below, with stakes from the values before; a candidate is refuted
    once the wealth exceeds 1 / (1 - level). Of two policies on the same starts, or in rounds of one episode each, the
    values are first - second, between -1 and 1 for success: then it is the interval to print after stopping early.

    Args:
        values: (n,) in the order in which they came.
        low: Least possible value.
        high: Largest possible value.
        level: Confidence level in (0, 1).
        grid: Candidate means; the ends are rounded outwards to them.

    Raises:
        ValueError: Values outside the bounds, or bounds that are none.
    """
    x = np.asarray(values, dtype=np.float64)
    if not low < high or not ((x >= low) & (x <= high)).all():
        raise ValueError(f"values must lie between {low} and {high}, with the one below the other")
    x = (x - low) / (high - low)
    m = np.linspace(0.0, 1.0, grid)
    refuted = (np.maximum(*_log_wealth(x, m, 1 - level)) >= np.log(2 / (1 - level))).any(0)
    left = np.flatnonzero(~refuted)
    if not len(left):  # every candidate was refuted at some time, which happens with probability alpha at most
        return Interval(low, high)
    ends = low + (high - low) * m[[max(left[0] - 1, 0), min(left[-1] + 1, grid - 1)]]
    return Interval(float(ends[0]), float(ends[1]))


def _log_wealth(x: np.ndarray, m: np.ndarray, alpha: float) -> tuple[np.ndarray, np.ndarray]:
    """What bets on a mean above and below each candidate have made of 1 after each value, (n, G) logarithms.

    The stake on a value depends on those before it only, and at most half of the wealth can be lost at once.
    """
    steps = np.arange(1, len(x) + 1)
    mean = (0.5 + np.cumsum(x)) / (steps + 1)
    variance = (0.25 + np.cumsum((x - mean) ** 2)) / (steps + 1)
    before = np.concatenate([[0.25], variance])[: len(x)]
    stake = np.sqrt(2 * np.log(2 / alpha) / (before * steps * np.log1p(steps)))[:, None]  # (n, 1)
    edge = x[:, None] - m  # (n, G)
    with np.errstate(divide="ignore"):
        above = np.cumsum(np.log1p(np.minimum(stake, 0.5 / m) * edge), axis=0)
        below = np.cumsum(np.log1p(-np.minimum(stake, 0.5 / (1 - m)) * edge), axis=0)
    return above, below
