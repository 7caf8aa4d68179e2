"""Backend of ManiSkill's tasks on the CPU: native types, seeds that reproduce, states that are replayed."""

from __future__ import annotations

import gc
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np

from wmbench.cards import TaskCard
from wmbench.errors import RenderError, StateError, require
from wmbench.views import View
from wmbench_envs.forks import branch_forked
from wmbench_envs.maniskill_device import INSTALL, has_renderer, undrawn
from wmbench_envs.maniskill_images import Looks, devices_by_name, photograph, segments
from wmbench_envs.maniskill_world import SceneWorld
from wmbench_envs.true_branch import Branched

BEYOND = 64
"""Steps past the time limit that a state has room for: planners look beyond it."""

SWEEP = 64
"""Scenes built between two collections of those that are no longer used."""


class ManiSkill:
    """One ManiSkill environment without its wrappers, stepped with NumPy actions.

    Every reset builds the scene anew. In a scene that has been used, PhysX keeps caches and an order of contacts that
    change what follows (a sphere grasped a second time ends centimetres elsewhere), and the first observation still
    reports the last episode's contacts; in a new scene an episode depends on its seed and actions alone.

    For the same reason ManiSkill's own saved state does not lead to what followed the original. What does is to reset
    with the same seed and take the same actions again. So a state is the episode's seed, the number of steps and the
    actions taken, and restoring one replays them.

    Success does not end an episode, as under ManiSkill's own ``ignore_terminations``.

    Nobody looks at most episodes, so scenes are built without anything to be drawn, until the first picture is asked
    for: the scene is then built anew with what it takes, and the episode replayed in it. The physics is the same.

    The card's ``kwargs`` may hold ``agents`` (name and action size of each robot, in order, for tasks whose action is
    a dictionary) and ``ends_on_fail`` (whether the task's ``fail`` ends an episode); all others go to the environment.
    """

    def __init__(self, card: TaskCard) -> None:
        """Make the environment that ``card.backend_id`` names.

        Raises:
            MissingExtraError: ManiSkill is not installed.
        """
        self._card = card
        require("mani_skill", "maniskill")
        kwargs = dict(card.kwargs)
        agents = kwargs.pop("agents", ())
        self._agents = [str(name) for name, _ in agents]
        self._cuts = np.cumsum([int(size) for _, size in agents])[:-1].tolist()
        self._ends_on_fail = bool(kwargs.pop("ends_on_fail", False))
        self._kwargs = kwargs
        self._looks: Looks | None = None  # nothing is drawn
        self._world: SceneWorld | None = None  # nothing is changed
        self._build()
        self._seed = -1
        self._count = 0
        self._actions = np.zeros((card.horizon + BEYOND, len(card.action)), np.float32)
        self._observation = np.zeros(len(card.observation), np.float32)

    def _build(self) -> None:
        """Make the environment, to be drawn or not."""
        drawn = {"render_backend": "none"} if self._looks is None else self._looks.options()
        with quiet(), self._stage(), devices_by_name():
            env: Any = gym.make(
                self._card.backend_id,
                disable_env_checker=True,
                obs_mode="state",
                num_envs=1,
                sim_backend="physx_cpu",
                reconfiguration_freq=0,
                **drawn,
                **self._kwargs,
            ).unwrapped
        self._env = env
        self._advance = env.step
        if self._world is not None:
            self._world.enter(env)

    def _stage(self) -> Any:
        """The context in which a scene is built."""
        return undrawn() if self._looks is None else nullcontext()

    def _draw(self, looks: Looks) -> None:
        """Have a scene that can be drawn in this way; the episode goes on where it was.

        Raises:
            RenderError: There is no render device.
        """
        if looks == self._looks:
            return
        if not has_renderer():
            raise RenderError(f"{self._card.id}: {INSTALL}")
        state = self.get_state()
        self.close()
        self._looks = looks
        self._build()
        self._seed = -1  # what is replayed now began in another scene
        if state[0] >= 0:
            self.set_state(state)

    def reset(self, seed: int) -> tuple[np.ndarray, dict[str, Any]]:
        """As the first reset of a new environment with this seed and ``options={"reconfigure": True}``."""
        with quiet(), self._stage():
            observation, _ = self._env.reset(seed=seed, options={"reconfigure": True})
        robot = self._env.agent
        for one in robot.agents if self._agents else [robot]:
            # The shell has looked for NaN; ManiSkill does again by way of NumPy, which warns at every step.
            one.set_action = one.controller.set_action
        self._seed, self._count = seed, 0
        self._observation = _flat(observation)
        return self._observation.copy(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """As the environment's own step, with every tensor of one row as a number or array."""
        if self._count >= len(self._actions):
            raise StateError(f"{self._card.id}: a state holds {len(self._actions)} actions, and so many were taken")
        self._actions[self._count] = action
        self._count += 1
        observation, reward, _, _, found = self._advance(self._given(action))
        self._observation = _flat(observation)
        info = {key: _plain(value) for key, value in found.items()}
        terminated = self._ends_on_fail and info["fail"]
        return self._observation.copy(), float(reward), terminated, False, info

    def state_size(self) -> int:
        """S: seed, steps, and room for the actions of a whole episode."""
        return 2 + self._actions.size

    def get_state(self) -> np.ndarray:
        """(S,) float64."""
        state = np.zeros(self.state_size())
        state[:2] = self._seed, self._count
        taken = self._actions[: self._count].reshape(-1)
        state[2 : 2 + taken.size] = taken
        return state

    def moving(self) -> slice:
        """Nothing: positions and velocities follow from seed and actions, and cannot be disturbed."""
        return slice(0, 0)

    def set_state(self, state: np.ndarray) -> np.ndarray:
        """Reset and replay; only the steps that are missing if the episode so far is the beginning of that one."""
        seed, count = int(state[0]), int(state[1])
        if (seed, count) != tuple(state[:2]) or not 0 <= seed < 2**32 or not 0 <= count <= len(self._actions):
            raise StateError(
                f"{self._card.id}: a state with seed {state[0]:g} and {state[1]:g} steps was not saved by this task"
            )
        actions = state[2:].reshape(self._actions.shape)[:count].astype(np.float32)
        begun = seed == self._seed and self._count <= count
        if not begun or not np.array_equal(actions[: self._count], self._actions[: self._count]):
            self.reset(seed)
        for action in actions[self._count :]:
            self.step(action)
        return self._observation.copy()

    def perturb(self, values: dict[str, float], seed: int) -> None:
        """Change every scene that is built from now on; a state is then not replayed in a scene of another world."""
        if self._world is None:
            self._world = SceneWorld()
            self._world.enter(self._env)
        if self._world.choose(values):
            self._seed = -1

    def branch(self, states: np.ndarray, action: np.ndarray, steps: np.ndarray) -> Branched | None:
        """See :func:`wmbench_envs.forks.branch_forked`: PhysX runs in the calling thread, and so can be forked."""
        return branch_forked(self, states, action, steps, len(self._card.observation))

    def look(self, view: View) -> None:
        """Get ready for :meth:`images`.

        Raises:
            RenderError: There is no render device.
        """
        self._draw(Looks(view.height, view.width, view.preset or "fast"))

    def images(self, view: View) -> dict[str, np.ndarray]:
        """See :func:`wmbench_envs.maniskill_images.photograph`.

        Raises:
            RenderError: There is no render device.
        """
        self.look(view)
        return photograph(self._env, self._card.id, view.camera, view.preset or "fast", view.images)

    def segments(self) -> dict[int, str]:
        """See :func:`wmbench_envs.maniskill_images.segments`."""
        return segments(self._env)

    def render(self, height: int, width: int) -> np.ndarray:
        """The current scene as ManiSkill shows it to people, (H, W, 3) uint8.

        Raises:
            RenderError: There is no render device.
        """
        self._draw(self._looks or Looks())
        import torch

        frame = self._env.render_rgb_array()[0].float().permute(2, 0, 1)[None]  # (1, 3, h, w)
        sized = torch.nn.functional.interpolate(frame, size=(height, width), mode="area")
        return sized[0].permute(1, 2, 0).round().clamp(0, 255).to(torch.uint8).cpu().numpy()

    def render_pose(self, observation: np.ndarray, height: int, width: int) -> np.ndarray:
        """Refused: the card of no ManiSkill task says how a scene is posed."""
        raise RenderError(f"{self._card.id}: an observation of a ManiSkill task cannot be drawn")

    def close(self) -> None:
        """Free the scene."""
        with quiet():
            self._env.close()

    def _given(self, action: np.ndarray) -> Any:
        """The action as the environment takes it."""
        if not self._agents:
            return action
        return dict(zip(self._agents, np.split(action, self._cuts), strict=True))


def _flat(observation: Any) -> np.ndarray:
    """(1, O) tensor to (O,) float32."""
    return observation[0].numpy().astype(np.float32, copy=False)


def _plain(value: Any) -> Any:
    """A tensor of one row as a bool, number or array; anything else as it is."""
    if not hasattr(value, "numpy"):
        return value
    return value.item() if value.numel() == 1 else value[0].numpy().copy()


_scenes = 0


@contextmanager
def quiet() -> Iterator[None]:
    """While a scene is built or freed: no warnings, and no search through all of the process's memory each time.

    ManiSkill collects garbage whenever it drops a scene, which takes several times as long as to build the next one.
    """
    global _scenes
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mani_skill.envs.sapien_env as module

        log = module.logger
        level = log.level
        log.setLevel(logging.ERROR)
        module.gc = SimpleNamespace(collect=lambda: 0)
        try:
            yield
        finally:
            module.gc = gc
            log.setLevel(level)
    _scenes += 1
    if _scenes % SWEEP == 0:
        gc.collect()
