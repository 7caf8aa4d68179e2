"""Spaces, metadata, options and seeds that the two simulators of a task share."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
from gymnasium.spaces import Box

from wmbench.cards import TaskCard

SEED_LIMIT = 2**31
"""Episode seeds drawn by a reset without a seed lie below this."""


def spaces(card: TaskCard) -> tuple[Box, Box]:
    """Observation and action space of one environment, both float32.

    Args:
        card: The task.

    Returns:
        Boxes of shape (O,) and (A,). Observations without bounds in the card are unbounded.
    """
    low = np.array([-np.inf if d.low is None else d.low for d in card.observation], dtype=np.float32)
    high = np.array([np.inf if d.high is None else d.high for d in card.observation], dtype=np.float32)
    return Box(low, high, dtype=np.float32), Box(*card.action_bounds(), dtype=np.float32)


def metadata(card: TaskCard) -> dict[str, Any]:
    """Gymnasium metadata: one frame per control step."""
    return {"render_modes": ["rgb_array"], "render_fps": round(card.control_hz)}


def check_seed(task_id: str, seed: Any) -> int:
    """A seed as a plain int that every backend accepts.

    Raises:
        ValueError: Not an integer in [0, 2**32).
    """
    try:
        value = -1 if isinstance(seed, (bool, np.bool_)) else operator.index(seed)
    except TypeError:
        value = -1
    if not 0 <= value < 2**32:
        raise ValueError(f"{task_id}: a seed must be an integer in [0, 2**32), got {seed!r}")
    return value


def draw_seed(rng: np.random.Generator) -> int:
    """The seed of the next episode when reset is given none; the same draw in both simulators."""
    return int(rng.integers(SEED_LIMIT))
