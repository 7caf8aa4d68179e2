"""Drift rate: exponentials are recovered exactly, windows and floors are honest, and nothing that is lost vanishes."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from wmbench.measures.drift import MEASURE as DRIFT
from wmbench.measures.drift_rate import HIGH, LOW, MEASURE, PLATEAU

W, H, D = 12, 60, 2
STD = np.array([2.0, 20.0])


def arrays(errors, *, valid=None, roles=None, disturbance=None, **more):
    """Windows whose NRMSE is given: ``errors`` maps names to (W, H) or (H,)."""
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(W, H + 1, D)) * STD
    m = len(errors)
    each = [np.broadcast_to(e, (W, H))[..., None] * STD for e in errors.values()]
    return {
        "subject": np.array(list(errors)),
        "role": np.array(roles or ["model"] * m),
        "disturbance": np.array(disturbance or [0.0] * m),
        "dimension": np.array(["x", "y"]),
        "kind": np.array(["linear"] * D),
        "unit": np.array(["m"] * D),
        "truth": truth,
        "valid": np.ones((W, H), bool) if valid is None else valid,
        "prediction": np.stack([truth[:, 1:] + e for e in each]),
        "episode": np.arange(W) // 2,
        "observation_std": STD,
        "observation_low": truth.min((0, 1)),
        "observation_high": truth.max((0, 1)),
        "control_hz": np.array(20.0),
        **more,
    }


def by_name(data):
    return {(r.subject, r.name): r for r in MEASURE(data)}


def exponential(scale, rate):
    return scale * np.exp(rate * np.arange(1, H + 1))


@pytest.mark.parametrize(("scale", "rate"), [(1e-5, 0.2), (1e-4, 0.33), (1e-3, 0.1), (1e-2, 0.07)])
def test_exponential_growth_gives_its_rate(scale, rate):
    found = by_name(arrays({"m": exponential(scale, rate)}))
    one = found["m", "rate"]
    assert one.value == pytest.approx(rate, rel=1e-8)  # the errors are differences of float64 observations
    assert found["m", "rate-per-second"].value == pytest.approx(20 * rate, rel=1e-8)
    assert one.details["doubling_steps"] == pytest.approx(math.log(2) / rate)
    curve = exponential(scale, rate)
    inside = np.flatnonzero((curve > LOW * curve[0]) & (curve < HIGH * min(PLATEAU, curve[-1]))) + 1
    assert (one.details["first_step"], one.details["last_step"]) == (inside[0], inside[-1])
    assert one.details["points"] == len(inside)
    assert one.n == W
    assert one.details["n_episodes"] == 6
    assert (one.ci_low, one.ci_high) == (pytest.approx(rate), pytest.approx(rate))


def test_the_rate_is_the_slope_of_the_mean_log_by_an_independent_fit():
    rng = np.random.default_rng(1)
    errors = exponential(1e-4, 0.15) * np.exp(0.3 * rng.normal(size=(W, H)))
    one = by_name(arrays({"m": errors}))["m", "rate"]
    steps = np.arange(one.details["first_step"], one.details["last_step"] + 1)
    expected = stats.linregress(steps, np.log(errors).mean(0)[steps - 1]).slope
    assert one.value == pytest.approx(expected, rel=1e-9)
    assert one.ci_low < one.value < one.ci_high


def test_windows_that_differ_give_the_mean_of_their_rates():
    rates = np.repeat([0.1, 0.2], W // 2)
    errors = 1e-4 * np.exp(rates[:, None] * np.arange(1, H + 1))
    one = by_name(arrays({"m": errors}))["m", "rate"]
    assert one.value == pytest.approx(0.15, rel=1e-8)
    assert one.ci_low < 0.13
    assert one.ci_high > 0.17


def test_excess_over_the_true_simulator():
    errors = {"m": exponential(1e-3, 0.25), "same": exponential(1e-4, 0.2), "t": exponential(1e-6, 0.2)}
    roles, sizes = ["model", "model", "floor"], [0.0, 0.0, 1e-6]
    found = by_name(arrays(errors, roles=roles, disturbance=sizes, floor_rate=np.array(9.0)))
    assert found["m", "excess"].value == pytest.approx(0.05, rel=1e-4)
    assert found["m", "excess"].details["floor_rate"] == pytest.approx(0.2, rel=1e-4)
    assert found["same", "excess"].value == pytest.approx(0.0, abs=1e-5)
    assert ("t", "excess") not in found
    assert found["t", "rate"].details["role"] == "floor"
    # a floor at another disturbance is none
    found = by_name(arrays(errors, roles=roles, disturbance=[0.0, 0.0, 1e-3]))
    assert found["m", "excess"].value is None
    assert "no disturbed" in found["m", "excess"].reason
    # nor is one that never grows
    errors["t"] = np.full(H, 1e-6)
    found = by_name(arrays(errors, roles=roles, disturbance=sizes))
    assert "no rate" in found["m", "excess"].reason
    # the table that ships with the task stands in
    found = by_name(arrays({"m": exponential(1e-3, 0.25)}, floor_rate=np.array(0.2)))
    assert found["m", "excess"].value == pytest.approx(0.05)
    assert "shipped" in found["m", "excess"].details["floor"]


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (np.zeros(H), "after the first step already"),
        (np.full(H, 0.1), "after the first step already"),
        (np.linspace(0.1, 0.35, H), "no step"),
        (np.full(H, 1.4), "after the first step already"),
        (np.full(H, np.nan), "after the first step already"),
        (exponential(0.02, 0.9), "of the 4 steps"),
    ],
)
def test_without_growth_there_is_no_rate(error, why):
    found = by_name(arrays({"m": error}))
    assert {r.value for r in found.values()} == {None}
    assert all(why in r.reason for r in found.values())


def test_the_exact_model_and_constants_have_reasons():
    data = arrays({"m": exponential(1e-3, 0.2)})
    data["observation_std"] = np.zeros(D)
    assert "constant" in by_name(data)["m", "rate"].reason
    nothing = arrays({"m": exponential(1e-3, 0.2)}, valid=np.zeros((W, H), bool))
    assert "no valid steps" in by_name(nothing)["m", "rate"].reason


def test_errors_below_the_last_digit_of_an_observation_are_not_growth():
    """Rounding hides the first steps of a tiny disturbance: they must not bend the line."""
    curve = exponential(1e-12, 0.4)
    curve[curve < 1e-8] = 0.0
    assert by_name(arrays({"m": curve}))["m", "rate"].value == pytest.approx(0.4, rel=1e-6)


def test_windows_that_end_early_are_left_out_and_counted():
    valid = np.ones((W, H), bool)
    valid[:5, 5:] = False
    errors = np.tile(exponential(1e-3, 0.2), (W, 1))
    errors[:5] = exponential(1e-3, 0.5)
    one = by_name(arrays({"m": errors}, valid=valid))["m", "rate"]
    assert one.n == 7
    assert one.value == pytest.approx(0.2, rel=1e-8)


def test_a_prediction_that_is_lost_counts_as_the_worst():
    errors = np.tile(exponential(1e-4, 0.1), (W, 1))
    good = by_name(arrays({"m": errors}))["m", "rate"]
    errors[0, 40:] = np.nan
    one = by_name(arrays({"m": errors}))["m", "rate"]
    assert one.n_invalid == 1
    assert one.value > good.value + 0.005


def test_few_episodes_do_not_break_the_interval():
    """Most resamples hold no window that lasts: they fall back on the estimate."""
    valid = np.ones((W, H), bool)
    valid[2:, 20:] = False
    errors = {"m": exponential(1e-3, 0.12), "t": exponential(1e-6, 0.4)}
    data = arrays(errors, valid=valid, roles=["model", "floor"], disturbance=[0.0, 1e-6])
    found = by_name(data)
    assert found["m", "rate"].n == 2
    assert found["m", "rate"].ci_low is None  # one episode
    assert found["m", "excess"].ci_low <= found["m", "excess"].value <= found["m", "excess"].ci_high


@settings(max_examples=20, deadline=None)
@given(st.permutations(range(D)), st.floats(0.01, 100.0), st.floats(-50, 50))
def test_units_and_order_of_dimensions_do_not_matter(order, scale, shift):
    rng = np.random.default_rng(3)
    data = arrays({"m": exponential(1e-3, 0.15) * np.exp(0.2 * rng.normal(size=(W, H)))})
    plain = by_name(data)["m", "rate"]
    for name in ("truth", "prediction"):
        data[name] = data[name][..., order] * scale + shift
    for name in ("observation_low", "observation_high"):
        data[name] = data[name][order] * scale + shift
    data["observation_std"] = data["observation_std"][order] * scale
    other = by_name(data)["m", "rate"]
    assert other.value == pytest.approx(plain.value, rel=1e-6)
    assert other.ci_low == pytest.approx(plain.ci_low, rel=1e-6)


def test_a_table_of_floors_caps_the_area_where_nothing_else_does():
    errors = {"m": 0.01 * np.arange(1, H + 1)}
    found = {r.name: r for r in DRIFT(arrays(errors, floor_steps=np.array(10.0)))}
    assert found["auc-to-floor"].value == pytest.approx(0.01 * 5.5)
    assert found["auc"].details["floor"] == 10
    endless = {r.name: r for r in DRIFT(arrays(errors, floor_steps=np.array(np.inf)))}
    assert endless["auc-to-floor"].value == pytest.approx(endless["auc"].value)
    assert "auc-to-floor" not in {r.name for r in DRIFT(arrays(errors, floor_steps=np.array(np.nan)))}
    own = arrays({**errors, "t": exponential(1e-4, 0.5)}, roles=["model", "floor"], disturbance=[0.0, 1e-6])
    own["floor_steps"] = np.array(5.0)
    assert {r.name: r for r in DRIFT(own) if r.subject == "m"}["auc-to-floor"].details["horizon"] == 18
