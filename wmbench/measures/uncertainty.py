"""Does the model know when it is wrong? Its signals against its errors, and its distribution against the truth."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from wmbench.measures import distribution
from wmbench.measures.detection import DETECTION, GAIN, HORIZONS, Step, detection, gain
from wmbench.measures.events import clusters
from wmbench.measures.numbers import Definition, Numbers
from wmbench.measures.result import Arrays, Measure, Result
from wmbench.statistics import bootstrap
from wmbench.statistics.clustered import auroc_interval
from wmbench.statistics.selective import Ranking

APART = {
    "ratio-near": Definition("1", "higher", "one step, median signal on near data over median on nominal data"),
    "ratio-far": Definition("1", "higher", "one step, median signal on far data over median on nominal data"),
    "separation-near": Definition("1", "higher", "one step, AUROC of the signal for near against nominal data"),
    "separation-far": Definition("1", "higher", "one step, AUROC of the signal for far against nominal data"),
}
DEFINITIONS = {**DETECTION, **GAIN, **APART, **distribution.DEFINITIONS}


def uncertainty(arrays: Arrays) -> list[Result]:
    """Score uncertainty signals and predicted distributions.

    Args:
        arrays: ``subject`` (M,), ``role`` (M,), ``dimension``, ``kind``, ``unit`` (O,), ``observation_std``,
            ``observation_low``, ``observation_high``, ``delta_std`` (O,) of the train split. Open-loop windows
            ``truth`` (W, H + 1, O), ``valid`` (W, H), ``episode`` (W,), ``prediction`` (M, W, H, O), and the same of
            the train split as ``train_truth``, ``train_valid``, ``train_prediction``. Signals: ``signal`` (S,) names,
            ``signal_subject`` (S,) whose, ``signal_role`` (S,) ``own`` (the preferred one first) or ``trivial``,
            ``signal_value`` (S, W, H); and ``group`` (G,) of ``nominal``, ``near`` or ``far``, ``group_episode``
            (G,), ``group_value`` (S, G), ``group_asked`` (S,) bool, whether there are such values. Distributions of
            the first step: ``draws`` (M,) int, how many draws there are, ``draw`` (M, K, W, O), ``has_std`` (M,),
            ``prediction_std`` (M, W, O).

    Returns:
        For each subject ``auroc``, ``spearman``, ``aurc``, ``augrc``, ``coverage-at-risk-1``, ``coverage-at-risk-5``,
        ``ratio-near``, ``ratio-far``, ``separation-near``, ``separation-far`` of its preferred signal, the same of
        every other signal as ``auroc:<signal>``, ``auroc-gain``, and ``coverage-50``, ``coverage-90``, ``ece``,
        ``rmsce``, ``miscalibration-area``, ``sharpness``, ``nll``, ``crps``, ``crps-draws``.
    """
    results: list[Result] = []
    for m, subject in enumerate(arrays["subject"]):
        numbers = Numbers("uncertainty", str(subject), DEFINITIONS, {"role": str(arrays["role"][m])})
        if arrays["valid"][:, :1].any():
            _signals(numbers, arrays, m)
            distribution.distribution(numbers, arrays, m)
        else:
            numbers.none(DEFINITIONS, "there are no transitions")
        results += numbers.results
    return results


def _signals(numbers: Numbers, arrays: Arrays, m: int) -> None:
    """Everything about the signals of a subject."""
    mine = np.flatnonzero(arrays["signal_subject"] == numbers.subject).tolist()
    own = [s for s in mine if arrays["signal_role"][s] == "own"]
    if not own:
        numbers.none([*DETECTION, *GAIN, *APART], "the model gives no uncertainty", len(arrays["truth"]))
    horizon = arrays["valid"].shape[1]
    steps = [Step(arrays, m, h - 1) for h in sorted({h for h in HORIZONS if h < horizon} | {horizon})]
    steps = [step for step in steps if step.rows.any()]
    first = steps[0]
    for s in mine:
        suffix = "" if own and s == own[0] else f":{arrays['signal'][s]}"
        detection(numbers, suffix, arrays, s, steps)
        if arrays["group_asked"][s]:
            _apart(numbers, suffix, arrays, s)
        elif not suffix:
            numbers.none(APART, "the model was not asked about other data", len(arrays["group"]))
    if own:
        gain(numbers, arrays, own[0], [s for s in mine if s not in own], first)


def _apart(numbers: Numbers, suffix: str, arrays: Arrays, s: int) -> None:
    """Whether the signal grows with the distance from the data."""
    label, values = arrays["group"], arrays["group_value"][s].astype(np.float64)
    nominal = label == "nominal"
    bad = ~np.isfinite(values)
    u = np.where(bad, np.where(nominal, np.inf, -np.inf), values)  # as wrong as can be
    cluster, c = clusters(arrays["group_episode"])
    for group in ("near", "far"):
        rows = nominal | (label == group)
        n, n_invalid = int((label == group).sum()), int(bad[rows].sum())
        if not n:
            numbers.none([f"ratio-{group}{suffix}", f"separation-{group}{suffix}"], f"there are no {group} data")
            continue

        def ratio(w: np.ndarray, group: str = group) -> np.ndarray:
            top, bottom = (_medians(u, cluster, w, part) for part in (label == group, nominal))
            return np.divide(np.maximum(top, 0.0), bottom, out=np.full(len(w), np.inf), where=bottom > 0)

        value = float(ratio(np.ones((1, c)))[0])
        details: dict[str, Any] = {"n_episodes": c, "signal": str(arrays["signal"][s])}
        if math.isfinite(value):
            # the jackknife is no use for a median, so no studentising
            interval = bootstrap(ratio, c, method="percentile")
            numbers.add(f"ratio-{group}{suffix}", value, interval, n, n_invalid, **details)
        else:
            numbers.none([f"ratio-{group}{suffix}"], "the median signal on nominal data is not positive", n)
        ranking, far = Ranking(u[rows], arrays["group_episode"][rows]), (label == group)[rows]
        apart, around = float(ranking.auroc(far)[0]), auroc_interval(ranking, far)
        numbers.add(f"separation-{group}{suffix}", apart, around, n, n_invalid, **details)


def _medians(values: np.ndarray, cluster: np.ndarray, weights: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Medians of resamples (the lower of two middle values): (R, C) weights to (R,)."""
    order = np.argsort(values[rows], kind="stable")
    total = np.cumsum(weights[:, cluster[rows][order]], axis=1)  # (R, n)
    return values[rows][order][(total >= 0.5 * total[:, -1:]).argmax(1)]


MEASURE = Measure(
    name="uncertainty",
    question="Does the model know when it is wrong, and is what it says about its own errors true?",
    unit="1",
    direction="higher",
    range=(0.0, 1.0),
    needs=(
        "subject",
        "role",
        "dimension",
        "kind",
        "unit",
        "observation_std",
        "observation_low",
        "observation_high",
        "delta_std",
        "truth",
        "valid",
        "episode",
        "prediction",
        "train_truth",
        "train_valid",
        "train_prediction",
        "signal",
        "signal_subject",
        "signal_role",
        "signal_value",
        "group",
        "group_episode",
        "group_value",
        "group_asked",
        "draws",
        "draw",
        "has_std",
        "prediction_std",
    ),
    source="Kuleshov 2018, Gneiting and Raftery 2007, Geifman 2017, Traub 2024 (AUGRC); docs/measures.md",
    function=uncertainty,
)
