"""A policy that plays: it wanders, holds, rests or lets another policy act, and switches among these at random."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from wmbench.cards import TaskCard
from wmbench.delays import default_action
from wmbench.keys import fold_in, randint, uniform
from wmbench.protocols import Policy, State
from wmbench_baselines.simple import RandomConfig, RandomPolicy

SWITCH, CHOICE, HELD, INNER = 0x70737769, 0x70636869, 0x7068656C, 0x70696E6E
"""Labels of the random numbers: whether to switch, to what, which action is held, and the keys of other policies."""


@dataclass(frozen=True)
class PlayConfig:
    """Settings of :class:`Play`.

    Attributes:
        policies: Registered names or checkpoint folders of who else may act.
        seconds: How long a behaviour lasts on average, in simulated time.
        smoothness: Of the wandering, see :class:`wmbench_baselines.simple.RandomConfig`.
    """

    policies: tuple[str, ...] = ()
    seconds: float = 0.5
    smoothness: float = 0.9

    def __post_init__(self) -> None:
        """Refuse a time that is none."""
        if not 0 < self.seconds < float("inf"):
            raise ValueError(f"seconds must be positive, got {self.seconds}")


class Play:
    """Undirected behaviour that reaches what uniform noise does not.

    At every step a new behaviour is chosen with probability dt / seconds, all with the same chance: smooth random
    actions, one random action held, no action (or what is nearest to zero in the box), or one of the policies.
    """

    Config = PlayConfig

    def __init__(self, config: PlayConfig, task: TaskCard) -> None:
        """Gather the behaviours.

        Raises:
            CheckpointError: There is no such policy for the task.
        """
        from wmbench.checkpoints import resolve

        self.config = config
        self.task = task
        self.chance = min(1.0, task.dt / config.seconds)
        self.low, self.high = task.action_bounds()
        self._nothing = default_action(task, "zero")
        others: list[Policy] = [resolve(name, task, kind="policy") for name in config.policies]
        self.policies: list[Policy] = [RandomPolicy(RandomConfig(config.smoothness), task), *others]
        self.card: dict[str, Any] = {
            "name": "play",
            "inputs": "what the policies inside read",
            "consumer": "broad data without a goal",
            "risk": "without policies inside it seldom touches anything",
        }

    @classmethod
    def for_task(cls, task: TaskCard, *, device: str = "cpu") -> Play:
        """Wandering, holding and resting; it lives on the CPU whatever the device."""
        return cls(PlayConfig(), task)

    def initial(self, batch_size: int) -> State:
        """The policies' states, the behaviour (B,) int64 (-1: none chosen yet) and the held action (B, A)."""
        return {
            "policies": [policy.initial(batch_size) for policy in self.policies],
            "behaviour": np.full(batch_size, -1, dtype=np.int64),
            "held": np.zeros((batch_size, len(self.low)), dtype=np.float32),
        }

    def act(self, observation: np.ndarray, state: State, *, keys: np.ndarray) -> tuple[np.ndarray, State]:
        """Actions (B, A) of each row's behaviour, and the next state; the policies see every step."""
        switch = (uniform(fold_in(keys, SWITCH), 1)[:, 0] < self.chance) | (state["behaviour"] < 0)  # (B,)
        drawn = randint(fold_in(keys, CHOICE), 2 + len(self.policies))
        behaviour = np.where(switch, drawn, state["behaviour"])
        fresh = self.low + (self.high - self.low) * uniform(fold_in(keys, HELD), len(self.low))  # (B, A)
        held = np.where(switch[:, None], np.clip(fresh, self.low, self.high), state["held"]).astype(np.float32)
        action = np.where((behaviour == 0)[:, None], held, self._nothing).astype(np.float32)
        memories = []
        for i, (policy, memory) in enumerate(zip(self.policies, state["policies"], strict=True)):
            own, memory = policy.act(observation, memory, keys=fold_in(keys, INNER + i))
            action = np.where((behaviour == 2 + i)[:, None], own, action).astype(np.float32)
            memories.append(memory)
        return action, {"policies": memories, "behaviour": behaviour, "held": held}
