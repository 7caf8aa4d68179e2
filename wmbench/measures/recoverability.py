"""Can the action still be read off what a model imagines, as it can be read off what really happens?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from wmbench.measures.numbers import Definition, Numbers
from wmbench.measures.result import Arrays, Measure, Result, json_list
from wmbench.statistics import Interval, bootstrap, resample_weights
from wmbench.statistics.bootstrap import STUDENTISED_UP_TO, Statistic

MAIN = "elsewhere"
LEAST_CEILING = 0.1
"""Below this share of the actions' variance, read off true transitions, an inverse model says nothing about others."""

SETTING = "one step from true states, actions in half widths of their box, R2 about the train split's mean action"
DEFINITIONS = {
    "recoverability": Definition("1", "higher", f"R2 of g(s, f(s, a)) over R2 of g(s, s'); {SETTING}"),
    "r2-model": Definition("1", "higher", f"R2 of g(s, f(s, a)); {SETTING}"),
    "r2-true": Definition("1", "none", f"R2 of g(s, s'), the ceiling; {SETTING}"),
    "fooled": Definition(
        "1", "none", "root mean variance of g's members on predicted next observations over that on true ones"
    ),
}


@dataclass(frozen=True)
class Sums:
    """Sums of squares of C episodes, over transitions: of actions in half widths of their box.

    Attributes:
        spread: (C, A) of actions about the train split's mean.
        true: (C, A) of errors of what is recovered from true next observations.
        model: (C, A) of errors of what is recovered from predicted ones.
        variance_true: (C,) of members about their mean, on true next observations.
        variance_model: (C,) the same on predicted ones.
    """

    spread: np.ndarray
    true: np.ndarray
    model: np.ndarray
    variance_true: np.ndarray
    variance_model: np.ndarray

    def r2(self, weights: np.ndarray, error: np.ndarray) -> np.ndarray:
        """1 - error / spread over all dimensions: (R, C) weights to (R,)."""
        spread = weights @ self.spread.sum(1)
        worst = np.where(weights @ error.sum(1) > 0, np.inf, 0.0)
        return 1.0 - np.divide(weights @ error.sum(1), spread, out=worst, where=spread > 0)

    def recoverability(self, weights: np.ndarray) -> np.ndarray:
        """R2 of the model over the ceiling, which is not taken for less than its least: (R, C) to (R,)."""
        spread = weights @ self.spread.sum(1)
        ceiling = np.maximum(spread - weights @ self.true.sum(1), np.maximum(LEAST_CEILING * spread, _TINY))
        return (spread - weights @ self.model.sum(1)) / ceiling

    def fooled(self, weights: np.ndarray) -> np.ndarray:
        """Ratio of disagreements: (R, C) to (R,)."""
        below = weights @ self.variance_true
        above = weights @ self.variance_model
        return np.sqrt(np.divide(above, below, out=np.where(above > 0, np.inf, 1.0), where=below > 0))


_TINY = np.finfo(float).tiny


def recoverability(arrays: Arrays) -> list[Result]:
    """Score what a frozen inverse model g recovers from predicted transitions against what it does from true ones.

    g learned from true transitions (s, a, s') only. With squared errors summed over transitions and dimensions,

        R2_true = R2(a, g(s, s')),  R2_model = R2(a, g(s, f(s, a))),  recoverability = R2_model / R2_true.

    A perfect model has exactly 1. The main numbers are of actions that were recorded elsewhere, so that the state says
    nothing about them: a model that ignores the action then has about 0 or less, however predictable the policy. Those
    of ``:recorded`` are of the actions recorded in the state itself. A predicted observation that is not finite counts
    as an action at the far end of the box, and as members that disagree as far as they can. Intervals resample
    episodes.

    Args:
        arrays: ``subject`` (M,), ``role`` (M,), ``branch`` (B,) of ``elsewhere`` and ``recorded``, ``action_name``,
            ``action_low``, ``action_high``, ``action_mean`` (A,), ``action`` (N, B, A), ``valid`` (N, B) bool,
            ``recovered_true`` (E, N, B, A) and ``recovered`` (M, E, N, B, A) by g's E members, NaN where the prediction
            is not finite, ``episode`` (N,).

    Returns:
        For each subject ``recoverability``, ``r2-model``, ``r2-true`` and ``fooled``, then the same ``:recorded``.
    """
    results: list[Result] = []
    branches = [str(b) for b in arrays["branch"]]
    for m, subject in enumerate(arrays["subject"]):
        numbers = Numbers("recoverability", str(subject), DEFINITIONS, {"role": str(arrays["role"][m])})
        for branch in (MAIN, "recorded"):
            suffix = "" if branch == MAIN else f":{branch}"
            if branch in branches:
                _score(numbers, suffix, arrays, m, branches.index(branch))
            else:
                numbers.none([f"{n}{suffix}" for n in DEFINITIONS], f"no transitions under actions of kind {branch!r}")
        results += numbers.results
    return results


def _score(numbers: Numbers, suffix: str, arrays: Arrays, m: int, b: int) -> None:
    """The four numbers of one kind of actions."""
    rows = np.flatnonzero(arrays["valid"][:, b])
    names = [f"{n}{suffix}" for n in DEFINITIONS]
    n = len(rows)
    lost = ~np.isfinite(arrays["recovered"][m][:, rows, b]).all((0, 2))  # (P,)
    n_invalid = int(lost.sum())
    sums = _sums(arrays, m, b, rows, lost)
    clusters = len(sums.spread)
    if not sums.spread.sum() > 0:
        numbers.none(names, "all actions are the train split's mean", n)
        return
    ones = np.ones((1, clusters))
    ceiling = float(sums.r2(ones, sums.true)[0])
    common: dict[str, Any] = {"ceiling": ceiling, "n_episodes": clusters}
    dims = [str(name) for name in arrays["action_name"]]

    def by_dimension(error: np.ndarray) -> dict[str, float | None]:
        spread = sums.spread.sum(0)
        each = 1.0 - np.divide(error.sum(0), spread, out=np.full(len(dims), np.nan), where=spread > 0)
        return dict(zip(dims, json_list(each), strict=True))

    if ceiling < LEAST_CEILING:
        why = f"the inverse model recovers R2 = {ceiling:.3g} of the actions from true transitions: too little to go by"
        numbers.none(names[:1], why, n)
    else:
        interval = _interval(sums.recoverability, clusters)
        value = float(sums.recoverability(ones)[0])
        numbers.add(names[0], value, interval, n, n_invalid, **common)
    for name, error, bad in ((names[1], sums.model, n_invalid), (names[2], sums.true, 0)):
        interval = _interval(lambda w, e=error: sums.r2(w, e), clusters, 1.0)  # type: ignore[misc]
        value = float(sums.r2(ones, error)[0])
        numbers.add(name, value, interval, n, bad, n_episodes=clusters, by_dimension=by_dimension(error))
    value = float(sums.fooled(ones)[0])
    if math.isfinite(value):
        numbers.add(names[3], value, bootstrap(sums.fooled, clusters, bounds=(0.0, np.inf)), n, n_invalid, **common)
    else:
        numbers.none(names[3:], "the members agree to the last digit on true transitions", n)


def _interval(statistic: Statistic, clusters: int, most: float = np.inf) -> Interval | None:
    """Bootstrap of a share, and of the logarithm of what it lacks to 1: the wider of the two at each end.

    Squared errors of a few episodes are skewed. The plain bootstrap of such a share covered as little as 84 % at a
    nominal 95 %, the two together 93 to 98 % (5 to 50 episodes whose errors differ by factors of up to e).
    """
    plain = bootstrap(statistic, clusters, bounds=(-np.inf, most))
    if plain is None or clusters > STUDENTISED_UP_TO:
        return plain
    weights = np.concatenate([resample_weights(clusters), 1.0 - np.eye(clusters)])
    if not (statistic(weights) < 1.0).all():
        return plain
    low, high = np.exp(np.array(bootstrap(lambda w: np.log(1.0 - statistic(w)), clusters)))
    return Interval(min(plain.low, 1.0 - high), max(plain.high, 1.0 - low))


def _sums(arrays: Arrays, m: int, b: int, rows: np.ndarray, lost: np.ndarray) -> Sums:
    """Gather by episode; what is lost becomes the worst there is."""
    low, high = (arrays[k].astype(np.float64) for k in ("action_low", "action_high"))
    half = (high - low) / 2
    action = arrays["action"][rows, b].astype(np.float64)  # (P, A)
    _, cluster = np.unique(arrays["episode"][rows], return_inverse=True)
    clusters = int(cluster.max(initial=-1)) + 1
    true = arrays["recovered_true"][:, rows, b].astype(np.float64) / half  # (E, P, A)
    model = np.where(lost[:, None], 0.0, arrays["recovered"][m][:, rows, b].astype(np.float64)) / half
    farthest = np.maximum(action - low, high - action) / half
    error = np.where(lost[:, None], farthest, model.mean(0) - action / half)

    def summed(values: np.ndarray) -> np.ndarray:  # (P, ...) to (C, ...)
        out = np.zeros((clusters, *values.shape[1:]))
        np.add.at(out, cluster, values)
        return out

    return Sums(
        summed(((action - arrays["action_mean"]) / half) ** 2),
        summed((true.mean(0) - action / half) ** 2),
        summed(error**2),
        summed(true.var(0).mean(1)),
        summed(np.where(lost, 1.0, model.var(0).mean(1))),
    )


MEASURE = Measure(
    name="recoverability",
    question="Can the action be read off an imagined transition as well as off a true one?",
    unit="1",
    direction="higher",
    range=(None, None),
    needs=(
        "subject",
        "role",
        "branch",
        "action_name",
        "action_low",
        "action_high",
        "action_mean",
        "action",
        "valid",
        "recovered_true",
        "recovered",
        "episode",
    ),
    source="R2 of an inverse model frozen on true transitions, relative to its ceiling; docs/measures.md",
    function=recoverability,
)
