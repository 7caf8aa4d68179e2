"""Are imagined states possible at all? Laws of the task's bodies that real states keep, with no truth to compare to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from wmbench.measures.geometry import Geometry
from wmbench.measures.numbers import Definition, Numbers
from wmbench.measures.result import Arrays, Measure, Result, finite_or_none, json_list
from wmbench.statistics.clustered import proportion_interval

SLACK = 1.1
"""A state breaks a law where it is this many times worse than the worst real state of the train split."""


@dataclass(frozen=True)
class Law:
    """One law.

    Attributes:
        tolerance: Breaches below this never count: no learned number is exact.
        unit: Of the breach.
        what: In words.
        absent: Why a task may have nothing to break.
        posed: Whether bodies have to be posed to tell.
    """

    tolerance: float
    unit: str
    what: str
    absent: str
    posed: bool = True


LAWS = {
    "penetration": Law(1e-3, "m", "depth of the deepest contact", "nothing in this task can touch"),
    "joint-limit": Law(0.01, "1", "excess over a joint's limits, as a share of its range", "no posed joint has limits"),
    "energy-jump": Law(
        0.0, "J", "change of kinetic and potential energy in a step", "not every position and velocity is observed"
    ),
    "sine-cosine": Law(0.05, "1", "| sqrt(sin^2 + cos^2) - 1 | of an angle", "no angle is observed by both", False),
    "quaternion": Law(0.05, "1", "| |q| - 1 |", "no rotation is observed", False),
    "teleport": Law(
        0.0, "1", "change of a position in a step, as a share of the largest in the train split", "no position", False
    ),
    "consistency": Law(
        0.0,
        "1",
        "change of a position less the mean of its velocities before and after times dt, as a share of the largest "
        "in the train split",
        "no position is observed together with its velocity",
        False,
    ),
}
DEFINITIONS = {
    "violations": Definition("1", "lower", "share of imagined states that break any law that can be checked"),
    "violation": Definition(
        "1",
        "lower",
        f"share of imagined states that break this law: more than {SLACK:g} times the worst of the train split's real "
        "states and more than the tolerance",
    ),
}


def constraints(arrays: Arrays) -> list[Result]:
    """Count imagined states that no body of the task could be in.

    Open-loop rollouts are read state by state, without the true rollout beside them, so the numbers mean the same past
    the simulator's floor. A state breaks a law where its breach exceeds 1.1 times the largest of the train split's real
    states and the law's tolerance. The real states of the test split are subject ``true`` and should break
    hardly any. Laws that need the bodies posed are checked where the task's card says how. What is not finite
    breaks every law. Our definition. Intervals are those of proportions clustered by episode.

    Args:
        arrays: ``subject``, ``role`` (M,), ``dimension``, ``kind``, ``unit`` (O,), ``start`` (W, O), ``valid`` (W, H)
            bool, ``prediction`` (M, W, H, O), ``episode`` (W,), ``has_pose`` (), ``posed`` (L,) str, ``posed_value``
            (M, W, H, L), ``posed_start`` (W, L), ``posed_before`` and ``posed_after`` (N, L) of train transitions,
            ``step_limit`` (D,) NaN for what is no position, ``moving_position`` and ``moving_velocity`` (Q,) int,
            ``before`` and ``after`` (N, O) of the same transitions, ``control_hz`` ().

    Returns:
        For each subject ``violations``, then ``violation:penetration`` and so on.
    """
    subjects, roles, valid = arrays["subject"], arrays["role"], arrays["valid"]
    _, cluster = np.unique(arrays["episode"], return_inverse=True)
    member = (cluster == np.arange(cluster.max(initial=-1) + 1)[:, None]).astype(np.float64)  # (C, W)
    results: list[Result] = []
    for m, (subject, role) in enumerate(zip(subjects, roles, strict=True)):
        numbers = Numbers("constraints", str(subject), DEFINITIONS, {"role": str(role), "n_episodes": len(member)})
        breaches = _breaches(arrays, m)
        lost = ~np.isfinite(arrays["prediction"][m]).all(-1) & valid  # (W, H)
        broken = {law: np.asarray(((b > limit) | lost) & valid) for law, (b, limit) in breaches.items()}
        n, bad = len(valid), int(lost.any(1).sum())
        if not valid.any() or not broken:
            why = "no law can be checked in this task" if valid.any() else "there are no valid steps"
            numbers.none(["violations"], why, n)
            results += numbers.results
            continue
        every = np.any(list(broken.values()), axis=0)
        reached = valid.sum(0)
        curve = np.divide(every.sum(0), reached, out=np.full(len(reached), np.nan), where=reached > 0)
        share = _Share(numbers, member, valid, bad)
        share.add("violations", every, laws=sorted(broken), curve=json_list(curve))
        for law, what in LAWS.items():
            if law in broken:
                breach, limit = breaches[law]
                worst = finite_or_none(float(breach[valid].max()))
                share.add(f"violation:{law}", broken[law], limit=limit, worst=worst, unit=what.unit, breach=what.what)
            else:
                posed = what.posed and not arrays["has_pose"]
                why = "the task's card does not say how an observation poses the bodies" if posed else what.absent
                numbers.none([f"violation:{law}"], why)
        results += numbers.results
    return results


@dataclass(frozen=True)
class _Share:
    """Adds shares of states with their intervals."""

    numbers: Numbers
    member: np.ndarray
    valid: np.ndarray
    lost: int

    def add(self, name: str, broken: np.ndarray, **details: Any) -> None:
        """The share of valid states at which ``broken`` (W, H) holds."""
        hits, count = self.member @ broken.sum(1), self.member @ self.valid.sum(1)
        states = int(count.sum())
        interval = proportion_interval(hits, count)
        self.numbers.add(name, float(hits.sum() / states), interval, len(broken), self.lost, states=states, **details)


def _breaches(arrays: Arrays, m: int) -> dict[str, tuple[np.ndarray, float]]:
    """Each law that can be checked to the breaches of subject ``m``, (W, H), and what real states do not exceed."""
    found: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for i, law in enumerate(arrays["posed"].tolist()):
        value, before, after = (arrays[f"posed_{k}"][..., i] for k in ("value", "before", "after"))
        value = value[m]
        if law == "energy":
            with np.errstate(invalid="ignore"):
                path = np.concatenate([arrays["posed_start"][:, None, i], value], axis=1)
                found["energy-jump"] = np.abs(np.diff(path, axis=1)), np.abs(after - before)
        else:
            found[law] = value, np.maximum(before, after)
    with np.errstate(invalid="ignore", over="ignore"):
        found |= _motion(arrays, m)
    return {
        law: (np.where(np.isfinite(b), b, np.inf), max(SLACK * float(real.max(initial=0.0)), LAWS[law].tolerance))
        for law, (b, real) in found.items()
    }


def _motion(arrays: Arrays, m: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """What observations alone tell: breaches of subject ``m``, (W, H), and of the train split's transitions, (N,)."""
    geometry = Geometry.of(arrays["dimension"], arrays["kind"], arrays["unit"])
    predicted = arrays["prediction"][m].astype(np.float64)
    path = np.concatenate([arrays["start"][:, None].astype(np.float64), predicted], axis=1)  # (W, H + 1, O)
    before, after = arrays["before"].astype(np.float64), arrays["after"].astype(np.float64)
    found: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    turns = [c for kind, c in zip(geometry.kinds, geometry.columns, strict=True) if kind == "quaternion"]
    if turns:
        found["quaternion"] = _norms(predicted, turns), np.maximum(_norms(before, turns), _norms(after, turns))
    most = arrays["step_limit"]
    place = most > 0  # False for NaN, and for positions that never move
    if place.any():

        def moved(a: np.ndarray, b: np.ndarray) -> np.ndarray:
            return (np.abs(geometry.difference(b, a))[..., place] / most[place]).max(-1)

        found["teleport"] = moved(path[:, :-1], path[:, 1:]), moved(before, after)
    if len(arrays["moving_position"]):
        real = _residual(arrays, before, after)
        scale = np.maximum(real.max(0), np.finfo(float).tiny)
        imagined = _residual(arrays, path[:, :-1], path[:, 1:])
        found["consistency"] = (imagined / scale).max(-1), (real / scale).max(-1)
    return found


def _norms(observation: np.ndarray, turns: list[slice]) -> np.ndarray:
    """How far the worst quaternion is from unit norm: (..., O) to (...)."""
    return np.max([np.abs(np.linalg.norm(observation[..., c], axis=-1) - 1) for c in turns], axis=0)


def _residual(arrays: Arrays, before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """What of the change of each position its velocities do not explain: (..., O) twice to (..., Q)."""
    position, velocity = arrays["moving_position"], arrays["moving_velocity"]
    moved = after[..., position] - before[..., position]
    turning = arrays["kind"][position] == "angle"
    moved = np.where(turning, (moved + np.pi) % (2 * np.pi) - np.pi, moved)
    mean = (after[..., velocity] + before[..., velocity]) / 2
    return np.abs(moved - mean / float(arrays["control_hz"]))


MEASURE = Measure(
    name="constraints",
    question="Are imagined states possible at all, however far the rollout has drifted?",
    unit="1",
    direction="lower",
    range=(0.0, 1.0),
    needs=(
        "subject",
        "role",
        "dimension",
        "kind",
        "unit",
        "start",
        "valid",
        "prediction",
        "episode",
        "has_pose",
        "posed",
        "posed_value",
        "posed_start",
        "posed_before",
        "posed_after",
        "step_limit",
        "moving_position",
        "moving_velocity",
        "before",
        "after",
        "control_hz",
    ),
    source="Share of imagined states that break the laws real states obey (our definition); docs/measures.md",
    function=constraints,
    ranks=False,
)
