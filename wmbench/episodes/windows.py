"""Random windows of episodes, gathered as blocks of bytes: no loop over rows, no crossing of episodes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from wmbench.errors import DatasetError
from wmbench.views import CHANNELS

if TYPE_CHECKING:
    from wmbench.episodes.dataset import Dataset

WIDE = 512
"""Bytes per row from which copying row by row beats copying windows as opaque blocks."""


class WindowSampler:
    """Draws batches of B windows of T steps, uniformly over all windows that fit into an episode.

    A window's memory is one contiguous stretch of a shard's file, so a batch is one indexed copy per field
    and shard. The rows of a batch are ordered by shard, and otherwise in the order of the draw.
    """

    def __init__(
        self,
        dataset: Dataset,
        episodes: np.ndarray,
        length: int,
        *,
        batch_size: int,
        seed: int,
        fields: tuple[str, ...],
        frame_stack: int = 1,
    ) -> None:
        """Count the windows; see :meth:`wmbench.episodes.Dataset.windows`."""
        if type(frame_stack) is not int or frame_stack < 1:
            raise DatasetError(f"frame_stack must be a positive integer, got {frame_stack!r}")
        if length < 1 or batch_size < 1:
            raise DatasetError(f"windows need a length and batch size of at least 1, got {length} and {batch_size}")
        if unknown := sorted(set(fields) - set(dataset.fields)):
            raise DatasetError(
                f"{dataset.folder}: no field is called {unknown[0]!r}; stored are {list(dataset.fields)}"
            )
        room = dataset.index["length"][episodes] - length + 1
        self._episodes = episodes[room > 0]
        self._room = room[room > 0]
        if not len(self._episodes):
            longest = int(dataset.index["length"][episodes].max()) if len(episodes) else 0
            raise DatasetError(
                f"{dataset.folder}: no window of {length} steps fits; the longest of {len(episodes)} episodes "
                f"has {longest}: ask for shorter windows or collect more"
            )
        self._ends = np.cumsum(self._room)
        self._step_row = dataset.step_row[self._episodes]
        self._state_row = dataset.state_row[self._episodes]
        self._shard_of = dataset.shard_of[self._episodes]
        self._shards = dataset.shards
        self._specs = {name: dataset.fields[name] for name in fields}
        self._stacked = {name for name in fields if name in CHANNELS and frame_stack > 1}
        self.frame_stack = frame_stack
        self.length = length
        self.batch_size = batch_size
        self._rng = np.random.default_rng(seed)

    def __len__(self) -> int:
        """Number of different windows."""
        return int(self._ends[-1])

    def sample(self, out: dict[str, np.ndarray] | None = None) -> dict[str, np.ndarray]:
        """The next batch.

        Args:
            out: A batch from an earlier call whose memory may be overwritten; None makes fresh arrays.

        Returns:
            Fields per state (observation, state, pictures) as (B, T + 1, ...), fields per step as (B, T, ...),
            stacked pictures as (B, T + 1, k, H, W, C), oldest first and the episode's first one repeated before it,
            and ``episode`` (B,) and ``step`` (B,) int: where each window begins.
        """
        drawn = self._rng.integers(0, self._ends[-1], self.batch_size)  # (B,)
        place = np.searchsorted(self._ends, drawn, side="right")  # (B,) which episode
        step = drawn - (self._ends[place] - self._room[place])  # (B,) offset within it
        if len(self._shards) > 1:
            order = np.argsort(self._shard_of[place], kind="stable")
            place, step = place[order], step[order]
        bounds = np.searchsorted(self._shard_of[place], np.arange(len(self._shards) + 1))
        touched = [i for i in range(len(self._shards)) if bounds[i] < bounds[i + 1]]
        first = {"state": self._state_row[place] + step, "step": self._step_row[place] + step}
        batch = {}
        for name, spec in self._specs.items():
            rows = self.length + (spec["per"] == "state")
            stack = (self.frame_stack,) if name in self._stacked else ()
            shape = (self.batch_size, rows, *stack, *spec["shape"])
            array = np.empty(shape, dtype=spec["dtype"]) if out is None else out[name]
            for i in touched:
                part = slice(bounds[i], bounds[i + 1])
                if stack:
                    begin = self._state_row[place[part]]
                    _copy_stacks(self._shards[i][name], first["state"][part], begin, array[part])
                else:
                    _copy_windows(self._shards[i][name], first[spec["per"]][part], array[part])
            batch[name] = array
        return batch | {"episode": self._episodes[place], "step": step}

    def state(self) -> dict[str, Any]:
        """Position in the stream of batches, as plain data."""
        return dict(self._rng.bit_generator.state)

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a position that :meth:`state` gave."""
        self._rng.bit_generator.state = state


def _copy_stacks(source: np.ndarray, first: np.ndarray, begin: np.ndarray, out: np.ndarray) -> None:
    """The k rows up to each row of a window, none of them before ``begin``, into ``out`` (n, T, k, ...)."""
    length, count = out.shape[1:3]
    rows = first[:, None, None] + np.arange(length)[:, None] + np.arange(1 - count, 1)
    np.take(source, np.maximum(rows, begin[:, None, None]), axis=0, out=out, mode="clip")


def _copy_windows(source: np.ndarray, first: np.ndarray, out: np.ndarray) -> None:
    """Copy ``out.shape[1]`` consecutive rows of ``source``, from each of ``first`` on, into ``out``."""
    length = out.shape[1]
    row = source.strides[0]
    if row >= WIDE:
        np.take(source, first[:, None] + np.arange(length), axis=0, out=out, mode="clip")
        return
    block = np.dtype((np.void, length * row))  # overlapping windows, each seen as one opaque item
    windows = np.ndarray((len(source) - length + 1,), block, buffer=source, strides=(row,))
    np.ndarray((len(out),), block, buffer=out)[:] = windows[first]
