"""Subgoals: a line on which everything about reaching can be counted by hand, and the trivial proposals."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wmbench.errors import DatasetError
from wmbench.measures.subgoals import MEASURE
from wmbench.statistics.clustered import proportion_interval

N, B, H, K = 6, 4, 5, 3
SPEED = np.array([0.0, 1.0, 2.0, -1.0])


def line(goal, chosen, *, episode=None, valid=None, kind="linear", std=1.0, tolerance=0.5, reward=None):
    """N starts at 0; branch b moves by SPEED[b] per step and earns that. One proposer."""
    place = SPEED[:, None] * np.arange(1, H + 1)  # (B, H)
    return {
        "subject": np.array(["m"]),
        "role": np.array(["model"]),
        "subgoal": np.broadcast_to(np.asarray(goal, dtype=np.float32), (N,)).reshape(1, N, 1).copy(),
        "chosen": np.broadcast_to(chosen, (N,)).reshape(1, N),
        "start": np.zeros((N, 1), np.float32),
        "truth": np.tile(place, (N, 1, 1))[..., None].astype(np.float32),
        "reward": np.tile(SPEED[:, None], (N, 1, H)) if reward is None else reward,
        "valid": np.ones((N, B, H), bool) if valid is None else valid,
        "steps": np.array(K),
        "tolerance": np.array(tolerance),
        "episode": np.arange(N) if episode is None else np.asarray(episode),
        "dimension": np.array(["x"]),
        "kind": np.array([kind]),
        "unit": np.array(["m"]),
        "observation_std": np.array([std]),
        "observation_low": np.array([-10.0]),
        "observation_high": np.array([10.0]),
    }


def by_name(data, subject="m"):
    return {r.name: r for r in MEASURE(data) if r.subject == subject}


def test_what_the_simulator_proposes_is_reached_and_worth_everything():
    found = by_name(line(6.0, 2))  # the fastest, after three steps
    assert found["reach-rate"].value == found["oracle-reach-rate"].value == found["progress"].value == 1.0
    assert found["missed-rate"].value == found["distance"].value == 0.0
    assert found["reach-rate"].details["mean_steps"] == 3.0
    assert found["progress"].details["best"] == pytest.approx(3 * (2.0 - 0.5))
    assert found["progress"].ci_high <= 1.0


def test_a_bad_subgoal_and_bad_actions_are_told_apart():
    nowhere = by_name(line(100.0, 2))  # nobody gets there
    assert [nowhere[k].value for k in ("reach-rate", "oracle-reach-rate", "missed-rate")] == [0.0, 0.0, 0.0]
    astray = by_name(line(6.0, 3))  # another sequence gets there
    assert [astray[k].value for k in ("reach-rate", "oracle-reach-rate", "missed-rate")] == [0.0, 1.0, 1.0]
    assert astray["distance"].value == 2.0  # cut: it is at least 7 away
    assert astray["progress"].value == pytest.approx((-1.0 - 0.5) / (2.0 - 0.5))
    assert nowhere["progress"].value == 0.0  # a good choice is worth no more than a random one without its subgoal
    assert nowhere["reach-rate"].details["mean_steps"] is None


def test_staying_is_no_subgoal_whatever_is_chosen():
    slow = line(0.0, 2)
    slow["truth"] = slow["truth"] / 100  # nothing leaves the tolerance
    found = by_name(slow)
    assert found["idle-rate"].value == 1.0
    assert [found[k].value for k in ("reach-rate", "oracle-reach-rate", "missed-rate")] == [0.0, 1.0, 1.0]
    assert found["progress"].value == 0.0  # as much as a random choice, though the best was chosen
    slow["subgoal"][:] = 0.02  # on the way: passed before step k
    assert by_name(slow)["reach-rate"].value == 0.0
    slow["subgoal"][:] = 0.06
    assert (by_name(slow)["reach-rate"].value, by_name(slow)["idle-rate"].value) == (1.0, 1.0)
    assert by_name(slow)["progress"].value == 1.0
    still = by_name(line(0.0, 0))  # where nothing else happens it is what the simulator itself proposes
    assert still["reach-rate"].value == 1.0
    assert still["progress"].value == pytest.approx((0.0 - 0.5) / (2.0 - 0.5), rel=1e-12)


def test_late_is_reached_and_early_or_after_the_end_is_not():
    assert by_name(line(10.0, 2))["reach-rate"].value == 1.0  # at the last step
    assert by_name(line(12.0, 2))["reach-rate"].value == 0.0
    assert by_name(line(4.0, 2))["reach-rate"].value == 0.0  # gone through at step 2
    valid = np.ones((N, B, H), bool)
    valid[:, 2, 3:] = False
    ended = by_name(line(10.0, 2, valid=valid))
    assert ended["oracle-reach-rate"].value == 0.0
    assert by_name(line(6.0, 2, valid=valid))["progress"].value == 1.0
    valid[:, 2, 1:] = False  # it also earns no more
    assert by_name(line(3.0, 1, valid=valid))["progress"].value == 1.0
    assert by_name(line(2.0, 2, valid=valid))["reach-rate"].value == 1.0  # where its episode ended


def test_the_tolerance_and_the_curve():
    found = by_name(line(5.3, 1, tolerance=0.25))
    assert found["reach-rate"].value == 0.0
    assert found["reach-rate"].details["curve"] == {
        "tolerance": [0.1, 0.25, 0.5, 1.0],
        "own": [0.0, 0.0, 1.0, 1.0],
        "any": [0.0, 0.0, 1.0, 1.0],
    }
    assert found["distance"].value == pytest.approx(0.3, rel=1e-6)
    assert by_name(line(5.3, 1, tolerance=0.25, std=2.0))["reach-rate"].value == 1.0
    turned = by_name(line(3.0 - 2 * np.pi, 1, kind="angle"))
    assert turned["distance"].value == pytest.approx(0.0, abs=1e-6)


def test_what_is_not_finite_is_not_reached_and_counted():
    for bad in (np.nan, np.inf):
        goal = np.full(N, 6.0)
        goal[:2] = bad
        found = by_name(line(goal, 2))
        assert (found["reach-rate"].value, found["reach-rate"].n_invalid) == (4 / 6, 2)
        assert found["oracle-reach-rate"].value == pytest.approx(4 / 6)
        assert found["progress"].value == pytest.approx((4 * 1.5 - 2 * 1.5) / (6 * 1.5))  # the worst choice there is
        assert found["distance"].value == pytest.approx(2 * 2.0 / 6)


def test_intervals_are_over_episodes():
    goal = np.array([6.0, 6.0, 6.0, 6.0, 50.0, 50.0])
    episode = [0, 0, 1, 1, 2, 2]
    found = by_name(line(goal, 2, episode=episode))
    expected = proportion_interval(np.array([2, 2, 0]), np.array([2, 2, 2]))
    assert (found["reach-rate"].ci_low, found["reach-rate"].ci_high) == expected
    assert found["reach-rate"].details["n_episodes"] == 3
    assert by_name(line(goal, 2, episode=np.zeros(N)))["reach-rate"].ci_low is None


def test_numbers_that_do_not_exist():
    same = by_name(line(6.0, 2, reward=np.ones((N, B, H))))
    assert same["progress"].reason == "all candidates earn the same"
    constant = line(6.0, 2)
    constant["observation_std"] = np.zeros(1)
    assert {r.reason for r in MEASURE(constant)} == {"every dimension is constant in the train split"}
    empty = line(6.0, 2) | {"episode": np.zeros(0)}
    with pytest.raises(DatasetError, match="no starts"):
        MEASURE(empty)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6))
def test_neither_staying_nor_failing_wins(seed):
    """However well the actions are chosen: staying is worth a random choice at most, failing least of all."""
    rng = np.random.default_rng(seed)
    data = line(rng.normal(0, 3, N), rng.integers(B, size=N), tolerance=rng.uniform(0.1, 20))
    data["truth"] = rng.normal(size=(N, B, H, 1))
    data["reward"] = rng.normal(size=(N, B, H))
    any_goal = by_name(data)
    staying = by_name(data | {"subgoal": np.zeros((1, N, 1))})
    broken = by_name(data | {"subgoal": np.full((1, N, 1), np.nan)})
    assert (staying["reach-rate"].value, broken["reach-rate"].value) == (0.0, 0.0)
    assert staying["progress"].value <= 1e-12
    assert broken["progress"].value <= min(any_goal["progress"].value, staying["progress"].value) + 1e-12
    best = data["reward"][:, :, :K].sum(2).argmax(1)
    ideal = {"chosen": best[None], "subgoal": data["truth"][np.arange(N), best, K - 1][None]}
    oracle = by_name(data | ideal)
    assert oracle["reach-rate"].value == 1.0
    assert oracle["progress"].value == pytest.approx(1.0)
    assert next(iter(oracle)) == "progress"


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.01, 100.0), st.floats(-5.0, 5.0))
def test_units_and_order_do_not_matter(seed, scale, offset):
    rng = np.random.default_rng(seed)
    data = line(rng.normal(0, 3, N), rng.integers(B, size=N), episode=rng.integers(3, size=N), tolerance=0.7)
    data["reward"] = rng.normal(size=(N, B, H))
    plain = by_name(data)
    other = {**data, "reward": scale * data["reward"] + offset, "observation_std": data["observation_std"] * scale}
    other |= {name: (data[name] * scale).astype(np.float64) for name in ("truth", "subgoal", "start")}
    other |= {name: data[name] * scale for name in ("observation_low", "observation_high")}
    order = rng.permutation(N)
    shuffled = {k: v[order] if k in ("start", "truth", "reward", "valid", "episode") else v for k, v in data.items()}
    shuffled |= {k: data[k][:, order] for k in ("subgoal", "chosen")}
    for changed in (other, shuffled):
        found = by_name(changed)
        for name in ("reach-rate", "oracle-reach-rate", "missed-rate", "progress", "distance"):
            assert found[name].value == pytest.approx(plain[name].value, rel=1e-6, abs=1e-9)
