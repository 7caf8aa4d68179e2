"""The small network pieces that several baselines share, and evaluation whose rows ignore the batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from wmbench.cards import TaskCard
from wmbench.errors import WmbenchError
from wmbench.protocols import State

Activation = Literal["relu", "tanh", "silu"]
ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh, "silu": nn.SiLU}
ROWS = 8
"""CPU kernels treat whole groups of this many rows alike; a remainder takes other paths with other rounding."""


def check_network(hidden: Sequence[int], activation: str) -> None:
    """Refuse sizes and activations that make no network.

    Raises:
        ValueError: A width below one, or an unknown activation.
    """
    if any(width < 1 for width in hidden):
        raise ValueError(f"hidden widths must be positive, got {tuple(hidden)}")
    if activation not in ACTIVATIONS:
        raise ValueError(f"unknown activation {activation!r}: one of {sorted(ACTIVATIONS)}")


def mlp(inputs: int, hidden: Sequence[int], outputs: int, activation: str = "relu") -> nn.Sequential:
    """A plain multilayer perceptron: linear layers with an activation between them, none after the last."""
    layers: list[nn.Module] = []
    width = inputs
    for following in hidden:
        layers += [nn.Linear(width, following), ACTIVATIONS[activation]()]
        width = following
    return nn.Sequential(*layers, nn.Linear(width, outputs))


class Normaliser(nn.Module):
    """Shift and scale per dimension, part of the state dict; the identity until it is fitted."""

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, size: int) -> None:
        """Start as the identity on ``size`` dimensions."""
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("scale", torch.ones(size))

    def fit(self, mean: Any, std: Any) -> None:
        """Take over the statistics of a train split.

        Args:
            mean: (D,) means.
            std: (D,) standard deviations. A dimension that varies by less than a millionth of its
                mean's magnitude (or of one) is constant but for rounding: it is shifted, not scaled.

        Raises:
            ValueError: A number is not finite.
        """
        mean, std = np.asarray(mean, np.float64), np.asarray(std, np.float64)
        if not (np.isfinite(mean).all() and np.isfinite(std).all()):
            raise ValueError("normalisation statistics must be finite")
        constant = std < 1e-6 * np.maximum(np.abs(mean), 1.0)
        self.mean.copy_(torch.from_numpy(mean))
        self.scale.copy_(torch.from_numpy(np.where(constant, 1.0, std)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise (..., D)."""
        return (x - self.mean) / self.scale


def rowwise(network: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Evaluate a network so that on the CPU a row's bits do not depend on the rows around it.

    Matrix products of odd row counts differ in the last bits from those of large batches, so the batch
    is padded with zeros to a multiple of :data:`ROWS`. On a GPU rows agree to a tolerance only.

    Args:
        network: Maps (B, I) to (B, O), each row by itself.
        x: (B, I) float32.

    Returns:
        (B, O) float32, without gradient.
    """
    n = len(x)
    with torch.inference_mode():
        if n % ROWS:
            x = torch.nn.functional.pad(x, (0, 0, 0, -n % ROWS))
        return network(x)[:n]


class SquashedMLP(nn.Module):
    """A deterministic policy: normaliser, multilayer perceptron, tanh, scaled to the task's action box.

    Subclasses set ``Config`` (with ``hidden`` and ``activation``) and ``card``.
    """

    low: torch.Tensor
    high: torch.Tensor

    def __init__(self, config: Any, task: TaskCard) -> None:
        """Build the network, with random weights, for a task's observation and action sizes."""
        super().__init__()
        self.config = config
        self.task = task
        low, high = task.action_bounds()
        self.register_buffer("low", torch.from_numpy(low), persistent=False)
        self.register_buffer("high", torch.from_numpy(high), persistent=False)
        self.normaliser = Normaliser(len(task.observation))
        self.network = mlp(len(task.observation), config.hidden, len(task.action), config.activation)

    def forward(self, observation: torch.Tensor) -> torch.Tensor:
        """Observations (B, O) to actions (B, A) inside the box."""
        squashed = torch.tanh(self.network(self.normaliser(observation)))  # (B, A) in [-1, 1]
        action = self.low + 0.5 * (squashed + 1.0) * (self.high - self.low)
        return torch.minimum(torch.maximum(action, self.low), self.high)  # rounding must not leave the box

    def initial(self, batch_size: int) -> State:
        """None: no memory."""
        return None

    def act(self, observation: np.ndarray, state: State, *, keys: np.ndarray) -> tuple[np.ndarray, State]:
        """The network's action for each row.

        Args:
            observation: (B, O) float32.
            state: None.
            keys: (B,) int64, ignored: the policy is deterministic.

        Returns:
            Actions (B, A) float32 inside the bounds, and None.

        Raises:
            WmbenchError: The observations have another shape.
        """
        if observation.ndim != 2 or observation.shape[1] != len(self.task.observation):
            raise WmbenchError(
                f"{self.task.id}: the policy expects observations of shape (B, {len(self.task.observation)}), "
                f"got {observation.shape}"
            )
        x = torch.from_numpy(np.ascontiguousarray(observation, np.float32)).to(self.low.device)
        return rowwise(self, x).cpu().numpy(), None
