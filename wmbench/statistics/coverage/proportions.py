"""Coverage of intervals of rates, of their differences, and of quantiles: mostly exact, by adding up the binomial."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from scipy import stats

from wmbench.statistics.clustered import proportion_interval
from wmbench.statistics.comparison import paired_difference
from wmbench.statistics.coverage import Case, Draw
from wmbench.statistics.intervals import Interval, agresti_caffo, clopper_pearson, quantile_interval, wilson
from wmbench.statistics.sequential import log_e_proportion, mean_sequence

RATES = tuple(round(0.05 + 0.001 * i, 3) for i in range(901))


def cases() -> list[Case]:
    """Rates, differences of rates, quantiles, sequences."""
    found = []
    for n in (16, 20, 50, 100):
        found.append(Case("Wilson", f"{n} episodes", "success", partial(_binomial, wilson, n)))
    found.append(Case("Wilson", "10 episodes, the suite takes 16 or more", "", partial(_binomial, wilson, 10)))
    found += [
        Case("Clopper-Pearson", f"{n} episodes", "success, details", partial(_binomial, clopper_pearson, n))
        for n in (20, 50)
    ]
    found += [Case("Wald", "20 episodes", "", partial(_binomial, _wald, 20))]
    for n in (20, 50):
        found.append(Case("Agresti-Caffo, difference", f"{n} and {n}", "exploitation", partial(_two, n)))
        found.append(Case("Bonett-Price, difference", f"{n} shared starts", "comparison", partial(_pairs, n)))
    found += [Case("rate of clustered items", f"{c} episodes of 10", "heads", partial(_clustered, c)) for c in (10, 20)]
    found += [
        Case("quantile, order statistics", f"{n} calls", f"latency p{100 * q:g}", partial(_order, n, q))
        for n, q in ((100, 0.5), (197, 0.9), (398, 0.95), (2010, 0.99))
    ]
    found.append(
        Case("confidence sequence of a rate", "all times up to 200", "stopping early", partial(_sequence, 200))
    )
    found.append(
        Case(
            "confidence sequence of a difference", "all times up to 100", "comparison, details", partial(_betting, 100)
        )
    )
    return found


def _wald(k: int, n: int) -> Interval:
    p = k / n
    half = 1.959964 * float(np.sqrt(p * (1 - p) / n))
    return Interval(p - half, p + half)


def _binomial(interval: Callable[[int, int], Interval], n: int) -> dict[str, Draw | float]:
    """Exact coverage at each rate."""
    ends = np.array([interval(k, n) for k in range(n + 1)])
    chance = {p: stats.binom.pmf(np.arange(n + 1), n, p) for p in RATES}
    return {f"p = {p}": float(w[(ends[:, 0] <= p) & (p <= ends[:, 1])].sum()) for p, w in chance.items()}


def _two(n: int) -> dict[str, Draw | float]:
    """Exact coverage of the difference of two independent rates."""
    ends = np.array([[agresti_caffo(j, n, k, n) for k in range(n + 1)] for j in range(n + 1)])
    out: dict[str, Draw | float] = {}
    for p in (0.05, 0.2, 0.5, 0.8, 0.95):
        for q in (0.05, 0.3, 0.5, 0.9):
            weight = np.outer(stats.binom.pmf(np.arange(n + 1), n, p), stats.binom.pmf(np.arange(n + 1), n, q))
            out[f"{p} and {q}"] = float(weight[(ends[..., 0] <= p - q) & (p - q <= ends[..., 1])].sum())
    return out


def _pairs(n: int) -> dict[str, Draw | float]:
    def at(only_first: float, only_second: float) -> Draw:
        def draw(rng: np.random.Generator) -> tuple[Interval, float]:
            kind = rng.choice(3, size=n, p=[only_first, only_second, 1 - only_first - only_second])
            return paired_difference(kind == 0, kind == 1), only_first - only_second

        return draw

    shares = ((0.02, 0.02), (0.1, 0.1), (0.3, 0.3), (0.1, 0.02), (0.3, 0.05), (0.5, 0.1), (0.8, 0.02))
    return {f"{a} only first, {b} only second": at(a, b) for a, b in shares}


def _clustered(clusters: int) -> dict[str, Draw | float]:
    def at(p: float, spread: float) -> Draw:
        def draw(rng: np.random.Generator) -> tuple[Interval | None, float]:
            own = rng.beta(p * spread, (1 - p) * spread, size=clusters)
            counts = rng.integers(1, 20, size=clusters)
            return proportion_interval(rng.binomial(counts, own), counts), p

        return draw

    return {f"p = {p}, spread {s}": at(p, s) for p in (0.05, 0.2, 0.5, 0.9) for s in (2.0, 10.0, 1000.0)}


def _order(n: int, q: float) -> dict[str, Draw | float]:
    """Exact: the ends are order statistics, and how many values lie below a quantile is binomial."""
    found = quantile_interval(np.arange(1.0, n + 1), q)
    assert found is not None
    share = float(stats.binom.cdf(found.high - 1, n, q) - stats.binom.cdf(found.low - 1, n, q))
    return {"any distribution": share}


def _sequence(n: int) -> dict[str, Draw | float]:
    """An interval holds at all times if and only if the e-value of the truth stays below 20."""

    def at(p: float) -> Draw:
        def draw(rng: np.random.Generator) -> tuple[Interval, float]:
            k = np.cumsum(rng.random(n) < p)
            ever = bool((log_e_proportion(k, np.arange(1, n + 1), p) >= np.log(20)).any())
            return (Interval(2.0, 2.0) if ever else Interval(0.0, 1.0)), p

        return draw

    return {f"p = {p}": at(p) for p in (0.05, 0.3, 0.5, 0.9)}


def _betting(n: int) -> dict[str, Draw | float]:
    def at(p: float, q: float) -> Draw:
        def draw(rng: np.random.Generator) -> tuple[Interval, float]:
            values = (rng.random(n) < p) * 1.0 - (rng.random(n) < q)
            return mean_sequence(values, -1.0, 1.0, grid=201), p - q

        return draw

    return {f"{p} and {q}": at(p, q) for p, q in ((0.5, 0.5), (0.9, 0.9), (0.9, 0.5), (0.2, 0.1))}
