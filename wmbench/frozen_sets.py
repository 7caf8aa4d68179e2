"""Frozen test sets: episodes that ship with a package, are never trained on, and are loaded by the task's name."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from wmbench import registry
from wmbench.cards import TaskCard
from wmbench.episodes import Dataset, DatasetWriter, EpisodeData
from wmbench.episodes.starts import Starts, start_hashes
from wmbench.errors import DatasetError
from wmbench.registration import task_card, task_cards

PREFIX = "frozen:"
"""``frozen:DMC-CartpoleSwingup`` in place of a dataset's folder."""


@cache
def frozen_sets() -> dict[str, Path]:
    """Task id to the folder of its frozen test set, of every installed package."""
    found: dict[str, Path] = {}
    for _, listing in registry.frozen:
        found.update(listing())
    return found


def frozen(task: TaskCard | str, *, verify: bool = False) -> Dataset:
    """The frozen test set of a task.

    Its split ``"test"`` is what models are tested on. Its split ``"train"`` is there, as in any dataset, for what
    measures take from it: the scales of errors and the reference models, so that results on a set compare whatever a
    model was trained on.

    Args:
        task: Card, id or short name.
        verify: Whether to read every file and compare its SHA-256.

    Raises:
        NotRegisteredError: No such task.
        DatasetError: The task has none, or it does not fit the installed card.
    """
    card = task_card(task) if isinstance(task, str) else task
    folder = frozen_sets().get(card.id)
    if folder is None:
        names = sorted(own.name for own in task_cards().values() if own.id in frozen_sets())
        raise DatasetError(
            f"there is no frozen test set for {card.id}; there is one for {', '.join(names) or 'no task'}: "
            f"collect one of your own with  wmbench collect {card.name} --recipe mixed"
        )
    return Dataset(folder, verify, task=card)


def open_dataset(reference: Path | str, *, verify: bool = False) -> Dataset:
    """A dataset by its folder, or a frozen test set as ``frozen:TASK``.

    Raises:
        DatasetError: It cannot be read, or there is none.
    """
    text = str(reference)
    return frozen(text.removeprefix(PREFIX), verify=verify) if text.startswith(PREFIX) else Dataset(text, verify)


def with_states(task: TaskCard | str, out: Path | str) -> Dataset:
    """A frozen test set with simulator states, which it ships without: every episode is run again, and compared.

    Args:
        task: Card, id or short name.
        out: A new folder.

    Raises:
        DatasetError: There is no set, or this machine's simulator does not repeat it exactly.
    """
    import gymnasium as gym

    data = frozen(task)
    manifest = data.manifest
    within = manifest["split_within"]
    env = gym.make(data.task.id)
    try:
        with DatasetWriter(out, data.task, split=manifest["split"], plan=manifest["plan"], split_within=within) as new:
            new.recipe = manifest["recipe"]
            for i in range(len(data)):
                episode = data.episode(i)
                observation, state = _replay(env, episode)
                if not np.array_equal(observation, episode.observation):
                    raise DatasetError(
                        f"{data.folder}: the simulator of {data.task.id} does not repeat episode {i} exactly on this "
                        "machine: its states are not known here, measure what needs none"
                    )
                new.add(replace(episode, state=state))
    finally:
        env.close()
    return Dataset(out, task=data.task)


def _replay(env: Any, episode: EpisodeData) -> tuple[np.ndarray, np.ndarray]:
    """Observations (T + 1, O) and states (T + 1, S) of an episode that is run again; shorter if it ends earlier."""
    observations, states = [env.reset(seed=episode.seed)[0]], [env.unwrapped.get_state()]
    for action in episode.action:
        observation, _, terminated, truncated, _ = env.step(action)
        observations.append(observation)
        states.append(env.unwrapped.get_state())
        if terminated or truncated:
            break
    return np.stack(observations), np.stack(states)


class FrozenStarts:
    """Where the episodes of a task's frozen test set begin."""

    def __init__(self, card: TaskCard) -> None:
        """Read the starts; there are none for a task without a frozen set."""
        folder = frozen_sets().get(card.id)
        self._digest: str | None = None
        self._hashes: set[str] = set()
        self._episodes = 0
        if folder is not None:
            data = Dataset(folder)
            starts = dataset_starts(data)
            self._digest, self._hashes, self._episodes = data.digest, set(starts.hashes()), len(data)

    def holds(self, observation: np.ndarray, state: np.ndarray | None) -> bool:
        """Whether an episode begins at one of them, see :func:`wmbench.episodes.starts.start_hashes`."""
        return not self._hashes.isdisjoint(start_hashes(observation, state))

    def shared(self, starts: Starts) -> int:
        """How many episodes of a dataset's train and val splits begin at one of them."""
        return starts.shared(self._hashes)

    def to_json(self) -> dict[str, Any] | None:
        """Digest of the set and number of its episodes; None without one."""
        return None if self._digest is None else {"digest": self._digest, "episodes": self._episodes}


def dataset_starts(data: Dataset) -> Starts:
    """Where a dataset's episodes begin."""
    starts = Starts()
    for i in range(len(data)):
        arrays = data.arrays(i)
        starts.add(arrays["observation"], arrays.get("state"), str(data.index["split"][i]))
    return starts
