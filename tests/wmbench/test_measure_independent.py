"""Whole measures against other people's code: scikit-learn, SciPy, torchmetrics, uncertainty-toolbox."""

import itertools

import numpy as np
import pytest
import torch
from scipy import stats

from wmbench import registry

metrics = pytest.importorskip("sklearn.metrics")
E, T, D = 12, 20, 3


def measured(name, arrays, subject=None):
    return {r.name: r for r in registry.measures.load(name)(arrays) if subject in (None, r.subject)}


def described(truth):
    flat = truth.reshape(-1, D)
    return {
        "subject": np.array(["m"]),
        "role": np.array(["model"]),
        "dimension": np.array(["x", "y", "z"]),
        "kind": np.array(["linear"] * D),
        "unit": np.array(["m"] * D),
        "observation_std": flat.std(0),
        "observation_low": flat.min(0),
        "observation_high": flat.max(0),
        "control_hz": np.array(20.0),
    }


@pytest.fixture
def truth():
    """(E, T + 1, D) random walks of different sizes."""
    return np.cumsum(np.random.default_rng(0).normal(size=(E, T + 1, D)), axis=1) * [0.1, 1.0, 30.0]


def test_one_step_errors_are_scikit_learns(truth):
    now, after = truth[:, :-1].reshape(-1, D), truth[:, 1:].reshape(-1, D)
    predicted = after + np.random.default_rng(1).normal(size=after.shape) * [0.05, 0.2, 3.0]
    std = (after - now).std(0)
    found = measured(
        "one-step",
        described(truth)
        | {
            "observation": now,
            "next_observation": after,
            "prediction": predicted[None],
            "episode": np.repeat(np.arange(E), T),
            "delta_std": std,
        },
    )
    own = metrics.mean_squared_error((after - now) / std, (predicted - now) / std, multioutput="raw_values")
    still = metrics.mean_squared_error((after - now) / std, np.zeros_like(now), multioutput="raw_values")
    assert found["nmse"].value == pytest.approx(own.mean(), rel=1e-12)
    assert found["nmse-median"].value == pytest.approx(np.median(own), rel=1e-12)
    assert found["nmse-worst"].value == pytest.approx(own.max(), rel=1e-12)
    assert found["skill"].value == pytest.approx(1 - own.mean() / still.mean(), rel=1e-12)
    assert found["skill-worst"].value == pytest.approx((1 - own / still).min(), rel=1e-12)
    assert found["skill"].details["table"]["rmse"] == pytest.approx(
        metrics.root_mean_squared_error(after, predicted, multioutput="raw_values"), rel=1e-12
    )


def test_drift_is_scikit_learns_error_and_scipys_kaplan_meier(truth):
    rng = np.random.default_rng(2)
    steps = np.arange(1, T + 1)[:, None]
    growth = rng.uniform(0.02, 0.2, (E, 1, 1))
    std = truth.reshape(-1, D).std(0)
    predicted = truth[:, 1:] + growth * steps * std * rng.choice([-1, 1], (E, T, D))
    valid = np.arange(T) < rng.integers(5, T + 1, E)[:, None]
    found = measured(
        "drift",
        described(truth)
        | {
            "disturbance": np.zeros(1),
            "truth": truth,
            "valid": valid,
            "prediction": predicted[None],
            "episode": np.arange(E),
        },
    )
    error = np.array(
        [
            [metrics.root_mean_squared_error(truth[w, h + 1] / std, predicted[w, h] / std) for h in range(T)]
            for w in range(E)
        ]
    )
    horizon = found["auc"].details["horizon"]
    seen = valid[:, :horizon]
    assert found["auc"].value == pytest.approx(np.minimum(error[:, :horizon], 2.0)[seen].mean(), rel=1e-12)
    for threshold in (0.5, 1.0):
        above = (error[:, :horizon] > threshold) & seen
        times = np.where(above.any(1), above.argmax(1) + 1, seen.sum(1))
        dead = above.any(1)
        survival = stats.ecdf(stats.CensoredData(times[dead], right=times[~dead])).sf
        median = next(t for t, p in zip(survival.quantiles, survival.probabilities, strict=True) if p <= 0.5)
        mean = sum(survival.evaluate(h) for h in range(horizon))
        assert found[f"steps-to-{threshold:g}"].value == median
        assert found[f"mean-steps-to-{threshold:g}"].value == pytest.approx(mean, rel=1e-12)


def test_counterfactual_effects_are_scikit_learns():
    rng = np.random.default_rng(3)
    n = 40
    truth = rng.normal(size=(n, 4, 1, D))
    predicted = truth + 0.3 * rng.normal(size=truth.shape)
    found = measured(
        "counterfactual",
        described(truth)
        | {
            "branch": np.array(["recorded", "near", "data", "corner"]),
            "truth": truth,
            "valid": np.ones((n, 4, 1), bool),
            "prediction": predicted[None],
            "episode": np.arange(n) // 4,
            "delta_std": np.ones(D),
        },
    )
    true, guess = (x[:, 2, 0] - x[:, 0, 0] for x in (truth, predicted))
    cosines = np.diag(metrics.pairwise.cosine_similarity(true, guess))
    assert found["cosine"].value == pytest.approx(cosines.mean(), rel=1e-12)
    error = metrics.mean_squared_error(true, guess) / metrics.mean_squared_error(true, np.zeros_like(true))
    assert found["cfe"].value == pytest.approx(np.sqrt(error), rel=1e-12)
    signs = [metrics.accuracy_score(np.sign(t[m]), np.sign(g[m])) for t, g in zip(true, guess, strict=True)
             if (m := np.abs(t) > 0.01).any()]  # fmt: skip
    assert found["sign-agreement"].value == pytest.approx(np.mean(signs), rel=1e-12)
    right, wrong = (metrics.mean_squared_error(truth[:, 0, 0], predicted[:, b, 0]) for b in (0, 2))
    assert found["shuffle-ratio"].value == pytest.approx(wrong / right, rel=1e-12)


def test_heads_are_scikit_learns_and_torchmetrics():
    calibration_error = pytest.importorskip("torchmetrics.functional.classification").binary_calibration_error
    rng = np.random.default_rng(4)
    n, windows, horizon = 600, 10, 5
    reward = rng.normal(2.0, 3.0, n)
    predicted = reward + rng.normal(0.0, 1.0, n)
    # never on the border between two bins, which the two count to different sides
    hazard = (rng.integers(0, 1000, n) + 0.5) / 1000
    ends = rng.random(n) < hazard**2
    blank = np.zeros((windows, horizon))
    found = measured(
        "heads",
        {
            "subject": np.array(["m"]),
            "role": np.array(["model"]),
            "reward": reward,
            "terminated": ends,
            "success": ends,
            "episode": np.arange(n) // 20,
            "reward_prediction": predicted[None],
            "terminated_prediction": hazard[None],
            "success_prediction": hazard[None],
            **{f"has_{head}": np.ones(1, bool) for head in ("reward", "terminated", "success")},
            "window_reward": blank,
            "window_terminated": blank.astype(bool),
            "window_valid": np.ones_like(blank, dtype=bool),
            "window_limit": np.full(windows, horizon),
            "window_episode": np.arange(windows),
            "window_reward_prediction": blank[None],
            "window_terminated_prediction": blank[None],
            "samples_end": np.zeros(1, bool),
            "reward_mean": np.array(reward.mean()),
            "reward_std": np.array(reward.std()),
            "reward_low": np.array(reward.min()),
            "reward_high": np.array(reward.max()),
            "reward_event": np.array(0.0),
            "control_hz": np.array(20.0),
        },
    )
    assert found["reward-rmse"].value == pytest.approx(metrics.root_mean_squared_error(reward, predicted), rel=1e-12)
    assert found["reward-r2"].value == pytest.approx(metrics.r2_score(reward, predicted), rel=1e-12)
    assert found["reward-auroc"].value == pytest.approx(metrics.roc_auc_score(reward > 0, predicted), rel=1e-12)
    for head in ("success", "termination"):
        assert found[f"{head}-brier"].value == pytest.approx(metrics.brier_score_loss(ends, hazard), rel=1e-12)
        assert found[f"{head}-auroc"].value == pytest.approx(metrics.roc_auc_score(ends, hazard), rel=1e-12)
        theirs = calibration_error(torch.from_numpy(hazard), torch.from_numpy(ends).long(), n_bins=10, norm="l1")
        assert found[f"{head}-ece"].value == pytest.approx(float(theirs), rel=1e-5)  # they bin in float32
    stop = hazard >= 0.5
    (right_go, false_stop), (false_go, right_stop) = metrics.confusion_matrix(ends, stop)
    assert found["false-stop"].value == pytest.approx(false_stop / (false_stop + right_go), rel=1e-12)
    assert found["false-continue"].value == pytest.approx(false_go / (false_go + right_stop), rel=1e-12)


def test_predicted_distributions_are_uncertainty_toolboxs(truth):
    uct = pytest.importorskip("uncertainty_toolbox")
    rng = np.random.default_rng(5)
    windows = 80
    before = rng.normal(size=(windows, 1, D))
    std = rng.uniform(0.3, 2.0, (windows, D))
    after = before[:, 0] + rng.normal(size=(windows, D)) * std * 0.7
    found = measured(
        "uncertainty",
        described(truth)
        | {
            "delta_std": np.ones(D),
            "truth": np.stack([before[:, 0], after], 1),
            "valid": np.ones((windows, 1), bool),
            "episode": np.arange(windows) // 4,
            "prediction": before[None],
            "train_truth": np.stack([before[:, 0], after], 1),
            "train_valid": np.ones((windows, 1), bool),
            "train_prediction": before[None],
            "signal": np.zeros(0, np.str_),
            "signal_subject": np.zeros(0, np.str_),
            "signal_role": np.zeros(0, np.str_),
            "signal_value": np.zeros((0, windows, 1)),
            "group": np.array(["nominal"] * windows),
            "group_episode": np.arange(windows) // 4,
            "group_value": np.zeros((0, windows)),
            "group_asked": np.zeros(0, bool),
            "draws": np.zeros(1, int),
            "draw": np.zeros((1, 2, windows, D)),
            "has_std": np.ones(1, bool),
            "prediction_std": std[None],
        },
    )
    flat = before[:, 0].ravel(), std.ravel(), after.ravel()
    assert found["nll"].value == pytest.approx(uct.nll_gaussian(*flat), rel=1e-12)
    assert found["crps"].value == pytest.approx(uct.crps_gaussian(*flat), rel=1e-12)
    assert found["sharpness"].value == pytest.approx(uct.sharpness(flat[1]), rel=1e-12)
    curve = found["ece"].details["curve"]
    for level, coverage in zip(curve["level"], curve["coverage"], strict=True):
        theirs = uct.get_proportion_in_interval(*flat, quantile=level)
        assert coverage == pytest.approx(theirs, abs=1e-12)
    # their grid has the levels 0 and 1 as well, at which a Gaussian is never wrong
    theirs = uct.mean_absolute_calibration_error(*flat, num_bins=101, vectorized=True)
    assert found["ece"].value * 99 / 101 == pytest.approx(theirs, rel=1e-9)


def test_success_is_scipys():
    once = np.arange(50) < 37
    found = measured(
        "success",
        {
            "subject": np.array(["p"] * 50),
            "seed": np.arange(50),
            "once": once,
            "at_end": once,
            "valid": np.ones(50, bool),
            "fault": np.array([""] * 50),
            "returns": np.arange(50.0),
            "length": np.full(50, 9),
            "when": np.array("once"),
            "reward_low": np.array(np.nan),
            "horizon": np.array(9),
        },
    )
    theirs = stats.binomtest(37, 50).proportion_ci(method="wilson")
    assert (found["success"].ci_low, found["success"].ci_high) == pytest.approx(tuple(theirs), rel=1e-12)
    exact = stats.binomtest(37, 50).proportion_ci(method="exact")
    assert found["success"].details["clopper_pearson"] == pytest.approx(list(exact), rel=1e-9)


def test_latency_is_numpys_and_scipys():
    seconds = np.random.default_rng(6).lognormal(-4, 0.7, 700)
    found = measured(
        "latency",
        {
            "subject": np.array(["m"]),
            "call": np.array(["step"]),
            "batch": np.array([1]),
            "row": np.zeros(700, int),
            "seconds": seconds,
            "warmup": np.zeros(700, bool),
            "control_hz": np.array(30.0),
        },
    )
    theirs = {q: stats.quantile_test(seconds, p=q).confidence_interval(0.95) for q in (0.5, 0.9)}
    for name, q in (("step-p50", 0.5), ("step-p90", 0.9)):
        assert found[name].value == pytest.approx(np.quantile(seconds, q), rel=1e-12)
        assert (found[name].ci_low, found[name].ci_high) == pytest.approx(tuple(theirs[q]), rel=1e-12)
    assert found["step-jitter"].value == pytest.approx(stats.median_abs_deviation(seconds), rel=1e-12)
    late = seconds > 1 / 30
    assert found["step-deadline-misses"].value == pytest.approx(late.mean(), rel=1e-12)
    longest = max(len(list(run)) for miss, run in itertools.groupby(late) if miss)
    assert found["step-longest-miss-streak"].value == longest


def test_causes_of_failure_are_scikit_learns():
    rng = np.random.default_rng(7)
    true, predicted = rng.random((2, 4, 10, 3)) < [[[[0.3]]], [[[0.4]]]]
    predicted |= true & (rng.random(true.shape) < 0.6)
    yes = np.ones(true.shape[:2], bool)
    found = measured(
        "failures",
        {
            "subject": np.array(["m"]),
            "role": np.array(["model"]),
            "cause": np.array(["a", "b", "c"]),
            "true": true,
            "true_failed": yes,
            "true_valid": yes,
            "predicted": predicted[None],
            "predicted_failed": yes[None],
            "predicted_valid": yes[None],
            "seed": np.arange(10),
        },
        subject="m",
    )
    rows = true.reshape(-1, 3), predicted.reshape(-1, 3)
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(*rows, average="micro")
    assert (found["precision"].value, found["recall"].value) == pytest.approx((precision, recall), rel=1e-12)
    assert found["f1"].value == pytest.approx(f1, rel=1e-12)
    assert found["exact"].value == pytest.approx(metrics.accuracy_score(*rows), rel=1e-12)
    each, back, *_ = metrics.precision_recall_fscore_support(*rows, average=None)
    for name, p, r in zip("abc", each, back, strict=True):
        assert found[f"cause-precision:{name}"].value == pytest.approx(p, rel=1e-12)
        assert found[f"cause-recall:{name}"].value == pytest.approx(r, rel=1e-12)
