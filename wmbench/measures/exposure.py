"""What does it cost a model to live on its own predictions: fed the truth, fed itself, and lived in by a policy?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from wmbench.measures.closed_loop import DEFINITIONS as CLOSED
from wmbench.measures.closed_loop import closed_loop
from wmbench.measures.drift import LEAST_SHARE, SATURATION, Rollouts, rollouts
from wmbench.measures.numbers import Definition, Numbers
from wmbench.measures.result import Arrays, Measure, Result, finite_or_none, json_list
from wmbench.statistics import Interval, bootstrap

HORIZONS = (5, 10, 25, 50)
AGAIN = "true, other starts"
"""Subject of the true simulator compared with itself on other starts: what equal distributions look like."""

_CUT = f"mean NRMSE over the windows' steps, cut at {SATURATION:g}"
OPEN = {
    "gap": Definition("1", "none", "geometric mean over steps of open-loop over teacher-forced error"),
    "teacher": Definition("1", "lower", f"{_CUT}; every step predicted from the true observation before it"),
    "open": Definition("1", "lower", f"{_CUT}; every step predicted from the model's own prediction"),
} | {
    f"gap-{h}": Definition("1", "none", f"open-loop over teacher-forced error at step {h}, each cut at {SATURATION:g}")
    for h in HORIZONS
}
DEFINITIONS = OPEN | CLOSED


def exposure(arrays: Arrays) -> list[Result]:
    """Compare a model's errors on true inputs, on its own, and the distributions that a policy meets in it.

    With T(h) the mean over windows of the teacher-forced NRMSE at step h and E(h) that of the open loop, both of the
    same windows and cut at 2, the exposure gap is E(h) / T(h): exactly 1 at the first step, and what a model loses to
    its own errors after. ``gap`` is its geometric mean over the steps up to the floor of the task, if one is shipped.
    It ranks nobody: a model that always predicts the same has a gap of 1, and so has one that fails outright.
    Closed loop: at given steps of E episodes from the same starts, the distributions of observations are
    compared, dimension by dimension (Wasserstein-1, on the circle for angles) and as a whole (energy distance). An
    episode that ended stays where it did. Two samples of one distribution are not at distance 0 unless they are the
    same, so the true simulator on other starts stands beside the models. Intervals resample episodes or starts.

    Args:
        arrays: ``subject`` (M,), ``role`` (M,), ``dimension``, ``kind``, ``unit`` (O,), ``truth`` (W, H + 1, O),
            ``valid`` (W, H) bool, ``prediction`` and ``teacher`` (M, W, H, O), ``episode`` (W,), ``observation_std``,
            ``observation_low``, ``observation_high`` (O,), ``floor_steps`` (). If a policy acted, ``closed_step`` (K,),
            ``closed_subject`` (M,) bool, ``closed_true`` and ``closed_again`` (E, K, O), ``closed`` (M, E, K, O),
            ``return_true`` and ``return_again`` (E,), ``return`` (M, E), NaN where an episode is invalid.

    Returns:
        For each subject ``gap``, ``teacher``, ``open``, ``gap-5``, ``gap-10`` and so on, ``closed-w1``,
        ``closed-energy``, ``closed-return``; the last three also for ``"true, other starts"``.
    """
    subjects, roles = [str(s) for s in arrays["subject"]], [str(r) for r in arrays["role"]]
    reached = (arrays["valid"].mean(0) >= LEAST_SHARE).any()
    opened, masked = rollouts(arrays) if reached else ([], [])
    taught = rollouts({**arrays, "prediction": arrays["teacher"]})[0] if reached else []
    results: list[Result] = []
    for m, (subject, role) in enumerate(zip(subjects, roles, strict=True)):
        numbers = Numbers("exposure", subject, DEFINITIONS, {"role": role, "masked": masked})
        if opened:
            horizon = opened[m].error.shape[1]
            lost = {
                name: (~np.isfinite(arrays[array][m][:, :horizon]).all(-1) & opened[m].valid).any(1)
                for name, array in (("teacher", "teacher"), ("open", "prediction"))
            }
            _gap(numbers, opened[m], taught[m], float(arrays["floor_steps"]), lost)
        else:
            why = "every dimension is constant in the train split" if reached else "there are no valid steps"
            numbers.none(OPEN, why, len(arrays["valid"]))
        if "closed_step" not in arrays:
            numbers.none(CLOSED, "no policy acted in this recording")
        elif not arrays["closed_subject"][m]:
            numbers.none(CLOSED, "it is no simulator that a policy could act in")
        else:
            closed_loop(numbers, arrays, arrays["closed"][m], arrays["return"][m])
        results += numbers.results
    if "closed_step" in arrays:
        numbers = Numbers("exposure", AGAIN, DEFINITIONS, {"role": "floor"})
        closed_loop(numbers, arrays, arrays["closed_again"], arrays["return_again"])
        results += numbers.results
    return results


def _gap(numbers: Numbers, opened: Rollouts, taught: Rollouts, floor: float, invalid: dict[str, np.ndarray]) -> None:
    """Errors by step, and their ratio; ``invalid`` has the windows (W,) lost to each of ``teacher`` and ``open``."""
    clusters, windows = opened.clusters, len(opened.valid)
    lost = int((invalid["teacher"] | invalid["open"]).sum())
    horizon = opened.error.shape[1]
    steps = horizon if np.isnan(floor) else int(min(horizon, floor))
    member = (opened.cluster == np.arange(clusters)[:, None]).astype(np.float64)  # (C, W)
    above, below = (
        member @ np.where(opened.valid, np.minimum(one.error, SATURATION), 0.0) for one in (opened, taught)
    )  # (C, H)
    count = member @ opened.valid

    def gap(columns: slice, rows: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        """Mean over steps of the log of the gap, of some episodes; a step at which a resample is exact is left out."""

        def log(w: np.ndarray) -> np.ndarray:
            with np.errstate(divide="ignore", invalid="ignore"):
                found = np.log(w @ above[rows, columns]) - np.log(w @ below[rows, columns])
            return np.where(np.isfinite(found), found, np.nan)

        estimate = log(np.ones((1, int(rows.sum())))).mean()

        def statistic(w: np.ndarray) -> np.ndarray:
            found = log(w)
            seen = np.isfinite(found)
            mean = np.where(seen, found, 0.0).sum(1) / np.maximum(seen.sum(1), 1)
            return np.where(seen.any(1), mean, estimate)

        return statistic

    def add(name: str, columns: slice, n: int, reason: str | None = None, **details: Any) -> None:
        rows = count[:, columns].any(1)
        if not (below[:, columns].sum(0) > 0).all():
            numbers.add(name, None, None, n, lost, reason="the model makes no teacher-forced error", **details)
            return
        statistic = gap(columns, rows)
        ends = bootstrap(statistic, int(rows.sum()))
        interval = None if ends is None else Interval(float(np.exp(ends.low)), float(np.exp(ends.high)))
        value = float(np.exp(statistic(np.ones((1, int(rows.sum()))))[0]))
        numbers.add(name, value, interval, n, lost, reason=reason, **details)

    curve = {
        "step": list(range(1, horizon + 1)),
        "teacher": json_list(below.sum(0) / count.sum(0)),
        "open": json_list(above.sum(0) / count.sum(0)),
        "gap": json_list(np.divide(above.sum(0), below.sum(0), out=np.full(horizon, np.nan), where=below.sum(0) > 0)),
    }
    numbers.common = {**numbers.common, "n_episodes": clusters, "horizon": steps, "floor": finite_or_none(floor)}
    add("gap", slice(0, steps), windows, curve=curve)
    for name, one in (("teacher", taught), ("open", opened)):
        interval = bootstrap(lambda w, o=one: o.area(w, steps), clusters, bounds=(0.0, SATURATION))  # type: ignore[misc]
        value, bad = float(one.area(np.ones((1, clusters)), steps)[0]), int(invalid[name].sum())
        numbers.add(name, value, interval, windows, bad)
    for h in HORIZONS:
        if h > horizon:
            numbers.none([f"gap-{h}"], f"hardly a window has {h} steps")
        else:
            note = "past the task's floor, where no simulator stays with the true one" if h > steps else None
            add(f"gap-{h}", slice(h - 1, h), int(opened.valid[:, h - 1].sum()), note)


MEASURE = Measure(
    name="exposure",
    question="What does it cost a model to live on its own predictions, and would a policy meet the same states in it?",
    unit="1",
    direction="none",
    range=(0.0, None),
    needs=(
        "subject",
        "role",
        "dimension",
        "kind",
        "unit",
        "truth",
        "valid",
        "prediction",
        "teacher",
        "episode",
        "observation_std",
        "observation_low",
        "observation_high",
        "floor_steps",
    ),
    source="Teacher-forced, open and closed loop side by side; Wasserstein-1 and energy distance; docs/measures.md",
    function=exposure,
)
