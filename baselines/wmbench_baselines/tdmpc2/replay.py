"""Replay of TD-MPC2: whole episodes in one ring of rows, windows that never leave their episode, one file each."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors.torch import save_file

from wmbench.checkpoints import load_tensors
from wmbench.errors import WmbenchError
from wmbench.files import write_atomically
from wmbench_baselines.tdmpc2.update import Batch


class Episode(NamedTuple):
    """One episode, or the part of one that was seen.

    Attributes:
        observation: (T + 1, ...) float32, or uint8 for images.
        action: (T, A) float32 in [-1, 1].
        reward: (T,) float32.
        terminated: (T,) float32, 1 where the task itself ended; a time limit does not count.
        success: (T,) float32, 1 where a step counts as a success.
        task: Number of its task.
    """

    observation: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray
    success: np.ndarray
    task: int = 0


class Replay:
    """The latest steps, to draw windows of H steps from: an episode at random, then a place within it, as published."""

    def __init__(self, capacity: int, horizon: int, *, folder: Path | None = None, device: str = "cpu") -> None:
        """Start empty, or with the episodes of a folder; see :meth:`restore`.

        Args:
            capacity: Steps kept at most; the oldest episodes go first.
            horizon: H.
            folder: Where every episode is kept as a file, so that a run can go on; None keeps none.
            device: Where batches are made.
        """
        self._home = "cpu"  # where the rows are held, known from the first episode on
        self.capacity, self.horizon, self.folder, self.device = capacity, horizon, folder, device
        self.seen = 0  # episodes ever added
        self._rows: dict[str, torch.Tensor] = {}
        self._episodes: list[tuple[int, int, int]] = []  # first row, steps and task of each, oldest first
        self._table = np.zeros((0, 3), np.int64)  # those of them that hold a window

    def __len__(self) -> int:
        """Steps held."""
        return sum(steps for _, steps, _ in self._episodes)

    def add(self, episode: Episode) -> None:
        """Take in an episode, in place of the oldest if there is no room.

        Raises:
            WmbenchError: A number is not finite, or it is longer than the replay.
        """
        for name in ("observation", "action", "reward", "terminated", "success"):
            if not np.isfinite(getattr(episode, name)).all():
                raise WmbenchError(f"episode {self.seen} cannot be learned from: its {name} holds NaN or infinity")
        if self.folder is not None:
            fields = {k: torch.from_numpy(np.ascontiguousarray(v)) for k, v in _arrays(episode).items()}
            write_atomically(self._file(self.seen), lambda path: save_file(fields, path))
        self._hold(episode)
        self.seen += 1

    def restore(self, seen: int) -> None:
        """Read the first ``seen`` episodes of the folder back, in order; later ones are left to be written anew.

        Raises:
            CheckpointError: A file is missing or damaged.
        """
        for i in range(seen):
            fields = {k: v.numpy() for k, v in load_tensors(self._file(i)).items()}
            fields.setdefault("success", np.zeros_like(fields["reward"]))
            self._hold(Episode(**{**fields, "task": int(fields["task"].item())}))  # type: ignore[arg-type]
        self.seen = seen

    def places(
        self, batch: int, generator: np.random.Generator, only: int | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Rows (B,) where windows begin, and their tasks (B,); ``only``: of that task.

        Raises:
            WmbenchError: No episode is as long as a window.
        """
        table = self._table if only is None else self._table[self._table[:, 2] == only]
        if not len(table):
            raise WmbenchError(
                f"there is no episode yet of the {self.horizon} actions that a window has: choose a shorter horizon, "
                "or more seed_steps, so that an episode is over before the first update"
            )
        chosen = table[generator.integers(len(table), size=batch)]  # (B, 3)
        first, steps, task = chosen.T
        return first + generator.integers(steps - self.horizon + 1), task

    def sample(
        self, batch: int, generator: np.random.Generator, *, tasks: bool = False, only: int | None = None
    ) -> Batch:
        """Draw ``batch`` windows with replacement; ``tasks``: with their tasks; ``only``: of that task."""
        start, task = self.places(batch, generator, only)
        rows = torch.from_numpy(start + np.arange(self.horizon + 1)[:, None])  # (H + 1, B)
        rows = sent(rows, self._rows["observation"].device)
        observation = sent(self._rows["observation"][rows], self.device)
        taken = {k: sent(self._rows[k][rows[:-1]], self.device) for k in ("action", "reward", "terminated", "success")}
        return Batch(observation, **taken, task=sent(torch.from_numpy(task), self.device) if tasks else None)

    def column(self, name: str, task: int = 0) -> torch.Tensor:
        """Everything held of one field and one task, episode after episode."""
        held = self._rows[name]
        extra = int(name == "observation")
        return torch.cat([held[first : first + steps + extra] for first, steps, own in self._episodes if own == task])

    def _hold(self, episode: Episode) -> None:
        """Write an episode's T + 1 rows behind the newest, or at the begin of the ring if the rest is too short."""
        steps = len(episode.action)
        size = steps + 1  # the last observation has a row of its own, with nothing beside it
        if size > self.capacity + 1:
            raise WmbenchError(
                f"an episode of {steps} steps does not fit into a replay of {self.capacity}: raise capacity"
            )
        first = 0
        if self._episodes:
            last, length, _ = self._episodes[-1]
            first = last + length + 1
            if first + size > self.capacity + 1:
                first = 0
        self._episodes = [e for e in self._episodes if e[0] + e[1] < first or e[0] >= first + size]
        if not self._rows:
            self._home = self._roomy(sum(value.nbytes for value in _arrays(episode).values()) / size)
        self._grow(first + size, episode)
        for name, value in _arrays(episode).items():
            if name != "task":
                self._rows[name][first : first + len(value)] = torch.from_numpy(np.ascontiguousarray(value))
        self._episodes.append((first, steps, episode.task))
        fit = [e for e in self._episodes if e[1] >= self.horizon]
        self._table = np.array(fit, np.int64).reshape(-1, 3)

    def _grow(self, size: int, episode: Episode) -> None:
        """Make room for ``size`` rows, twice as many as there are now if any are lacking."""
        for name, value in _arrays(episode).items():
            if name == "task":
                continue
            held = self._rows.get(name)
            if held is not None and len(held) >= size:
                continue
            room = min(max(size, 2 * len(held) if held is not None else size), max(self.capacity + 1, size))
            kind = torch.from_numpy(value[:0]).dtype
            grown = torch.zeros((room, *value.shape[1:]), dtype=kind, device=self._home)
            if held is not None:
                grown[: len(held)] = held
            self._rows[name] = grown

    def _roomy(self, row: float) -> str:
        """Where all rows are held, of so many bytes each: by the batches, but not if a GPU has too little free memory.

        As published, two fifths of it may be taken.
        """
        if torch.device(self.device).type != "cuda":
            return self.device
        free, _ = torch.cuda.mem_get_info(self.device)
        return self.device if 2.5 * self.capacity * row < free else "cpu"

    def _file(self, i: int) -> Path:
        assert self.folder is not None, "this replay keeps no files"
        return self.folder / f"episode-{i:06d}.safetensors"


def sent(x: torch.Tensor, device: torch.device | str) -> torch.Tensor:
    """A tensor on a device; on its way to a GPU nobody waits for it."""
    there = torch.device(device)
    if there.type == "cuda" and x.is_cpu:
        return x.pin_memory().to(there, non_blocking=True)
    return x.to(there)


def _arrays(episode: Episode) -> dict[str, np.ndarray]:
    """An episode's fields as arrays."""
    return {k: np.asarray(v) for k, v in episode._asdict().items()}
