"""What touches what in a MuJoCo state, and which laws an observation breaks when a body is posed as it says."""

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np

from wmbench.cards import JointReading, TaskCard
from wmbench_envs.mujoco_pose import positions, velocities

LARGEST = 1e6
"""Observations with larger numbers are not posed: all their magnitudes are infinite."""

LIMITED = (int(mujoco.mjtJoint.mjJNT_HINGE), int(mujoco.mjtJoint.mjJNT_SLIDE))


class Physics:
    """Questions about states and observations of one model, answered on data of its own."""

    def __init__(self, task: TaskCard, model: Any) -> None:
        """Prepare.

        Args:
            task: The task.
            model: ``mujoco.MjModel``.
        """
        self._task, self._model = task, model
        self._own: Any = None  # a second mujoco.MjData
        names = [mujoco.mj_id2name(model, mujoco.mjtObj.mjOBJ_BODY, b) or f"body{b}" for b in range(model.nbody)]
        self._names = [names[model.body_weldid[b]] for b in range(model.nbody)]  # what is welded together is one body

    def contacts(self, data: Any) -> frozenset[str]:
        """Pairs of bodies that touch where the joints stand now, for example ``"foot-world"``.

        Computed from the positions alone: the simulation's own list of contacts may be one sub-step old, and is not
        part of a saved state. Bodies touch where the solver has a contact between them (closer than its margin).
        Bodies without a joint between them are one; neighbours in the kinematic tree never touch.

        Args:
            data: ``mujoco.MjData``; left alone.
        """
        found = self._place(data.qpos).contact
        touching = {tuple(sorted(pair)) for pair in found.geom[found.exclude == 0].tolist()}
        bodies = self._model.geom_bodyid
        return frozenset("-".join(sorted(self._names[bodies[g]] for g in pair)) for pair in touching)

    def violations(self, observations: np.ndarray) -> dict[str, np.ndarray]:
        """How far observations break the laws of the task's bodies.

        Args:
            observations: (N, O) floats. Rows with numbers that are not finite or beyond :data:`LARGEST` get infinity.

        Returns:
            Name to (N,) float64, whatever the card's pose allows to tell:
            ``penetration`` (m), depth of the deepest contact;
            ``joint-limit``, the largest excess over a limited joint's range, as a share of that range;
            ``sine-cosine``, | sqrt(sin^2 + cos^2) - 1 | of the worst angle observed by both;
            ``energy`` (J), kinetic and potential, where all positions and velocities are observed: no violation by
            itself, but its jumps are.
        """
        given = np.asarray(observations, dtype=np.float64)
        sound = np.all(np.abs(given) <= LARGEST, axis=1)  # False for NaN
        whole = np.where(sound[:, None], given, 0.0)
        found = self._posed(whole) if self._task.pose else {}
        if pairs := sorted(_pairs(self._task)):
            sines, cosines = (whole[:, list(column)] for column in zip(*pairs, strict=True))
            found["sine-cosine"] = np.abs(np.hypot(sines, cosines) - 1.0).max(1)
        return {name: np.where(sound, values, np.inf) for name, values in found.items()}

    def _posed(self, observations: np.ndarray) -> dict[str, np.ndarray]:
        """What needs joints in their places."""
        model = self._model
        place, motion = positions(self._task, model, observations), velocities(self._task, model, observations)
        found: dict[str, np.ndarray] = {}
        limited = [j for j in self._posed_joints() if model.jnt_limited[j] and int(model.jnt_type[j]) in LIMITED]
        if limited:
            (low, high), at = model.jnt_range[limited].T, place[:, model.jnt_qposadr[limited]]
            found["joint-limit"] = (np.maximum(np.maximum(low - at, at - high), 0.0) / (high - low)).max(1)
        touches = _can_touch(model)
        depth, energy = np.zeros(len(place)), np.zeros(len(place))
        if touches or motion is not None:
            for i, row in enumerate(place):
                data = self._place(row)
                depth[i] = max(0.0, -data.contact.dist.min(initial=0.0))
                if motion is not None:
                    data.qvel[:] = motion[i]
                    mujoco.mj_energyPos(model, data)
                    mujoco.mj_energyVel(model, data)
                    energy[i] = data.energy.sum()
        if touches:
            found["penetration"] = depth
        if motion is not None:
            found["energy"] = energy
        return found

    def _posed_joints(self) -> list[int]:
        joint = mujoco.mjtObj.mjOBJ_JOINT
        return [mujoco.mj_name2id(self._model, joint, name) for name in self._task.pose]

    def _place(self, qpos: np.ndarray) -> Any:
        """Own data with the joints at given positions and everything that follows from them, contacts included."""
        if self._own is None:
            self._own = mujoco.MjData(self._model)
        self._own.qpos[:] = qpos
        mujoco.mj_fwdPosition(self._model, self._own)
        return self._own


def _pairs(task: TaskCard) -> set[tuple[int, int]]:
    """(sine, cosine) indices of the angles that the card's pose reads; a vector of some length is none."""
    found: set[tuple[int, int]] = set()
    for reading in task.pose.values():
        parts: tuple[Any, ...] = (reading.of, reading.minus) if isinstance(reading, JointReading) else (reading,)
        pairs = [p for p in parts if isinstance(p, tuple) and len(p) == 2]
        found |= {(p[0], p[1]) for p in pairs if all(task.observation[i].unit == "1" for i in p)}
    return found


def _can_touch(model: Any) -> bool:
    """Whether any two geoms of the model can collide: by their bits, and not of one body nor of neighbours."""
    if model.opt.disableflags & mujoco.mjtDisableBit.mjDSBL_CONTACT:
        return False
    if model.npair:
        return True
    body = model.body_weldid[model.geom_bodyid]
    parent = model.body_weldid[model.body_parentid[body]]
    bits = (model.geom_contype[:, None] & model.geom_conaffinity) != 0
    same = body[:, None] == body
    near = (parent[:, None] == body) & (body != 0)  # the world is nobody's neighbour
    return bool(((bits | bits.T) & ~same & ~near & ~near.T).any())
