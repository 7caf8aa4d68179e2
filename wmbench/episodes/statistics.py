"""Normalisation statistics, gathered episode by episode in one pass and in a fixed order."""

from __future__ import annotations

from typing import Any

import numpy as np

from wmbench.cards import Dimension, TaskCard
from wmbench.errors import DatasetError


def difference(after: np.ndarray, before: np.ndarray, dimensions: tuple[Dimension, ...]) -> np.ndarray:
    """``after - before`` in float64, with dimensions of kind ``"angle"`` wrapped to [-pi, pi].

    Args:
        after: (..., O).
        before: (..., O).
        dimensions: The O entries of the card's observation.

    Returns:
        (..., O) float64.
    """
    delta = after.astype(np.float64) - before
    angles = [i for i, d in enumerate(dimensions) if d.kind == "angle"]
    if angles:
        turn = 2 * np.pi
        delta[..., angles] -= turn * np.round(delta[..., angles] / turn)
    return delta


class Moments:
    """Mean, standard deviation and range of rows, merged pairwise (Chan, Golub and LeVeque 1979)."""

    def __init__(self) -> None:
        """Nothing seen yet."""
        self.count = 0
        self.mean: Any = 0.0
        self.squares: Any = 0.0
        self.low: Any = np.inf
        self.high: Any = -np.inf

    def add(self, rows: np.ndarray) -> None:
        """Take in (N, D) rows."""
        values = rows.astype(np.float64)
        n, mean = len(values), values.mean(0)
        squares = ((values - mean) ** 2).sum(0)
        total = self.count + n
        gap = mean - self.mean
        self.squares = self.squares + squares + gap * gap * (self.count * n / total)
        self.mean = self.mean + gap * (n / total)
        self.count = total
        self.low = np.minimum(self.low, values.min(0))
        self.high = np.maximum(self.high, values.max(0))

    def to_json(self) -> dict[str, Any]:
        """Plain data: count, mean, std (population), min and max per dimension."""
        std = np.sqrt(self.squares / self.count)
        values = {"mean": self.mean, "std": std, "min": self.low, "max": self.high}
        return {"count": self.count} | {k: np.asarray(v).tolist() for k, v in values.items()}


class Normalisation:
    """Statistics of the train split: observation, action, delta (next minus current observation) and reward."""

    FIELDS = ("observation", "action", "delta", "reward")

    def __init__(self, card: TaskCard) -> None:
        """Prepare for a task."""
        self.card = card
        self.moments = {name: Moments() for name in self.FIELDS}

    def add(self, fields: dict[str, np.ndarray]) -> None:
        """Take in one train episode."""
        observation = fields["observation"]
        self.moments["observation"].add(observation)
        self.moments["action"].add(fields["action"])
        self.moments["delta"].add(difference(observation[1:], observation[:-1], self.card.observation))
        self.moments["reward"].add(fields["reward"][:, None])

    def to_json(self) -> dict[str, Any]:
        """Field to its statistics; empty before the first episode."""
        return {name: m.to_json() for name, m in self.moments.items() if m.count}


def stats_from_json(data: dict[str, Any], path: Any) -> dict[str, dict[str, np.ndarray]]:
    """Arrays of the manifest's statistics; reward's have shape (1,).

    Raises:
        DatasetError: They are incomplete.
    """
    try:
        return {
            name: {key: np.asarray(data[name][key], dtype=np.float64) for key in ("mean", "std", "min", "max")}
            for name in Normalisation.FIELDS
        }
    except (KeyError, TypeError, ValueError) as error:
        raise DatasetError(f"{path}: the train statistics are incomplete ({error!r}); collect it again") from error
