"""The random stream of each row of a batched twin: the same draws as one environment per row would make."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.utils import seeding

from wmbench_envs.spaces import draw_seed, row_seeds


class RowStreams:
    """N streams from which resets without a seed draw; a stream is made only when it is first drawn from."""

    def __init__(self, num_envs: int, task_id: str) -> None:
        """Streams that are not seeded yet."""
        self._task_id = task_id
        self._seeds: list[int | None] = [None] * num_envs
        self._streams: list[np.random.Generator | None] = [None] * num_envs

    def episode_seeds(self, seed: Any, rows: np.ndarray) -> np.ndarray:
        """Seeds of the episodes that a reset begins, restarting the streams of rows that are given one.

        Args:
            seed: As given to ``VectorEnv.reset``: None, an int, or a sequence of N ints and Nones.
            rows: (r,) int64, the rows that are reset.

        Returns:
            (r,) int64.

        Raises:
            ValueError: A seed is no integer in [0, 2**32), or their number is not N.
        """
        if seed is None:
            return self.draw(rows)
        every = row_seeds(self._task_id, seed, len(self._seeds))
        chosen = [every[row] for row in rows.tolist()]
        given = np.array([s is not None for s in chosen])
        seeds = np.array([0 if s is None else s for s in chosen], dtype=np.int64)
        self._restart(rows[given], seeds[given])
        seeds[~given] = self.draw(rows[~given])
        return seeds

    def draw(self, rows: np.ndarray) -> np.ndarray:
        """The next episode seed of each of the given rows, (r,) int64."""
        return np.fromiter((draw_seed(self.stream(row)) for row in rows.tolist()), dtype=np.int64, count=len(rows))

    def stream(self, row: int) -> np.random.Generator:
        """The stream of one row."""
        found = self._streams[row]
        if found is None:
            found, self._seeds[row] = seeding.np_random(self._seeds[row])
            self._streams[row] = found
        return found

    def seed(self, row: int) -> int:
        """The seed that the stream of one row was made with."""
        self.stream(row)
        return self._seeds[row]  # type: ignore[return-value]

    def _restart(self, rows: np.ndarray, seeds: np.ndarray) -> None:
        if len(rows) == len(self._streams):
            self._seeds, self._streams = seeds.tolist(), [None] * len(rows)
        else:
            for row, seed in zip(rows.tolist(), seeds.tolist(), strict=True):
                self._seeds[row], self._streams[row] = seed, None
