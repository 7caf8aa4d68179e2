"""Exact saving and restoring of MuJoCo's state, for every backend that runs on it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mujoco
import numpy as np

SIGNATURE = mujoco.mjtState.mjSTATE_FULLPHYSICS | mujoco.mjtState.mjSTATE_WARMSTART
"""Time, positions, velocities, activations and the solver's warm start. Controls are set at every step,
and no registered task applies outside forces, so the rest of ``mjSTATE_INTEGRATION`` is left out."""


class StateVector:
    """One flat vector of everything that the next observation and reward depend on.

    MuJoCo's own state is not enough: some observations and rewards read derived arrays as they were
    left by the last sub-step, and some tasks keep their goal in the model.
    """

    def __init__(self, model: Any, data: Any, derived: Sequence[str] = (), goal: Sequence[str] = ()) -> None:
        """Choose what is saved.

        Args:
            model: ``mujoco.MjModel``.
            data: ``mujoco.MjData``.
            derived: Fields of the data that are read before they are computed anew.
            goal: Fields of the model that a reset changes.
        """
        self._model, self._data = model, data
        self._size = mujoco.mj_stateSize(model, SIGNATURE)
        self._derived = [getattr(data, name).reshape(-1) for name in derived]
        self._goal = [getattr(model, name).reshape(-1) for name in goal]
        self.size = self._size + sum(a.size for a in (*self._derived, *self._goal))
        self.moving = slice(1, 1 + model.nq + model.nv)
        """Where positions and velocities lie; the first number is the time."""

    def get(self) -> np.ndarray:
        """(S,) float64, a fresh array."""
        state = np.empty(self.size)
        mujoco.mj_getState(self._model, self._data, state[: self._size], SIGNATURE)
        start = self._size
        for array in (*self._derived, *self._goal):
            state[start : start + array.size] = array
            start += array.size
        return state

    def set(self, state: np.ndarray, update: Any) -> None:
        """Put everything back.

        Args:
            state: (S,) float64.
            update: Called with model and data between the physics and the derived arrays, to bring
                whatever else follows from positions and velocities up to date.
        """
        mujoco.mj_setState(self._model, self._data, state[: self._size], SIGNATURE)
        start = self._size + sum(a.size for a in self._derived)
        for array in self._goal:
            array[:] = state[start : start + array.size]
            start += array.size
        update(self._model, self._data)
        start = self._size
        for array in self._derived:
            array[:] = state[start : start + array.size]
            start += array.size
