"""Can the model rank short action sequences from the same state, whatever it gets wrong over long ones?"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy import stats

from wmbench.measures.numbers import Definition, Numbers
from wmbench.measures.result import Arrays, Measure, Result
from wmbench.measures.sums import Sums
from wmbench.statistics.clustered import proportion_interval
from wmbench.statistics.ranking import picked, regret_at_k

HORIZONS = (1, 3, 5, 10, 20, 50)
MAIN = 10
TOP = (1, 3)
LEAST_SPREAD = 1e-9
"""Starts whose true returns differ by less, relative to their size, are skipped: there is nothing to rank."""

_OF = "over best less mean true return, mean over starts"
RANKING = {
    "spearman": Definition("1", "higher", "rank correlation of imagined and true return, mean over starts"),
    **{
        f"regret-{k}": Definition("1", "lower", f"best true return less the best among the model's top {k}, {_OF}")
        for k in TOP
    },
    **{f"hit-{k}": Definition("1", "higher", f"chance that the truly best is among the model's top {k}") for k in TOP},
}
PLANNER = {
    "planner-return": Definition("reward", "higher", "return of a planner that acts, planning in the model"),
    "planner-success": Definition("1", "higher", "success of a planner that acts, planning in the model"),
}
DEFINITIONS = {**RANKING, **PLANNER}


def ranking(arrays: Arrays) -> list[Result]:
    """Compare rankings of candidates from the same start, by horizon and by where the candidates come from.

    Ties are never broken: every number is the mean over their orders, and the worst one of the regret is in the
    details. A constant model has rank correlation 0 and ``regret-1`` 1, the true one 1 and 0. Candidates whose imagined
    return is not finite are ranked as wrong as can be. Starts whose true returns do not differ are skipped and counted.
    Our definition.

    Args:
        arrays: ``subject`` (M,), ``role`` (M,), ``has_reward`` (M,) bool, ``source`` (S,), ``true`` and ``imagined``
            (M, S, N, B, K) returns after 1 to K steps, ``episode`` (N,); of planners from E starts that replan after
            each of R numbers of steps ``replan`` (R,) int, ``plan_return``, ``plan_success``, ``plan_planless``
            (M, E, R), ``random_return``, ``recorded_return``, ``plan_episode`` (E,), ``success_rule`` () str.

    Returns:
        For each subject ``spearman``, ``regret-1``, ``regret-3``, ``hit-1``, ``hit-3`` of the first source after ten
        steps, the same as ``spearman:elite-5`` for the others, and ``planner-return:5``, ``planner-success:5`` by
        replan interval.
    """
    results: list[Result] = []
    steps = arrays["true"].shape[-1]
    horizons = [h for h in HORIZONS if h <= steps]
    main = max((h for h in horizons if h <= MAIN), default=0)
    for m, subject in enumerate(arrays["subject"]):
        numbers = Numbers("ranking", str(subject), DEFINITIONS, {"role": str(arrays["role"][m])})
        if not arrays["has_reward"][m]:
            numbers.none(DEFINITIONS, "the model predicts no reward, so it cannot rank by return")
            results += numbers.results
            continue
        for s, source in enumerate(arrays["source"]):
            for h in sorted(horizons, key=lambda h: h != main):
                suffix = "" if (s, h) == (0, main) else f":{source}-{h}"
                imagined, true = (arrays[k][m, s, :, :, h - 1] for k in ("imagined", "true"))
                _rank(numbers, suffix, imagined, true, arrays["episode"], {"source": str(source), "horizon": h})
        _planners(numbers, arrays, m)
        results += numbers.results
    return results


def as_wrong_as_can_be(imagined: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Scores in the order of the imagined returns, in which those that are not finite rank opposite to the truth.

    Those below the median true return come first of all, the others last, each from the wrong end.

    Args:
        imagined: (B,).
        true: (B,) finite.
    """
    lost = ~np.isfinite(imagined)
    if not lost.any():
        return imagined
    score = np.empty(len(true))
    score[~lost] = stats.rankdata(imagined[~lost])
    beyond = len(true) + stats.rankdata(-true)  # larger for what is worse
    high = true > np.median(true)
    score[lost] = np.where(high, beyond - 3 * len(true), beyond)[lost]
    return score


def rank_correlation(score: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Spearman's correlation with mid-ranks of each row, (N, B) twice to (N,); 0 where a score is constant."""
    x, y = (stats.rankdata(a, axis=1) for a in (score, true))
    x, y = x - x.mean(1, keepdims=True), y - y.mean(1, keepdims=True)
    scale = np.sqrt((x * x).sum(1) * (y * y).sum(1))
    rho = np.divide((x * y).sum(1), scale, out=np.zeros(len(x)), where=scale > 0)
    return np.clip(rho, -1.0, 1.0)


def hit(score: np.ndarray, true: np.ndarray, k: int) -> float:
    """Chance that one of the truly best is among the k largest scores, over all orders of tied scores.

    Args:
        score: (B,).
        true: (B,) finite.
        k: 1 to B.
    """
    certain, tied = picked(score, k)
    best = true == true.max()
    if best[certain].any():
        return 1.0
    places = k - len(certain)
    return 1.0 - math.comb(int((~best[tied]).sum()), places) / math.comb(len(tied), places)


def _rank(
    numbers: Numbers,
    suffix: str,
    imagined: np.ndarray,
    true: np.ndarray,
    episode: np.ndarray,
    common: dict[str, Any],
) -> None:
    """One source and horizon: (N, B) returns."""
    top, low = true.max(1, initial=-np.inf), true.min(1, initial=np.inf)
    varies = top - low > LEAST_SPREAD * np.maximum(1.0, np.abs(true).max(1, initial=0.0))
    skipped = int((~varies).sum())
    n = len(true) - skipped
    common = {**common, "skipped": skipped, "candidates": true.shape[1]}
    if not n:
        why = f"the true returns of the candidates do not differ from any of the {skipped} starts"
        numbers.none([f"{name}{suffix}" for name in RANKING], why, skipped)
        return
    imagined, true, episode = imagined[varies], true[varies], episode[varies]
    n_invalid = int((~np.isfinite(imagined)).any(1).sum())
    score = np.stack([as_wrong_as_can_be(i, t) for i, t in zip(imagined, true, strict=True)])
    sums, ones = Sums(episode), np.ones(n)
    common["n_episodes"] = sums.clusters
    rho = rank_correlation(score, true)
    value, interval = sums.ratio(rho, ones, bounds=(-1.0, 1.0))
    median, least = float(np.median(rho)), float(rho.min())
    numbers.add(f"spearman{suffix}", value, interval, n, n_invalid, **common, median=median, worst_start=least)
    spread = true.max(1) - true.mean(1)
    for k in (k for k in TOP if k <= true.shape[1]):
        regret, worst = (_regret(score, true, k, ties) / spread for ties in ("expected", "worst"))
        value, interval = sums.ratio(regret, ones, bounds=(0.0, float(true.shape[1])))
        numbers.add(f"regret-{k}{suffix}", value, interval, n, n_invalid, **common, worst_ties=float(worst.mean()))
        hits = np.array([hit(s, t, k) for s, t in zip(score, true, strict=True)])
        interval = proportion_interval(sums(hits), sums(ones))
        numbers.add(f"hit-{k}{suffix}", float(hits.mean()), interval, n, n_invalid, **common)


def _regret(score: np.ndarray, true: np.ndarray, k: int, ties: str) -> np.ndarray:
    """Regret of the top k of each row, (N,) in units of reward."""
    return np.array([regret_at_k(s, t, k, variant="raw", ties=ties) for s, t in zip(score, true, strict=True)])


def _planners(numbers: Numbers, arrays: Arrays, m: int) -> None:
    """Planners that act in the truth, by replan interval."""
    episode, n = arrays["plan_episode"], len(arrays["plan_episode"])
    if not n:
        numbers.none(PLANNER, "no planner was recorded")
        return
    sums, ones = Sums(episode), np.ones(n)
    lost = arrays["plan_planless"][m]  # (E, R)
    acted = arrays["plan_return"][arrays["has_reward"]]  # without rewards nobody drove, and zeros are no returns
    every = [acted.transpose(1, 0, 2).reshape(n, -1), arrays["random_return"][:, None]]
    worst = np.concatenate(every, axis=1).min(1, keepdims=True)
    returns = np.where(lost, worst, arrays["plan_return"][m])
    common: dict[str, Any] = {
        "n_episodes": sums.clusters,
        "random": float(arrays["random_return"].mean()),
        "recorded": float(arrays["recorded_return"].mean()),
        "rule": str(arrays["success_rule"]),
    }
    for r, replan in enumerate(arrays["replan"].tolist()):
        n_invalid = int(lost[:, r].sum())
        value, interval = sums.ratio(returns[:, r], ones)
        numbers.add(f"planner-return:{replan}", value, interval, n, n_invalid, **common, replan=replan)
        won = arrays["plan_success"][m, :, r] & ~lost[:, r]
        interval = proportion_interval(sums(won), sums(ones))
        numbers.add(f"planner-success:{replan}", float(won.mean()), interval, n, n_invalid, **common, replan=replan)


MEASURE = Measure(
    name="ranking",
    question="Does the model rank short action sequences from the same state as the true simulator does?",
    unit="1",
    direction="higher",
    range=(-1.0, 1.0),
    needs=(
        "subject",
        "role",
        "has_reward",
        "source",
        "true",
        "imagined",
        "episode",
        "replan",
        "plan_return",
        "plan_success",
        "plan_planless",
        "random_return",
        "recorded_return",
        "plan_episode",
        "success_rule",
    ),
    source="Spearman 1904; regret@k of candidates from one start (our definition); docs/measures.md",
    function=ranking,
)
