"""What records of training inside say: the two-by-two table, the gap by step, exploitation, equal time, remedies.

What is independent is the training seed. A value is the mean over seeds of each seed's mean over its evaluation
episodes, its interval that of :func:`wmbench.statistics.interval_over_seeds`: Student's t below twenty seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from wmbench.errors import DatasetError
from wmbench.statistics import Interval, interval_over_seeds, t_interval, welch_interval
from wmbench_baselines.inside.records import SIDES

Records = Sequence[dict[str, Any]]
APART = ("seed",)
"""Fields of a config in which trainings of one arm may differ."""
SIDE_FIELDS = ("where", "seed", "penalty", "penalty_weight", "branch", "dataset", "reward_noise", "model")
"""Fields in which two arms that are compared may differ; steps, rows, updates per step and the rest must agree."""


@dataclass(frozen=True)
class Estimate:
    """A mean over training seeds.

    Attributes:
        value: The mean.
        low: Lower end of its 95 % interval, None with a single seed.
        high: Upper end.
        n: Seeds.
    """

    value: float
    low: float | None
    high: float | None
    n: int

    @property
    def above_zero(self) -> bool:
        """Whether the whole interval is positive."""
        return self.low is not None and self.low > 0

    @property
    def below_zero(self) -> bool:
        """Whether the whole interval is negative."""
        return self.high is not None and self.high < 0


@dataclass(frozen=True)
class Exploitation:
    """What happened to both returns after the true one was highest.

    Attributes:
        peak: Step at which the mean true return is highest.
        trough: Later step at which it is lowest; the peak itself where that is the end.
        true: Change of the true return from the peak to the trough.
        learned: Change of the imagined return over the same steps.
        gap: Imagined minus true return at the end.
    """

    peak: int
    trough: int
    true: Estimate
    learned: Estimate
    gap: Estimate

    @property
    def shown(self) -> bool:
        """Whether imagined return rose while true return fell, both beyond their intervals."""
        return self.learned.above_zero and self.true.below_zero


def arms(records: Records) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """Records by task and arm, each by seed, in the order they were given.

    Raises:
        DatasetError: Trainings of an arm differ in more than their seed, share one, or were evaluated at other steps.
    """
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for record in records:
        found.setdefault((record["task"], record["arm"]), []).append(record)
    for (task, arm), group in found.items():
        group.sort(key=lambda r: r["config"]["seed"])
        _refuse_differing(f"{task}, {arm}", group, APART)
        if len({r["config"]["seed"] for r in group}) < len(group):
            raise DatasetError(f"{task}, {arm}: two trainings of one seed")
        if len({tuple(p["step"] for p in r["curve"]) for r in group}) > 1:
            raise DatasetError(f"{task}, {arm}: the trainings were evaluated at different steps")
    return found


def comparable(first: Records, second: Records) -> None:
    """Refuse two arms that differ in more than where and on what the policy is trained.

    Raises:
        DatasetError: With the fields that differ and both values.
    """
    label = f"{first[0]['task']}, {first[0]['arm']} and {second[0]['arm']}"
    _refuse_differing(label, [first[0], second[0]], SIDE_FIELDS)


def _refuse_differing(label: str, group: Records, allowed: Sequence[str]) -> None:
    one = group[0]["config"]
    for other in (r["config"] for r in group[1:]):
        fields = sorted(k for k in {*one, *other} if k not in allowed and one.get(k) != other.get(k))
        if fields:
            shown = ", ".join(f"{k} {one.get(k)!r} and {other.get(k)!r}" for k in fields)
            raise DatasetError(f"{label} cannot stand side by side: {shown}")


def steps(group: Records) -> np.ndarray:
    """(P,) environment steps at which an arm was evaluated."""
    return np.array([point["step"] for point in group[0]["curve"]])


def values(group: Records, side: str) -> np.ndarray:
    """(S, P) mean return of each seed at each evaluation, in the ``"true"`` or the ``"learned"`` simulator."""
    return np.array([[np.mean(point[side]["returns"]) for point in record["curve"]] for record in group])


def over_seeds(per_seed: np.ndarray) -> Estimate:
    """Mean of (S,) values, one per seed, and its interval."""
    return _estimate(float(np.mean(per_seed)), t_interval(per_seed), len(per_seed))


def _estimate(value: float, interval: Interval | None, n: int) -> Estimate:
    return Estimate(value, None, None, n) if interval is None else Estimate(value, *interval, n)


def final(group: Records, side: str) -> Estimate:
    """Return at the end of training."""
    scores = [np.array(record["curve"][-1][side]["returns"]) for record in group]
    return _estimate(float(np.mean([s.mean() for s in scores])), interval_over_seeds(scores), len(scores))


def two_by_two(learned: Records, true: Records) -> dict[tuple[str, str], Estimate]:
    """Final returns by where the policy was trained, then by where it was evaluated.

    Args:
        learned: An arm trained in the learned simulator.
        true: The same trained in the true one.

    Raises:
        DatasetError: The arms are not comparable.
    """
    comparable(learned, true)
    rows = {"learned": learned, "true": true}
    return {(trained, side): final(group, side) for trained, group in rows.items() for side in SIDES}


def gap_by_step(group: Records) -> list[Estimate]:
    """Imagined minus true return at every evaluation, seed by seed."""
    gap = values(group, "learned") - values(group, "true")  # (S, P)
    return [over_seeds(column) for column in gap.T]


def exploitation(group: Records) -> Exploitation:
    """Whether imagined return went on rising while the true one fell.

    The highest of several noisy means is too high by luck, and the lowest too low. Each seed's changes are therefore
    measured between the peak and the trough of the *other* seeds' mean; with a single seed there is no interval.
    """
    true, learned = values(group, "true"), values(group, "learned")  # (S, P)
    seeds, at = len(true), steps(group)
    ends = [_peak_and_trough(np.delete(true, s, 0) if seeds > 1 else true) for s in range(seeds)]
    rows, (peaks, troughs) = np.arange(seeds), np.array(ends).T  # (S,) each
    peak, trough = _peak_and_trough(true)
    return Exploitation(
        peak=int(at[peak]),
        trough=int(at[trough]),
        true=over_seeds(true[rows, troughs] - true[rows, peaks]),
        learned=over_seeds(learned[rows, troughs] - learned[rows, peaks]),
        gap=over_seeds(per_seed(group, "gap")),
    )


def _peak_and_trough(curves: np.ndarray) -> tuple[int, int]:
    """Where the mean of (S, P) curves is highest, and where it is lowest from there on."""
    mean = curves.mean(0)
    peak = int(mean.argmax())
    return peak, peak + int(mean[peak:].argmin())


def difference(first: Records, second: Records, of: str, when: int | str = "end") -> Estimate:
    """First minus second arm, with Welch's interval.

    Args:
        first: An arm.
        second: Another.
        of: ``"true"`` or ``"learned"`` return, or ``"gap"`` between them.
        when: See :func:`per_seed`.

    Raises:
        DatasetError: The arms are not comparable.
    """
    comparable(first, second)
    one, other = (per_seed(group, of, when) for group in (first, second))
    interval = welch_interval([one, other], [1.0, -1.0])
    return _estimate(float(one.mean() - other.mean()), interval, min(len(one), len(other)))


def per_seed(group: Records, of: str, when: int | str = "end") -> np.ndarray:
    """One value per seed.

    Args:
        group: An arm.
        of: ``"true"`` or ``"learned"`` return, or the ``"gap"`` by which the latter exceeds the former.
        when: ``"end"``; ``"throughout"``, the mean over all evaluations, which is less a matter of luck; or a step.

    Returns:
        (S,).
    """
    found = values(group, "learned") - values(group, "true") if of == "gap" else values(group, of)  # (S, P)
    if when == "throughout":
        return found.mean(1)
    return found[:, -1 if when == "end" else int(np.flatnonzero(steps(group) == when)[0])]


def at_equal_time(learned: Records, true: Records) -> tuple[float, Estimate, Estimate]:
    """True returns of both arms when the faster one ends.

    Returns:
        Seconds of training, and the true return of policies trained in the learned and in the true simulator; between
        two evaluations on the line between them.

    Raises:
        DatasetError: The arms are not comparable.
    """
    comparable(learned, true)
    time = float(min(np.mean([r["curve"][-1]["seconds"] for r in group]) for group in (learned, true)))
    found = []
    for group in (learned, true):
        true_values = values(group, "true")  # (S, P)
        seconds = [[point["seconds"] for point in record["curve"]] for record in group]
        found.append(over_seeds(np.array([np.interp(time, t, v) for t, v in zip(seconds, true_values, strict=True)])))
    return time, found[0], found[1]


def simulator_share(group: Records) -> float:
    """Part of the training's time that the simulator took."""
    ends = [record["curve"][-1] for record in group]
    return sum(e["simulator_seconds"] for e in ends) / sum(e["seconds"] for e in ends)


def faults(group: Records) -> int:
    """Evaluation episodes that broke off, over all evaluations and both simulators."""
    return sum(len(point[side]["faults"]) for record in group for point in record["curve"] for side in SIDES)
