"""The two policies that need no training: uniformly random actions, and no action at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import ndtr

from wmbench.cards import TaskCard
from wmbench.keys import normal, uniform
from wmbench.protocols import State


@dataclass(frozen=True)
class RandomConfig:
    """Settings of :class:`RandomPolicy`.

    Attributes:
        smoothness: Correlation of successive actions' latent noise, in [0, 1). 0 draws each action afresh.
    """

    smoothness: float = 0.0

    def __post_init__(self) -> None:
        """Refuse a correlation that is none."""
        if not 0.0 <= self.smoothness < 1.0:
            raise ValueError(f"smoothness must lie in [0, 1), got {self.smoothness}")


class RandomPolicy:
    """Actions uniform in the task's box, independent or correlated in time.

    Correlated actions are a Gaussian AR(1) process per dimension pushed through the normal distribution
    function (a Gaussian copula): each single action is still uniform in the box, and never leaves it.

    Attributes:
        name: What datasets call it as a source, ``"random"`` or for example ``"random-smooth0.9"``.
    """

    Config = RandomConfig

    def __init__(self, config: RandomConfig, task: TaskCard) -> None:
        """Prepare for a task's action box."""
        self.config = config
        self.task = task
        self.low, self.high = task.action_bounds()
        self.name = f"random-smooth{config.smoothness:g}" if config.smoothness else "random"
        self.card: dict[str, Any] = {
            "name": "random",
            "inputs": "nothing",
            "consumer": "exploration data, and the floor that every other policy must beat",
            "risk": "visits little of the state space; smoothness > 0 visits more",
        }

    @classmethod
    def for_task(cls, task: TaskCard, *, device: str = "cpu") -> RandomPolicy:
        """The policy with its default settings; it lives on the CPU whatever the device."""
        return cls(RandomConfig(), task)

    def initial(self, batch_size: int) -> State:
        """None for independent actions, else the latent noise (B, A) and whether it has been drawn yet (B,)."""
        if self.config.smoothness == 0.0:
            return None
        return {
            "latent": np.zeros((batch_size, len(self.low)), dtype=np.float32),
            "drawn": np.zeros(batch_size, dtype=bool),
        }

    def act(self, observation: np.ndarray, state: State, *, keys: np.ndarray) -> tuple[np.ndarray, State]:
        """Draw actions.

        Args:
            observation: (B, O) float32, ignored.
            state: As returned by :meth:`initial` or by the previous call.
            keys: (B,) int64, fresh at every step.

        Returns:
            Actions (B, A) float32 inside the bounds, and the next state.
        """
        n = len(self.low)
        if self.config.smoothness == 0.0:
            unit = uniform(keys, n)  # (B, A)
        else:
            rho = np.float32(self.config.smoothness)
            fresh = normal(keys, n)  # (B, A)
            followed = rho * state["latent"] + np.sqrt(1 - rho * rho) * fresh
            latent = np.where(state["drawn"][:, None], followed, fresh).astype(np.float32)
            unit = ndtr(latent)  # (B, A)
            state = {"latent": latent, "drawn": np.ones(len(keys), dtype=bool)}
        action = self.low + (self.high - self.low) * unit
        return np.clip(action, self.low, self.high).astype(np.float32), state  # rounding must not leave the box


@dataclass(frozen=True)
class ZeroConfig:
    """Settings of :class:`ZeroPolicy`: none."""


class ZeroPolicy:
    """The action zero, or what is nearest to it in the task's box: what the simulator does by itself."""

    Config = ZeroConfig

    def __init__(self, config: ZeroConfig, task: TaskCard) -> None:
        """Prepare for a task's action box."""
        self.config = config
        self.task = task
        low, high = task.action_bounds()
        self.action = np.clip(np.float32(0), low, high)
        self.card: dict[str, Any] = {
            "name": "zero",
            "inputs": "nothing",
            "consumer": "a reference: what happens without control",
            "risk": "none",
        }

    @classmethod
    def for_task(cls, task: TaskCard, *, device: str = "cpu") -> ZeroPolicy:
        """The policy; it lives on the CPU whatever the device."""
        return cls(ZeroConfig(), task)

    def initial(self, batch_size: int) -> State:
        """None: no memory."""
        return None

    def act(self, observation: np.ndarray, state: State, *, keys: np.ndarray) -> tuple[np.ndarray, State]:
        """The same action for every row.

        Args:
            observation: (B, O) float32, ignored.
            state: None.
            keys: (B,) int64, ignored but for their number.

        Returns:
            Actions (B, A) float32, and None.
        """
        return np.tile(self.action, (len(keys), 1)), None
