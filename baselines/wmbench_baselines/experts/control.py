"""What all scripted controllers share: one row of the observation in, one action out, whatever the batch."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

from wmbench.cards import TaskCard
from wmbench.errors import WmbenchError
from wmbench.protocols import State


class Controller(ABC):
    """A feedback law without memory and without chance.

    It is evaluated column by column: only elementwise functions of contiguous float64 arrays, so that a row's bits do
    not depend on the batch around it.
    """

    def __init__(self, task: TaskCard) -> None:
        """Prepare for a task's observation and action box."""
        self.task = task
        self.low, self.high = task.action_bounds()

    @abstractmethod
    def command(self, observation: np.ndarray) -> list[np.ndarray]:
        """The wanted action.

        Args:
            observation: (O, B) float64, one row per dimension.

        Returns:
            A arrays of (B,) float64, in the card's units, not yet clipped.
        """

    def initial(self, batch_size: int) -> State:
        """None: no memory."""
        return None

    def act(self, observation: np.ndarray, state: State, *, keys: np.ndarray) -> tuple[np.ndarray, State]:
        """Act on what is seen.

        Args:
            observation: (B, O) float32, as the task's card says.
            state: None.
            keys: (B,) int64, ignored.

        Returns:
            Actions (B, A) float32 inside the bounds, and None.

        Raises:
            WmbenchError: Observations of another shape.
        """
        return self.bounded(self.command(self.columns(observation))), None

    def columns(self, observation: np.ndarray) -> np.ndarray:
        """Observations (B, O) of any float type as (O, B) float64.

        Raises:
            WmbenchError: Another shape.
        """
        wanted = len(self.task.observation)
        if observation.ndim != 2 or observation.shape[1] != wanted:
            raise WmbenchError(
                f"{self.task.id}: the expert reads observations of shape (B, {wanted}), got {observation.shape}"
            )
        return np.array(observation.T, dtype=np.float64, order="C")

    def bounded(self, command: list[np.ndarray]) -> np.ndarray:
        """A columns (B,) as actions (B, A) float32 inside the bounds."""
        return np.clip(np.stack(command, axis=1).astype(np.float32), self.low, self.high)


def combine(weights: np.ndarray, columns: list[np.ndarray]) -> np.ndarray:
    """The weighted sum of n columns (B,), added in their order."""
    total = weights[0] * columns[0]
    for weight, column in zip(weights[1:], columns[1:], strict=True):
        total = total + weight * column
    return total


def quadratic(matrix: np.ndarray, columns: list[np.ndarray]) -> np.ndarray:
    """``x @ matrix @ x`` for the rows x of n columns (B,)."""
    return combine(np.ones(len(columns)), [c * combine(row, columns) for row, c in zip(matrix, columns, strict=True)])


def saturate(value: np.ndarray, limit: float) -> np.ndarray:
    """The value, or the limit with its sign."""
    return np.clip(value, -limit, limit)
