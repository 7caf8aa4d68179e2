"""What another world costs: a step of a perturbed environment beside one of the nominal, the same actions, in turns."""

from __future__ import annotations

import time
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import wmbench

STEPS = 2000
WORLDS = {"physics": {"mass": 1.2, "gain": 0.9}, "delay": {"delay": 3}, "noise": {"noise": 0.1}}


def costs(name: str, world: Any) -> tuple[float, float]:
    """Microseconds of a nominal step (median), and by how much one of the world takes longer (median of pairs)."""
    card = wmbench.task_card(name)
    envs = gym.make(card.id), gym.make(card.id, world=world)
    rng = np.random.default_rng(0)
    low, high = card.action_bounds()
    actions = rng.uniform(low, high, (STEPS, len(low))).astype(np.float32)
    seconds = np.empty((STEPS, 2))
    ended = [True, True]
    for i, action in enumerate(actions):
        for k in (i % 2, 1 - i % 2):
            if ended[k]:
                envs[k].reset(seed=i)
            start = time.perf_counter_ns()
            _, _, terminated, truncated, _ = envs[k].step(action)
            seconds[i, k] = (time.perf_counter_ns() - start) / 1e3
            ended[k] = terminated or truncated
    return float(np.median(seconds[:, 0])), float(np.median(seconds[:, 1] - seconds[:, 0]))


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("name", ["DMC-CartpoleSwingup", "Gym-HalfCheetah"])
def test_step_in_another_world(name: str, world: str, benchmark: Any) -> None:
    nominal, added = benchmark.pedantic(costs, args=(name, WORLDS[world]), rounds=1)
    print(f"\n{name}, {world}: nominal {nominal:.1f} us a step, {added:+.2f} us ({1 + added / nominal:.3f} of it)")


def test_reset_in_another_world(benchmark: Any) -> None:
    """Every reset puts another world into the model."""
    card = wmbench.task_card("Gym-HalfCheetah")
    envs = gym.make(card.id), gym.make(card.id, world="far")
    seconds: np.ndarray = np.empty((300, 2))

    def resets() -> None:
        for i in range(len(seconds)):
            for k in (i % 2, 1 - i % 2):
                start = time.perf_counter_ns()
                envs[k].reset(seed=i)
                seconds[i, k] = (time.perf_counter_ns() - start) / 1e3

    benchmark.pedantic(resets, rounds=1)
    nominal, far = np.median(seconds, axis=0)
    print(f"\nGym-HalfCheetah: nominal reset {nominal:.0f} us, in a far world {far:.0f} us")
