"""The untrained policies: inside the box, uniform, row by row, and reproducible by key."""

import numpy as np
import pytest

from wmbench.cards import Dimension, SuccessRule, TaskCard
from wmbench.keys import fold_in, keys_from_seeds
from wmbench.protocols import Policy
from wmbench.trees import gather
from wmbench_baselines.simple import RandomConfig, RandomPolicy, ZeroConfig, ZeroPolicy

TASK = TaskCard(
    id="wmbench/Test-Box-v0",
    suite="test",
    backend_id="box",
    simulator="nowhere:Nothing",
    observation=(Dimension("x"),),
    action=(Dimension("a", low=-2.0, high=3.0), Dimension("b", low=0.25, high=0.5), Dimension("c", low=-1, high=1)),
    control_hz=10,
    horizon=5,
    terminates=False,
    success=SuccessRule("reward", 1.0, source="test"),
    action_convention="test",
)


def roll(policy, keys, steps):
    """Actions (T, B, A) of a policy that sees zeros."""
    state, actions = policy.initial(len(keys)), []
    for t in range(steps):
        action, state = policy.act(np.zeros((len(keys), 1), np.float32), state, keys=fold_in(keys, t))
        actions.append(action)
    return np.stack(actions)


@pytest.mark.parametrize("smoothness", [0.0, 0.9])
def test_random_is_uniform_in_the_box(smoothness):
    policy = RandomPolicy(RandomConfig(smoothness), TASK)
    assert isinstance(policy, Policy)
    low, high = TASK.action_bounds()
    actions = roll(policy, keys_from_seeds(range(4000)), 3)
    assert actions.dtype == np.float32
    assert (actions >= low).all() and (actions <= high).all()
    for last in actions:  # one time, many rows: quantiles of the uniform distribution, to five standard errors
        unit = (last - low) / (high - low)
        for q in (0.1, 0.5, 0.9):
            assert np.allclose((unit < q).mean(0), q, atol=5 * np.sqrt(q * (1 - q) / 4000))
        assert np.abs(np.corrcoef(unit.T) - np.eye(3)).max() < 5 / np.sqrt(4000)


def test_smoothness_is_the_correlation_in_time():
    keys = keys_from_seeds(range(4000))
    for smoothness, expected in ((0.0, 0.0), (0.9, 6 / np.pi * np.arcsin(0.45))):  # Spearman's rho of a Gaussian pair
        a = roll(RandomPolicy(RandomConfig(smoothness), TASK), keys, 3)
        assert np.corrcoef(a[1, :, 0], a[2, :, 0])[0, 1] == pytest.approx(expected, abs=0.05)
        assert np.corrcoef(a[0, :, 0], a[1, :, 0])[0, 1] == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize("smoothness", [0.0, 0.7])
def test_a_row_does_not_depend_on_the_batch(smoothness):
    policy = RandomPolicy(RandomConfig(smoothness), TASK)
    keys = keys_from_seeds(range(70))
    whole = roll(policy, keys, 4)
    for size in (*range(1, 20), 33, 64, 69):
        assert np.array_equal(roll(policy, keys[:size], 4), whole[:, :size])
    rows = np.array([50, 3, 3, 17])
    assert np.array_equal(roll(policy, keys[rows], 4), whole[:, rows])


def test_state_can_be_gathered():
    policy = RandomPolicy(RandomConfig(0.7), TASK)
    keys = keys_from_seeds(range(5))
    state = policy.initial(5)
    _, state = policy.act(np.zeros((5, 1), np.float32), state, keys=keys)
    whole, _ = policy.act(np.zeros((5, 1), np.float32), state, keys=keys + 1)
    part, _ = policy.act(np.zeros((2, 1), np.float32), gather(state, [4, 1]), keys=keys[[4, 1]] + 1)
    assert np.array_equal(part, whole[[4, 1]])


@pytest.mark.parametrize("smoothness", [-0.1, 1.0, float("nan")])
def test_impossible_smoothness_is_refused(smoothness):
    with pytest.raises(ValueError, match="smoothness"):
        RandomConfig(smoothness)


def test_zero_is_zero_or_the_nearest_to_it():
    policy = ZeroPolicy(ZeroConfig(), TASK)
    assert isinstance(policy, Policy)
    action, state = policy.act(np.ones((4, 1), np.float32), policy.initial(4), keys=np.arange(4))
    assert state is None and action.dtype == np.float32
    assert np.array_equal(action, np.tile(np.float32([0, 0.25, 0]), (4, 1)))
    action[:] = 7
    assert policy.action[0] == 0  # a fresh array at every call


@pytest.mark.parametrize("cls", [RandomPolicy, ZeroPolicy])
def test_for_task(cls):
    assert cls.for_task(TASK, device="cpu").task is TASK
