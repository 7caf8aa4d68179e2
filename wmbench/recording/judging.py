"""Who values action sequences: the true simulator by exact branches, a model by what it imagines."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Protocol

import gymnasium as gym
import numpy as np

from wmbench.cards import TaskCard
from wmbench.protocols import WorldModel
from wmbench.recording.branching import Branches, branch_model, branch_true

ENDS = 0.5
"""Predicted probability of termination from which on a model's episode is over, as in the learned twin."""


class Judge(Protocol):
    """Values action sequences from given states."""

    def __call__(self, observation: np.ndarray, state: np.ndarray, action: np.ndarray) -> np.ndarray:
        """Returns after 1, 2, ..., K steps.

        Args:
            observation: (n, O) float32 at the states.
            state: (n, S) float64 of the true simulator.
            action: (n, B, K, A) float32.

        Returns:
            (n, B, K) float64; NaN from where a prediction is not finite.
        """
        ...


def true_returns(branches: Branches) -> np.ndarray:
    """Returns after 1, 2, ..., K steps, (N, B, K) float64; after the episode's end they stay as they are."""
    return np.cumsum(branches.reward, axis=-1)


def going_on(answers: Mapping[str, np.ndarray]) -> np.ndarray:
    """Which steps a model's episode has: up to and with the first at which it ends, (N, B, K) bool."""
    alive = np.ones(answers["observation"].shape[:-1], dtype=bool)
    if "terminated" in answers:
        alive[..., 1:] = np.logical_and.accumulate(~(answers["terminated"][..., :-1] >= ENDS), axis=-1)
    return alive


def imagined_returns(task: TaskCard, answers: Mapping[str, np.ndarray]) -> np.ndarray:
    """Imagined returns after 1, 2, ..., K steps, by the rules of the learned twin.

    Rewards are brought into the card's range. The step at which the predicted probability of termination reaches 1/2
    is the last one that counts; a model without such a head goes on. What comes after does not matter, and where
    anything before is not finite the return is NaN from there on.

    Args:
        task: The task.
        answers: Heads of :func:`wmbench.recording.branching.branch_model`, ``reward`` among them.

    Returns:
        (N, B, K) float64.
    """
    reward = answers["reward"]
    lost = ~np.isfinite(reward) | ~np.isfinite(answers["observation"]).all(-1)
    if "terminated" in answers:
        lost |= ~np.isfinite(answers["terminated"])
    alive = going_on(answers)
    low, high = task.reward_range
    if (low, high) != (None, None):
        reward = np.clip(reward, low, high)
    total = np.cumsum(np.where(alive & ~lost, reward, 0.0), axis=-1)
    return np.where(np.logical_or.accumulate(alive & lost, axis=-1), np.nan, total)


class TrueJudge:
    """Exact branches of the true simulator. Use it as a context manager: it holds a simulator."""

    def __init__(self, task: TaskCard) -> None:
        """Make the task's simulator."""
        self.task = task
        self.simulator: Any = gym.make(task.id, **task.options()).unwrapped

    def branch(self, state: np.ndarray, action: np.ndarray) -> Branches:
        """What the simulator does from (n, S) states under (n, B, K, A) actions."""
        return branch_true(self.task, state, action, simulator=self.simulator)

    def __call__(self, observation: np.ndarray, state: np.ndarray, action: np.ndarray) -> np.ndarray:
        """See :class:`Judge`."""
        return true_returns(self.branch(state, action))

    def __enter__(self) -> TrueJudge:
        """Nothing more to open."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the simulator."""
        self.simulator.close()


class ModelJudge:
    """Imagined returns, the mean over several draws of a model that draws its predictions.

    Attributes:
        has_reward: Whether the model predicts rewards; without them everything is NaN.
    """

    def __init__(self, model: WorldModel, task: TaskCard, *, seed: int = 0, draws: int = 4) -> None:
        """Take a model.

        Args:
            model: Which.
            task: Its task.
            seed: Of its keys.
            draws: Over how many keys returns are averaged; one for a model whose first two answers agree.
        """
        self.model, self.task, self.seed, self.draws = model, task, seed, draws
        self.has_reward = "reward" in model.card.predicts
        self._random: bool | None = None

    def __call__(self, observation: np.ndarray, state: np.ndarray, action: np.ndarray) -> np.ndarray:
        """See :class:`Judge`."""
        if not self.has_reward:
            return np.full(action.shape[:3], np.nan)
        if self._random is None:
            probe = [self._once(observation, state, action[:, :1], draws) for draws in (1, 2)]
            self._random = not np.array_equal(np.tile(probe[0], (2, 1, 1)), probe[1], equal_nan=True)
        draws = self.draws if self._random else 1
        found = self._once(observation, state, action, draws)
        return found.reshape(draws, *action.shape[:3]).mean(0)

    def _once(self, observation: np.ndarray, state: np.ndarray, action: np.ndarray, draws: int) -> np.ndarray:
        """Imagined returns of every draw, (draws n, B, K)."""
        o, s, a = (np.concatenate([part] * draws) for part in (observation, state, action))
        return imagined_returns(self.task, branch_model(self.model, o, s, a, self.seed))
