"""Backend of Gymnasium's MuJoCo v5 tasks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np

from wmbench.cards import TaskCard
from wmbench.views import View
from wmbench_envs.mujoco_branch import PHYSICS, Seen, Stepper, fill
from wmbench_envs.mujoco_contacts import Physics
from wmbench_envs.mujoco_look import look
from wmbench_envs.mujoco_scene import FREE, Scene
from wmbench_envs.mujoco_state import SIGNATURE, StateVector
from wmbench_envs.mujoco_warnings import compiler_warnings
from wmbench_envs.mujoco_world import ModelWorld
from wmbench_envs.true_branch import Branched

LEAST_SUB_STEPS = 4

NEAR = {"InvertedDoublePendulum-v5": {"distance": 3.2, "lookat": (0.0, 0.0, 0.5), "elevation": -10.0}}
"""Where the poles are a few pixels large from Gymnasium's own camera: one that sees rail and poles and no more."""


class GymMujoco:
    """Gymnasium's own environment without its wrappers; a float32 observation and an exact state.

    The card's ``kwargs`` may hold ``derived``, see :class:`wmbench_envs.mujoco_state.StateVector`;
    all others go to the environment.
    """

    def __init__(self, card: TaskCard) -> None:
        """Make the environment that ``card.backend_id`` names."""
        kwargs = dict(card.kwargs)
        derived = kwargs.pop("derived", ())
        self._card = card
        with compiler_warnings():
            env: Any = gym.make(card.backend_id, disable_env_checker=True, **kwargs).unwrapped
        self._env = env
        self._step = env.step
        self._state = StateVector(env.model, env.data, derived)
        _place(env.model, env.data)
        view = {"distance": env.model.stat.extent, "lookat": np.median(env.data.geom_xpos, axis=0)}
        view.update(env.mujoco_renderer.default_cam_config or {})
        cameras = {FREE: view, "near": NEAR.get(card.backend_id, view)}
        self._scene = Scene(card, env.model, cameras)
        self._questions = Physics(card, env.model)
        self._world: ModelWorld | None = None

    def reset(self, seed: int) -> tuple[np.ndarray, dict[str, Any]]:
        """As ``gymnasium.make(backend_id).reset(seed=seed)``."""
        observation, info = self._env.reset(seed=seed)
        return observation.astype(np.float32), info

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """As the environment's own step, with its info."""
        observation, reward, terminated, truncated, info = self._step(action)
        return observation.astype(np.float32), float(reward), bool(terminated), truncated, info

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
        """Restore, and return the observation as it was: the derived arrays are those of the last sub-step."""
        self._state.set(state, _place)
        return self._env._get_obs().astype(np.float32)

    def branch(self, states: np.ndarray, action: np.ndarray, steps: np.ndarray) -> Branched | None:
        """Branch by MuJoCo's threaded rollout.

        None for tasks that read arrays as the last sub-step left them, which a rollout does not give back, and for
        the inverted pendulum, whose two light sub-steps are over before threads are of use.
        """
        if self._card.kwargs.get("derived") or self._env.frame_skip < LEAST_SUB_STEPS:
            return None
        env, size = self._env, int(PHYSICS)

        def follow(r: int, physics: np.ndarray, sensors: np.ndarray) -> Iterator[Seen]:
            mujoco.mj_setState(env.model, env.data, states[r], SIGNATURE)
            for chosen, reached in zip(action[r], physics, strict=True):
                # The environment's own step, with the simulation's outcome put in place of the simulation.
                env.do_simulation = lambda *_, to=reached: mujoco.mj_setState(env.model, env.data, to, size)
                yield env.step(chosen)[:4]

        rows = Stepper(env.model, SIGNATURE, env.frame_skip).rows(states, action)
        try:
            return fill(rows, steps, (*action.shape[:2], len(self._card.observation)), follow)
        finally:
            vars(env).pop("do_simulation", None)

    def perturb(self, values: dict[str, float], seed: int) -> None:
        """Change the model, and what is drawn of it."""
        if self._world is None:
            self._world = ModelWorld(self._env.model)
        self._world.apply(values)
        self._scene.look = look(values, seed)

    def contacts(self) -> frozenset[str]:
        """Pairs of bodies that touch."""
        return self._questions.contacts(self._env.data)

    def violations(self, observations: np.ndarray) -> dict[str, np.ndarray]:
        """How far observations break the laws of the bodies."""
        return self._questions.violations(observations)

    def images(self, view: View) -> dict[str, np.ndarray]:
        """The current scene as each kind of picture of the view: name to (H, W, C)."""
        return self._scene.images(self._env.data, view)

    def images_of(self, observation: np.ndarray, view: View) -> dict[str, np.ndarray]:
        """The same of the scene that an observation describes."""
        return self._scene.images_of(observation, view)

    def segments(self) -> dict[int, str]:
        """Bodies by their numbers in a segmentation."""
        return self._scene.segments()

    def render(self, height: int, width: int) -> np.ndarray:
        """The current scene, (H, W, 3) uint8."""
        return self._scene.render(self._env.data, height, width)

    def render_pose(self, observation: np.ndarray, height: int, width: int) -> np.ndarray:
        """The scene that an observation describes, (H, W, 3) uint8."""
        return self._scene.render_pose(observation, height, width)

    def close(self) -> None:
        """Close the environment and its graphics."""
        self._scene.close()
        self._env.close()


def _place(model: Any, data: Any) -> None:
    """Bring what a picture needs up to date."""
    mujoco.mj_kinematics(model, data)
    mujoco.mj_comPos(model, data)
    mujoco.mj_camlight(model, data)
