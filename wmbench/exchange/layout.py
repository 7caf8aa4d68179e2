"""Where a dataset's fields go in a format that knows observations, actions, rewards and remarks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np

from wmbench.cards import TaskCard
from wmbench.views import CHANNELS

STATE = "simulator_state"
"""The simulator's state; ``state`` is what observations call the vector beside the pictures."""


def pictures(fields: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
    """The stored fields that are part of what is observed: pictures, one per state."""
    return tuple(name for name in CHANNELS if name in fields and fields[name]["per"] == "state")


def remarks(fields: Mapping[str, Mapping[str, Any]], known: frozenset[str]) -> dict[str, str]:
    """All other fields: own name to the name they get elsewhere.

    Args:
        fields: As the manifest lists them.
        known: Fields that the format has a place for.
    """
    others = [name for name in fields if name not in known and name not in pictures(fields)]
    return {name: STATE if name == "state" else name for name in others}


def observation_space(card: TaskCard, fields: Mapping[str, Mapping[str, Any]]) -> gym.Space:
    """A box for the state vector alone, a dictionary beside pictures."""
    low = np.array([-np.inf if d.low is None else d.low for d in card.observation], np.float32)
    high = np.array([np.inf if d.high is None else d.high for d in card.observation], np.float32)
    vector = gym.spaces.Box(low, high, dtype=np.float32)
    names = pictures(fields)
    if not names:
        return vector
    spaces: dict[str, gym.Space] = {"state": vector}
    for name in names:
        dtype = np.dtype(fields[name]["dtype"])
        limits: tuple[float, float] = (-np.inf, np.inf)
        if dtype.kind in "iu":
            limits = (int(np.iinfo(dtype).min), int(np.iinfo(dtype).max))
        spaces[name] = gym.spaces.Box(*limits, shape=tuple(fields[name]["shape"]), dtype=dtype.type)
    return gym.spaces.Dict(spaces)


def action_space(card: TaskCard) -> gym.spaces.Box:
    """The card's bounds."""
    return gym.spaces.Box(*card.action_bounds(), dtype=np.float32)
