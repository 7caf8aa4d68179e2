"""Banks of starts: recorded beginnings stored with a world model, so that its twin needs no simulator to reset."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from wmbench.errors import DatasetError
from wmbench.seeding import episode_seeds

if TYPE_CHECKING:
    from wmbench.cards import TaskCard
    from wmbench.episodes import Dataset


def bank_of_resets(task: TaskCard, n: int = 256, seed: int = 0) -> dict[str, torch.Tensor]:
    """Beginnings that the true simulator's own resets give, for a model that was trained without a dataset.

    Args:
        task: The task.
        n: How many.
        seed: Root of the episodes' seeds.

    Returns:
        Fields of :class:`wmbench.protocols.Start`: ``observation`` (n, O) float32, ``seed`` (n,) int64, and
        ``sim_state`` (n, S) float64.

    Raises:
        ValueError: ``n`` is below 1.
    """
    import gymnasium as gym

    if n < 1:
        raise ValueError(f"a bank needs at least one start, got n={n}")
    env = gym.make(task.id, disable_env_checker=True, **task.options())
    seeds = episode_seeds(seed, task.id, "train", n)
    observations, states = [], []
    for own in seeds:
        observations.append(env.reset(seed=own)[0])
        states.append(env.unwrapped.get_state())  # type: ignore[attr-defined]
    env.close()
    return {
        "observation": torch.from_numpy(np.stack(observations)),
        "seed": torch.tensor(seeds, dtype=torch.int64),
        "sim_state": torch.from_numpy(np.stack(states)),
    }


def make_bank(dataset: Dataset, n: int = 256, seed: int = 0) -> dict[str, torch.Tensor]:
    """Beginnings of episodes of the train split.

    Only true beginnings are taken, none from the middle of an episode, so that the horizon means in the twin
    what it means in the true simulator. They carry neither history nor, therefore, any need for it.

    Args:
        dataset: Where they come from.
        n: At most so many, drawn without replacement if there are more.
        seed: Of that draw.

    Returns:
        Fields of :class:`wmbench.protocols.Start`: ``observation`` (N, O) float32, ``seed`` (N,) int64, and
        ``sim_state`` (N, S) float64 if the dataset has states.

    Raises:
        DatasetError: The train split is empty.
        ValueError: ``n`` is below 1.
    """
    if n < 1:
        raise ValueError(f"a bank needs at least one start, got n={n}")
    chosen = dataset.episodes("train")
    if not len(chosen):
        raise DatasetError(f"the train split of this dataset of {dataset.task.id} is empty; collect more episodes")
    if len(chosen) > n:
        chosen = np.sort(np.random.default_rng(seed).choice(chosen, n, replace=False))
    episodes = [dataset.episode(int(i)) for i in chosen]
    bank = {
        "observation": torch.from_numpy(np.stack([e.observation[0] for e in episodes])),
        "seed": torch.tensor([e.seed for e in episodes], dtype=torch.int64),
    }
    states = [e.state[0] for e in episodes if e.state is not None]
    if len(states) == len(episodes):
        bank["sim_state"] = torch.from_numpy(np.stack(states))
    return bank


def recorded_states(dataset: Dataset, n: int = 20_000, seed: int = 0) -> dict[str, torch.Tensor]:
    """States anywhere in the episodes of the train split: where short imagined branches begin.

    The horizon counts from the branch's beginning, not from the episode's.

    Args:
        dataset: Where they come from.
        n: At most so many, drawn without replacement if there are more.
        seed: Of that draw.

    Returns:
        ``observation`` (N, O) float32 and ``seed`` (N,) int64, that of the episode.

    Raises:
        DatasetError: The train split is empty.
    """
    chosen = dataset.episodes("train")
    if not len(chosen):
        raise DatasetError(f"the train split of this dataset of {dataset.task.id} is empty; collect more episodes")
    episodes = [dataset.episode(int(i)) for i in chosen]
    observation = np.concatenate([e.observation[:-1] for e in episodes])
    seeds = np.repeat([e.seed for e in episodes], [len(e) for e in episodes])
    if len(observation) > n:
        kept = np.sort(np.random.default_rng(seed).choice(len(observation), n, replace=False))
        observation, seeds = observation[kept], seeds[kept]
    return {
        "observation": torch.from_numpy(np.ascontiguousarray(observation)),
        "seed": torch.from_numpy(seeds.astype(np.int64)),
    }
