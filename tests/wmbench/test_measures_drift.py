"""Drift: known answers, trivial optima, censoring, the floor, and faults."""

import numpy as np
import pytest

from wmbench.measures.drift import MEASURE, SATURATION, rollouts

W, H, D = 12, 40, 2


def arrays(predictions, *, valid=None, roles=None, disturbance=None, seed=0):
    """Windows of a random walk; ``predictions`` maps names to functions of the truth (W, H + 1, O)."""
    rng = np.random.default_rng(seed)
    truth = np.cumsum(rng.normal(size=(W, H + 1, D)), axis=1) * [1.0, 10.0]
    m = len(predictions)
    return {
        "subject": np.array(list(predictions)),
        "role": np.array(roles or ["model"] * m),
        "disturbance": np.array(disturbance or [0.0] * m),
        "dimension": np.array(["x", "y"]),
        "kind": np.array(["linear"] * D),
        "unit": np.array(["m"] * D),
        "truth": truth,
        "valid": np.ones((W, H), bool) if valid is None else valid,
        "prediction": np.stack([f(truth) for f in predictions.values()]),
        "episode": np.arange(W) // 2,
        "observation_std": np.array([2.0, 20.0]),
        "observation_low": truth.min((0, 1)),
        "observation_high": truth.max((0, 1)),
        "control_hz": np.array(20.0),
    }


def by_name(data):
    return {(r.subject, r.name): r for r in MEASURE(data)}


def ramp(rate):
    """A prediction whose NRMSE is ``rate`` * h."""
    return lambda truth: truth[:, 1:] + rate * np.arange(1, H + 1)[:, None] * [2.0, 20.0]


def exact(truth):
    return truth[:, 1:].copy()


def test_known_answers():
    found = by_name(arrays({"oracle": exact, "ramp": ramp(0.1), "lost": lambda t: t[:, 1:] + 1e6}))
    assert found["oracle", "auc"].value == 0.0
    assert found["oracle", "steps-to-0.5"].value is None
    assert "stay below" in found["oracle", "steps-to-0.5"].reason
    assert found["oracle", "mean-steps-to-0.5"].value == H
    assert found["oracle", "mean-steps-to-0.5"].details["censored"] == 1.0
    assert found["lost", "auc"].value == SATURATION
    # 0.1 h: 0.1 + ... + 2.0 over 20 steps, then 2 for the other 20
    assert found["ramp", "auc"].value == pytest.approx((0.1 * 20 * 21 / 2 + 20 * 2) / 40)
    assert found["ramp", "steps-to-0.5"].value == 6  # 0.1 * 5 is 0.5, and not above it
    assert found["ramp", "steps-to-1"].value == 11
    assert found["ramp", "mean-steps-to-1"].value == 11
    assert found["ramp", "steps-to-1"].details["seconds"] == pytest.approx(11 / 20)
    assert found["lost", "steps-to-0.5"].value == 1


def test_the_curve_gives_quantiles_of_the_windows_that_are_left():
    valid = np.ones((W, H), bool)
    valid[:6, 10:] = False
    curve = by_name(arrays({"ramp": ramp(0.1)}, valid=valid))["ramp", "auc"].details["curve"]
    assert curve["step"] == list(range(1, H + 1))
    assert curve["n"] == [12] * 10 + [6] * 30
    assert curve["nrmse"][2] == pytest.approx(0.1 * np.arange(1, H + 1))
    valid[:, 20:] = False
    assert by_name(arrays({"ramp": ramp(0.1)}, valid=valid))["ramp", "auc"].details["curve"]["step"][-1] == 20


def test_steps_past_a_windows_end_count_nowhere():
    valid = np.ones((W, H), bool)
    valid[:, 15:] = False

    def wild_later(truth):
        out = ramp(0.02)(truth)
        out[:, 15:] = np.nan
        return out

    found = by_name(arrays({"m": wild_later}, valid=valid))
    assert found["m", "auc"].value == pytest.approx(0.02 * 8)
    assert found["m", "auc"].n_invalid == 0
    assert found["m", "steps-to-0.5"].value is None  # censored at 15 steps
    assert found["m", "mean-steps-to-0.5"].value == 15


def test_steps_that_hardly_a_window_reaches_are_not_scored():
    valid = np.ones((W, H), bool)
    valid[1:, 10:] = False  # one of twelve windows goes on, and goes wrong

    def wrong_later(truth):
        out = exact(truth)
        out[:, 10:] += 1e6
        return out

    found = by_name(arrays({"m": wrong_later}, valid=valid))
    assert found["m", "auc"].value == 0.0
    assert found["m", "auc"].details["horizon"] == 10
    valid[1, 10:] = True  # two of twelve count, step by step
    found = by_name(arrays({"m": wrong_later}, valid=valid))
    assert found["m", "auc"].details["horizon"] == H
    assert found["m", "auc"].value == pytest.approx(SATURATION * 2 * 30 / (2 * H + 10 * 10))


def test_censored_windows_enter_the_median():
    valid = np.ones((W, H), bool)
    valid[:7, 3:] = False  # seven windows end before anything happens: the other five decide
    found = by_name(arrays({"ramp": ramp(0.1)}, valid=valid))["ramp", "steps-to-0.5"]
    assert found.value == 6
    assert found.details["censored"] == pytest.approx(7 / 12)


def test_a_prediction_that_stops_being_finite_is_lost():
    def dies(truth):
        out = exact(truth)
        out[:3, 10:] = np.nan
        return out

    found = by_name(arrays({"m": dies, "oracle": exact}))
    assert found["m", "auc"].n_invalid == 3
    assert found["m", "auc"].value == pytest.approx(3 * 30 * SATURATION / (W * H))
    assert found["m", "mean-steps-to-1"].value == pytest.approx((9 * H + 3 * 11) / 12)
    assert found["m", "auc"].value > found["oracle", "auc"].value
    every = by_name(arrays({"m": lambda t: np.full(t[:, 1:].shape, np.nan)}))
    assert every["m", "auc"].value == SATURATION
    assert every["m", "steps-to-0.5"].value == 1


def test_the_floor_caps_the_horizon():
    data = arrays(
        {"m": ramp(0.01), "true+1e-06": ramp(0.05), "true+0.001": ramp(0.5)},
        roles=["model", "floor", "floor"],
        disturbance=[0.0, 1e-6, 1e-3],
    )
    found = by_name(data)
    assert found["m", "auc"].details["floor"] == 11
    assert found["m", "auc-to-floor"].value == pytest.approx(0.01 * 6)
    assert found["m", "auc-to-floor"].details["horizon"] == 11
    data["prediction"][1] = data["truth"][:, 1:]
    assert by_name(data)["m", "auc-to-floor"].value == pytest.approx(found["m", "auc"].value)  # never reached: all of H
    assert ("m", "auc-to-floor") not in by_name(arrays({"m": exact}))


def test_intervals_resample_episodes_and_may_be_open():
    def early_or_never(truth):
        out = exact(truth)
        out[:7, 4:] += 1e3
        return out

    found = by_name(arrays({"m": early_or_never}))
    median = found["m", "steps-to-0.5"]
    assert median.value == 5
    assert median.ci_low == 5
    assert median.ci_high is None  # half of the resamples never get there
    area = found["m", "auc"]
    assert area.ci_low < area.value < area.ci_high
    data = arrays({"m": early_or_never})
    data["episode"] = np.zeros(W, int)
    assert by_name(data)["m", "auc"].ci_low is None


def test_copy_last_and_two_unrelated_draws():
    rng = np.random.default_rng(1)
    truth = rng.normal(size=(W, H + 1, D)) * [2.0, 20.0]
    data = arrays({"marginal": exact, "other": exact})
    data["truth"] = truth
    data["prediction"] = np.stack([np.zeros((W, H, D)), rng.normal(size=(W, H, D)) * [2.0, 20.0]])
    every, _ = rollouts(data)
    assert np.sqrt((every[0].error ** 2).mean()) == pytest.approx(1.0, abs=0.05)
    assert np.sqrt((every[1].error ** 2).mean()) == pytest.approx(np.sqrt(2), abs=0.05)


def test_masked_dimensions_and_nothing_to_score():
    data = arrays({"m": exact})
    data["observation_std"] = np.array([2.0, 0.0])
    data["prediction"][..., 1] += 1e9
    assert by_name(data)["m", "auc"].value == 0.0
    assert by_name(data)["m", "auc"].details["masked"] == ["y"]
    assert by_name(data)["m", "auc"].n_invalid == 0  # far away, but a number
    data["observation_std"] = np.zeros(2)
    assert "constant" in by_name(data)["m", "auc"].reason
    data["valid"][:] = False
    assert "no valid steps" in by_name(data)["m", "auc"].reason


def test_a_fault_is_detected():
    """A model fed with actions that come one step late drifts more than the same model without that fault."""
    rng = np.random.default_rng(2)
    caught = 0
    for _ in range(100):
        action = rng.normal(size=(W, H + 1))
        x = np.zeros((W, H + 1, 3))
        for h in range(H):  # own windows: x follows the action, with a little process noise
            x[:, h + 1, 0] = 0.9 * x[:, h, 0] + action[:, h]
            x[:, h + 1, 1] = x[:, h + 1, 0] + 0.05 * rng.normal(size=W)
        late = np.zeros((W, H + 1))
        for h in range(1, H):
            late[:, h + 1] = 0.9 * late[:, h] + action[:, h - 1]
        data = arrays({"good": exact, "late": exact})
        data["truth"] = np.stack([x[..., 1], 10 * x[..., 1]], -1)
        data["prediction"] = np.stack([np.stack([p, 10 * p], -1)[:, 1:] for p in (x[..., 0], late)])
        every, _ = rollouts(data)
        ones = np.ones((1, every[0].clusters))
        caught += every[1].area(ones, H)[0] > 2 * every[0].area(ones, H)[0]
    assert caught >= 95
