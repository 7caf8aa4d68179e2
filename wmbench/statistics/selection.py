"""What taking the best of n brings: exact expectations over which n of a pool are looked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

ROUNDING = 1e-12


def best_of_weights(pool: int, sizes: Sequence[int]) -> np.ndarray:
    """Chance that the j-th smallest of a pool is the largest of n drawn from it without replacement.

    C(j - 1, n - 1) / C(P, n), as differences of the chance C(j, n) / C(P, n) that all n are among the j smallest.

    Args:
        pool: P.
        sizes: The L values of n, each 1 to P.

    Returns:
        (L, P) float64; rows sum to 1.

    Raises:
        ValueError: A size out of range.
    """
    if any(not 1 <= n <= pool for n in sizes):
        raise ValueError(f"of {pool} items 1 to {pool} can be drawn, got {list(sizes)}")
    j = np.arange(pool + 1)
    rows = []
    for n in sizes:
        below = np.ones(pool + 1)
        for t in range(n):
            below *= np.maximum(j - t, 0) / (pool - t)
        rows.append(np.diff(below))
    return np.array(rows).reshape(len(sizes), pool)


def value_of_best(score: np.ndarray, value: np.ndarray, sizes: Sequence[int]) -> np.ndarray:
    """Expected value of the item with the largest score among n drawn at random from a pool, without replacement.

    Exact, over all subsets of the pool; where the largest score ties, over which of the tied items is taken.

    Args:
        score: (..., P), minus infinity allowed, not NaN.
        value: (..., P) finite, of the same items.
        sizes: The L values of n, each 1 to P.

    Returns:
        (..., L) float64.

    Raises:
        ValueError: A size out of range, or a score that is NaN.
    """
    score, value = np.broadcast_arrays(np.asarray(score, np.float64), np.asarray(value, np.float64))
    if np.isnan(score).any():
        raise ValueError("scores must be numbers; give an invalid item minus infinity first")
    shape, pool = score.shape[:-1], score.shape[-1]
    weights = best_of_weights(pool, sizes)  # (L, P)
    order = np.argsort(score, axis=-1, kind="stable")
    ordered, values = (np.take_along_axis(x, order, axis=-1).reshape(-1, pool) for x in (score, value))
    first = np.ones(ordered.shape, dtype=bool)
    first[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    if not first.all():  # items that tie share the mean of their values
        group = np.cumsum(first.ravel()) - 1
        mean = np.bincount(group, values.ravel()) / np.bincount(group)
        values = mean[group].reshape(values.shape)
    return (values @ weights.T).reshape(*shape, len(sizes))


def discordance(score: np.ndarray, value: np.ndarray) -> float:
    """Share of the pairs with different values that a score orders the other way; where it ties, half a pair.

    Args:
        score: (P,), infinity allowed, not NaN.
        value: (P,) finite.

    Returns:
        In [0, 1]: the mean over the orders of tied scores; 0 where all values are equal.
    """
    lower = value[:, None] < value[None]
    pairs, wrong, tied = (
        int((lower & part).sum()) for part in (True, score[:, None] > score[None], score[:, None] == score[None])
    )
    return (wrong + tied / 2) / pairs if pairs else 0.0


@dataclass(frozen=True)
class ErrorModel:
    """Noise of the same size as a model's errors, start by start: what an optimiser would make of mere chance.

    The error of a candidate of true value x is ``bias + slope (x - mean) + spread z`` with z standard normal and
    independent of everything else. Bias, slope and spread are the model's own, so that this stand-in has the same mean
    error, the same root mean squared error and the same correlation with the truth. What it does not have is errors
    that are large where the imagined value is best.

    Attributes:
        mean: (N,) mean true value.
        bias: (N,) mean error.
        slope: (N,) least-squares slope of the error on the true value; 0 where that does not vary.
        spread: (N,) standard deviation of the rest, with two degrees of freedom taken off.
    """

    mean: np.ndarray
    bias: np.ndarray
    slope: np.ndarray
    spread: np.ndarray

    @classmethod
    def of(cls, true: np.ndarray, imagined: np.ndarray) -> ErrorModel:
        """Fit to pools of candidates.

        Args:
            true: (N, P) finite.
            imagined: (N, P); what is not finite is left out, and a pool of which fewer than three are left has errors
                of 0.
        """
        kept = np.isfinite(imagined)
        kept &= kept.sum(1, keepdims=True) >= 3
        count = np.maximum(kept.sum(1), 3)

        def mean(x: np.ndarray) -> np.ndarray:
            return np.where(kept, x, 0.0).sum(1) / count

        error = np.where(kept, imagined, true) - true
        centre, bias = mean(true), mean(error)
        x, e = true - centre[:, None], error - bias[:, None]
        squares = mean(x * x)
        slope = np.divide(
            mean(x * e), squares, out=np.zeros_like(squares), where=np.sqrt(squares) > ROUNDING * np.abs(centre)
        )
        slope = np.where(np.abs(1 + slope) < ROUNDING, -1.0, slope)  # a constant model is one exactly
        spread = np.sqrt(mean((e - slope[:, None] * x) ** 2) * count / (count - 2))
        size = np.abs(centre) + np.abs(bias) + np.sqrt(squares)
        return cls(centre, bias, slope, np.where(spread > ROUNDING * size, spread, 0.0))

    def score(self, true: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """What candidates seem worth, less the same for all of a pool: arguments as for :meth:`draw`."""
        return (1 + self.slope[:, None]) * (true - self.mean[:, None]) + self.spread[:, None] * noise

    def draw(self, true: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """Errors of candidates.

        Args:
            true: (N, B).
            noise: (..., N, B) standard normal numbers.

        Returns:
            (..., N, B) float64.
        """
        linear = self.bias[:, None] + self.slope[:, None] * (true - self.mean[:, None])
        return linear + self.spread[:, None] * noise
