"""Behaviour cloning: a multilayer perceptron that repeats the actions of recorded episodes."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from wmbench.cards import TaskCard
from wmbench.errors import DatasetError
from wmbench_baselines.bc_run import Run
from wmbench_baselines.networks import Activation, SquashedMLP, check_network


@dataclass(frozen=True)
class BCConfig:
    """Network, optimiser and choice of demonstrations.

    Attributes:
        hidden: Widths of the hidden layers.
        activation: Between the layers.
        learning_rate: Of AdamW.
        weight_decay: Of AdamW, on every parameter.
        batch_size: Transitions per update.
        epochs: Passes over the train split at most.
        patience: Stop after this many epochs without a lower validation loss.
        sources: Only episodes whose source begins with one of these; empty takes all.
        min_return: Only episodes with at least this undiscounted return; None takes all.
    """

    hidden: tuple[int, ...] = (256, 256)
    activation: Activation = "relu"
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    batch_size: int = 256
    epochs: int = 200
    patience: int = 20
    sources: tuple[str, ...] = ()
    min_return: float | None = None

    def __post_init__(self) -> None:
        """Refuse settings that cannot train."""
        check_network(self.hidden, self.activation)
        for name in ("learning_rate", "batch_size", "epochs", "patience"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if self.weight_decay < 0:
            raise ValueError(f"weight_decay must not be negative, got {self.weight_decay}")


QUICK = BCConfig(epochs=60, batch_size=256, learning_rate=2e-3)
"""Five seconds on one core for 15,000 transitions."""


class BehaviourCloning(SquashedMLP):
    """Imitates by regression: mean squared error on actions, in units of half the action range.

    Observations are normalised per dimension with the statistics of the chosen train transitions.
    """

    Config = BCConfig
    PRESETS: ClassVar = {"quick": QUICK}

    def __init__(self, config: BCConfig, task: TaskCard) -> None:
        """Build the untrained network for a task; see :class:`SquashedMLP`."""
        super().__init__(config, task)
        self.card: dict[str, Any] = {
            "name": "bc",
            "inputs": "the flat state observation, normalised per dimension",
            "consumer": "a cheap imitator of the demonstrations it was given",
            "risk": "small errors lead to states that the demonstrations never visited, where it errs more; "
            "averages demonstrations that disagree",
        }

    @classmethod
    def fit(
        cls,
        config: BCConfig,
        dataset: Any,
        *,
        folder: Path,
        seed: int = 0,
        device: str = "cpu",
        progress: bool = True,
    ) -> BehaviourCloning:
        """Clone the chosen episodes of a dataset, resuming from ``folder`` if a run was interrupted there.

        The weights of the epoch with the lowest validation loss are kept; with no validation episode
        among the chosen ones there is no early stopping, and the last epoch's are. Deterministic on the
        CPU given the seed and the number of threads, whether interrupted or not.

        Args:
            config: See :class:`BCConfig`.
            dataset: A :class:`wmbench.episodes.Dataset`.
            folder: For ``log.jsonl`` (one object per epoch) and the state of an unfinished run.
            seed: Of the initial weights and the order of the batches.
            device: Torch device.
            progress: Whether to show a progress line.

        Returns:
            The trained policy, in evaluation mode.

        Raises:
            DatasetError: No train episode is chosen, or ``folder`` holds a run of other settings or data.
            WmbenchError: The loss is no longer finite.
        """
        train = select(dataset, "train", config)
        validation = select(dataset, "val", config)
        if not len(train["observation"]):
            raise DatasetError(_nothing_chosen(dataset, config))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = cls(config, dataset.task)
        first = train["observation"].astype(np.float64)
        model.normaliser.fit(first.mean(0), first.std(0))
        model.to(device)
        identity = json.dumps([dataclasses.asdict(config), dataset.digest, seed], sort_keys=True)
        run = Run(model, folder, seed=seed, identity=hashlib.sha256(identity.encode()).hexdigest())
        run.train(train, validation, progress=progress)
        model.card |= {
            "trained_on": dataset.digest,
            "episodes": train["episodes"],
            "transitions": len(train["observation"]),
            "epochs": run.epoch,
            "best_epoch": run.best_epoch,
            "validation_loss": run.best if math.isfinite(run.best) else None,
        }
        return model.eval()


def select(dataset: Any, split: str, config: BCConfig) -> dict[str, Any]:
    """The transitions of a split's episodes that the configuration chooses.

    Returns:
        ``observation`` (N, O) float32, ``action`` (N, A) float32, and the number of ``episodes``.
    """
    observations = [np.empty((0, len(dataset.task.observation)), np.float32)]
    actions = [np.empty((0, len(dataset.task.action)), np.float32)]
    for index in dataset.episodes(split):
        episode = dataset.episode(int(index))
        if config.sources and not episode.source.startswith(config.sources):
            continue
        if config.min_return is not None and not float(episode.reward.sum()) >= config.min_return:
            continue
        observations.append(episode.observation[:-1])
        actions.append(episode.action)
    return {
        "observation": np.concatenate(observations),
        "action": np.concatenate(actions),
        "episodes": len(actions) - 1,
    }


def _nothing_chosen(dataset: Any, config: BCConfig) -> str:
    """Say which episodes there are and which were asked for."""
    episodes = [dataset.episode(int(i)) for i in dataset.episodes("train")]
    if not episodes:
        return f"the dataset of {dataset.task.id} has no train episodes to clone: collect more"
    sources = sorted({e.source for e in episodes})
    best = max(float(e.reward.sum()) for e in episodes)
    return (
        f"no train episode of {dataset.task.id} fits sources={list(config.sources)} and "
        f"min_return={config.min_return}: there are {len(episodes)}, from {sources}, the best with return {best:g}"
    )
