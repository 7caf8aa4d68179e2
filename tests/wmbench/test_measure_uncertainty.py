"""Uncertainty: known answers, trivial optima, failures as worst cases, and indifference to units, order and copies."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from wmbench import registry
from wmbench.measures import Result
from wmbench.measures.detection import TAU
from wmbench.measures.distribution import FLOOR, distribution
from wmbench.measures.geometry import CAP
from wmbench.measures.numbers import Numbers
from wmbench.measures.uncertainty import DEFINITIONS, MEASURE

EPISODES, WINDOWS, HORIZON = 20, 200, 6
STD = np.array([2.0, 0.5, 0.0])  # of the change; the third dimension never moves
TRUE = 0.3  # standard deviation of the truth around the prediction, in those of the change


def recording(stated=1.0, draws=0, seed=0, exact=True):
    """One model whose errors are normal with a known deviation, and whose signal is the size of its error."""
    rng = np.random.default_rng(seed)

    def windows(n):
        truth = np.cumsum(rng.normal(size=(n, HORIZON + 1, 3)) * STD, axis=1)
        prediction = truth[:, 1:] + TRUE * STD * rng.normal(size=(n, HORIZON, 3))
        return truth, prediction

    truth, prediction = windows(WINDOWS)
    train_truth, train_prediction = windows(WINDOWS)
    # every quantile of the first step's error once, in both dimensions that move
    z = special.ndtri((rng.permutation(WINDOWS) + 0.5) / WINDOWS)
    if exact:
        prediction[:, 0] = truth[:, 1] - TRUE * STD * z[:, None]
    size = np.abs(prediction - truth[:, 1:]) / np.where(STD > 0, STD, 1)
    error = np.sqrt((size[..., :2] ** 2).mean(-1))
    group = np.repeat(["nominal", "near", "far"], WINDOWS)
    nominal = rng.uniform(1, 2, WINDOWS)
    ones = np.ones((WINDOWS, HORIZON))
    draw = np.zeros((1, max(draws, 1), WINDOWS, 3))
    if draws:
        around = truth[:, 1] - TRUE * STD * rng.normal(size=(WINDOWS, 1))
        draw[0] = around + stated * TRUE * STD * rng.normal(size=(draws, WINDOWS, 1))
    return {
        "subject": np.array(["model"]),
        "role": np.array(["model"]),
        "dimension": np.array(["x", "y", "still"]),
        "kind": np.array(["linear"] * 3),
        "unit": np.array(["m", "m/s", "1"]),
        "observation_std": STD,
        "observation_low": -4 * STD,
        "observation_high": 4 * STD,
        "delta_std": STD,
        "truth": truth,
        "valid": np.ones((WINDOWS, HORIZON), dtype=bool),
        "episode": np.arange(WINDOWS) % EPISODES,
        "prediction": prediction[None],
        "train_truth": train_truth,
        "train_valid": np.ones((WINDOWS, HORIZON), dtype=bool),
        "train_prediction": train_prediction[None],
        "signal": np.array(["disagreement", "constant", "motion"]),
        "signal_subject": np.array(["model"] * 3),
        "signal_role": np.array(["own", "trivial", "trivial"]),
        "signal_value": np.stack([error, ones, rng.random((WINDOWS, HORIZON))]),
        "group": group,
        "group_episode": np.tile(np.arange(WINDOWS) % EPISODES, 3),
        "group_value": np.stack([np.concatenate([nominal, 2 * nominal, 8 * nominal]), np.ones(3 * WINDOWS)] * 2)[:3],
        "group_asked": np.array([True, True, False]),
        "draws": np.array([draws]),
        "draw": draw,
        "has_std": np.array([not draws]),
        "prediction_std": np.tile(stated * TRUE * STD, (1, WINDOWS, 1)),
    }


def measured(arrays, subject="model"):
    """Results of one subject by name."""
    found = [r for r in MEASURE(arrays) if r.subject == subject]
    assert len({r.name for r in found}) == len(found)
    for result in found:
        assert Result.from_json(result.to_json()) == result
        if result.ci_low is not None and result.ci_high is not None:
            slack = 1e-12 * (1 + abs(result.value))
            assert result.ci_low - slack <= result.value <= result.ci_high + slack, result.name
    return {r.name: r for r in found}


def test_a_signal_that_is_the_error_detects_every_error():
    found = measured(recording())
    assert set(DEFINITIONS) <= set(found)
    assert next(iter(found)) == "auroc"
    assert found["auroc"].value == 1.0
    assert found["auroc"].ci_low > 0.8
    assert found["spearman"].value == pytest.approx(1.0, rel=1e-12)
    errors = found["auroc"].details["errors"]
    assert found["coverage-at-risk-1"].value >= 1 - errors / WINDOWS
    assert found["augrc"].value == pytest.approx(errors * (errors + 1) / 2 / WINDOWS**2, rel=1e-12)
    assert found["auroc-gain"].value == pytest.approx(1 - max(0.5, found["auroc:motion"].value))
    assert found["auroc-gain"].details["trivial"] == pytest.approx(
        {"constant": 0.5, "motion": found["auroc:motion"].value}
    )
    curve = found["auroc"].details["curve"]
    assert curve["step"] == [1, 2, 5, 6]
    assert curve["auroc"] == [1.0] * 4
    assert registry.measures.load("uncertainty") is MEASURE


def test_the_constant_signal_knows_nothing():
    found = measured(recording())
    rate = found["auroc:constant"].details["errors"] / WINDOWS
    assert found["auroc:constant"].value == 0.5
    assert found["spearman:constant"].value is None
    assert "constant" in found["spearman:constant"].reason
    assert found["aurc:constant"].value == pytest.approx(rate, rel=1e-9)
    assert found["augrc:constant"].value == pytest.approx(rate * (WINDOWS + 1) / (2 * WINDOWS), rel=1e-9)
    assert found["ratio-far:constant"].value == 1.0
    assert found["separation-far:constant"].value == 0.5
    assert "ratio-far:motion" not in found


def test_known_answer_of_risk_and_coverage():
    arrays = recording()
    arrays = {k: v[:5] if k in ("truth", "valid", "episode") else v for k, v in arrays.items()}
    loss = np.array([0, 0, 1, 0, 1])
    arrays["episode"] = np.arange(5)
    arrays["prediction"] = (arrays["truth"][:, 1:] + loss[:, None, None] * STD)[None]
    arrays["train_prediction"] = (arrays["train_truth"][:, 1:] + 0.5 * STD)[None]
    arrays["signal_value"] = np.repeat(np.array([[0.1, 0.2, 0.3, 0.4, 0.5]]), 3, axis=0)[..., None].repeat(HORIZON, 2)
    found = measured(arrays | {"has_std": np.array([False])})
    assert found["auroc"].details["tau"] == pytest.approx(0.5)
    assert found["auroc"].value == pytest.approx(5 / 6, rel=1e-12)
    assert found["aurc"].value == pytest.approx(0.19667, abs=5e-6)
    assert found["augrc"].value == pytest.approx(0.16, rel=1e-12)
    assert found["coverage-at-risk-5"].value == pytest.approx(0.4)


def test_the_threshold_is_the_train_splits_own_quantile_at_that_step():
    arrays = recording()
    factor = 1 + np.arange(HORIZON)
    arrays["train_prediction"] = (arrays["train_truth"][:, 1:] + factor[:, None] * STD)[None]
    curve = measured(arrays)["auroc:motion"]
    assert curve.value is None
    assert "threshold 1" in curve.reason
    arrays["prediction"] = arrays["prediction"] + 1.0 * factor[:, None] * STD
    found = measured(arrays)["auroc"]
    assert found.details["curve"]["tau"] == pytest.approx([1, 2, 5, 6])
    assert TAU == 0.9


@pytest.mark.parametrize(("stated", "coverage", "ece"), [(0.5, 0.5892, 0.2063), (1.0, 0.9, 0.0), (2.0, 0.9990, 0.2069)])
def test_gaussians_of_the_wrong_width(stated, coverage, ece):
    found = measured(recording(stated))
    assert found["coverage-90"].value == pytest.approx(coverage, abs=1 / WINDOWS)
    assert found["ece"].value == pytest.approx(ece, abs=1 / WINDOWS)
    assert found["rmsce"].value >= found["ece"].value
    assert found["miscalibration-area"].value == pytest.approx(ece, abs=2 / WINDOWS)
    assert found["sharpness"].value == pytest.approx(stated * TRUE, rel=1e-9)
    assert found["ece"].ci_low <= ece + 0.01
    assert found["ece"].details["if_calibrated"] < 0.03
    assert found["nll"].details["floored"] == 0.0
    assert (found["crps-draws"].value, found["crps-draws"].n) == (None, WINDOWS)
    if stated == 1.0:
        assert found["ece"].ci_low == 0.0


def test_scores_of_one_known_residual():
    arrays = recording()
    arrays["prediction"][0, :, 0] = arrays["truth"][:, 1] - TRUE * STD
    found = measured(arrays)
    assert found["nll"].value == pytest.approx(0.5 * np.log(2 * np.pi) + 0.5 + np.log(TRUE), rel=1e-9)
    assert found["crps"].value == pytest.approx(0.602441358 * TRUE, rel=1e-8)
    assert found["nll"].details["table"]["dimension"] == ["x", "y"]
    assert found["coverage-50"].value == 0.0
    assert found["coverage-90"].value == 1.0


def test_a_vanishing_sigma_is_held_at_the_floor_and_reported():
    arrays = recording(stated=0.0)
    arrays["prediction"][0, :, 0] = arrays["truth"][:, 1]
    found = measured(arrays)
    assert found["nll"].value == pytest.approx(0.5 * np.log(2 * np.pi) + np.log(FLOOR), rel=1e-9)
    assert found["nll"].details["floored"] == 1.0
    assert found["nll"].details["floor"] == FLOOR
    assert found["sharpness"].value == pytest.approx(FLOOR)
    assert found["ece"].value == pytest.approx(0.5)  # in every interval


@pytest.mark.parametrize(("stated", "low", "high"), [(1.0, 0.86, 0.94), (0.25, 0.2, 0.45)])
def test_draws_are_judged_by_ranks_and_the_fair_score(stated, low, high):
    found = measured(recording(stated, draws=39))
    assert low < found["coverage-90"].value < high
    assert (found["ece"].value < 0.06) == (stated == 1.0)
    assert found["crps-draws"].value == pytest.approx(found["crps"].value, rel=0.1)
    assert found["sharpness"].value == pytest.approx(stated * TRUE, rel=0.1)
    assert found["ece"].details["distribution"].startswith("39 draws")
    few = measured(recording(draws=6))
    assert "no central interval" in few["coverage-90"].reason


def test_angles_of_draws_wrap():
    arrays = recording(draws=39)
    arrays["kind"] = np.array(["angle", "linear", "linear"])
    arrays["observation_low"], arrays["observation_high"] = -np.pi * np.ones(3), np.pi * np.ones(3)
    before = measured(arrays)
    arrays["draw"] = arrays["draw"].copy()
    arrays["draw"][0, ::2, :, 0] += 2 * np.pi
    after = measured(arrays)
    for name in ("ece", "crps-draws", "nll", "sharpness"):
        assert after[name].value == pytest.approx(before[name].value, rel=1e-9)


def test_exaggerated_confidence_is_noticed():
    def ece(stated, seed):
        numbers = Numbers("uncertainty", "model", DEFINITIONS)
        distribution(numbers, recording(stated, seed=seed, exact=False), 0)
        return next(r.value for r in numbers.results if r.name == "ece")

    honest = [ece(1.0, seed) for seed in range(100)]
    threshold = np.quantile(honest, 0.98)  # two false alarms in a hundred
    assert sum(ece(0.7, 1000 + seed) > threshold for seed in range(100)) >= 95


def test_the_marginal_is_calibrated_and_not_sharp():
    arrays = recording()
    rng = np.random.default_rng(1)
    arrays["truth"][:, 1] = arrays["truth"][:, 0] + STD * rng.normal(size=(WINDOWS, 3))
    arrays["prediction"][0, :, 0] = arrays["truth"][:, 0]
    arrays["prediction_std"] = np.tile(STD, (1, WINDOWS, 1))
    found = measured(arrays)
    assert found["ece"].value < 0.05
    assert found["sharpness"].value == pytest.approx(1.0)


def test_distance_from_the_data_raises_the_signal():
    found = measured(recording())
    assert found["ratio-near"].value == pytest.approx(2.0, rel=1e-12)
    assert found["ratio-far"].value == pytest.approx(8.0, rel=1e-12)
    assert found["separation-far"].value == 1.0
    assert 0.5 < found["separation-near"].value <= 1.0
    arrays = recording()
    arrays["group_value"] = np.where(arrays["group"] == "nominal", 0.0, arrays["group_value"])
    assert "not positive" in measured(arrays)["ratio-far"].reason
    arrays["group_asked"][:] = False
    assert "not asked" in measured(arrays)["ratio-far"].reason
    arrays = recording()
    arrays["group"] = np.where(arrays["group"] == "far", "near", arrays["group"])
    assert "no far" in measured(arrays)["separation-far"].reason


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_signals_and_predictions_that_are_not_finite_are_the_worst_there_are(bad):
    arrays = recording()
    arrays["signal_value"] = np.full_like(arrays["signal_value"], bad)
    arrays["group_value"] = np.full_like(arrays["group_value"], bad)
    arrays["prediction_std"] = np.full_like(arrays["prediction_std"], bad)
    found = measured(arrays)
    assert found["auroc"].value == found["separation-far"].value == found["ratio-far"].value == 0.0
    assert found["spearman"].value < -0.8
    assert found["coverage-at-risk-5"].value == 0.0
    assert found["auroc"].n_invalid == found["ece"].n_invalid == WINDOWS
    assert found["coverage-90"].value == 0.0
    assert found["ece"].value == pytest.approx(0.5)
    assert found["nll"].value == pytest.approx(0.5 * (CAP / FLOOR) ** 2, rel=1e-6)
    assert found["crps"].value == found["sharpness"].value == CAP
    drawn = recording(draws=39)
    drawn["draw"][0, 3] = bad
    found = measured(drawn)
    assert (found["crps-draws"].value, found["coverage-90"].value) == (CAP, 0.0)
    assert found["nll"].value == pytest.approx(0.5 * (CAP / FLOOR) ** 2, rel=1e-6)


def test_a_failed_prediction_is_an_error_that_a_signal_can_announce():
    arrays = recording()
    arrays["prediction"][0, 0] = np.nan
    arrays["signal_value"][0, 0] = 1e6
    found = measured(arrays)
    assert found["auroc"].value == 1.0
    assert found["auroc"].n_invalid == 0
    assert found["nll"].n_invalid == 1
    assert found["nll"].value == pytest.approx(0.5 * (CAP / FLOOR) ** 2 / WINDOWS, rel=1e-3)


def test_what_is_missing_says_why():
    arrays = recording()
    found = measured(arrays | {"signal_role": np.array(["trivial"] * 3), "has_std": np.array([False])})
    assert found["auroc"].reason == found["ratio-far"].reason == "the model gives no uncertainty"
    assert found["auroc:disagreement"].value == 1.0
    assert "neither" in found["ece"].reason
    alone = {
        k: v[:1] if k.startswith("signal") or k in ("group_value", "group_asked") else v for k, v in arrays.items()
    }
    assert "trivial" in measured(alone)["auroc-gain"].reason
    exact = recording()
    exact["prediction"] = exact["truth"][None, :, 1:].copy()
    found = measured(exact)
    assert "no error" in found["auroc"].reason
    assert "no error" in found["auroc-gain"].reason
    flat = recording()
    flat["prediction"] = (flat["truth"][:, 1:] + 3 * STD)[None]
    flat["prediction"][0, ::2] = np.nan  # errors of two sizes
    found = measured(flat)
    assert "every error" in found["auroc"].reason
    still = recording()
    for name in ("observation_std", "delta_std"):
        still[name] = np.zeros(3)
    found = measured(still)
    assert "no dimension" in found["ece"].reason
    assert found["auroc"].value is None
    short = recording()
    short["train_valid"] = np.arange(HORIZON) < np.full((WINDOWS, 1), 3)
    short["valid"] = np.arange(HORIZON) < np.full((WINDOWS, 1), 5)
    curve = measured(short)["auroc"].details["curve"]
    assert curve["step"] == [1, 2, 5]
    assert curve["auroc"][-1] is None
    assert curve["tau"][-1] is None
    short["train_valid"][:] = False
    assert "train split" in measured(short)["auroc"].reason
    nothing = recording()
    nothing["valid"] = nothing["valid"][:0]
    assert {r.reason for r in MEASURE(nothing)} == {"there are no transitions"}
    equal = recording()
    equal["prediction"] = (equal["truth"][:, 1:] + np.array([[0.0], [3.0]] * (WINDOWS // 2))[:, None] * STD)[None]
    equal["train_prediction"] = equal["prediction"] * 0 + equal["train_truth"][:, 1:] + STD
    assert measured(equal)["spearman"].value is not None


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.5, 4.0, 1024.0]))
def test_indifferent_to_units_and_to_monotone_changes_of_the_signal(seed, factor):
    arrays = recording(seed=seed)
    noise = np.random.default_rng([1, seed]).random((WINDOWS, HORIZON))
    arrays["signal_value"][0] += noise
    before = measured(arrays)
    changed = dict(arrays)
    for name in ("truth", "prediction", "train_truth", "train_prediction", "prediction_std", "observation_std"):
        changed[name] = factor * arrays[name]
    for name in ("observation_low", "observation_high", "delta_std"):
        changed[name] = factor * arrays[name]
    changed["signal_value"] = np.log(arrays["signal_value"]) * 3 - 7
    changed["group_value"] = arrays["group_value"] * 12
    after = measured(changed)
    for name, result in after.items():
        assert (result.value is None) == (before[name].value is None), name
        for part in ("value", "ci_low", "ci_high"):
            old, new = getattr(before[name], part), getattr(result, part)
            assert new == (None if old is None else pytest.approx(old, rel=1e-6, abs=1e-9)), name


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 10**6))
def test_indifferent_to_the_order_of_windows_and_values_to_copies(seed):
    arrays = recording(seed=seed)
    rng = np.random.default_rng([1, seed])
    arrays["signal_value"][0] += rng.random((WINDOWS, HORIZON))
    before = measured(arrays)
    for copies in (1, 2):
        rows = rng.permutation(np.tile(np.arange(WINDOWS), copies))
        changed = dict(arrays)
        for name in ("truth", "valid", "episode"):
            changed[name] = arrays[name][rows]
        for name in ("prediction", "signal_value", "prediction_std"):
            changed[name] = arrays[name][:, rows]
        after = measured(changed)
        for name, result in after.items():
            if copies == 1:
                for part in ("value", "ci_low", "ci_high"):
                    old, new = getattr(before[name], part), getattr(result, part)
                    assert new == (None if old is None else pytest.approx(old, rel=1e-9, abs=1e-9)), name
            elif result.value is not None and name.partition(":")[0] not in ("aurc", "augrc"):
                # areas under risk curves are sums over ranks, and move by half a rank
                assert result.value == pytest.approx(before[name].value, rel=1e-9, abs=1e-9), name
