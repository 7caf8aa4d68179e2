"""Many branches at once: MuJoCo's own threads move the bodies, the backend then reads each state off as ever."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import mujoco
import numpy as np
from mujoco import rollout

from wmbench_envs.true_branch import Branched

PHYSICS = mujoco.mjtState.mjSTATE_FULLPHYSICS
"""What MuJoCo's rollout takes and gives: time, positions, velocities, activations."""

Seen = tuple[np.ndarray, float, bool, bool]
"""Observation (O,), reward, terminated, truncated."""

MOST_STATES = 100_000
"""States of sub-steps held in memory at a time."""


class Stepper:
    """Steps many states of one model under given controls, bit for bit as ``mj_step`` does it one by one."""

    def __init__(self, model: Any, signature: int, sub_steps: int, threads: int | None = None) -> None:
        """Prepare.

        Args:
            model: ``mujoco.MjModel``.
            signature: Which state is given; must hold :data:`PHYSICS` and the warm start.
            sub_steps: Physics steps of one control step.
            threads: None for as many as there are cores.
        """
        self._model, self._signature, self._sub_steps = model, int(signature), sub_steps
        self._size = mujoco.mj_stateSize(model, self._signature)
        self._threads = threads or len(os.sched_getaffinity(0))

    def rows(self, state: np.ndarray, control: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray] | None]:
        """Branch, and give back row after row what was reached at the end of each control step.

        Args:
            state: (R, S) float64, beginning with the numbers of the signature.
            control: (R, K, U) float64, held for a control step each.

        Yields:
            For each row the physics (K, P) and the sensors as the last sub-step left them (K, Y); None for a row
            that MuJoCo gave up on (a warning, as of numbers that are not finite): what follows is not known.
        """
        n, steps, _ = control.shape
        data = [mujoco.MjData(self._model) for _ in range(min(self._threads, n))]
        at_once = max(1, MOST_STATES // (steps * self._sub_steps))
        with rollout.Rollout(nthread=len(data) if len(data) > 1 else 0) as pool:
            for start in range(0, n, at_once):
                given = state[start : start + at_once, : self._size]
                reached, sensors = pool.rollout(
                    self._model,
                    data,
                    self._part(given, PHYSICS),
                    np.repeat(control[start : start + at_once], self._sub_steps, axis=1),
                    initial_warmstart=self._part(given, mujoco.mjtState.mjSTATE_WARMSTART),
                )
                time = np.concatenate([given[:, :1], reached[:, :, 0]], axis=1)
                whole: np.ndarray = np.all(np.diff(time, axis=1) > 0, axis=1)
                last = slice(self._sub_steps - 1, None, self._sub_steps)
                for good, row, sensed in zip(whole, reached[:, last], sensors[:, last], strict=True):
                    yield (row, sensed) if good else None

    def _part(self, states: np.ndarray, signature: int) -> np.ndarray:
        """Some of the numbers of states (R, S), as a fresh (R, s)."""
        out = np.empty((len(states), mujoco.mj_stateSize(self._model, int(signature))))
        for row, state in zip(out, states, strict=True):
            mujoco.mj_extractState(self._model, state, self._signature, row, int(signature))
        return out


def fill(
    rows: Iterator[tuple[np.ndarray, np.ndarray] | None],
    steps: np.ndarray,
    shape: tuple[int, int, int],
    follow: Callable[[int, np.ndarray, np.ndarray], Iterator[Seen]],
) -> Branched | None:
    """What every branch observes, up to its last step or the task's own end.

    Args:
        rows: Of :meth:`Stepper.rows`.
        steps: (R,) int, how far each branch goes.
        shape: R, K, O.
        follow: Row, physics (K, P) and sensors (K, Y) to what is seen at one step after another.

    Returns:
        Observation (R, K, O) float32, reward (R, K) float64, terminated (R, K) bool and the steps taken (R,) int, zero
        where there are none; None if MuJoCo gave up on a branch, or the task itself cut one off.
    """
    observation, reward = np.zeros(shape, np.float32), np.zeros(shape[:2])
    terminated, taken = np.zeros(shape[:2], dtype=bool), np.zeros(shape[0], dtype=np.int64)
    for r, row in enumerate(rows):
        if row is None:
            return None
        for k, seen in zip(range(steps[r]), follow(r, *row), strict=False):
            observation[r, k], reward[r, k], terminated[r, k], truncated = seen
            taken[r] = k + 1
            if truncated:
                return None
            if seen[2]:
                break
    return Branched(observation, reward, terminated, taken)
