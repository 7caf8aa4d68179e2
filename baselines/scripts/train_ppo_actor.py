"""Trains `actor` checkpoints with PPO where SAC is too slow for a laptop: stable-baselines3, resumable, with its curve.

Example:
    python baselines/scripts/train_ppo_actor.py --task Gym-Hopper --steps 1000000 --work runs/ppo-hopper \
        --out baselines/wmbench_baselines/checkpoints/actor/Gym-Hopper-v0

PPO's Gaussian acts before a tanh that belongs to the environment, so that its mean, squashed, is an actor
like any other. Observations are normalised with running statistics, which go into the checkpoint. Evaluation,
selection, export and `--export-step` are those of `train_sac_actor.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import torch
import tyro
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from train_sac_actor import Common, evaluate_snapshot, export

from wmbench import task_card
from wmbench.cards import TaskCard
from wmbench_baselines.actor import Actor, ActorConfig


@dataclass(frozen=True)
class Settings(Common):
    """What to train, for how long, and where to put it.

    Attributes:
        num_envs: Environments side by side.
        n_steps: Steps of each between updates.
        batch_size: Transitions per gradient step.
        n_epochs: Passes over the collected steps.
        learning_rate: Of Adam, falling linearly to zero.
        gae_lambda: Of the advantage estimate.
        log_std: Initial log standard deviation of actions before the tanh.
        ent_coef: Weight of the entropy bonus.
    """

    num_envs: int = 8
    n_steps: int = 256
    batch_size: int = 128
    n_epochs: int = 10
    learning_rate: float = 3e-4
    gae_lambda: float = 0.95
    log_std: float = -0.5
    ent_coef: float = 0.0


class TanhAction(gym.ActionWrapper[np.ndarray, np.ndarray, np.ndarray]):
    """Actions before the squashing: any real number, practically."""

    def __init__(self, env: gym.Env[np.ndarray, np.ndarray]) -> None:
        """Keep the box of the task for :meth:`action`."""
        super().__init__(env)
        space: Any = env.action_space
        self._low, self._high = space.low, space.high
        self.action_space = gym.spaces.Box(-10.0, 10.0, space.shape, np.float32)

    def action(self, action: np.ndarray) -> np.ndarray:
        """Squash and scale to the task's box."""
        return self._low + np.float32(0.5) * (np.tanh(action) + np.float32(1)) * (self._high - self._low)


def actor_of(model: PPO, settings: Settings, card: TaskCard) -> Actor:
    """Copy the mean of PPO's policy, and the running normaliser, into ours."""
    actor = Actor(ActorConfig(settings.hidden, "tanh"), card)
    normalise: Any = model.get_vec_normalize_env()
    actor.normaliser.fit(normalise.obs_rms.mean, np.sqrt(normalise.obs_rms.var + normalise.epsilon))
    policy: Any = model.policy
    theirs = [m for m in (*policy.mlp_extractor.policy_net, policy.action_net) if isinstance(m, torch.nn.Linear)]
    ours = [m for m in actor.network if isinstance(m, torch.nn.Linear)]
    for source, target in zip(theirs, ours, strict=True):
        target.load_state_dict(source.state_dict())
    return actor.eval()


class Snapshots(BaseCallback):
    """Evaluates and saves between rollouts."""

    def __init__(self, settings: Settings, card: TaskCard, judge: gym.Env[Any, Any]) -> None:
        """Remember where to."""
        super().__init__()
        self.settings, self.card, self.judge = settings, card, judge
        self.last = 0

    def _on_training_start(self) -> None:
        self.last = self.num_timesteps

    def _on_rollout_start(self) -> None:
        if self.num_timesteps - self.last >= self.settings.evaluate_every:
            self.take()

    def take(self) -> None:
        """One snapshot, now."""
        self.last = self.num_timesteps
        model: Any = self.model
        evaluate_snapshot(actor_of(model, self.settings, self.card), self.num_timesteps, self.settings, self.judge)
        model.save(self.settings.work / "latest.zip")
        model.get_vec_normalize_env().save(self.settings.work / "normalise.pkl")

    def _on_step(self) -> bool:
        return True


def train(settings: Settings, card: TaskCard) -> None:
    """Train to the end, continuing what the work folder holds."""
    settings.work.mkdir(parents=True, exist_ok=True)
    rows = DummyVecEnv([partial(_row, card.id)] * settings.num_envs)
    latest = settings.work / "latest.zip"
    if latest.exists():
        model = PPO.load(latest, env=VecNormalize.load(str(settings.work / "normalise.pkl"), rows), device="cpu")
    else:
        model = PPO(
            "MlpPolicy",
            VecNormalize(rows, gamma=settings.gamma, clip_obs=1e9),
            n_steps=settings.n_steps,
            batch_size=settings.batch_size,
            n_epochs=settings.n_epochs,
            learning_rate=partial(_falling, settings.learning_rate),
            gamma=settings.gamma,
            gae_lambda=settings.gae_lambda,
            ent_coef=settings.ent_coef,
            policy_kwargs={
                "net_arch": list(settings.hidden),
                "log_std_init": settings.log_std,
                "optimizer_kwargs": {"fused": settings.fused},
            },
            seed=settings.seed,
            device="cpu",
        )
    left = settings.steps - model.num_timesteps
    if left > 0:
        snapshots = Snapshots(settings, card, gym.make(card.id))
        model.learn(left, callback=snapshots, reset_num_timesteps=False)
        snapshots.take()


def _row(task_id: str) -> gym.Env[Any, Any]:
    return TanhAction(gym.make(task_id))


def _falling(rate: float, remaining: float) -> float:
    return rate * remaining


def main(settings: Settings) -> None:
    """Train unless told only to export, then export."""
    card = task_card(settings.task)
    if not settings.export_step:
        train(settings, card)
    export(Actor(ActorConfig(settings.hidden, "tanh"), card), "PPO", settings)


if __name__ == "__main__":
    main(tyro.cli(Settings))
