"""The calls that are timed: each made from a task and a simulator, policy or model when its turn comes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from wmbench import checkpoints
from wmbench.cards import TaskCard
from wmbench.keys import fold_in, keys_from_seeds
from wmbench.protocols import Policy, Start, WorldModel
from wmbench.recording.memory import parameter_bytes, tree_bytes
from wmbench.recording.modes import Case, error_of, make_step
from wmbench.recording.realtime import decision
from wmbench.seeding import episode_seeds

WARMUP = 10
REWARM = 2
"""Calls at the beginning of a later round that count as warm-up, since others have run in between."""

OBSERVATIONS = 64
"""Observations of the true simulator that ``observation-to-action`` goes through in turns."""

Built = tuple[Callable[[], Any], Callable[[Any], None] | None]
"""What is timed, and what is done with its result between calls, untimed."""


@dataclass
class Contestant:
    """One kind of call, made when its turn comes for the first time.

    Attributes:
        subject: What is timed.
        call: See :func:`wmbench.measures.latency.latency`.
        batch: Rows per call.
        calls: How many, warm-up aside, at most.
        build: Makes the call; what it opens goes onto the stack. It may raise
            :class:`wmbench.recording.modes.ModeUnavailableError`.
        built: What it made.
        rounds: Seconds of every round, first call first.
        fault: Why it cannot be timed.
        error: How far its outputs are from those of the eager step, NaN if not compared.
        memory: Name of a fact to bytes.
    """

    subject: str
    call: str
    batch: int
    calls: int
    build: Callable[[Contestant, ExitStack], Built]
    built: Built | None = None
    rounds: list[list[float]] = field(default_factory=list)
    fault: str = ""
    error: float = float("nan")
    memory: dict[str, float] = field(default_factory=dict)

    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Seconds, round and warm-up mark of every call, (n,) each.

        Warm-up are the first ten calls, or half of all if the budget allowed fewer than twenty, and the first two of
        every later round, or half of it.
        """
        seconds = np.array([s for r in self.rounds for s in r], dtype=np.float64)
        number = np.repeat(np.arange(len(self.rounds)), np.array([len(r) for r in self.rounds], dtype=np.int64))
        warm = np.zeros(len(seconds), dtype=bool)
        for r, own in enumerate(self.rounds[1:], 1):
            warm[np.flatnonzero(number == r)[: min(REWARM, len(own) // 2)]] = True
        warm[: min(WARMUP, int((~warm).sum()) // 2)] = True
        return seconds, number, warm


def simulator_calls(
    task: TaskCard,
    name: str,
    reference: str | None,
    device: str,
    actions: np.ndarray,
    batches: tuple[int, ...],
    calls: int,
    resets: int,
    seed: int,
) -> Iterator[Contestant]:
    """Reset and step of one row, and of a learned simulator steps of batches.

    Args:
        task: The task.
        name: What the simulator is called.
        reference: None for the true one.
        device: Where a learned one runs.
        actions: (max B, A) float32.
        batches: Rows per call.
        calls: Steps.
        resets: Resets.
        seed: Of the episodes.
    """
    kwargs: dict[str, Any] = {} if reference is None else {"simulator": reference, "device": device}

    def seeds() -> Iterator[int]:
        return iter(episode_seeds(seed, task.id, "eval", calls + resets + 4 * WARMUP))

    def reset(_: Contestant, stack: ExitStack) -> Built:
        env, fresh = gym.make(task.id, **task.options(), **kwargs).unwrapped, seeds()
        stack.callback(env.close)
        return lambda: env.reset(seed=next(fresh)), None

    def step(_: Contestant, stack: ExitStack) -> Built:
        env, fresh = gym.make(task.id, **task.options(), **kwargs).unwrapped, seeds()
        stack.callback(env.close)
        env.reset(seed=next(fresh))

        def begin_again(result: Any) -> None:
            if result[2] or result[3]:
                env.reset(seed=next(fresh))

        return lambda: env.step(actions[0]), begin_again

    def vector(own: Contestant, stack: ExitStack) -> Built:
        envs = gym.make_vec(
            task.id, num_envs=own.batch, array="torch", autoreset_mode="SameStep", **task.options(), **kwargs
        )
        stack.callback(envs.close)
        envs.reset(seed=episode_seeds(seed, task.id, "eval", own.batch))  # type: ignore[arg-type]
        given = torch.from_numpy(actions[: own.batch]).to(device)
        return lambda: envs.step(given), None

    yield Contestant(name, "reset", 1, resets, reset)
    yield Contestant(name, "step", 1, calls, step)
    if reference is not None:
        yield from (Contestant(name, "step", b, calls, vector) for b in batches if b > 1)


def policy_calls(
    task: TaskCard, name: str, policy: Policy, start: Start, batches: tuple[int, ...], calls: int, seed: int
) -> Iterator[Contestant]:
    """``act`` of batches, and the whole way from an observation to an action with one row.

    Args:
        task: The task.
        name: What the policy is called.
        policy: Which.
        start: One row.
        batches: Rows per call.
        calls: How many.
        seed: Of the episode.
    """

    def act(own: Contestant, stack: ExitStack) -> Built:
        observation = np.repeat(start.observation.numpy(), own.batch, axis=0)
        keys = keys_from_seeds(np.arange(own.batch))
        memory, step = policy.initial(own.batch), 0

        def call() -> None:
            nonlocal memory, step
            step += 1
            _, memory = policy.act(observation, memory, keys=fold_in(keys, step))

        return call, None

    def end_to_end(own: Contestant, stack: ExitStack) -> Built:
        seen, decide = _observations(task, seed), decision(task, policy)
        memory, step = policy.initial(1), 0

        def call() -> None:
            nonlocal memory, step
            step += 1
            _, memory = decide(seen[step % len(seen)], memory, seed, step)

        return call, None

    yield from (Contestant(name, "act", b, calls, act) for b in batches)
    yield Contestant(name, "observation-to-action", 1, calls, end_to_end)


def mode_calls(
    task: TaskCard,
    name: str,
    model: WorldModel,
    start: Start,
    batches: tuple[int, ...],
    modes: tuple[str, ...],
    calls: int,
    seed: int,
) -> Iterator[Contestant]:
    """A model's bare step, in every mode at every batch.

    Args:
        task: The task.
        name: What the model is called.
        model: Which.
        start: One row.
        batches: Rows per call.
        modes: See :mod:`wmbench.recording.modes`.
        calls: How many.
        seed: Of the actions.
    """

    def build(own: Contestant, stack: ExitStack) -> Built:
        mode = own.call.removeprefix("step-")
        case = Case.of(task, model, start, own.batch, seed)
        before = time.perf_counter()
        step = make_step(model, mode, case)
        if case.action.is_cuda:
            torch.cuda.synchronize(case.action.device)
        own.rounds = [[time.perf_counter() - before]]
        own.error = error_of(model, step, case, alone=mode == "eager")

        def call() -> Any:
            with torch.no_grad():
                return step(case.state, case.action)

        return call, None

    for batch in batches:
        yield from (Contestant(name, f"step-{mode}", batch, calls, build) for mode in modes)


def sizes(
    task: TaskCard,
    simulators: Mapping[str, str | None],
    policies: Mapping[str, Policy],
    models: Mapping[str, WorldModel],
    start: Start,
    device: str,
) -> Iterator[tuple[str, str, float]]:
    """Bytes of parameters, and of what one row carries from step to step: (subject, name, bytes)."""
    for name, model in _every_model(task, simulators, models, device):
        yield name, "parameter-bytes", float(parameter_bytes(model))
        yield name, "state-bytes", float(tree_bytes(Case.of(task, model, start, 1, 0).state))
    for name, policy in policies.items():
        inside = policy if isinstance(policy, torch.nn.Module) else getattr(policy, "model", policy)
        yield name, "parameter-bytes", float(parameter_bytes(inside))
        yield name, "state-bytes", float(tree_bytes(policy.initial(1)))


def first_start(task: TaskCard, seed: int) -> Start:
    """One row: where an episode of the true simulator begins, with its state and seed."""
    env: Any = gym.make(task.id, **task.options()).unwrapped
    try:
        first = episode_seeds(seed, task.id, "eval", 1)[0]
        observation = torch.from_numpy(np.array(env.reset(seed=first)[0]))[None]
        return Start(observation, sim_state=torch.from_numpy(env.get_state())[None], seed=torch.tensor([first]))
    finally:
        env.close()


def uniform_actions(task: TaskCard, n: int, seed: int) -> np.ndarray:
    """(n, A) float32 uniform actions."""
    low, high = task.action_bounds()
    rng = np.random.default_rng(seed)
    return (low + (high - low) * rng.random((n, len(low)))).astype(np.float32)


def _every_model(
    task: TaskCard, simulators: Mapping[str, str | None], models: Mapping[str, WorldModel], device: str
) -> Iterator[tuple[str, Any]]:
    """The models that were given, and those behind the learned simulators."""
    yield from models.items()
    for name, reference in simulators.items():
        if reference is not None and name not in models:
            model = checkpoints.resolve(reference, task, kind="world_model", device=device)
            yield name, model
            if hasattr(model, "close"):
                model.close()


def _observations(task: TaskCard, seed: int) -> list[np.ndarray]:
    """Observations (O,) of random behaviour in the true simulator."""
    env: Any = gym.make(task.id, **task.options()).unwrapped
    found: list[np.ndarray] = []
    try:
        seeds, ended = iter(episode_seeds(seed, task.id, "eval", OBSERVATIONS)), True
        for action in uniform_actions(task, OBSERVATIONS, seed):
            if ended:
                observation, ended = env.reset(seed=next(seeds))[0], False
            else:
                observation, _, terminated, truncated, _ = env.step(action)
                ended = terminated or truncated
            found.append(observation)
        return found
    finally:
        env.close()
