"""Proper scores of predicted distributions: what a Gaussian, a set of draws or a probability earns for one truth."""

from __future__ import annotations

import math

import numpy as np
from scipy import special


def gaussian_nll(mean: np.ndarray, std: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Negative log density of a Gaussian, ln(2 pi sigma^2) / 2 + (y - mu)^2 / (2 sigma^2).

    Without a floor under sigma it can be made as small as one likes on a noiseless simulator: clip ``std`` at a
    declared floor first, and report it.

    Args:
        mean: (...), finite.
        std: (...), positive, in the unit of ``mean``.
        truth: (...), finite.

    Returns:
        (...) float64, nats.

    Raises:
        ValueError: A standard deviation that is not positive and finite.
    """
    z, sigma = _standardised(mean, std, truth)
    return 0.5 * math.log(2 * math.pi) + np.log(sigma) + 0.5 * z**2


def gaussian_crps(mean: np.ndarray, std: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Continuous ranked probability score of a Gaussian.

    sigma (z (2 Phi(z) - 1) + 2 phi(z) - 1 / sqrt(pi)) with z = (y - mu) / sigma (Gneiting and Raftery 2007, equation
    21 with its sign turned, https://doi.org/10.1198/016214506000001437).

    Args:
        mean: (...), finite.
        std: (...), positive, in the unit of ``mean``.
        truth: (...), finite.

    Returns:
        (...) float64, in the unit of ``mean``; 0 is best.

    Raises:
        ValueError: A standard deviation that is not positive and finite.
    """
    z, sigma = _standardised(mean, std, truth)
    density = np.exp(-0.5 * z**2) / math.sqrt(2 * math.pi)
    return sigma * (z * special.erf(z / math.sqrt(2)) + 2 * density - 1 / math.sqrt(math.pi))


def sample_crps(draws: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Continuous ranked probability score of m draws, by the fair estimator.

    E|X - y| - E|X - X'| / 2 with the second mean over the m (m - 1) ordered pairs of different draws: in expectation
    the score of the distribution itself, however few the draws (Ferro 2014, https://doi.org/10.1002/qj.2270). A
    single score may therefore be negative.

    Args:
        draws: (m, ...), finite, m at least 2.
        truth: (...), finite.

    Returns:
        (...) float64, in the unit of ``truth``.

    Raises:
        ValueError: Fewer than two draws.
    """
    draws = np.sort(np.asarray(draws, dtype=np.float64), axis=0)
    m = len(draws)
    if m < 2:
        raise ValueError(f"a spread needs at least two draws, got {m}")
    # sum over pairs i < j of x_j - x_i, from the sorted draws
    factor = (2 * np.arange(m) - (m - 1)).reshape(-1, *[1] * (draws.ndim - 1))
    apart = (factor * draws).sum(0) * 2 / (m * (m - 1))
    return np.abs(draws - truth).mean(0) - 0.5 * apart


def _standardised(mean: np.ndarray, std: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Residuals in standard deviations, and these, after a look at them."""
    sigma = np.asarray(std, dtype=np.float64)
    if not (np.isfinite(sigma) & (sigma > 0)).all():
        raise ValueError("standard deviations must be positive and finite: clip them at a declared floor first")
    return (np.asarray(truth, dtype=np.float64) - mean) / sigma, sigma
