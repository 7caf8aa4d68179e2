"""What the shell adds to a step of the raw simulator: checks, conversion and bookkeeping, in microseconds."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import wmbench

STEPS = 6000
MANISKILL_STEPS = 1200
TASKS = ["Gym-HalfCheetah", "Gym-Hopper", "Gym-InvertedPendulum", "DMC-CartpoleSwingup", "DMC-WalkerWalk"]
TASKS += ["MS-PickCube", "MS-TwoRobotPickCube", "MS-CartpoleBalance", "MS-AntWalk"]


def raw_simulator(task: wmbench.cards.TaskCard) -> tuple[Callable[[int], Any], Callable[[np.ndarray], bool]]:
    """Reset, and step with flattening to float32, as anyone would write it without this suite."""
    if task.suite == "gym-mujoco":
        env = gym.make(task.backend_id).unwrapped

        def step(action: np.ndarray) -> bool:
            observation, _, terminated, _, _ = env.step(action)
            observation.astype(np.float32)
            return terminated

        return lambda seed: env.reset(seed=seed), step
    if task.suite == "maniskill":
        return raw_maniskill(task)
    from dm_control import suite

    sim = suite.load(*task.backend_id.split("/"), task_kwargs={"random": 0})

    def step_dm(action: np.ndarray) -> bool:
        observation = sim.step(action).observation
        np.concatenate([np.ravel(v) for v in observation.values()], dtype=np.float32)
        return False

    def reset_dm(seed: int) -> None:
        sim.task._random = np.random.RandomState(seed)
        sim.reset()

    return reset_dm, step_dm


def raw_maniskill(task: wmbench.cards.TaskCard) -> tuple[Callable[[int], Any], Callable[[np.ndarray], bool]]:
    """ManiSkill without its wrappers; the same observation, reward and ending taken out of its tensors."""
    from wmbench_envs.maniskill_device import undrawn

    kwargs = {k: v for k, v in task.kwargs.items() if k not in ("agents", "ends_on_fail")}
    kwargs |= {"obs_mode": "state", "sim_backend": "physx_cpu", "render_backend": "none"}
    with undrawn():
        env = gym.make(task.backend_id, **kwargs).unwrapped
    names = [name for name, _ in task.kwargs.get("agents", ())]

    def step(action: np.ndarray) -> bool:
        given = dict(zip(names, np.split(action, len(names)), strict=True)) if names else action
        observation, reward, terminated, _, _ = env.step(given)
        observation[0].numpy().copy()
        float(reward)
        return bool(terminated)

    def reset(seed: int) -> None:
        with undrawn():
            env.reset(seed=seed, options={"reconfigure": True})

    return reset, step


def overhead(name: str) -> tuple[float, float, float]:
    """Nanoseconds of a raw step (median), and by how much ours takes longer, same states, step by step.

    The median of the pairs' differences, and the difference of the lower deciles, which other work on the
    machine hardly touches.
    """
    card = wmbench.task_card(name)
    env = gym.make(card.id)
    reset, step = raw_simulator(card)
    rng = np.random.default_rng(0)
    low, high = card.action_bounds()
    steps = MANISKILL_STEPS if card.suite == "maniskill" else STEPS
    actions = rng.uniform(low, high, (steps, len(low))).astype(np.float32)
    clock = time.perf_counter_ns
    raw, ours = np.empty(steps), np.empty(steps)
    seed, ended = 0, True
    for i, action in enumerate(actions):
        if ended:
            seed += 1
            reset(seed)
            env.reset(seed=seed)
        if i % 2:
            t0 = clock()
            step(action)
            t1 = clock()
            result = env.step(action)
            t2 = clock()
            raw[i], ours[i] = t1 - t0, t2 - t1
        else:
            t0 = clock()
            result = env.step(action)
            t1 = clock()
            step(action)
            t2 = clock()
            ours[i], raw[i] = t1 - t0, t2 - t1
        ended = result[2] or result[3]
    env.close()
    quiet = np.quantile(ours, 0.1) - np.quantile(raw, 0.1)
    return float(np.median(raw)), float(np.median(ours - raw)), float(quiet)


@pytest.mark.parametrize("name", TASKS)
def test_overhead_of_the_shell(name: str, benchmark: Any) -> None:
    raw, added, quiet = benchmark.pedantic(overhead, args=(name,), rounds=1)
    print(
        f"\n{name}: raw {raw / 1e3:.2f} us a step, wmbench {added / 1e3:+.2f} us "
        f"({1 + added / raw:.3f} of raw), at the lower deciles {quiet / 1e3:+.2f} us"
    )
