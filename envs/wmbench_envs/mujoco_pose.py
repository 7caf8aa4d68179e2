"""From observations to the positions and velocities of MuJoCo's joints, as a card's pose says."""

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np

from wmbench.cards import JointReading, TaskCard
from wmbench.errors import RenderError

FREE = mujoco.mjtJoint.mjJNT_FREE
SLIDE = mujoco.mjtJoint.mjJNT_SLIDE
VERTICAL = 1e-9
"""Slides whose axis rises less than this are level: where along them a body stands changes no energy."""


def positions(task: TaskCard, model: Any, observations: np.ndarray) -> np.ndarray:
    """Joint positions that observations describe; joints that the card does not pose stay where a reset has them.

    Args:
        task: Its pose is read.
        model: ``mujoco.MjModel``.
        observations: (N, O) floats.

    Returns:
        (N, nq) float64; quaternions have unit norm, and angles known up to a turn lie next to their joint's range.

    Raises:
        RenderError: The card poses a joint that the model lacks.
    """
    found = np.tile(model.qpos0, (len(observations), 1))
    for name, reading in task.pose.items():
        joint = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_JOINT, name)
        if joint < 0:
            raise RenderError(f"{task.id}: the card poses the joint {name!r}, which the model lacks")
        start = model.jnt_qposadr[joint]
        if model.jnt_type[joint] == FREE:
            height, *turn = reading  # type: ignore[misc]
            found[:, start + 2] = observations[:, height]
            norm = np.linalg.norm(observations[:, turn], axis=1, keepdims=True)
            unit = np.divide(observations[:, turn], norm, out=np.tile([1.0, 0, 0, 0], (len(norm), 1)), where=norm > 0)
            found[:, start + 3 : start + 7] = unit
        else:
            found[:, start] = _read(reading, observations)
            if model.jnt_limited[joint] and _turns(reading):
                middle = model.jnt_range[joint].mean()
                found[:, start] = middle + (found[:, start] - middle + np.pi) % (2 * np.pi) - np.pi
    return found


def velocities(task: TaskCard, model: Any, observations: np.ndarray) -> np.ndarray | None:
    """Joint velocities, by the names of the observation's dimensions: ``<joint>_velocity``, ``root_velocity_x``.

    Args:
        task: Names the dimensions.
        model: ``mujoco.MjModel``.
        observations: (N, O) floats.

    Returns:
        (N, nv) float64, or None where the motion of some joint is not observed, or its position matters and is not.
    """
    where = {d.name: i for i, d in enumerate(task.observation)}
    found = np.zeros((len(observations), model.nv))
    for joint in range(model.njnt):
        name = mujoco.mj_id2name(model, mujoco.mjtObj.mjOBJ_JOINT, joint)
        start = model.jnt_dofadr[joint]
        if model.jnt_type[joint] == FREE:
            names = [f"{name}_{kind}_{axis}" for kind in ("velocity", "angular_velocity") for axis in "xyz"]
        else:
            names = [f"{name}_velocity"]
        level = model.jnt_type[joint] == SLIDE and abs(model.jnt_axis[joint][2]) < VERTICAL
        if any(n not in where for n in names) or (name not in task.pose and not level):
            return None
        found[:, start : start + len(names)] = observations[:, [where[n] for n in names]]
    return found


def _turns(reading: Any) -> bool:
    """Whether a reading is an angle that is known up to full turns."""
    if isinstance(reading, JointReading):
        return isinstance(reading.of, tuple)
    return isinstance(reading, tuple)


def _read(reading: Any, observations: np.ndarray) -> np.ndarray:
    """The position of a hinge or slide, (N,); see :attr:`wmbench.cards.TaskCard.pose`."""
    if isinstance(reading, JointReading):
        minus = 0.0 if reading.minus is None else _read(reading.minus, observations)
        return reading.sign * (_read(reading.of, observations) - minus) + reading.offset
    if isinstance(reading, tuple):
        return np.arctan2(observations[:, reading[0]], observations[:, reading[1]])
    return observations[:, reading]
