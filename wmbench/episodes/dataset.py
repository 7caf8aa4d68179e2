"""Reads datasets: episodes as memory-mapped views, transitions and windows as gathered arrays."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from wmbench.cards import TaskCard
from wmbench.episodes.data import CORE, SPLITS, EpisodeData
from wmbench.episodes.statistics import stats_from_json
from wmbench.episodes.storage import INDEX, INDEX_DTYPE, MANIFEST, digest, open_shard, read_manifest
from wmbench.episodes.windows import WindowSampler
from wmbench.errors import CardError, DatasetError, NotRegisteredError
from wmbench.registration import task_card
from wmbench.views import View


class Dataset:
    """A folder of recorded episodes. Opening maps the files and checks their sizes and shapes; it copies nothing.

    Attributes:
        folder: Where it lies.
        manifest: The parsed manifest.
        task: The task card it was recorded under.
        index: One row per episode: start, length, seed, source, split, success, return.
        shard_of: (N,) int, the shard that holds each episode.
        step_row: (N,) int, row of each episode's first step within its shard.
        state_row: (N,) int, row of each episode's first observation within its shard.
    """

    def __init__(self, folder: Path | str, verify: bool = False, *, task: TaskCard | None = None) -> None:
        """Open a dataset.

        Args:
            folder: As :class:`wmbench.episodes.DatasetWriter` wrote it.
            verify: Whether to read every file and compare its SHA-256.
            task: The task it is wanted for; None takes the installed card of the same id, if there is one.

        Raises:
            DatasetError: Unreadable, incomplete, corrupt, or recorded on a task that differs from the wanted one.
        """
        self.folder = Path(folder)
        self.manifest, self.shards = self._open(verify)
        self.task = self._card(task)
        parts = [shard[INDEX] for shard in self.shards]
        self.index = np.concatenate(parts) if parts else np.zeros(0, dtype=INDEX_DTYPE)
        self.shard_of = np.repeat(np.arange(len(parts)), [len(p) for p in parts])
        self.step_row = self.index["start"]
        self.state_row = self.step_row + np.concatenate([np.arange(len(p)) for p in parts] or [np.zeros(0, int)])
        if len(self.index) != self.manifest["episodes"] or not len(self.index):
            raise DatasetError(
                f"{self.folder / MANIFEST} counts {self.manifest['episodes']} episodes, the shards hold "
                f"{len(self.index)}: restore it from a copy, or collect the dataset again"
            )
        self.stats: dict[str, dict[str, np.ndarray]] = stats_from_json(self.manifest["stats"], self.folder / MANIFEST)
        """Field (observation, action, delta, reward) to mean, std, min and max of the train split, float64."""

    def __len__(self) -> int:
        """Number of episodes."""
        return len(self.index)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the task's digest and the hashes of all files, wherever the folder lies."""
        return digest(self.manifest)

    @property
    def fields(self) -> dict[str, dict[str, Any]]:
        """Stored fields: name to dtype, shape of one row, and ``per`` (``"step"`` or ``"state"``)."""
        return self.manifest["fields"]

    @property
    def view(self) -> View | None:
        """Which pictures are stored and how they were taken; None if there are none."""
        found = self.manifest.get("view")
        if found is None:
            return None
        return View.from_json({key: value for key, value in found.items() if key not in ("units", "action_repeat")})

    def episodes(self, split: str | None = None, *, source: str | None = None) -> np.ndarray:
        """Numbers of the episodes of a split and source, None meaning all; (N,) int, ascending.

        Raises:
            DatasetError: No such split or source.
        """
        keep = np.ones(len(self), dtype=bool)
        if split is not None:
            if split not in SPLITS:
                raise DatasetError(f"{self.folder}: no split is called {split!r}; there are {', '.join(SPLITS)}")
            keep &= self.index["split"] == split
        if source is not None:
            if source not in self.manifest["counts"]["source"]:
                known = ", ".join(self.manifest["counts"]["source"])
                raise DatasetError(f"{self.folder}: no source is called {source!r}; there are {known}")
            keep &= self.index["source"] == source
        return np.flatnonzero(keep)

    def arrays(self, episode: int) -> dict[str, np.ndarray]:
        """Every stored field of one episode, as read-only views of the files.

        Raises:
            DatasetError: No such episode.
        """
        if not 0 <= episode < len(self):
            raise DatasetError(f"{self.folder}: there is no episode {episode}, only 0 to {len(self) - 1}")
        shard = self.shards[self.shard_of[episode]]
        length = int(self.index["length"][episode])
        step, state = int(self.step_row[episode]), int(self.state_row[episode])
        return {
            name: shard[name][state : state + length + 1]
            if spec["per"] == "state"
            else shard[name][step : step + length]
            for name, spec in self.fields.items()
        }

    def episode(self, episode: int) -> EpisodeData:
        """One episode, its arrays read-only views of the files.

        Raises:
            DatasetError: No such episode.
        """
        arrays = self.arrays(episode)
        row = self.index[episode]
        return EpisodeData(
            observation=arrays["observation"],
            action=arrays["action"],
            reward=arrays["reward"],
            terminated=arrays["terminated"],
            truncated=arrays["truncated"],
            success=arrays["success"],
            state=arrays.get("state"),
            seed=int(row["seed"]),
            source=str(row["source"]),
            split=str(row["split"]),
            extra={name: array for name, array in arrays.items() if name not in CORE and name != "state"},
        )

    def world(self, episode: int) -> dict[str, float]:
        """The world that an episode took place in: perturbation to value; empty for a dataset of the nominal world.

        Raises:
            DatasetError: No such episode.
        """
        if "world" not in self.manifest:
            return {}
        values = self.arrays(episode)["world"][0].tolist()
        return dict(zip(self.manifest["world"]["names"], values, strict=True))

    def worlds(self, split: str | None = None) -> dict[str, np.ndarray]:
        """The worlds of a split's episodes, None for all: perturbation to (N,) values; empty for the nominal world."""
        rows = [self.world(int(episode)) for episode in self.episodes(split)]
        return {name: np.array([row[name] for row in rows]) for name in (rows[0] if rows else ())}

    def transitions(self, split: str | None = None, limit: int | None = None, seed: int = 0) -> dict[str, np.ndarray]:
        """Single steps of a split as plain arrays in memory, in the order of recording.

        Args:
            split: One of the splits, None for all.
            limit: At most this many, drawn without replacement.
            seed: Of that draw.

        Returns:
            observation (N, O), action (N, A), reward (N,), next_observation (N, O), terminated (N,),
            truncated (N,), success (N,), episode (N,) int, step (N,) int.

        Raises:
            DatasetError: The split is empty.
        """
        chosen = self.episodes(split)
        if not len(chosen):
            raise DatasetError(f"{self.folder}: the split {split!r} is empty; collect more episodes")
        lengths = self.index["length"][chosen]
        episode = np.repeat(chosen, lengths)  # (N,)
        step = np.arange(len(episode)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        if limit is not None and limit < len(episode):
            keep = np.sort(np.random.default_rng(seed).choice(len(episode), limit, replace=False))
            episode, step = episode[keep], step[keep]
        names = [name for name in CORE if name != "observation"]
        out = {name: self._gather(name, episode, step) for name in names}
        out["observation"] = self._gather("observation", episode, step)
        out["next_observation"] = self._gather("observation", episode, step + 1)
        return out | {"episode": episode, "step": step}

    def windows(
        self,
        split: str | None,
        length: int,
        *,
        batch_size: int,
        seed: int,
        fields: tuple[str, ...] = tuple(CORE),
        frame_stack: int = 1,
    ) -> WindowSampler:
        """A sampler of random windows of ``length`` steps that never cross an episode's end.

        Args:
            split: One of the splits, None for all.
            length: Steps T of each window.
            batch_size: Windows B per batch.
            seed: The same seed gives the same batches.
            fields: Which stored fields to gather, pictures (``"rgb"``...) among them if there are any.
            frame_stack: Pictures k of the last steps for each one of the window, along a new axis: (B, T + 1, k, H, W,
                C); 1: no such axis.

        Raises:
            DatasetError: No episode is long enough, or a field is not stored.
        """
        chosen = self.episodes(split)
        return WindowSampler(
            self, chosen, length, batch_size=batch_size, seed=seed, fields=fields, frame_stack=frame_stack
        )

    def _open(self, verify: bool) -> tuple[dict[str, Any], list[dict[str, np.ndarray]]]:
        """The manifest and the mapped shards; once more if a writer has replaced a shard in between."""
        manifest = read_manifest(self.folder)
        while True:
            try:
                return manifest, [open_shard(self.folder, n, manifest, verify=verify) for n in manifest["shards"]]
            except DatasetError:
                before, manifest = manifest, read_manifest(self.folder)
                if manifest["files"] == before["files"]:
                    raise

    def _gather(self, field: str, episode: np.ndarray, step: np.ndarray) -> np.ndarray:
        """Rows of a field by episode and step, shard by shard."""
        spec = self.fields[field]
        first = self.state_row if spec["per"] == "state" else self.step_row
        rows = first[episode] + step
        out = np.empty((len(rows), *spec["shape"]), dtype=spec["dtype"])
        shard_of = self.shard_of[episode]  # ascending, so each shard's rows are one slice of the result
        bounds = np.searchsorted(shard_of, np.arange(len(self.shards) + 1))
        for shard, start, stop in zip(self.shards, bounds[:-1], bounds[1:], strict=True):
            np.take(shard[field], rows[start:stop], axis=0, out=out[start:stop], mode="clip")
        return out

    def _card(self, wanted: TaskCard | None) -> TaskCard:
        """The card in the manifest, compared with the wanted or installed one."""
        path = self.folder / MANIFEST
        try:
            own = TaskCard.from_json(self.manifest["task"])
        except CardError as error:
            raise DatasetError(f"{path}: its task card is unreadable ({error}): collect the dataset again") from error
        if own.digest() != self.manifest["task_digest"]:
            raise DatasetError(f"{path}: the task card was edited; restore the file from a copy")
        if wanted is None:
            try:
                wanted = task_card(own.id).repeated(own.action_repeat)
            except NotRegisteredError:
                return own
        if wanted.id != own.id:
            raise DatasetError(f"{path}: recorded on {own.id}, wanted for {wanted.id}: choose another folder")
        if wanted.action_repeat != own.action_repeat:
            raise DatasetError(
                f"{path}: recorded on {own.id} at action_repeat={own.action_repeat}, wanted for "
                f"action_repeat={wanted.action_repeat}: choose another folder"
            )
        mine, theirs = own.behaviour(), wanted.behaviour()
        if changed := sorted(key for key in {*mine, *theirs} if mine.get(key) != theirs.get(key)):
            raise DatasetError(
                f"{path}: the card of {own.id} has changed since the recording ({', '.join(changed)}): "
                "collect the dataset again, or install the version of wmbench that made it"
            )
        return own
