"""Can the model keep bad actions from being taken, without keeping good ones, too?"""

from __future__ import annotations

from typing import Any

import numpy as np

from wmbench.measures.numbers import Definition, Numbers
from wmbench.measures.result import Arrays, Measure, Result
from wmbench.measures.sums import Sums
from wmbench.statistics import bootstrap, paired_difference
from wmbench.statistics.clustered import logit_interval, proportion_interval
from wmbench.statistics.selective import Ranking

RISKS = (0.01, 0.05)
_BAD = "bad end: terminated without success within K steps, or a return below the quantile where tasks never terminate"
FILTER = {
    "augrc": Definition("1", "lower", f"area under the generalised risk-coverage curve; {_BAD}"),
    "augrc-skill": Definition("1", "higher", "1 - AUGRC / AUGRC of accepting at random, at most 1 - base rate"),
    **{
        f"coverage-at-risk-{r * 100:g}": Definition(
            "1", "higher", f"largest share accepted by a threshold with at most {r * 100:g} % bad ends among them"
        )
        for r in RISKS
    },
    **{
        f"false-reject-{r * 100:g}": Definition(
            "1", "lower", f"share of harmless candidates rejected by that threshold, for {r * 100:g} %"
        )
        for r in RISKS
    },
}
_LOOP = "policy with the filter less without, same starts and random numbers"
LOOP = {
    "loop-return-gain": Definition("reward", "higher", f"return, {_LOOP}"),
    "loop-success-gain": Definition("1", "higher", f"success, {_LOOP}"),
    "loop-failure-gain": Definition("1", "lower", f"bad ends of episodes, {_LOOP}"),
    "intervention-rate": Definition("1", "none", "share of the policy's actions that the filter rejected"),
}
DEFINITIONS = {**FILTER, **LOOP}
RANDOM = "accept-at-random"


def badly(arrays: Arrays) -> np.ndarray:
    """Which candidates ended badly, (N, B) bool.

    Those that terminated without success; where the task never terminates, those whose true return lies below the
    declared quantile of the returns of all candidates.

    Args:
        arrays: ``terminates`` () bool, ``failed`` (N, B) bool, ``true`` (N, B), ``quantile`` ().
    """
    if arrays["terminates"]:
        return np.asarray(arrays["failed"], dtype=bool)
    return np.less(arrays["true"], np.quantile(arrays["true"], float(arrays["quantile"])))


def filtering(arrays: Arrays) -> list[Result]:
    """Score models as filters of actions.

    A candidate is rejected if its score exceeds a threshold. Risk is the share of bad ends among what is accepted,
    coverage the share that is accepted. Candidates whose score is not finite are judged as wrong as can be: safe if
    they end badly, dangerous otherwise. Accepting at random stands beside the models as a subject of its own; it is
    also what accepting and rejecting everything interpolate.

    Args:
        arrays: ``subject`` (M,), ``role`` (M,), ``terminates`` () bool, ``quantile`` (), ``failed`` (N, B) bool,
            ``true`` (N, B) returns, ``score``, ``doubt`` (M, N, B), ``has_score``, ``has_doubt`` (M,) bool, ``episode``
            (N,); of the loop from E starts in A arms ``arm`` (A,) beginning with ``unfiltered``, ``filtered``,
            ``loop_return``, ``loop_success``, ``loop_failed``, ``loop_steps``, ``loop_interventions`` (M, A, E),
            ``loop_episode`` (E,), ``threshold`` (M,), ``success_rule`` () str.

    Returns:
        For each subject ``augrc``, ``augrc-skill``, ``coverage-at-risk-5``, ``false-reject-5`` and their like, the same
        of its uncertainty signal as ``augrc:uncertainty``; ``loop-return-gain``, ``loop-success-gain``,
        ``loop-failure-gain`` and ``intervention-rate`` of the filter in the loop, of a random one
        (``loop-return-gain:random``) and of one that rejects everything (``:reject-all``).
    """
    bad = badly(arrays)
    results: list[Result] = []
    for m, subject in enumerate(arrays["subject"]):
        numbers = Numbers("filter", str(subject), DEFINITIONS, {"role": str(arrays["role"][m])})
        if arrays["has_score"][m]:
            _screen(numbers, "", arrays["score"][m], bad, arrays["episode"])
            _loop(numbers, arrays, m)
        else:
            numbers.none(DEFINITIONS, "the model predicts neither endings nor, for tasks without them, rewards")
        if arrays["has_doubt"][m]:
            _screen(numbers, ":uncertainty", arrays["doubt"][m], bad, arrays["episode"])
        results += numbers.results
    numbers = Numbers("filter", RANDOM, DEFINITIONS, {"role": "baseline"})
    _screen(numbers, "", np.zeros(bad.shape), bad, arrays["episode"])
    return results + numbers.results


def _screen(numbers: Numbers, suffix: str, score: np.ndarray, bad: np.ndarray, episode: np.ndarray) -> None:
    """One score, offline."""
    loss = bad.ravel().astype(np.float64)
    n, base = len(loss), float(loss.mean()) if loss.size else 0.0
    if base in (0.0, 1.0):
        why = f"{'every' if base else 'no'} candidate ended badly"
        numbers.none([f"{name}{suffix}" for name in FILTER], why, n)
        return
    lost = ~np.isfinite(score.ravel())
    value = np.where(lost, np.where(bad.ravel(), -np.inf, np.inf), score.ravel())
    ranking = Ranking(value, np.repeat(episode, bad.shape[1]))
    flat = Ranking(np.zeros(n), np.repeat(episode, bad.shape[1]))
    c, n_invalid = ranking.clusters, int(lost.sum())
    coverage, risk = ranking.risk_coverage(loss)
    harmless = np.rint(coverage * n) - np.rint(risk * coverage * n)  # among what is accepted
    common: dict[str, Any] = {
        "n_episodes": c,
        "base_risk": base,
        "accept_all": {"coverage": 1.0, "risk": base, "false_reject": 0.0},
        "reject_all": {"coverage": 0.0, "risk": 0.0, "false_reject": 1.0},
    }
    shown = np.unique(np.linspace(0, len(coverage) - 1, 50).round().astype(int))
    curve = {"coverage": coverage[shown].tolist(), "risk": risk[shown].tolist()}
    area = float(ranking.augrc(loss)[0])
    interval = logit_interval(lambda w: ranking.augrc(loss, w), c)
    numbers.add(f"augrc{suffix}", area, interval, n, n_invalid, **common, curve=curve)

    def skill(w: np.ndarray) -> np.ndarray:
        level = flat.augrc(loss, w)
        return 1 - np.divide(ranking.augrc(loss, w), level, out=np.ones_like(level), where=level > 0)

    interval = bootstrap(skill, c, bounds=(-1.0, 1.0))
    numbers.add(f"augrc-skill{suffix}", float(skill(np.ones((1, c)))[0]), interval, n, n_invalid, **common)
    for target in RISKS:
        accepted = float(ranking.coverage_at_risk(loss, target)[0])
        around = ranking.coverage_at_risk_interval(loss, target)
        numbers.add(f"coverage-at-risk-{target * 100:g}{suffix}", accepted, around, n, n_invalid, **common)

        def rejected(covered: float) -> float:
            """Share of harmless candidates that are rejected where so many candidates are accepted."""
            at = int(np.searchsorted(coverage, covered - 1e-12))
            return 1 - float(harmless[at]) / (n - int(loss.sum())) if covered > 0 else 1.0

        interval = None if around is None else type(around)(rejected(around.high), rejected(around.low))
        numbers.add(f"false-reject-{target * 100:g}{suffix}", rejected(accepted), interval, n, n_invalid, **common)


def _loop(numbers: Numbers, arrays: Arrays, m: int) -> None:
    """The filter in the loop, and two trivial ones."""
    episode, n = arrays["loop_episode"], len(arrays["loop_episode"])
    if not n:
        numbers.none(LOOP, "no policy was recorded with the filter in the loop")
        return
    sums, ones = Sums(episode), np.ones(n)
    returns, won = arrays["loop_return"][m], arrays["loop_success"][m]  # (A, E)
    ended, steps = arrays["loop_failed"][m], arrays["loop_steps"][m]
    limit = float(arrays["threshold"][m])
    common: dict[str, Any] = {"n_episodes": sums.clusters, "threshold": limit if np.isfinite(limit) else None}
    for a, arm in enumerate(arrays["arm"].tolist()[1:], start=1):
        suffix = "" if arm == "filtered" else f":{arm}"
        value, interval = sums.ratio(returns[a] - returns[0], ones)
        means = {"with_filter": float(returns[a].mean()), "without": float(returns[0].mean())}
        numbers.add(f"loop-return-gain{suffix}", value, interval, n, 0, **common, means=means)
        outcomes = {"success": won, "failure": ended}
        if not arrays["terminates"]:
            del outcomes["failure"]
            numbers.none([f"loop-failure-gain{suffix}"], "the task never terminates", n)
        for name, outcome in outcomes.items():
            interval = paired_difference(outcome[a], outcome[0])
            gain = float(outcome[a].mean() - outcome[0].mean())
            means = {"with_filter": float(outcome[a].mean()), "without": float(outcome[0].mean())}
            rule = str(arrays["success_rule"])
            numbers.add(f"loop-{name}-gain{suffix}", gain, interval, n, 0, **common, means=means, rule=rule)
        count = arrays["loop_interventions"][m, a]
        interval = proportion_interval(sums(count), sums(steps[a]))
        numbers.add(f"intervention-rate{suffix}", float(count.sum() / steps[a].sum()), interval, n, 0, **common)


MEASURE = Measure(
    name="filter",
    question="Can the model keep bad actions from being taken without keeping good ones, too?",
    unit="1",
    direction="lower",
    range=(0.0, 1.0),
    needs=(
        "subject",
        "role",
        "terminates",
        "quantile",
        "failed",
        "true",
        "score",
        "doubt",
        "has_score",
        "has_doubt",
        "episode",
        "arm",
        "threshold",
        "loop_return",
        "loop_success",
        "loop_failed",
        "loop_steps",
        "loop_interventions",
        "loop_episode",
        "success_rule",
    ),
    source="Traub et al. 2024 (AUGRC), https://arxiv.org/abs/2407.01032; filter in the loop (ours); docs/measures.md",
    function=filtering,
)
