"""Heads: known answers, trivial optima, failures as worst cases, and indifference to units, order and copies."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wmbench import registry
from wmbench.measures import Result
from wmbench.measures.geometry import CAP
from wmbench.measures.heads import DEFINITIONS, MEASURE, heads

EPISODES, STEPS, WINDOWS, HORIZON = 12, 30, 24, 8


def recording(**changes):
    """Twelve episodes that end at different steps, and one model that predicts them exactly."""
    rng = np.random.default_rng(0)
    n = EPISODES * STEPS
    episode = np.repeat(np.arange(EPISODES), STEPS)
    reward = rng.normal(1.0, 2.0, n)
    terminated = np.arange(n) % STEPS == STEPS - 1
    success = rng.random(n) < 0.3
    ends = 1 + np.arange(WINDOWS) % (HORIZON + 2)  # two in ten do not end inside the window
    step = np.arange(1, HORIZON + 1)
    window_terminated = step == ends[:, None]
    window_reward = rng.normal(1.0, 2.0, (WINDOWS, HORIZON))
    arrays = {
        "subject": np.array(["model"]),
        "role": np.array(["model"]),
        "reward": reward,
        "terminated": terminated,
        "success": success,
        "episode": episode,
        "reward_prediction": reward[None].copy(),
        "terminated_prediction": terminated[None].astype(float),
        "success_prediction": success[None].astype(float),
        "has_reward": np.array([True]),
        "has_terminated": np.array([True]),
        "has_success": np.array([True]),
        "window_reward": window_reward,
        "window_terminated": window_terminated,
        "window_valid": step <= ends[:, None],
        "window_limit": np.full(WINDOWS, HORIZON),
        "window_episode": np.arange(WINDOWS) % EPISODES,
        "window_reward_prediction": window_reward[None].copy(),
        "window_terminated_prediction": window_terminated[None].astype(float),
        "samples_end": np.array([False]),
        "reward_mean": np.array(1.0),
        "reward_std": np.array(2.0),
        "reward_low": np.array(-5.0),
        "reward_high": np.array(7.0),
        "reward_event": np.array(0.0),
        "control_hz": np.array(20.0),
    }
    return arrays | changes


def measured(arrays, subject="model"):
    """Results of one subject by name."""
    return {r.name: r for r in MEASURE(arrays) if r.subject == subject}


PERFECT = {"reward-r2": 1, "reward-auroc": 1, "success-auroc": 1, "termination-auroc": 1}


def test_an_exact_model_is_perfect_and_every_number_is_there():
    found = measured(recording())
    assert list(found) == list(DEFINITIONS)
    for name, result in found.items():
        assert result.value == PERFECT.get(name, 0), name
        assert result.n_invalid == 0
        assert result.ci_low <= result.value <= result.ci_high, name
        assert Result.from_json(result.to_json()) == result
    assert registry.measures.load("heads") is MEASURE
    assert MEASURE.needs == tuple(k for k in recording() if k in MEASURE.needs)


def test_a_constant_offset_is_that_large_and_adds_up_over_the_horizon():
    arrays = recording()
    arrays["reward_prediction"] += 0.5
    arrays["window_reward_prediction"] += 0.5
    found = measured(arrays)
    assert found["reward-rmse"].value == pytest.approx(0.5, rel=1e-12)
    spread = ((arrays["reward"] - 1.0) ** 2).mean()
    assert found["reward-r2"].value == pytest.approx(1 - 0.25 / spread, rel=1e-12)
    assert found["reward-auroc"].value == 1.0
    lengths = arrays["window_valid"].sum(1)
    total = found["reward-sum-error"]
    assert total.value == pytest.approx(0.5 * lengths.mean(), rel=1e-12)
    curve = total.details["curve"]
    assert curve["step"] == [1, 2, 5, 8]
    assert curve["error"] == pytest.approx([0.5 * np.minimum(lengths, h).mean() for h in (1, 2, 5, 8)], rel=1e-12)
    assert curve["bias"] == pytest.approx(curve["error"])
    assert curve["ci_low"][-1] == total.ci_low
    assert total.ci_low < total.value < total.ci_high


def test_errors_of_opposite_sign_cancel_in_the_sum_not_in_the_rmse():
    arrays = recording(window_valid=np.ones((WINDOWS, HORIZON), dtype=bool))
    arrays["window_reward_prediction"] += np.where(np.arange(HORIZON) % 2, -1.0, 1.0)
    curve = measured(arrays)["reward-sum-error"].details["curve"]
    assert curve["error"] == pytest.approx([1, 0, 1, 0], abs=1e-12)


def test_the_marginal_has_no_skill():
    arrays = recording()
    arrays["reward_prediction"][:] = arrays["reward_mean"]
    arrays["success_prediction"][:] = rate = arrays["success"].mean()
    arrays["terminated_prediction"][:] = hazard = 1 / STEPS
    arrays["samples_end"][:] = True
    found = measured(arrays)
    assert found["reward-r2"].value == pytest.approx(0.0, abs=1e-12)
    assert found["reward-auroc"].value == found["success-auroc"].value == found["termination-auroc"].value == 0.5
    assert found["success-brier"].value == pytest.approx(rate * (1 - rate), rel=1e-12)
    assert found["success-brier"].details["skill"] == pytest.approx(0.0, abs=1e-12)
    assert found["success-ece"].value == pytest.approx(0.0, abs=1e-12)  # calibrated, and says nothing:
    assert found["success-ece"].details["sharpness"] == pytest.approx(0.0, abs=1e-12)
    assert found["success-ece"].details["resolution"] == pytest.approx(0.0, abs=1e-12)
    assert found["success-ece"].details["if_calibrated"] > 0
    assert found["success-ece"].ci_low == 0.0
    assert found["false-continue"].value == pytest.approx(1 - hazard)
    assert found["false-stop"].value == pytest.approx(hazard)


def test_the_end_of_a_drawn_episode_is_geometric_up_to_the_limit():
    hazard = 0.3
    arrays = recording(samples_end=np.array([True]))
    arrays["window_terminated_prediction"][:] = hazard
    found = measured(arrays)["end-error"]
    step = np.arange(1, HORIZON + 1)
    chance = hazard * (1 - hazard) ** (step - 1)
    chance[-1] = (1 - hazard) ** (HORIZON - 1)
    ends = np.minimum(1 + np.arange(WINDOWS) % (HORIZON + 2), HORIZON)
    expected = (chance * np.abs(step - ends[:, None])).sum(1)
    assert found.value == pytest.approx(expected.mean(), rel=1e-12)
    assert found.details["seconds"] == pytest.approx(expected.mean() / 20)
    assert found.details["bias"] == pytest.approx((chance * (step - ends[:, None])).sum(1).mean())
    does = arrays["window_terminated"].any(1)
    assert found.details["where_terminated"] == pytest.approx(expected[does].mean())
    assert found.details["terminated"] == does.sum()
    survival = found.details["survival"]
    assert survival["predicted"][:3] == pytest.approx([0.7, 0.49, 0.343])
    assert survival["true"] == pytest.approx([(ends > h).mean() for h in step])
    arrays["samples_end"][:] = False  # below one half the twin never ends
    never = measured(arrays)["end-error"]
    assert never.value == pytest.approx((HORIZON - ends).mean())


def test_an_end_that_comes_k_steps_late_is_k_steps_off_and_the_limit_stops_everything():
    arrays = recording(window_limit=np.full(WINDOWS, 6))
    ends = np.full(WINDOWS, 3)
    step = np.arange(1, HORIZON + 1)
    arrays["window_terminated"] = step == ends[:, None]
    for late, expected in ((0, 0), (2, 2), (-2, 2), (4, 3)):
        arrays["window_terminated_prediction"] = (step == ends[:, None] + late)[None].astype(float)
        found = measured(arrays)["end-error"]
        assert found.value == expected
        assert found.details["bias"] == (min(late, 3))


def test_false_stops_and_false_continues_are_shares_of_their_own_steps():
    arrays = recording()
    ends = arrays["terminated"]
    p = np.where(ends, 0.9, 0.1)
    p[np.flatnonzero(ends)[:3]] = 0.4999  # three missed ends of twelve
    p[np.flatnonzero(~ends)[:29]] = 0.5  # 29 false stops of 348
    arrays["terminated_prediction"] = p[None]
    found = measured(arrays)
    assert found["false-continue"].value == pytest.approx(3 / 12)
    assert (found["false-continue"].n, found["false-stop"].n) == (12, 348)
    assert found["false-stop"].value == pytest.approx(29 / 348)
    assert found["false-stop"].ci_low < 29 / 348 < found["false-stop"].ci_high


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_the_worst_there_is(bad):
    arrays = recording()
    for name in ("reward", "terminated", "success", "window_reward", "window_terminated"):
        arrays[f"{name}_prediction"] = np.full_like(arrays[f"{name}_prediction"], bad)
    found = measured(arrays)
    assert found["reward-rmse"].value == pytest.approx(CAP * 2.0)
    for name in (
        "success-brier",
        "success-ece",
        "termination-brier",
        "termination-ece",
        "false-continue",
        "false-stop",
    ):
        assert found[name].value == 1.0, name
    for name in ("reward-auroc", "success-auroc", "termination-auroc"):
        assert found[name].value == 0.0, name
    ends = np.minimum(1 + np.arange(WINDOWS) % (HORIZON + 2), HORIZON)
    assert found["end-error"].value == np.maximum(ends - 1, HORIZON - ends).mean()
    assert found["end-error"].details["bias"] is None
    assert found["reward-sum-error"].value == pytest.approx((CAP * 2.0 * arrays["window_valid"].sum(1)).mean())
    for name, result in found.items():
        windows = name in ("end-error", "reward-sum-error")
        assert result.n_invalid == result.n == (WINDOWS if windows else result.n)
        assert Result.from_json(result.to_json()) == result


def test_one_failure_counts_and_is_not_dropped():
    arrays = recording()
    arrays["reward_prediction"][0, 5] = np.nan
    arrays["success_prediction"][0, :2] = [1.5, -0.2]
    arrays["window_terminated_prediction"][0, 0, 0] = np.nan
    found = measured(arrays)
    n = EPISODES * STEPS
    assert (found["reward-rmse"].n, found["reward-rmse"].n_invalid) == (n, 1)
    assert found["reward-rmse"].value == pytest.approx(CAP * 2.0 / np.sqrt(n))
    assert (found["success-brier"].value, found["success-brier"].n_invalid) == (2 / n, 2)
    assert (found["end-error"].value, found["end-error"].n_invalid) == ((HORIZON - 1) / WINDOWS, 1)


def test_a_missing_head_has_no_numbers_and_says_so():
    for head, names in (
        ("reward", "reward-"),
        ("success", "success-"),
        ("terminated", ("termination-", "false-", "end-")),
    ):
        found = measured(recording(**{f"has_{head}": np.array([False])}))
        for name, result in found.items():
            if name.startswith(names):
                assert (result.value, result.reason, result.ci_low) == (None, "no head", None)
            else:
                assert result.value is not None


def test_what_is_undefined_says_why():
    none = np.zeros(EPISODES * STEPS, dtype=bool)
    found = measured(recording(terminated=none, success=~none, reward_event=np.array(np.nan)))
    assert "never happens" in found["termination-auroc"].reason
    assert "every step" in found["success-auroc"].reason
    assert "no step" in found["false-continue"].reason
    assert "dense" in found["reward-auroc"].reason
    assert found["termination-brier"].details["skill"] is None
    constant = recording(reward_std=np.array(0.0), reward_low=np.array(1.0), reward_high=np.array(1.0))
    constant["reward_prediction"] = constant["reward_prediction"] + 0.25
    found = measured(constant)
    assert "constant" in found["reward-r2"].reason
    assert found["reward-rmse"].value == pytest.approx(0.25)
    flat = recording(reward=np.full(EPISODES * STEPS, 1.0))
    assert "train split's mean" in measured(flat)["reward-r2"].reason
    empty = recording(reward=np.zeros(0))
    assert {r.reason for r in heads(empty)} == {"there are no transitions"}
    survivors = recording(window_terminated=np.zeros((WINDOWS, HORIZON), dtype=bool))
    assert measured(survivors)["end-error"].details["where_terminated"] is None


def noisy(rng):
    arrays = recording()
    for name in ("reward", "window_reward"):
        arrays[f"{name}_prediction"] = arrays[f"{name}_prediction"] + rng.normal(
            size=arrays[f"{name}_prediction"].shape
        )
    for name in ("terminated", "success", "window_terminated"):
        arrays[f"{name}_prediction"] = rng.random(arrays[f"{name}_prediction"].shape)
    return arrays


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.25, 8.0, 1000.0]), st.floats(-3, 3))
def test_indifferent_to_units_and_shifts_of_reward(seed, factor, shift):
    arrays = noisy(np.random.default_rng([1, seed]))
    before = measured(arrays)
    valid = arrays["window_valid"]
    changed = dict(arrays)
    for name in ("reward", "reward_prediction", "reward_mean", "reward_low", "reward_high", "reward_event"):
        changed[name] = factor * arrays[name] + shift
    for name in ("window_reward", "window_reward_prediction"):
        changed[name] = factor * arrays[name] + np.where(valid, shift, 0.0)
    changed["reward_std"] = factor * arrays["reward_std"]
    after = measured(changed)
    for name, result in after.items():
        scale = factor if result.unit == "reward" else 1.0
        for part in ("value", "ci_low", "ci_high"):
            assert getattr(result, part) == pytest.approx(scale * getattr(before[name], part), rel=1e-6, abs=1e-9), name


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6))
def test_indifferent_to_the_order_of_items_and_to_duplicated_steps(seed):
    rng = np.random.default_rng([1, seed])
    arrays = noisy(rng)
    before = measured(arrays)
    rows = rng.permutation(np.tile(np.arange(EPISODES * STEPS), 2))  # every step twice within its episode
    windows = rng.permutation(np.tile(np.arange(WINDOWS), 2))
    changed = dict(arrays)
    for name, array in arrays.items():
        if name in ("reward", "terminated", "success", "episode"):
            changed[name] = array[rows]
        elif name.startswith("window"):
            changed[name] = array[:, windows] if name.endswith("prediction") else array[windows]
        elif name.endswith("_prediction"):
            changed[name] = array[:, rows]
    after = measured(changed)
    exact = {"false-continue", "false-stop", "reward-auroc", "success-auroc", "termination-auroc"}
    for name, result in after.items():
        assert result.value == pytest.approx(before[name].value, rel=1e-9), name
        if name not in exact:  # intervals resample episodes, so copies add nothing
            assert result.ci_low == pytest.approx(before[name].ci_low, rel=1e-9, abs=1e-12), name
        # the others never take the design effect for less than 1, so copies narrow them a little, not by half
        width = result.ci_high - result.ci_low
        assert width >= 0.6 * (before[name].ci_high - before[name].ci_low), name


def test_subjects_do_not_see_each_other():
    arrays, other = recording(), noisy(np.random.default_rng(3))
    both = dict(arrays)
    for name in arrays:
        if name.endswith("_prediction") or name.startswith("has_") or name in ("role", "samples_end"):
            both[name] = np.concatenate([other[name], arrays[name]])
    both["subject"] = np.array(["other", "model"])
    assert [r.value for r in measured(both).values()] == [r.value for r in measured(arrays).values()]
    assert measured(both, "other")["reward-rmse"].value == measured(other)["reward-rmse"].value
    assert measured(both)["reward-r2"].details["role"] == "model"
