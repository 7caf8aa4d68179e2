"""How much real data does a method spare? Real steps until it scores as well as a reference needed to."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from wmbench.errors import DatasetError
from wmbench.measures.numbers import Definition, Numbers
from wmbench.measures.result import Arrays, Measure, Result, json_list
from wmbench.statistics import Interval, welch_interval
from wmbench.statistics.clustered import proportion_interval

SMOOTHING = 3
"""Evaluations in the trailing mean of the smoothed variant."""

PENALTY = 10.0
"""A run that never reaches the target counts as so many times the longest run of its task (PAR10, the penalised
average runtime of algorithm configuration, Hutter et al. 2009, https://doi.org/10.1613/jair.2861)."""

EQUAL = 5
"""Numbers of real steps at which scores are compared, from where all runs have begun to where the first one ends."""

ONE_SEED = "no interval: that needs two training seeds or more per task and method"
RATIOS = {"ratio": 1, "ratio-smoothed": SMOOTHING}


@dataclass(frozen=True)
class Run:
    """The learning curve of one training seed.

    Attributes:
        steps: (n,) real steps used so far, ascending.
        score: (n,) finite.
        lost: Whether a score was not finite and has been replaced.
    """

    steps: np.ndarray
    score: np.ndarray
    lost: bool = False

    def smoothed(self, window: int) -> Run:
        """Every score the mean of itself and up to ``window`` - 1 before it."""
        total = np.concatenate([[0.0], np.cumsum(self.score)])
        last = np.arange(1, len(self.score) + 1)
        first = np.maximum(last - window, 0)
        mean = (total[last] - total[first]) / (last - first)
        return self if window == 1 else Run(self.steps, mean, self.lost)

    def reaches(self, target: float) -> float:
        """Real steps at which the score first reaches a target, interpolated between evaluations; infinity if never."""
        above = self.score >= target
        if not above.any():
            return math.inf
        i = int(above.argmax())
        if i == 0:
            return float(self.steps[0])
        (s0, s1), (y0, y1) = self.steps[i - 1 : i + 1], self.score[i - 1 : i + 1]
        return float(s0 + (s1 - s0) * ((target - y0) / (y1 - y0)))


Curves = dict[str, list[Run]]
"""The runs of one method, by task."""


@dataclass(frozen=True)
class Target:
    """What the reference scores on one task, and so what must be reached."""

    base: float
    final: float

    def at(self, share: float) -> float:
        """The score that is a share of the way from the base to the reference's final one."""
        return self.base + share * (self.final - self.base)


def sparing(arrays: Arrays) -> list[Result]:
    """Compare how many real steps methods need for what a reference scores in the end.

    With b the task's base score and F the mean over training seeds of the reference's last score, the target is
    b + share (F - b). A run's cost is the number of real steps at which its score first reaches the target,
    interpolated linearly between evaluations. The ratio is that of the reference's cost to the other's, as a geometric
    mean over training seeds and tasks: 2 means half the real data. A run that never reaches the target counts as ten
    times the longest one of the two methods on that task, also where no run of a method does: such a task is named,
    and the ratio of every task is in the details. Runs that never reach it are in ``n_invalid``. The interval is
    Welch's over training seeds on the scale of logarithms. It takes the target as given.

    Args:
        arrays: Per evaluation ``subject`` (N,) str, the method, ``task`` (N,) str, ``train_seed`` (N,) int,
            ``real_steps`` (N,) real steps used so far, at least 0, ``score`` (N,); ``reference`` () str, one of the
            subjects; ``share`` () in (0, 1]; ``shares`` (S,) in (0, 1], those of the curve; ``task_name`` (T,) str
            and ``task_base`` (T,), the score of who has learned nothing. Scores that are not finite count as the
            lowest one of the task.

    Returns:
        For each subject ``reached``, the share of its runs that reach the target, and for each but the reference
        before it ``ratio``, ``ratio-smoothed`` (scores smoothed over three evaluations) and ``gain``, by how much it
        scores more at equal real steps, in units of what the reference learns in all.

    Raises:
        DatasetError: The reference is absent, a run has two scores at one number of steps or a number of steps that
            is none, a share outside (0, 1], or a task without a base score.
    """
    share, shares = float(arrays["share"]), [float(s) for s in arrays["shares"]]
    if not all(0 < s <= 1 for s in (share, *shares)):
        raise DatasetError(f"sparing: shares of the reference's score must lie in (0, 1], got {[share, *shares]}")
    found = _read(arrays)
    name, base = str(arrays["reference"]), dict(zip(arrays["task_name"].tolist(), arrays["task_base"], strict=True))
    if name not in found:
        raise DatasetError(f"sparing: the reference {name!r} is none of the subjects {sorted(found)}")
    if lacking := sorted({t for runs in found.values() for t in runs} - set(base)):
        raise DatasetError(
            f"sparing: the tasks {lacking} have no base score, that of a policy that has learned nothing"
        )
    results: list[Result] = []
    for subject, curves in found.items():
        numbers = Numbers("sparing", subject, _definitions(name, share), {"reference": name, "share": share})
        tasks = [t for t in curves if t in found[name]]
        if subject != name:
            _compare(numbers, {t: (found[name][t], curves[t]) for t in tasks}, base, share, shares)
        _reached(numbers, {t: (found[name][t], curves[t]) for t in tasks}, base, share)
        results += numbers.results
    return results


def _definitions(reference: str, share: float) -> dict[str, Definition]:
    """Every number of this measure."""
    target = f"the target, {share:g} of the way from the base to the mean final score of {reference}"
    cost = f"real steps of {reference} until it reaches {target}, over one's own; geometric mean over seeds and tasks"
    never = f"a run that never does counts as {PENALTY:g} times the longest"
    return {
        "ratio": Definition("1", "higher", f"{cost}; first crossing, interpolated; {never}"),
        "ratio-smoothed": Definition(
            "1", "higher", f"{cost}; first crossing of the mean of {SMOOTHING} evaluations; {never}"
        ),
        "gain": Definition(
            "1",
            "higher",
            f"difference of scores at the most real steps that all runs have, over what {reference} learns in all, "
            "mean over tasks",
        ),
        "reached": Definition("1", "higher", f"share of training runs that reach {target}"),
    }


def _read(arrays: Arrays) -> dict[str, Curves]:
    """Runs by subject and task."""
    subject, task, seed = (arrays[k] for k in ("subject", "task", "train_seed"))
    steps, score = (np.asarray(arrays[k], dtype=np.float64) for k in ("real_steps", "score"))
    if not np.isfinite(steps).all() or (steps < 0).any():
        raise DatasetError("sparing: real_steps must be finite and at least 0")
    bad = ~np.isfinite(score)
    for name in np.unique(task):
        here = task == name
        score = np.where(here & bad, np.min(score[here & ~bad], initial=np.inf), score)
    if not np.isfinite(score).all():
        raise DatasetError("sparing: a task without one finite score tells nothing")
    found: dict[str, Curves] = {}
    for who in dict.fromkeys(subject.tolist()):
        own = subject == who
        found[who] = {t: [] for t in sorted(set(task[own].tolist()))}
        for t, runs in found[who].items():
            for s in np.unique(seed[own & (task == t)]):
                rows = np.flatnonzero(own & (task == t) & (seed == s))
                rows = rows[np.argsort(steps[rows], kind="stable")]
                if (np.diff(steps[rows]) == 0).any():
                    raise DatasetError(
                        f"sparing: {who!r}, seed {s} on {t} has two scores at one number of real steps; average "
                        "episodes first, and give what was trained without new real data its last score alone"
                    )
                runs.append(Run(steps[rows], score[rows], bool(bad[rows].any())))
    return found


Pairs = dict[str, tuple[list[Run], list[Run]]]
"""Task to the runs of the reference and of the other."""


def _target(runs: list[Run], base: float) -> Target:
    return Target(base, float(np.mean([r.score[-1] for r in runs])))


def _compare(numbers: Numbers, pairs: Pairs, base: dict[str, float], share: float, shares: list[float]) -> None:
    """Ratios and the gain of one method over the reference."""
    names = ("ratio", "ratio-smoothed", "gain")
    every = [run for pair in pairs.values() for runs in pair for run in runs]
    n, lost = len(every), sum(run.lost for run in every)
    if not pairs:
        numbers.none(names, "it shares no task with the reference")
        return
    if idle := [t for t, (own, _) in pairs.items() if not _target(own, base[t]).final > base[t]]:
        numbers.none(names, f"the reference learns nothing on {', '.join(idle)}", n)
        return
    for name, window in RATIOS.items():
        smooth = {t: ([r.smoothed(window) for r in a], [r.smoothed(window) for r in b]) for t, (a, b) in pairs.items()}
        curve = [_ratio(smooth, base, s) for s in shares]
        value, interval, astray, reason, details = _ratio(smooth, base, share)
        details["curve"] = {
            "share": shares,
            "ratio": [v for v, *_ in curve],
            "low": [i.low if i else None for _, i, *_ in curve],
            "high": [i.high if i else None for _, i, *_ in curve],
            "never": [d["never"] for *_, d in curve],
        }
        numbers.add(name, value, interval, n, astray, reason=reason, **details)
    _gain(numbers, pairs, base, n, lost)


def _ratio(
    pairs: Pairs, base: dict[str, float], share: float
) -> tuple[float | None, Interval | None, int, str | None, Any]:
    """The ratio of costs at one share, its interval, how many runs are lost or never there, a caution, and details."""
    groups: list[np.ndarray] = []  # logarithms of costs: of the reference and the other, task by task
    never, table, each, early, lost, hopeless = [0, 0], {}, {}, 0, 0, []
    for task, pair in pairs.items():
        target = _target(pair[0], base[task]).at(share)
        longest = max(float(r.steps[-1]) for runs in pair for r in runs)
        costs = [np.array([r.reaches(target) for r in runs]) for runs in pair]
        table[task] = {"target": target, "reference": json_list(costs[0]), "steps": json_list(costs[1])}
        never = [m + int(np.isinf(c).sum()) for m, c in zip(never, costs, strict=True)]
        lost += int((np.isinf(np.concatenate(costs)) | [r.lost for runs in pair for r in runs]).sum())
        early += sum(r.score[0] >= target for runs in pair for r in runs)
        hopeless += [task] if np.isinf(costs[1]).all() else []
        with np.errstate(divide="ignore"):
            logs = [np.log(np.where(np.isinf(c), PENALTY * longest, c)) for c in costs]
        groups += logs
        gap = float(logs[0].mean() - logs[1].mean()) if np.isfinite(np.concatenate(logs)).all() else None
        each[task] = {
            "ratio": None if gap is None else math.exp(gap),
            "runs": len(pair[1]),
            "never": int(np.isinf(costs[1]).sum()),
        }
    details = {"costs": table, "tasks": each, "never": never[1], "never_reference": never[0], "early": int(early)}
    if not np.isfinite(np.concatenate(groups)).all():
        return None, None, lost, "a run reaches the target without any real step: there is no ratio of steps", details
    weights = np.tile([1.0, -1.0], len(pairs)) / len(pairs)
    value = math.exp(float(weights @ [g.mean() for g in groups]))
    interval = welch_interval(groups, list(weights))
    cautions = [] if interval else [ONE_SEED]
    cautions += [f"{sum(never)} runs never reach the target and count as {PENALTY:g} times the longest"] * any(never)
    cautions += [f"not one run reaches the target on {', '.join(hopeless)}"] * bool(hopeless)
    cautions += [f"{early} runs reach it at their first evaluation, and may have needed fewer steps"] * bool(early)
    ends = Interval(*np.exp(interval).tolist()) if interval else None
    return value, ends, lost, "; ".join(cautions) or None, details


def _gain(numbers: Numbers, pairs: Pairs, base: dict[str, float], n: int, n_invalid: int) -> None:
    """By how much one scores more than the reference after equally many real steps."""
    groups: list[list[np.ndarray]] = [[] for _ in range(EQUAL)]
    places = {}
    for task, pair in pairs.items():
        every = [r for runs in pair for r in runs]
        first, last = max(float(r.steps[0]) for r in every), min(float(r.steps[-1]) for r in every)
        if first > last:
            numbers.none(["gain"], f"on {task} the methods were never evaluated after equally many real steps", n)
            return
        target = _target(pair[0], base[task])
        places[task] = np.linspace(first, last, EQUAL)
        for runs in (pair[1], pair[0]):
            scores = [np.interp(places[task], r.steps, r.score) / (target.final - target.base) for r in runs]
            for i, column in enumerate(np.transpose(scores)):
                groups[i].append(column)
    weights = np.tile([1.0, -1.0], len(pairs)) / len(pairs)
    values = [float(weights @ [g.mean() for g in group]) for group in groups]
    intervals = [welch_interval(group, list(weights)) for group in groups]
    curve = {
        "real_steps": {task: at.tolist() for task, at in places.items()},
        "gain": values,
        "low": [i.low if i else None for i in intervals],
        "high": [i.high if i else None for i in intervals],
    }
    numbers.add(
        "gain", values[-1], intervals[-1], n, n_invalid, reason=None if intervals[-1] else ONE_SEED, curve=curve
    )


def _reached(numbers: Numbers, pairs: Pairs, base: dict[str, float], share: float) -> None:
    """How many of a method's runs reach the target at all."""
    if not pairs:
        numbers.none(["reached"], "it shares no task with the reference")
        return
    own = {
        t: [r.reaches(_target(reference, base[t]).at(share)) < math.inf for r in runs]
        for t, (reference, runs) in pairs.items()
    }
    every = np.concatenate([np.array(v, dtype=np.float64) for v in own.values()])
    interval = proportion_interval(every, np.ones(len(every)))
    reason = None if interval else "no interval: that needs two runs"
    each = {t: float(np.mean(v)) for t, v in own.items()}
    share_of, lost = float(every.mean()), sum(run.lost for _, runs in pairs.values() for run in runs)
    numbers.add("reached", share_of, interval, len(every), lost, reason=reason, tasks=each)


MEASURE = Measure(
    name="sparing",
    question="How many real steps does a method spare until it scores as well as a reference?",
    unit="1",
    direction="higher",
    range=(0.0, None),
    needs=(
        "subject",
        "task",
        "train_seed",
        "real_steps",
        "score",
        "reference",
        "share",
        "shares",
        "task_name",
        "task_base",
    ),
    source="Ratio of real steps to a share of the reference's final score (our definition); docs/measures/sparing.md",
    function=sparing,
)
