"""How long does an imagined rollout stay with the true one, and how long could any simulator?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from wmbench.measures.geometry import CAP, Geometry, normalised
from wmbench.measures.result import Arrays, Measure, Result, finite_or_none, json_list
from wmbench.statistics import bootstrap, mean_survival, median_survival, survival_curve

SATURATION = 2.0
"""Where the error stops counting in the area; two independent draws lie about sqrt(2) apart."""

THRESHOLDS = (0.5, 1.0)
FLOOR_SCALE = 1e-6
LEAST_SHARE = 0.1
"""Steps that fewer windows reach are not scored: a window or two that last longest would decide them."""

QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)


@dataclass(frozen=True)
class Rollouts:
    """One subject's errors along the windows.

    Attributes:
        error: (W, H) float64, NRMSE at each step: root mean over dimensions of the squared error in standard
            deviations of the train split; :data:`CAP` where the prediction is not finite.
        valid: (W, H) bool, steps that the true episode has.
        cluster: (W,) int, index of the window's episode.
    """

    error: np.ndarray
    valid: np.ndarray
    cluster: np.ndarray

    @property
    def clusters(self) -> int:
        """How many episodes the windows come from."""
        return int(self.cluster.max()) + 1

    def area(self, weights: np.ndarray, horizon: int) -> np.ndarray:
        """Mean of min(NRMSE, 2) over all valid steps up to a horizon: (R, C) weights of episodes to (R,)."""
        rows = weights[:, self.cluster]  # (R, W)
        valid = self.valid[:, :horizon]
        cut = np.where(valid, np.minimum(self.error[:, :horizon], SATURATION), 0.0)
        return rows @ cut.sum(1) / (rows @ valid.sum(1))

    def times(self, threshold: float) -> tuple[np.ndarray, np.ndarray]:
        """First step with NRMSE above a threshold, or the last step seen, and whether it was reached: (W,) each."""
        above = (self.error > threshold) & self.valid
        observed = above.any(1)
        return np.where(observed, above.argmax(1) + 1, self.valid.sum(1)), observed

    def survival(self, weights: np.ndarray, threshold: float) -> np.ndarray:
        """Kaplan-Meier curve of the time to a threshold: (R, C) weights of episodes to (R, H + 1)."""
        times, observed = self.times(threshold)
        return survival_curve(times, observed, weights[:, self.cluster], self.error.shape[1])

    def curve(self) -> dict[str, Any]:
        """NRMSE by step: quantiles over the windows that reach it, and how many do."""
        count = self.valid.sum(0)
        levels = np.array(
            [np.quantile(self.error[self.valid[:, h], h], QUANTILES) for h in range(len(count))]
        )  # (H, 5), at most CAP
        return {
            "step": list(range(1, len(count) + 1)),
            "n": count.tolist(),
            "quantiles": list(QUANTILES),
            "nrmse": json_list(levels.T),
        }


def rollouts(arrays: Arrays) -> tuple[list[Rollouts], list[str]]:
    """Errors of every subject up to the last step that a tenth of the windows reach, and the masked dimensions.

    There are none if every dimension is masked.

    Args:
        arrays: As :func:`drift` takes them.
    """
    geometry = Geometry.of(arrays["dimension"], arrays["kind"], arrays["unit"])
    keep = geometry.varies(arrays["observation_std"], arrays["observation_low"], arrays["observation_high"])
    masked = [name for name, kept in zip(geometry.names, keep, strict=True) if not kept]
    if not keep.any():
        return [], masked
    scale = geometry.scale(arrays["observation_std"])[keep]
    cluster = np.unique(arrays["episode"], return_inverse=True)[1]
    horizon = int((arrays["valid"].mean(0) >= LEAST_SHARE).sum())
    truth, valid = arrays["truth"][:, 1 : horizon + 1], arrays["valid"][:, :horizon]
    found = []
    for predicted in arrays["prediction"][:, :, :horizon]:
        each = normalised(geometry.difference(predicted, truth)[..., keep], scale)  # (W, H, D)
        lost = ~np.isfinite(predicted).all(-1)
        found.append(Rollouts(np.where(lost, CAP, np.sqrt((each**2).mean(-1))), valid, cluster))
    return found, masked


def drift(arrays: Arrays) -> list[Result]:
    """Score open-loop rollouts against the true ones under the same recorded actions.

    NRMSE(h) = sqrt((1/D) sum_d ((predicted - true) / sigma_d)^2), sigma of the train split. The area is its mean
    over all steps of all windows, cut at 2. The steps to a threshold are right-censored where a window ends, and
    their median is Kaplan and Meier's. The horizon is the last step that a tenth of the windows reach, the same for
    every subject. Subjects of role ``floor`` are the true simulator started from a slightly disturbed state: past
    the step where that one is lost, no model can be told from another by its errors. Intervals resample episodes.

    Args:
        arrays: ``subject`` (M,), ``role`` (M,) of ``model``, ``baseline`` or ``floor``, ``disturbance`` (M,) in
            standard deviations (0 for all but the floor), ``dimension`` (O,), ``kind`` (O,), ``unit`` (O,),
            ``truth`` (W, H + 1, O), ``valid`` (W, H) bool, ``prediction`` (M, W, H, O), ``episode`` (W,),
            ``observation_std`` (O,), ``observation_low`` (O,), ``observation_high`` (O,), ``control_hz`` (); where the
            recording has no floor of its own ``floor_steps`` (), the median of a table of floors.

    Returns:
        For each subject ``auc``, ``auc-to-floor`` where there is a floor, and per threshold ``steps-to-0.5`` (the
        median) and ``mean-steps-to-0.5`` (restricted to the horizon, so that it always has a value).
    """
    subjects, roles = [str(s) for s in arrays["subject"]], [str(r) for r in arrays["role"]]
    windows = len(arrays["valid"])
    if not (arrays["valid"].mean(0) >= LEAST_SHARE).any():
        return [_none(s, "auc", windows, "there are no valid steps") for s in subjects]
    every, masked = rollouts(arrays)
    if not every:
        return [_none(s, "auc", windows, "every dimension is constant in the train split") for s in subjects]
    horizon = every[0].error.shape[1]
    floor = next(
        (
            int(min(horizon, _median(every[m], THRESHOLDS[0])))
            for m, role in enumerate(roles)
            if role == "floor" and math.isclose(arrays["disturbance"][m], FLOOR_SCALE, rel_tol=1e-6)
        ),
        _shipped_floor(arrays, horizon),
    )
    hz = float(arrays["control_hz"])
    results: list[Result] = []
    for m, subject in enumerate(subjects):
        one = every[m]
        lost = int((~np.isfinite(arrays["prediction"][m][:, :horizon]).all(-1) & one.valid).any(1).sum())
        common = {"n_episodes": one.clusters, "masked": masked, "role": roles[m]}
        horizons = {"auc": horizon} | ({"auc-to-floor": floor} if floor else {})
        for name, steps in horizons.items():
            value = float(one.area(np.ones((1, one.clusters)), steps)[0])
            interval = bootstrap(
                lambda w, o=one, s=steps: o.area(w, s),  # type: ignore[misc]
                one.clusters,
                bounds=(0.0, SATURATION),
            )
            details = {**common, "horizon": steps, "floor": floor}
            if name == "auc":
                details["curve"] = one.curve()
            variant = f"mean NRMSE over the windows' steps 1 to {steps}, cut at {SATURATION:g}"
            results.append(_result(name, subject, value, interval, windows, lost, "1", "lower", variant, None, details))
        for threshold in THRESHOLDS:
            results += _steps(one, subject, threshold, windows, lost, hz, common)
    return results


def _steps(
    one: Rollouts, subject: str, threshold: float, windows: int, lost: int, hz: float, common: dict[str, Any]
) -> list[Result]:
    """Median and restricted mean of the steps until NRMSE exceeds a threshold."""
    horizon = one.error.shape[1]
    censored = float(1 - one.times(threshold)[1].mean())
    details = {**common, "censored": censored, "horizon": horizon}
    ones = np.ones((1, one.clusters))
    median = float(median_survival(one.survival(ones, threshold))[0])
    interval = bootstrap(lambda w: median_survival(one.survival(w, threshold)), one.clusters, method="percentile")
    reached = math.isfinite(median)
    mean = float(mean_survival(one.survival(ones, threshold))[0])
    around = bootstrap(lambda w: mean_survival(one.survival(w, threshold)), one.clusters, bounds=(0.0, horizon))
    return [
        _result(
            f"steps-to-{threshold:g}",
            subject,
            median if reached else None,
            interval,
            windows,
            lost,
            "steps",
            "higher",
            f"first step with NRMSE > {threshold:g}, Kaplan-Meier median, censored at {horizon}",
            None if reached else f"more than half of the windows stay below {threshold:g} for as long as they last",
            {**details, "seconds": finite_or_none(median / hz)},
        ),
        _result(
            f"mean-steps-to-{threshold:g}",
            subject,
            mean,
            around,
            windows,
            lost,
            "steps",
            "higher",
            f"first step with NRMSE > {threshold:g}, Kaplan-Meier mean restricted to {horizon} steps",
            None,
            {**details, "seconds": mean / hz},
        ),
    ]


def _shipped_floor(arrays: Arrays, horizon: int) -> int | None:
    """The floor of a table, for recordings without a disturbed simulator; None if there is neither."""
    steps = float(arrays.get("floor_steps", np.nan))
    return None if math.isnan(steps) else int(min(horizon, steps))


def _median(one: Rollouts, threshold: float) -> float:
    return float(median_survival(one.survival(np.ones((1, one.clusters)), threshold))[0])


def _result(
    name: str,
    subject: str,
    value: float | None,
    interval: tuple[float, float] | None,
    n: int,
    n_invalid: int,
    unit: str,
    direction: Any,
    variant: str,
    reason: str | None,
    details: dict[str, Any],
) -> Result:
    low, high = (finite_or_none(end) for end in interval or (None, None))
    return Result("drift", name, subject, value, low, high, n, n_invalid, unit, direction, variant, reason, details)


def _none(subject: str, name: str, windows: int, why: str) -> Result:
    return _result(name, subject, None, None, windows, 0, "1", "lower", "mean NRMSE", why, {})


MEASURE = Measure(
    name="drift",
    question="How far does an imagined rollout leave the true one under the same actions, and when?",
    unit="1",
    direction="lower",
    range=(0.0, SATURATION),
    needs=(
        "subject",
        "role",
        "disturbance",
        "dimension",
        "kind",
        "unit",
        "truth",
        "valid",
        "prediction",
        "episode",
        "observation_std",
        "observation_low",
        "observation_high",
        "control_hz",
    ),
    source="NRMSE curve and valid prediction time with the true simulator's divergence as floor; docs/measures.md",
    function=drift,
)
