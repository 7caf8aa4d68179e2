"""Times to an event when some are only known to be longer: Kaplan-Meier, for whole batches of weights at once."""

from __future__ import annotations

import numpy as np


def survival_curve(times: np.ndarray, observed: np.ndarray, weights: np.ndarray, horizon: int) -> np.ndarray:
    """Kaplan-Meier estimate of P(T > h) (Kaplan and Meier 1958, https://doi.org/10.1080/01621459.1958.10501452).

    Args:
        times: (n,) int, step of the event, or the last step seen without it; 1 to ``horizon``.
            0 stands for an item never looked at, which counts nowhere.
        observed: (n,) bool, whether the event happened at ``times`` (False: censored there).
        weights: (R, n) float64, one row per resample.
        horizon: H.

    Returns:
        (R, H + 1) float64, S(0) = 1 to S(H). Where nobody is left at risk the curve stays where it is.
    """
    steps = np.arange(1, horizon + 1)
    at_risk = weights @ (times[:, None] >= steps).astype(np.float64)  # (R, H)
    events = weights @ ((times[:, None] == steps) & observed[:, None]).astype(np.float64)
    hazard = np.divide(events, at_risk, out=np.zeros_like(events), where=at_risk > 0)
    survival = np.cumprod(1.0 - hazard, axis=1)
    return np.concatenate([np.ones((len(weights), 1)), survival], axis=1)


def median_survival(curve: np.ndarray) -> np.ndarray:
    """First step at which survival is at most one half; infinity where it stays above.

    Args:
        curve: (R, H + 1) as :func:`survival_curve` returns it.

    Returns:
        (R,) float64.
    """
    reached = curve <= 0.5 + 1e-12
    return np.where(reached.any(1), reached.argmax(1), np.inf)


def mean_survival(curve: np.ndarray) -> np.ndarray:
    """Mean time restricted to the horizon: the area under the curve, sum of S(0) to S(H - 1).

    Always defined, unlike the median: an event that never happens counts H.

    Args:
        curve: (R, H + 1) as :func:`survival_curve` returns it.

    Returns:
        (R,) float64, between 1 and H.
    """
    return curve[:, :-1].sum(1)
