"""Is the predicted distribution of one step right? Coverage of its intervals, sharpness, and proper scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from wmbench.measures.events import clusters
from wmbench.measures.geometry import CAP, Geometry
from wmbench.measures.numbers import Definition, Numbers
from wmbench.measures.result import Arrays, json_list
from wmbench.statistics import bootstrap
from wmbench.statistics.calibration import (
    LEVELS,
    binomial_deviation,
    calibration_error,
    coverage_sums,
    gaussian_centrality,
    miscalibration_area,
    rms_calibration_error,
    sample_centrality,
    sample_levels,
)
from wmbench.statistics.clustered import norm_interval, proportion_interval
from wmbench.statistics.scoring import gaussian_crps, gaussian_nll, sample_crps

FLOOR = 1e-3
"""Least standard deviation that a score believes, in those of the train split's change. Without one a model of a
noiseless simulator buys any likelihood with a small enough sigma."""

COVERED = (0.5, 0.9)

_UNIT = "in standard deviations of the train split's change"
_POOLED = "one step, delta form, dimensions pooled"
DEFINITIONS = {
    **{
        f"coverage-{q * 100:g}": Definition(
            "1", "none", f"{_POOLED}, share of truths inside the central {q * 100:g} % interval; right at {q:g}"
        )
        for q in COVERED
    },
    "ece": Definition("1", "lower", f"{_POOLED}, mean over levels of |nominal - observed coverage|"),
    "rmsce": Definition("1", "lower", f"{_POOLED}, root mean square over levels of nominal - observed coverage"),
    "miscalibration-area": Definition("1", "lower", f"{_POOLED}, area between observed and nominal coverage"),
    "sharpness": Definition(
        "1", "lower", f"{_POOLED}, root mean predicted variance, {_UNIT}, sigma at least {FLOOR:g}"
    ),
    "nll": Definition("nat", "lower", f"{_POOLED}, mean Gaussian NLL, {_UNIT}, sigma at least {FLOOR:g}"),
    "crps": Definition("1", "lower", f"{_POOLED}, mean CRPS of the Gaussian, {_UNIT}, sigma at least {FLOOR:g}"),
    "crps-draws": Definition("1", "lower", f"{_POOLED}, mean CRPS of the draws, fair estimator, {_UNIT}"),
}


@dataclass(frozen=True)
class Distribution:
    """What one subject says about the next observation of N items, in D dimensions, all in train standard deviations.

    Attributes:
        error: (N, D) truth less predicted mean.
        sigma: (N, D) predicted standard deviation, before the floor.
        lost: (N,) bool, items in which something is not finite or a deviation is negative.
        draws: (K, N, D) draws less truth, or None for a Gaussian.
    """

    error: np.ndarray
    sigma: np.ndarray
    lost: np.ndarray
    draws: np.ndarray | None

    @classmethod
    def of(cls, arrays: Arrays, m: int, geometry: Geometry, keep: np.ndarray) -> Distribution | None:
        """Read subject ``m``; None if it gives neither draws nor a standard deviation.

        Args:
            arrays: As :func:`wmbench.measures.uncertainty.uncertainty` takes them.
            m: Which subject.
            geometry: Of the observation.
            keep: (D',) bool, which of the geometry's dimensions are scored.
        """
        scale = geometry.scale(arrays["delta_std"])[keep]
        truth = arrays["truth"][:, 1]
        if arrays["draws"][m]:
            predicted = arrays["draw"][m]
            lost = ~np.isfinite(predicted).all((0, 2))
            apart = geometry.difference(predicted, truth)[..., keep] / scale  # (K, N, D)
            draws = np.clip(np.where(lost[:, None], CAP, apart), -CAP, CAP)
            return cls(-draws.mean(0), draws.std(0, ddof=1), lost, draws)
        if not arrays["has_std"][m]:
            return None
        mean, std = arrays["prediction"][m, :, 0], arrays["prediction_std"][m].astype(np.float64)
        lost = ~(np.isfinite(mean) & np.isfinite(std) & (std >= 0)).all(1)
        columns = [c.start for c, kept in zip(geometry.columns, keep, strict=True) if kept]
        error = np.clip(geometry.difference(truth, mean)[:, keep] / scale, -CAP, CAP)
        return cls(error, std[:, columns] / scale, lost, None)


def gaussian_dimensions(geometry: Geometry, arrays: Arrays) -> np.ndarray:
    """Which dimensions of a geometry have a spread and can be Gaussian: (D,) bool; a rotation angle cannot."""
    varies = geometry.varies(arrays["delta_std"], arrays["observation_low"], arrays["observation_high"])
    return varies & np.array([kind != "quaternion" for kind in geometry.kinds])


def distribution(numbers: Numbers, arrays: Arrays, m: int) -> None:
    """Add everything about the predicted distribution of subject ``m``."""
    geometry = Geometry.of(arrays["dimension"], arrays["kind"], arrays["unit"])
    keep = gaussian_dimensions(geometry, arrays)
    n = len(arrays["truth"])
    found = Distribution.of(arrays, m, geometry, keep) if keep.any() else None
    if found is None:
        why = "the model gives neither draws nor a standard deviation" if keep.any() else "no dimension varies"
        numbers.none(DEFINITIONS, why, n)
        return
    names = [name for name, kept in zip(geometry.names, keep, strict=True) if kept]
    kind = "Gaussian" if found.draws is None else f"{len(found.draws)} draws; Gaussian scores by their moments"
    scorer = _Scorer(numbers, found, clusters(arrays["episode"]), names)
    numbers.common = {**numbers.common, "n_episodes": scorer.clusters, "distribution": kind}
    scorer.calibration()
    scorer.scores()
    numbers.common = {k: v for k, v in numbers.common.items() if k != "distribution"}


class _Scorer:
    """Scores one distribution: lost items lie outside every interval and have the worst score there is."""

    def __init__(
        self, numbers: Numbers, found: Distribution, cluster: tuple[np.ndarray, int], names: list[str]
    ) -> None:
        self.numbers, self.found, self.names = numbers, found, names
        self.cluster, self.clusters = cluster
        lost = found.lost[:, None]
        self.sigma = np.where(lost, CAP, np.clip(found.sigma, FLOOR, CAP))  # (N, D)
        # the largest error under the smallest sigma: nothing finite scores worse
        self.error = np.where(lost, CAP, found.error)
        self.believed = np.where(lost, FLOOR, self.sigma)
        if found.draws is None:
            centrality = gaussian_centrality(np.where(lost, np.inf, self.error / self.believed))
            self.levels = LEVELS
        else:
            centrality = sample_centrality(found.draws, np.zeros(self.error.shape))
            self.levels = sample_levels(len(found.draws))
        self.items = np.bincount(self.cluster, minlength=self.clusters).astype(np.float64)  # (C,)
        by_dimension = [coverage_sums(column, self.levels, self.cluster) for column in centrality.T]
        self.inside = np.stack(by_dimension)  # (D, C, L)

    def add(self, name: str, value: float, interval: Any, **details: Any) -> None:
        """One result over all items."""
        n_invalid = int(self.found.lost.sum())
        self.numbers.add(name, value, interval, len(self.cluster), n_invalid, **details)

    def calibration(self) -> None:
        """Coverage, and what it says of calibration."""
        dims, total = len(self.names), self.inside.sum(0)  # (C, L)
        curve = total.sum(0) / (dims * self.items.sum())
        for q in COVERED:
            near = int(np.argmin(np.abs(self.levels - q)))
            name = f"coverage-{q * 100:g}"
            if abs(self.levels[near] - q) > 1e-9:
                self.numbers.none([name], f"the draws have no central interval of level {q:g}", len(self.cluster))
                continue
            interval = proportion_interval(total[:, near], dims * self.items)
            self.add(name, float(curve[near]), interval)

        def gap(w: np.ndarray) -> np.ndarray:
            return w @ total / (dims * (w @ self.items))[:, None] - self.levels

        def area(g: np.ndarray) -> np.ndarray:
            return miscalibration_area(self.levels, g + self.levels)

        each = self.inside.sum(1) / self.items.sum()  # (D, L)
        self.add(
            "ece",
            float(calibration_error(self.levels, curve)),
            norm_interval(gap, lambda g: np.abs(g).mean(-1), self.clusters),
            if_calibrated=float(binomial_deviation(dims * self.items.sum(), self.levels).mean()),
            curve={"level": self.levels.tolist(), "coverage": curve.tolist()},
            table={"dimension": self.names, "ece": calibration_error(self.levels, each).tolist()},
        )
        rms = norm_interval(gap, lambda g: np.sqrt((g**2).mean(-1)), self.clusters)
        self.add("rmsce", float(rms_calibration_error(self.levels, curve)), rms)
        value = float(miscalibration_area(self.levels, curve))
        self.add("miscalibration-area", value, norm_interval(gap, area, self.clusters))

    def scores(self) -> None:
        """Sharpness and proper scores."""
        count, dims = self.items, len(self.names)

        def mean_of(values: np.ndarray) -> Any:
            sums = np.bincount(self.cluster, values.mean(1), minlength=self.clusters)
            return lambda w: (w @ sums) / (w @ count)

        def add(name: str, statistic: Any, values: np.ndarray, **details: Any) -> None:
            value = float(statistic(np.ones((1, self.clusters)))[0])
            table = {"dimension": self.names, name: json_list(values)}
            least = 0.0 if name in ("sharpness", "crps") else -np.inf
            interval = bootstrap(statistic, self.clusters, bounds=(least, np.inf))
            self.add(name, value, interval, table=table, **details)

        floored = float((~self.found.lost[:, None] & (self.found.sigma < FLOOR)).sum() / (len(self.cluster) * dims))
        variance = mean_of(self.sigma**2)
        add("sharpness", lambda w: np.sqrt(variance(w)), np.sqrt((self.sigma**2).mean(0)))
        for name, score in (("nll", gaussian_nll), ("crps", gaussian_crps)):
            values = score(np.zeros(self.error.shape), self.believed, self.error)
            if name == "crps":
                values = np.where(self.found.lost[:, None], CAP, np.minimum(values, CAP))
            add(name, mean_of(values), values.mean(0), floor=FLOOR, floored=floored)
        if self.found.draws is None:
            self.numbers.none(["crps-draws"], "the model gives a Gaussian, not draws", len(self.cluster))
            return
        fair = np.where(self.found.lost[:, None], CAP, sample_crps(self.found.draws, np.zeros(self.error.shape)))
        add("crps-draws", mean_of(fair), fair.mean(0))
