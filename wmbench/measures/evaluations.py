"""The same policies evaluated in two simulators: their means, and how sure those are."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np

from wmbench.errors import DatasetError
from wmbench.measures.result import Arrays
from wmbench.statistics.ranking_intervals import Bounds, mean_bounds


@dataclass(frozen=True)
class Pair:
    """One learned simulator against the true one, at one horizon.

    Attributes:
        policy: K names.
        true: (K, E) outcomes in the true simulator, finite.
        learned: (K, E') outcomes in the learned one; NaN where an episode is invalid and nothing says what it is worth.
        invalid: (K,) int, how many episodes of either simulator are invalid.
    """

    policy: tuple[str, ...]
    true: np.ndarray
    learned: np.ndarray
    invalid: np.ndarray

    @functools.cached_property
    def truth(self) -> np.ndarray:
        """(K,) true means."""
        return _means(self.true)

    @functools.cached_property
    def estimate(self) -> np.ndarray:
        """(K,) means in the learned simulator; minus infinity where an episode has no value."""
        return np.where(self.finite, _means(np.where(self.finite[:, None], self.learned, 0.0)), -np.inf)

    @property
    def finite(self) -> np.ndarray:
        """(K,) bool, who has an estimate."""
        return np.isfinite(self.learned).all(1)

    def bounds(self) -> tuple[Bounds, Bounds] | None:
        """Bounds of the learned and of the true means, each at 95 %."""
        true = mean_bounds(self.true)
        learned = mean_bounds(np.where(self.finite[:, None], self.learned, 0.0))
        if true is None or learned is None:
            return None
        low, high = (np.where(self.finite, end, -np.inf) for end in learned)
        return (low, high), true

    @property
    def unestimated(self) -> list[str]:
        """Who has no estimate."""
        return [p for p, fine in zip(self.policy, self.finite, strict=True) if not fine]


def pairs_of(arrays: Arrays) -> list[list[Pair]]:
    """Read what :func:`wmbench.measures.agreement.agreement` takes: for each subject one pair per horizon.

    Raises:
        DatasetError: Repeated policies, shapes that do not fit, or an invalid true episode whose worth is unknown.
    """
    policy = tuple(str(p) for p in arrays["policy"])
    horizon, worst = np.asarray(arrays["horizon"]), np.asarray(arrays["worst"], dtype=np.float64)
    true, learned = (np.asarray(arrays[name], dtype=np.float64) for name in ("true", "learned"))
    if twice := sorted({p for p in policy if policy.count(p) > 1}):
        raise DatasetError(
            f"agreement: the policies {twice} are there more than once; average over tasks and seeds first, since a "
            "correlation over cells of policy and task tells how much the tasks differ"
        )
    if not policy or not len(horizon) or not true.size or not learned.size:
        raise DatasetError("agreement: there are no policies, horizons, simulators or episodes to compare")
    places = (len(horizon), len(policy))
    if true.ndim != 3 or true.shape[:2] != places or learned.shape[:-1] != (len(arrays["subject"]), *places):
        raise DatasetError(
            f"agreement: with {len(arrays['subject'])} simulators, {places[0]} horizons and {places[1]} policies, "
            f"learned {learned.shape} must be (M, H, K, E') and true {true.shape} (H, K, E)"
        )
    lost = (~np.isfinite(true)).sum(-1) + (~np.isfinite(learned)).sum(-1)  # (M, H, K)
    worth = np.broadcast_to(worst, horizon.shape)[:, None, None]  # (H, 1, 1)
    true, learned = (np.where(np.isfinite(a), a, worth) for a in (true, learned))
    if not np.isfinite(true).all():
        bad = [policy[i] for i in np.flatnonzero(~np.isfinite(true).all((0, 2)))]
        raise DatasetError(f"agreement: true outcomes of {bad} are not finite and nothing says what they are worth")
    return [
        [Pair(policy, true[h], one[h], bad[h]) for h in range(len(horizon))]
        for one, bad in zip(learned, lost, strict=True)
    ]


def _means(outcomes: np.ndarray) -> np.ndarray:
    """(K, E) to (K,), correctly rounded, so that what is equal ties whatever the order of its episodes."""
    return np.array([math.fsum(row) / len(row) for row in outcomes])
