"""What is left of a policy when the world does not wait? Success and return against delay, fixed and as measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from wmbench.errors import DatasetError
from wmbench.measures.numbers import Definition, Numbers
from wmbench.measures.result import Arrays, Measure, Result
from wmbench.measures.success import worst_returns
from wmbench.statistics import bootstrap, bootstrap_interval, paired_difference, wilson
from wmbench.statistics.bootstrap import Statistic

TRACE = "trace"
"""Name of the condition under which a measured latency trace was replayed."""

RANDOM = "random"
"""Name of the condition in which the random policy acts, without delay."""

ROUNDING = 1e-9
"""Control steps: a latency that exceeds a whole number of them by less does not count as late."""

NO_RETURN = "no valid episode shows what the worst return would be"
INVALID = "invalid episodes fail, with the worst admissible return"

DEFINITIONS = {
    "latency-adjusted-success": Definition(
        "1", "higher", f"success rate under the replayed latency trace, Wilson interval; {INVALID}"
    ),
    "latency-adjusted-return": Definition(
        "reward", "higher", f"mean return under the replayed latency trace, bootstrap over starts; {INVALID}"
    ),
    "latency-change-success": Definition(
        "1", "higher", "success under the replayed trace minus that without delay, same starts, Bonett and Price 2012"
    ),
    "latency-change-return": Definition(
        "reward", "higher", "return under the replayed trace minus that without delay, paired bootstrap over starts"
    ),
    "success": Definition("1", "higher", f"success rate at a delay of so many steps, Wilson interval; {INVALID}"),
    "return": Definition("reward", "higher", f"mean return at a delay of so many steps; {INVALID}"),
    "change-success": Definition("1", "higher", "success at the delay minus that without, Bonett and Price 2012"),
    "change-return": Definition("reward", "higher", "return at the delay minus that without, paired bootstrap"),
    "d50-success": Definition(
        "steps", "higher", "least delay with half the success of none, linear between delays, bootstrap over starts"
    ),
    "d50-return": Definition(
        "steps",
        "higher",
        "least delay with a return halfway down to the random policy's, linear between delays, bootstrap over starts",
    ),
    "auc-success": Definition("1", "higher", "mean success over delays 0 to the longest, trapezoids, bootstrap"),
    "auc-return": Definition(
        "1", "higher", "mean over delays of (return - random) / (undelayed return - random), trapezoids, bootstrap"
    ),
}


@dataclass(frozen=True)
class Late:
    """One policy in one simulator on the same E starts under C conditions.

    Attributes:
        delay: (K,) float64 control steps, ascending from 0: the fixed delays.
        rows: Condition to its row of the arrays: a delay as text, :data:`TRACE` or :data:`RANDOM`.
        solved: (C, E) float64, 1 where the task was solved in a valid episode.
        returns: (C, E) float64, of invalid episodes the worst admissible; NaN where nothing says what that is.
        invalid: (C,) int, invalid episodes.
    """

    delay: np.ndarray
    rows: dict[str, int]
    solved: np.ndarray
    returns: np.ndarray
    invalid: np.ndarray

    @classmethod
    def of(cls, arrays: Arrays, m: int) -> Late:
        """Read the episodes of one subject.

        Raises:
            DatasetError: No condition without delay, a condition that is there twice, or one that is unknown.
        """
        names = [str(c) for c in arrays["condition"]]
        fixed = [c for c in names if c not in (TRACE, RANDOM)]
        if "0" not in fixed or len(set(names)) != len(names) or not all(c.isdigit() for c in fixed):
            raise DatasetError(
                f"real-time: conditions must be delays in steps, 0 among them, {TRACE!r} or {RANDOM!r}, each once; "
                f"got {names}"
            )
        valid, shape = arrays["valid"][m], arrays["valid"][m].shape
        flat = {name: arrays[name][m].reshape(-1) for name in ("returns", "valid", "length")}
        flat |= {name: arrays[name] for name in ("reward_low", "horizon")}
        returns = worst_returns(flat, np.arange(valid.size)).reshape(shape)
        delay = np.array(sorted(int(c) for c in fixed), dtype=np.float64)
        rows = {name: i for i, name in enumerate(names)}
        return cls(delay, rows, (arrays["solved"][m] & valid).astype(np.float64), returns, (~valid).sum(1))

    def curve(self, outcome: np.ndarray) -> np.ndarray:
        """(K, E), the fixed delays in ascending order."""
        return outcome[[self.rows[f"{d:.0f}"] for d in self.delay]]

    def half(self, outcome: np.ndarray, floor: np.ndarray) -> Statistic:
        """Least delay at which the mean of (C, E) outcomes has come halfway to that of (E,) others."""
        curves = self.curve(outcome)

        def statistic(weights: np.ndarray) -> np.ndarray:
            curve = weights @ curves.T / weights.sum(1, keepdims=True)  # (R, K)
            return crossing(self.delay, curve, (curve[:, 0] + weights @ floor / weights.sum(1)) / 2)

        return statistic

    def area(self, outcome: np.ndarray, floor: np.ndarray | None = None) -> Statistic:
        """Mean over delays of the mean of (C, E) outcomes; with a floor, of the lead over it in units of the first.

        Without a lead at the first delay there is nothing to keep, and the share is minus infinity.
        """
        curves, share = self.curve(outcome), trapezoids(self.delay)

        def statistic(weights: np.ndarray) -> np.ndarray:
            curve = weights @ curves.T / weights.sum(1, keepdims=True)  # (R, K)
            if floor is None:
                return curve @ share
            base = weights @ floor / weights.sum(1)
            lead = curve[:, 0] - base
            kept = np.full(len(lead), -np.inf)
            return np.divide(curve @ share - base, lead, out=kept, where=lead > 0)

        return statistic


def crossing(delay: np.ndarray, curve: np.ndarray, level: np.ndarray) -> np.ndarray:
    """Where curves first come down to a level, linearly between the delays.

    Args:
        delay: (K,) ascending.
        curve: (R, K).
        level: (R,).

    Returns:
        (R,) float64, the first delay where a curve begins at the level or below, infinity where it stays above.
    """
    reached = curve <= level[:, None]
    rows, after = np.arange(len(curve)), reached.argmax(1)
    before = np.maximum(after - 1, 0)
    above, below = curve[rows, before], curve[rows, after]
    part = np.divide(above - level, above - below, out=np.zeros_like(above), where=above > below)
    return np.where(reached.any(1), delay[before] + part * (delay[after] - delay[before]), np.inf)


def trapezoids(delay: np.ndarray) -> np.ndarray:
    """(K,) weights, of sum 1, with which values at ascending delays give the mean over all between."""
    gaps = np.diff(delay)
    if not len(gaps):
        return np.ones(1)
    return (np.append(gaps, 0.0) + np.append(0.0, gaps)) / (2 * gaps.sum())


def realtime(arrays: Arrays) -> list[Result]:
    """Score policies whose decisions take time while the world goes on.

    Args:
        arrays: ``subject`` (M,) str, a policy in a simulator; ``condition`` (C,) str: fixed delays in control steps
            (``"0"`` among them), ``"trace"`` for a replayed latency trace and ``"random"`` for the random policy
            without delay; per episode ``solved`` (M, C, E) bool, ``returns`` (M, C, E) float64, ``valid`` (M, C, E)
            bool and ``length`` (M, C, E) int, the same starts everywhere; of the task ``reward_low`` () (NaN if
            unbounded), ``horizon`` () and ``control_hz`` (); of the traces ``trace_subject`` (T,) int and
            ``trace_seconds`` (T,) float64.

    Returns:
        For each subject success and return under the trace and what the trace changes, the same by delay, the delays
        at which half is lost, and areas under the curves.

    Raises:
        DatasetError: Conditions that make no curve.
    """
    results: list[Result] = []
    for m, subject in enumerate(str(s) for s in arrays["subject"]):
        late = Late.of(arrays, m)
        numbers = Numbers("real-time", subject, DEFINITIONS, {"delays": [int(d) for d in late.delay]})
        _under_trace(numbers, late, arrays["trace_seconds"][arrays["trace_subject"] == m], float(arrays["control_hz"]))
        for condition in (f"{d:.0f}" for d in late.delay):
            _level(numbers, late, condition, (f"success:{condition}", f"return:{condition}"))
            if condition != "0":
                _change(numbers, late, condition, (f"change-success:{condition}", f"change-return:{condition}"))
        _summary(numbers, late)
        results += numbers.results
    return results


def _under_trace(numbers: Numbers, late: Late, seconds: np.ndarray, control_hz: float) -> None:
    """What a measured trace leaves, and what it changes."""
    level = ("latency-adjusted-success", "latency-adjusted-return")
    change = ("latency-change-success", "latency-change-return")
    if TRACE not in late.rows:
        numbers.none(level + change, "no latency trace was replayed", late.solved.shape[1])
        return
    steps = np.ceil(seconds * control_hz - ROUNDING).clip(min=0)
    details = {"decisions": len(steps), "mean_delay": float(steps.mean()) if len(steps) else None}
    _level(numbers, late, TRACE, level, **details)
    _change(numbers, late, TRACE, change, **details)


def _level(numbers: Numbers, late: Late, condition: str, names: tuple[str, str], **more: Any) -> None:
    """Success and return under one condition."""
    success, reward = names
    c = late.rows[condition]
    solved, returns, lost = late.solved[c], late.returns[c], int(late.invalid[c])
    n = len(solved)
    numbers.add(success, float(solved.mean()), wilson(int(solved.sum()), n), n, lost, **more)
    if np.isfinite(returns).all():
        numbers.add(reward, float(returns.mean()), bootstrap_interval(returns), n, lost, **more)
    else:
        numbers.add(reward, None, None, n, lost, reason=NO_RETURN, **more)


def _change(numbers: Numbers, late: Late, condition: str, names: tuple[str, str], **more: Any) -> None:
    """What a condition changes against no delay, on the same starts."""
    success, reward = names
    c, base = late.rows[condition], late.rows["0"]
    n, lost = late.solved.shape[1], int(late.invalid[c] + late.invalid[base])
    with_it, without = late.solved[c] > 0, late.solved[base] > 0
    gap = float(with_it.mean() - without.mean())
    numbers.add(success, gap, paired_difference(with_it, without), n, lost, **more)
    apart = late.returns[c] - late.returns[base]
    if np.isfinite(apart).all():
        numbers.add(reward, float(apart.mean()), bootstrap_interval(apart), n, lost, **more)
    else:
        numbers.add(reward, None, None, n, lost, reason=NO_RETURN, **more)


def _summary(numbers: Numbers, late: Late) -> None:
    """Delays at which half is lost, and areas."""
    n, lost = late.solved.shape[1], int(sum(late.invalid[c] for name, c in late.rows.items() if name != TRACE))
    nothing = np.zeros(n)
    if late.solved[late.rows["0"]].any():
        _half(numbers, "d50-success", late, late.half(late.solved, nothing), lost)
    else:
        numbers.none(("d50-success",), "the task is never solved without delay", n)
    _whole(numbers, "auc-success", late, late.area(late.solved), lost, (0.0, 1.0))
    why = None
    if RANDOM not in late.rows:
        why = "the random policy was not recorded"
    elif not np.isfinite(late.curve(late.returns)).all() or not np.isfinite(late.returns[late.rows[RANDOM]]).all():
        why = NO_RETURN
    elif late.returns[late.rows["0"]].mean() <= late.returns[late.rows[RANDOM]].mean():
        why = "without delay the return is no better than that of the random policy"
    if why:
        numbers.none(("d50-return", "auc-return"), why, n)
        return
    random = late.returns[late.rows[RANDOM]]
    _half(numbers, "d50-return", late, late.half(late.returns, random), lost)
    _whole(numbers, "auc-return", late, late.area(late.returns, random), lost, (-np.inf, np.inf))


def _half(numbers: Numbers, name: str, late: Late, statistic: Statistic, lost: int) -> None:
    n = late.solved.shape[1]
    value = float(statistic(np.ones((1, n)))[0])
    interval = bootstrap(statistic, n, bounds=(0.0, np.inf))
    if np.isfinite(value):
        between = [int(late.delay[late.delay <= value][-1]), int(late.delay[late.delay >= value][0])]
        numbers.add(name, value, interval, n, lost, between=between)
    else:
        why = f"half is never lost up to the longest delay, {late.delay[-1]:.0f} steps"
        numbers.add(name, None, interval, n, lost, reason=why)


def _whole(
    numbers: Numbers, name: str, late: Late, statistic: Statistic, lost: int, bounds: tuple[float, float]
) -> None:
    n = late.solved.shape[1]
    numbers.add(name, float(statistic(np.ones((1, n)))[0]), bootstrap(statistic, n, bounds=bounds), n, lost)


MEASURE = Measure(
    name="real-time",
    question="What is left of a policy's success and return when the world goes on while it decides?",
    unit="1",
    direction="higher",
    range=(0.0, 1.0),
    needs=(
        "subject",
        "condition",
        "solved",
        "returns",
        "valid",
        "length",
        "reward_low",
        "horizon",
        "control_hz",
        "trace_subject",
        "trace_seconds",
    ),
    source="fixed delay: Ramstedt and Pal 2019, https://arxiv.org/abs/1911.04448; replayed trace: our definition",
    function=realtime,
)
