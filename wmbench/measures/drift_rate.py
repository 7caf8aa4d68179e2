"""How fast does the error of an imagined rollout grow, and how much of that growth is the simulator's own?"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from wmbench.measures import drift
from wmbench.measures.drift import FLOOR_SCALE, LEAST_SHARE, Rollouts, rollouts
from wmbench.measures.geometry import FLOAT32_RESOLUTION, Geometry
from wmbench.measures.numbers import Definition, Numbers
from wmbench.measures.result import Arrays, Measure, Result
from wmbench.statistics import bootstrap

PLATEAU = math.sqrt(2.0)
"""NRMSE between two independent draws from the train split: an error that grows levels off here at the latest."""

LOW, HIGH = 3.0, 0.3
"""The fit begins above ``LOW`` times the first step's error and ends before ``HIGH`` times the plateau, which is the
largest error of the curve, at most :data:`PLATEAU`."""

LEAST_POINTS = 4
"""A line through fewer points says nothing about its slope."""

_FIT = (
    f"slope of the mean log NRMSE over the steps after it exceeds {LOW:g} times its first step's "
    f"and before it reaches {HIGH:g} times its plateau"
)
DEFINITIONS = {
    "rate": Definition("1/step", "lower", _FIT),
    "rate-per-second": Definition("1/s", "lower", f"{_FIT}, times the control rate"),
    "excess": Definition("1/step", "lower", f"{_FIT}, less that of the true simulator disturbed by 1e-6 std"),
}


@dataclass(frozen=True)
class Fit:
    """A line through the log errors of one subject.

    Attributes:
        first: First step fitted, from 1.
        last: Last step fitted.
        slope: (W,) float64, of each window's log NRMSE; 0 for windows that are left out.
        used: (W,) bool, windows that reach the last step. All of a curve's points so come from the same windows, and
            its slope is the mean of theirs.
        cluster: (W,) int, index of the window's episode.
    """

    first: int
    last: int
    slope: np.ndarray
    used: np.ndarray
    cluster: np.ndarray

    @property
    def points(self) -> int:
        """How many steps the line goes through."""
        return self.last - self.first + 1

    @property
    def rate(self) -> float:
        """Slope of the mean log NRMSE, per step."""
        return float(self.slope[self.used].mean())

    def rates(self, weights: np.ndarray) -> np.ndarray:
        """Rate by weights of episodes, (R, C) to (R,); where no window has weight the estimate itself."""
        rows = weights[:, self.cluster] * self.used  # (R, W)
        count = rows.sum(1)
        return np.where(count > 0, rows @ self.slope / np.maximum(count, 1e-300), self.rate)


def fit(one: Rollouts, resolution: float) -> Fit | str:
    """Fit one subject's growth.

    Args:
        one: Errors by window and step.
        resolution: NRMSE that rounding observations to float32 may cause; smaller errors count as this.

    Returns:
        The fit, or why there is none.
    """
    log = np.log(np.maximum(one.error, resolution))  # (W, H)
    curve = np.where(one.valid, log, 0.0).sum(0) / one.valid.sum(0)  # (H,) every step is reached by some window
    low, high = curve[0] + math.log(LOW), min(curve.max(), math.log(PLATEAU)) + math.log(HIGH)
    end = int(np.argmax(curve >= high))  # the largest error is above, so there is one
    grown = np.flatnonzero(curve[:end] > low)
    if not end:
        return f"the error is at {HIGH:g} of its plateau after the first step already"
    if not len(grown) or end - grown[0] < LEAST_POINTS:
        found = f"{end - int(grown[0])} of the {LEAST_POINTS} steps needed" if len(grown) else "no step"
        return f"{found} between {LOW:g} times the first step's error and {HIGH:g} of its plateau"
    steps = np.arange(int(grown[0]), end)
    used = one.valid[:, end - 1]  # a tenth of the windows at least: rollouts() cuts where fewer are left
    centred = steps - steps.mean()
    slope = np.where(used, log[:, steps] @ centred / (centred @ centred), 0.0)
    return Fit(int(steps[0]) + 1, end, slope, used, one.cluster)


def drift_rate(arrays: Arrays) -> list[Result]:
    """Fit exponential growth to the errors of open-loop rollouts.

    With E(h) the geometric mean of NRMSE(h) over windows, the rate is the least-squares slope of log E(h) over the
    steps from the first with E(h) > 3 E(1) to the last before E(h) reaches 0.3 of the plateau: the largest E(h) or
    sqrt(2), the level of two independent draws, whichever is less. Near a small error it estimates the largest
    finite-time Lyapunov exponent of what is simulated.
    The excess is the rate less that of the true simulator started 1e-6 standard deviations away: growth that
    the model adds to the system's own. Intervals resample episodes, with the steps fitted kept.

    Args:
        arrays: As :func:`wmbench.measures.drift.drift` takes them; ``floor_rate`` () of a table of floors is used where
            the recording has no disturbed simulators of its own.

    Returns:
        For each subject ``rate`` and ``rate-per-second``; for all but the floors ``excess``.
    """
    subjects, roles = [str(s) for s in arrays["subject"]], [str(r) for r in arrays["role"]]
    every, masked = rollouts(arrays) if (arrays["valid"].mean(0) >= LEAST_SHARE).any() else ([], [])
    windows, hz = len(arrays["valid"]), float(arrays["control_hz"])
    if not every:
        why = "every dimension is constant in the train split" if masked else "there are no valid steps"
        return [r for s in subjects for r in _nothing(s, why, windows)]
    resolution = _resolution(arrays)
    fits = [fit(one, resolution) for one in every]
    own = next((f for f, m in zip(fits, _is_floor(arrays), strict=True) if m), None)
    results: list[Result] = []
    for m, (subject, role, one, found) in enumerate(zip(subjects, roles, every, fits, strict=True)):
        numbers = Numbers("drift-rate", subject, DEFINITIONS, {"role": role, "masked": masked})
        names = ("rate", "rate-per-second") if role == "floor" else tuple(DEFINITIONS)
        if isinstance(found, str):
            numbers.none(names, found, windows)
        else:
            predicted = arrays["prediction"][m][:, : one.error.shape[1]]
            lost = int((~np.isfinite(predicted).all(-1) & one.valid).any(1)[found.used].sum())
            _rates(numbers, found, hz, lost)
            if role != "floor":
                _excess(numbers, found, own, float(arrays.get("floor_rate", np.nan)), lost)
        results += numbers.results
    return results


def _rates(numbers: Numbers, found: Fit, hz: float, lost: int) -> None:
    """Growth per step and per second."""
    numbers.common = {
        **numbers.common,
        "first_step": found.first,
        "last_step": found.last,
        "points": found.points,
        "n_episodes": len(np.unique(found.cluster[found.used])),
    }
    here = np.unique(found.cluster[found.used], return_inverse=True)[1]
    inside = Fit(found.first, found.last, found.slope[found.used], np.ones(len(here), dtype=bool), here)
    interval = bootstrap(inside.rates, int(here.max()) + 1)
    n, rate = int(found.used.sum()), found.rate
    doubling = math.log(2) / rate if rate > 0 else None
    numbers.add("rate", rate, interval, n, lost, doubling_steps=doubling)
    scaled = None if interval is None else type(interval)(interval.low * hz, interval.high * hz)
    numbers.add("rate-per-second", rate * hz, scaled, n, lost)


def _excess(numbers: Numbers, found: Fit, own: Fit | str | None, shipped: float, lost: int) -> None:
    """Growth beyond that of the true simulator on the same windows, or in a table of floors."""
    n, clusters = int(found.used.sum()), int(found.cluster.max()) + 1
    if isinstance(own, Fit):
        floor, source = own.rate, "the recording's own"
        interval = bootstrap(lambda w: found.rates(w) - own.rates(w), clusters)
    elif math.isfinite(shipped):
        floor, source = shipped, "shipped with the task: random actions from random states"
        interval = bootstrap(lambda w: found.rates(w) - shipped, clusters)
    else:
        why = f"the true simulator has no rate: {own}" if own else "the recording has no disturbed true simulator"
        numbers.none(["excess"], why, n)
        return
    numbers.add("excess", found.rate - floor, interval, n, lost, floor_rate=floor, floor=source)


def _is_floor(arrays: Arrays) -> np.ndarray:
    """(M,) bool, the true simulator disturbed by :data:`FLOOR_SCALE`."""
    return (arrays["role"] == "floor") & np.isclose(arrays["disturbance"], FLOOR_SCALE, rtol=1e-6, atol=0.0)


def _resolution(arrays: Arrays) -> float:
    """NRMSE of errors as large as the last digit of a float32 observation."""
    geometry = Geometry.of(arrays["dimension"], arrays["kind"], arrays["unit"])
    std, low, high = (arrays[f"observation_{name}"] for name in ("std", "low", "high"))
    keep = geometry.varies(std, low, high)
    largest = np.maximum(np.abs(low), np.abs(high))
    digit = FLOAT32_RESOLUTION * np.array([largest[c].max() for c in geometry.columns])[keep]
    return float(np.sqrt(np.mean((digit / geometry.scale(std)[keep]) ** 2)))


def _nothing(subject: str, why: str, windows: int) -> list[Result]:
    numbers = Numbers("drift-rate", subject, DEFINITIONS)
    numbers.none(["rate"], why, windows)
    return numbers.results


MEASURE = Measure(
    name="drift-rate",
    question="How fast does the error of an imagined rollout grow, and how much faster than the simulator's own?",
    unit="1/step",
    direction="lower",
    range=(None, None),
    needs=drift.MEASURE.needs,
    source="Slope of log NRMSE below saturation, less the disturbed simulator's (our definition); docs/measures.md",
    function=drift_rate,
    ranks=False,
    recording="drift",
)
