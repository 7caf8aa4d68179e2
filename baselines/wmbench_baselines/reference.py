"""World models fitted in a second, beside which every other is judged: copy-last, mean-delta, linear, random-walk."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import nn

from wmbench.cards import ModelCard, TaskCard
from wmbench.errors import DatasetError
from wmbench.files import write_atomically
from wmbench.keys import fold_in, normal
from wmbench.protocols import Prediction, Start, State
from wmbench_baselines.networks import ROWS
from wmbench_baselines.regression import least_squares, logistic, rate

TRANSITIONS = 20_000
"""At most so many transitions are fitted to; more would change the third digit and cost seconds."""
COLUMNS = 16
"""Columns of a product come in groups of this many; a remainder goes through kernels whose rounding depends on
where in the batch a row stands (MKL, both precisions, rows modulo 4)."""
CLASSIFIED = 5_000
"""At most so many are used for a logistic head."""


@dataclass(frozen=True)
class ReferenceConfig:
    """Settings of all reference models.

    Attributes:
        ridge: Penalty on the weights of standardised inputs, as a fraction of the number of transitions.
    """

    ridge: float = 1e-6

    def __post_init__(self) -> None:
        """Refuse a penalty that is none."""
        if not 0.0 < self.ridge < float("inf"):
            raise ValueError(f"ridge must be positive, got {self.ridge}")


class Reference(nn.Module):
    """What the reference models share: a linear reward, an ending and a success where the task needs them.

    All numbers are float64 and part of the state dict. A model's columns are the outputs of one product of
    the inputs ``[observation, action, 1]`` with a matrix: reward first, then a logit for ``terminated`` if
    the task can terminate, then one for ``success`` if only the environment knows it, then ``OUTPUTS``.
    """

    Config: ClassVar[type] = ReferenceConfig
    NAME: ClassVar[str]
    INPUTS: ClassVar[str]
    CONDITION: ClassVar[str] = "not at all in the observation; linearly in the reward"
    RISK: ClassVar[str]
    LOGISTIC: ClassVar[bool] = False
    """Whether endings and success are logistic in the inputs rather than the train split's constant rates."""
    EXTRA: ClassVar[frozenset[str]] = frozenset()

    weight: torch.Tensor

    def __init__(self, config: ReferenceConfig, task: TaskCard) -> None:
        """Allocate for a task's sizes; nothing is fitted yet."""
        super().__init__()
        self.config = config
        self.task = task
        self.flags = tuple(
            flag
            for flag, needed in (("terminated", task.terminates), ("success", task.success.kind == "env"))
            if needed
        )
        o, a = len(task.observation), len(task.action)
        self._columns = 1 + len(self.flags) + self.outputs()
        padded = -(-self._columns // COLUMNS) * COLUMNS
        self.register_buffer("weight", torch.zeros(o + a + 1, padded, dtype=torch.float64))
        how = "logistic in the inputs" if self.LOGISTIC else "the train split's constant rate per step"
        risk = self.RISK + " The reward is linear in observation and action and may leave the task's range."
        if self.flags:
            risk += f" The probability of {' and '.join(self.flags)} is {how}; endings are drawn from it."
        if "success" in self.flags:
            risk += " A success counts from a probability of a half, which a rare success may never reach."
        self.card = ModelCard(
            name=self.NAME,
            task_ids=(task.id,),
            predicts=frozenset({"observation", "reward", *self.flags}) | self.EXTRA,
            inputs=self.INPUTS,
            condition=self.CONDITION,
            consumer="a floor for measures; tests of the suite itself",
            risk=risk,
            sources={} if task.terminates else {"terminated": "card"},
            termination="sample",
            n_parameters=(o + a + 1) * self._columns,
        )

    def outputs(self) -> int:
        """Columns of the matrix that the observation needs."""
        return 0

    @classmethod
    def fit(
        cls,
        config: ReferenceConfig,
        dataset: Any,
        *,
        folder: Path,
        seed: int = 0,
        device: str = "cpu",
        progress: bool = True,
    ) -> Self:
        """Fit to the train split of a :class:`wmbench.episodes.Dataset`: least squares, and Newton's method.

        Args:
            config: Settings.
            dataset: The dataset.
            folder: Gets ``log.jsonl`` with one line.
            seed: Chooses the transitions if there are more than :data:`TRANSITIONS`.
            device: Where the result lives.
            progress: Ignored: there is nothing to wait for.

        Raises:
            DatasetError: The train split has no transitions.
        """
        data = dataset.transitions("train", limit=TRANSITIONS, seed=seed)
        n = len(data["reward"])
        if not n:
            raise DatasetError(f"the train split of this dataset of {dataset.task.id} has no transitions")
        model = cls(config, dataset.task)
        x = np.concatenate([data["observation"], data["action"]], 1).astype(np.float64)  # (N, O + A)
        delta = model.difference(data["observation"], data["next_observation"])  # (N, O)
        columns = [least_squares(x, data["reward"].astype(np.float64)[:, None], config.ridge)]
        for flag in model.flags:
            label = data[flag][:CLASSIFIED] if cls.LOGISTIC else data[flag]
            columns.append(logistic(x[: len(label)], label, config.ridge) if cls.LOGISTIC else rate(x, label))
        columns.append(model.fit_observation(x, delta))
        with torch.no_grad():
            model.weight[:, : model._columns] = torch.from_numpy(np.concatenate(columns, 1))
        model.card = dataclasses.replace(model.card, trained_on=dataset.digest)
        error = np.concatenate([x, np.ones((n, 1))], 1) @ columns[0] - data["reward"][:, None]
        line = {"epoch": 1, "transitions": n, "reward_rmse": float(np.sqrt(np.mean(error**2)))}
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / "log.jsonl", lambda path: path.write_text(json.dumps(line) + "\n"))
        return model.to(device).eval()

    def fit_observation(self, x: np.ndarray, delta: np.ndarray) -> np.ndarray:
        """Fit what the observation's prediction needs, and return its columns of the matrix.

        Args:
            x: (N, O + A) float64 inputs.
            delta: (N, O) float64 changes of the observation.

        Returns:
            (O + A + 1, outputs) float64.
        """
        return np.zeros((x.shape[1] + 1, 0))

    def difference(self, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        """Changes of the observation, (N, O) float64; angles by the shorter way round."""
        delta = after.astype(np.float64) - before.astype(np.float64)
        angles = [i for i, d in enumerate(self.task.observation) if d.kind == "angle"]
        delta[:, angles] = (delta[:, angles] + np.pi) % (2 * np.pi) - np.pi
        return delta

    def initial(self, start: Start, *, keys: torch.Tensor) -> State:
        """The current observation (B, O) is all that is remembered."""
        return {"observation": start.observation}

    def step(self, state: State, action: torch.Tensor, *, uncertainty: bool = False) -> tuple[State, Prediction]:
        """Predict one control step; on the CPU a row's bits do not depend on the rows around it."""
        now = state["observation"]  # (B, O)
        columns = self._affine(now, action)  # (B, columns)
        odds = {flag: _sigmoid(columns[:, 1 + i]).float() for i, flag in enumerate(self.flags)}
        following, nxt, std = self.move(state, columns[:, 1 + len(self.flags) :])
        return following, Prediction(
            observation=nxt,
            observation_std=std,
            reward=columns[:, 0].clone(),
            terminated=odds.get("terminated"),
            success=odds.get("success"),
        )

    def move(self, state: State, outputs: torch.Tensor) -> tuple[State, torch.Tensor, torch.Tensor | None]:
        """Next state, next observation (B, O) float32 and, if any, its standard deviation (B, O) float32.

        Args:
            state: The state before the step.
            outputs: (B, outputs) float64, the model's own columns.
        """
        raise NotImplementedError

    def _affine(self, observation: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        """Inputs times matrix, (B, columns) float64, in whole groups of rows and columns for the sake of equal bits."""
        n = len(observation)
        x = torch.cat([observation, action, torch.ones_like(action[:, :1])], 1).double()  # (B, O + A + 1)
        return (nn.functional.pad(x, (0, 0, 0, -n % ROWS)) @ self.weight)[:n, : self._columns]


def _sigmoid(x: torch.Tensor) -> torch.Tensor:
    """Like ``torch.sigmoid``, whose vector and scalar paths differ in the last bits; exp's do not."""
    return 1.0 / (1.0 + torch.exp(-x))


class CopyLast(Reference):
    """Nothing changes: the next observation is this one (persistence)."""

    NAME = "copy-last"
    INPUTS = "the current observation"
    RISK = "Wrong wherever anything moves."

    def move(self, state: State, outputs: torch.Tensor) -> tuple[State, torch.Tensor, torch.Tensor | None]:
        """The same observation again."""
        return state, state["observation"].clone(), None


class MeanDelta(Reference):
    """Everything changes as it does on average over the train split, whatever the action."""

    NAME = "mean-delta"
    INPUTS = "the current observation"
    RISK = "Blind to the action and to the state; drifts away in a straight line."

    delta: torch.Tensor

    def __init__(self, config: ReferenceConfig, task: TaskCard) -> None:
        """Allocate."""
        super().__init__(config, task)
        self.register_buffer("delta", torch.zeros(len(task.observation), dtype=torch.float64))
        self.card = dataclasses.replace(self.card, n_parameters=self.card.n_parameters + len(task.observation))

    def fit_observation(self, x: np.ndarray, delta: np.ndarray) -> np.ndarray:
        """The mean change."""
        self.delta.copy_(torch.from_numpy(delta.mean(0)))
        return super().fit_observation(x, delta)

    def move(self, state: State, outputs: torch.Tensor) -> tuple[State, torch.Tensor, torch.Tensor | None]:
        """The observation plus the mean change."""
        nxt = (state["observation"].double() + self.delta).float()
        return {"observation": nxt}, nxt, None


class Linear(Reference):
    """The change of the observation is linear in observation and action (ridge regression)."""

    NAME = "linear"
    INPUTS = "the current observation"
    CONDITION = "linearly, beside the observation"
    RISK = "Unstable over long rollouts where the fitted matrix has eigenvalues outside the unit circle."
    LOGISTIC = True

    def outputs(self) -> int:
        """One column per dimension of the observation."""
        return len(self.task.observation)

    def fit_observation(self, x: np.ndarray, delta: np.ndarray) -> np.ndarray:
        """Ridge regression of the change."""
        return least_squares(x, delta, self.config.ridge)

    def move(self, state: State, outputs: torch.Tensor) -> tuple[State, torch.Tensor, torch.Tensor | None]:
        """The observation plus the predicted change."""
        nxt = (state["observation"].double() + outputs).float()
        return {"observation": nxt}, nxt, None


class RandomWalk(Reference):
    """The observation takes Gaussian steps as large as the train split's, from each row's own key."""

    NAME = "random-walk"
    INPUTS = "the current observation and the row's random key"
    RISK = "Spreads without limit; no step has anything to do with the action."
    EXTRA = frozenset({"observation_std"})

    std: torch.Tensor

    def __init__(self, config: ReferenceConfig, task: TaskCard) -> None:
        """Allocate."""
        super().__init__(config, task)
        self.register_buffer("std", torch.zeros(len(task.observation), dtype=torch.float64))
        self.card = dataclasses.replace(self.card, n_parameters=self.card.n_parameters + len(task.observation))

    def fit_observation(self, x: np.ndarray, delta: np.ndarray) -> np.ndarray:
        """The standard deviation of the change."""
        self.std.copy_(torch.from_numpy(delta.std(0)))
        return super().fit_observation(x, delta)

    def initial(self, start: Start, *, keys: torch.Tensor) -> State:
        """The current observation (B, O) and the rows' keys (B,)."""
        return {"observation": start.observation, "key": keys}

    def move(self, state: State, outputs: torch.Tensor) -> tuple[State, torch.Tensor, torch.Tensor | None]:
        """A Gaussian step."""
        now, key = state["observation"], fold_in(state["key"], 1)
        nxt = (now.double() + self.std * normal(key, now.shape[1]).double()).float()
        return {"observation": nxt, "key": key}, nxt, self.std.float().expand_as(nxt).clone()
