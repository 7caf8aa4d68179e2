"""Coverage of agreement between two evaluations of few policies: correlations, violations, regret, errors."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial

import numpy as np
from scipy import special

from wmbench.statistics.bootstrap import bootstrap, bootstrap_interval
from wmbench.statistics.comparison import t_interval
from wmbench.statistics.correlation import KINDS, correlation_interval, resampled_interval, slope_interval
from wmbench.statistics.coverage import Case, Draw
from wmbench.statistics.intervals import Interval
from wmbench.statistics.ranking import mmrv, regret_at_k
from wmbench.statistics.ranking_intervals import mmrv_interval, regret_interval

SIZES = (8, 12, 20)
EPISODES, LARGE = 50, 200_000
SPREADS = (0.2, 0.5, 1.0, 2.0, 4.0)
Zoo = Callable[[np.random.Generator, int], tuple[np.ndarray, np.ndarray]]


def _normal(rho: float) -> Zoo:
    def draw(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
        true, noise = rng.normal(size=(2, n))
        return rho * true + np.sqrt(1 - rho**2) * noise, true

    return draw


def _rates(spread: float) -> Zoo:
    """Success rates over 50 episodes, the learned ones off by a bias and by ``spread`` in log odds."""

    def draw(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
        true, learned = rates(rng, n, spread)
        return rng.binomial(EPISODES, learned) / EPISODES, rng.binomial(EPISODES, true) / EPISODES

    return draw


def rates(rng: np.random.Generator, n: int, spread: float) -> tuple[np.ndarray, np.ndarray]:
    """True and learned success rates of n policies."""
    true = rng.beta(0.7, 0.7, size=n)
    return true, special.expit(special.logit(true) - 0.5 + spread * rng.normal(size=n))


ZOOS: dict[str, Zoo] = {
    **{f"normal, rho = {r}": _normal(r) for r in (0.0, 0.3, 0.6, 0.8, 0.9, 0.97)},
    **{f"rates, spread {s}": _rates(s) for s in SPREADS},
}


def cases() -> list[Case]:
    """Intervals over policies, and over their episodes."""
    found = []
    for k in SIZES:
        size = f"{k} policies"
        for kind, words in (
            ("pearson", "Fisher's z"),
            ("spearman", "Bonett-Wright or bootstrap"),
            ("kendall", "Fieller or bootstrap"),
        ):
            found.append(Case(f"{kind}, {words}", size, "agreement", partial(_correlations, kind, k)))
        found.append(Case("pearson, bootstrap (BCa)", size, "agreement, details", partial(_resampled, "bca", k)))
        found.append(Case("pearson, percentile bootstrap", size, "", partial(_resampled, "percentile", k)))
    for k in (8, 12):
        size = f"{k} policies"
        found.append(Case("bias, Student's t", size, "agreement", partial(_gaps, k, t_interval, np.asarray)))
        found.append(
            Case("absolute error, bootstrap", size, "agreement", partial(_gaps, k, bootstrap_interval, np.abs))
        )
        found.append(Case("slope, Student's t", size, "agreement", partial(_slopes, k)))
        for episodes in (20, 50):
            both = f"{k} policies, {episodes} episodes"
            found.append(Case("MMRV, episodes resampled", both, "agreement", partial(_violations, k, episodes)))
            for picks in (1, 3):
                found.append(Case(f"regret@{picks}, bounds", both, "agreement", partial(_regrets, k, episodes, picks)))
        found.append(Case("MMRV, policies resampled", size, "", partial(_over_policies, k, mmrv)))
        found.append(Case("regret@1, policies resampled", size, "", partial(_over_policies, k, _regret)))
    return found


@lru_cache
def _population(zoo: str) -> tuple[np.ndarray, np.ndarray]:
    """A very large zoo, from which the truth is read off."""
    return ZOOS[zoo](np.random.default_rng(0), LARGE)


@lru_cache
def _correlation(kind: str, zoo: str) -> float:
    learned, true = _population(zoo)
    if kind == "pearson":
        return float(KINDS[kind](learned, true)[0])
    parts = [slice(i, i + 1000) for i in range(0, 12_000, 1000)]
    return float(np.mean([KINDS[kind](learned[p], true[p])[0] for p in parts]))


def _over_zoos(
    k: int, interval: Callable[[np.ndarray, np.ndarray], Interval | None], truth: Callable[[str], float]
) -> dict[str, Draw | float]:
    """An interval from k policies of each zoo."""

    def at(zoo: str) -> Draw:
        return lambda rng: (interval(*ZOOS[zoo](rng, k)), truth(zoo))

    return {zoo: at(zoo) for zoo in ZOOS}


def _correlations(kind: str, k: int) -> dict[str, Draw | float]:
    return _over_zoos(k, lambda s, r: correlation_interval(s, r, kind), partial(_correlation, kind))


def _resampled(method: str, k: int) -> dict[str, Draw | float]:
    return _over_zoos(k, lambda s, r: resampled_interval(s, r, method=method), partial(_correlation, "pearson"))


def _gaps(
    k: int, interval: Callable[[np.ndarray], Interval | None], of: Callable[[np.ndarray], np.ndarray]
) -> dict[str, Draw | float]:
    """Mean over policies of a function of learned - true."""

    @lru_cache
    def truth(zoo: str) -> float:
        learned, true = _population(zoo)
        return float(of(learned - true).mean())

    return _over_zoos(k, lambda s, r: interval(of(s - r)), truth)


def _slopes(k: int) -> dict[str, Draw | float]:
    @lru_cache
    def truth(zoo: str) -> float:
        learned, true = _population(zoo)
        return slope_interval(true, learned)[0]

    return _over_zoos(k, lambda s, r: slope_interval(r, s)[1], truth)


def _outcomes(rng: np.random.Generator, k: int, episodes: int, spread: float) -> tuple[np.ndarray, ...]:
    """True rates (K,), learned rates (K,), and outcomes of both, (K, E) each."""
    true, learned = rates(rng, k, spread)
    return true, learned, *((rng.random((k, episodes)) < p[:, None]).astype(float) for p in (true, learned))


def _violations(k: int, episodes: int) -> dict[str, Draw | float]:
    """The truth is the mean over evaluations anew of the same policies."""

    def at(spread: float) -> Draw:
        def draw(rng: np.random.Generator) -> tuple[Interval | None, float]:
            true, learned, r, s = _outcomes(rng, k, episodes, spread)
            again, other = (rng.binomial(episodes, p, size=(500, k)) / episodes for p in (learned, true))
            return mmrv_interval(s, r, resamples=1000), float(mmrv(again, other).mean())

        return draw

    return {f"spread {s}": at(s) for s in SPREADS}


def _regrets(k: int, episodes: int, picks: int) -> dict[str, Draw | float]:
    """The truth is the regret of the policies picked, at their true rates."""

    def at(spread: float) -> Draw:
        def draw(rng: np.random.Generator) -> tuple[Interval | None, float]:
            true, _, r, s = _outcomes(rng, k, episodes, spread)
            return regret_interval(s.mean(1), r, picks), regret_at_k(s.mean(1), true, picks) or 0.0

        return draw

    return {f"spread {s}": at(s) for s in SPREADS}


def _over_policies(k: int, of: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> dict[str, Draw | float]:
    """Resampling policies: the truth is the mean over sets of k policies."""

    def at(spread: float) -> Draw:
        zoo, fixed = _rates(spread), np.random.default_rng(0)
        truth = float(np.mean([of(*zoo(fixed, k)) for _ in range(2000)]))

        def draw(rng: np.random.Generator) -> tuple[Interval | None, float]:
            learned, true = zoo(rng, k)

            def statistic(weights: np.ndarray) -> np.ndarray:
                drawn = [np.repeat(np.arange(k), w.astype(int)) for w in weights]
                return np.array([of(learned[i], true[i]) for i in drawn])

            return bootstrap(statistic, k, resamples=200, method="percentile"), truth

        return draw

    return {f"spread {s}": at(s) for s in SPREADS}


def _regret(learned: np.ndarray, true: np.ndarray) -> np.ndarray:
    return np.array(regret_at_k(learned, true, 1) or 0.0)
