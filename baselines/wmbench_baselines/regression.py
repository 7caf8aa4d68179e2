"""Least squares and logistic regression, small and exact enough for heads that are fitted in a second."""

from __future__ import annotations

import math

import numpy as np


def _standardised(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Inputs with mean 0 and deviation 1, and both; inputs that are constant but for rounding are only shifted."""
    mean, std = x.mean(0), x.std(0)
    std = np.where(std < 1e-9 * np.maximum(np.abs(mean), 1.0), 1.0, std)
    return (x - mean) / std, mean, std


def _raw(weight: np.ndarray, bias: np.ndarray, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """Weights (F, K) and bias (K,) of standardised inputs as one matrix (F + 1, K) of raw ones."""
    weight = weight / std[:, None]
    return np.concatenate([weight, (bias - mean @ weight)[None]])


def least_squares(x: np.ndarray, y: np.ndarray, ridge: float) -> np.ndarray:
    """Ridge regression with a free intercept.

    Args:
        x: (N, F) float64.
        y: (N, K) float64.
        ridge: Penalty as a fraction of N.

    Returns:
        (F + 1, K) float64, the intercept last.
    """
    z, mean, std = _standardised(x)
    level = y.mean(0)
    normal_matrix = z.T @ z + ridge * len(z) * np.eye(z.shape[1])
    return _raw(np.linalg.solve(normal_matrix, z.T @ (y - level)), level, mean, std)


def rate(x: np.ndarray, label: np.ndarray) -> np.ndarray:
    """A logit that is the same for all inputs: that of the label's frequency.

    Args:
        x: (N, F), for its size only.
        label: (N,) bool.

    Returns:
        (F + 1, 1) float64, the intercept last.
    """
    column = np.zeros((x.shape[1] + 1, 1))
    column[-1] = _logit(float(label.mean()))
    return column


def _logit(p: float) -> float:
    """Log odds, limited to 40: a probability of 4e-18 is never drawn."""
    p = min(max(p, math.exp(-40.0)), 1.0 - 1e-16)
    return math.log(p / (1.0 - p))


def logistic(x: np.ndarray, label: np.ndarray, ridge: float, steps: int = 12) -> np.ndarray:
    """Logistic regression by Newton's method, each step halved until the penalised likelihood grows.

    Args:
        x: (N, F) float64.
        label: (N,) bool.
        ridge: Penalty as a fraction of N; at least 1e-4 here, which keeps separable classes finite.
        steps: Newton steps.

    Returns:
        (F + 1, 1) float64, the intercept last.
    """
    if label.all() or not label.any():
        return rate(x, label)
    z, mean, std = _standardised(x)
    design = np.concatenate([z, np.ones((len(z), 1))], 1)
    y = label.astype(np.float64)
    penalty = np.full(design.shape[1], max(ridge, 1e-4) * len(z))
    penalty[-1] = 0.0

    def loss(w: np.ndarray) -> float:
        logit = design @ w
        return float(np.logaddexp(0.0, logit).sum() - y @ logit + 0.5 * (penalty * w * w).sum())

    w = np.zeros(design.shape[1])
    w[-1] = _logit(float(y.mean()))
    for _ in range(steps):
        p = 1.0 / (1.0 + np.exp(-np.clip(design @ w, -500.0, 500.0)))
        gradient = design.T @ (p - y) + penalty * w
        hessian = (design * (p * (1 - p))[:, None]).T @ design + np.diag(penalty + 1e-9)
        direction = np.linalg.solve(hessian, gradient)
        size, before = 1.0, loss(w)
        while size > 1e-4 and loss(w - size * direction) > before:
            size /= 2
        w = w - size * direction if size > 1e-4 else w
    return _raw(w[:-1, None], w[-1:], mean, std)
