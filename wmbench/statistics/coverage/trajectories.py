"""Coverage of what is said of rollouts: ratios of errors on the logarithm, and distances between distributions."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np

from wmbench.statistics.bootstrap import bootstrap
from wmbench.statistics.clustered import norm_interval
from wmbench.statistics.coverage import Case, Draw
from wmbench.statistics.intervals import Interval
from wmbench.statistics.transport import Seminorm, energy_distance, mean_of, wasserstein

WINDOWS, DIMS, LONG, BATCH = 4, 4, 100_000, 1000
RESAMPLES = 500

Pairs = Callable[[np.random.Generator, int], tuple[np.ndarray, np.ndarray]]
PAIRS: dict[str, Pairs] = {
    "equal, unrelated": lambda rng, n: (rng.normal(size=(n, DIMS)), rng.normal(size=(n, DIMS))),
    "a shift, related": lambda rng, n: _related(rng, n, 0.3, 0.2),
    "noise, related": lambda rng, n: _related(rng, n, 0.0, 0.7),
    "a shift, unrelated": lambda rng, n: (rng.normal(size=(n, DIMS)), rng.normal(1.0, size=(n, DIMS))),
    "wider, unrelated": lambda rng, n: (rng.normal(size=(n, DIMS)), rng.normal(scale=2.0, size=(n, DIMS))),
}


def cases() -> list[Case]:
    """Ratios and distances at the numbers of episodes in use."""
    found = [
        Case(
            "log of a ratio of errors, bootstrap",
            f"{n} episodes of 4",
            "exposure gap, contact ratios",
            partial(_ratios, n),
        )
        for n in (8, 10, 20)
    ]
    for n in (12, 20):
        for name, distance in (("Wasserstein-1", _marginals), ("energy distance", energy_distance)):
            found.append(Case(f"{name}, norm", f"{n} starts", "closed loop", partial(_distances, n, distance)))
    return found


def _ratios(n: int) -> dict[str, Draw | float]:
    """The mean error of some windows over that of the same ones elsewhere, each with a spread over episodes."""

    def sums(rng: np.random.Generator, n: int, spread: float, growth: float) -> tuple[np.ndarray, np.ndarray]:
        own = np.exp(spread * rng.normal(size=(n, 1)) + 0.3 * rng.normal(size=(n, WINDOWS)))
        more = np.exp(growth * rng.normal(size=(n, 1)) + 0.3 * rng.normal(size=(n, WINDOWS)))
        return (own * more).sum(1), own.sum(1)

    def at(spread: float, growth: float) -> Draw:
        above, below = sums(np.random.default_rng(0), LONG, spread, growth)
        truth = math.log(above.sum() / below.sum())

        def draw(rng: np.random.Generator) -> tuple[Interval | None, float]:
            a, b = sums(rng, n, spread, growth)
            return bootstrap(lambda w: np.log(w @ a) - np.log(w @ b), n, resamples=1000), truth

        return draw

    return {f"spread {s}, of the ratio {g}": at(s, g) for s in (0.3, 0.6) for g in (0.3, 0.6)}


def _related(rng: np.random.Generator, n: int, shift: float, noise: float) -> tuple[np.ndarray, np.ndarray]:
    x = rng.normal(size=(n, DIMS))
    return x, x + shift + noise * rng.normal(size=(n, DIMS))


def _marginals(x: np.ndarray, y: np.ndarray) -> Seminorm:
    return mean_of([wasserstein(x[:, d], y[:, d]) for d in range(x.shape[1])])


def _distances(n: int, distance: Callable[[np.ndarray, np.ndarray], Seminorm]) -> dict[str, Draw | float]:
    def at(name: str) -> Draw:
        pairs = PAIRS[name]
        x, y = pairs(np.random.default_rng(0), LONG if distance is _marginals else BATCH)
        truth = 0.0 if name.startswith("equal") else float(distance(x, y)(np.full((1, len(x)), 1 / len(x)))[0])

        def draw(rng: np.random.Generator) -> tuple[Interval | None, float]:
            norm = distance(*pairs(rng, n))
            return norm_interval(lambda w: w / w.sum(1, keepdims=True), norm, n, resamples=RESAMPLES), truth

        return draw

    return {name: at(name) for name in PAIRS}
