"""Where imagined episodes begin: a bank stored with the checkpoint, or the true simulator's own resets."""

from __future__ import annotations

from typing import Any, Protocol

import gymnasium as gym
import numpy as np
import torch

from wmbench.cards import TaskCard
from wmbench.errors import CheckpointError
from wmbench.keys import fold_in, keys_from_seeds, randint
from wmbench.protocols import Start

BANK_PICK = 0x62616E6B
"""Label of the random number that picks a start from the bank."""

FIELDS = {
    "observation": (2, torch.float32),
    "history_observation": (3, torch.float32),
    "history_action": (3, torch.float32),
    "sim_state": (2, torch.float64),
    "seed": (1, torch.int64),
}


class Starts(Protocol):
    """A source of starts, one per episode seed."""

    def draw(self, seeds: np.ndarray) -> Start:
        """The starts that belong to (n,) int64 episode seeds, on the model's device."""
        ...

    def close(self) -> None:
        """Free what the source holds."""
        ...


class BankStarts:
    """Starts stored beside the model: no simulator, any batch size. The episode seed's hash picks one."""

    def __init__(self, bank: dict[str, torch.Tensor], task: TaskCard, *, device: torch.device, source: str) -> None:
        """Check the bank and move it to the device.

        Args:
            bank: Fields of :class:`wmbench.protocols.Start`, each with the same number of rows.
            task: The task it must fit.
            device: The model's device.
            source: Named in errors.

        Raises:
            CheckpointError: A field is unknown, of the wrong type or size, or the bank is empty.
        """

        def refuse(fault: str) -> None:
            raise CheckpointError(f"{source}: {fault}")

        if unknown := sorted(set(bank) - set(FIELDS)):
            refuse(f"unknown fields {unknown} in the bank of starts; known: {sorted(FIELDS)}")
        if "observation" not in bank or not len(bank["observation"]):
            refuse("the bank of starts holds no observations")
        self._size = len(bank["observation"])
        for name, tensor in bank.items():
            axes, dtype = FIELDS[name]
            if tensor.ndim != axes or tensor.dtype != dtype or len(tensor) != self._size:
                refuse(
                    f"the bank's {name!r} is {tensor.dtype} of shape {tuple(tensor.shape)}, expected {dtype} "
                    f"with {axes} axes and {self._size} rows"
                )
        if bank["observation"].shape[1] != len(task.observation):
            refuse(
                f"the bank's observations have {bank['observation'].shape[1]} of {task.id}'s {len(task.observation)}"
            )
        self._bank = {name: tensor.to(device) for name, tensor in bank.items()}
        self._device = device

    def draw(self, seeds: np.ndarray) -> Start:
        """Pick one start per seed; (n,) int64."""
        picked = randint(fold_in(keys_from_seeds(seeds), BANK_PICK), self._size)
        index = torch.from_numpy(picked).to(self._device)
        return Start(**{name: tensor[index] for name, tensor in self._bank.items()})

    def close(self) -> None:
        """Nothing to free."""


class TrueStarts:
    """The true simulator's own resets with the same seeds; loops over the rows that start."""

    def __init__(self, task: TaskCard, *, device: torch.device) -> None:
        """Remember the task; its simulator is made when the first start is drawn."""
        self._task = task
        self._device = device
        self._env: Any = None

    def draw(self, seeds: np.ndarray) -> Start:
        """Reset the true simulator once per seed, however often it is there; (n,) int64."""
        if self._env is None:
            self._env = gym.make(self._task.id, **self._task.options()).unwrapped
        observations, states = [], []
        different, place = np.unique(np.asarray(seeds, dtype=np.int64), return_inverse=True)
        for seed in different:
            observation, _ = self._env.reset(seed=int(seed))
            observations.append(observation)
            states.append(self._env.get_state())
        return Start(
            observation=torch.from_numpy(np.stack(observations)[place]).to(self._device),
            sim_state=torch.from_numpy(np.stack(states)[place]).to(self._device),
            seed=torch.from_numpy(np.array(seeds, dtype=np.int64)).to(self._device),
        )

    def close(self) -> None:
        """Close the simulator, if one was needed."""
        if self._env is not None:
            self._env.close()
            self._env = None
