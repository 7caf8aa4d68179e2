"""Sums of starts by episode, and ratios of them with intervals over episodes."""

from __future__ import annotations

import numpy as np

from wmbench.statistics import Interval, bootstrap


class Sums:
    """N items that belong to C episodes, which are what is independent.

    Attributes:
        clusters: C.
        member: (C, N) float64, 1 where an item belongs to an episode.
    """

    def __init__(self, episode: np.ndarray) -> None:
        """Sort items by their episode, (N,)."""
        names, cluster = np.unique(episode, return_inverse=True)
        self.clusters = len(names)
        self.member = (cluster == np.arange(self.clusters)[:, None]).astype(np.float64)

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """(N, ...) summed by episode, (C, ...)."""
        return self.member @ np.asarray(values, dtype=np.float64)

    def ratio(
        self, top: np.ndarray, bottom: np.ndarray, bounds: tuple[float, float] = (-np.inf, np.inf)
    ) -> tuple[float, Interval | None]:
        """Sum of one number over the sum of another, and its interval.

        Args:
            top: (N,) finite.
            bottom: (N,) at least 0, not all 0.
            bounds: Least and largest possible value.
        """
        above, below = self(top), self(bottom)

        def statistic(w: np.ndarray) -> np.ndarray:
            total = w @ below
            return np.divide(w @ above, total, out=np.zeros_like(total), where=total > 0)

        value = float(statistic(np.ones((1, self.clusters)))[0])
        return value, bootstrap(statistic, self.clusters, bounds=bounds)
