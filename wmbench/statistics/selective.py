"""What a score knows about failures: ROC area, rank correlation, risk against coverage, all for clustered items.

Every statistic is a function of cluster weights, as :mod:`wmbench.statistics.bootstrap` wants it: counts (R, C) of
how often each of C clusters is drawn. Ties are honest: items with equal scores stand in every possible order, and the
statistic is the mean over those orders, so neither the order of the items nor rounding in a sort decides.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from wmbench.statistics.bootstrap import RESAMPLES, bootstrap
from wmbench.statistics.intervals import Interval

BLOCK = 2**21
"""Numbers per block of resamples, so that thousands of resamples of thousands of items fit into a cache."""

ROUNDING = 1e-12


class Ranking:
    """N items ordered by a score, smallest first; for an uncertainty, the most confident first.

    Attributes:
        clusters: C.
        unique: (G,) the different scores, ascending.
        group: (N,) int, index of each item's score in ``unique``.
        cluster: (N,) int, index of each item's cluster.
    """

    def __init__(self, score: np.ndarray, cluster: np.ndarray | None = None) -> None:
        """Sort.

        Args:
            score: (N,), N at least 1; infinity is allowed, NaN is not.
            cluster: (N,) labels of clusters; None makes every item its own.

        Raises:
            ValueError: No items, or NaN.
        """
        score = np.asarray(score, dtype=np.float64)
        if not score.size or np.isnan(score).any():
            raise ValueError("scores must be numbers, and at least one; give an invalid item the worst score first")
        labels = np.arange(len(score)) if cluster is None else cluster
        self.unique, self.group = np.unique(score, return_inverse=True)
        self.cluster = np.unique(labels, return_inverse=True)[1]
        self.clusters = int(self.cluster.max()) + 1

    def _sums(self, values: np.ndarray | None) -> np.ndarray:
        """(N,) values, None for ones, summed by cluster and score: (C, G)."""
        cells = self.cluster * len(self.unique) + self.group
        weights = None if values is None else np.asarray(values, dtype=np.float64)
        flat = np.bincount(cells, weights, minlength=self.clusters * len(self.unique))
        return flat.reshape(self.clusters, -1).astype(np.float64)

    def _blocks(self, weights: np.ndarray | None, function: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """Apply a function of (r, C) weights to (R, C) of them, block by block; None stands for ones."""
        every = np.ones((1, self.clusters)) if weights is None else weights
        blocks = -(-every.shape[0] * len(self.group) // BLOCK)
        return np.concatenate([function(part) for part in np.array_split(every, blocks)])

    def auroc(self, positive: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
        """Probability that a positive item has the larger score, ties counting one half (Mann-Whitney).

        Args:
            positive: (N,) bool.
            weights: (R, C) counts, or None for ones.

        Returns:
            (R,) in [0, 1]; 1/2, which is no knowledge, where one of the two classes is missing.
        """
        yes, no = self._sums(positive), self._sums(~np.asarray(positive, dtype=bool))

        def area(w: np.ndarray) -> np.ndarray:
            hits, others = w @ yes, w @ no  # (R, G)
            below = np.cumsum(others, axis=1) - 0.5 * others
            pairs = hits.sum(1) * others.sum(1)
            return np.divide((hits * below).sum(1), pairs, out=np.full(len(w), 0.5), where=pairs > 0)

        return self._blocks(weights, area)

    def spearman(self, other: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
        """Rank correlation with another score of the same items, by mid-ranks (Spearman 1904).

        Args:
            other: (N,), infinity allowed.
            weights: (R, C) counts, or None for ones.

        Returns:
            (R,) in [-1, 1]; 0 where one of the two scores is constant.
        """
        second = Ranking(other, self.cluster)
        sums = [(ranking._sums(None), ranking.group) for ranking in (self, second)]

        def correlation(w: np.ndarray) -> np.ndarray:
            each = w[:, self.cluster]  # (R, N)
            total = each.sum(1)
            ranks = []
            for mass, group in sums:
                count = w @ mass  # (R, G)
                middle = (np.cumsum(count, axis=1) - 0.5 * count)[:, group]  # (R, N) mid-rank, less one half
                ranks.append(middle - 0.5 * total[:, None])  # mid-ranks always average to the middle
            x, y = ranks
            scale = np.sqrt((each * x * x).sum(1) * (each * y * y).sum(1))
            return np.divide((each * x * y).sum(1), scale, out=np.zeros(len(w)), where=scale > ROUNDING * total**3)

        return self._blocks(weights, correlation)

    def aurc(self, loss: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
        """Area under the risk-coverage curve: the mean over k of the mean loss of the k most confident items.

        Geifman and El-Yaniv 2017 (https://arxiv.org/abs/1705.08500). Weighs the most confident items very heavily;
        :meth:`augrc` does not.

        Args:
            loss: (N,) at least 0.
            weights: (R, C) integer counts, or None for ones.

        Returns:
            (R,), 0 is best; mean loss for a constant score.
        """
        mass, losses = self._sums(None), self._sums(loss)
        most = len(self.group) if weights is None else int((weights @ mass.sum(1)).max())
        harmonic = np.concatenate([[0.0], np.cumsum(1.0 / np.arange(1, most + 1))])
        # area[x] = H_0 + ... + H_(x-1) = x H_x - x, so that ties of any size need no loop
        area = np.arange(most + 1) * (harmonic - 1.0)

        def mean_risk(w: np.ndarray) -> np.ndarray:
            count, lost = np.rint(w @ mass), w @ losses  # (R, G)
            stop = np.cumsum(count, axis=1).astype(np.int64)
            start = stop - count.astype(np.int64)
            n = stop[:, -1]
            weight = count * harmonic[n][:, None] - (area[stop] - area[start])
            mean = np.divide(lost, count, out=np.zeros_like(lost), where=count > 0)
            return (mean * weight).sum(1) / n

        return self._blocks(weights, mean_risk)

    def augrc(self, loss: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
        """Area under the generalised risk-coverage curve: the mean over k of (summed loss of the first k) / n.

        Traub et al. 2024 (https://arxiv.org/abs/2407.01032): for a loss of 0 or 1, the mean over acceptance rates of
        the probability that an item is both accepted and wrong.

        Args:
            loss: (N,) at least 0.
            weights: (R, C) counts, or None for ones.

        Returns:
            (R,), 0 is best; (n + 1) / (2 n) of the mean loss for a constant score.
        """
        mass, losses = self._sums(None), self._sums(loss)

        def mean_risk(w: np.ndarray) -> np.ndarray:
            count, lost = w @ mass, w @ losses  # (R, G)
            n = count.sum(1)
            behind = n[:, None] - np.cumsum(count, axis=1) + 0.5 * (count + 1)  # mean number of k that include an item
            return (lost * behind).sum(1) / n**2

        return self._blocks(weights, mean_risk)

    def coverage_at_risk(self, loss: np.ndarray, risk: float, weights: np.ndarray | None = None) -> np.ndarray:
        """Largest share of items that a threshold on the score accepts while their mean loss is at most ``risk``.

        Args:
            loss: (N,) at least 0.
            risk: Bound on the mean loss of what is accepted.
            weights: (R, C) counts, or None for ones.

        Returns:
            (R,) in [0, 1]; 0 where no threshold keeps the bound.
        """
        mass, losses = self._sums(None), self._sums(loss)

        def coverage(w: np.ndarray) -> np.ndarray:
            count, lost = np.cumsum(w @ mass, axis=1), np.cumsum(w @ losses, axis=1)  # (R, G)
            kept = lost <= risk * count + ROUNDING
            return np.where(kept, count, 0.0).max(1) / count[:, -1]

        return self._blocks(weights, coverage)

    def coverage_at_risk_interval(
        self, loss: np.ndarray, risk: float, *, level: float = 0.95, resamples: int = RESAMPLES, seed: int = 0
    ) -> Interval | None:
        """Interval of :meth:`coverage_at_risk` from a band around the whole curve.

        The largest coverage found is too large by chance, which resampling it would not show. The band is an
        upper quantile over resamples of the largest deviation, over all thresholds, of (loss of the accepted -
        risk times their number) / n. The ends are the coverages at which its upper and lower border keep the bound.

        Args:
            loss: (N,) at least 0.
            risk: Bound on the mean loss of what is accepted.
            level: Confidence level in (0, 1).
            resamples: R.
            seed: Seed of the resampling.

        Returns:
            The interval, inside [0, 1]; None with fewer than two clusters.
        """
        mass, losses = self._sums(None), self._sums(loss)
        excess = losses - risk * mass

        def curve(w: np.ndarray) -> np.ndarray:
            return np.cumsum(w @ excess, axis=1) / (w @ mass).sum(1, keepdims=True)  # (R, G)

        ones = np.ones((1, self.clusters))
        centre = curve(ones)[0]
        band = bootstrap(
            lambda weights: self._blocks(weights, lambda w: np.abs(curve(w) - centre).max(1)),
            self.clusters,
            level=level,
            resamples=resamples,
            seed=seed,
            method="percentile",  # of a distance, which is 0 at the estimate
        )
        if band is None:
            return None
        coverage = np.cumsum(mass.sum(0)) / mass.sum()

        def last(kept: np.ndarray) -> float:
            return float(np.where(kept, coverage, 0.0).max())

        return Interval(last(centre + band.high <= ROUNDING), last(centre - band.high <= ROUNDING))

    def risk_coverage(self, loss: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The curve itself: coverage (G,) and mean loss (G,) when everything up to each score is accepted."""
        count, lost = np.cumsum(self._sums(None).sum(0)), np.cumsum(self._sums(loss).sum(0))
        return count / count[-1], lost / count
