"""Coverage of what resamples episodes: means, ratios, the worst dimension, drift, times to a threshold."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from wmbench.statistics.bootstrap import bootstrap
from wmbench.statistics.comparison import t_interval
from wmbench.statistics.coverage import Case, Draw
from wmbench.statistics.intervals import Interval
from wmbench.statistics.survival import mean_survival, median_survival, survival_curve

SIZES = (8, 10, 20, 50)
METHODS = {"studentised": "bootstrap", "percentile": "percentile bootstrap"}
RATIOS = ("skill", "worst dimension", "NMSE")
LONG = 200_000
WINDOWS, HORIZON, DIMS = 4, 50, 4

Sampler = Callable[[np.random.Generator, int], np.ndarray]
MEANS: dict[str, tuple[Sampler, float]] = {
    "normal": (lambda rng, n: rng.normal(size=n), 0.0),
    "uniform": (lambda rng, n: rng.random(n), 0.5),
    "half-normal": (lambda rng, n: np.abs(rng.normal(size=n)), math.sqrt(2 / math.pi)),
    "exponential": (lambda rng, n: rng.exponential(size=n), 1.0),
    "log-normal, sigma .5": (lambda rng, n: np.exp(0.5 * rng.normal(size=n)), math.exp(0.125)),
    "near a ceiling": (lambda rng, n: 1 - rng.beta(0.3, 2, size=n), 1 - 0.3 / 2.3),
    "all or nothing": (lambda rng, n: (rng.random(n) < 0.5) + 0.1 * rng.normal(size=n), 0.5),
    "half of it zero": (lambda rng, n: (rng.random(n) < 0.5) * rng.exponential(size=n), 0.5),
}


def cases() -> list[Case]:
    """Means, ratios, drift and times, by the suite's method and by the plain one."""
    found = []
    for method, words in METHODS.items():
        used = method == "studentised"
        for n in SIZES:
            where = "return, length, differences of returns" if used else ""
            found.append(Case(f"mean, {words}", f"{n} episodes", where, partial(_means, n, method)))
        for n in (10, 20):
            for kind in RATIOS:
                where = "one-step, heads, counterfactual" if used else ""
                found.append(Case(f"{kind}, {words}", f"{n} episodes", where, partial(_errors, kind, n, method)))
            where = "drift" if used else ""
            found.append(
                Case(f"area under the error curve, {words}", f"{n} episodes of 4", where, partial(_area, n, method))
            )
            found.append(
                Case(f"mean time, {words}", f"{n} episodes of 4", where, partial(_times, mean_survival, n, method))
            )
    for n in (10, 20):
        found.append(
            Case(
                "median time, percentile bootstrap",
                f"{n} episodes of 4",
                "drift",
                partial(_times, median_survival, n, "percentile"),
            )
        )
    found.append(Case("rate of calls, bootstrap", "197 calls", "latency", lambda: {"log-normal": _throughput}))
    found.append(Case("mean, Student's t", "10 episodes", "", partial(_students, 10)))
    return found


def _means(n: int, method: str) -> dict[str, Draw | float]:
    return {name: _mean(name, n, method) for name in MEANS}


def _students(n: int) -> dict[str, Draw | float]:
    return {name: _student(name, n) for name in MEANS}


def _mean(name: str, n: int, method: str) -> Draw:
    sample, truth = MEANS[name]

    def draw(rng: np.random.Generator) -> tuple[Interval | None, float]:
        x = sample(rng, n)
        return bootstrap(lambda w: w @ x / w.sum(1), n, method=method), truth

    return draw


def _student(name: str, n: int) -> Draw:
    sample, truth = MEANS[name]
    return lambda rng: (t_interval(sample(rng, n)), truth)


def _squares(
    rng: np.random.Generator, n: int, spread: float, shared: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sums of squared errors of a model and of a reference, (n, D) each, and steps (n,), of n episodes."""
    common, own = rng.normal(size=(n, 1, DIMS)), rng.normal(size=(n, 2, DIMS))
    size = np.exp(spread * (math.sqrt(shared) * common + math.sqrt(1 - shared) * own))
    steps = rng.integers(30, 100, size=n).astype(np.float64)
    return 0.2 * size[:, 0] * steps[:, None], size[:, 1] * steps[:, None], steps


def _errors(kind: str, n: int, method: str) -> dict[str, Draw | float]:
    def statistic(own: np.ndarray, reference: np.ndarray, steps: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        if kind == "NMSE":
            return lambda w: (w @ own).mean(1) / (w @ steps)
        if kind == "skill":
            return lambda w: 1 - (w @ own).mean(1) / (w @ reference).mean(1)
        return lambda w: (1 - (w @ own) / (w @ reference)).min(1)

    def at(spread: float, shared: float) -> Draw:
        truth = float(statistic(*_squares(np.random.default_rng(0), LONG, spread, shared))(np.ones((1, LONG)))[0])

        def draw(rng: np.random.Generator) -> tuple[Interval | None, float]:
            return bootstrap(statistic(*_squares(rng, n, spread, shared)), n, method=method), truth

        return draw

    return {f"spread {s}, correlation {c}": at(s, c) for s in (0.3, 0.5, 0.8) for c in (0.0, 0.7)}


def _area(n: int, method: str) -> dict[str, Draw | float]:
    def sums(rng: np.random.Generator, n: int, level: float, spread: float) -> np.ndarray:
        size = level * np.exp(spread * rng.normal(size=(n, 1)) + 0.5 * rng.normal(size=(n, WINDOWS)))
        return np.minimum(size[..., None] * np.linspace(0.05, 1, 20), 2.0).mean(-1).sum(1)

    def at(level: float, spread: float) -> Draw:
        truth = float(sums(np.random.default_rng(0), LONG, level, spread).mean())

        def draw(rng: np.random.Generator) -> tuple[Interval | None, float]:
            x = sums(rng, n, level, spread)
            return bootstrap(lambda w: w @ x / w.sum(1), n, method=method), truth

        return draw

    return {f"level {level}, spread {s}": at(level, s) for level in (0.3, 1.0, 3.0) for s in (0.3, 0.8)}


def _times(summary: Callable[[np.ndarray], np.ndarray], n: int, method: str) -> dict[str, Draw | float]:
    """Steps to a threshold, with windows that end before it is reached."""

    def sample(rng: np.random.Generator, n: int, scale: float, spread: float) -> tuple[np.ndarray, ...]:
        episode = np.repeat(np.arange(n), WINDOWS)
        speed = np.repeat(np.exp(spread * rng.normal(size=n)), WINDOWS)
        time = np.ceil(scale * speed * rng.weibull(1.5, size=n * WINDOWS))
        limit = np.where(rng.random(n * WINDOWS) < 0.6, HORIZON, rng.integers(10, HORIZON + 1, size=n * WINDOWS))
        return np.clip(np.minimum(time, limit), 1, HORIZON).astype(int), time <= limit, episode

    def at(scale: float, spread: float) -> Draw:
        times, observed, _ = sample(np.random.default_rng(0), LONG // 4, scale, spread)
        truth = float(summary(survival_curve(times, observed, np.ones((1, len(times))), HORIZON))[0])

        def draw(rng: np.random.Generator) -> tuple[Interval | None, float]:
            times, observed, episode = sample(rng, n, scale, spread)

            def statistic(w: np.ndarray) -> Any:
                return summary(survival_curve(times, observed, w[:, episode], HORIZON))

            return bootstrap(statistic, n, method=method, resamples=1000), truth

        return draw

    return {f"scale {scale}, spread {s}": at(scale, s) for scale in (10.0, 25.0, 40.0) for s in (0.0, 0.5)}


def _throughput(rng: np.random.Generator) -> tuple[Interval | None, float]:
    seconds = np.exp(0.5 * rng.normal(size=197))
    return bootstrap(lambda w: w.sum(1) / (w @ seconds), 197, resamples=400), math.exp(-0.125)
