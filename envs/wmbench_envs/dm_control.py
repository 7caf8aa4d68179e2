"""Backend of the dm_control suite's tasks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import mujoco
import numpy as np
from dm_control.rl.control import PhysicsError

from wmbench.cards import TaskCard
from wmbench.errors import SimulationError
from wmbench.views import View
from wmbench_envs.mujoco_branch import PHYSICS, Seen, Stepper, fill
from wmbench_envs.mujoco_contacts import Physics
from wmbench_envs.mujoco_look import look
from wmbench_envs.mujoco_scene import Scene
from wmbench_envs.mujoco_state import SIGNATURE, StateVector
from wmbench_envs.mujoco_warnings import compiler_warnings
from wmbench_envs.mujoco_world import ModelWorld
from wmbench_envs.true_branch import Branched


def _import_suite() -> Any:
    """Import dm_control without the OpenGL library that it would otherwise load, and choose badly, at import."""
    quiet = "MUJOCO_GL" not in os.environ and "DISPLAY" not in os.environ
    if quiet:
        os.environ["MUJOCO_GL"] = "off"
    try:
        from dm_control import suite
    finally:
        if quiet:
            del os.environ["MUJOCO_GL"]
    return suite


class DmControl:
    """Physics and task of a dm_control environment, stepped as the environment would step them.

    The card's ``kwargs`` may hold ``derived`` and ``goal``, see :class:`wmbench_envs.mujoco_state.StateVector`,
    and ``place``, see :class:`wmbench_envs.mujoco_scene.Scene`.
    """

    def __init__(self, card: TaskCard) -> None:
        """Load ``domain/task`` as named by ``card.backend_id``."""
        domain, task = card.backend_id.split("/")
        self._card = card
        suite = _import_suite()
        with compiler_warnings():
            env = suite.load(domain, task, task_kwargs={"random": 0})
        self._env = env  # its own step counter, and with it its time limit, is never used
        self._physics = env.physics
        self._task = env.task
        self._sub_steps = env._n_sub_steps
        self._slices: list[slice] | None = None
        self._model, self._data = env.physics.model.ptr, env.physics.data.ptr
        self._state = StateVector(self._model, self._data, card.kwargs.get("derived", ()), card.kwargs.get("goal", ()))
        self._scene = Scene(card, self._model, place=card.kwargs.get("place"))
        self._questions = Physics(card, self._model)
        self._world: ModelWorld | None = None
        self._begun = False

    def reset(self, seed: int) -> tuple[np.ndarray, dict[str, Any]]:
        """As ``suite.load(domain, task, task_kwargs={"random": seed}).reset()``."""
        self._task._random = np.random.RandomState(seed)
        self._begun = True
        observation = self._flat(self._env.reset().observation)
        if self._world is not None:
            self._world.hold()
        return observation, {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """As the environment's own step; an end with a positive discount is a truncation."""
        physics, task = self._physics, self._task
        task.before_step(action, physics)
        try:
            physics.step(self._sub_steps)
        except PhysicsError as error:
            reason = " ".join(str(error).split())
            raise SimulationError(f"{self._card.id}: MuJoCo finds the simulation unstable ({reason})") from error
        task.after_step(physics)
        reward = float(task.get_reward(physics))
        observation = self._flat(task.get_observation(physics))
        discount = task.get_termination(physics)
        return observation, reward, discount == 0.0, discount is not None and discount > 0.0, {}

    def state_size(self) -> int:
        """S."""
        return self._state.size

    def get_state(self) -> np.ndarray:
        """(S,) float64."""
        return self._state.get()

    def moving(self) -> slice:
        """Positions and velocities."""
        return self._state.moving

    def set_state(self, state: np.ndarray) -> np.ndarray:
        """Restore; ``mj_step1`` redoes the half step that dm_control leaves behind every step."""
        if not self._begun:
            self.reset(0)  # sets the parts of the model that are the same in every episode
        self._state.set(state, mujoco.mj_step1)
        return self._flat(self._task.get_observation(self._physics))

    def branch(self, states: np.ndarray, action: np.ndarray, steps: np.ndarray) -> Branched | None:
        """Branch by MuJoCo's threaded rollout; None for tasks that keep their goal in the model."""
        if self._card.kwargs.get("goal"):
            return None
        if not self._begun:
            self.reset(0)
        model, data, physics, task = self._model, self._data, self._physics, self._task
        control = np.empty((*action.shape[:2], model.nu))
        for at in np.ndindex(action.shape[:2]):
            task.before_step(action[at], physics)
            control[at] = data.ctrl
        late = np.zeros(model.nsensordata, dtype=bool)
        for first, count, stage in zip(model.sensor_adr, model.sensor_dim, model.sensor_needstage, strict=True):
            late[first : first + count] = stage == mujoco.mjtStage.mjSTAGE_ACC
        any_late, size = bool(late.any()), int(PHYSICS)

        def follow(r: int, reached: np.ndarray, sensors: np.ndarray) -> Iterator[Seen]:
            for chosen, state, sensed in zip(control[r], reached, sensors, strict=True):
                mujoco.mj_setState(model, data, state, size)
                data.ctrl[:] = chosen
                mujoco.mj_step1(model, data)
                if any_late:
                    data.sensordata[late] = sensed[late]
                task.after_step(physics)
                reward = float(task.get_reward(physics))
                observation = self._flat(task.get_observation(physics))
                discount = task.get_termination(physics)
                yield observation, reward, discount == 0.0, discount is not None and discount > 0.0

        rows = Stepper(model, SIGNATURE, self._sub_steps).rows(states, control)
        return fill(rows, steps, (*action.shape[:2], len(self._card.observation)), follow)

    def perturb(self, values: dict[str, float], seed: int) -> None:
        """Change the model, and what is drawn of it."""
        if not self._begun:
            self.reset(0)  # sets the parts of the model that are the same in every episode
        if self._world is None:
            self._world = ModelWorld(self._model)
        self._world.apply(values)
        self._scene.look = look(values, seed)

    def contacts(self) -> frozenset[str]:
        """Pairs of bodies that touch."""
        return self._questions.contacts(self._data)

    def violations(self, observations: np.ndarray) -> dict[str, np.ndarray]:
        """How far observations break the laws of the bodies."""
        return self._questions.violations(observations)

    def images(self, view: View) -> dict[str, np.ndarray]:
        """The current scene as each kind of picture of the view: name to (H, W, C)."""
        return self._scene.images(self._data, view)

    def images_of(self, observation: np.ndarray, view: View) -> dict[str, np.ndarray]:
        """The same of the scene that an observation describes."""
        return self._scene.images_of(observation, view)

    def segments(self) -> dict[int, str]:
        """Bodies by their numbers in a segmentation."""
        return self._scene.segments()

    def render(self, height: int, width: int) -> np.ndarray:
        """The current scene, (H, W, 3) uint8."""
        return self._scene.render(self._data, height, width)

    def render_pose(self, observation: np.ndarray, height: int, width: int) -> np.ndarray:
        """The scene that an observation describes, (H, W, 3) uint8."""
        return self._scene.render_pose(observation, height, width)

    def close(self) -> None:
        """Close the environment and its graphics."""
        self._scene.close()
        self._env.close()

    def _flat(self, parts: dict[str, Any]) -> np.ndarray:
        """Concatenate to a fresh (O,) float32."""
        if self._slices is None:
            ends = np.cumsum([np.size(v) for v in parts.values()])
            self._slices = [slice(e - np.size(v), e) for e, v in zip(ends, parts.values(), strict=True)]
            self._size = int(ends[-1])
        observation = np.empty(self._size, np.float32)
        for part, value in zip(self._slices, parts.values(), strict=True):
            observation[part] = value
        return observation
