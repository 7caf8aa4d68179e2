"""Branches in forked processes: the same bits as replaying and stepping each, nothing of the parent's disturbed."""

from __future__ import annotations

import contextlib
import os
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import wmbench
from wmbench.errors import StateError
from wmbench.recording.branching import branch_true
from wmbench_envs import forks

FIELDS = ("observation", "reward", "terminated", "success", "valid")


class OneByOne:
    """The simulator without its way to branch all at once."""

    def __init__(self, env: Any) -> None:
        self.card, self.set_state, self.step = env.card, env.set_state, env.step


def equal(a: Any, b: Any) -> bool:
    return all(np.array_equal(getattr(a, f), getattr(b, f)) for f in FIELDS)


def branches(card: Any, episodes: int, every: int, steps: int) -> tuple[Any, np.ndarray, np.ndarray]:
    """States along episodes that press the hand towards the middle of the table, and two futures for each."""
    env, rng = gym.make(card.id).unwrapped, np.random.default_rng(0)
    low, high = card.action_bounds()
    states = []
    for seed in range(episodes):
        env.reset(seed=seed)
        for i in range(2 * every + 1):
            if i % every == 0:
                states.append(env.get_state())
            env.step(rng.uniform(low, high).astype(np.float32))
    order = rng.permutation(len(states))
    action = rng.uniform(1.2 * low, 1.2 * high, (len(states), 2, steps, len(low)))
    return env, np.stack(states)[order], action.astype(np.float32)


@pytest.mark.parametrize("name", ["MS-PickCube", "MS-CartpoleBalance"])
def test_forked_branches_equal_stepping(name: str) -> None:
    """With success that the environment alone knows, and by reward; with episodes that end, and the time limit."""
    card = wmbench.task_card(name)
    env, states, action = branches(card, episodes=2, every=3, steps=5)
    states[-1][1] = card.horizon - 2
    known = np.ones(action.shape[:3], bool)
    known[0, 0, 2:] = known[1, 1] = False
    action[0, 0, 2:] = np.nan  # nobody looks at these
    if name == "MS-CartpoleBalance":
        action[2, 0] = 1.0  # falls
    env.reset(seed=7)
    env.step(np.zeros(len(card.action), np.float32))
    before = env.get_state()
    together = branch_true(card, states, action, known, simulator=env)
    assert np.array_equal(env.get_state(), before)
    rows = np.repeat(states, 2, axis=0), np.concatenate(action), np.concatenate(known).sum(1)
    assert env.branch(*rows) is not None
    assert equal(together, branch_true(card, states, action, known, simulator=OneByOne(env)))
    assert together.valid[-1].sum(-1).tolist() == [2, 2]
    assert not together.valid[1, 1].any() and together.valid[0, 0].sum() == 2
    if name == "MS-CartpoleBalance":
        assert together.terminated.any()


@pytest.mark.parametrize("cores", [1, 3])
def test_branches_of_one_state_are_shared_out(cores: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the simulator stays there, so that a planner's next state is one step away."""
    card = wmbench.task_card("MS-PushCube")
    maker, states, action = branches(card, episodes=1, every=3, steps=2)
    env, state = gym.make(card.id).unwrapped, states[0]
    monkeypatch.setattr(forks.os, "sched_getaffinity", lambda _: set(range(cores)))
    action = np.concatenate([action] * 2, axis=1)[:1] * np.array([1, -1, 0.5, 0.2], np.float32)[None, :, None, None]
    found = branch_true(card, state[None], action, simulator=env)
    assert equal(found, branch_true(card, state[None], action, simulator=OneByOne(maker)))
    assert np.array_equal(env._backend.get_state(), state[4:])
    assert len(np.unique(found.observation[0, :, -1], axis=0)) == 4


def test_success_is_the_environments_own(monkeypatch: pytest.MonkeyPatch) -> None:
    card = wmbench.task_card("MS-PushCube")
    env, states, action = branches(card, episodes=1, every=1, steps=2)
    inner = env._backend._env
    monkeypatch.setattr(type(inner), "evaluate", lambda self: {"success": self._elapsed_steps % 2 == 0})
    found = branch_true(card, states, action, simulator=env)
    assert np.array_equal(found.success[:, 0], (states[:, 1:2] + [1, 2]) % 2 == 0)


def test_a_child_that_dies_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    card = wmbench.task_card("MS-PushCube")
    env, states, action = branches(card, episodes=1, every=2, steps=2)
    bad = states.copy()
    bad[1, 4] = 0.5
    rows = np.repeat(states, 2, axis=0), action.reshape(6, 2, -1), np.full(6, 2)
    assert env.branch(*rows) is not None
    assert env.branch(rows[0][:1], rows[1][:1], rows[2][:1]) is None  # a single one is stepped
    assert env.branch(np.repeat(bad, 2, axis=0), *rows[1:]) is None
    with pytest.raises(StateError, match="was not saved"):
        branch_true(card, bad, action, simulator=env)
    parent = os.getpid()
    monkeypatch.setattr(env._backend, "step", lambda action: os._exit(0) if os.getpid() != parent else None)
    assert env.branch(*rows) is None
    with contextlib.suppress(ChildProcessError):  # no children at all
        assert os.waitpid(-1, os.WNOHANG) == (0, 0)  # of the others, if there are any, none is left that has died
