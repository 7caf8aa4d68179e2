"""Correlations of few items, written in weights for the bootstrap, and their intervals."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy import special

from wmbench.statistics.bootstrap import bootstrap
from wmbench.statistics.intervals import Interval

Correlation = Callable[..., np.ndarray]


def pearson(x: np.ndarray, y: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Pearson's correlation, exactly 1 or -1 at most.

    Args:
        x: (n,) finite.
        y: (n,) finite.
        weights: (R, n) how often each item counts; all once by default.

    Returns:
        (R,) in [-1, 1]; NaN where one side does not vary.
    """
    w = _weights(x, weights)
    constant = _constant(x, w) | _constant(y, w)
    return _product_moment(_centred(to_unit(x), w), _centred(to_unit(y), w), w, constant)


def spearman(x: np.ndarray, y: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Spearman's correlation: Pearson's of the ranks, ties sharing their mean rank.

    Args:
        x: (n,) finite, or minus infinity for the worst.
        y: (n,) the same.
        weights: (R, n) how often each item counts; all once by default.

    Returns:
        (R,) in [-1, 1]; NaN where one side does not vary.
    """
    w = _weights(x, weights)
    constant = _constant(x, w) | _constant(y, w)
    ranks = [w @ ((a > a[:, None]) + 0.5 * (a == a[:, None])) for a in (np.asarray(x), np.asarray(y))]  # (R, n)
    return _product_moment(_centred(ranks[0], w), _centred(ranks[1], w), w, constant)


def kendall(x: np.ndarray, y: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Kendall's tau-b: concordant less discordant pairs, over those untied on either side (geometric mean).

    Args:
        x: (n,) finite, or minus infinity for the worst.
        y: (n,) the same.
        weights: (R, n) how often each item counts; all once by default.

    Returns:
        (R,) in [-1, 1]; NaN where one side does not vary.
    """
    w = _weights(x, weights)
    a, b = pairwise_sign(np.asarray(x)), pairwise_sign(np.asarray(y))
    agree, pairs_x, pairs_y = (((w @ m) * w).sum(1) for m in (a * b, np.abs(a), np.abs(b)))  # (R,) each
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.clip(agree / np.sqrt(pairs_x * pairs_y), -1.0, 1.0)


def pairwise_sign(x: np.ndarray) -> np.ndarray:
    """(..., n) to (..., n, n) sign of x_i - x_j, with equal infinities tied."""
    one, other = x[..., :, None], x[..., None, :]
    return (one > other).astype(np.float64) - (one < other)


KINDS: dict[str, Correlation] = {"pearson": pearson, "spearman": spearman, "kendall": kendall}


def fisher_interval(r: float, n: int, kind: str = "pearson", level: float = 0.95) -> Interval | None:
    """Interval of a correlation by Fisher's z: tanh(atanh r +- q SE).

    SE^2 is 1 / (n - 3) for Pearson's (Fisher 1921), (1 + r^2 / 2) / (n - 3) for Spearman's and .437 / (n - 4) for
    Kendall's (Bonett and Wright 2000, https://doi.org/10.1007/BF02294183). A rank correlation of few items is
    often exactly 1 though that of the population is not: z is then taken one exchange of neighbours below (ours),
    and the end beyond stays 1.

    Args:
        r: In [-1, 1].
        n: Number of items.
        kind: ``pearson``, ``spearman`` or ``kendall``.
        level: Confidence level in (0, 1).

    Returns:
        The interval; None with fewer than four items (five for Kendall's).

    Raises:
        ValueError: Unknown kind, or r out of range.
    """
    if kind not in KINDS:
        raise ValueError(f"unknown correlation {kind!r}: {', '.join(KINDS)}")
    if not -1 <= r <= 1:
        raise ValueError(f"a correlation lies between -1 and 1, got {r}")
    if n < (5 if kind == "kendall" else 4):
        return None
    if kind == "pearson":
        step, variance = 0.0, 1 / (n - 3)
    elif kind == "spearman":
        step, variance = 12 / (n * (n * n - 1)), (1 + r * r / 2) / (n - 3)
    else:
        step, variance = 4 / (n * (n - 1)), 0.437 / (n - 4)
    centre = math.copysign(min(abs(r), 1 - step), r)
    if abs(centre) == 1:
        return Interval(r, r)
    half = float(special.ndtri(0.5 + level / 2)) * math.sqrt(variance)
    low, high = (math.tanh(math.atanh(centre) + end) for end in (-half, half))
    return Interval(min(low, r), max(high, r))


def resampled_interval(
    x: np.ndarray, y: np.ndarray, kind: str = "pearson", level: float = 0.95, *, method: str = "percentile"
) -> Interval | None:
    """Interval of a correlation by resampling the items.

    A resample in which one side does not vary has no correlation; it counts as -1 for the lower and as 1 for the
    upper end.

    Args:
        x: (n,).
        y: (n,).
        kind: ``pearson``, ``spearman`` or ``kendall``.
        level: Confidence level in (0, 1).
        method: As :func:`wmbench.statistics.bootstrap` takes it.

    Returns:
        The interval; None with fewer than two items, or where the correlation itself is not defined.
    """
    correlation = KINDS[kind]
    if len(x) < 2 or np.isnan(correlation(x, y)[0]):
        return None
    ends = [
        bootstrap(
            lambda w, u=undefined: np.nan_to_num(correlation(x, y, w), nan=u),  # type: ignore[misc]
            len(x),
            level=level,
            method=method,
        )
        for undefined in (-1.0, 1.0)
    ]
    return Interval(ends[0].low, ends[1].high)  # type: ignore[union-attr]


def correlation_interval(x: np.ndarray, y: np.ndarray, kind: str = "pearson", level: float = 0.95) -> Interval | None:
    """The interval that covers what it promises with few items.

    Fisher's z for Pearson's. For rank correlations z alone falls short where they are high and the bootstrap where
    they are exactly 1, so each end is the wider one of both (ours; ``docs/measures/coverage.md``).

    Args:
        x: (n,).
        y: (n,).
        kind: ``pearson``, ``spearman`` or ``kendall``.
        level: Confidence level in (0, 1).

    Returns:
        The interval; None with fewer than four items (five for Kendall's) or an undefined correlation.
    """
    r = float(KINDS[kind](x, y)[0])
    closed = None if math.isnan(r) else fisher_interval(r, len(x), kind, level)
    if kind == "pearson" or closed is None:
        return closed
    drawn = resampled_interval(x, y, kind, level) or closed
    return Interval(min(closed.low, drawn.low), max(closed.high, drawn.high))


def _weights(x: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    return np.ones((1, len(x))) if weights is None else weights


def to_unit(x: np.ndarray) -> np.ndarray:
    """To [0, 1], so that squares neither overflow nor vanish; constants to 0."""
    x = np.asarray(x, dtype=np.float64)
    spread = x.max() - x.min()
    return (x - x.min()) / spread if spread > 0 else np.zeros_like(x)


def _constant(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """(R,) whether all items of positive weight are equal: by comparison, since a computed variance is not exact."""
    x = np.asarray(x, dtype=np.float64)
    return np.where(w > 0, x, -np.inf).max(1) == np.where(w > 0, x, np.inf).min(1)


def _centred(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    return x - ((w * x).sum(1) / w.sum(1))[:, None]  # (R, n)


def _product_moment(x: np.ndarray, y: np.ndarray, w: np.ndarray, constant: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        r = (w * x * y).sum(1) / np.sqrt((w * x * x).sum(1) * (w * y * y).sum(1))
    return np.where(constant, np.nan, np.clip(r, -1.0, 1.0))


def slope_interval(x: np.ndarray, y: np.ndarray, level: float = 0.95) -> tuple[float, Interval | None]:
    """Least-squares slope of y on x, with Student's interval.

    Args:
        x: (n,) finite, not all equal.
        y: (n,) finite.
        level: Confidence level in (0, 1).

    Returns:
        The slope, and its interval: None with fewer than three items.
    """
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    n, offset = len(x), x - x.mean()
    spread = float(offset @ offset)
    slope = float(offset @ y) / spread
    if n < 3:
        return slope, None
    residual = y - y.mean() - slope * offset
    half = float(special.stdtrit(n - 2, 0.5 + level / 2)) * math.sqrt(float(residual @ residual) / (n - 2) / spread)
    return slope, Interval(slope - half, slope + half)
