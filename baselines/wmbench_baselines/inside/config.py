"""What is trained where: one algorithm in one simulator, with or without a remedy against exploitation."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Literal

PENALTIES = {
    "none": "",
    "mopo-aleatoric": "max_aleatoric",
    "mopo-deviation": "max_deviation",
    "rwm-u": "disagreement",
}
"""Penalty to the signal of the model that it multiplies. MOPO's two (arXiv 2005.13239 and its code: the largest norm of
the members' standard deviations, the largest norm of their means' deviation from the mean of all) take weight times the
signal off the reward of a step; RWM-U's (arXiv 2504.16680: deviation of the members' means, summed over dimensions)
takes weight times the signal times the length of a control step."""


@dataclass(frozen=True)
class InsideConfig:
    """One training.

    Attributes:
        task: Task id or short name.
        model: World model, by shipped name or checkpoint folder: where the policy is trained, or beside which it is
            evaluated if it is trained in the true simulator.
        where: ``"learned"`` or ``"true"``.
        algorithm: ``"SAC"`` or ``"PPO"`` of stable-baselines3.
        steps: Environment steps.
        seed: Of everything.
        num_envs: Rows.
        updates: SAC's updates per environment step, the same in both simulators.
        learning_rate: Of all optimisers.
        hidden: Hidden widths of actor and critics.
        gamma: Discount.
        penalty: Which of :data:`PENALTIES` is taken off the learned reward.
        penalty_weight: Its weight.
        branch: Steps of an imagined episode that begins in a recorded state; 0: whole episodes from true starts.
        dataset: Folder of the recorded states, for ``branch``.
        reward_noise: Standard deviation of unbiased noise on every reward: the control that has a model's errors in
            size, and none of their direction.
        evaluate_every: Steps between evaluations.
        episodes: Of an evaluation, in each simulator.
    """

    task: str
    model: str = "ensemble"
    where: Literal["learned", "true"] = "learned"
    algorithm: Literal["SAC", "PPO"] = "SAC"
    steps: int = 30_000
    seed: int = 0
    num_envs: int = 8
    updates: float = 1.0
    learning_rate: float = 3e-4
    hidden: tuple[int, ...] = (64, 64)
    gamma: float = 0.99
    penalty: str = "none"
    penalty_weight: float = 1.0
    branch: int = 0
    dataset: str = ""
    reward_noise: float = 0.0
    evaluate_every: int = 3_000
    episodes: int = 10

    def __post_init__(self) -> None:
        """Refuse what cannot be trained."""
        if self.penalty not in PENALTIES:
            raise ValueError(f"unknown penalty {self.penalty!r}: one of {', '.join(PENALTIES)}")
        if self.where == "true" and (self.penalty != "none" or self.branch):
            raise ValueError("penalties and branches are for training in the learned simulator")
        if bool(self.branch) != bool(self.dataset):
            raise ValueError("branch needs the dataset whose states it begins in, and nothing else needs one")
        if min(self.steps, self.num_envs, self.evaluate_every, self.episodes) < 1 or self.branch < 0:
            raise ValueError("steps, num_envs, evaluate_every and episodes must be positive, branch not negative")
        if min(self.updates, self.learning_rate) <= 0 or self.reward_noise < 0:
            raise ValueError("updates and learning_rate must be positive, and reward_noise not negative")

    @property
    def key(self) -> str:
        """Twelve characters that differ whenever the training does."""
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]
