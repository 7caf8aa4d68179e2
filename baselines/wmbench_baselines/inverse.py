"""A small ensemble that reads the action off two consecutive true observations: the reference inverse model."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from wmbench.cards import TaskCard
from wmbench.episodes.statistics import difference
from wmbench.errors import WmbenchError
from wmbench.progress import progress as progress_line
from wmbench_baselines.ensemble.networks import Members

LOG = "log.jsonl"
LIMIT = 20.0
"""Inputs further from their mean than so many standard deviations are read as being there."""
FLAT = 1e-6
"""A column whose deviation is below this fraction of its largest magnitude is constant but for rounding: not read."""
EPOCHS = 20
"""How often training looks at the val split and writes to its log."""
CHUNK = 4096


@dataclass(frozen=True)
class InverseConfig:
    """Networks and training.

    Attributes:
        members: How many networks; how far they disagree tells where none of them knows.
        hidden: Widths of the hidden layers.
        learning_rate: Of Adam at the start; it falls to zero along half a cosine.
        batch_size: Transitions per update and network.
        updates: Gradient steps.
        limit: At most so many train transitions.
    """

    members: int = 3
    hidden: tuple[int, ...] = (64, 64)
    learning_rate: float = 3e-3
    batch_size: int = 256
    updates: int = 5000
    limit: int = 100_000

    def __post_init__(self) -> None:
        """Refuse settings that cannot train, or that leave nothing to disagree."""
        if self.members < 2:
            raise ValueError(f"an inverse model needs two members or more to disagree, got {self.members}")
        for name in ("learning_rate", "batch_size", "updates", "limit"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if not self.hidden or min(self.hidden) < 1:
            raise ValueError(f"hidden widths must be positive, got {self.hidden}")


QUICK = InverseConfig(updates=1500)
"""A few seconds on one core."""


class InverseModel(nn.Module):
    """Recovers the action that led from one observation to the next, from what true transitions have taught it.

    Each member maps the normalised observation (angles as sine and cosine) and the normalised change to the action in
    half widths of its box, by least squares; members differ in their initial weights and in the order of the data.
    Actions are put inside the box afterwards. An inverse model answers any pair of observations, possible or not: what
    it says of impossible ones is worth as little as its members agree.
    """

    Config = InverseConfig
    PRESETS: ClassVar = {"quick": QUICK}

    low: torch.Tensor
    high: torch.Tensor
    mean: torch.Tensor
    inverse_scale: torch.Tensor

    def __init__(self, config: InverseConfig, task: TaskCard) -> None:
        """Build the networks with zeros for weights, and a normaliser that changes nothing."""
        super().__init__()
        self.config, self.task = config, task
        self._angles = [i for i, d in enumerate(task.observation) if d.kind == "angle"]
        size = 2 * len(task.observation) + len(self._angles)
        self.networks = Members(config.members, (size, *config.hidden, len(task.action)))
        low, high = task.action_bounds()
        self.register_buffer("low", torch.from_numpy(low), persistent=False)
        self.register_buffer("high", torch.from_numpy(high), persistent=False)
        self.register_buffer("mean", torch.zeros(size, dtype=torch.float64))
        self.register_buffer("inverse_scale", torch.ones(size, dtype=torch.float64))
        self.card: dict[str, Any] = {
            "name": "inverse",
            "inputs": f"the observation and its change over one step; {config.members} networks",
            "consumer": "reading actions off imagined observations",
            "risk": "answers impossible pairs of observations as readily as possible ones: look at its disagreement",
        }

    @classmethod
    def fit(
        cls,
        config: InverseConfig,
        dataset: Any,
        *,
        folder: Path,
        seed: int = 0,
        device: str = "cpu",
        progress: bool = True,
    ) -> InverseModel:
        """Train on the train split of a dataset.

        Takes seconds, so an interrupted training starts afresh. Deterministic on the CPU given the seed and the number
        of threads.

        Args:
            config: See :class:`InverseConfig`.
            dataset: A :class:`wmbench.episodes.Dataset`.
            folder: For ``log.jsonl``.
            seed: Of the choice of transitions, the initial weights and the order of the data.
            device: Torch device.
            progress: Whether to show a progress line.

        Returns:
            The trained model, in evaluation mode.

        Raises:
            DatasetError: The train split is empty.
            WmbenchError: The loss is no longer finite.
        """
        return cls.fit_arrays(
            config,
            dataset.task,
            dataset.transitions("train", config.limit, seed),
            dataset.transitions("val", CHUNK, seed) if len(dataset.episodes("val")) else None,
            folder=folder,
            seed=seed,
            device=device,
            progress=progress,
        )

    @classmethod
    def fit_arrays(
        cls,
        config: InverseConfig,
        task: TaskCard,
        train: Mapping[str, np.ndarray],
        held_out: Mapping[str, np.ndarray] | None,
        *,
        folder: Path,
        seed: int = 0,
        device: str = "cpu",
        progress: bool = True,
    ) -> InverseModel:
        """Train on ``observation`` (N, O), ``action`` (N, A) and ``next_observation`` (N, O); see :meth:`fit`."""
        model = cls(config, task)
        inputs = model._inputs(train["observation"], train["next_observation"])
        mean, std = inputs.mean(0), inputs.std(0)
        varies = std > np.maximum(FLAT * np.abs(inputs).max(0), 1e-12)
        model.mean.copy_(torch.from_numpy(mean))
        model.inverse_scale.copy_(torch.from_numpy(np.divide(1.0, std, out=np.zeros_like(std), where=varies)))
        generator = torch.Generator().manual_seed(seed)
        model.networks.reset_parameters(generator)
        model.to(device)
        x, y = model._normalised(inputs), model._target(train["action"])
        optimiser = torch.optim.Adam(model.networks.parameters(), lr=config.learning_rate, fused=True)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, config.updates)
        folder.mkdir(parents=True, exist_ok=True)
        every = max(1, config.updates // EPOCHS)
        total = 0.0
        with (
            (folder / LOG).open("w") as log,
            progress_line("inverse model", config.updates, show=progress, done=0) as advance,
        ):
            for update in range(1, config.updates + 1):
                rows = torch.randint(len(x), (config.members, config.batch_size), generator=generator).to(device)
                loss = ((model.networks(x[rows]) - y[rows]) ** 2).mean((1, 2)).sum()
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                schedule.step()
                total += float(loss.detach()) / config.members
                if update % every == 0:
                    entry = {"updates": update, "loss": total / every, "val_loss": model._loss(held_out)}
                    if not math.isfinite(total):
                        raise WmbenchError(f"the inverse model diverged by update {update}: lower the learning rate")
                    log.write(json.dumps(entry) + "\n")
                    advance(every, f"loss {total / every:.4f}")
                    total = 0.0
        return model.eval()

    def recover(self, observation: np.ndarray, following: np.ndarray) -> np.ndarray:
        """What each member takes the action to have been.

        Args:
            observation: (B, O) float32, finite.
            following: (B, O) float32, finite, one control step later.

        Returns:
            (E, B, A) float32 inside the task's bounds.
        """
        x = self._normalised(self._inputs(observation, following))
        with torch.inference_mode():
            parts = [self.networks(rows[None]) for rows in x.split(CHUNK)]
        share = torch.cat(parts, 1) if parts else self.networks(x[None])
        action = self.low + 0.5 * (share + 1.0) * (self.high - self.low)
        return torch.minimum(torch.maximum(action, self.low), self.high).cpu().numpy()

    def _inputs(self, observation: np.ndarray, following: np.ndarray) -> np.ndarray:
        """Observation with angles as sine and cosine, then the change with angles wrapped: (B, I) float64."""
        now = observation.astype(np.float64)
        turn = now[:, self._angles]
        change = difference(following, now, self.task.observation)
        now[:, self._angles] = np.sin(turn)
        return np.concatenate([now, np.cos(turn), change], axis=1)

    def _normalised(self, inputs: np.ndarray) -> torch.Tensor:
        """(B, I) float32 on the model's device, at most :data:`LIMIT` deviations from the mean."""
        x = (torch.from_numpy(inputs).to(self.mean.device) - self.mean) * self.inverse_scale
        return x.clamp(-LIMIT, LIMIT).float()

    def _target(self, action: np.ndarray) -> torch.Tensor:
        """Actions (B, A) in half widths of their box, from its centre."""
        given = torch.from_numpy(action).to(self.low.device)
        return 2.0 * (given - self.low) / (self.high - self.low) - 1.0

    def _loss(self, data: Mapping[str, np.ndarray] | None) -> float | None:
        """Mean squared error of the members on held-out transitions, None without any."""
        if data is None:
            return None
        with torch.inference_mode():
            x = self._normalised(self._inputs(data["observation"], data["next_observation"]))
            return float(((self.networks(x[None]) - self._target(data["action"])) ** 2).mean())
