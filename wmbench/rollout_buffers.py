"""Memory for the episodes that are under way, written for all rows at once."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import Any

import numpy as np

from wmbench.cards import TaskCard
from wmbench.episodes.data import EpisodeData
from wmbench.errors import CardError
from wmbench.keys import fold_in
from wmbench.rollout_rows import Steps
from wmbench.views import CHANNELS, View

FREE = -1


class Buffers:
    """One episode under construction per row.

    All arrays are rings over one clock that ticks at every step, so that a step of all rows is one
    contiguous write; a row remembers the tick at which its episode began.
    """

    def __init__(
        self, card: TaskCard, num_envs: int, source: str, *, timing: bool, view: View | None = None, stack: int = 1
    ) -> None:
        """Allocate for the task's horizon.

        Args:
            card: The task.
            num_envs: Rows N.
            source: Stored with every episode.
            timing: Whether episodes carry wall-clock times.
            view: Which pictures they carry, one per state; None for none.
            stack: How many pictures those are that the environments give; the last of them is the present one.
        """
        n, self._size = num_envs, card.horizon + 1
        self._card = card
        self._source = source
        self._timing = timing
        self._tick = 0
        self._position = np.full(n, FREE, dtype=np.int64)
        self._seed = np.zeros(n, dtype=np.int64)
        self._began = np.zeros(n, dtype=np.int64)
        self._fault = np.zeros(n, dtype=bool)  # the reset failed: not even a first observation
        self._keys = np.zeros((n, card.horizon), dtype=np.int64)
        self._observation = np.empty((self._size, n, len(card.observation)), dtype=np.float32)
        self._action = np.empty((self._size, n, len(card.action)), dtype=np.float32)
        self._reward = np.empty((self._size, n), dtype=np.float64)
        self._flags = np.empty((self._size, 4, n), dtype=bool)  # terminated, truncated, success, diverged
        self._seconds = np.empty((self._size, 2), dtype=np.float64)  # policy, simulator
        self._state: np.ndarray | None = None
        self._doubt: np.ndarray | None = None
        self._stack = stack
        shown = () if view is None else view.images
        shapes = {name: view.unstacked().image_shape(name) for name in shown} if view is not None else {}
        self._images = {
            name: np.empty((self._size, n, *shape), dtype=CHANNELS[name][1]) for name, shape in shapes.items()
        }

    def free(self) -> np.ndarray:
        """Rows without an episode."""
        return np.flatnonzero(self._position == FREE)

    def active(self) -> np.ndarray:
        """Rows with an episode."""
        return np.flatnonzero(self._position != FREE)

    def running(self) -> list[tuple[int, int]]:
        """Position and seed of the episodes under way."""
        return [(int(self._position[row]), int(self._seed[row])) for row in self.active()]

    def begin(self, rows: np.ndarray, episodes: Sequence[tuple[int, int]], keys: np.ndarray) -> None:
        """Give rows their next episodes.

        Args:
            rows: (n,) free rows.
            episodes: n pairs of position and seed.
            keys: (n,) int64, key of each episode.
        """
        self._position[rows] = [position for position, _ in episodes]
        self._seed[rows] = [seed for _, seed in episodes]
        self._began[rows] = self._tick
        self._fault[rows] = True
        self._keys[rows] = fold_in(keys[:, None], np.arange(self._card.horizon, dtype=np.int64))

    def first(
        self, rows: np.ndarray, observation: np.ndarray, state: np.ndarray | None, *, skip: Container[int]
    ) -> None:
        """Store what the resets gave, (n, O) and (n, S); rows to skip have failed."""
        self._observation[self._tick % self._size, rows] = observation
        self._fault[rows] = [row in skip for row in rows.tolist()]
        self._store_state(self._tick, rows, state)

    def show(self, rows: Any, images: Mapping[str, np.ndarray], *, ahead: int = 0) -> None:
        """Store the pictures that rows show: name to (n, ...).

        Args:
            rows: (n,) which.
            images: As the environments gave them, stacked.
            ahead: 1 for pictures of a step that is not recorded yet.
        """
        for name, ring in self._images.items():
            shown = images[name] if self._stack == 1 else images[name][:, -1]
            ring[(self._tick + ahead) % self._size, rows] = shown

    def now(self, rows: Any) -> tuple[np.ndarray, np.ndarray]:
        """What a policy is given: current observations (n, O) and this step's keys (n,), both copies."""
        tick = self._tick
        return (
            self._observation[tick % self._size, rows].copy(),
            self._keys[rows, tick - self._began[rows]],
        )

    def record(self, rows: np.ndarray, action: np.ndarray, steps: Steps, seconds: tuple[float, float]) -> np.ndarray:
        """Store one step of rows; all others stand still.

        Args:
            rows: (n,) which.
            action: (n, A) what was applied.
            steps: What it did.
            seconds: The policy's and the simulator's time for all of them.

        Returns:
            (n,) bool, the episodes that have ended.

        Raises:
            CardError: An episode goes on after the task's horizon.
        """
        i = self._tick % self._size
        everyone: Any = slice(None) if len(rows) == len(self._position) else rows
        self._action[i, everyone] = action
        self._reward[i, everyone] = steps.reward
        flags = self._flags[i]
        flags[0, everyone] = steps.terminated
        flags[1, everyone] = steps.truncated
        flags[2, everyone] = steps.success
        flags[3, everyone] = steps.diverged
        self._seconds[i] = seconds
        if steps.doubt is not None:
            if self._doubt is None:
                self._doubt = np.empty((self._size, len(self._position)), dtype=np.float32)
            self._doubt[i, everyone] = steps.doubt
        self._tick += 1
        self._observation[self._tick % self._size, everyone] = steps.observation
        self._store_state(self._tick, everyone, steps.state)
        ended = steps.terminated | steps.truncated
        late = ~ended & (self._tick - self._began[everyone] >= self._card.horizon)
        if late.any():
            raise CardError(f"{self._card.id}: an episode goes on after the horizon of {self._card.horizon} steps")
        return ended

    def finish(self, row: int, *, invalid: str | None = None, failed_step: bool = False) -> tuple[int, EpisodeData]:
        """Take a row's episode out and free the row.

        Args:
            row: Which.
            invalid: Why it cannot be scored, if it cannot.
            failed_step: Whether the step that was recorded last failed in this row.

        Returns:
            Its position and the episode, in memory of its own.
        """
        began, stop = int(self._began[row]), self._tick - failed_step
        after = began if self._fault[row] else stop + 1  # observations and states: one more than steps
        terminated, truncated, success, diverged = self._take(self._flags, began, stop, row, axis=2).T.copy()
        act, simulate = self._take(self._seconds, began, stop).T.copy()
        extra = {} if self._doubt is None else {"doubt": self._take(self._doubt, began, stop, row)}
        extra |= {name: self._take(ring, began, after, row) for name, ring in self._images.items()}
        episode = EpisodeData(
            observation=self._take(self._observation, began, after, row),
            action=self._take(self._action, began, stop, row),
            reward=self._take(self._reward, began, stop, row),
            terminated=terminated,
            truncated=truncated,
            success=success,
            state=None if self._state is None else self._take(self._state, began, after, row),
            seed=int(self._seed[row]),
            source=self._source,
            extra=extra,
            diverged=bool(diverged.any()),
            invalid=invalid,
            act_seconds=act if self._timing else None,
            step_seconds=simulate if self._timing else None,
        )
        position = int(self._position[row])
        self._position[row] = FREE
        return position, episode

    def _take(self, ring: np.ndarray, began: int, stop: int, row: int | None = None, axis: int = 1) -> np.ndarray:
        """Ticks ``began`` to ``stop - 1`` of a ring, of one row if there are rows, as a copy."""
        first, last = began % self._size, began % self._size + stop - began
        pieces = [ring[first:last], ring[: max(0, last - self._size)]]  # the second one if it wraps around
        if row is not None:
            pieces = [piece[(slice(None),) * axis + (row,)] for piece in pieces]
        return np.concatenate(pieces)

    def _store_state(self, tick: int, rows: Any, state: np.ndarray | None) -> None:
        if state is None:
            return
        if self._state is None:
            self._state = np.empty((self._size, len(self._position), state.shape[1]), dtype=np.float64)
        self._state[tick % self._size, rows] = state
