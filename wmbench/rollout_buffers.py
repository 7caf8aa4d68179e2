"""Memory for the episodes that are under way, written for all rows at once."""

from __future__ import annotations

from collections.abc import Container, Sequence

import numpy as np

from wmbench.cards import TaskCard
from wmbench.episodes.data import EpisodeData
from wmbench.errors import CardError
from wmbench.rollout_rows import Steps

FREE = -1


class Buffers:
    """One episode under construction per row.

    Attributes:
        keys: (N,) int64, key of each row's episode.
        steps: (N,) int64, steps recorded so far.
    """

    def __init__(self, card: TaskCard, num_envs: int, source: str, *, timing: bool) -> None:
        """Allocate for the task's horizon.

        Args:
            card: The task.
            num_envs: Rows N.
            source: Stored with every episode.
            timing: Whether episodes carry wall-clock times.
        """
        n, steps = num_envs, card.horizon
        self.keys = np.zeros(n, dtype=np.int64)
        self.steps = np.zeros(n, dtype=np.int64)
        self._card = card
        self._source = source
        self._timing = timing
        self._begun = np.zeros(n, dtype=bool)
        self._position = np.full(n, FREE, dtype=np.int64)
        self._seed = np.zeros(n, dtype=np.int64)
        self._observation = np.empty((n, steps + 1, len(card.observation)), dtype=np.float32)
        self._action = np.empty((n, steps, len(card.action)), dtype=np.float32)
        self._reward = np.empty((n, steps), dtype=np.float64)
        self._flags = np.empty((4, n, steps), dtype=bool)  # terminated, truncated, success, diverged
        self._seconds = np.empty((2, n, steps if timing else 0), dtype=np.float64)  # policy, simulator
        self._state: np.ndarray | None = None

    def free(self) -> np.ndarray:
        """Rows without an episode."""
        return np.flatnonzero(self._position == FREE)

    def active(self) -> np.ndarray:
        """Rows with an episode."""
        return np.flatnonzero(self._position != FREE)

    def running(self) -> list[tuple[int, int]]:
        """Position and seed of the episodes under way."""
        return [(int(self._position[row]), int(self._seed[row])) for row in self.active()]

    def assign(self, rows: np.ndarray, episodes: Sequence[tuple[int, int]], keys: np.ndarray) -> None:
        """Give rows their next episodes, as (position, seed)."""
        self._position[rows] = [position for position, _ in episodes]
        self._seed[rows] = [seed for _, seed in episodes]
        self.keys[rows] = keys
        self.steps[rows] = 0
        self._begun[rows] = False

    def begin(
        self, rows: np.ndarray, observation: np.ndarray, state: np.ndarray | None, *, skip: Container[int]
    ) -> None:
        """Store what the resets gave, (n, O) and (n, S), except in the rows to skip, whose resets failed."""
        self._observation[rows, 0] = observation
        self._begun[rows] = [row not in skip for row in rows.tolist()]
        self._store_state(rows, state)

    def observation(self, rows: np.ndarray) -> np.ndarray:
        """Current observations of rows, (n, O), a copy."""
        return self._observation[rows, self.steps[rows]]

    def record(
        self,
        rows: np.ndarray,
        action: np.ndarray,
        steps: Steps,
        act_seconds: float,
        step_seconds: float,
        *,
        skip: Container[int],
    ) -> np.ndarray:
        """Store one step of rows.

        Args:
            rows: (n,) which.
            action: (n, A) what was applied.
            steps: What it did.
            act_seconds: The policy's time for all of them.
            step_seconds: The simulator's time for all of them.
            skip: Rows in which the simulator failed: nothing is stored.

        Returns:
            (n,) bool, the episodes that have ended, or failed.
        """
        t = self.steps[rows]
        late = t >= self._card.horizon
        if late.any():
            raise CardError(f"{self._card.id}: an episode went on after the horizon of {self._card.horizon} steps")
        self._action[rows, t] = action
        self._reward[rows, t] = steps.reward
        for flags, values in zip(
            self._flags, (steps.terminated, steps.truncated, steps.success, steps.diverged), strict=True
        ):
            flags[rows, t] = values
        if self._timing:
            self._seconds[0, rows, t] = act_seconds
            self._seconds[1, rows, t] = step_seconds
        self._observation[rows, t + 1] = steps.observation
        failed = np.array([row in skip for row in rows.tolist()])
        self.steps[rows] = t + ~failed
        self._store_state(rows[~failed], None if steps.state is None else steps.state[~failed])
        return steps.terminated | steps.truncated | failed

    def finish(self, row: int, *, invalid: str | None = None) -> tuple[int, EpisodeData]:
        """Take a row's episode out and free the row.

        Args:
            row: Which.
            invalid: Why it cannot be scored, if it cannot.

        Returns:
            Its position and the episode, in memory of its own.
        """
        t = int(self.steps[row])
        states = t + 1 if self._begun[row] else 0  # a reset that failed gave not even a first observation
        terminated, truncated, success, diverged = (flags[row, :t].copy() for flags in self._flags)
        act, simulate = (seconds[row, :t].copy() for seconds in self._seconds)
        episode = EpisodeData(
            observation=self._observation[row, :states].copy(),
            action=self._action[row, :t].copy(),
            reward=self._reward[row, :t].copy(),
            terminated=terminated,
            truncated=truncated,
            success=success,
            state=None if self._state is None else self._state[row, :states].copy(),
            seed=int(self._seed[row]),
            source=self._source,
            diverged=bool(diverged.any()),
            invalid=invalid,
            act_seconds=act if self._timing else None,
            step_seconds=simulate if self._timing else None,
        )
        position = int(self._position[row])
        self._position[row] = FREE
        return position, episode

    def _store_state(self, rows: np.ndarray, state: np.ndarray | None) -> None:
        if state is None:
            return
        if self._state is None:
            n, steps, _ = self._observation.shape
            self._state = np.empty((n, steps, state.shape[1]), dtype=np.float64)
        self._state[rows, self.steps[rows]] = state
