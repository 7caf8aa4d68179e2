"""The world model that is the true simulator: what every measure must call perfect."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from wmbench.cards import ModelCard, TaskCard
from wmbench.errors import StateError
from wmbench.protocols import Prediction, Start, State
from wmbench_envs.true_branch import HEADER

ENDED = 3
"""Where a true environment's state says that the episode is over."""


@dataclass(frozen=True)
class OracleConfig:
    """Settings of :class:`Oracle`.

    Attributes:
        live: How many simulators are kept at most. More rows than that take turns, each restored from its
            saved state.
    """

    live: int = 64

    def __post_init__(self) -> None:
        """Refuse an oracle without a simulator."""
        if self.live < 1:
            raise ValueError(f"an oracle needs at least one simulator, got live={self.live}")


@dataclass
class _Live:
    """A simulator, the state it is in, and when it was last used."""

    env: Any
    state: np.ndarray
    used: int


class Oracle:
    """True simulators behind the interface of a world model; exact by replay, and by saved states where it branches.

    The state of a row is the simulator's saved state and the number of the live simulator that was left
    in it. If that simulator still is in exactly this state, it just goes on; otherwise (a branch, or more
    rows than simulators) one is restored. Steps beyond the end of an episode go on with the physics, as
    planners need. Loops over rows.
    """

    Config = OracleConfig

    def __init__(self, config: OracleConfig, task: TaskCard, *, device: str = "cpu") -> None:
        """Remember the task; simulators are made when rows begin.

        Args:
            config: Settings.
            task: The task.
            device: Where states and predictions live; the simulators run on the CPU.
        """
        self.config = config
        self.task = task
        self.device = torch.device(device)
        self.card = ModelCard(
            name="oracle",
            task_ids=(task.id,),
            predicts=frozenset({"observation", "reward", "terminated", "success"}),
            inputs="the seed of the true simulator's reset, or its saved state",
            condition="the action, applied to the true simulator",
            consumer="the known answer that measures and the twin are tested against",
            risk="none in accuracy; as slow as the true simulator, one row after the other",
        )
        self._pool: list[_Live] = []
        self._clock = 0

    @classmethod
    def for_task(cls, task: TaskCard, *, device: str = "cpu") -> Oracle:
        """The oracle of a task, with its default settings."""
        return cls(OracleConfig(), task, device=device)

    def initial(self, start: Start, *, keys: torch.Tensor) -> State:
        """Bring one simulator per row to where its episode begins.

        Args:
            start: With seeds (exact by replay), or with saved states for rows whose seed is -1.
            keys: (B,) int64, unused: a true simulator has no noise of its own.

        Raises:
            StateError: A row has neither, or its seed or state leads to another observation than given.
        """
        sims, slots = [], []
        for row, observation in enumerate(start.observation.cpu().numpy()):
            seed = -1 if start.seed is None else int(start.seed[row])
            if seed < 0 and start.sim_state is None:
                raise StateError(
                    f"{self.task.id}: the oracle needs the seed or the simulator state of row {row}'s start"
                )
            slot = self._idle()
            env = self._pool[slot].env
            if seed < 0 and start.sim_state is not None:
                found, how = env.set_state(start.sim_state[row].cpu().numpy()), "simulator state"
            else:
                found, how = env.reset(seed=seed)[0], f"seed {seed}"
            if not np.array_equal(found, observation):
                raise StateError(
                    f"{self.task.id}: the {how} of row {row}'s start leads to another observation than given"
                )
            sims.append(self._leave(slot))
            slots.append(slot)
        return self._state(sims, slots)

    def step(self, state: State, action: torch.Tensor, *, uncertainty: bool = False) -> tuple[State, Prediction]:
        """Step the true simulator of each row.

        Args:
            state: ``sim`` (B, S) float64 and ``slot`` (B,) int64.
            action: (B, A) float32.
            uncertainty: Ignored: there is none.
        """
        sims, slots, steps = [], [], []
        given = zip(state["sim"].cpu().numpy(), state["slot"].tolist(), action.cpu().numpy(), strict=True)
        for sim, slot, chosen in given:
            if slot >= len(self._pool) or sim[ENDED] or not np.array_equal(self._pool[slot].state, sim):
                here = sim.copy()
                here[ENDED] = 0.0  # the physics goes on
                slot = self._idle()
                self._pool[slot].env.set_state(here)
            steps.append(self._pool[slot].env.step(chosen))
            sims.append(self._leave(slot))
            slots.append(slot)
        observation, reward, terminated, _, info = zip(*steps, strict=True)
        return self._state(sims, slots), Prediction(
            observation=torch.from_numpy(np.stack(observation)).to(self.device),  # (B, O)
            reward=torch.tensor(reward, dtype=torch.float64, device=self.device),  # (B,)
            terminated=torch.tensor(terminated, dtype=torch.float32, device=self.device),  # (B,)
            success=torch.tensor([i["success"] for i in info], dtype=torch.float32, device=self.device),  # (B,)
        )

    def close(self) -> None:
        """Close every simulator."""
        for live in self._pool:
            live.env.close()
        self._pool = []

    def _idle(self) -> int:
        """The number of a simulator that may be used: its episode is over, or it is new, or left alone for longest."""
        for slot, live in enumerate(self._pool):
            if live.state[ENDED]:
                return slot
        if len(self._pool) < self.config.live:
            self._pool.append(_Live(gym.make(self.task.id, **self.task.options()).unwrapped, np.zeros(HEADER), 0))
            return len(self._pool) - 1
        return min(range(len(self._pool)), key=lambda slot: self._pool[slot].used)

    def _leave(self, slot: int) -> np.ndarray:
        """Note where a simulator is now: (S,) float64."""
        live = self._pool[slot]
        self._clock += 1
        live.state, live.used = live.env.get_state(), self._clock
        return live.state

    def _state(self, sims: list[np.ndarray], slots: list[int]) -> State:
        return {
            "sim": torch.from_numpy(np.stack(sims)).to(self.device),  # (B, S)
            "slot": torch.tensor(slots, dtype=torch.int64, device=self.device),  # (B,)
        }
