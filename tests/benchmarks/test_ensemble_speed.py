"""The batched ensemble twin on HalfCheetah against bare matrix products, the true simulator and mujoco.rollout."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
import pytest
import torch
from mujoco import rollout

import wmbench
from wmbench import checkpoints
from wmbench_baselines.ensemble import PAPER, Ensemble

TASK = "wmbench/Gym-HalfCheetah-v0"
ROWS = 4096
STEPS = 4
"""Batched steps in a row, so that each kind of work warms its own caches."""
ROUNDS = 20


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ensemble of the paper's size with initial weights; speed does not depend on them."""
    model = Ensemble(PAPER, wmbench.task_card(TASK))
    model.target_scale.fill_(0.05)
    bank = {"observation": 0.1 * torch.randn(256, 17)}
    return checkpoints.save(model, tmp_path_factory.mktemp("ensemble"), kind="world_model", name="ensemble", bank=bank)


def bare_products(member: torch.Tensor) -> Callable[[], Any]:
    """The matrix products of one step and nothing else: rows already grouped by member, no bias, no activation."""
    sizes = (24, *PAPER.hidden, 36)
    weights = [[torch.randn(i, o) / i**0.5 for i, o in pairwise(sizes)] for _ in range(PAPER.members)]
    groups = torch.randn(len(member), 24).split(member.bincount(minlength=PAPER.members).tolist())

    def products() -> None:
        for _ in range(STEPS):
            for x, layers in zip(groups, weights, strict=True):
                for weight in layers:
                    x = x @ weight

    return products


def twin_steps(checkpoint: Path) -> tuple[Callable[[], Any], torch.Tensor]:
    """Steps of the batched twin with random actions, and the members of its rows."""
    env: Any = gym.make_vec(TASK, num_envs=ROWS, simulator=str(checkpoint), device="cpu", array="torch")
    env.reset(seed=0)
    actions = [torch.rand(ROWS, 6) * 2 - 1 for _ in range(STEPS)]

    def steps() -> None:
        for action in actions:
            env.step(action)

    return steps, env.unwrapped.model_state["member"]


def true_steps(count: int = 100) -> Callable[[], Any]:
    """Steps of one true environment."""
    env = gym.make(TASK)
    env.reset(seed=0)
    actions = np.random.default_rng(0).uniform(-1, 1, (count, 6)).astype(np.float32)

    def steps() -> None:
        env.reset(seed=0)
        for action in actions:
            env.step(action)

    return steps


def threaded_rollout(rows: int = 64, length: int = 20) -> Callable[[], Any]:
    """MuJoCo's own threaded open-loop rollout of the same simulator: ``rows * length`` control steps."""
    env = gym.make("HalfCheetah-v5").unwrapped
    env.reset(seed=0)
    model, skip = env.model, env.frame_skip
    threads = len(os.sched_getaffinity(0))
    data = [mujoco.MjData(model) for _ in range(threads)]
    size = mujoco.mj_stateSize(model, mujoco.mjtState.mjSTATE_FULLPHYSICS)
    state = np.zeros(size)
    mujoco.mj_getState(model, env.data, state, mujoco.mjtState.mjSTATE_FULLPHYSICS)
    states = np.tile(state, (rows, 1))
    control = np.repeat(np.random.default_rng(0).uniform(-1, 1, (rows, length, 6)), skip, axis=1)
    pool = rollout.Rollout(nthread=threads)
    return lambda: pool.rollout(model, data, states, control)


def clock(function: Callable[[], Any]) -> float:
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def compare(checkpoint: Path) -> dict[str, np.ndarray]:
    """Control steps per second, round by round, all measured in turn."""
    steps, member = twin_steps(checkpoint)
    work = {
        "bare products": (bare_products(member), ROWS * STEPS),
        "twin": (steps, ROWS * STEPS),
        "true simulator, one process": (true_steps(), 100),
        "mujoco.rollout, threaded": (threaded_rollout(), 64 * 20),
    }
    for function, _ in work.values():
        function()
    rates: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(ROUNDS):
        for name, (function, count) in work.items():
            rates[name].append(count / clock(function))
    return {name: np.array(r) for name, r in rates.items()}


def test_ensemble_twin_speed(checkpoint: Path, benchmark: Any) -> None:
    rates = benchmark.pedantic(compare, args=(checkpoint,), rounds=1)
    twin = rates.pop("twin")
    print(f"\n{ROWS} rows, 7 x 4 x 200, {torch.get_num_threads()} threads: twin {np.median(twin) / 1e3:.0f}k steps/s")
    for name, rate in rates.items():
        ratio = twin / rate
        low, mid, high = np.quantile(ratio, [0.25, 0.5, 0.75])
        print(f"  {mid:6.2f} times {name} ({np.median(rate) / 1e3:.0f}k steps/s; quartiles {low:.2f} to {high:.2f})")
