"""Branching 128 states four ways for ten steps: MuJoCo's threaded rollout against stepping one branch after another."""

from __future__ import annotations

import os
import time
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import wmbench
from wmbench.recording.branching import branch_true

N, BRANCHES, STEPS, ROUNDS = 128, 4, 10, 7
TASKS = ["Gym-HalfCheetah", "Gym-Hopper", "Gym-Walker2d", "DMC-WalkerWalk", "DMC-HopperHop", "DMC-CartpoleSwingup"]


class OneByOne:
    """The simulator without its way to branch all at once."""

    def __init__(self, env: Any) -> None:
        self.card, self.set_state, self.step = env.card, env.set_state, env.step


def seconds(name: str) -> np.ndarray:
    """(ROUNDS, 2) seconds of the loop and of the rollout, in turns, and in either order."""
    card = wmbench.task_card(name)
    env, rng = gym.make(card.id).unwrapped, np.random.default_rng(0)
    low, high = card.action_bounds()
    states = []
    for seed in range(N):
        env.reset(seed=seed)
        states.append(env.get_state())
    action = rng.uniform(low, high, (N, BRANCHES, STEPS, len(low))).astype(np.float32)
    ways = OneByOne(env), env
    taken = np.empty((ROUNDS, 2))
    for i in range(ROUNDS):
        for way in (0, 1) if i % 2 else (1, 0):
            began = time.perf_counter()
            branch_true(card, np.stack(states), action, simulator=ways[way])
            taken[i, way] = time.perf_counter() - began
    env.close()
    return taken


@pytest.mark.parametrize("name", TASKS)
def test_branching_at_once_against_one_by_one(name: str, benchmark: Any) -> None:
    taken = benchmark.pedantic(seconds, args=(name,), rounds=1)
    ratio = taken[:, 0] / taken[:, 1]
    slow, fast = (np.median(taken, axis=0) * 1e3).round()
    print(
        f"\n{name}: one by one {slow:.0f} ms, at once {fast:.0f} ms on {len(os.sched_getaffinity(0))} cores; "
        f"{np.median(ratio):.2f} times as fast (rounds: {np.sort(ratio).round(2)})"
    )
