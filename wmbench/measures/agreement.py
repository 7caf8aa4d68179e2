"""Does a policy evaluation in the learned simulator agree with the true one: in rank, in choice, and in value?"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from wmbench.measures.evaluations import Pair, pairs_of
from wmbench.measures.numbers import Definition, Numbers
from wmbench.measures.result import Arrays, Measure, Result, finite_or_none, json_list
from wmbench.statistics import Interval, bootstrap_interval
from wmbench.statistics.comparison import t_interval
from wmbench.statistics.correlation import (
    KINDS,
    correlation_interval,
    resampled_interval,
    slope_interval,
)
from wmbench.statistics.permutation import permutation_p
from wmbench.statistics.ranking import MMRV_VARIANTS, mmrv, regret_at_k
from wmbench.statistics.ranking_intervals import mmrv_interval, regret_interval

EVIDENCE = 8
"""Policies below which a correlation is no evidence: with three, every sixth order is perfect by chance."""

Estimator = Callable[[Pair], tuple[float | None, Interval | None]]
LEVERAGE = 0.1
NEAR = 0.1
PICKS = (1, 3)
NO_ESTIMATE = "policies without a finite estimate have no {}: "
NO_EPISODES = "no interval: that needs two outcomes or more per policy"

_REGRET = {
    "": ("range", "expected", "(best - best picked) / (best - worst), mean over ties"),
    "-worst": ("range", "worst", "(best - best picked) / (best - worst), worst case over ties"),
    "-raw": ("raw", "expected", "best - best picked, mean over ties"),
    "-deep-ope": ("deep-ope", "expected", "scaled by the range of the true values, estimates cut at 2, mean over ties"),
    "-top-k-mean": ("top-k-mean", "expected", "mean of the true best k - mean of the k picked, mean over ties"),
}
_MMRV = {
    "sym": "ties in the estimate that differ in truth violate",
    "lt": "the paper's <",
    "gt": "the released code's >",
    "product": "ties never violate",
    "sim-gap": "the released code with swapped arguments, gap between estimates",
}


def agreement(arrays: Arrays) -> list[Result]:
    """Compare what policies score in learned simulators with what they score in the true one.

    With S the mean outcome of each policy in the learned and R in the true simulator. A policy with an invalid
    episode in the learned simulator has the estimate minus infinity and ranks last, unless ``worst`` says what such
    an episode is worth; Pearson's correlation, bias, error and slope then have no value. The policies are the items:
    cells of policy and task are refused by their repeated names (average over tasks first).

    Args:
        arrays: ``subject`` (M,) str, learned simulators; ``policy`` (K,) str, distinct; ``horizon`` (H,) int,
            ascending, the last being the one that counts; ``true`` (H, K, E) and ``learned`` (M, H, K, E') float64,
            outcomes of single episodes (returns or successes up to each horizon; NaN if invalid), or means alone
            with E = 1; ``worst`` () or (H,) float64, what an invalid episode is worth, NaN if unknown; ``unit`` () str.

    Returns:
        For each subject ``pearson``, ``spearman``, ``kendall``, ``mmrv`` and its variants, ``regret@1``, ``regret@3``
        and their variants, ``bias``, ``mae``, ``slope``, ``winners``.

    Raises:
        DatasetError: Repeated policies, shapes that do not fit, or an invalid true episode whose worth is unknown.
    """
    horizon, results = np.asarray(arrays["horizon"]), []
    for subject, pairs in zip(arrays["subject"], pairs_of(arrays), strict=True):
        numbers = Numbers("agreement", str(subject), _definitions(str(arrays["unit"])), {"horizon": int(horizon[-1])})
        _correlations(numbers, pairs, horizon)
        _ranking(numbers, pairs, horizon)
        _values(numbers, pairs[-1])
        _winners(numbers, pairs[-1])
        results += numbers.results
    return results


def _definitions(unit: str) -> dict[str, Definition]:
    """Every number this measure gives."""
    bounds = "interval from bounds on policies' true means over episodes"
    again = "interval of an evaluation of the same policies, bootstrap over episodes"
    found = {
        "pearson": Definition("1", "higher", "Pearson's correlation of policy means, Fisher's z interval"),
        "spearman": Definition("1", "higher", "Spearman's, wider of Bonett and Wright's and a bootstrap over policies"),
        "kendall": Definition("1", "higher", "Kendall's tau-b, wider of Fieller's and a bootstrap over policies"),
        "bias": Definition(unit, "none", "mean of learned - true over policies, Student's interval"),
        "mae": Definition(unit, "lower", "mean of |learned - true| over policies, bootstrap over policies"),
        "slope": Definition("1", "none", "least squares of learned on true, 1 is ideal, Student's interval"),
        "winners": Definition("1", "higher", "share of the learned winner set that is in the true one"),
    }
    for variant in MMRV_VARIANTS:
        found[_mmrv_name(variant)] = Definition(
            unit, "lower", f"mean maximum rank violation, {_MMRV[variant]}, {again}"
        )
    for k in PICKS:
        for suffix, (variant, _, words) in _REGRET.items():
            scale = unit if variant in ("raw", "top-k-mean") else "1"
            found[f"regret@{k}{suffix}"] = Definition(scale, "lower", f"{words}, {bounds}")
    return found


def _mmrv_name(variant: str) -> str:
    return "mmrv" if variant == "sym" else f"mmrv-{variant}"


def _correlations(numbers: Numbers, pairs: list[Pair], horizon: np.ndarray) -> None:
    """Pearson's, Spearman's and Kendall's, with what they rest on."""
    pair = pairs[-1]
    k, lost = len(pair.policy), int((pair.invalid > 0).sum())
    for kind, correlation in KINDS.items():
        value, interval, curve = _at_every(pairs, horizon, functools.partial(_correlation, kind))
        if value is None:
            numbers.add(kind, None, None, k, lost, reason=_undefined(pair, kind), evidence=False, **curve)
            continue
        s, r = pair.estimate, pair.truth
        moved = correlation(s, r, 1.0 - np.eye(k)) - value  # without each policy in turn
        flagged = {p: finite_or_none(d) for p, d in zip(pair.policy, moved, strict=True) if not abs(d) <= LEVERAGE}
        p, floor = permutation_p(s, r, kind) or (1.0, 1.0)
        ordered = np.sort(r)
        near = int((np.diff(ordered) <= NEAR * (ordered[-1] - ordered[0])).sum())
        cautions = [f"{k} policies, and fewer than {EVIDENCE} are no evidence"] if k < EVIDENCE else []
        cautions += [f"it rests on {', '.join(flagged)}"] if flagged else []
        cautions += [] if near else ["no two policies are close, so it measures how far apart they were chosen"]
        resampled = resampled_interval(s, r, kind, method="bca" if kind == "pearson" else "percentile")
        numbers.add(
            kind,
            value,
            interval,
            k,
            lost,
            reason="; ".join(cautions) or None,
            evidence=k >= EVIDENCE,
            permutation_p=p,
            permutation_floor=floor,
            bootstrap=list(resampled) if resampled else None,
            leverage=flagged,
            near_ties=near,
            **curve,
        )


def _correlation(kind: str, pair: Pair) -> tuple[float | None, Interval | None]:
    if kind == "pearson" and not pair.finite.all():
        return None, None
    value = finite_or_none(float(KINDS[kind](pair.estimate, pair.truth)[0]))
    return value, None if value is None else correlation_interval(pair.estimate, pair.truth, kind)


def _undefined(pair: Pair, kind: str) -> str:
    """Why there is no correlation."""
    if kind == "pearson" and pair.unestimated:
        return NO_ESTIMATE.format("Pearson's correlation") + ", ".join(pair.unestimated)
    if len(pair.policy) < 2:
        return "a correlation needs two policies"
    same = "true" if (pair.truth == pair.truth[0]).all() else "learned"
    return f"all policies have the same {same} value, so there is nothing to correlate"


def _ranking(numbers: Numbers, pairs: list[Pair], horizon: np.ndarray) -> None:
    """Rank violations and regret."""
    pair = pairs[-1]
    k, lost = len(pair.policy), int((pair.invalid > 0).sum())
    for variant in MMRV_VARIANTS:
        value, interval, curve = _at_every(pairs, horizon, functools.partial(_violation, variant))
        reason = None if interval else NO_EPISODES
        if value is None:
            reason = NO_ESTIMATE.format("gap between estimates") + ", ".join(pair.unestimated)
        numbers.add(_mmrv_name(variant), value, interval, k, lost, reason=reason, **curve)
    for n_picked in (n for n in PICKS if n <= k):
        for suffix in _REGRET:
            value, interval, curve = _at_every(pairs, horizon, functools.partial(_regret, n_picked, suffix))
            reason = None if interval else NO_EPISODES
            if value is None:
                reason = "all policies have the same true value, so no choice is worse than another"
            numbers.add(f"regret@{n_picked}{suffix}", value, interval, k, lost, reason=reason, **curve)


def _violation(variant: str, pair: Pair) -> tuple[float | None, Interval | None]:
    if variant == "sim-gap" and not pair.finite.all():
        return None, None
    value = float(mmrv(pair.estimate, pair.truth, variant))
    return value, mmrv_interval(pair.learned, pair.true, variant)


def _regret(k: int, suffix: str, pair: Pair) -> tuple[float | None, Interval | None]:
    variant, ties, _ = _REGRET[suffix]
    value = regret_at_k(pair.estimate, pair.truth, k, variant=variant, ties=ties)
    if value is None:
        return None, None
    estimate = pair.estimate
    if variant == "deep-ope":
        variant, estimate = "range", np.minimum(estimate, 2 * np.ptp(pair.truth) + pair.truth.min())
    return value, regret_interval(estimate, pair.true, k, variant=variant, ties=ties)


def _at_every(pairs: list[Pair], horizon: np.ndarray, at: Estimator) -> tuple[float | None, Interval | None, Any]:
    """A number and its interval at the last horizon, and details that hold its curve where there are several."""
    found = [at(pair) for pair in pairs]
    ends = [interval or (None, None) for _, interval in found]
    curve = {
        "horizon": horizon.tolist(),
        "value": [value for value, _ in found],
        "low": [low for low, _ in ends],
        "high": [high for _, high in ends],
    }
    return *found[-1], {"curve": curve} if len(pairs) > 1 else {}


def _values(numbers: Numbers, pair: Pair) -> None:
    """How far the values themselves are off, whatever their order, and the table of all policies."""
    k, lost = len(pair.policy), int((pair.invalid > 0).sum())
    s, r = pair.estimate, pair.truth
    table: dict[str, Any] = {"policy": list(pair.policy), "true": json_list(r), "learned": json_list(s)}
    table["invalid"] = pair.invalid.tolist()
    for name, outcomes in (("true", pair.true), ("learned", pair.learned)):
        ends = [t_interval(row) if np.isfinite(row).all() else None for row in outcomes]
        table[f"{name}_interval"] = [list(one) if one else None for one in ends]
    if pair.unestimated:
        why = NO_ESTIMATE.format("error") + ", ".join(pair.unestimated)
        for name in ("bias", "mae", "slope"):
            numbers.add(name, None, None, k, lost, reason=why, table=table)
        return
    gap = s - r
    numbers.add("bias", float(gap.mean()), t_interval(gap), k, lost, table=table)
    numbers.add("mae", float(np.abs(gap).mean()), bootstrap_interval(np.abs(gap), bounds=(0.0, np.inf)), k, lost)
    if (r == r[0]).all():
        numbers.add("slope", None, None, k, lost, reason="all policies have the same true value")
        return
    slope, interval = slope_interval(r, s)
    reason = None if interval else "no interval: that needs three policies"
    numbers.add("slope", slope, interval, k, lost, reason=reason)


def _winners(numbers: Numbers, pair: Pair) -> None:
    """Do those who cannot be told from the best in the learned simulator belong to those in the true one?"""
    k, lost = len(pair.policy), int((pair.invalid > 0).sum())
    bounds = pair.bounds()
    if bounds is None:
        numbers.add("winners", None, None, k, lost, reason="winner sets need two outcomes or more per policy")
        return
    sets = []
    for mean, (low, high) in zip((pair.estimate, pair.truth), bounds, strict=True):
        sets.append({p for p, top in zip(pair.policy, high, strict=True) if top >= low[mean.argmax()]})
    learned, true = sets
    shared = learned & true
    verdict = "robustly correct" if learned <= true else "possibly correct" if shared else "wrong"
    share = len(shared) / len(learned)
    details = {"verdict": verdict, "learned": sorted(learned), "true": sorted(true)}
    numbers.add("winners", share, None, k, lost, reason="a verdict, without an interval", **details)


MEASURE = Measure(
    name="agreement",
    question="Would one rank, choose and score policies in the learned simulator as in the true one?",
    unit="1",
    direction="higher",
    range=(-1.0, 1.0),
    needs=("subject", "policy", "horizon", "true", "learned", "worst", "unit"),
    source="Li et al. 2024 (arXiv 2405.05941), Fu et al. 2021 (arXiv 2103.16596); docs/measures.md",
    function=agreement,
)
