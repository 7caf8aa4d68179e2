"""Wrappers that put one known fault into a world model, so that one can see whether a measure notices."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import torch

from wmbench.cards import TaskCard
from wmbench.protocols import Prediction, Start, State, WorldModel
from wmbench.recording.executability import Plan, Planner

Actions = Callable[[torch.Tensor], torch.Tensor]


class Faulty:
    """A world model with a fault; by itself none. Its card is the model's own, under another name.

    Whatever else the model offers (its task, its tensors' device, ``to``) is reached through ``model``.
    """

    FAULT = "no fault"

    def __init__(self, model: WorldModel) -> None:
        """Wrap a model."""
        self.model = model
        self.card = dataclasses.replace(model.card, name=f"{model.card.name}, {self.FAULT}")

    def initial(self, start: Start, *, keys: torch.Tensor) -> State:
        """The model's own state."""
        return {"model": self.model.initial(start, keys=keys)}

    def step(self, state: State, action: torch.Tensor, *, uncertainty: bool = False) -> tuple[State, Prediction]:
        """The model's own step."""
        inner, answer = self.model.step(state["model"], action, uncertainty=uncertainty)
        return {"model": inner}, answer


class ShiftedAction(Faulty):
    """Acts by the action before this one: what comes of reading a recording with an offset of one.

    At an episode's first step that is the last action of the start's history, or the middle of the box.
    """

    FAULT = "action shifted"

    def __init__(self, model: WorldModel, task: TaskCard) -> None:
        """Wrap a model of a task."""
        super().__init__(model)
        self.middle = middle(task)

    def initial(self, start: Start, *, keys: torch.Tensor) -> State:
        """The model's state, and the action that will be used first."""
        history = start.history_action
        before = self.middle.expand(len(keys), -1) if history is None else history[:, -1]
        return {"model": self.model.initial(start, keys=keys), "before": before.to(start.observation)}

    def step(self, state: State, action: torch.Tensor, *, uncertainty: bool = False) -> tuple[State, Prediction]:
        """Step under the action before."""
        inner, answer = self.model.step(state["model"], state["before"], uncertainty=uncertainty)
        return {"model": inner, "before": action}, answer


class MistakenAction(Faulty):
    """Takes actions by another convention: a sign, an order of dimensions, a scale."""

    FAULT = "action mistaken"

    def __init__(self, model: WorldModel, task: TaskCard, convert: Actions) -> None:
        """Wrap a model of a task.

        Args:
            model: The model.
            task: Gives the action box, into which the result is cut.
            convert: (B, A) actions to (B, A), for example ``torch.neg``, ``lambda a: a.flip(1)`` or
                ``lambda a: 2 * a``.
        """
        super().__init__(model)
        self.low, self.high = (torch.from_numpy(b) for b in task.action_bounds())
        self.convert = convert

    def step(self, state: State, action: torch.Tensor, *, uncertainty: bool = False) -> tuple[State, Prediction]:
        """Step under the converted action."""
        low, high = self.low.to(action), self.high.to(action)
        wrong = torch.minimum(torch.maximum(self.convert(action), low), high)
        return super().step(state, wrong, uncertainty=uncertainty)


class IgnoredAction(Faulty):
    """Steps under the middle of the action box, whatever the action."""

    FAULT = "action ignored"

    def __init__(self, model: WorldModel, task: TaskCard) -> None:
        """Wrap a model of a task."""
        super().__init__(model)
        self.middle = middle(task)

    def step(self, state: State, action: torch.Tensor, *, uncertainty: bool = False) -> tuple[State, Prediction]:
        """Step under the middle of the box."""
        return super().step(state, self.middle.to(action).expand_as(action), uncertainty=uncertainty)


class StaleObservation(Faulty):
    """Steps from the state of one step ago, as behind a buffer that lags. The first step is right."""

    FAULT = "observation stale"

    def initial(self, start: Start, *, keys: torch.Tensor) -> State:
        """The model's state, twice."""
        state = self.model.initial(start, keys=keys)
        return {"model": state, "before": state}

    def step(self, state: State, action: torch.Tensor, *, uncertainty: bool = False) -> tuple[State, Prediction]:
        """Step from the state before."""
        inner, answer = self.model.step(state["before"], action, uncertainty=uncertainty)
        return {"model": inner, "before": state["model"]}, answer


class Overconfident(Faulty):
    """Claims a fraction of the standard deviation that it has reason to claim."""

    FAULT = "overconfident"

    def __init__(self, model: WorldModel, factor: float = 0.25) -> None:
        """Wrap a model that predicts ``observation_std``."""
        super().__init__(model)
        self.factor = factor

    def step(self, state: State, action: torch.Tensor, *, uncertainty: bool = False) -> tuple[State, Prediction]:
        """Step, and shrink the standard deviation."""
        following, answer = super().step(state, action, uncertainty=uncertainty)
        std = answer.observation_std
        return following, dataclasses.replace(answer, observation_std=None if std is None else self.factor * std)


class Exploitable(Faulty):
    """Pays a bonus in a region where the true simulator pays none: what a policy or planner will find."""

    FAULT = "reward exploitable"

    def __init__(self, model: WorldModel, bonus: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> None:
        """Wrap a model that predicts rewards.

        Args:
            model: The model.
            bonus: Predicted observations (B, O) and actions (B, A) to what is paid too much, (B,).
        """
        super().__init__(model)
        self.bonus = bonus

    def step(self, state: State, action: torch.Tensor, *, uncertainty: bool = False) -> tuple[State, Prediction]:
        """Step, and pay too much."""
        following, answer = super().step(state, action, uncertainty=uncertainty)
        if answer.reward is None:
            return following, answer
        extra = self.bonus(answer.observation, action).to(answer.reward)
        return following, dataclasses.replace(answer, reward=answer.reward + extra)


class DisagreeingStages:
    """A cascade whose action stage lags: beside what will happen it says the actions of one step before."""

    def __init__(self, planner: Planner) -> None:
        """Wrap a planner, see :func:`wmbench.recording.executability.record_executability`."""
        self.planner = planner

    def __call__(self, observation: np.ndarray, state: np.ndarray, steps: int) -> Plan:
        """What will happen, and the actions one step late; the first one is right."""
        plan = self.planner(observation, state, steps)
        return Plan(plan.observation, np.concatenate([plan.action[:, :1], plan.action[:, :-1]], axis=1))


def middle(task: TaskCard) -> torch.Tensor:
    """The middle of the action box, (A,) float32."""
    low, high = task.action_bounds()
    return torch.from_numpy((low + high) / 2)
