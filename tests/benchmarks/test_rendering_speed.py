"""Frames per second of pictures as observations, by task and preset, beside the simulator without them.

``pytest tests/benchmarks/test_rendering_speed.py --benchmark-only -s``; the shipped table is in ``docs/pixels.md``.
"""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import wmbench
from wmbench.cards import TaskCard
from wmbench.errors import RenderError

SIZE = 64
FRAMES = {"state": 50, "fast": 50, "full": 2}
ROUNDS = 6
CARDS = [card for card in wmbench.task_cards().values() if card.suite in ("gym-mujoco", "dm-control")]


def stepper(card: TaskCard, kind: str) -> Any:
    """An environment that is stepped with random actions, and begins anew when an episode has ended."""
    options = {} if kind == "state" else {"observation": "rgb", "image_size": SIZE, "render_preset": kind}
    env = gym.make(card.id, **options).unwrapped
    env.reset(seed=0)
    low, high = card.action_bounds()
    actions = np.random.default_rng(0).uniform(low, high, (64, len(low))).astype(np.float32)

    def run(frames: int) -> np.ndarray:
        """Seconds of so many steps, resets left out: on the wall, and of the processor in all threads."""
        seconds = np.zeros(2)
        for i in range(frames):
            start = np.array([time.perf_counter(), time.process_time()])
            _, _, terminated, truncated, _ = env.step(actions[i % 64])
            seconds += np.array([time.perf_counter(), time.process_time()]) - start
            if terminated or truncated:
                env.reset(seed=i)
        return seconds

    return env, run


def machine() -> str:
    """What the numbers were measured on."""
    model, facts = platform.processor(), Path("/proc/cpuinfo")
    if facts.exists():
        lines = [line for line in facts.read_text().splitlines() if line.startswith("model name")]
        model = lines[0].split(":")[1].strip() if lines else model
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    threads = os.environ.get("LP_NUM_THREADS", "unset")
    return f"{model}, {cores} cores, load {load:.1f} at the start, LP_NUM_THREADS={threads}"


def test_frames_per_second(benchmark: Any) -> None:
    """Interleaved rounds of the three kinds; the best round of each counts.

    On a machine that does other things as well the processor's own time says more: the fifth column.
    """
    rows = [f"{SIZE} x {SIZE} rgb, single environment; {machine()}"]
    rows += [
        "",
        "| Task | steps/s without | fast, frames/s | full, frames/s | fast, ms of processor | full, ms of processor |",
    ]
    rows += ["| --- | ---: | ---: | ---: | ---: | ---: |"]
    rates = {}
    for card in CARDS:
        envs = {kind: stepper(card, kind) for kind in FRAMES}
        best = {kind: np.full(2, np.inf) for kind in FRAMES}  # seconds a frame: wall, processor
        try:
            for _, run in envs.values():
                run(3)
        except RenderError as error:
            pytest.skip(str(error))
        for _ in range(ROUNDS):
            for kind, (_, run) in envs.items():
                best[kind] = np.minimum(best[kind], run(FRAMES[kind]) / FRAMES[kind])
        for env, _ in envs.values():
            env.close()
        rates[card.name] = {kind: 1 / one[0] for kind, one in best.items()}
        cells = [f"{rate:.0f}" for rate in rates[card.name].values()]
        cells += [f"{1e3 * best[kind][1]:.2f}" for kind in ("fast", "full")]
        rows.append(f"| `{card.name}` | {' | '.join(cells)} |")
    print("\n" + "\n".join(rows))
    env, run = stepper(CARDS[0], "fast")
    benchmark.pedantic(run, args=(50,), rounds=2)
    env.close()
    benchmark.extra_info["frames_per_second"] = rates
