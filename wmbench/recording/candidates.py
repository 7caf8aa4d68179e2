"""Candidate action sequences from recorded states: uniform, and around what a policy or the recorded behaviour does."""

from __future__ import annotations

from typing import Any

import numpy as np

from wmbench.cards import TaskCard
from wmbench.episodes import Dataset
from wmbench.errors import DatasetError
from wmbench.keys import fold_in, keys_from_seeds
from wmbench.protocols import Policy
from wmbench.recording.drift import Windows, cut_windows
from wmbench.recording.planning import drive
from wmbench.recording.recorder import Subjects
from wmbench.trees import gather, scatter


def cut_states(
    dataset: Dataset, split: str, starts: int, steps: int, seed: int, episodes: np.ndarray | None = None
) -> Windows:
    """Windows that surely have the simulator's state, of a split or of some of its episodes.

    Raises:
        DatasetError: An empty split, or a dataset without simulator states.
    """
    cut = cut_windows(dataset, split, starts, steps, seed, episodes)
    if cut.state is None:
        raise DatasetError(f"{dataset.folder}: branching needs simulator states, which this dataset does not hold")
    return cut


def uniform_actions(task: TaskCard, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Actions uniform in the box, (*shape, A) float32."""
    low, high = task.action_bounds()
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(3,)))
    return np.clip(rng.uniform(low, high, (*shape, len(low))), low, high).astype(np.float32)


def perturbed(task: TaskCard, nominal: np.ndarray, count: int, noise: float, seed: int) -> np.ndarray:
    """A sequence and variations of it.

    Args:
        task: Gives the action box.
        nominal: (N, K, A) float32.
        count: B, of which the first is the sequence itself.
        noise: Standard deviation of independent Gaussian noise, in half widths of the box.
        seed: Of the noise.

    Returns:
        (N, B, K, A) float32, inside the box.
    """
    low, high = task.action_bounds()
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(4,)))
    offset = rng.normal(size=(len(nominal), count, *nominal.shape[1:])) * (noise * (high - low) / 2)
    offset[:, 0] = 0.0
    return np.clip(nominal[:, None] + offset, low, high).astype(np.float32)


def policy_actions(
    policy: Policy, simulator: Any, observation: np.ndarray, state: np.ndarray, steps: int, seed: int
) -> np.ndarray:
    """What a policy does in the true simulator from saved states, with a fresh memory.

    Args:
        policy: Who acts.
        simulator: A :class:`wmbench.protocols.Simulator`.
        observation: (N, O) float32.
        state: (N, S) float64.
        steps: K.
        seed: Of the policy's keys.

    Returns:
        (N, K, A) float32; after an episode's end its last action, repeated.
    """
    actor = Actor(policy, len(state), seed)
    taken: list[tuple[np.ndarray, np.ndarray]] = []

    def choose(rows: np.ndarray, observation: np.ndarray, state: np.ndarray, step: int) -> np.ndarray:
        taken.append((rows, actor(rows, observation, step)))
        return taken[-1][1][:, None]

    drive(simulator, observation, state, steps, choose)
    out = np.zeros((len(state), steps, taken[0][1].shape[1]), np.float32)
    for t, (rows, action) in enumerate(taken):
        out[rows, t:] = action[:, None]
    return out


def expert_of(subjects: Subjects) -> Policy | None:
    """The policy that stands for good behaviour, if there is one."""
    return None if subjects.expert is None else subjects.policies[subjects.expert]


class Actor:
    """A policy with a memory and keys for N episodes, of which ever fewer go on."""

    def __init__(self, policy: Policy, n: int, seed: int) -> None:
        """Begin N episodes."""
        self.policy = policy
        self.memory = policy.initial(n)
        self.keys = fold_in(keys_from_seeds(np.arange(n)), seed)

    def __call__(self, rows: np.ndarray, observation: np.ndarray, step: int) -> np.ndarray:
        """Actions (b, A) of the episodes ``rows`` (b,) at observations (b, O)."""
        keys = fold_in(self.keys[rows], step)
        action, memory = self.policy.act(observation, gather(self.memory, rows), keys=keys)
        self.memory = scatter(self.memory, rows, memory)
        return action
