"""Coverage of what speaks of training methods: few seeds, several tasks."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from scipy import stats

from wmbench.statistics.clustered import proportion_interval
from wmbench.statistics.comparison import hierarchical_bootstrap, t_interval
from wmbench.statistics.coverage import Case, Draw
from wmbench.statistics.intervals import Interval
from wmbench.statistics.stratified import (
    improvement,
    iqm_rows,
    skewed_interval,
    square_and_add,
    stratified_interval,
    welch_interval,
    wider,
)

LAYOUTS = ((1, 5), (1, 10), (2, 3), (2, 5), (5, 3), (5, 5), (10, 3), (10, 10))
SHAPES: dict[str, Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]] = {
    "normal": lambda rng, size: rng.normal(size=size),
    "long upper tail": lambda rng, size: (rng.gamma(4, size=size) - 4) / 2,
    "long lower tail": lambda rng, size: (4 - rng.gamma(4, size=size)) / 2,
}


def cases() -> list[Case]:
    """Means over seeds, rates over seeds, aggregates over tasks."""
    found = []
    for seeds in (3, 5, 10):
        size = f"{seeds} seeds of 20 episodes"
        found.append(Case("mean over seeds, Student's t", size, "methods", partial(_means, seeds, t_interval)))
        found.append(Case("mean over seeds, hierarchical bootstrap", size, "", partial(_hierarchical, seeds)))
        found.append(Case("success over seeds, t or clustered Wilson", size, "methods", partial(_success, seeds)))
        found.append(Case("its difference, Welch or Newcombe", size, "methods", partial(_differences, seeds)))
    found.append(
        Case(
            "mean over seeds, hierarchical bootstrap",
            "20 seeds of 20 episodes",
            "20 seeds or more",
            partial(_hierarchical, 20),
        )
    )
    for tasks, runs in LAYOUTS:
        size = f"{tasks} tasks, {runs} seeds"
        found.append(Case("IQM, t with bootstrap", size, "methods", partial(_aggregate, tasks, runs, "iqm")))
        found.append(Case("IQM, percentile bootstrap", size, "", partial(_aggregate, tasks, runs, "percentile")))
        found.append(
            Case("optimality gap, Welch or bootstrap-t", size, "methods", partial(_aggregate, tasks, runs, "gap"))
        )
        found.append(
            Case("probability of improvement, Newcombe", size, "methods", partial(_improvement, tasks, runs, True))
        )
        found.append(Case("probability of improvement, bootstrap", size, "", partial(_improvement, tasks, runs, False)))
    return found


def _short(scores: np.ndarray) -> np.ndarray:
    return np.maximum(1.0 - scores, 0.0)


def _scores(rng: np.random.Generator, shape: str, seeds: int, ratio: float) -> np.ndarray:
    """(seeds, 20) scores of episodes whose spread within a seed is ``ratio`` times that between seeds."""
    return SHAPES[shape](rng, (seeds, 1)) + ratio * rng.normal(size=(seeds, 20))


def _means(seeds: int, interval: Callable[[np.ndarray], Interval | None]) -> dict[str, Draw | float]:
    def at(shape: str, ratio: float) -> Draw:
        return lambda rng: (interval(_scores(rng, shape, seeds, ratio).mean(1)), 0.0)

    return {f"{shape}, noise {r}": at(shape, r) for shape in SHAPES for r in (0.3, 3.0)}


def _hierarchical(seeds: int) -> dict[str, Draw | float]:
    def at(shape: str, ratio: float) -> Draw:
        return lambda rng: (hierarchical_bootstrap(list(_scores(rng, shape, seeds, ratio)), resamples=500), 0.0)

    return {f"{shape}, noise {r}": at(shape, r) for shape in SHAPES for r in (0.3, 3.0)}


def _success(seeds: int) -> dict[str, Draw | float]:
    """Success rates that differ between seeds."""

    def at(p: float, spread: float) -> Draw:
        def draw(rng: np.random.Generator) -> tuple[Interval | None, float]:
            rate = rng.beta(p * spread, (1 - p) * spread, size=seeds)
            solved = rng.binomial(20, rate)
            return _rate(solved, 20), p

        return draw

    return {f"p = {p}, spread {s}": at(p, s) for p in (0.1, 0.3, 0.5, 0.7, 0.9, 0.97) for s in (5.0, 20.0, 1e6)}


def _rate(solved: np.ndarray, episodes: int) -> Interval:
    """As the measure has it."""
    found = proportion_interval(solved, np.full(len(solved), episodes))
    assert found is not None
    return wider(t_interval(solved / episodes), found, (0.0, 1.0))


def _differences(seeds: int) -> dict[str, Draw | float]:
    """Differences of success rates of two methods."""

    def at(p: float, q: float, spread: float) -> Draw:
        def draw(rng: np.random.Generator) -> tuple[Interval | None, float]:
            one, two = (rng.binomial(20, rng.beta(c * spread, (1 - c) * spread, size=seeds)) for c in (p, q))
            plain = welch_interval([one / 20, two / 20], [1.0, -1.0])
            ends = square_and_add(one.mean() / 20, _rate(one, 20), two.mean() / 20, _rate(two, 20))
            return wider(plain, ends, (-1.0, 1.0)), p - q

        return draw

    rates = ((0.1, 0.1), (0.5, 0.5), (0.9, 0.5), (0.97, 0.9), (0.7, 0.3))
    return {f"{p} and {q}, spread {s}": at(p, q, s) for p, q in rates for s in (5.0, 20.0, 1e6)}


def _runs(rng: np.random.Generator, tasks: int, runs: int, shape: str, apart: float, times: int = 1) -> np.ndarray:
    """(times, tasks, runs) scores of tasks of different difficulty and spread."""
    centre = 0.5 + apart * np.linspace(-1, 1, tasks) if tasks > 1 else np.array([0.6])
    spread = np.linspace(0.05, 0.25, tasks) if tasks > 1 else np.array([0.15])
    return centre[:, None] + spread[:, None] * SHAPES[shape](rng, (times, tasks, runs))


def _aggregate(tasks: int, runs: int, kind: str) -> dict[str, Draw | float]:
    """The truth is the mean over sets of this many runs."""

    def at(shape: str, apart: float) -> Draw:
        many = _runs(np.random.default_rng(0), tasks, runs, shape, apart, 20_000)
        gap = kind == "gap"
        truth = float(_short(many).mean() if gap else iqm_rows(many.reshape(len(many), -1)).mean())

        def draw(rng: np.random.Generator) -> tuple[Interval | None, float]:
            scores = _runs(rng, tasks, runs, shape, apart)[0]
            if gap:
                return skewed_interval(list(_short(scores)), resamples=1000, bounds=(0.0, np.inf)), truth
            if kind == "iqm":
                return stratified_interval(list(scores), iqm_rows, resamples=500), truth
            chosen = rng.integers(runs, size=(500, tasks, runs))
            drawn = np.take_along_axis(np.broadcast_to(scores, chosen.shape), chosen, axis=2).reshape(500, -1)
            low, high = np.quantile(iqm_rows(drawn), [0.025, 0.975])
            return Interval(float(low), float(high)), truth

        return draw

    return {f"{shape}, tasks {a} apart": at(shape, a) for shape in SHAPES for a in (0.05, 0.4)}


def _improvement(tasks: int, runs: int, ours: bool) -> dict[str, Draw | float]:
    def at(shift: float, spread: float) -> Draw:
        truth = float(stats.norm.cdf(shift / np.sqrt(1 + spread**2)))

        def draw(rng: np.random.Generator) -> tuple[Interval | None, float]:
            x, y = rng.normal(size=(tasks, runs)) + shift, spread * rng.normal(size=(tasks, runs))
            if ours:
                return improvement(list(x), list(y))[1], truth
            a, b = (z[np.arange(tasks)[:, None], rng.integers(runs, size=(500, tasks, runs))] for z in (x, y))
            low, high = np.quantile((a[..., :, None] > b[..., None, :]).mean((1, 2, 3)), [0.025, 0.975])
            return Interval(float(low), float(high)), truth

        return draw

    return {f"shift {s}, spread {w}": at(s, w) for s in (0.0, 0.5, 1.0, 2.0, 3.0) for w in (1.0, 0.4)}
