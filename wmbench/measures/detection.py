"""Does an uncertainty signal tell large errors from small ones, step by step, and better than a trivial one?"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from wmbench.measures.geometry import CAP, Geometry, normalised
from wmbench.measures.numbers import Definition, Numbers
from wmbench.measures.result import Arrays, finite_or_none
from wmbench.statistics import bootstrap
from wmbench.statistics.bootstrap import Statistic
from wmbench.statistics.clustered import auroc_interval, logit_interval
from wmbench.statistics.selective import Ranking

TAU = 0.9
"""Quantile of the model's own errors on the train split, at the same step, above which an error counts as one."""

RISKS = (0.01, 0.05)
HORIZONS = (1, 2, 5, 10, 20, 50, 100, 200, 500)

_ERROR = f"error above the {TAU * 100:g} % quantile of the train split at the same step"
_ONE = f"one step, {_ERROR}"
DETECTION = {
    "auroc": Definition("1", "higher", f"{_ONE}, area under the ROC curve of the signal"),
    "spearman": Definition("1", "higher", "one step, rank correlation of signal and error"),
    "aurc": Definition("1", "lower", f"{_ONE}, area under the risk-coverage curve"),
    "augrc": Definition("1", "lower", f"{_ONE}, area under the generalised risk-coverage curve"),
    **{
        f"coverage-at-risk-{r * 100:g}": Definition(
            "1", "higher", f"{_ONE}, largest share accepted with at most {r * 100:g} % errors among them"
        )
        for r in RISKS
    },
}
GAIN = {
    "auroc-gain": Definition(
        "1", "higher", f"{_ONE}, AUROC of the model's first signal less that of the best trivial one, paired"
    )
}


def errors(arrays: Arrays, prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Root mean over dimensions of squared errors in standard deviations: (..., O) twice to (...), at most the cap."""
    geometry = Geometry.of(arrays["dimension"], arrays["kind"], arrays["unit"])
    keep = geometry.varies(arrays["observation_std"], arrays["observation_low"], arrays["observation_high"])
    if not keep.any():
        return np.zeros(prediction.shape[:-1])
    each = normalised(
        geometry.difference(prediction, truth)[..., keep], geometry.scale(arrays["observation_std"])[keep]
    )
    return np.where(np.isfinite(prediction).all(-1), np.sqrt((each**2).mean(-1)), CAP)


class Step:
    """The errors of one subject at one step of the windows, and which of them count as errors."""

    def __init__(self, arrays: Arrays, m: int, h: int) -> None:
        self.rows = arrays["valid"][:, h]
        truth = arrays["truth"][self.rows, h + 1]
        self.error = errors(arrays, arrays["prediction"][m][self.rows, h], truth)
        seen = arrays["train_valid"][:, h]
        train = errors(arrays, arrays["train_prediction"][m][seen, h], arrays["train_truth"][seen, h + 1])
        self.tau = float(np.quantile(train, TAU)) if len(train) else math.nan
        self.positive = self.error > self.tau
        self.cluster = arrays["episode"][self.rows]
        self.h = h

    def score(self, signal: np.ndarray) -> tuple[np.ndarray, int]:
        """The signal at this step; where it is not finite, as wrong as can be: sure of errors, unsure of the rest."""
        values = signal[self.rows, self.h].astype(np.float64)
        bad = ~np.isfinite(values)
        return np.where(bad, np.where(self.positive, -np.inf, np.inf), values), int(bad.sum())

    @property
    def missing(self) -> str | None:
        """Why errors cannot be told from the rest here, or None."""
        if math.isnan(self.tau):
            return "no window of the train split reaches this step"
        if self.positive.all() or not self.positive.any():
            return (
                f"{'every' if self.positive.all() else 'no'} error of this split exceeds the threshold {self.tau:.3g}"
            )
        return None


def detection(numbers: Numbers, suffix: str, arrays: Arrays, s: int, steps: list[Step]) -> None:
    """How well one signal tells errors from the rest, at the first step and by horizon."""
    first, signal = steps[0], arrays["signal_value"][s]
    u, n_invalid = first.score(signal)
    n, name = len(u), str(arrays["signal"][s])
    if first.missing:
        numbers.none([f"{part}{suffix}" for part in DETECTION], first.missing, n)
        return
    ranking, loss = Ranking(u, first.cluster), first.positive.astype(np.float64)
    c = ranking.clusters
    common: dict[str, Any] = {"n_episodes": c, "signal": name, "tau": first.tau, "errors": int(loss.sum())}
    area = float(ranking.auroc(first.positive)[0])
    curve = _by_horizon(signal, steps)
    numbers.add(f"auroc{suffix}", area, auroc_interval(ranking, first.positive), n, n_invalid, **common, curve=curve)
    constant = "the signal" if len(np.unique(u)) == 1 else "the error" if len(np.unique(first.error)) == 1 else None
    if constant:
        numbers.none([f"spearman{suffix}"], f"{constant} is constant", n)
    else:
        rank = _against_errors(first, signal)
        interval = bootstrap(rank, c, bounds=(-1.0, 1.0))
        numbers.add(f"spearman{suffix}", float(rank(np.ones((1, c)))[0]), interval, n, n_invalid, **common)
    for what, statistic in (("aurc", ranking.aurc), ("augrc", ranking.augrc)):
        interval = logit_interval(lambda w, f=statistic: f(loss, w), c)  # type: ignore[misc]
        numbers.add(f"{what}{suffix}", float(statistic(loss)[0]), interval, n, n_invalid, **common)
    for risk in RISKS:
        value = float(ranking.coverage_at_risk(loss, risk)[0])
        interval = ranking.coverage_at_risk_interval(loss, risk)
        numbers.add(f"coverage-at-risk-{risk * 100:g}{suffix}", value, interval, n, n_invalid, **common)


def _against_errors(step: Step, signal: np.ndarray) -> Statistic:
    """Rank correlation of a signal with the errors; what is not finite ranks opposite to its error."""
    values = signal[step.rows, step.h].astype(np.float64)
    opposite = np.where(step.error > np.median(step.error), -np.inf, np.inf)
    ranking = Ranking(np.where(np.isfinite(values), values, opposite), step.cluster)
    return lambda w: ranking.spearman(step.error, w)


def _by_horizon(signal: np.ndarray, steps: list[Step]) -> dict[str, Any]:
    """Area and rank correlation at several steps of the open loop; None where undefined."""
    curve: dict[str, list[Any]] = {k: [] for k in ("step", "n", "tau", "auroc", "ci_low", "ci_high", "spearman")}
    for step in steps:
        u, _ = step.score(signal)
        ranking = Ranking(u, step.cluster)
        area, interval = None, None
        if step.missing is None:
            area, interval = float(ranking.auroc(step.positive)[0]), auroc_interval(ranking, step.positive)
        rank = _against_errors(step, signal)(np.ones((1, ranking.clusters)))[0]
        defined = len(ranking.unique) > 1 and len(np.unique(step.error)) > 1
        low, high = interval or (None, None)
        row = (step.h + 1, len(u), finite_or_none(step.tau), area, low, high, float(rank) if defined else None)
        for column, value in zip(curve.values(), row, strict=True):
            column.append(value)
    return curve


def gain(numbers: Numbers, arrays: Arrays, own: int, trivial: list[int], first: Step) -> None:
    """What the preferred signal knows beyond the best trivial one."""
    n = len(first.error)
    if first.missing or not trivial:
        numbers.none(GAIN, first.missing or "no trivial signal was recorded", n)
        return
    scored = {s: first.score(arrays["signal_value"][s]) for s in (own, *trivial)}
    ranked = {s: Ranking(u, first.cluster) for s, (u, _) in scored.items()}
    areas = {str(arrays["signal"][s]): float(ranked[s].auroc(first.positive)[0]) for s in trivial}
    best = max(trivial, key=lambda s: areas[str(arrays["signal"][s])])

    def more(w: np.ndarray) -> np.ndarray:
        return ranked[own].auroc(first.positive, w) - ranked[best].auroc(first.positive, w)

    c = ranked[own].clusters
    details: dict[str, Any] = {"n_episodes": c, "trivial": areas, "best_trivial": str(arrays["signal"][best])}
    value = float(more(np.ones((1, c)))[0])
    numbers.add("auroc-gain", value, bootstrap(more, c, bounds=(-1.0, 1.0)), n, scored[own][1], **details)
