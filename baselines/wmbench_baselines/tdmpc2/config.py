"""Settings of TD-MPC2: the published ones are the defaults, the published sizes and a CPU preset have names."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

SIZES: Mapping[int, Mapping[str, int]] = {
    1: {"enc_dim": 256, "mlp_dim": 384, "latent_dim": 128, "enc_layers": 2, "num_q": 2},
    5: {"enc_dim": 256, "mlp_dim": 512, "latent_dim": 512, "enc_layers": 2, "num_q": 5},
    19: {"enc_dim": 1024, "mlp_dim": 1024, "latent_dim": 768, "enc_layers": 3, "num_q": 5},
    48: {"enc_dim": 1792, "mlp_dim": 1792, "latent_dim": 768, "enc_layers": 4, "num_q": 5},
    317: {"enc_dim": 4096, "mlp_dim": 4096, "latent_dim": 1376, "enc_layers": 5, "num_q": 8},
}
"""The published sizes, in millions of parameters (``tdmpc2/common/__init__.py`` of nicklashansen/tdmpc2)."""


PIXELS = 64
"""Height and width of images."""

_COUNTS = (
    *("enc_dim", "mlp_dim", "latent_dim", "enc_layers", "simnorm_dim", "task_dim", "frame_stack", "horizon"),
    *("iterations", "replan", "batch_size", "capacity", "action_repeat", "frames", "updates", "head_updates"),
    *("eval_every", "eval_episodes", "channels"),
)
"""Settings that must be one at least."""
_POSITIVE = ("learning_rate", "encoder_rate", "grad_clip", "temperature", "discount_denominator")
_WEIGHTS = tuple(f"{name}_weight" for name in ("consistency", "reward", "value", "termination", "entropy"))


@dataclass(frozen=True)
class TDMPC2Config:
    """Settings of the model, its planner, its losses and its training.

    Every default is the published one (``tdmpc2/config.yaml`` at e9f5932), except where a line says otherwise.

    Attributes:
        enc_dim: Width of the encoder's hidden layers.
        mlp_dim: Width of all other hidden layers.
        latent_dim: Numbers of a latent state, a multiple of ``simnorm_dim``.
        enc_layers: Layers of the encoder, the output included; one hidden layer at least.
        num_q: Q-functions.
        simnorm_dim: Numbers of one simplex of the latent state.
        num_bins: Bins of the distributions over rewards and values.
        vmin: Lowest bin, in symlog space.
        vmax: Highest bin, in symlog space.
        dropout: Share of hidden units dropped, in the first layer of the Q-functions.
        log_std_min: Least log standard deviation of the policy prior.
        log_std_max: Largest.
        task_dim: Numbers of a task's embedding, if there is more than one task.
        observation: ``"state"`` or ``"rgb"``, images of 64 x 64 pixels.
        frame_stack: Images of the latest steps that are seen together.
        channels: Of the convolutions, for images; the latent state has 16 times as many numbers.
        horizon: Steps planned and trained ahead.
        iterations: Rounds of planning; two more for 20 or more action dimensions, as published.
        samples: Action sequences per round, those of the prior included.
        elites: The best so many of them make the next distribution.
        prior_samples: Sequences from the policy prior.
        min_std: Least standard deviation of the planner's distribution.
        max_std: Largest, and the first.
        temperature: Factor of the elites' values before the softmax that weighs them.
        replan: Steps of a plan that are acted out before the next is made.
        batch_size: Windows per update.
        learning_rate: Of both Adams.
        encoder_rate: Factor of the learning rate for the encoder.
        grad_clip: Largest norm of the gradient.
        tau: Rate of the target Q-functions and of the running scale.
        rho: Weight of each step ahead relative to the one before.
        consistency_weight: Of the latent loss.
        reward_weight: Of the reward loss.
        value_weight: Of the value loss.
        termination_weight: Of the termination loss, for tasks that end.
        entropy_weight: Of the policy's entropy.
        entropy: ``"squashed"``: as in the code that made the published curves, with the tanh's correction;
            ``"gaussian"``: as in the code since December 2024, without it.
        discount_denominator: The discount is (T/d - 1) / (T/d) for episodes of T steps, within bounds.
        discount_min: Lower bound.
        discount_max: Upper bound.
        capacity: Steps kept for replay.
        action_repeat: Control steps per action in online training; offline it is the dataset's. Everything above
            counts actions, ``frames`` and ``eval_every`` count control steps.
        frames: Control steps trained for, online (our default: 100 000).
        updates: Updates, offline (our default: 100 000).
        head_updates: Updates of the heads that are read off frozen latents afterwards: the decoder, which the method
            lacks and a simulator needs, and a success head where only the environment knows (ours).
        eval_every: Control steps between evaluations (our default; published: 100 000).
        eval_episodes: Episodes of one evaluation.
        seed_steps: Random actions at the start; 0 is the published rule, five episodes and 1000 at least.
        tasks: Of a model of several tasks: id, observation and action size of each, and whether it can end; training
            fills it in.
        compile: Whether planner and update run compiled; the numbers agree to rounding. Needs a C++ compiler. On a GPU
            each of them is one CUDA graph, and products are in TF32, as published.
    """

    enc_dim: int = 256
    mlp_dim: int = 512
    latent_dim: int = 512
    enc_layers: int = 2
    num_q: int = 5
    simnorm_dim: int = 8
    num_bins: int = 101
    vmin: float = -10.0
    vmax: float = 10.0
    dropout: float = 0.01
    log_std_min: float = -10.0
    log_std_max: float = 2.0
    task_dim: int = 96
    observation: Literal["state", "rgb"] = "state"
    frame_stack: int = 3
    channels: int = 32
    horizon: int = 3
    iterations: int = 6
    samples: int = 512
    elites: int = 64
    prior_samples: int = 24
    min_std: float = 0.05
    max_std: float = 2.0
    temperature: float = 0.5
    replan: int = 1
    batch_size: int = 256
    learning_rate: float = 3e-4
    encoder_rate: float = 0.3
    grad_clip: float = 20.0
    tau: float = 0.01
    rho: float = 0.5
    consistency_weight: float = 20.0
    reward_weight: float = 0.1
    value_weight: float = 0.1
    termination_weight: float = 1.0
    entropy_weight: float = 1e-4
    entropy: Literal["squashed", "gaussian"] = "squashed"
    discount_denominator: float = 5.0
    discount_min: float = 0.95
    discount_max: float = 0.995
    capacity: int = 1_000_000
    action_repeat: int = 2
    frames: int = 100_000
    updates: int = 100_000
    head_updates: int = 5_000
    eval_every: int = 10_000
    eval_episodes: int = 10
    seed_steps: int = 0
    compile: bool = False
    tasks: tuple[tuple[str, int, int, bool], ...] = ()

    def __post_init__(self) -> None:
        """Refuse settings that make no model, no plan or no training."""
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"{field.name} must be a finite number, got {value}")
        for name in _COUNTS:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.observation not in ("state", "rgb") or self.entropy not in ("squashed", "gaussian"):
            raise ValueError(
                f"observation must be state or rgb, and entropy squashed or gaussian, got {self.observation!r} and "
                f"{self.entropy!r}"
            )
        if self.latent_dim % self.simnorm_dim:
            raise ValueError(f"latent_dim {self.latent_dim} must be a multiple of simnorm_dim {self.simnorm_dim}")
        if self.observation == "rgb" and self.latent_dim != 16 * self.channels:
            raise ValueError(
                f"with observation='rgb' latent_dim must be 16 times channels, got {self.latent_dim} and "
                f"{self.channels}: set channels to {max(1, self.latent_dim // 16)}"
            )
        if self.num_q < 2 or self.num_bins < 2 or not self.vmin < self.vmax:
            raise ValueError("num_q and num_bins must be at least 2, and vmin below vmax")
        if not 0 <= self.prior_samples < self.samples or not 1 <= self.elites <= self.samples:
            raise ValueError(f"prior_samples and elites must fit into samples ({self.samples})")
        if not 0 < self.min_std <= self.max_std or not self.log_std_min < self.log_std_max:
            raise ValueError("standard deviations need 0 < min <= max")
        if self.replan > self.horizon:
            raise ValueError(f"replan must not exceed the horizon ({self.horizon}), got {self.replan}")
        if not 0 <= self.dropout < 1 or not 0 < self.tau <= 1 or not 0 < self.rho <= 1:
            raise ValueError("dropout must lie in [0, 1), tau and rho in (0, 1]")
        for name in _POSITIVE:
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        for name in _WEIGHTS:
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        if not 0 < self.discount_min <= self.discount_max < 1 or self.seed_steps < 0:
            raise ValueError("discounts must lie in (0, 1), min <= max, and seed_steps must not be negative")

    def shape(self, numbers: int) -> int | tuple[int, int, int]:
        """What the encoder takes in: so many numbers of a state, or planes, height and width of stacked images."""
        return numbers if self.observation == "state" else (3 * self.frame_stack, PIXELS, PIXELS)

    def discount(self, steps: int) -> float:
        """Discount for episodes of so many actions: linear in the length, within bounds."""
        fraction = steps / self.discount_denominator
        return min(max((fraction - 1) / fraction, self.discount_min), self.discount_max)

    def rounds(self, actions: int) -> int:
        """Rounds of planning for so many action dimensions."""
        return self.iterations + 2 * (actions >= 20)

    def random_steps(self, steps: int) -> int:
        """Random actions before training, for episodes of so many actions."""
        return self.seed_steps or max(1000, 5 * steps)


def of_size(size: int, **changes: Any) -> TDMPC2Config:
    """The published settings at a published size.

    Args:
        size: One of :data:`SIZES`.
        **changes: Fields that differ.
    """
    return dataclasses.replace(TDMPC2Config(), **{**SIZES[size], **changes})


PRESETS: Mapping[str, TDMPC2Config] = {
    **{f"size-{size}": of_size(size) for size in SIZES},
    "gym": of_size(5, action_repeat=1, discount_max=0.99, rho=0.7),
    "cpu": of_size(1, samples=256, elites=32, iterations=4, compile=True),
}
"""``size-N``: as published. ``gym``: size 5 with what the public code sets for Gymnasium's tasks (``envs/mujoco.py``).
``cpu``: size 1 and a third of the planner's work, else as published; see the README."""
