"""Exposure: the gap is 1 where nothing accumulates, distances are scipy's, and equal distributions look equal."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from wmbench.measures.exposure import AGAIN, HORIZONS, MEASURE
from wmbench.statistics.transport import circular_wasserstein, energy_distance, wasserstein

W, H, D, E, K = 12, 30, 2, 8, 3
STD = np.array([2.0, 20.0])


def arrays(open_error, teacher_error, *, valid=None, floor=np.nan, **more):
    """Windows whose NRMSE at each step is given, (H,) or (W, H)."""
    truth = np.random.default_rng(0).normal(size=(W, H + 1, D)) * STD
    each = [np.broadcast_to(e, (W, H))[..., None] * STD for e in (open_error, teacher_error)]
    return {
        "subject": np.array(["m"]),
        "role": np.array(["model"]),
        "dimension": np.array(["x", "y"]),
        "kind": np.array(["linear"] * D),
        "unit": np.array(["m"] * D),
        "truth": truth,
        "valid": np.ones((W, H), bool) if valid is None else valid,
        "prediction": (truth[:, 1:] + each[0])[None],
        "teacher": (truth[:, 1:] + each[1])[None],
        "episode": np.arange(W) // 2,
        "observation_std": STD,
        "observation_low": -4 * STD,
        "observation_high": 4 * STD,
        "floor_steps": np.array(floor),
        **more,
    }


def closed(true, model, again=None, returns=None, kinds=("linear", "linear"), **more):
    """A recording of a closed loop; observations (E, K, D)."""
    data = arrays(np.full(H, 0.1), np.full(H, 0.1))
    e = len(true)
    data |= {
        "kind": np.array(kinds),
        "closed_step": np.array([1, 5, 20]),
        "closed_subject": np.array([True]),
        "closed_true": true,
        "closed_again": true[::-1] if again is None else again,
        "closed": model[None],
        "return_true": np.arange(e, dtype=float),
        "return_again": np.arange(e, dtype=float),
        "return": np.arange(e, dtype=float)[None] if returns is None else np.array(returns, dtype=float)[None],
    }
    return data | more


def by_name(data, subject="m"):
    return {r.name: r for r in MEASURE(data) if r.subject == subject}


STEPS = np.arange(1, H + 1)


def test_errors_that_do_not_accumulate_have_a_gap_of_one():
    found = by_name(arrays(np.full(H, 0.3), np.full(H, 0.3)))
    assert found["gap"].value == pytest.approx(1.0, rel=1e-12)
    assert (found["gap"].ci_low, found["gap"].ci_high) == (pytest.approx(1.0), pytest.approx(1.0))
    assert found["teacher"].value == found["open"].value == pytest.approx(0.3)
    assert found["gap"].details["curve"]["gap"] == pytest.approx(np.ones(H))


def test_errors_that_add_up_have_the_known_gap():
    found = by_name(arrays(0.01 * STEPS, np.full(H, 0.01)))
    for h in (5, 10, 25):
        assert found[f"gap-{h}"].value == pytest.approx(h, rel=1e-9)
    assert found["gap"].value == pytest.approx(math.factorial(H) ** (1 / H), rel=1e-9)
    assert found["open"].value == pytest.approx(0.01 * (H + 1) / 2)
    assert found["gap"].details["curve"]["gap"][0] == 1.0
    assert found["gap-50"].value is None
    assert set(HORIZONS) == {5, 10, 25, 50}


def test_exponential_growth_and_the_cut():
    found = by_name(arrays(0.001 * np.exp(0.1 * (STEPS - 1)), np.full(H, 0.001)))
    assert found["gap"].value == pytest.approx(math.exp(0.1 * (H - 1) / 2), rel=1e-9)
    found = by_name(arrays(np.where(STEPS > 4, 1e6, 0.5), np.full(H, 0.5)))
    assert found["gap-10"].value == pytest.approx(2.0 / 0.5)


def test_the_floor_caps_the_summary_and_is_said():
    data = arrays(0.01 * STEPS, np.full(H, 0.01), floor=8.0)
    found = by_name(data)
    assert found["gap"].value == pytest.approx(math.factorial(8) ** (1 / 8), rel=1e-9)
    assert found["gap"].details["horizon"] == 8
    assert found["open"].value == pytest.approx(0.045)
    assert "floor" in found["gap-10"].reason
    assert found["gap-5"].reason is None
    assert by_name(arrays(0.01 * STEPS, np.full(H, 0.01), floor=np.inf))["gap"].details["horizon"] == H


def test_an_exact_model_has_no_gap_and_says_why():
    found = by_name(arrays(np.zeros(H), np.zeros(H)))
    assert found["gap"].value is None
    assert "no teacher-forced error" in found["gap"].reason
    assert "no teacher-forced error" in found["gap-5"].reason
    assert found["open"].value == found["teacher"].value == 0.0
    assert found["closed-w1"].reason == "no policy acted in this recording"


def test_lost_predictions_count_as_worst():
    error = np.tile(0.1, (W, H))
    error[0, 10:] = np.nan
    found = by_name(arrays(error, np.full(H, 0.1)))
    assert found["gap"].n_invalid == found["open"].n_invalid == 1
    assert found["teacher"].n_invalid == 0  # taught, the model lost nothing
    assert found["gap-25"].value == pytest.approx((2.0 + 11 * 0.1) / 12 / 0.1)
    nothing = by_name(arrays(np.full(H, np.nan), np.full(H, np.nan)))
    assert nothing["open"].value == nothing["teacher"].value == 2.0
    assert nothing["open"].n_invalid == W


def test_the_gap_ranks_nobody():
    """What knows nothing loses nothing: always the same prediction, or none that is finite, has the gap 1."""
    same, nothing = np.full(H, 1.3), np.full(H, np.nan)
    for error in (same, nothing):
        found = by_name(arrays(error, error))
        assert found["gap"].value == pytest.approx(1.0)
        assert all(r.direction == "none" for name, r in found.items() if name.startswith("gap"))
        assert found["open"].direction == found["teacher"].direction == "lower"
    assert MEASURE.direction == "none"


def test_short_windows_constant_dimensions_and_single_episodes():
    valid = np.ones((W, H), bool)
    valid[2:, 7:] = False
    found = by_name(arrays(0.01 * STEPS, np.full(H, 0.01), valid=valid))
    assert found["gap-10"].n == 2
    assert found["gap-10"].ci_low is None  # both from one episode
    assert "hardly" in found["gap-50"].reason
    data = arrays(0.01 * STEPS, np.full(H, 0.01))
    data["observation_std"] = np.zeros(D)
    assert "constant" in by_name(data)["gap"].reason
    assert "no valid" in by_name(arrays(STEPS, STEPS, valid=np.zeros((W, H), bool)))["open"].reason
    # resamples in which the model is exact fall back on the estimate
    error = np.zeros((W, H))
    error[:2] = 0.1
    found = by_name(arrays(2 * error, error))
    assert found["gap"].value == pytest.approx(2.0)
    assert found["gap"].ci_low <= 2.0 <= found["gap"].ci_high


def test_distances_are_those_of_scipy():
    rng = np.random.default_rng(5)
    for n in (1, 2, 9):
        x, y = rng.normal(size=n), rng.normal(1, 2, size=n)
        equal = np.full((1, n), 1 / n)
        assert wasserstein(x, y)(equal)[0] == pytest.approx(stats.wasserstein_distance(x, y), rel=1e-12)
        assert energy_distance(x[:, None], y[:, None])(equal)[0] == pytest.approx(stats.energy_distance(x, y), rel=1e-9)
        weights = rng.random(n)
        p = (weights / weights.sum())[None]
        assert wasserstein(x, y)(p)[0] == pytest.approx(stats.wasserstein_distance(x, y, p[0], p[0]), rel=1e-12)
        assert energy_distance(x[:, None], y[:, None])(p)[0] == pytest.approx(
            stats.energy_distance(x, y, p[0], p[0]), rel=1e-9
        )


def test_on_the_circle_the_distance_is_the_best_assignment():
    rng = np.random.default_rng(6)
    for n in (1, 2, 5, 8):
        x, y = rng.uniform(-10, 10, n), rng.uniform(-10, 10, n)
        arc = np.abs((x[:, None] - y + np.pi) % (2 * np.pi) - np.pi)
        rows, columns = optimize.linear_sum_assignment(arc)
        best = arc[rows, columns].mean()
        assert circular_wasserstein(x, y)(np.full((1, n), 1 / n))[0] == pytest.approx(best, rel=1e-9)


def test_a_shift_is_as_far_as_it_is_long():
    true = np.random.default_rng(1).normal(size=(E, K, D)) * STD
    found = by_name(closed(true, true + 0.5 * STD))
    assert found["closed-w1"].value == pytest.approx(0.5, rel=1e-12)
    assert found["closed-w1"].details["curve"] == pytest.approx([0.5] * 3)
    one_side = by_name(closed(true, true + np.array([0.5 * 2.0, 0.0])))
    assert one_side["closed-w1"].value == pytest.approx(0.25, rel=1e-12)
    assert one_side["closed-energy"].value > 0


def test_the_oracle_is_at_distance_zero_exactly_and_other_starts_are_not():
    true = np.random.default_rng(1).normal(size=(E, K, D)) * STD
    again = np.random.default_rng(2).normal(size=(E, K, D)) * STD
    data = closed(true, true.copy(), again)
    found = by_name(data)
    for name in ("closed-w1", "closed-energy"):
        assert (found[name].value, found[name].ci_low, found[name].ci_high) == (0.0, 0.0, 0.0)
        assert by_name(data, AGAIN)[name].value > 0.05
    assert found["closed-return"].value == 0.0
    assert by_name(data, AGAIN)["closed-return"].details["role"] == "floor"
    assert set(by_name(data, AGAIN)) == {"closed-w1", "closed-energy", "closed-return"}


def test_correlation_shows_in_the_whole_but_not_in_the_marginals():
    x = np.random.default_rng(1).normal(size=(40, 1, 1))
    true, model = np.concatenate([x, x], -1) * STD, np.concatenate([x, x[::-1]], -1) * STD
    found = by_name(closed(true, model, closed_step=np.array([1])))
    assert found["closed-w1"].value == pytest.approx(0.0, abs=1e-12)
    assert found["closed-energy"].value > 0.1


def test_angles_are_compared_on_the_circle():
    true = np.random.default_rng(1).normal(size=(E, K, D))
    turned = true + np.array([2 * np.pi, 0])
    found = by_name(closed(true, turned, kinds=("angle", "linear")))
    assert found["closed-w1"].value == pytest.approx(0.0, abs=1e-12)
    assert found["closed-energy"].value == pytest.approx(0.0, abs=1e-6)
    opposite = by_name(closed(np.zeros((E, K, D)), np.full((E, K, D), [np.pi, 0.0]), kinds=("angle", "linear")))
    assert opposite["closed-w1"].value == pytest.approx(np.pi / STD[0] / 2)


def test_quaternions_of_both_signs_are_the_same():
    q = np.random.default_rng(3).normal(size=(E, K, 4))
    q /= np.linalg.norm(q, axis=-1, keepdims=True)
    four = {
        "dimension": np.array(list("wxyz")),
        "unit": np.array(["1"] * 4),
        "truth": np.tile(q[:1, :1], (W, H + 1, 1)),
        "prediction": np.tile(q[:1, :1], (1, W, H, 1)),
        "teacher": np.tile(q[:1, :1], (1, W, H, 1)),
        **{f"observation_{k}": v for k, v in (("std", np.full(4, 0.5)), ("low", -np.ones(4)), ("high", np.ones(4)))},
    }
    found = by_name(closed(q, -q, kinds=["quaternion"] * 4, **four))
    assert found["closed-w1"].value == pytest.approx(0.0, abs=1e-12)
    assert by_name(closed(q, q[..., ::-1], kinds=["quaternion"] * 4, **four))["closed-w1"].value > 0.05


@pytest.mark.parametrize("kinds", [("linear", "linear"), ("angle", "linear")])
def test_broken_off_episodes_are_as_far_away_as_anything(kinds):
    true = np.random.default_rng(1).normal(size=(E, K, D)) * STD
    model = true.copy()
    model[0, 1:] = np.nan
    returns = np.arange(E, dtype=float)
    returns[0] = np.nan
    found = by_name(closed(true, model, returns=returns, kinds=kinds))
    assert found["closed-w1"].n_invalid == 1
    assert found["closed-w1"].value > 1000 / E / 2
    assert found["closed-return"].n_invalid == 1
    assert found["closed-return"].value == 0.0  # worth the least return anyone had, which the true episode had as well
    lost = by_name(closed(true, model * np.nan, returns=np.full(E, np.nan), return_true=np.full(E, np.nan)))
    assert lost["closed-return"].value is None
    assert "no episode" in lost["closed-return"].reason


def test_what_did_not_act_has_a_reason():
    true = np.random.default_rng(1).normal(size=(E, K, D))
    found = by_name(closed(true, true, closed_subject=np.array([False])))
    assert "no simulator" in found["closed-w1"].reason
    data = closed(true, true)
    data["observation_std"] = np.zeros(D)
    assert "constant" in by_name(data)["closed-w1"].reason
    alone = by_name(closed(true[:1], true[:1] + 1.0))
    assert alone["closed-w1"].ci_low is None
    assert alone["closed-return"].details["in_std"] is None


@settings(max_examples=15, deadline=None)
@given(st.permutations(range(E)), st.permutations(range(D)), st.floats(0.1, 10), st.floats(-5, 5))
def test_order_units_and_origin_do_not_matter(starts, dims, scale, shift):
    rng = np.random.default_rng(4)
    true, model = rng.normal(size=(E, K, D)) * STD, rng.normal(0.3, 1.2, size=(E, K, D)) * STD
    data = closed(true, model)
    plain = by_name(data)
    for name in ("closed_true", "closed_again"):
        data[name] = data[name][starts][..., dims] * scale + shift
    data["closed"] = data["closed"][:, starts][..., dims] * scale + shift
    for name in ("observation_low", "observation_high"):
        data[name] = data[name][dims] * scale + shift
    data["observation_std"] = data["observation_std"][dims] * scale
    other = by_name(data)
    for name in ("closed-w1", "closed-energy"):
        assert other[name].value == pytest.approx(plain[name].value, rel=1e-6)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000))
def test_distances_are_seminorms_of_the_weights(seed):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(2, 6))
    p, q = rng.normal(size=(2, 1, 6))
    for norm in (wasserstein(x, y), circular_wasserstein(x, y), energy_distance(x[:, None], y[:, None])):
        assert norm(p + q)[0] <= norm(p)[0] + norm(q)[0] + 1e-9
        assert norm(-2 * p)[0] == pytest.approx(2 * norm(p)[0], rel=1e-9)
