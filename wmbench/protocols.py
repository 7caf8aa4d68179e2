"""The contracts between the suite and its contestants: simulators, world models and policies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import torch

    from wmbench.cards import ModelCard, TaskCard

State = Any
"""A pytree (dict, list, tuple, None) of arrays or tensors whose first axis is the batch."""


@runtime_checkable
class Simulator(Protocol):
    """A true environment (``env.unwrapped``) as exact branching needs it."""

    card: TaskCard

    def get_state(self) -> np.ndarray:
        """Everything the next observation, reward and ending depend on: (S,) float64."""
        ...

    def set_state(self, state: np.ndarray) -> np.ndarray:
        """Continue from a saved state; the rollout equals the original. Returns the observation there, (O,) float32."""
        ...


@dataclass
class Start:
    """Where B imagined episodes begin.

    Attributes:
        observation: (B, O) float32, the current observation.
        history_observation: (B, H, O) float32, observations before the current one, oldest first, or None.
        history_action: (B, H, A) float32, the actions taken at them, or None.
        sim_state: (B, S) float64, state of the true simulator at this moment, or None.
        seed: (B,) int64, seed whose reset gave this start, -1 where it did not; or None.
    """

    observation: torch.Tensor
    history_observation: torch.Tensor | None = None
    history_action: torch.Tensor | None = None
    sim_state: torch.Tensor | None = None
    seed: torch.Tensor | None = None


@dataclass
class Prediction:
    """What a world model says happens next, for B rows. A head the model lacks is None, never zeros.

    Attributes:
        observation: (B, O) float32.
        observation_std: (B, O) float32, standard deviation of the predicted distribution.
        reward: (B,) float64.
        terminated: (B,) float32, probability that the task ends here.
        success: (B,) float32, probability that the task counts as solved at this step.
        uncertainty: name to (B,) float32; larger means less sure. Units are the model's to declare.
    """

    observation: torch.Tensor
    observation_std: torch.Tensor | None = None
    reward: torch.Tensor | None = None
    terminated: torch.Tensor | None = None
    success: torch.Tensor | None = None
    uncertainty: dict[str, torch.Tensor] | None = None


@runtime_checkable
class WorldModel(Protocol):
    """A learned simulator: batch first, torch, any device.

    Classes registered under the entry-point group ``wmbench.world_models`` offer, besides the two
    methods below, what :class:`Trainable` lists. The state is a pytree whose leaves all have the batch
    as first axis, so the twin can gather and scatter rows of it; it carries the rows' random keys.
    """

    card: ModelCard

    def initial(self, start: Start, *, keys: torch.Tensor) -> State:
        """State of B episodes that begin at ``start``.

        Args:
            start: Where they begin.
            keys: (B,) int64 random keys, see :mod:`wmbench.keys`; all noise must derive from them.
        """
        ...

    def step(self, state: State, action: torch.Tensor, *, uncertainty: bool = False) -> tuple[State, Prediction]:
        """One control step for B rows, without changing ``state`` in place.

        Args:
            state: As returned by :meth:`initial` or :meth:`step`.
            action: (B, A) float32, finite, inside the task's bounds.
            uncertainty: Whether ``Prediction.uncertainty`` (and ``observation_std``) is wanted; it may cost
                more than the prediction itself.
        """
        ...


@runtime_checkable
class Policy(Protocol):
    """Anything that acts, in the true and in the learned simulator alike; NumPy at the boundary.

    It acts on the state, unless an attribute ``observation`` says otherwise: see :func:`wmbench.views.wanted_by`.
    """

    def initial(self, batch_size: int) -> State:
        """State of ``batch_size`` fresh episodes; None for a policy without memory."""
        ...

    def act(self, observation: np.ndarray, state: State, *, keys: np.ndarray) -> tuple[np.ndarray, State]:
        """Choose actions for B rows.

        Args:
            observation: (B, O) float32, or what it declares to act on.
            state: Pytree of NumPy arrays with the batch first, or None.
            keys: (B,) int64, fresh at every step; all randomness must derive from them.

        Returns:
            Actions (B, A) float32 inside the task's bounds, and the next state. Row i must not depend on
            the other rows, nor on how many there are.
        """
        ...


@runtime_checkable
class Intervened(Protocol):
    """A policy that something else takes over from now and then, and that can say afterwards when that was."""

    def interventions(self, seeds: Sequence[int] | np.ndarray, steps: int) -> np.ndarray:
        """(B, T) bool for B episodes by their seeds and T steps, True where not the policy itself acted."""
        ...


@runtime_checkable
class InverseModel(Protocol):
    """Reads the action off two consecutive observations of the true simulator; NumPy at the boundary.

    Classes registered under the entry-point group ``wmbench.inverse_models`` offer, besides the method below, what
    :class:`Trainable` lists.
    """

    task: TaskCard

    def recover(self, observation: np.ndarray, following: np.ndarray) -> np.ndarray:
        """What each of E members takes the action to have been.

        Args:
            observation: (B, O) float32, finite.
            following: (B, O) float32, finite, one control step later.

        Returns:
            (E, B, A) float32 inside the task's bounds, E at least 2: how far members differ tells how sure they are.
        """
        ...


class Trainable(Protocol):
    """What a registered world-model or policy class offers so that it can be trained, saved and loaded.

    The class is constructed as ``Class(config, task)``. If it is a ``torch.nn.Module``, everything that
    training finds out (weights, normalisers, elites) lives in its state dict; :mod:`wmbench.checkpoints`
    then saves and loads it without further code.
    """

    Config: ClassVar[type]
    """Frozen dataclass of plain values (numbers, strings, booleans, tuples of them)."""

    card: ModelCard
    config: Any
    task: TaskCard

    def __init__(self, config: Any, task: TaskCard) -> None: ...

    @classmethod
    def fit(
        cls, config: Any, dataset: Any, *, folder: Path, seed: int = 0, device: str = "cpu", progress: bool = True
    ) -> Any:
        """Train on a :class:`wmbench.episodes.Dataset`, resuming from ``folder`` if a run was interrupted there.

        Deterministic on the CPU given the seed. Writes ``log.jsonl`` (one object per epoch) to ``folder``
        and returns the trained object; saving the checkpoint is the caller's work.
        """
        ...
