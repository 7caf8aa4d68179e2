"""One state, many futures: action sequences from the same saved states, in the true simulator and in a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from wmbench.cards import TaskCard
from wmbench.keys import fold_in, keys_from_seeds
from wmbench.protocols import Start, WorldModel
from wmbench.recording.one_step import heads_of
from wmbench.recording.subjects import device_of


@dataclass(frozen=True)
class Branches:
    """What the true simulator did in B branches of K steps from N states.

    Attributes:
        observation: (N, B, K, O) float32, after each step.
        reward: (N, B, K) float64.
        terminated: (N, B, K) bool, the task ended at this step.
        success: (N, B, K) bool, by the task's rule.
        valid: (N, B, K) bool, steps there were: up to and with the episode's end. Everything is zero elsewhere.
    """

    observation: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray
    success: np.ndarray
    valid: np.ndarray


def branch_true(
    task: TaskCard,
    states: np.ndarray,
    action: np.ndarray,
    known: np.ndarray | None = None,
    *,
    simulator: Any = None,
) -> Branches:
    """Branch the true simulator. Every branch, recorded or not, is restored from its saved state.

    A simulator that has a method ``branch`` (states (R, S), action (R, K, A), steps (R,)) is asked for all branches at
    once, with the same outcome; where it answers None, and where there is no such method, they are stepped in turn.

    Args:
        task: Which simulator.
        states: (N, S) float64, of :meth:`wmbench.protocols.Simulator.get_state`.
        action: (N, B, K, A) float32.
        known: (N, B, K) bool, a stretch from the start of each branch that is to be simulated; None for all.
        simulator: A :class:`wmbench.protocols.Simulator` to use; None makes the task's own.

    Raises:
        StateError: A state of another task.
    """
    if simulator is None:
        simulator = gym.make(task.id, **task.options()).unwrapped
        try:
            return branch_true(task, states, action, known, simulator=simulator)
        finally:
            simulator.close()
    shape = action.shape[:3]
    known = np.ones(shape, dtype=bool) if known is None else known
    if (together := getattr(simulator, "branch", None)) is not None:
        rows = shape[0] * shape[1]
        given = np.repeat(states, shape[1], axis=0), action.reshape(rows, *action.shape[2:]), known.reshape(rows, -1)
        found = together(*given[:2], given[2].sum(1))
        if found is not None:
            return Branches(*(part.reshape(*shape, *part.shape[2:]) for part in found))
    observation = np.zeros((*shape, len(task.observation)), np.float32)
    reward = np.zeros(shape)
    terminated, success, valid = (np.zeros(shape, dtype=bool) for _ in range(3))
    for i in range(shape[0]):
        for b in range(shape[1]):
            simulator.set_state(states[i])
            for k in range(int(known[i, b].sum())):
                at = (i, b, k)
                observation[at], reward[at], terminated[at], truncated, info = simulator.step(action[at])
                success[at], valid[at] = info["success"], True
                if terminated[at] or truncated:
                    break
    return Branches(observation, reward, terminated, success, valid)


def branch_model(
    model: WorldModel,
    observation: np.ndarray,
    states: np.ndarray | None,
    action: np.ndarray,
    seed: int,
    *,
    uncertainty: bool = False,
) -> dict[str, np.ndarray]:
    """Branch a model. Branches of one state use the same random numbers, so that only the action differs.

    Args:
        model: Which model.
        observation: (N, O) float32, at the states.
        states: (N, S) float64 of the true simulator, for models that read them, or None.
        action: (N, B, K, A) float32.
        seed: Of the model's keys.
        uncertainty: Whether to ask for it as well; see :func:`wmbench.recording.one_step.heads_of`.

    Returns:
        The heads that the model has, float64: ``observation`` (N, B, K, O), the others (N, B, K).
    """
    n, branches, steps, size = action.shape
    device = device_of(model)
    keys = np.repeat(fold_in(keys_from_seeds(np.arange(n)), seed), branches)
    start = Start(
        observation=torch.from_numpy(np.repeat(observation, branches, axis=0)).to(device),
        sim_state=None if states is None else torch.from_numpy(np.repeat(states, branches, axis=0)),
    )
    given = torch.from_numpy(np.ascontiguousarray(action).reshape(n * branches, steps, size)).to(device)
    found: dict[str, list[np.ndarray]] = {}
    with torch.no_grad():
        state = model.initial(start, keys=torch.from_numpy(keys).to(device))
        for k in range(steps):
            state, answer = model.step(state, given[:, k], uncertainty=uncertainty)
            for head, values in heads_of(answer, uncertainty=uncertainty).items():
                found.setdefault(head, []).append(values)
    return {
        head: np.stack(values, axis=1).reshape(n, branches, steps, *values[0].shape[1:])
        for head, values in found.items()
    }


def elsewhere(n: int, seed: int) -> np.ndarray:
    """A permutation of n items in which nobody keeps its place (for n > 1)."""
    order = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(2,))).permutation(n)
    partner = np.empty(n, dtype=np.int64)
    partner[order] = np.roll(order, 1)
    return partner
