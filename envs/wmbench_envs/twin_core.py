"""B imagined episodes advanced together: heads, endings, returns, success and diverged rows, without a row loop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from wmbench.cards import ModelCard, TaskCard
from wmbench.errors import CardError, MissingHeadError
from wmbench.keys import fold_in, keys_from_seeds, uniform
from wmbench.protocols import Prediction, State, WorldModel
from wmbench.trees import gather, scatter
from wmbench_envs.twin_arrays import Arrays
from wmbench_envs.twin_pictures import TwinPictures
from wmbench_envs.twin_starts import Starts

LARGEST = float(np.finfo(np.float32).max)
TERMINATION = 0x7465726D
"""Label of the random numbers that turn a termination probability into an ending."""


def check_heads(task: TaskCard, model: ModelCard, *, uncertainty: bool) -> None:
    """Refuse a model that cannot stand in for the task's simulator.

    A head that the model lacks is accepted only where its card names a source that knows the answer:
    ``sources={"terminated": "card"}`` where the task's card says that it never terminates.

    Raises:
        MissingHeadError: A head is neither predicted nor known otherwise.
    """

    def refuse(head: str, remedy: str) -> None:
        raise MissingHeadError(f"{task.id}: model {model.name!r} has no {head!r} head, and {remedy}")

    for head in ("observation", "reward"):
        if head not in model.predicts:
            refuse(head, "nothing else can supply it; use a model that predicts it")
    if "terminated" not in model.predicts:
        source = model.sources.get("terminated")
        if source != "card":
            named = "its card declares no source for it" if source is None else f"its source {source!r} is unknown"
            refuse("terminated", f"{named}; predict it, or declare 'card' where the task never terminates")
        if task.terminates:
            refuse("terminated", "the source 'card' does not do here, because this task can terminate; predict it")
    if task.success.kind == "env" and "success" not in model.predicts:
        refuse("success", "this task's success cannot be computed from observation and reward; predict it")
    if uncertainty and "uncertainty" not in model.predicts:
        refuse("uncertainty", "uncertainty=True was asked for; use a model that predicts it, or leave it off")


@dataclass
class Outcome:
    """What one control step did to n rows; NumPy arrays or torch tensors, as the core was built.

    Attributes:
        observation: (n, O) float32, not yet copied for the caller.
        reward: (n,) float64, inside the card's ``reward_range``.
        terminated: (n,) bool.
        truncated: (n,) bool.
        success: (n,) bool.
        diverged: (n,) bool: the prediction was not finite. The observation is then the last finite one, the
            reward 0 by declaration, and the row truncated.
        uncertainty: name to (n,) float32, infinite where the model's own number was not finite; or None.
        ended: (n,) bool, terminated or truncated.
        any_ended: Whether any row ended.
    """

    observation: Any
    reward: Any
    terminated: Any
    truncated: Any
    success: Any
    diverged: Any
    uncertainty: dict[str, Any] | None
    ended: Any
    any_ended: bool


class Imagination:
    """A world model with everything an environment needs around it, for B rows at once.

    Attributes:
        task: The task's card.
        model: The world model.
        state: The model's own state, a pytree with B rows.
        observation: (B, O) float32, the current observations; not to be handed out without a copy.
        diverged_count: How many episodes ended because a prediction was not finite.
        pictures: What rows show, if anybody looks; kept up to date with the observations.
    """

    def __init__(
        self,
        task: TaskCard,
        model: WorldModel,
        starts: Starts,
        num_envs: int,
        *,
        device: torch.device,
        array: str = "numpy",
        uncertainty: bool = False,
    ) -> None:
        """Prepare; nothing is imagined yet.

        Args:
            task: The task.
            model: The world model, already on ``device``.
            starts: Where episodes begin.
            num_envs: B.
            device: The model's device.
            array: ``"numpy"`` (bookkeeping on the CPU) or ``"torch"`` (everything stays on ``device``).
            uncertainty: Whether the model is asked for it at every step.

        Raises:
            MissingHeadError: See :func:`check_heads`.
        """
        check_heads(task, model.card, uncertainty=uncertainty)
        self.task = task
        self.model = model
        self.num_envs = num_envs
        self.device = device
        self.state: State = None
        self.observation: Any = None
        self.diverged_count = 0
        self.pictures: TwinPictures | None = None
        self._starts = starts
        self._uncertainty = uncertainty
        self._arrays = Arrays(array, device)
        self._terminates = "terminated" in model.card.predicts
        self._sampled = model.card.termination == "sample"
        self._success_head = task.success.kind == "env"
        self._keys: Any = None  # (B,) int64
        self._elapsed: Any = None  # (B,) int64, steps taken
        self._returns: Any = None  # (B,) float64, rewards summed
        bounds = [self._bound([d.low for d in task.observation], -np.inf)]
        bounds += [self._bound([d.high for d in task.observation], np.inf)]
        self._bounds = bounds if any(bool(self._arrays.xp.isfinite(b).any()) for b in bounds) else None

    def begin(self, seeds: np.ndarray, rows: Any = None) -> None:
        """Start episodes.

        Args:
            seeds: (n,) int64 episode seeds.
            rows: (n,) int64 indices of the rows that start, an array of the core's kind; None for all B.
        """
        start = self._starts.draw(seeds)
        given = keys_from_seeds(seeds)
        with torch.no_grad():
            state = self.model.initial(start, keys=torch.from_numpy(given.copy()).to(self.device))
        observation = self._arrays.of_tensor(start.observation)
        keys = self._arrays.of_numpy(given)
        if rows is None:
            n = self.num_envs
            self.state, self.observation, self._keys = state, observation, keys
            self._elapsed = self._arrays.zeros(n, "int64")
            self._returns = self._arrays.zeros(n, "float64")
        else:
            self.state = scatter(self.state, self._arrays.tensor(rows), state)
            self.observation = scatter(self.observation, rows, observation)
            self._keys[rows] = keys
            self._elapsed[rows] = 0
            self._returns[rows] = 0.0
        if self.pictures is not None:
            self.pictures.begin(self.state, *self._seen(rows))

    def advance(self, action: torch.Tensor, rows: Any = None) -> Outcome:
        """One control step.

        Args:
            action: (n, A) float32 on the model's device, checked and inside the bounds.
            rows: (n,) int64 indices of the rows that step, an array of the core's kind; None for all B.

        Raises:
            CardError: A prediction has another shape than promised.
            MissingHeadError: A head that the model's card promises is None.
        """
        state = self.state if rows is None else gather(self.state, self._arrays.tensor(rows))
        with torch.no_grad():
            state, prediction = self.model.step(state, action, uncertainty=self._uncertainty)
        n = action.shape[0]
        xp = self._arrays.xp
        observation = self._head(prediction, "observation", (n, len(self.task.observation)), torch.float32)
        reward = self._head(prediction, "reward", (n,), torch.float64)
        ending = self._head(prediction, "terminated", (n,), torch.float32) if self._terminates else None
        solved = self._head(prediction, "success", (n,), torch.float32) if self._success_head else None
        uncertainty = self._uncertainties(prediction, n) if self._uncertainty else None
        finite = self._finite_rows(observation, reward, ending, solved)
        elapsed = (self._elapsed if rows is None else self._elapsed[rows]) + 1
        truncated = elapsed >= self.task.horizon
        terminated = self._endings(ending, elapsed, rows)
        if finite is not None:
            last = self.observation if rows is None else self.observation[rows]
            observation = xp.where(finite[:, None], observation, last)
            reward = xp.where(finite, reward, xp.zeros_like(reward))
            terminated = terminated & finite
            truncated = truncated | ~finite
        if self._bounds is not None:
            observation = xp.minimum(xp.maximum(observation, self._bounds[0]), self._bounds[1])
        if self.task.reward_range != (None, None):
            reward = reward.clip(*self.task.reward_range)  # what the card knows, the twin obeys
        returns = (self._returns if rows is None else self._returns[rows]) + reward
        ended = terminated | truncated
        with np.errstate(over="ignore"):  # an observation may be finite and its square not
            success = self.task.success(reward, returns, observation, ended) if solved is None else solved >= 0.5
        diverged = self._arrays.zeros(n, "bool")
        if finite is not None:
            diverged, success = ~finite, success & finite
            self.diverged_count += int(diverged.sum())
        if rows is None:
            self.state, self.observation = state, observation
            self._elapsed, self._returns = elapsed, returns
        else:
            self.state = scatter(self.state, self._arrays.tensor(rows), state)
            self.observation = scatter(self.observation, rows, observation)
            self._elapsed[rows], self._returns[rows] = elapsed, returns
        if self.pictures is not None:
            self.pictures.after(self.state, *self._seen(rows))
        any_ended = bool(ended.any())
        return Outcome(observation, reward, terminated, truncated, success, diverged, uncertainty, ended, any_ended)

    def _seen(self, rows: Any) -> tuple[np.ndarray, Any]:
        """Observations (B, O), and which rows have changed, on the CPU."""
        return self._arrays.host(self.observation), None if rows is None else self._arrays.host(rows)

    def close(self) -> None:
        """Free the simulators that starts were drawn from, and what the model holds, if it has a ``close``."""
        self._starts.close()
        if self.pictures is not None:
            self.pictures.close()
        if hasattr(self.model, "close"):
            self.model.close()

    def _finite_rows(self, observation: Any, reward: Any, *probabilities: Any) -> Any:
        """(n,) bool, rows with a finite prediction; None if all are, which one sum over everything can tell."""
        given = [p for p in probabilities if p is not None]
        with np.errstate(over="ignore", invalid="ignore"):
            total = observation.sum() + abs(reward).sum() + sum(p.sum() for p in given)
            if abs(total) < LARGEST:  # False for NaN
                return None
        xp = self._arrays.xp
        finite = xp.isfinite(observation).all(-1) & (abs(reward) <= LARGEST)  # NaN compares as False
        for p in given:
            finite = finite & xp.isfinite(p)
        return None if bool(finite.all()) else finite

    def _endings(self, probability: Any, elapsed: Any, rows: Any) -> Any:
        """(n,) bool: which rows terminate, by the rule of the model's card."""
        if probability is None:
            return self._arrays.zeros(len(elapsed), "bool")
        if not self._sampled:
            return probability >= 0.5
        keys = self._keys if rows is None else self._keys[rows]
        return uniform(fold_in(fold_in(keys, TERMINATION), elapsed), 1)[:, 0] < probability

    def _head(self, prediction: Prediction, head: str, shape: tuple[int, ...], dtype: torch.dtype) -> Any:
        """A prediction as an array of the core's kind, after a look at its shape."""
        value = getattr(prediction, head)
        name = self.model.card.name
        if value is None:
            raise MissingHeadError(f"{self.task.id}: model {name!r} promises {head!r} in its card and predicted None")
        if tuple(value.shape) != shape:
            raise CardError(
                f"{self.task.id}: model {name!r} predicted {head!r} of shape {tuple(value.shape)}, expected {shape}"
            )
        return self._arrays.of_tensor(value.to(dtype))

    def _uncertainties(self, prediction: Prediction, n: int) -> dict[str, Any]:
        """Named uncertainties with infinity for what is not finite."""
        given = prediction.uncertainty
        if given is None:
            raise MissingHeadError(
                f"{self.task.id}: model {self.model.card.name!r} promises 'uncertainty' in its card and predicted None"
            )
        found = {}
        for name, value in given.items():
            if tuple(value.shape) != (n,):
                raise CardError(
                    f"{self.task.id}: model {self.model.card.name!r} gave uncertainty {name!r} of shape "
                    f"{tuple(value.shape)}, expected {(n,)}"
                )
            array = self._arrays.of_tensor(
                torch.nan_to_num(value.float(), nan=torch.inf, posinf=torch.inf, neginf=torch.inf)
            )
            found[name] = array
        return found

    def _bound(self, values: list[float | None], missing: float) -> Any:
        return self._arrays.of_numpy(np.array([missing if v is None else v for v in values], dtype=np.float32))
