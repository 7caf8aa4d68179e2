"""Spaces, metadata, options and seeds that the two simulators of a task share."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
from gymnasium.spaces import Box, Dict

from wmbench.cards import TaskCard
from wmbench.errors import LifecycleError
from wmbench.views import CHANNELS, STATE, View

SEED_LIMIT = 2**31
"""Episode seeds drawn by a reset without a seed lie below this."""


def spaces(card: TaskCard, view: View | None = None) -> tuple[Any, Box]:
    """Observation and action space of one environment.

    Args:
        card: The task.
        view: What is observed, None for the state alone.

    Returns:
        A Box, or for several names of the view a Dict of them, and a Box (A,) float32. The state is (O,) float32,
        unbounded where the card has no bounds; pictures are (H, W, C), or (k, H, W, C) if they are stacked.
    """
    low = np.array([-np.inf if d.low is None else d.low for d in card.observation], dtype=np.float32)
    high = np.array([np.inf if d.high is None else d.high for d in card.observation], dtype=np.float32)
    parts = {STATE: Box(low, high, dtype=np.float32)}
    view = view or View()
    for name in view.images:
        dtype = np.dtype(CHANNELS[name][1])
        most = np.inf if dtype.kind == "f" else np.iinfo(dtype).max
        parts[name] = Box(0, most, view.image_shape(name), dtype=dtype.type)
    observation: Any = Dict({name: parts[name] for name in view.names})
    if len(view.names) == 1:
        observation = parts[view.names[0]]
    return observation, Box(*card.action_bounds(), dtype=np.float32)


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


def row_seeds(task_id: str, seed: Any, num_envs: int) -> list[int | None]:
    """One seed per row of a batch, as given to ``VectorEnv.reset``.

    Args:
        task_id: Named in errors.
        seed: None (every row continues its own stream), an int (row i takes ``seed + i``, Gymnasium's rule),
            or a sequence with an int or None for every row.
        num_envs: Rows.

    Raises:
        ValueError: A seed is no integer in [0, 2**32), or their number is not that of the rows.
    """
    if seed is None:
        return [None] * num_envs
    if not isinstance(seed, (list, tuple, np.ndarray)):
        first = check_seed(task_id, seed)
        check_seed(task_id, first + num_envs - 1)
        return list(range(first, first + num_envs))
    if len(seed) != num_envs:
        raise ValueError(f"{task_id}: {len(seed)} seeds for {num_envs} rows")
    return [None if s is None else check_seed(task_id, s) for s in seed]


def row_mask(task_id: str, options: dict[str, Any] | None, num_envs: int, *, begun: bool) -> np.ndarray | None:
    """Which rows of a batch a reset begins anew, None for all.

    Args:
        task_id: Named in errors.
        options: None, or ``{"reset_mask": (B,) bool array}`` with at least one True.
        num_envs: Rows, B.
        begun: Whether all rows were reset before.

    Raises:
        LifecycleError: A mask at the very first reset.
        ValueError: Another option, or a mask of another kind or shape or without a row.
    """
    if not options:
        return None
    if set(options) != {"reset_mask"}:
        raise ValueError(f"{task_id}: the only option of reset is 'reset_mask', got {sorted(options)}")
    mask = options["reset_mask"]
    if not (isinstance(mask, np.ndarray) and mask.dtype == bool and mask.shape == (num_envs,)):
        what = f"{mask.dtype} {mask.shape}" if isinstance(mask, np.ndarray) else type(mask).__name__
        raise ValueError(f"{task_id}: reset_mask must be a bool array of shape ({num_envs},), got {what}")
    if not mask.any():
        raise ValueError(f"{task_id}: reset_mask must name at least one row")
    if not begun:
        raise LifecycleError(f"{task_id}: the first reset() must be of all rows, without a reset_mask")
    return mask.copy()
