"""Writes datasets so that a kill at any moment leaves every committed episode readable."""

from __future__ import annotations

import dataclasses
import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal

import numpy as np

from wmbench.cards import TaskCard
from wmbench.episodes.data import CORE, SPLITS, EpisodeData, check_episode, check_fractions, split_of
from wmbench.episodes.dataset import Dataset
from wmbench.episodes.starts import Starts
from wmbench.episodes.statistics import Normalisation
from wmbench.episodes.storage import FORMAT, INDEX, INDEX_DTYPE, MANIFEST, clean, write_shard
from wmbench.errors import DatasetError
from wmbench.files import write_json
from wmbench.provenance import provenance

SHARD_BYTES = 2**26
"""A shard is full once it holds this many bytes of arrays; the episode that fills it is its last."""


class DatasetWriter:
    """Appends episodes to a dataset folder, new or existing.

    The bytes on disk depend on the episodes and their order only, not on when they were committed, nor on
    how often the writer was killed in between. One process writes at a time.

    Use it as a context manager; leaving it commits whatever was added.

    Attributes:
        starts: Where the episodes begin, by split.
        recipe: Plain data about how the mixture was met, for the manifest; set it before the episode that changes it.
    """

    def __init__(
        self,
        folder: Path | str,
        task: TaskCard,
        *,
        split: Sequence[float] = (0.8, 0.1, 0.1),
        plan: Mapping[str, Any] | None = None,
        shard_bytes: int = SHARD_BYTES,
        facts: Mapping[str, Any] | None = None,
        generators: Sequence[Mapping[str, Any]] = (),
        split_within: Literal["source", "dataset"] = "source",
    ) -> None:
        """Open a folder for writing, removing what a killed writer left.

        Args:
            folder: Created if absent.
            task: Card of the task that the episodes come from.
            split: Shares of train, val and test, by episode. Statistics are of the train split, or of everything
                where that has no share.
            plan: Plain data on how the episodes are made; an existing dataset must have the same.
            shard_bytes: Size at which a shard is full.
            facts: Further entries of the manifest, plain data; an existing dataset must have the same.
            generators: Code that made the episodes elsewhere, as another manifest lists it; new datasets only.
            split_within: Whether the shares hold within each source, or over the episodes in their order.

        Raises:
            DatasetError: The folder holds something else, or a dataset of another task, plan, split or shard
                size, or another process is writing to it.
        """
        self.folder = Path(folder)
        self.task = task
        self.split = check_fractions(split)
        self.plan = None if plan is None else json.loads(json.dumps(plan))  # as it will be read back
        self.shard_bytes = shard_bytes
        self.facts: dict[str, Any] = json.loads(json.dumps(facts or {}))
        self.split_within = split_within
        self.starts = Starts()
        self.recipe: dict[str, Any] | None = None
        self._shards: list[str] = []
        self._files: dict[str, dict[str, Any]] = {}
        self._fields: dict[str, dict[str, Any]] = {}
        self._generators: list[dict[str, Any]] = [dict(generator) for generator in generators]
        self._counts: Counter[tuple[str, str]] = Counter()
        self._steps: Counter[tuple[str, str]] = Counter()
        self._statistics = Normalisation(task)
        self._pending: list[tuple[dict[str, np.ndarray], tuple[Any, ...]]] = []
        self._pending_bytes = 0
        self._committed = 0
        self._full = 0
        self._lock = self._acquire()
        try:
            self._open()
        except BaseException:
            self._lock.close()
            raise

    def __len__(self) -> int:
        """Episodes added so far, those of earlier writers included."""
        return sum(self._counts.values())

    def count(self, source: str) -> int:
        """Episodes of one source added so far."""
        return sum(n for (name, _), n in self._counts.items() if name == source)

    def next_split(self, source: str) -> str:
        """The split that the next episode of a source will belong to."""
        return split_of(self.count(source) if self.split_within == "source" else len(self), self.split)

    def add(self, episode: EpisodeData, *, split: str | None = None) -> str:
        """Append one episode; it is on disk after the next commit.

        Args:
            episode: Valid, with at least one step and finite numbers.
            split: Where it belongs; None continues the source's own pattern.

        Returns:
            The split it was given.

        Raises:
            DatasetError: It cannot be stored, or its fields differ from those of the episodes before it.
        """
        arrays = check_episode(episode, self.task)
        fields = {name: _field(name, array, len(episode)) for name, array in arrays.items()}
        if self._fields and fields != self._fields:
            differing = sorted(name for name in {*fields, *self._fields} if fields.get(name) != self._fields.get(name))
            raise DatasetError(f"{self.folder}: the fields {differing} differ from those of the episodes before")
        self._fields = fields
        split = self.next_split(episode.source) if split is None else split
        if split not in SPLITS:
            raise DatasetError(f"{self.folder}: no split is called {split!r}; there are {', '.join(SPLITS)}")
        row = (len(episode), episode.seed, episode.source, split, episode.succeeded(self.task), episode.total_reward)
        self._count(arrays, row)
        self._queue(arrays, row)
        if self._pending_bytes >= self.shard_bytes:
            self.commit()
            self._pending, self._pending_bytes, self._full = [], 0, len(self._shards)
        return split

    def commit(self) -> None:
        """Put everything added so far on disk; cheap if nothing is new."""
        if len(self) == self._committed:
            return
        obsolete = self._shards[self._full :]
        name = f"shard-{self._full:05d}-{len(self._pending):05d}"
        arrays = {field: np.concatenate([a[field] for a, _ in self._pending]) for field in self._fields}
        index = np.zeros(len(self._pending), dtype=INDEX_DTYPE)
        for i, (_, row) in enumerate(self._pending):
            index[i] = (0, *row)
        index["start"] = np.cumsum(index["length"]) - index["length"]
        files = write_shard(self.folder, name, {**arrays, INDEX: index})
        self._files = {k: v for k, v in self._files.items() if k.split("/")[0] not in obsolete} | files
        self._shards = [*self._shards[: self._full], name]
        write_json(self.folder / MANIFEST, self._manifest())
        self._committed = len(self)
        clean(self.folder, self._shards)

    def close(self) -> None:
        """Commit and let other writers in. A second call does nothing."""
        if self._lock.closed:
            return
        try:
            self.commit()
        finally:
            self._lock.close()

    def __enter__(self) -> DatasetWriter:
        """Nothing more to open."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Commit, also after an error elsewhere: what was added is whole."""
        self.close()

    def _acquire(self) -> IO[bytes]:
        """Lock the folder; the lock goes with the process, however that ends."""
        if self.folder.exists() and not self.folder.is_dir():
            raise DatasetError(f"{self.folder} is a file: choose a new folder")
        self.folder.mkdir(parents=True, exist_ok=True)
        if not (self.folder / MANIFEST).exists():  # a writer that never committed may have left its first shard
            strangers = [p.name for p in self.folder.iterdir() if not p.name.startswith((".", "shard-00000-"))]
            if strangers:
                raise DatasetError(
                    f"{self.folder} holds {min(strangers)} but no {MANIFEST}: choose a new folder, or restore the file"
                )
        lock = (self.folder / ".lock").open("wb")
        if os.name == "posix":
            import fcntl

            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                lock.close()
                raise DatasetError(f"{self.folder}: another process is writing to it; wait for it to end") from None
        return lock

    def _open(self) -> None:
        """Continue where the last committed shard ends."""
        if not (self.folder / MANIFEST).exists():
            clean(self.folder, [])
            return
        dataset = Dataset(self.folder, task=self.task)
        manifest = dataset.manifest
        wanted = {"split": list(self.split), "plan": self.plan, "shard_bytes": self.shard_bytes, **self.facts}
        wanted["split_within"] = self.split_within
        for key in ("view", "world"):
            wanted.setdefault(key, None)
        for key, value in wanted.items():
            if (was := manifest.get(key, "source" if key == "split_within" else None)) != value:
                raise DatasetError(
                    f"{self.folder} was made with {_difference(key, was, value)}: "
                    "choose a new folder, or the same settings"
                )
        self._shards, self._files = list(manifest["shards"]), dict(manifest["files"])
        self._fields, self._generators = manifest["fields"], manifest["generators"]
        self.recipe = manifest.get("recipe")
        clean(self.folder, self._shards)
        last = len(self._shards) - 1
        for i in range(len(dataset)):
            arrays = dataset.arrays(i)
            entry = dataset.index[i]
            row = tuple(entry[name].item() for name in INDEX_DTYPE.names or () if name != "start")
            self._count(arrays, row)
            if dataset.shard_of[i] == last:
                self._queue({k: v.copy() for k, v in arrays.items()}, row)
        self._full = last
        if self._pending_bytes >= self.shard_bytes:
            self._pending, self._pending_bytes, self._full = [], 0, len(self._shards)
        self._committed = len(self)

    def _queue(self, arrays: dict[str, np.ndarray], row: tuple[Any, ...]) -> None:
        self._pending.append((arrays, row))
        self._pending_bytes += sum(a.nbytes for a in arrays.values())

    def _count(self, arrays: dict[str, np.ndarray], row: tuple[Any, ...]) -> None:
        length, _, source, split, _, _ = row
        self._counts[source, split] += 1
        self._steps[source, split] += length
        self.starts.add(arrays["observation"], arrays.get("state"), split)
        if split == "train" or self.split[0] == 0:
            self._statistics.add(arrays)

    def _manifest(self) -> dict[str, Any]:
        counts = {
            by: {
                name: {
                    "episodes": sum(n for key, n in self._counts.items() if key[position] == name),
                    "steps": sum(n for key, n in self._steps.items() if key[position] == name),
                }
                for name in dict.fromkeys(key[position] for key in self._counts)
            }
            for position, by in enumerate(("source", "split"))
        }
        generator = _generator()
        return {
            "format": FORMAT,
            "task": self.task.to_json(),
            "task_digest": self.task.digest(),
            "control_hz": self.task.control_hz,
            "action_convention": self.task.action_convention,
            "action": [dataclasses.asdict(d) for d in self.task.action],
            "observation": [dataclasses.asdict(d) for d in self.task.observation],
            "episodes": len(self),
            "steps": sum(self._steps.values()),
            "counts": counts,
            "split": list(self.split),
            "split_within": self.split_within,
            "plan": self.plan,
            "recipe": self.recipe,
            "starts": self.starts.to_json(),
            "shard_bytes": self.shard_bytes,
            "fields": self._fields,
            "stats": self._statistics.to_json(),
            "shards": self._shards,
            "files": self._files,
            "generators": [*(g for g in self._generators if g != generator), generator],
            **self.facts,
        }


def _field(name: str, array: np.ndarray, steps: int) -> dict[str, Any]:
    """How a field is stored: dtype, shape of a row, and whether rows belong to states or to steps."""
    per = "step" if (name in CORE and name != "observation") or len(array) == steps else "state"
    return {"dtype": array.dtype.name, "shape": list(array.shape[1:]), "per": per}


def _difference(key: str, was: Any, asked: Any) -> str:
    """What differs, field by field where both are objects."""
    if key not in ("view", "world") or not (isinstance(was, dict) and isinstance(asked, dict)):
        return f"{key} {was}, asked for {asked}"
    names = sorted(name for name in {*was, *asked} if was.get(name) != asked.get(name))
    return "; ".join(f"{key}.{name} {was.get(name)}, asked for {asked.get(name)}" for name in names)


def _generator() -> dict[str, Any]:
    """The running code: versions, and the commit of its clone, or None and why."""
    known = provenance()
    reason = None if known["commit"] else "not run from a git clone of wmbench"
    return {key: known[key] for key in ("versions", "commit", "dirty")} | {"commit_missing": reason}
