"""Which training method does better over tasks and training seeds, and could the seeds alone have decided it?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from wmbench.errors import DatasetError
from wmbench.measures.numbers import Definition, Numbers
from wmbench.measures.result import Arrays, Measure, Result
from wmbench.statistics import (
    Interval,
    improvement,
    iqm_rows,
    stratified_interval,
    welch_interval,
    wilson,
)
from wmbench.statistics.clustered import proportion_interval
from wmbench.statistics.stratified import skewed_interval, square_and_add, wider

ONE_SEED = "a task with one training seed: over episodes, it speaks of these policies and not of the method"
NO_SEEDS = "no interval: that needs two training seeds or more per task"

DEFINITIONS = {
    "score": Definition("1", "higher", "mean over tasks of the mean over training seeds, Welch's t over seeds"),
    "iqm": Definition("1", "higher", "interquartile mean of all runs, t with a bootstrap of runs within tasks"),
    "optimality-gap": Definition(
        "1", "lower", "mean over tasks of the mean shortfall of runs, Welch's t or bootstrap-t"
    ),
    "score-difference": Definition("1", "higher", "mean over shared tasks, Welch's t over training seeds"),
    "improvement": Definition("1", "higher", "P(run of the first > run of the second) + P(equal) / 2, mean of tasks"),
}


@dataclass(frozen=True)
class Method:
    """The episodes of one method.

    Attributes:
        episodes: Task to one array per training seed, the scores of its episodes.
        n_invalid: Episodes whose score was not finite.
    """

    episodes: dict[str, list[np.ndarray]]
    n_invalid: int

    def runs(self, task: str) -> np.ndarray:
        """(n_t,) mean score of each training seed."""
        return np.array([np.mean(scores) for scores in self.episodes[task]])

    def pooled(self, task: str) -> np.ndarray:
        """Scores of all episodes of a task."""
        return np.concatenate(self.episodes[task])

    def rate(self, tasks: Sequence[str]) -> Interval | None:
        """Interval of the success rate, if every score is 0 or 1: seeds that all agree leave Student's no width."""
        runs = [scores for t in tasks for scores in self.episodes[t]]
        if not all(np.isin(r, (0.0, 1.0)).all() for r in runs):
            return None
        solved, counts = np.array([r.sum() for r in runs]), np.array([len(r) for r in runs])
        return proportion_interval(solved, counts) or wilson(int(solved.sum()), int(counts.sum()))


def methods(arrays: Arrays) -> list[Result]:
    """Score training methods, and compare every two of them on the tasks they share.

    A run is one training seed on one task, and its score the mean over its episodes: runs are what is independent. A
    hierarchical bootstrap over few seeds covers too little (81 % with three), so means have Student's interval over
    seeds. With outcomes of 0 and 1 it is never narrower than Wilson's for an effective number of episodes, nor is that
    of a difference than Newcombe's from those two: three seeds that always succeed do not prove that every seed does.

    Args:
        arrays: Per episode ``subject`` (N,) str, the method, ``task`` (N,) str, ``train_seed`` (N,) int, ``score`` (N,)
            float64 on one scale for all tasks, NaN if invalid; ``worst`` () float64, what an invalid episode scores;
            ``target`` () float64, the score at which a task counts as solved.

    Returns:
        For each method ``score``, ``iqm``, ``optimality-gap``; for each pair ``"first - second"`` ``improvement``
        and ``score-difference``.

    Raises:
        DatasetError: Invalid episodes whose worth is unknown.
    """
    found = _read(arrays)
    results = [r for name, method in found.items() for r in _one(name, method, float(arrays["target"]))]
    for first, second in combinations(found, 2):
        results += _two(f"{first} - {second}", found[first], found[second])
    return results


def _read(arrays: Arrays) -> dict[str, Method]:
    """Episodes by method, task and training seed."""
    score, worst = np.asarray(arrays["score"], dtype=np.float64), float(arrays["worst"])
    invalid = ~np.isfinite(score)
    if invalid.any() and not np.isfinite(worst):
        raise DatasetError(f"methods: {int(invalid.sum())} scores are not finite and `worst` does not say their worth")
    score = np.where(invalid, worst, score)
    subject, task, seed = arrays["subject"], arrays["task"], arrays["train_seed"]
    found = {}
    for name in dict.fromkeys(str(s) for s in subject):
        own = subject == name
        episodes = {
            t: [score[own & (task == t) & (seed == s)] for s in np.unique(seed[own & (task == t)])]
            for t in sorted({str(t) for t in task[own]})
        }
        found[name] = Method(episodes, int((invalid & own).sum()))
    return found


def _one(name: str, method: Method, target: float) -> list[Result]:
    """Score, interquartile mean and optimality gap of one method."""
    tasks = list(method.episodes)
    runs = [method.runs(t) for t in tasks]
    n = sum(len(r) for r in runs)
    common: dict[str, Any] = {"n_episodes": sum(len(method.pooled(t)) for t in tasks), "tasks": tasks}
    numbers = Numbers("methods", name, DEFINITIONS, common)
    interval, reason = welch_interval(runs), None
    if interval is None:
        interval, reason = welch_interval([method.pooled(t) for t in tasks]), ONE_SEED
    if rate := method.rate(tasks):
        interval = wider(interval, rate, (0.0, 1.0))
    value = float(np.mean([r.mean() for r in runs]))
    table = {t: r.tolist() for t, r in zip(tasks, runs, strict=True)}
    numbers.add("score", value, interval, n, method.n_invalid, reason=reason, runs=table)

    why = NO_SEEDS if any(len(r) < 2 for r in runs) else None
    middle = float(iqm_rows(np.concatenate(runs)[None])[0])
    numbers.add("iqm", middle, stratified_interval(runs, iqm_rows), n, method.n_invalid, reason=why)
    short = [np.maximum(target - r, 0.0) for r in runs]
    gap, spread = float(np.mean([s.mean() for s in short])), skewed_interval(short, bounds=(0.0, np.inf))
    numbers.add("optimality-gap", gap, spread, n, method.n_invalid, reason=why, target=target)
    return numbers.results


def _two(name: str, first: Method, second: Method) -> list[Result]:
    """Probability of improvement and difference of two methods, on the tasks that both were run on."""
    tasks = [t for t in first.episodes if t in second.episodes]
    numbers = Numbers("methods", name, DEFINITIONS, {"tasks": tasks})
    if not tasks:
        numbers.none(("improvement", "score-difference"), "they share no task")
        return numbers.results
    runs = [[m.runs(t) for t in tasks] for m in (first, second)]
    n, n_invalid = sum(len(r) for side in runs for r in side), first.n_invalid + second.n_invalid
    value, interval = improvement(runs[0], runs[1])
    numbers.add("improvement", value, interval, n, n_invalid, reason=None if interval else NO_SEEDS)
    weights = np.repeat([1 / len(tasks), -1 / len(tasks)], len(tasks))
    spread, reason = welch_interval([*runs[0], *runs[1]], list(weights)), None
    if spread is None:
        pooled = [m.pooled(t) for m in (first, second) for t in tasks]
        spread, reason = welch_interval(pooled, list(weights)), ONE_SEED
    p, q = (float(np.mean([r.mean() for r in side])) for side in runs)
    rates = [m.rate(tasks) for m in (first, second)]
    if rates[0] and rates[1]:
        spread = wider(spread, square_and_add(p, rates[0], q, rates[1]), (-1.0, 1.0))
    numbers.add("score-difference", p - q, spread, n, n_invalid, reason=reason)
    return numbers.results


MEASURE = Measure(
    name="methods",
    question="Which training method scores higher over tasks and training seeds?",
    unit="1",
    direction="higher",
    range=(None, None),
    needs=("subject", "task", "train_seed", "score", "worst", "target"),
    source="rliable (Agarwal et al. 2021, arXiv 2108.13264); Welch 1947; Newcombe 2006; docs/measures.md",
    function=methods,
)
