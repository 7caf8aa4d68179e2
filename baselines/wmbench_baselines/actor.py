"""Trained actors as policies: the deterministic head of a SAC or PPO agent, kept as safetensors and JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from wmbench.cards import TaskCard
from wmbench_baselines.networks import Activation, SquashedMLP, check_network


@dataclass(frozen=True)
class ActorConfig:
    """Shape of the network.

    Attributes:
        hidden: Widths of the hidden layers.
        activation: Between the layers.
    """

    hidden: tuple[int, ...] = (128, 128)
    activation: Activation = "relu"

    def __post_init__(self) -> None:
        """Refuse a shape that is none."""
        check_network(self.hidden, self.activation)


class Actor(SquashedMLP):
    """A reinforcement-learned policy acting by the mean of its tanh-squashed Gaussian.

    Nothing here trains it: ``baselines/scripts/train_sac_actor.py`` and ``train_ppo_actor.py`` do, with
    stable-baselines3, and write the checkpoints that are shipped. Each says in its provenance how, and
    what it scores.
    """

    Config = ActorConfig

    def __init__(self, config: ActorConfig, task: TaskCard) -> None:
        """Build the network for a task; see :class:`SquashedMLP`."""
        super().__init__(config, task)
        self.card: dict[str, Any] = {
            "name": "actor",
            "inputs": "the flat state observation, raw",
            "consumer": "demonstrations, and a competent policy to compare simulators under",
            "risk": "trained in the true simulator alone: weak where its training never went",
        }
