"""Scores of many tasks and seeds in one number (rliable, Agarwal et al. 2021, https://arxiv.org/abs/2108.13264)."""

from __future__ import annotations

import numpy as np


def _finite(scores: np.ndarray) -> np.ndarray:
    scores = np.asarray(scores, dtype=np.float64)
    if scores.size == 0 or not np.isfinite(scores).all():
        raise ValueError("scores must be finite and at least one; score an invalid run with the worst value instead")
    return scores


def iqm(scores: np.ndarray) -> float:
    """Interquartile mean: the mean after a quarter of the values is cut off at either end.

    As ``scipy.stats.trim_mean(scores, 0.25)``: floor(n / 4) values are cut at each end.

    Args:
        scores: Any shape, finite.

    Raises:
        ValueError: Empty or not finite.
    """
    ordered = np.sort(_finite(scores), axis=None)
    cut = ordered.size // 4
    return float(ordered[cut : ordered.size - cut].mean())


def optimality_gap(scores: np.ndarray, target: float = 1.0) -> float:
    """Mean shortfall below a target; scores above it earn nothing extra.

    Args:
        scores: Any shape, finite.
        target: The score at which a task counts as done.

    Raises:
        ValueError: Empty or not finite.
    """
    return float(np.maximum(target - _finite(scores), 0.0).mean())


def probability_of_improvement(scores: np.ndarray, others: np.ndarray) -> float:
    """P(X > Y) + P(X = Y) / 2 for independent draws X of ``scores`` and Y of ``others`` (Mann-Whitney's U).

    Args:
        scores: (n,), finite.
        others: (m,), finite.

    Raises:
        ValueError: Empty or not finite.
    """
    x, y = _finite(scores), _finite(others)
    return float((np.greater.outer(x, y) + 0.5 * np.equal.outer(x, y)).mean())
