"""Real time: known curves, half lost where it must be, censoring, invalid episodes, and the trivial optima."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wmbench.errors import DatasetError
from wmbench.measures.realtime import MEASURE, crossing, trapezoids
from wmbench.statistics import paired_difference, wilson

DELAYS = np.array([0.0, 1.0, 2.0, 4.0, 8.0])


def arrays(
    solved, returns, conditions=("0", "1", "2", "4", "8", "random"), seconds=(), hz=20.0, valid=None, low=np.nan
):
    """One subject from (C, E) outcomes."""
    solved, returns = np.asarray(solved), np.asarray(returns, dtype=float)
    valid = np.ones(solved.shape, bool) if valid is None else np.asarray(valid)
    return {
        "subject": np.array(["p in true"]),
        "condition": np.array(conditions),
        "solved": solved[None].astype(bool),
        "returns": returns[None],
        "valid": valid[None],
        "length": np.full(solved.shape, 10)[None],
        "reward_low": np.array(low),
        "horizon": np.array(10),
        "control_hz": np.array(hz),
        "trace_subject": np.zeros(len(seconds), int),
        "trace_seconds": np.array(seconds, dtype=float),
    }


def by_name(data):
    return {r.name: r for r in MEASURE(data)}


def curve(levels, episodes=10, random=0.0):
    """Returns with the given means and no noise; success in that share of the episodes."""
    returns = np.repeat(np.array([*levels, random])[:, None], episodes, 1)
    solved = np.arange(episodes) < np.array([*levels, 0.0])[:, None] * episodes
    return arrays(solved, returns)


def test_a_linear_curve_is_half_lost_in_its_middle():
    found = by_name(curve(1 - DELAYS / 8))
    assert found["d50-return"].value == pytest.approx(4.0, rel=1e-12)
    assert found["d50-success"].value == pytest.approx(4.0, abs=0.2)  # shares of ten episodes
    assert found["auc-return"].value == pytest.approx(0.5, rel=1e-12)
    assert (found["d50-return"].ci_low, found["d50-return"].ci_high) == pytest.approx((4.0, 4.0))
    assert found["d50-return"].details["between"] == [4, 4]


def test_a_policy_that_does_not_look_loses_nothing():
    """Open loop, up to the shift: the curve is flat, and where half is lost is beyond what was measured."""
    found = by_name(curve([0.7] * 5, random=0.2))
    for name in ("d50-success", "d50-return"):
        assert found[name].value is None
        assert found[name].reason == "half is never lost up to the longest delay, 8 steps"
        assert found[name].ci_high is None
    assert found["auc-success"].value == pytest.approx(0.7)
    assert found["auc-return"].value == pytest.approx(1.0, rel=1e-12)
    assert found["change-return:4"].value == found["change-success:4"].value == 0.0


def test_everything_lost_at_the_first_step():
    found = by_name(curve([1.0, 0.0, 0.0, 0.0, 0.0]))
    assert found["d50-success"].value == found["d50-return"].value == 0.5  # linear between 0 and 1
    assert found["d50-success"].details["between"] == [0, 1]
    assert found["auc-success"].value == found["auc-return"].value == pytest.approx(1 / 16)
    assert found["change-success:1"].value == -1.0


def test_exactly_half_is_half_lost():
    found = by_name(curve([1.0, 0.5, 0.5, 0.5, 0.5]))
    assert found["d50-success"].value == found["d50-return"].value == 1.0
    assert found["d50-success"].details["between"] == [1, 1]


def test_halfway_is_counted_from_the_random_policy():
    found = by_name(curve([10.0, 9.0, 8.0, 6.0, 2.0], random=6.0))
    assert found["d50-return"].value == pytest.approx(2.0, rel=1e-12)  # down to (10 + 6) / 2
    area = float(trapezoids(DELAYS) @ [10.0, 9.0, 8.0, 6.0, 2.0])
    assert found["auc-return"].value == pytest.approx((area - 6) / 4, rel=1e-12)


def test_levels_have_their_intervals():
    rng = np.random.default_rng(0)
    solved = rng.random((6, 20)) < 0.6
    returns = rng.normal(size=(6, 20)) + np.array([9, 7, 5, 3, 1, 0])[:, None]
    found = by_name(arrays(solved, returns))
    for c, name in enumerate(("0", "1", "2", "4", "8")):
        result = found[f"success:{name}"]
        assert result.value == solved[c].mean()
        assert (result.ci_low, result.ci_high) == wilson(int(solved[c].sum()), 20)
        assert found[f"return:{name}"].value == pytest.approx(returns[c].mean(), rel=1e-12)
        if c:
            change = found[f"change-success:{name}"]
            assert (change.ci_low, change.ci_high) == paired_difference(solved[c], solved[0])
            assert found[f"change-return:{name}"].value == pytest.approx((returns[c] - returns[0]).mean(), rel=1e-12)
            assert found[f"change-return:{name}"].ci_low < found[f"change-return:{name}"].value
    assert found["d50-return"].ci_low <= found["d50-return"].value <= (found["d50-return"].ci_high or np.inf)


def test_pairing_takes_the_starts_out():
    starts = 100 * np.random.default_rng(1).normal(size=12)
    returns = np.array([starts + 50, starts + 40, starts])
    found = by_name(arrays(np.ones((3, 12), bool), returns, ("0", "1", "random")))
    change = found["change-return:1"]
    assert (change.ci_low, change.ci_high) == pytest.approx((-10.0, -10.0))
    assert found["return:1"].ci_high - found["return:1"].ci_low > 50


def test_a_replayed_trace():
    solved = np.repeat([[True], [False], [False]], 8, 1)
    returns = np.repeat([[8.0], [5.0], [0.0]], 8, 1)
    found = by_name(arrays(solved, returns, ("0", "trace", "random"), [0.01, 0.051, 0.15, 0.0]))
    assert found["latency-adjusted-success"].value == 0.0
    assert found["latency-adjusted-return"].value == 5.0
    for result in found.values():  # more is better, so what is lost has a minus sign, and is called no cost
        assert "cost" not in result.name
    assert found["latency-change-success"].value == -1.0
    assert found["latency-change-return"].value == -3.0
    assert found["latency-adjusted-return"].details["decisions"] == 4
    assert found["latency-adjusted-return"].details["mean_delay"] == (1 + 2 + 3 + 0) / 4
    assert (
        by_name(arrays(solved, returns, ("0", "trace", "random")))["latency-change-return"].details["mean_delay"]
        is None
    )
    alone = by_name(curve([1.0] * 5))
    for name in ("latency-adjusted-success", "latency-change-return"):
        assert (alone[name].value, alone[name].reason) == (None, "no latency trace was replayed")


def test_invalid_episodes_fail_and_are_worst():
    valid = np.ones((3, 4), bool)
    valid[1, 0] = False
    solved, returns = np.ones((3, 4), bool), np.repeat([[4.0], [3.0], [1.0]], 4, 1)
    returns[1, 0] = 100.0
    data = arrays(solved, returns, ("0", "1", "random"), valid=valid)
    found = by_name(data)
    assert (found["success:1"].value, found["success:1"].n_invalid) == (0.75, 1)
    assert found["return:1"].value == pytest.approx((3 * 3 + 1) / 4)  # the lowest that any condition shows
    assert (found["d50-return"].n_invalid, found["change-return:1"].n_invalid, found["return:0"].n_invalid) == (1, 1, 0)
    data["reward_low"], data["length"] = np.array(-2.0), np.full((1, 3, 4), 7)
    assert by_name(data)["return:1"].value == pytest.approx((3 * 3 + 100 - 3 * 2) / 4)
    nothing = by_name(arrays(solved, returns, ("0", "1", "random"), valid=np.zeros((3, 4), bool)))
    for name in ("return:0", "change-return:1", "d50-return", "auc-return"):
        assert "no valid episode" in nothing[name].reason
    assert nothing["d50-success"].reason == "the task is never solved without delay"


def test_numbers_that_do_not_exist():
    found = by_name(curve([0.2] * 5, random=0.5))
    assert "no better than that of the random policy" in found["d50-return"].reason
    lonely = by_name(arrays(np.ones((1, 3), bool), np.ones((1, 3)), ("0",)))
    assert lonely["auc-success"].value == 1.0
    assert lonely["auc-return"].reason == "the random policy was not recorded"
    one = by_name(arrays(np.ones((2, 1), bool), [[3.0], [0.0]], ("0", "random")))
    assert one["auc-return"].value == 1.0
    assert one["auc-return"].ci_low is None
    assert one["d50-return"].value is None
    for bad in (("1", "2"), ("0", "0"), ("0", "-1"), ("0", "late")):
        with pytest.raises(DatasetError, match="conditions must be delays"):
            MEASURE(arrays(np.ones((2, 3), bool), np.ones((2, 3)), bad))


def test_a_lead_that_resamples_lose_leaves_the_interval_open():
    returns = np.array([[0.0, 0.0, 5.0], [0.0, 0.0, 4.0], [1.0, 1.0, 1.0]])
    found = by_name(arrays(np.ones((3, 3), bool), returns, ("0", "1", "random")))
    assert found["auc-return"].value is not None
    assert found["auc-return"].ci_low is None


def test_the_order_of_conditions_does_not_matter():
    rng = np.random.default_rng(2)
    solved, returns = rng.random((6, 9)) < 0.5, rng.normal(size=(6, 9)) - np.arange(6)[:, None]
    names = np.array(["0", "1", "2", "4", "8", "random"])
    order = rng.permutation(6)
    plain, shuffled = (by_name(arrays(solved[o], returns[o], names[o])) for o in (np.arange(6), order))
    assert plain == shuffled


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.1, 100.0), st.floats(-50.0, 50.0))
def test_units_and_offsets_of_reward_do_not_matter(seed, scale, offset):
    rng = np.random.default_rng(seed)
    returns = rng.normal(size=(6, 8)) + np.array([9, 7, 5, 3, 1, 0])[:, None]
    solved = rng.random((6, 8)) < 0.5
    plain, scaled = by_name(arrays(solved, returns)), by_name(arrays(solved, scale * returns + offset))
    for name in ("d50-return", "auc-return"):
        assert scaled[name].value == pytest.approx(plain[name].value, rel=1e-6)
        assert scaled[name].ci_low == pytest.approx(plain[name].ci_low, rel=1e-6)
    doubled = by_name(arrays(np.tile(solved, 2), np.tile(returns, 2)))
    for name in ("d50-return", "auc-return", "success:2", "change-return:4"):
        assert doubled[name].value == pytest.approx(plain[name].value, rel=1e-9)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6))
def test_crossing_is_where_interpolation_first_reaches_the_level(seed):
    rng = np.random.default_rng(seed)
    values, level = rng.normal(size=(3, 5)), rng.normal(size=3)
    fine = np.linspace(0, 8, 80_001)
    for found, row, at in zip(crossing(DELAYS, values, level), values, level, strict=True):
        below = np.interp(fine, DELAYS, row) <= at
        expected = fine[below.argmax()] if below.any() else np.inf
        assert found == pytest.approx(expected, abs=2e-4)


def test_trapezoids_are_those_of_numpy():
    values = np.random.default_rng(3).normal(size=5)
    assert trapezoids(DELAYS) @ values == pytest.approx(np.trapezoid(values, DELAYS) / 8, rel=1e-12)
    assert trapezoids(np.array([0.0])).tolist() == [1.0]
