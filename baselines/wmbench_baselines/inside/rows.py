"""The rows that a policy is trained in: true or learned, penalised, noisy, or cut into short branches from data."""

from __future__ import annotations

import time
from typing import Any

import gymnasium as gym
import numpy as np

from wmbench.cards import TaskCard
from wmbench.keys import fold_in, keys_from_seeds, normal
from wmbench_baselines.inside.config import PENALTIES, InsideConfig
from wmbench_baselines.sb3 import TwinVecEnv


class InsideRows(TwinVecEnv):
    """stable-baselines3's view of one training's simulator.

    The reward that the learner sees is the simulator's, minus a penalty on the model's doubt, plus unbiased noise, as
    the config asks. ``info["episode"]["r"]`` keeps the simulator's own.

    Attributes:
        seconds: Time of this process's processor spent in the simulator so far.
    """

    def __init__(self, config: InsideConfig, card: TaskCard) -> None:
        """Make the rows.

        Raises:
            WmbenchError: The model lacks the signal that the penalty names, or another head.
        """
        options: dict[str, Any] = {"autoreset_mode": "SameStep"}
        if config.where == "learned":
            options |= {"simulator": config.model, "init": config.dataset if config.branch else None}
            options |= {"uncertainty": config.penalty != "none"}
        super().__init__(gym.make_vec(card.id, num_envs=config.num_envs, **options))
        self._signal = PENALTIES[config.penalty]
        self._weight = config.penalty_weight * (card.dt if config.penalty == "rwm-u" else 1.0)
        self._noise = config.reward_noise
        self._keys = keys_from_seeds(np.arange(config.num_envs) + 1_000_003 * config.seed)
        self._count = 0
        self._branch = config.branch
        self._box: Any = None
        if config.algorithm == "PPO":  # its Gaussian acts before a tanh, so that its mean, squashed, is an actor
            self._box = self.action_space
            self.action_space = gym.spaces.Box(-10.0, 10.0, self._box.shape, np.float32)
        self.seconds = 0.0

    def step_async(self, actions: np.ndarray) -> None:
        """Keep the actions, squashed into the task's box where the algorithm does not do that itself."""
        if self._box is not None:
            low, high = self._box.low, self._box.high
            actions = (low + 0.5 * (np.tanh(actions) + 1.0) * (high - low)).astype(np.float32)
        super().step_async(actions)

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """As :meth:`TwinVecEnv.step_wait`, with the learner's reward."""
        began = time.process_time()
        observation, reward, done, infos = super().step_wait()
        if self._signal:
            reward = reward - np.float32(self._weight) * self._doubt(infos)
        if self._noise:
            drawn = normal(fold_in(self._keys, self._count), 1)[:, 0]  # (B,)
            reward = reward + np.float32(self._noise) * drawn.astype(np.float32)
        self._count += 1
        if self._branch:
            self._cut(observation, done, infos)
        self.seconds += time.process_time() - began
        return observation, reward, done, infos

    def _doubt(self, infos: list[dict[str, Any]]) -> np.ndarray:
        """(B,) float32, the signal of every row's step."""
        return np.array([info["uncertainty"][self._signal] for info in infos], dtype=np.float32)

    def _cut(self, observation: np.ndarray, done: np.ndarray, infos: list[dict[str, Any]]) -> None:
        """End the branches that are long enough, in place: a time limit, from which the learner bootstraps."""
        mask = (self._lengths >= self._branch) & ~done
        if not mask.any():
            return
        last = observation[mask].copy()
        fresh, _ = self.venv.reset(options={"reset_mask": mask})
        for row, seen in zip(np.flatnonzero(mask).tolist(), last, strict=True):
            infos[row]["TimeLimit.truncated"] = True
            infos[row]["terminal_observation"] = seen
            infos[row]["episode"] = {"r": float(self._returns[row]), "l": int(self._lengths[row]), "t": 0.0}
        observation[mask] = fresh[mask]
        done[mask] = True
        self._returns[mask] = 0.0
        self._lengths[mask] = 0
