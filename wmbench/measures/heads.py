"""Do the model's reward, success and termination heads say what happens, and would an agent's episode end rightly?"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from wmbench.measures.events import auroc, clusters, probabilities, probability
from wmbench.measures.geometry import CAP, normalised
from wmbench.measures.numbers import Definition, Numbers
from wmbench.measures.result import Arrays, Measure, Result, finite_or_none, json_list
from wmbench.statistics import bootstrap
from wmbench.statistics.calibration import BINS
from wmbench.statistics.clustered import proportion_interval

NO_HEAD = "no head"
POSITIVE = (0.0, math.inf)
STEP = "one step from true states"
PROBABILITY = "a prediction that is not a probability counts as certain and wrong"

DEFINITIONS = {
    "reward-r2": Definition(
        "1", "higher", f"{STEP}, 1 - MSE / MSE of the train split's mean, errors capped at {CAP:g} sigma"
    ),
    "reward-rmse": Definition("reward", "lower", f"{STEP}, errors capped at {CAP:g} sigma of the train split"),
    "reward-auroc": Definition("1", "higher", f"{STEP}, predicted reward against whether the true one is an event"),
    "reward-sum-error": Definition(
        "reward",
        "lower",
        "open loop, mean over windows of |sum of predicted - sum of true rewards| up to the horizon or the true end",
    ),
    "success-brier": Definition("1", "lower", f"{STEP}, {PROBABILITY}"),
    "success-ece": Definition("1", "lower", f"{STEP}, {BINS} bins of equal width"),
    "success-auroc": Definition("1", "higher", STEP),
    "termination-brier": Definition("1", "lower", f"{STEP}, hazard of ending at this step, {PROBABILITY}"),
    "termination-ece": Definition("1", "lower", f"{STEP}, hazard of ending at this step, {BINS} bins of equal width"),
    "termination-auroc": Definition("1", "higher", f"{STEP}, hazard of ending at this step"),
    "false-continue": Definition("1", "lower", f"{STEP}, share of true ends at which the twin would go on"),
    "false-stop": Definition("1", "lower", f"{STEP}, share of other steps at which the twin would end"),
    "end-error": Definition(
        "steps",
        "lower",
        "open loop, mean over windows of E|predicted end - true end|, an episode that does not end does so at the "
        "window's limit; past the true end the last action is repeated",
    ),
}
REWARD = ("reward-r2", "reward-rmse", "reward-auroc", "reward-sum-error")
SUCCESS = ("success-brier", "success-ece", "success-auroc")
TERMINATION = ("termination-brier", "termination-ece", "termination-auroc", "false-continue", "false-stop", "end-error")


def heads(arrays: Arrays) -> list[Result]:
    """Score the heads beside the observation. A head that a model lacks gives results without a value.

    Args:
        arrays: ``subject`` (M,), ``role`` (M,); of N single steps from true states ``reward`` (N,), ``terminated``
            (N,) bool, ``success`` (N,) bool, ``episode`` (N,), ``<head>_prediction`` (M, N) for each of the three, and
            ``has_<head>`` (M,) bool; of W open-loop windows ``window_reward``, ``window_terminated`` (W, H) bool,
            ``window_valid`` (W, H) bool up to the true end, ``window_limit`` (W,) int, the steps after which the time
            limit or the window ends, ``window_episode`` (W,), ``window_reward_prediction`` (M, W, H),
            ``window_terminated_prediction`` (M, W, H); ``samples_end`` (M,) bool, whether the twin draws the end from
            the hazard rather than ending at 0.5; of the train split ``reward_mean``, ``reward_std``, ``reward_low``,
            ``reward_high`` (); ``reward_event`` (), above which a reward is an event, NaN if there are no events;
            ``control_hz`` ().

    Returns:
        For each subject ``reward-r2``, ``reward-rmse``, ``reward-auroc``, ``reward-sum-error``, ``success-brier``,
        ``success-ece``, ``success-auroc``, ``termination-brier``, ``termination-ece``, ``termination-auroc``,
        ``false-continue``, ``false-stop``, ``end-error``.
    """
    results: list[Result] = []
    n, windows = len(arrays["reward"]), len(arrays["window_limit"])
    for m, subject in enumerate(arrays["subject"]):
        numbers = Numbers("heads", str(subject), DEFINITIONS, {"role": str(arrays["role"][m])})
        if not n or not windows:
            numbers.none(DEFINITIONS, "there are no transitions", n)
            results += numbers.results
            continue
        if arrays["has_reward"][m]:
            _reward(numbers, arrays, m)
            _reward_sum(numbers, arrays, m)
        else:
            numbers.none(REWARD, NO_HEAD, n)
        if arrays["has_success"][m]:
            probability(numbers, "success", arrays["success"], arrays["success_prediction"][m], arrays["episode"])
        else:
            numbers.none(SUCCESS, NO_HEAD, n)
        if arrays["has_terminated"][m]:
            p = arrays["terminated_prediction"][m]
            probability(numbers, "termination", arrays["terminated"], p, arrays["episode"])
            _decisions(numbers, arrays, m)
            _end(numbers, arrays, m)
        else:
            numbers.none(TERMINATION, NO_HEAD, n)
        results += numbers.results
    return results


def _scale(arrays: Arrays) -> tuple[float, bool]:
    """The unit of reward errors (sigma of the train split, 1 if the reward is constant), and whether it varies."""
    std, spread = float(arrays["reward_std"]), float(arrays["reward_high"]) - float(arrays["reward_low"])
    varies = std >= 1e-8 * max(1.0, spread)
    return (std if varies else 1.0), varies


def _reward(numbers: Numbers, arrays: Arrays, m: int) -> None:
    """Errors of the reward one step ahead, and how well it tells events from the rest."""
    truth, predicted = arrays["reward"], arrays["reward_prediction"][m]
    cluster, c = clusters(arrays["episode"])
    n, n_invalid = len(truth), int((~np.isfinite(predicted)).sum())
    scale, varies = _scale(arrays)
    one, ones = np.array([scale]), np.ones((1, c))

    def summed(values: np.ndarray) -> np.ndarray:
        return np.bincount(cluster, values, minlength=c)

    with np.errstate(invalid="ignore", over="ignore"):
        own = summed(normalised(predicted - truth, one) ** 2)
    marginal = summed(normalised(float(arrays["reward_mean"]) - truth, one) ** 2)
    count = summed(np.ones(n))

    def r2(w: np.ndarray) -> np.ndarray:
        error, reference = w @ own, w @ marginal
        worst = np.where(error > 0, np.inf, 0.0)
        return 1.0 - np.divide(error, reference, out=worst, where=reference > 0)

    def rmse(w: np.ndarray) -> np.ndarray:
        return scale * np.sqrt((w @ own) / (w @ count))

    value = float(r2(ones)[0])
    if not varies:
        numbers.none(["reward-r2"], "the reward is constant in the train split", n)
    elif not math.isfinite(value):
        numbers.none(["reward-r2"], "every reward of this split is the train split's mean", n)
    else:
        numbers.add("reward-r2", value, bootstrap(r2, c, bounds=(-math.inf, 1.0)), n, n_invalid, n_episodes=c)
    details: dict[str, Any] = {
        "n_episodes": c,
        "reward_mean": float(arrays["reward_mean"]),
        "reward_std": float(arrays["reward_std"]),
    }
    numbers.add("reward-rmse", float(rmse(ones)[0]), bootstrap(rmse, c, bounds=POSITIVE), n, n_invalid, **details)

    threshold = float(arrays["reward_event"])
    if math.isnan(threshold):
        numbers.none(["reward-auroc"], "the reward is dense and of one sign: nothing tells an event from the rest", n)
        return
    event = truth > threshold
    worst = np.where(event, -np.inf, np.inf)
    score = np.where(np.isfinite(predicted), predicted, worst)
    auroc(numbers, "reward-auroc", score, event, arrays["episode"], n_invalid, threshold=threshold)


def _reward_sum(numbers: Numbers, arrays: Arrays, m: int) -> None:
    """Error of the summed reward along open-loop windows."""
    valid, predicted = arrays["window_valid"], arrays["window_reward_prediction"][m]
    cluster, c = clusters(arrays["window_episode"])
    scale, _ = _scale(arrays)
    bad = ~np.isfinite(predicted) & valid
    with np.errstate(invalid="ignore", over="ignore"):
        error = np.where(bad, CAP * scale, predicted - arrays["window_reward"])
        step = np.clip(np.where(valid, error, 0.0), -CAP * scale, CAP * scale)
    gap = np.cumsum(step, axis=1)  # (W, H); stays where it is past the true end
    count = np.bincount(cluster, minlength=c).astype(np.float64)
    total = np.stack([np.bincount(cluster, column, minlength=c) for column in np.abs(gap).T])  # (H, C)

    def at(h: int) -> Any:
        return lambda w: (w @ total[h]) / (w @ count)

    horizon = gap.shape[1]
    steps = sorted({h for h in (1, 2, 5, 10, 20, 50, 100, 200, 500) if h < horizon} | {horizon})
    ends = [bootstrap(at(h - 1), c, bounds=POSITIVE) or (None, None) for h in steps]
    curve = {
        "step": steps,
        "error": json_list(np.abs(gap).mean(0)[np.array(steps) - 1]),
        "ci_low": [finite_or_none(e[0]) for e in ends],
        "ci_high": [finite_or_none(e[1]) for e in ends],
        "bias": json_list(gap.mean(0)[np.array(steps) - 1]),
    }
    value, n_invalid = float(np.abs(gap[:, -1]).mean()), int(bad.any(1).sum())
    details = {"n_episodes": c, "horizon": horizon, "steps": float(valid.sum(1).mean()), "curve": curve}
    numbers.add(
        "reward-sum-error", value, bootstrap(at(horizon - 1), c, bounds=POSITIVE), len(gap), n_invalid, **details
    )


def _stops(arrays: Arrays, m: int, hazard: np.ndarray) -> np.ndarray:
    """Probability that the twin ends the episode: the hazard where it draws the end, else whether it reaches 0.5."""
    return hazard if arrays["samples_end"][m] else (hazard >= 0.5).astype(np.float64)


def _decisions(numbers: Numbers, arrays: Arrays, m: int) -> None:
    """False continues and false stops of the twin's decision."""
    ends = np.asarray(arrays["terminated"], dtype=bool)
    hazard, bad = probabilities(arrays["terminated_prediction"][m], ends)
    stop = _stops(arrays, m, hazard)
    cluster, c = clusters(arrays["episode"])
    for name, rows, wrong in (("false-continue", ends, 1 - stop), ("false-stop", ~ends, stop)):
        n = int(rows.sum())
        if not n:
            numbers.none([name], "no step of this split is of this kind", n)
            continue
        count = np.bincount(cluster[rows], minlength=c)
        interval = proportion_interval(np.bincount(cluster[rows], wrong[rows], minlength=c), count)
        rule = "drawn from the hazard" if arrays["samples_end"][m] else "at a hazard of 0.5 or more"
        details: dict[str, Any] = {"n_episodes": int((count > 0).sum()), "ends": rule}
        numbers.add(name, float(wrong[rows].mean()), interval, n, int(bad[rows].sum()), **details)


def _end(numbers: Numbers, arrays: Arrays, m: int) -> None:
    """How far the predicted end of an episode lies from the true one."""
    ends, limit = np.asarray(arrays["window_terminated"], dtype=bool), np.asarray(arrays["window_limit"])
    windows, horizon = ends.shape
    step = np.arange(1, horizon + 1)
    true_end = np.where(ends.any(1), ends.argmax(1) + 1, limit)  # (W,)
    hazard, bad = probabilities(arrays["window_terminated_prediction"][m], ends)
    lost = (bad & (step <= limit[:, None])).any(1)
    stop = np.where(step < limit[:, None], _stops(arrays, m, hazard), 1.0)  # at the limit everything ends
    running = np.cumprod(np.concatenate([np.ones((windows, 1)), 1 - stop], axis=1), axis=1)  # (W, H + 1)
    chance = np.where(step <= limit[:, None], running[:, :-1] * stop, 0.0)  # (W, H) P(predicted end = h)
    apart = step - true_end[:, None]
    error = np.where(lost, np.maximum(true_end - 1, limit - true_end), (chance * np.abs(apart)).sum(1))
    cluster, c = clusters(arrays["window_episode"])
    total, count = np.bincount(cluster, error, minlength=c), np.bincount(cluster, minlength=c).astype(np.float64)
    value = float(error.mean())
    terminated = ends.any(1)
    numbers.add(
        "end-error",
        value,
        bootstrap(lambda w: (w @ total) / (w @ count), c, bounds=POSITIVE),
        windows,
        int(lost.sum()),
        n_episodes=c,
        seconds=value / float(arrays["control_hz"]),
        bias=float((chance * apart).sum(1)[~lost].mean()) if not lost.all() else None,
        terminated=int(terminated.sum()),
        where_terminated=float(error[terminated].mean()) if terminated.any() else None,
        survival={
            "step": step.tolist(),
            "true": (true_end[:, None] > step).mean(0).tolist(),
            "predicted": running[~lost][:, 1:].mean(0).tolist() if not lost.all() else None,
        },
    )


MEASURE = Measure(
    name="heads",
    question="Do the reward, success and termination heads say what happens, and would an episode end rightly?",
    unit="1",
    direction="higher",
    range=(None, 1.0),
    needs=(
        "subject",
        "role",
        "reward",
        "terminated",
        "success",
        "episode",
        "reward_prediction",
        "terminated_prediction",
        "success_prediction",
        "has_reward",
        "has_terminated",
        "has_success",
        "window_reward",
        "window_terminated",
        "window_valid",
        "window_limit",
        "window_episode",
        "window_reward_prediction",
        "window_terminated_prediction",
        "samples_end",
        "reward_mean",
        "reward_std",
        "reward_low",
        "reward_high",
        "reward_event",
        "control_hz",
    ),
    source="Out-of-sample R^2, Brier score and its parts (Brier 1950, Murphy 1973), expected end; docs/measures.md",
    function=heads,
)
