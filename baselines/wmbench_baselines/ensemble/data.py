"""Recorded transitions as the ensemble's networks see them: targets, normalisers, masks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from wmbench.episodes.statistics import difference

if TYPE_CHECKING:
    from wmbench_baselines.ensemble.model import Ensemble

FLAT = 1e-6
"""A dimension whose standard deviation is below this fraction of its largest magnitude is constant but for rounding."""


@dataclass
class Transitions:
    """Rows as the networks see them.

    Attributes:
        x: (..., I), normalised observation and action.
        y: (..., D), normalised targets.
        reached: (..., F), normalised features of the next observation; (..., 0) where no network reads them.
        flags: for each of :attr:`Ensemble.flags` (...), 1 where it happened there, else 0.
    """

    x: torch.Tensor
    y: torch.Tensor
    reached: torch.Tensor
    flags: dict[str, torch.Tensor]

    @classmethod
    def of(cls, model: Ensemble, data: dict[str, np.ndarray]) -> Transitions:
        """Recorded transitions as what the networks see."""
        device = model.target_mean.device
        observation, action, reached = (
            torch.from_numpy(data[k]).to(device) for k in ("observation", "action", "next_observation")
        )
        raw = torch.from_numpy(targets(model, data)).to(device)
        scale = model.target_scale
        y = torch.where(scale > 0, (raw - model.target_mean) / torch.where(scale > 0, scale, 1.0), 0.0)
        return cls(
            x=model.normalise(observation, action),
            y=y.float(),
            reached=model.normalise_reached(reached) if model.flags else reached[:, :0],
            flags={name: torch.from_numpy(data[name]).to(device).float() for name in model.flags},
        )

    def take(self, rows: torch.Tensor) -> Transitions:
        """The given rows."""
        flags = {name: flag[rows] for name, flag in self.flags.items()}
        return Transitions(self.x[rows], self.y[rows], self.reached[rows], flags)

    def split(self, size: int) -> Iterator[Transitions]:
        """Parts of at most ``size`` rows."""
        for start in range(0, len(self.x), size):
            yield self.take(torch.arange(start, min(start + size, len(self.x)), device=self.x.device))


def targets(model: Ensemble, data: dict[str, np.ndarray]) -> np.ndarray:
    """What the networks are to predict, before normalisation: change of the observation, then reward; (N, D) float64.

    Changes of angles are wrapped to [-pi, pi].
    """
    change = difference(data["next_observation"], data["observation"], model.task.observation)
    return np.concatenate([change, data["reward"][:, None]], 1)


def fit_normalisers(model: Ensemble, data: dict[str, np.ndarray]) -> None:
    """Means and standard deviations of inputs and targets; dimensions that do not vary are scaled by zero."""
    features = model.features(torch.from_numpy(data["observation"]).to(model.angles.device)).cpu().numpy()
    inputs = np.concatenate([features, data["action"]], 1).astype(np.float64)
    outputs = targets(model, data)
    scale_in, scale_out = _scale(inputs), _scale(outputs)
    inverse = np.divide(1.0, scale_in, out=np.zeros_like(scale_in), where=scale_in > 0)
    for buffer, value in (
        (model.input_mean, inputs.mean(0)),
        (model.input_scale, inverse),
        (model.target_mean, outputs.mean(0)),
        (model.target_scale, scale_out),
    ):
        buffer.copy_(torch.from_numpy(value))


def _scale(values: np.ndarray) -> np.ndarray:
    """Standard deviation of every column of (N, D), zero for those that are constant but for rounding."""
    std = values.std(0)
    return np.where(std > np.maximum(FLAT * np.abs(values).max(0), 1e-12), std, 0.0)
