"""Training inside beside training in the true simulator: the environment's time per step, and a whole training's."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wmbench_baselines.inside.train as train
from wmbench.registration import task_card
from wmbench.threads import one_thread
from wmbench_baselines.inside import InsideConfig, InsideRows

TASKS = ("DMC-CartpoleSwingup", "Gym-Hopper", "Gym-HalfCheetah")
SIDES = ("learned", "true")
ROWS = (1, 16, 64)
ROUNDS = 60


@pytest.mark.parametrize("task", TASKS)
def test_environment(benchmark: Any, task: str) -> None:
    """A step of the rows that a learner sees, true and learned taken in turn, per environment step."""
    card, lines = task_card(task), []
    low, high = card.action_bounds()

    def measure() -> None:
        for n in ROWS:
            every = {where: InsideRows(InsideConfig(card.name, where=where, num_envs=n), card) for where in SIDES}  # type: ignore[arg-type]
            seen: dict[str, list[float]] = {where: [] for where in SIDES}
            rng = np.random.default_rng(0)
            for rows in every.values():
                rows.reset()
            for _ in range(ROUNDS):
                actions = rng.uniform(low, high, (n, len(low))).astype(np.float32)
                for where, rows in every.items():
                    began = time.process_time()
                    rows.step(actions)
                    seen[where].append(time.process_time() - began)
            took = {where: 1e6 * float(np.mean(found[ROUNDS // 10 :])) / n for where, found in seen.items()}
            lines.append(
                f"{card.name}, {n:3d} rows: {took['learned']:7.1f} us per step in the twin, {took['true']:7.1f} in the "
                f"true simulator, {took['true'] / took['learned']:5.2f} times as long"
            )
            for rows in every.values():
                rows.close()

    with one_thread():
        benchmark.pedantic(measure, rounds=1)
    benchmark.extra_info["lines"] = lines
    print("\n" + "\n".join(lines))


@pytest.mark.parametrize("task", TASKS)
def test_training(benchmark: Any, task: str, tmp_path: Path) -> None:
    """A short SAC training on both sides, in turns of 400 steps, evaluations left out."""
    card = task_card(task)
    spent = {where: np.zeros(2) for where in SIDES}

    def turns(where: str) -> Iterator[None]:
        config = InsideConfig(card.name, where=where, steps=4_000, num_envs=16, updates=0.5)  # type: ignore[arg-type]
        rows = InsideRows(config, card)
        model, _ = train._begin(config, rows, tmp_path, resume=0)
        while model.num_timesteps < 2_400:
            began, inside = time.process_time(), rows.seconds
            model.learn(400, reset_num_timesteps=False)
            if model.num_timesteps > 1_300:  # updates have begun, and everything is warm
                spent[where] += time.process_time() - began, rows.seconds - inside
            yield
        rows.close()

    def measure() -> None:
        for _ in zip(*(turns(where) for where in SIDES), strict=True):
            pass

    with one_thread():
        benchmark.pedantic(measure, rounds=1)
    shares = {where: inside / total for where, (total, inside) in spent.items()}
    ratio = spent["true"][0] / spent["learned"][0]
    benchmark.extra_info.update(shares=shares, ratio=ratio)
    print(
        f"\n{card.name}: SAC, 16 rows, 0.5 updates per step: the twin takes {100 * shares['learned']:.1f} % of the "
        f"training's time, the true simulator {100 * shares['true']:.1f} %; there it takes {ratio:.2f} times as long"
    )
