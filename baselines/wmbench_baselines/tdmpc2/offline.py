"""Offline training of TD-MPC2 from datasets: of one task, or of several with one model."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from wmbench.errors import DatasetError, WmbenchError
from wmbench.progress import progress as progress_line
from wmbench_baselines.tdmpc2 import run as shared
from wmbench_baselines.tdmpc2.act import from_box
from wmbench_baselines.tdmpc2.config import TDMPC2Config
from wmbench_baselines.tdmpc2.model import LatentModel
from wmbench_baselines.tdmpc2.replay import Episode, Replay
from wmbench_baselines.tdmpc2.run import Run, entropy

LOG_UPDATES = 1000
"""Updates between two lines of the log."""


class OfflineTraining(Run):
    """One run of one model on what datasets hold; tasks that differ in size are filled up with zeros."""

    def __init__(
        self, config: TDMPC2Config, datasets: Sequence[Any], *, folder: Path, seed: int, device: str = "cpu"
    ) -> None:
        """Read the train splits.

        Args:
            config: Settings.
            datasets: One for each task, in the order of the tasks' numbers.
            folder: Where the run keeps its state and its log.
            seed: Of everything random.
            device: Torch device.

        Raises:
            DatasetError: Two are of the same task, or one has no episode in its train split.
            WmbenchError: The settings are of a model of images.
        """
        if config.observation != "state":
            raise WmbenchError("tdmpc2 learns from pictures online only: leave the dataset out, or observation='state'")
        self.tasks = [data.task for data in datasets]
        if len({card.id for card in self.tasks}) < len(datasets):
            raise DatasetError("give one dataset per task: merge those of the same task first")
        width = max(len(card.observation) for card in self.tasks)
        actions = [len(card.action) for card in self.tasks]
        episodic = any(card.terminates for card in self.tasks)
        model = LatentModel(config, width, actions, episodic=episodic, seed=entropy(seed, 0))
        discount = torch.tensor([config.discount(card.horizon) for card in self.tasks])
        steps = 0
        episodes: list[Episode] = []
        for number, data in enumerate(datasets):
            low, high = data.task.action_bounds()
            for i in data.episodes("train"):
                found = data.episode(int(i))
                columns = [np.asarray(getattr(found, k), np.float32) for k in ("reward", "terminated", "success")]
                acted = widened(from_box(np.asarray(found.action, np.float32), low, high), max(actions))
                seen = widened(np.asarray(found.observation, np.float32), width)
                episodes.append(Episode(seen, acted, columns[0], columns[1], columns[2], number))
                steps += len(acted) + 1
            if not len(data.episodes("train")):
                raise DatasetError(f"the train split of this dataset of {data.task.id} is empty; collect more episodes")
        replay = Replay(steps, config.horizon, device=device)
        for episode in episodes:
            replay.add(episode)
        about = [[card.id for card in self.tasks], [data.digest for data in datasets]]
        discount = discount if len(datasets) > 1 else discount[0]
        super().__init__(model, discount, replay, about=about, folder=folder, seed=seed, device=device)

    def settings(self) -> TDMPC2Config:
        """The settings with the tasks filled in, if there are several."""
        if len(self.tasks) == 1:
            return self.config
        named = tuple((c.id, len(c.observation), len(c.action), c.terminates) for c in self.tasks)
        return dataclasses.replace(self.config, tasks=named)

    def run(self, *, progress: bool = True) -> None:
        """Train to the end, from where the folder's run was saved last."""
        self.restore()
        began, before, saved = time.monotonic(), self.facts["seconds"], time.monotonic()
        total, done = self.config.updates, self.facts["updates"]
        with progress_line("tdmpc2 offline", total, show=progress, done=done) as advance:
            while self.facts["updates"] < total:
                self.update()
                advance(1)
                over = self.facts["updates"] >= total
                self.facts["seconds"] = before + time.monotonic() - began
                if over or self.facts["updates"] % LOG_UPDATES == 0:
                    measured = self.measured()
                    self.log({"kind": "updates", "updates": self.facts["updates"], **measured})
                    advance(0, f"loss {measured['loss']:.4f}")
                if over or time.monotonic() - saved > shared.SAVE_SECONDS:
                    self.save()
                    saved = time.monotonic()


def widened(x: np.ndarray, width: int) -> np.ndarray:
    """Rows (T, D) filled up with zeros to (T, width)."""
    return np.pad(x, ((0, 0), (0, width - x.shape[1])))
