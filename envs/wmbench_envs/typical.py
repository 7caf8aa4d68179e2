"""Typical standard deviations of observations, by task: the unit of observation noise."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path


def typical_std(task_id: str) -> tuple[float, ...]:
    """Standard deviation of each dimension of a task's observation under random actions.

    Measured by ``envs/scripts/make_typical_std.py``: see there for how many episodes and which actions.

    Returns:
        (O,) numbers in the units of the observation, zero for what never changed; empty if the task was not measured.
    """
    return tuple(_table().get(task_id, ()))


@cache
def _table() -> dict[str, list[float]]:
    path = Path(__file__).parent / "typical_std.json"
    return json.loads(path.read_text())["std"]
