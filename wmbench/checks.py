"""What every simulator refuses, true or learned: one set of rules and sentences for bad actions and bad calls."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np

from wmbench.cards import TaskCard
from wmbench.errors import InvalidActionError, LifecycleError

_FLOAT32 = np.dtype(np.float32)


def misuse(task_id: str, call: str, *, closed: bool, begun: bool, rows: Sequence[int] | None = None) -> LifecycleError:
    """The error for a call at the wrong moment; the caller raises it.

    Args:
        task_id: Id of the task.
        call: Name of the method that was called.
        closed: Whether the environment is closed.
        begun: Whether it was ever reset.
        rows: The rows of a batch whose episodes have ended, None for a single environment.
    """
    if closed:
        fault = "the environment is closed; make a new one"
    elif not begun:
        fault = "call reset() first"
    elif rows is None:
        fault = "the episode has ended; call reset()"
    else:
        fault = f'the episode of row {rows[0]} has ended; call reset(options={{"reset_mask": ...}}) for it'
    return LifecycleError(f"{task_id}: {call}() was called, but {fault}")


class ActionCheck:
    """Checks and bounds the actions of one task.

    An action is a NumPy array of floating dtype (torch tensors too where a batch of them is asked for),
    of the card's shape, finite. Outside the bounds the card's rule decides: ``clip`` to them or ``refuse``.
    """

    def __init__(self, card: TaskCard) -> None:
        """Prepare for the card's action bounds and rule."""
        self.id = card.id
        self.low, self.high = card.action_bounds()
        self.shape = self.low.shape
        self.clip = card.action_rule == "clip"
        ends = {*zip(self.low.tolist(), self.high.tolist(), strict=True)}
        self._common = ends.pop() if len(ends) == 1 else None  # the bounds of every dimension, if they agree
        self._rows = self.low[None], self.high[None]
        self._torch_bounds: dict[Any, tuple[Any, ...]] = {}

    def one(self, action: Any) -> np.ndarray:
        """Check one action; half a microsecond for one inside the bounds.

        Args:
            action: (A,) float array.

        Returns:
            (A,) float32, a fresh array inside the bounds.

        Raises:
            InvalidActionError: Not an array of floats, wrong shape, not finite, or refused.
        """
        if type(action) is not np.ndarray or action.dtype is not _FLOAT32 or action.shape != self.shape:
            action = self._convert(action, self.shape)
        if self._common is None:
            return self._bounded(action)
        low, high = self._common
        for value in action.tolist():  # for a few numbers this takes half the time of NumPy's functions
            if not low <= value <= high:  # NaN, too, ends up here
                return self._bounded(action)
        return action.copy()

    def batch(self, actions: Any, num_envs: int) -> np.ndarray:
        """Check a batch before any row of it is stepped.

        Args:
            actions: (B, A) float array.
            num_envs: B.

        Returns:
            (B, A) float32, a fresh array inside the bounds.

        Raises:
            InvalidActionError: As :meth:`one`, naming the first bad row.
        """
        actions = self._convert(actions, (num_envs, *self.shape))
        if not np.isfinite(actions).all():
            self._finite(actions, single=False)
        if len(self._rows[0]) != num_envs:  # full arrays compare several times faster than broadcast ones
            self._rows = np.tile(self.low, (num_envs, 1)), np.tile(self.high, (num_envs, 1))
        bounded = np.minimum(np.maximum(actions, self._rows[0]), self._rows[1])
        if not self.clip and not np.array_equal(bounded, actions):
            self._refuse(actions, single=False)
        return bounded

    def batch_torch(self, actions: Any, num_envs: int, device: Any) -> Any:
        """The same for a torch tensor, or a NumPy array on its way to one.

        Args:
            actions: (B, A) float tensor or array.
            num_envs: B.
            device: Where the result shall live.

        Returns:
            (B, A) float32 tensor inside the bounds; never the caller's own memory.

        Raises:
            InvalidActionError: As :meth:`batch`.
        """
        import torch

        if not isinstance(actions, torch.Tensor):
            return torch.from_numpy(self.batch(actions, num_envs)).to(device)
        if not actions.dtype.is_floating_point:
            self._fail(f"an action must hold floats, got dtype {actions.dtype}")
        if tuple(actions.shape) != (num_envs, *self.shape):
            self._fail(f"expected actions of shape {(num_envs, *self.shape)}, got {tuple(actions.shape)}")
        given = actions.detach().to(device, torch.float32)
        if not math.isfinite(float(given.sum())):  # NaN and infinity surface here; so may huge finite numbers
            self._finite(given.cpu().numpy(), single=False)
        if (device, num_envs) not in self._torch_bounds:
            bounds = (torch.from_numpy(b).to(device).repeat(num_envs, 1) for b in (self.low, self.high))
            self._torch_bounds = {(device, num_envs): tuple(bounds)}
        low, high = self._torch_bounds[device, num_envs]
        bounded = torch.minimum(torch.maximum(given, low), high)
        if not self.clip and not torch.equal(bounded, given):
            self._refuse(given.cpu().numpy(), single=False)
        return bounded

    def _bounded(self, action: np.ndarray) -> np.ndarray:
        """One action inside the bounds, by the card's rule."""
        self._finite(action[None], single=True)
        bounded = np.minimum(np.maximum(action, self.low), self.high)
        if not self.clip and not np.array_equal(bounded, action):
            self._refuse(action[None], single=True)
        return bounded

    def _convert(self, action: Any, shape: tuple[int, ...]) -> np.ndarray:
        """Accept other float dtypes; name what is wrong with anything else."""
        if not isinstance(action, np.ndarray):
            self._fail(
                f"an action must be a NumPy array of floats, got {type(action).__name__}; "
                "use np.asarray(action, dtype=np.float32)"
            )
        if action.dtype.kind != "f":
            self._fail(f"an action must hold floats, got dtype {action.dtype}")
        if action.shape != shape:
            self._fail(f"expected an action of shape {shape}, got {action.shape}")
        with np.errstate(over="ignore"):
            return np.array(action, dtype=np.float32)

    def _finite(self, actions: np.ndarray, *, single: bool) -> None:
        """Name the first number that is not finite; return if all are."""
        bad = ~np.isfinite(actions)
        if not bad.any():
            return
        row, column = (int(i) for i in np.argwhere(bad)[0])
        value = "NaN" if np.isnan(actions[row, column]) else "infinite"
        where = f"dimension {column}" if single else f"row {row}, dimension {column}"
        self._fail(f"the action is {value} in {where}")

    def _refuse(self, actions: np.ndarray, *, single: bool) -> NoReturn:
        outside = (actions < self.low) | (actions > self.high)
        row, column = (int(i) for i in np.argwhere(outside)[0])
        where = f"dimension {column}" if single else f"row {row}, dimension {column}"
        self._fail(
            f"the action is {actions[row, column]:g} in {where}, outside "
            f"[{self.low[column]:g}, {self.high[column]:g}], and this task refuses such actions"
        )

    def _fail(self, fault: str) -> NoReturn:
        raise InvalidActionError(f"{self.id}: {fault}")
