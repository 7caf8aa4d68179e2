"""A backend in another world: values drawn at reset, a queue of late actions, noise on what is observed."""

from __future__ import annotations

from typing import Any

import numpy as np

from wmbench.cards import TaskCard
from wmbench.delays import default_action
from wmbench.errors import CardError, StateError
from wmbench.worlds import MOST_DELAY, PERTURBATIONS, World, sensor_noise
from wmbench_envs.true_branch import Branched

BLOCK = 64
"""Steps whose observation noise is drawn at once."""


class WorldBackend:
    """Another backend, whose episodes take place in the worlds that their seeds draw.

    A state begins with the episode's seed, the control steps taken, the world's values and the actions on their way;
    the inner backend's own numbers follow.
    """

    def __init__(self, card: TaskCard, backend: Any, world: World) -> None:
        """Wrap a backend.

        Args:
            card: The task.
            backend: Has ``perturb(values, seed)`` if the task's card lists perturbations.
            world: The worlds.

        Raises:
            CardError: The card lists perturbations that its backend does not know how to make.
        """
        if card.perturbations and not hasattr(backend, "perturb"):
            raise CardError(f"{card.id}: the card lists perturbations, but {type(backend).__name__} has no perturb()")
        self._card, self._inner, self._world = card, backend, world
        self._names = world.names
        self._inside = [name for name in world.names if PERTURBATIONS[name].part != "shell"]
        self._physical = [name for name in self._inside if PERTURBATIONS[name].part == "physics"]
        self._first = default_action(card, "zero")
        self._head = 2 + len(self._names) + MOST_DELAY * len(self._first)
        self._seed, self._count, self._delay = 0, 0, 0
        self._values: dict[str, float] = {}
        self._queue: list[np.ndarray] = []
        self._noise: tuple[int, float, int, np.ndarray] | None = None

    def __getattr__(self, name: str) -> Any:
        """Whatever does not depend on the world, of the backend inside."""
        return getattr(self._inner, name)

    def reset(self, seed: int) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin the episode of this seed in its world; info has the values under ``world``."""
        self._enter(seed, self._world.draw(seed))
        self._queue = [self._first] * self._delay
        observation, info = self._inner.reset(seed)
        info["world"] = dict(self._values)
        return observation, info

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Apply what was given ``delay`` steps ago."""
        self._count += 1
        if self._delay:
            self._queue.append(action.copy())
            action = self._queue.pop(0)
        return self._inner.step(action)

    def sense(self, observation: np.ndarray) -> np.ndarray:
        """What is observed in the present state, whose exact observation (O,) float32 is given; a fresh array."""
        share = self._values.get("noise")
        if not share:
            return observation
        block = self._count // BLOCK
        if self._noise is None or self._noise[:3] != (self._seed, share, block):
            counts = np.arange(block * BLOCK, (block + 1) * BLOCK)
            drawn = sensor_noise(self._card, np.full(BLOCK, self._seed), counts, np.full(BLOCK, share))  # (BLOCK, O)
            self._noise = self._seed, share, block, drawn
        return observation + self._noise[3][self._count % BLOCK]

    def state_size(self) -> int:
        """S."""
        return self._head + self._inner.state_size()

    def get_state(self) -> np.ndarray:
        """(S,) float64."""
        late = np.zeros((MOST_DELAY, len(self._first)))
        if self._queue:
            late[: len(self._queue)] = self._queue
        head = (self._seed, self._count, *(self._values[name] for name in self._names))
        return np.concatenate((head, late.reshape(-1), self._inner.get_state()), dtype=np.float64)

    def set_state(self, state: np.ndarray) -> np.ndarray:
        """Restore the world, then the simulator; the exact observation there."""
        seed, values, queue = self._read(state)
        self._enter(seed, values)
        self._count, self._queue = int(state[1]), list(queue)
        return self._inner.set_state(state[self._head :])

    def moving(self) -> slice:
        """Where positions and velocities lie."""
        inner = self._inner.moving()
        return slice(self._head + inner.start, self._head + inner.stop)

    def branch(self, states: np.ndarray, action: np.ndarray, steps: np.ndarray) -> Branched | None:
        """Branches of one world without noise at once; None for others."""
        late = np.empty_like(action)
        world: dict[str, float] | None = None
        for r, state in enumerate(states):
            seed, values, queue = self._read(state)
            physical = {name: values[name] for name in self._physical}
            if values.get("noise") or (world is not None and physical != world):
                return None
            if world is None:
                self._enter(seed, values)
            world = physical
            late[r] = np.concatenate([queue, action[r]])[: action.shape[1]]
        return self._inner.branch(states[:, self._head :], late, steps)

    def _enter(self, seed: int, values: dict[str, float]) -> None:
        """Put a world in force."""
        self._seed, self._count, self._values = seed, 0, values
        self._delay = int(values["delay"])
        if self._inside:
            self._inner.perturb({name: values[name] for name in self._inside}, seed)

    def _read(self, state: np.ndarray) -> tuple[int, dict[str, float], np.ndarray]:
        """Seed, values and late actions (delay, A) float32 of a state, refused if they cannot be."""
        n = len(self._names)
        values = dict(zip(self._names, state[2 : 2 + n].tolist(), strict=True))
        for name, value in values.items():
            low, high = PERTURBATIONS[name].allowed
            if not low <= value <= high:
                raise StateError(f"{self._card.id}: a state whose {name} is {value:g} was not saved by this task")
        seed, count = state[:2]
        if seed != int(seed) or not 0 <= seed < 2**32 or count != int(count) or count < 0:
            raise StateError(
                f"{self._card.id}: a state of seed {seed:g} and {count:g} steps was not saved by this task"
            )
        queue = state[2 + n : self._head].reshape(MOST_DELAY, -1)[: int(values["delay"])]
        return int(seed), values, queue.astype(np.float32)
