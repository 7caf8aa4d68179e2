"""Branching many states at once: the same bits as stepping them one by one, or a plain None."""

import gymnasium as gym
import numpy as np
import pytest

import wmbench
from wmbench.errors import InvalidActionError, LifecycleError, StateError
from wmbench.recording.branching import branch_true
from wmbench_envs import mujoco_branch
from wmbench_envs.true_branch import HEADER
from wmbench_envs.true_env import TrueEnv

ONE_BY_ONE = {
    "Gym-Ant": "contact forces of the last sub-step",
    "Gym-Humanoid": "inertias and forces of the last sub-step",
    "Gym-Reacher": "body positions of the last sub-step",
    "Gym-Pusher": "body positions of the last sub-step",
    "Gym-InvertedDoublePendulum": "constraint forces of the last sub-step",
    "Gym-InvertedPendulum": "exact, but slower",
    "DMC-ReacherEasy": "a goal in the model",
    "DMC-ReacherHard": "a goal in the model",
}
"""Tasks whose branches are stepped in turn, and what keeps them from being rolled out by MuJoCo."""
CARDS = [pytest.param(card, id=card.name) for card in wmbench.task_cards().values() if card.physics == "mujoco-cpu"]
FIELDS = ("observation", "reward", "terminated", "success", "valid")


class OneByOne:
    """A true simulator as the protocol has it: without a way to branch all at once."""

    def __init__(self, env):
        self.card, self.set_state, self.step = env.card, env.set_state, env.step


def branches(card, n=6, b=3, k=9, seed=0):
    """States from the beginnings and middles of episodes, and actions that push for some steps, a few too far."""
    env, rng = gym.make(card.id).unwrapped, np.random.default_rng(seed)
    low, high = card.action_bounds()
    states = []
    for i in range(n):
        env.reset(seed=i)
        for _ in range(4 * i):
            if env.step(rng.uniform(low, high).astype(np.float32))[2]:
                env.reset(seed=i + 100)
        states.append(env.get_state())
    states[-1][1] = card.horizon - k // 2  # the time limit cuts these short
    action = np.repeat(rng.uniform(1.2 * low, 1.2 * high, (n, b, k // 3, len(low))), 3, axis=2)
    return env, np.stack(states), action.astype(np.float32)


def equal(a, b):
    return all(np.array_equal(getattr(a, f), getattr(b, f)) for f in FIELDS)


@pytest.mark.parametrize("card", CARDS)
def test_all_at_once_equals_one_by_one(card):
    env, states, action = branches(card)
    known = np.ones(action.shape[:3], bool)
    known[0, 0, 4:] = known[1, 1] = False
    action[0, 0, 4:] = np.nan  # nobody looks at these
    together = branch_true(card, states, action, known, simulator=env)
    in_turn = branch_true(card, states, action, known, simulator=OneByOne(env))
    assert equal(together, in_turn)
    assert together.observation.dtype == np.float32 and together.valid.sum() > 40
    assert (together.valid[-1].sum(-1) <= 4).all()
    rows = np.repeat(states, 3, axis=0), action.reshape(18, 9, -1), known.reshape(18, 9).sum(1)
    assert (env.branch(*rows) is None) == (card.name in ONE_BY_ONE)


@pytest.mark.parametrize("name", ["Gym-Hopper", "DMC-FingerSpin"])
def test_contacts_endings_and_portions(name, monkeypatch):
    """Hundreds of branches from falling and touching bodies, a few rows at a time, in either number of threads."""
    card = wmbench.task_card(name)
    env, states, action = branches(card, n=40, b=4, k=30, seed=1)
    in_turn = branch_true(card, states, action, simulator=OneByOne(env))
    assert in_turn.terminated.any() == (name == "Gym-Hopper")
    assert equal(branch_true(card, states, action, simulator=env), in_turn)
    monkeypatch.setattr(mujoco_branch, "MOST_STATES", 1000)
    monkeypatch.setattr(mujoco_branch.os, "sched_getaffinity", lambda _: {0})
    assert equal(branch_true(card, states, action, simulator=env), in_turn)
    monkeypatch.setattr(mujoco_branch.os, "sched_getaffinity", lambda _: set(range(7)))
    assert equal(branch_true(card, states, action, simulator=env), in_turn)


@pytest.mark.parametrize("name", ["Gym-HalfCheetah", "DMC-WalkerWalk"])
def test_the_episode_in_hand_goes_on_undisturbed(name):
    card = wmbench.task_card(name)
    env, states, action = branches(card)
    env.reset(seed=5)
    env.step(action[0, 0, 0])
    state, twin = env.get_state(), gym.make(card.id).unwrapped
    twin.set_state(state)
    assert env.branch(states, action[:, 0], np.full(6, 9)) is not None
    assert np.array_equal(env.get_state(), state)
    for a, b in zip(env.step(action[1, 1, 1])[:4], twin.step(action[1, 1, 1])[:4], strict=True):
        assert np.array_equal(a, b)
    fresh = gym.make(card.id).unwrapped
    assert equal(branch_true(card, states, action, simulator=fresh), branch_true(card, states, action, simulator=env))
    with pytest.raises(LifecycleError):
        fresh.step(action[0, 0, 0])  # branching does not begin an episode


def test_returns_are_counted_from_the_state_on():
    card = wmbench.task_card("Gym-HalfCheetah")
    env, states, action = branches(card)
    states[:, 1], states[:, 2] = card.horizon - 2, card.success.threshold + np.array([-99, -50, -3, 3, 50, 99])
    found = branch_true(card, states, action, simulator=env)
    assert found.valid.sum(-1).tolist() == [[2] * 3] * 6
    assert found.success[:, :, 1].all(1).tolist() == [False] * 3 + [True] * 3
    assert not found.success[:, :, 0].any()
    assert equal(found, branch_true(card, states, action, simulator=OneByOne(env)))


def test_what_has_to_be_looked_at_one_by_one():
    card = wmbench.task_card("Gym-Hopper")
    env, states, action = branches(card)
    steps = np.full(6, 9)
    assert env.branch(states[:0], action[:0, 0], steps[:0]) is None
    assert env.branch(states, action[:, 0, :0], steps) is None
    ended, nan, wild, foreign = states.copy(), action.copy(), states.copy(), states.copy()
    ended[2, 3] = 1.0
    assert env.branch(ended, action[:, 0], steps) is None
    with pytest.raises(LifecycleError, match="has ended"):
        branch_true(card, ended, action, simulator=env)
    nan[3, 0, 1] = np.nan
    assert env.branch(states, nan[:, 0], steps) is None
    with pytest.raises(InvalidActionError, match="NaN"):
        branch_true(card, states, nan, simulator=env)
    wild[1, HEADER + 7 :] = 1e9  # MuJoCo resets a simulation whose numbers run away
    assert env.branch(wild[:, :], action[:, 0], steps) is None
    foreign[4, 0] += 1
    with pytest.raises(StateError, match="another task"):
        env.branch(foreign, action[:, 0], steps)
    env.close()
    with pytest.raises(LifecycleError, match="closed"):
        env.branch(states, action[:, 0], steps)


def test_a_task_that_cuts_an_episode_off_is_stepped(monkeypatch):
    card = wmbench.task_card("DMC-WalkerWalk")
    env, states, action = branches(card)
    monkeypatch.setattr(env._backend._task, "get_termination", lambda physics: 1.0)
    assert env.branch(states, action[:, 0], np.full(6, 9)) is None
    found = branch_true(card, states, action, simulator=env)
    assert found.valid.sum() == 18 and not found.terminated.any()


def test_success_that_only_the_environment_knows_is_stepped():
    card = wmbench.task_card("Gym-Hopper")
    own = wmbench.cards.SuccessRule("env", source="a test")
    env = TrueEnv(card.__class__.from_json(card.to_json() | {"success": own.__dict__}))
    env.reset(seed=0)
    assert env.branch(env.get_state()[None], np.zeros((1, 2, 3), np.float32), np.array([2])) is None
