"""Many scenes of a ManiSkill task stepped together, as on a GPU: rows that begin, move, end and fail on their own."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from wmbench.cards import TaskCard
from wmbench.errors import require
from wmbench_envs.maniskill import quiet
from wmbench_envs.maniskill_device import undrawn
from wmbench_envs.row_random import RowDraws, RowRandom
from wmbench_envs.twin_arrays import Arrays
from wmbench_envs.twin_core import Outcome

PHYSICS = "physx-cuda"
"""What the card says of a simulation on a GPU: PhysX takes other steps there than on a CPU, and not always the same."""


def cuda_card(card: TaskCard) -> TaskCard:
    """The card of the same task simulated on a GPU: to datasets and models another task."""
    return dataclasses.replace(card, physics=PHYSICS)


def make_scenes(card: TaskCard, num_envs: int, device: torch.device) -> Any:
    """ManiSkill's own environment with as many scenes; PhysX on a GPU if the device is one, else one scene on the CPU.

    Raises:
        MissingExtraError: ManiSkill is not installed.
    """
    require("mani_skill", "maniskill")
    kwargs = {k: v for k, v in card.kwargs.items() if k not in ("agents", "ends_on_fail")}
    number = "" if device.index is None else f":{device.index}"
    with quiet(), undrawn():
        return gym.make(
            card.backend_id,
            disable_env_checker=True,
            obs_mode="state",
            num_envs=num_envs,
            sim_backend="physx_cpu" if device.type == "cpu" else f"physx_cuda{number}",
            render_backend="none",
            reconfiguration_freq=0,
            **kwargs,
        ).unwrapped


class Scenes:
    """B scenes with what a batched environment needs around them.

    A reset of all rows builds all scenes anew; one of some rows puts their things back into the scenes that there are,
    as ManiSkill does it: the shapes of a scene (in tasks where the seed decides them) stay until the next full reset.
    Every row draws its start from its own episode's seed, as the simulation on the CPU does.

    Success does not end an episode. A row whose numbers are not finite has diverged: it keeps its last observation,
    its reward is 0, and its episode is cut off.

    Attributes:
        task: The task's card.
        num_envs: B.
        device: Where all this happens.
        observation: (B, O) float32, current; not to be handed out without a copy.
        diverged_count: Episodes that were cut off.
    """

    def __init__(
        self,
        card: TaskCard,
        num_envs: int,
        *,
        device: torch.device,
        array: str = "numpy",
        make: Callable[[TaskCard, int, torch.device], Any] = make_scenes,
    ) -> None:
        """Build the scenes.

        Args:
            card: The task's, with the physics that is meant.
            num_envs: B.
            device: CUDA, or the CPU for a single row.
            array: ``"numpy"`` or ``"torch"``, what is handed out.
            make: Builds ManiSkill's environment.
        """
        self.task, self.num_envs, self.device = card, num_envs, device
        self.observation: Any = None
        self.diverged_count = 0
        self._arrays = Arrays(array, device)
        self._agents = [(str(name), int(size)) for name, size in card.kwargs.get("agents", ())]
        self._ends_on_fail = bool(card.kwargs.get("ends_on_fail", False))
        self._env = make(card, num_envs, device)
        self._put = self._env._initialize_episode
        self._env._initialize_episode = self._initialize
        self._seeds = np.zeros(num_envs, dtype=np.int64)
        self._last = torch.zeros(num_envs, len(card.observation), device=device)
        self._elapsed = torch.zeros(num_envs, dtype=torch.int64, device=device)
        self._returns = torch.zeros(num_envs, dtype=torch.float64, device=device)

    def begin(self, seeds: np.ndarray, rows: Any = None) -> None:
        """Start episodes.

        Args:
            seeds: (n,) int64 episode seeds.
            rows: (n,) int64 rows that start, an array of the chosen kind; None for all B, in new scenes.
        """
        where = slice(None) if rows is None else self._arrays.tensor(rows)
        self._seeds[slice(None) if rows is None else self._arrays.host(rows)] = seeds
        options: dict[str, Any] = {"reconfigure": True} if rows is None else {"env_idx": where}
        with quiet(), undrawn():
            observation, _ = self._env.reset(seed=self._seeds.tolist(), options=options)
        self._last = torch.where(torch.isfinite(observation), observation, self._last).float()
        self._elapsed[where] = 0
        self._returns[where] = 0.0
        self.observation = self._arrays.of_tensor(self._last)

    def advance(self, action: torch.Tensor, rows: Any = None) -> Outcome:
        """One control step; rows that are not named move as well, and are to be begun anew.

        Args:
            action: (n, A) float32 on the device, checked and inside the bounds.
            rows: (n,) int64 rows that step, an array of the chosen kind; None for all B.
        """
        where = slice(None) if rows is None else self._arrays.tensor(rows)
        if rows is not None:
            every = torch.zeros(self.num_envs, action.shape[1], device=self.device)
            every[where] = action
            action = every
        observation, reward, _, _, found = self._env.step(self._given(action))
        observation, reward = observation.float()[where], reward.double()[where]
        finite = torch.isfinite(observation).all(-1) & torch.isfinite(reward)
        observation = torch.where(finite[:, None], observation, self._last[where])
        reward = torch.where(finite, reward, 0.0)
        elapsed, returns = self._elapsed[where] + 1, self._returns[where] + reward
        terminated = found["fail"].bool()[where] & finite if self._ends_on_fail else torch.zeros_like(finite)
        truncated = (elapsed >= self.task.horizon) | ~finite
        ended = terminated | truncated
        if self.task.success.kind == "env":
            success = found["success"].bool()[where]
        else:
            success = self.task.success(reward, returns, observation, ended)
        self._last = self._last.clone()
        self._last[where], self._elapsed[where], self._returns[where] = observation, elapsed, returns
        self.observation = self._arrays.of_tensor(self._last)
        lost = int((~finite).sum())
        self.diverged_count += lost
        out = self._arrays.of_tensor
        return Outcome(
            observation=out(observation),
            reward=out(reward),
            terminated=out(terminated),
            truncated=out(truncated),
            success=out(success & finite),
            diverged=out(~finite),
            uncertainty=None,
            ended=out(ended),
            any_ended=bool(ended.any()),
        )

    def close(self) -> None:
        """Free the scenes."""
        with quiet():
            self._env.close()

    def _initialize(self, env_idx: torch.Tensor, options: dict[str, Any]) -> None:
        """What the task itself does at the beginning of episodes, with random numbers of each row's own."""
        env, rows = self._env, env_idx.tolist()
        kept = env._episode_rng
        env._episode_rng = RowRandom([env._batched_episode_rng[row] for row in rows])
        try:
            with RowDraws(self._seeds[rows].tolist()):
                self._put(env_idx, options)
        finally:
            env._episode_rng = kept

    def _given(self, action: torch.Tensor) -> Any:
        """The actions as the environment takes them."""
        if not self._agents:
            return action
        parts = action.split([size for _, size in self._agents], dim=1)
        return {name: part for (name, _), part in zip(self._agents, parts, strict=True)}
