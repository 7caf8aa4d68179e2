"""Times the calls that an agent waits for: reset and step of simulators, act of policies."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np

from wmbench.cards import TaskCard
from wmbench.keys import fold_in, keys_from_seeds
from wmbench.protocols import Policy
from wmbench.provenance import provenance
from wmbench.recording.store import Recording
from wmbench.seeding import episode_seeds

WARMUP = 10


@dataclass
class Timed:
    """The times of one kind of call, first call first."""

    subject: str
    call: str
    batch: int
    seconds: list[float]
    warmup: int


def record_latency(
    task: TaskCard,
    simulators: Mapping[str, str | None],
    policies: Mapping[str, Policy],
    *,
    calls: int = 2010,
    resets: int = 200,
    batches: Sequence[int] = (1, 16, 256, 4096),
    budget_s: float = 5.0,
    device: str = "cpu",
    seed: int = 0,
) -> Recording:
    """Time simulators and policies, one after the other.

    Args:
        task: The task.
        simulators: Name to what ``gym.make(task.id, simulator=...)`` takes; None is the true simulator.
        policies: Name to policy.
        calls: Timed steps (or acts) of single rows, at most.
        resets: Timed resets, at most.
        batches: Rows per call. 1 is ``gym.make``; larger ones ``gym.make_vec`` for learned simulators, which are
            batched, and ``act`` of policies. The true simulator has no batched step and is timed alone.
        budget_s: Seconds for each kind of call; timing stops there, and the number of calls shows it.
        device: Where learned simulators run; waited for at every call.
        seed: Of actions and episodes.

    Returns:
        A recording with the hardware in its meta.
    """
    timed: list[Timed] = []
    actions = _actions(task, max(batches), seed)
    sync = _synchronise(device)
    for name, reference in simulators.items():
        kwargs = {} if reference is None else {"simulator": reference, "device": device}
        timed += _time_env(task, name, kwargs, actions[0], calls, resets, budget_s, sync, seed)
        for batch in batches:
            if batch > 1 and reference is not None:
                timed.append(_time_vector(task, name, kwargs, actions[:batch], calls, budget_s, sync, seed))
    for name, policy in policies.items():
        start = _first_observation(task, seed)
        timed += [_time_policy(name, policy, start, batch, calls, budget_s, sync) for batch in batches]
    arrays = {
        "subject": np.array([t.subject for t in timed]),
        "call": np.array([t.call for t in timed]),
        "batch": np.array([t.batch for t in timed], dtype=np.int64),
        "row": np.repeat(np.arange(len(timed)), [len(t.seconds) for t in timed]),
        "seconds": np.concatenate([t.seconds for t in timed]) if timed else np.zeros(0),
        "warmup": np.concatenate([np.arange(len(t.seconds)) < t.warmup for t in timed]) if timed else np.zeros(0, bool),
    }
    meta = {"task": task.id, "device": device, "seed": seed, "budget_s": budget_s, "provenance": provenance()}
    return Recording("latency", arrays, meta)


def _timing(
    function: Callable[[], Any],
    calls: int,
    budget_s: float,
    sync: Callable[[], None],
    between: Callable[[Any], None] | None = None,
) -> list[float]:
    """Seconds of each call of ``function``, the device idle before and after.

    Args:
        function: What is timed.
        calls: How many after the warm-up.
        budget_s: Timing stops when this much time has passed.
        sync: Waits for the device.
        between: Given what the call returned; not timed.
    """
    clock, seconds = time.perf_counter, []
    end = clock() + budget_s
    for _ in range(calls + WARMUP):
        sync()
        before = clock()
        result = function()
        sync()
        after = clock()
        seconds.append(after - before)
        if after > end:
            break
        if between is not None:
            between(result)
    return seconds


def _warm(seconds: list[float]) -> int:
    """How many of the first calls are warm-up: ten, or half of them if the budget allowed fewer than twenty."""
    return min(WARMUP, len(seconds) // 2)


def _time_env(
    task: TaskCard,
    name: str,
    kwargs: dict[str, Any],
    action: np.ndarray,
    calls: int,
    resets: int,
    budget_s: float,
    sync: Callable[[], None],
    seed: int,
) -> list[Timed]:
    env = gym.make(task.id, **kwargs).unwrapped
    try:
        seeds = iter(episode_seeds(seed, task.id, "eval", 2 * (calls + resets) + 4 * WARMUP))
        reset = _timing(lambda: env.reset(seed=next(seeds)), resets, budget_s, sync)
        env.reset(seed=next(seeds))

        def begin_again(result: Any) -> None:
            if result[2] or result[3]:
                env.reset(seed=next(seeds))

        steps = _timing(lambda: env.step(action), calls, budget_s, sync, begin_again)
    finally:
        env.close()
    return [Timed(name, "reset", 1, reset, _warm(reset)), Timed(name, "step", 1, steps, _warm(steps))]


def _time_vector(
    task: TaskCard,
    name: str,
    kwargs: dict[str, Any],
    actions: np.ndarray,
    calls: int,
    budget_s: float,
    sync: Callable[[], None],
    seed: int,
) -> Timed:
    import torch

    batch = len(actions)
    envs = gym.make_vec(task.id, num_envs=batch, array="torch", autoreset_mode="SameStep", **kwargs)
    try:
        envs.reset(seed=episode_seeds(seed, task.id, "eval", batch))  # type: ignore[arg-type]
        given = torch.from_numpy(actions).to(kwargs.get("device", "cpu"))
        seconds = _timing(lambda: envs.step(given), calls, budget_s, sync)
    finally:
        envs.close()
    return Timed(name, "step", batch, seconds, _warm(seconds))


def _time_policy(
    name: str,
    policy: Policy,
    start: np.ndarray,
    batch: int,
    calls: int,
    budget_s: float,
    sync: Callable[[], None],
) -> Timed:
    observation = np.repeat(start[None], batch, axis=0)
    keys = keys_from_seeds(np.arange(batch))
    memory, step = policy.initial(batch), 0

    def act() -> None:
        nonlocal memory, step
        step += 1
        _, memory = policy.act(observation, memory, keys=fold_in(keys, step))

    seconds = _timing(act, calls, budget_s, sync)
    return Timed(name, "act", batch, seconds, _warm(seconds))


def _first_observation(task: TaskCard, seed: int) -> np.ndarray:
    """(O,) float32, where an episode of the true simulator begins."""
    env = gym.make(task.id).unwrapped
    try:
        return np.asarray(env.reset(seed=episode_seeds(seed, task.id, "eval", 1)[0])[0])
    finally:
        env.close()


def _actions(task: TaskCard, n: int, seed: int) -> np.ndarray:
    """(n, A) float32 uniform actions."""
    low, high = task.action_bounds()
    rng = np.random.default_rng(seed)
    return (low + (high - low) * rng.random((n, len(low)))).astype(np.float32)


def _synchronise(device: str) -> Callable[[], None]:
    """What waits until the device has done everything it was asked."""
    if not device.startswith("cuda"):
        return lambda: None
    import torch

    return lambda: torch.cuda.synchronize(device)
