"""Four signals of uncertainty that cost nothing to have, and that a model's own should beat."""

from __future__ import annotations

import numpy as np
import torch

from wmbench.episodes import Dataset
from wmbench.recording.subjects import change

STATES = 5000
MEMBERS = 5
CHUNK = 1000


class Trivial:
    """Four signals that need no model of one's own uncertainty; a model's should know more than they do."""

    def __init__(self, dataset: Dataset, seed: int = 0) -> None:
        """Fit to the train split."""
        self._task = dataset.task
        self._delta = _inverse(dataset.stats["delta"]["std"])
        std = dataset.stats["observation"]["std"]
        self._angle = np.array([d.kind == "angle" for d in dataset.task.observation])
        self._scale = _inverse(std)
        steps = dataset.transitions("train", 4 * STATES, seed)
        rng = np.random.default_rng(seed)
        keep = rng.permutation(len(steps["reward"]))[:STATES]
        self._states = torch.from_numpy(self._embed(steps["observation"][keep]))
        self._weights = self._linear(steps, rng)

    def _embed(self, observation: np.ndarray) -> np.ndarray:
        """Observations in train standard deviations, angles as points on a circle: (N, O) to (N, O + angles)."""
        x = observation.astype(np.float64)
        turned = x[:, self._angle]
        plain = np.where(self._angle, np.sin(x), x) * self._scale
        return np.concatenate([plain, np.cos(turned) * self._scale[self._angle]], axis=1)

    def _linear(self, steps: dict[str, np.ndarray], rng: np.random.Generator) -> np.ndarray:
        """Ridge regressions of the change on resampled episodes: (members, O + A + 1, O)."""
        inputs = self._inputs(steps["observation"], steps["action"])
        delta = change(self._task, steps["next_observation"], steps["observation"]) * self._delta
        episodes, cluster = np.unique(steps["episode"], return_inverse=True)
        fits = []
        for _ in range(MEMBERS):
            weight = rng.multinomial(len(episodes), np.full(len(episodes), 1 / len(episodes)))[cluster]
            weighted = inputs * weight[:, None]
            gram = weighted.T @ inputs + 1e-6 * weight.sum() * np.eye(inputs.shape[1])
            fits.append(np.linalg.solve(gram, weighted.T @ delta))
        return np.stack(fits)

    def _inputs(self, observation: np.ndarray, action: np.ndarray) -> np.ndarray:
        low, high = self._task.action_bounds()
        relative = (action - low) / (high - low)
        return np.concatenate([observation * self._scale, relative, np.ones((len(action), 1))], axis=1)

    def __call__(self, observation: np.ndarray, action: np.ndarray, prediction: np.ndarray) -> dict[str, np.ndarray]:
        """All four for N steps; NaN where the state is not finite.

        Args:
            observation: (N, O) before the step.
            action: (N, A).
            prediction: (N, O) after it.

        Returns:
            Name to (N,) float64.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            motion = np.linalg.norm(change(self._task, prediction, observation) * self._delta, axis=1)
            embedded = torch.from_numpy(self._embed(observation))
            fits = self._inputs(observation, action) @ self._weights  # (members, N, O)
            spread = np.sqrt(fits.var(0).mean(1))
        parts = [torch.cdist(part, self._states).amin(1) for part in embedded.split(CHUNK)]
        nearest = torch.cat(parts).numpy()
        lost = ~np.isfinite(observation).all(1)
        values = {"constant": np.ones(len(action)), "motion": motion, "nearest": nearest, "linear-spread": spread}
        return {name: np.where(lost, np.nan, value) for name, value in values.items()}


def _inverse(std: np.ndarray) -> np.ndarray:
    """1 / std, and 0 for a dimension that does not vary."""
    return np.divide(1.0, std, out=np.zeros_like(std), where=std > 1e-8)
