"""ManiSkill: frames by preset, what a drawn scene costs, and branches in forked processes against replaying each."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import wmbench
from wmbench.recording.branching import branch_true

TASKS = ["MS-PickCube", "MS-AntWalk"]
CORES = len(os.sched_getaffinity(0))


@pytest.fixture
def device() -> None:
    """Skips where SAPIEN cannot draw."""
    from wmbench_envs.maniskill_device import INSTALL, has_renderer

    if not has_renderer():
        pytest.skip(INSTALL)


def timed(do: Callable[[], Any]) -> float:
    began = time.perf_counter()
    do()
    return time.perf_counter() - began


def worked(do: Callable[[], Any]) -> tuple[float, float]:
    """Seconds, and seconds of processors, those of children included."""
    before = sum(os.times()[:4])
    return timed(do), sum(os.times()[:4]) - before


@pytest.mark.usefixtures("device")
@pytest.mark.parametrize("name", TASKS)
def test_frames_and_scenes(name: str, benchmark: Any) -> None:
    """64x64; all kinds of environment in turns: state alone, and pictures by preset."""
    made = {
        "state": gym.make(f"wmbench/{name}-v0").unwrapped,
        "fast": gym.make(f"wmbench/{name}-v0", observation="rgb").unwrapped,
        "full": gym.make(f"wmbench/{name}-v0", observation="rgb", render_preset="full").unwrapped,
        "all four, fast": gym.make(f"wmbench/{name}-v0", observation="state+rgb+depth+segmentation").unwrapped,
    }
    action = np.zeros(made["state"].action_space.shape, np.float32)

    def run() -> tuple[np.ndarray, np.ndarray]:
        for env in made.values():
            env.reset(seed=0)
        resets = np.array([[timed(lambda e=env, s=s: e.reset(seed=s)) for env in made.values()] for s in range(5)])
        steps = np.array([[timed(lambda e=env: e.step(action)) for env in made.values()] for _ in range(40)])
        return np.median(resets, axis=0) * 1e3, np.median(steps, axis=0) * 1e3

    resets, steps = benchmark.pedantic(run, rounds=1)
    for kind, reset, step in zip(made, resets, steps, strict=True):
        drawn = "" if kind == "state" else f", {1e3 / (step - steps[0]):.0f} frames/s ({1e3 / step:.0f} steps/s)"
        print(f"\n{name}, {kind}: reset {reset:.1f} ms, step {step:.2f} ms{drawn} on {CORES} cores", end="")
    for env in made.values():
        env.close()


class OneByOne:
    """The simulator without its way to branch all at once."""

    def __init__(self, env: Any) -> None:
        self.card, self.set_state, self.step = env.card, env.set_state, env.step


@pytest.mark.parametrize("name", TASKS)
def test_branches(name: str, benchmark: Any) -> None:
    """Eight states of two episodes of up to 200 steps, four branches of ten steps each."""
    card = wmbench.task_card(name)
    env, rng, states = gym.make(card.id).unwrapped, np.random.default_rng(0), []
    for seed in range(2):
        env.reset(seed=seed)
        stops = set(rng.choice(min(card.horizon, 200) - 10, 4, replace=False).tolist())
        for i in range(max(stops) + 1):
            if i in stops:
                states.append(env.get_state())
            env.step(rng.uniform(-1, 1, len(card.action)).astype(np.float32))
    action = rng.uniform(-1, 1, (8, 4, 10, len(card.action))).astype(np.float32)
    given = card, np.stack(states), action

    def run() -> np.ndarray:
        ways = OneByOne(env), env
        order = ((0, 1), (1, 0), (0, 1))
        taken = np.empty((3, 2, 2))
        for i, turn in enumerate(order):
            for way in turn:
                taken[i, way] = worked(lambda w=way: branch_true(*given, simulator=ways[w]))
        return taken

    taken = benchmark.pedantic(run, rounds=1)
    slow, fast = np.median(taken, axis=0)
    ratio, work = np.median(taken[:, 0] / taken[:, 1], axis=0)
    print(
        f"\n{name}: each replayed {slow[0]:.2f} s, forked {fast[0]:.2f} s on {CORES} cores, {ratio:.1f} times as fast; "
        f"processor time {slow[1]:.2f} s and {fast[1]:.2f} s, {work:.1f} times less"
    )
    env.close()
