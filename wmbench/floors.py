"""How long the true simulator agrees with itself: the tables that installed packages ship with their tasks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from wmbench import registry
from wmbench.cards import TaskCard

SCALE = 1e-6
"""Disturbance, in standard deviations, whose divergence is the floor."""


@dataclass(frozen=True)
class Floor:
    """How the true simulator, disturbed by :data:`SCALE`, leaves itself under random actions.

    Attributes:
        steps: Median steps until NRMSE exceeds 0.5; infinity if more than half of the windows never do.
        rate: Growth of the log error per step, None if it does not grow.
        horizon: Steps of the longest windows looked at.
    """

    steps: float
    rate: float | None
    horizon: int


def shipped_floor(task: TaskCard) -> Floor | None:
    """The floor that an installed package ships for a task.

    Args:
        task: The task; a floor of another version of it, by its digest, is none.
    """
    entry = _tables().get(task.id)
    if entry is None or entry["task_digest"] != task.digest():
        return None
    row = next(r for r in entry["floors"] if math.isclose(r["disturbance"], SCALE, rel_tol=1e-6))
    steps = math.inf if row["steps"] is None else float(row["steps"])
    return Floor(steps, row["rate"], int(entry["horizon"]))


def floor_arrays(task: TaskCard | None) -> dict[str, np.ndarray]:
    """What a recording without disturbed simulators holds of the floor.

    Args:
        task: The task; None for one whose shipped floor does not hold, as in another world.

    Returns:
        ``floor_steps`` (), infinite where none was seen, and ``floor_rate`` (); NaN if unknown.
    """
    floor = None if task is None else shipped_floor(task)
    steps, rate = (math.nan, None) if floor is None else (floor.steps, floor.rate)
    return {"floor_steps": np.array(steps), "floor_rate": np.array(math.nan if rate is None else rate)}


@cache
def _tables() -> dict[str, Any]:
    """Task id to its entry, of every installed package."""
    found: dict[str, Any] = {}
    for _, table in registry.floors:
        found.update(table()["tasks"])
    return found
