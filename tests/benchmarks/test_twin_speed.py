"""What the twin adds to a model's own step: checks, endings, autoreset, infos and copies, for one row and for many."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

import wmbench
from wmbench import checkpoints
from wmbench.banks import make_bank
from wmbench_baselines.reference import CopyLast

CHEETAH, HOPPER = "wmbench/Gym-HalfCheetah-v0", "wmbench/Gym-Hopper-v0"


@pytest.fixture(scope="module")
def folder_of(random_data: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """A fitted copy-last model with a bank: the cheapest model there is."""

    def make(task: str) -> str:
        folder = tmp_path_factory.mktemp("copy-last")
        model = CopyLast.fit(CopyLast.Config(), random_data(task), folder=folder)
        bank = make_bank(random_data(task))
        return str(checkpoints.save(model, folder / "c", kind="world_model", name="copy-last", bank=bank))

    return make


def interleaved(calls: dict[str, Callable[[], Any]], rounds: int = 400) -> dict[str, float]:
    """Median microseconds of each call, taken in turn."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            began = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - began)
    return {name: 1e6 * float(np.median(seen[rounds // 10 :])) for name, seen in times.items()}


def test_overhead(benchmark: Any, folder_of: Callable[[str], str]) -> None:
    """HalfCheetah without endings: the twin's step beside the model's own, the same rows."""
    folder, lines = folder_of(CHEETAH), []
    low, high = wmbench.task_card(CHEETAH).action_bounds()
    single = gym.make(CHEETAH, simulator=folder)
    single.reset(seed=0)

    def measure() -> None:
        for n in (1, 16, 4096):
            actions = np.random.default_rng(0).uniform(low, high, (n, len(low))).astype(np.float32)
            tensor = torch.from_numpy(actions)
            envs = {a: gym.make_vec(CHEETAH, num_envs=n, simulator=folder, array=a) for a in ("numpy", "torch")}
            for env in envs.values():
                env.reset(seed=0)
            model, state = envs["numpy"].unwrapped.model, envs["numpy"].unwrapped.model_state

            def alone(model: Any = model, state: Any = state, tensor: torch.Tensor = tensor) -> None:
                with torch.no_grad():
                    model.step(state, tensor)

            calls: dict[str, Callable[[], Any]] = {
                "model": alone,
                "numpy": lambda envs=envs, actions=actions: envs["numpy"].step(actions),
                "torch": lambda envs=envs, tensor=tensor: envs["torch"].step(tensor),
            }
            if n == 1:
                calls["single"] = lambda actions=actions: single.step(actions[0])
            took = interleaved(calls)
            for kind in (k for k in took if k != "model"):
                added = took[kind] - took["model"]
                lines.append(
                    f"{n:5d} rows, {kind:6s}: model {took['model']:7.1f} us, twin {took[kind]:7.1f} us, "
                    f"adds {added:6.1f} us = {1e3 * added / n:8.1f} ns per row"
                )

    benchmark.pedantic(measure, rounds=1)
    print("\n" + "\n".join(lines))


def test_endings_at_scale(benchmark: Any, folder_of: Callable[[str], str]) -> None:
    """Hopper with 4,096 rows, of which about one in 65 ends at every step and begins anew from the bank."""
    folder, lines = folder_of(HOPPER), []
    actions = np.zeros((4096, 3), np.float32)

    def measure() -> None:
        modes = ("NextStep", "SameStep")
        envs = {m: gym.make_vec(HOPPER, num_envs=len(actions), simulator=folder, autoreset_mode=m) for m in modes}
        ended = dict.fromkeys(modes, 0)
        for env in envs.values():
            env.reset(seed=0)

        def step(mode: str) -> None:
            _, _, terminated, truncated, _ = envs[mode].step(actions)
            ended[mode] += int((terminated | truncated).sum())

        took = interleaved({m: lambda m=m: step(m) for m in modes}, rounds=300)
        model, state = envs["SameStep"].unwrapped.model, envs["SameStep"].unwrapped.model_state
        tensor = torch.from_numpy(actions)
        took |= interleaved({"model": lambda: model.step(state, tensor)}, rounds=300)
        for mode in modes:
            lines.append(
                f"{mode}: model {took['model']:.0f} us, twin {took[mode]:.0f} us, "
                f"{ended[mode] / 300:.0f} endings per step"
            )

    benchmark.pedantic(measure, rounds=1)
    print("\n" + "\n".join(lines))
