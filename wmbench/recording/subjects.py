"""The models that are measured, and three that are fitted on the spot to stand beside them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from wmbench.cards import TaskCard
from wmbench.episodes import Dataset
from wmbench.errors import DatasetError
from wmbench.measures.geometry import Geometry

BASELINES = ("copy-last", "mean-delta", "linear")
FIT_LIMIT = 50_000


class AffineDelta:
    """Predicts o + W [o, a, 1]: persistence, the mean change and a least-squares fit are its three cases."""

    def __init__(self, weights: np.ndarray) -> None:
        """Take W, (O + A + 1, O) float64."""
        self.weights = weights

    def __call__(self, observation: np.ndarray, action: np.ndarray) -> np.ndarray:
        """(..., O) and (..., A) to the next observation, (..., O) float64; overflow gives infinity."""
        inputs = np.concatenate([observation, action, np.ones((*action.shape[:-1], 1))], axis=-1)
        with np.errstate(over="ignore", invalid="ignore"):
            return observation + inputs @ self.weights


def baselines(dataset: Dataset, *, limit: int = FIT_LIMIT) -> dict[str, AffineDelta]:
    """Fit copy-last, mean-delta and linear to the train split.

    The linear one is ordinary least squares of the change on observation, action and a constant, of least norm
    where the columns depend on each other.

    Args:
        dataset: Its train split is read.
        limit: At most this many transitions.
    """
    steps = dataset.transitions("train", limit)
    observation, action = steps["observation"].astype(np.float64), steps["action"].astype(np.float64)
    delta = change(dataset.task, steps["next_observation"], observation)
    n_observation, n_action = observation.shape[1], action.shape[1]
    still = np.zeros((n_observation + n_action + 1, n_observation))
    mean = still.copy()
    mean[-1] = delta.mean(0)
    # Standardised columns keep the problem well conditioned; dimensions without spread stay out of it.
    inputs = np.concatenate([observation, action], axis=1)
    centre, spread = inputs.mean(0), inputs.std(0)
    scale = np.where(spread > 1e-8 * np.maximum(1.0, np.abs(centre)), spread, np.inf)
    solution = np.linalg.lstsq((inputs - centre) / scale, delta - mean[-1], rcond=1e-10)[0] / scale[:, None]
    linear = np.concatenate([solution, (mean[-1] - centre @ solution)[None]])
    return {"copy-last": AffineDelta(still), "mean-delta": AffineDelta(mean), "linear": AffineDelta(linear)}


def change(task: TaskCard, ahead: np.ndarray, behind: np.ndarray) -> np.ndarray:
    """Component-wise change, (..., O) float64, with angles wrapped: what :class:`AffineDelta` adds."""
    kinds = np.array(["angle" if d.kind == "angle" else "linear" for d in task.observation])
    names = np.array([d.name for d in task.observation])
    return Geometry.of(names, kinds, names).difference(ahead, behind)


def describe(dataset: Dataset) -> dict[str, np.ndarray]:
    """What every measure of observations reads: names, kinds and units of dimensions, and train statistics."""
    dims = dataset.task.observation
    return {
        "dimension": np.array([d.name for d in dims]),
        "kind": np.array([d.kind for d in dims]),
        "unit": np.array([d.unit for d in dims]),
        "observation_std": dataset.stats["observation"]["std"],
        "observation_low": dataset.stats["observation"]["min"],
        "observation_high": dataset.stats["observation"]["max"],
        "delta_std": dataset.stats["delta"]["std"],
        "control_hz": np.array(dataset.task.control_hz),
    }


def check_models(models: Mapping[str, Any], dataset: Dataset) -> None:
    """Refuse a model that was made for another task.

    Raises:
        DatasetError: Names the model and both tasks.
    """
    for name, model in models.items():
        if dataset.task.id not in model.card.task_ids:
            made = ", ".join(model.card.task_ids)
            raise DatasetError(f"model {name!r} was made for {made}, the dataset {dataset.folder} is {dataset.task.id}")
        repeat = getattr(getattr(model, "task", dataset.task), "action_repeat", 1)
        if repeat != dataset.task.action_repeat:
            raise DatasetError(
                f"model {name!r} was made for action_repeat={repeat}, the dataset {dataset.folder} has "
                f"action_repeat={dataset.task.action_repeat}"
            )


def device_of(model: Any) -> torch.device:
    """Where a model's weights live; the CPU if it has none."""
    if isinstance(model, torch.nn.Module):
        for tensor in (*model.parameters(), *model.buffers()):
            return tensor.device
    return torch.device("cpu")
