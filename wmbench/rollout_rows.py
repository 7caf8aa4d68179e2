"""Rows of environments that begin, step and end one by one: a loop of single ones, or a vector environment."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import gymnasium as gym
import numpy as np

from wmbench.cards import TaskCard
from wmbench.errors import CardError
from wmbench.views import STATE


@dataclass
class Steps:
    """What one control step did to n rows.

    Attributes:
        observation: (n, O) float32.
        reward: (n,) float64.
        terminated: (n,) bool.
        truncated: (n,) bool.
        success: (n,) bool.
        diverged: (n,) bool.
        state: (n, S) float64, or None.
        doubt: (n,) float32, the model's own uncertainty, the signal that its card names first; None if nobody asked.
    """

    observation: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    success: np.ndarray
    diverged: np.ndarray
    state: np.ndarray | None = None
    doubt: np.ndarray | None = None


class Rows(Protocol):
    """Environments of one task.

    Attributes:
        errors: Row to what went wrong there during the last call; its numbers are then meaningless.
        images: Pictures that the last call gave: name to (n, ...), none if the environments show none.
    """

    errors: dict[int, Exception]
    images: dict[str, np.ndarray]

    def reset(self, rows: np.ndarray, seeds: Sequence[int]) -> tuple[np.ndarray, np.ndarray | None]:
        """Begin the episodes of ``seeds`` in ``rows``: (n, O) observations and (n, S) states or None."""
        ...

    def step(self, rows: np.ndarray, action: np.ndarray) -> Steps:
        """Step ``rows`` with (n, A) checked actions; what the other rows do is nobody's business."""
        ...

    def close(self) -> None:
        """Free the environments."""
        ...


class LoopRows:
    """Single environments of the true simulator, one after the other; a fault stays in its row."""

    def __init__(
        self, card: TaskCard, num_envs: int, options: dict[str, Any], *, record_state: bool, keep_going: bool
    ) -> None:
        """Make the environments.

        Args:
            card: The task.
            num_envs: How many.
            options: Further keyword arguments for ``gym.make``.
            record_state: Whether to read the simulator's state at every step.
            keep_going: Whether a row's exception goes into ``errors`` instead of up.
        """
        self.errors: dict[int, Exception] = {}
        self.images: dict[str, np.ndarray] = {}
        self._card = card
        self._options = options
        self._record_state = record_state
        self._catch: tuple[type[Exception], ...] = (Exception,) if keep_going else ()
        self._envs: list[Any] = []
        try:
            for _ in range(num_envs):
                self._envs.append(gym.make(card.id, **card.options(), **options))
        except BaseException:
            self.close()
            raise

    def reset(self, rows: np.ndarray, seeds: Sequence[int]) -> tuple[np.ndarray, np.ndarray | None]:
        """See :meth:`Rows.reset`."""

        def begin(env: Any, i: int) -> tuple[Any, ...]:
            observation, images = _apart(env.reset(seed=seeds[i])[0])
            return observation, self._state(env), images

        found = self._each(rows, begin)
        self._show(found, len(rows))
        return self._stack(found, 0, len(rows)), self._states(found, len(rows))

    def step(self, rows: np.ndarray, action: np.ndarray) -> Steps:
        """See :meth:`Rows.step`."""

        def advance(env: Any, i: int) -> tuple[Any, ...]:
            seen, reward, terminated, truncated, info = env.step(action[i])
            observation, images = _apart(seen)
            return observation, self._state(env), images, reward, terminated, truncated, info["success"]

        found = self._each(rows, advance)
        n = len(rows)
        self._show(found, n)
        failed: Any = (None, None, {}, 0.0, False, True, False)  # a row that failed ends here
        _, _, _, rewards, terminated, truncated, success = zip(*(found.get(i, failed) for i in range(n)), strict=True)
        return Steps(
            observation=self._stack(found, 0, n),
            reward=np.array(rewards, dtype=np.float64),
            terminated=np.array(terminated, dtype=bool),
            truncated=np.array(truncated, dtype=bool),
            success=np.array(success, dtype=bool),
            diverged=np.zeros(n, dtype=bool),
            state=self._states(found, n),
        )

    def close(self) -> None:
        """Free the environments."""
        for env in self._envs:
            env.close()

    def _each(self, rows: np.ndarray, call: Callable[[Any, int], tuple[Any, ...]]) -> dict[int, tuple[Any, ...]]:
        """Call something for each row; a row that fails gets a new environment and an entry in ``errors``."""
        self.errors = {}
        found = {}
        for i, row in enumerate(rows):
            try:
                found[i] = call(self._envs[row], i)
            except self._catch as error:
                self.errors[int(row)] = error
                self._envs[row].close()
                self._envs[row] = gym.make(self._card.id, **self._card.options(), **self._options)
        return found

    def _show(self, found: dict[int, tuple[Any, ...]], n: int) -> None:
        """Keep the pictures of every row's result, black for rows that failed."""
        if found and (first := next(iter(found.values()))[2]):
            self.images = {name: np.zeros((n, *one.shape), one.dtype) for name, one in first.items()}
        for name, batch in self.images.items():
            if len(batch) != n:  # all rows failed
                self.images[name] = batch = np.zeros((n, *batch.shape[1:]), batch.dtype)
            for i, result in found.items():
                batch[i] = result[2][name]

    def _state(self, env: Any) -> np.ndarray | None:
        return env.unwrapped.get_state() if self._record_state else None

    def _states(self, found: dict[int, tuple[Any, ...]], n: int) -> np.ndarray | None:
        return self._stack(found, 1, n) if self._record_state and found else None

    def _stack(self, found: dict[int, tuple[Any, ...]], item: int, n: int) -> np.ndarray:
        """One item of every row's result as (n, ...), zeros for rows that failed."""
        if not found:
            return np.zeros((n, len(self._card.observation)), np.float32)
        first = next(iter(found.values()))[item]
        out = np.zeros((n, *first.shape), first.dtype)
        for i, result in found.items():
            out[i] = result[item]
        return out


class VectorRows:
    """A vector environment with autoreset disabled: the learned twin, or the true simulator in processes.

    Rows without an episode are kept alive with actions from the middle of the box, and begin anew when they have ended.
    """

    def __init__(self, card: TaskCard, num_envs: int, options: dict[str, Any], *, record_state: bool) -> None:
        """Make the vector environment.

        Args:
            card: The task.
            num_envs: How many rows.
            options: Further keyword arguments for ``gym.make_vec``.
            record_state: Whether to read the simulator's state at every step.
        """
        self.errors: dict[int, Exception] = {}
        self.images: dict[str, np.ndarray] = {}
        self._card = card
        self._record_state = record_state
        self._env: Any = gym.make_vec(
            card.id, num_envs=num_envs, autoreset_mode="Disabled", **card.options(), **options
        )
        low, high = card.action_bounds()
        self._actions = np.tile((low + high) / 2, (num_envs, 1)).astype(np.float32)  # (N, A)
        self._ended = np.zeros(num_envs, dtype=bool)
        self._idle_seed: int | None = None

    def reset(self, rows: np.ndarray, seeds: Sequence[int]) -> tuple[np.ndarray, np.ndarray | None]:
        """See :meth:`Rows.reset`."""
        mask = np.zeros(len(self._actions), dtype=bool)
        mask[rows] = True
        if self._idle_seed is None:
            self._idle_seed = int(seeds[0])
            mask[:] = True
        observation, images = _apart(self._reset(mask, dict(zip(rows.tolist(), seeds, strict=True))))
        self.images = {name: batch[rows] for name, batch in images.items()}
        return np.asarray(observation)[rows], self._states(rows)

    def step(self, rows: np.ndarray, action: np.ndarray) -> Steps:
        """See :meth:`Rows.step`."""
        actions = self._actions.copy()
        actions[rows] = action
        self._ended[rows] = False
        if self._ended.any():  # rows without an episode must not stand still
            self._reset(self._ended, {})
        seen, reward, terminated, truncated, info = self._env.step(actions)
        observation, images = _apart(seen)
        if "success" not in info:
            raise CardError(f"{self._card.id}: the vector environment's info lacks 'success'")
        diverged = info.get("diverged", np.zeros(len(actions), dtype=bool))
        signals = {name: value for name, value in info.get("uncertainty", {}).items() if not name.startswith("_")}
        doubt = next(iter(signals.values()), None)  # names with an underscore are masks
        self._ended = np.asarray(terminated | truncated)
        chosen: Any = slice(None) if len(rows) == len(actions) else rows
        self.images = {name: batch[chosen] for name, batch in images.items()}
        return Steps(
            observation=np.asarray(observation)[chosen],
            reward=np.asarray(reward, dtype=np.float64)[chosen],
            terminated=np.asarray(terminated)[chosen],
            truncated=np.asarray(truncated)[chosen],
            success=np.asarray(info["success"]).astype(bool)[chosen],
            diverged=np.asarray(diverged).astype(bool)[chosen],
            state=self._states(rows),
            doubt=None if doubt is None else np.asarray(doubt, dtype=np.float32)[chosen],
        )

    def close(self) -> None:
        """Free the environments."""
        self._env.close()

    def _reset(self, mask: np.ndarray, seeds: dict[int, int]) -> Any:
        every = [int(seeds.get(row, self._idle_seed)) for row in range(len(mask))]  # type: ignore[arg-type]
        options = None if mask.all() else {"reset_mask": mask}
        return self._env.reset(seed=every, options=options)[0]

    def _states(self, rows: np.ndarray) -> np.ndarray | None:
        if not self._record_state:
            return None
        states = self._env.call("get_state")
        return np.stack([states[row] for row in rows])


def _apart(observation: Any) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The state vectors and the pictures of an observation."""
    if not isinstance(observation, dict):
        return observation, {}
    return observation[STATE], {name: value for name, value in observation.items() if name != STATE}
