"""Acting with TD-MPC2: what is carried from step to step, in evaluation and training alike."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from wmbench_baselines.tdmpc2.planner import Planner, PlanNoise, moved_on


def to_box(action: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Actions (..., A) in [-1, 1] as the task takes them; rounding does not leave its box."""
    return np.clip(low + 0.5 * (action + 1) * (high - low), low, high)


def from_box(action: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """The inverse of :func:`to_box`; what is outside the box counts as its edge."""
    return np.clip(2 * (action - low) / (high - low) - 1, -1, 1)


def planes(pictures: np.ndarray, lead: int = 0) -> np.ndarray:
    """Pictures (..., [k,] H, W, 3), behind so many leading axes, as the model takes them: (..., 3k, H, W)."""
    x = pictures.reshape(*pictures.shape[:lead], -1, *pictures.shape[-3:])  # (..., k, H, W, 3)
    x = np.ascontiguousarray(np.moveaxis(x, -1, -3))  # (..., k, 3, H, W)
    return x.reshape(*x.shape[:lead], -1, *x.shape[-2:])


class Pilot:
    """Plans for N episodes side by side, each plan from the one before.

    Attributes:
        mean: (N, H, A), where each episode's next plan starts from; zeros for a fresh episode.
    """

    def __init__(self, planner: Planner, discount: torch.Tensor, episodes: int) -> None:
        """Begin ``episodes`` fresh episodes."""
        self.planner, self.model, self.discount = planner, planner.model, discount
        model = planner.model
        shape = (episodes, model.config.horizon, model.actions)
        self.mean = torch.zeros(shape, device=discount.device)

    @torch.inference_mode()
    def act(
        self,
        observation: torch.Tensor,
        generator: torch.Generator,
        *,
        explore: bool,
        task: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Actions (N, A) in [-1, 1] for observations (N, ...).

        On a CPU one episode is planned after the other: it is as fast, and its bits do not depend on the others.
        """
        if self.mean.device.type == "cpu" and len(self.mean) > 1:
            rows = range(len(self.mean))
            return torch.cat([self._act(slice(i, i + 1), observation, generator, explore, task) for i in rows])
        return self._act(slice(None), observation, generator, explore, task)

    def _act(
        self, rows: slice, observation: torch.Tensor, generator: torch.Generator, explore: bool, task: Any
    ) -> torch.Tensor:
        """Actions of some rows."""
        model, mean = self.model, self.mean[rows]
        task = None if task is None else task[rows]
        noise = PlanNoise.draw(self.planner.config, len(mean), model.actions, generator, explore=explore)
        discount = self.discount if task is None else self.discount[task]
        made = self.planner.plan_at(observation[rows], mean, discount, noise, task)
        self.mean[rows] = moved_on(made.mean)
        return made.action
