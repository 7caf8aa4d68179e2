"""Whether stated probabilities come true: central intervals of predicted distributions, and probabilities of events.

Everything is written in sums over clusters, so that a bootstrap over clusters is one matrix product.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

LEVELS = np.arange(1, 100) / 100
"""The 99 levels at which Gaussian intervals are checked."""

BINS = 10
"""Equal-width bins of a probability."""

ROUNDING = 1e-12


def gaussian_centrality(z: np.ndarray) -> np.ndarray:
    """Level of the smallest central interval that holds the truth, 2 Phi(|z|) - 1.

    Args:
        z: (...) standardised residuals; infinite means outside every interval.

    Returns:
        (...) in [0, 1]; uniform if the Gaussians are right.
    """
    return special.erf(np.abs(z) / np.sqrt(2))


def sample_centrality(draws: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Level of the smallest central interval of m draws that holds the truth.

    From the rank r of the truth among the draws, ties counting one half: (|2 r - m| + 1) / (m + 1). If truth and draws
    are exchangeable, the rank is uniform (a flat rank histogram, Hamill 2001,
    https://doi.org/10.1175/1520-0493(2001)129<0550:IORHFV>2.0.CO;2), so at each of :func:`sample_levels` the
    coverage is exactly nominal for any number of draws: no Gaussian is assumed.

    Args:
        draws: (m, ...), finite.
        truth: (...), finite.

    Returns:
        (...) in (0, 1].
    """
    m = len(draws)
    rank = (draws < truth).sum(0) + 0.5 * (draws == truth).sum(0)
    return (np.abs(2 * rank - m) + 1) / (m + 1)


def sample_levels(m: int) -> np.ndarray:
    """The levels below 1 of the central intervals of m draws: 2 / (m + 1), 4 / (m + 1), ... if m is odd; ascending."""
    return np.arange(1 + m % 2, m, 2) / (m + 1)


def coverage_sums(centrality: np.ndarray, levels: np.ndarray, cluster: np.ndarray) -> np.ndarray:
    """How many truths of each cluster lie inside the central interval of each level.

    Args:
        centrality: (N,) levels of the smallest interval that holds each truth.
        levels: (L,) ascending.
        cluster: (N,) int, 0 to C - 1.

    Returns:
        (C, L) float64 counts.
    """
    first = np.searchsorted(levels, centrality - ROUNDING)  # first level that holds it; L if none does
    width = len(levels) + 1
    cells = np.bincount(cluster * width + first, minlength=(int(cluster.max()) + 1) * width)
    return np.cumsum(cells.reshape(-1, width)[:, :-1], axis=1).astype(np.float64)


def calibration_error(levels: np.ndarray, coverage: np.ndarray) -> np.ndarray:
    """Mean over levels of |nominal - observed coverage| (expected calibration error for regression).

    Kuleshov et al. 2018 (https://arxiv.org/abs/1807.00263). Predicting the marginal distribution whatever the input
    has error 0: read it with the sharpness.

    Args:
        levels: (L,).
        coverage: (..., L) observed.
    """
    return np.abs(coverage - levels).mean(-1)


def rms_calibration_error(levels: np.ndarray, coverage: np.ndarray) -> np.ndarray:
    """Root of the mean over levels of the squared gap; as :func:`calibration_error`."""
    return np.sqrt(((coverage - levels) ** 2).mean(-1))


def miscalibration_area(levels: np.ndarray, coverage: np.ndarray) -> np.ndarray:
    """Area between the coverage curve, straight between levels and fixed at (0, 0) and (1, 1), and the diagonal.

    Args:
        levels: (L,) inside (0, 1), ascending.
        coverage: (..., L) observed.

    Returns:
        (...) in [0, 1/2].
    """
    ends = [(0, 0)] * (coverage.ndim - 1) + [(1, 1)]
    gap = np.pad(coverage - levels, ends)
    left, right = gap[..., :-1], gap[..., 1:]
    width = np.diff(np.concatenate([[0.0], levels, [1.0]]))
    size = np.abs(left) + np.abs(right)
    # where the curve crosses the diagonal, two triangles instead of a trapezoid
    crossed = np.divide(left**2 + right**2, size, out=np.zeros_like(size), where=size > 0)
    return (0.5 * width * np.where(left * right < 0, crossed, size)).sum(-1)


def binomial_deviation(n: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Expected |X / n - p| of a binomial X (De Moivre's formula, Diaconis and Zabell 1991).

    Args:
        n: (...) trials, at least 1.
        p: (...) in [0, 1].

    Returns:
        (...) float64: by how much a frequency misses its probability by chance alone.
    """
    n, p = np.broadcast_arrays(np.asarray(n, dtype=np.float64), np.asarray(p, dtype=np.float64))
    inside = (p > 0) & (p < 1)
    q = np.where(inside, p, 0.5)
    k = np.floor(n * q) + 1
    logs = special.gammaln(n + 1) - special.gammaln(k + 1) - special.gammaln(n - k + 1)
    deviation = 2 * k * np.exp(logs + k * np.log(q) + (n - k + 1) * np.log1p(-q)) / n
    return np.where(inside, deviation, 0.0)


@dataclass(frozen=True)
class Reliability:
    """Probabilities and what came true, summed by bin.

    Attributes:
        count: (..., B) items.
        probability: (..., B) summed probabilities.
        happened: (..., B) summed outcomes.
        squared: (...,) summed (p - y)^2.
        square: (...,) summed p^2.
    """

    count: np.ndarray
    probability: np.ndarray
    happened: np.ndarray
    squared: np.ndarray
    square: np.ndarray

    @classmethod
    def of(
        cls, probability: np.ndarray, outcome: np.ndarray, cluster: np.ndarray | None = None, bins: int = BINS
    ) -> Reliability:
        """Sum by cluster.

        Args:
            probability: (N,) in [0, 1].
            outcome: (N,) bool.
            cluster: (N,) int, 0 to C - 1; None puts everything into one.
            bins: B bins of equal width; a probability on a border belongs to the upper one, 1 to the last.

        Returns:
            Sums with the shape (C, B), or (C,).

        Raises:
            ValueError: A probability outside [0, 1].
        """
        p, y = np.asarray(probability, dtype=np.float64), np.asarray(outcome, dtype=np.float64)
        if not ((p >= 0) & (p <= 1)).all():
            raise ValueError("probabilities lie in [0, 1]; give an invalid item the worst probability first")
        rows = np.zeros(len(p), dtype=np.int64) if cluster is None else cluster
        clusters = int(rows.max()) + 1
        cell = rows * bins + np.minimum((p * bins).astype(np.int64), bins - 1)

        def by_bin(values: np.ndarray) -> np.ndarray:
            return np.bincount(cell, values, minlength=clusters * bins).reshape(clusters, bins)

        def total(values: np.ndarray) -> np.ndarray:
            return np.bincount(rows, values, minlength=clusters)

        return cls(by_bin(np.ones(len(p))), by_bin(p), by_bin(y), total((p - y) ** 2), total(p * p))

    def weighted(self, weights: np.ndarray) -> Reliability:
        """Sums of resamples: (R, C) counts of clusters."""
        parts = (self.count, self.probability, self.happened, self.squared, self.square)
        return Reliability(*(weights @ part for part in parts))

    @property
    def n(self) -> np.ndarray:
        """Items, (...,)."""
        return self.count.sum(-1)

    @property
    def brier(self) -> np.ndarray:
        """Mean squared difference of probability and outcome (Brier 1950), (...,) in [0, 1]."""
        return self.squared / self.n

    @property
    def base_rate(self) -> np.ndarray:
        """Share of items in which the event happened, (...,)."""
        return self.happened.sum(-1) / self.n

    @property
    def ece(self) -> np.ndarray:
        """Mean over items of |mean probability - frequency| of their bin, (...,) in [0, 1]."""
        return np.abs(self.probability - self.happened).sum(-1) / self.n

    @property
    def sharpness(self) -> np.ndarray:
        """Variance of the probabilities, (...,): 0 if every item is given the same one."""
        mean = self.probability.sum(-1) / self.n
        return np.maximum(self.square / self.n - mean**2, 0.0)

    @property
    def parts(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Reliability, resolution and uncertainty, (...,) each (Murphy 1973).

        Their sum with the signs +, -, + is the Brier score where all probabilities of a bin are equal
        (https://doi.org/10.1175/1520-0450(1973)012<0595:ANVPOT>2.0.CO;2).
        """
        used = np.maximum(self.count, 1.0)
        mean, frequency, rate = self.probability / used, self.happened / used, self.base_rate
        reliability = (self.count * (mean - frequency) ** 2).sum(-1) / self.n
        resolution = (self.count * (frequency - rate[..., None]) ** 2).sum(-1) / self.n
        return reliability, resolution, rate * (1 - rate)

    @property
    def ece_if_calibrated(self) -> np.ndarray:
        """The ECE to expect from chance alone if every bin's mean probability were exactly right, (...,).

        Items are taken to be independent.
        """
        n = np.maximum(self.count, 1.0)
        chance = np.clip(self.probability / n, 0.0, 1.0)
        return np.where(self.count > 0, n * binomial_deviation(n, chance), 0.0).sum(-1) / self.n
