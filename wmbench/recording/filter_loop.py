"""A policy that acts in the true simulator while a model looks at every action before it is taken."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from wmbench.cards import TaskCard
from wmbench.keys import fold_in, keys_from_seeds, normal, uniform
from wmbench.protocols import Policy, Start, WorldModel
from wmbench.recording.candidates import Actor
from wmbench.recording.one_step import heads_of
from wmbench.recording.planning import Drive, drive
from wmbench.recording.subjects import device_of
from wmbench.trees import gather

ARMS = ("unfiltered", "filtered", "random", "reject-all")
"""Nothing is rejected; what the model finds too dangerous is; as many at random; everything is."""

_VARY, _CHANCE, _IMAGINE = 1, 2, 3


@dataclass(frozen=True)
class Screen:
    """A model that judges a policy's actions.

    Attributes:
        model: Which.
        task: Its task.
        policy: Who acts, in truth and, after the action in question, in the model.
        danger: (task, heads (b, J, K)) to how bad that ends, (b, J).
        lookahead: K, steps that are imagined.
        limit: Actions of larger danger are rejected.
        fallbacks: m, how many variations of a rejected action are looked at; the safest is taken.
        noise: Their standard deviation, in half widths of the action box.
        seed: Of all random numbers.
        draws: Over how many draws of the model the danger is averaged, as that which the limit was set on.
    """

    model: WorldModel
    task: TaskCard
    policy: Policy
    danger: Callable[[TaskCard, Mapping[str, np.ndarray]], np.ndarray]
    lookahead: int
    limit: float
    fallbacks: int
    noise: float
    seed: int
    draws: int = 1

    def judge(
        self, observation: np.ndarray, state: np.ndarray, first: np.ndarray, memory: Any, keys: np.ndarray
    ) -> np.ndarray:
        """Danger of taking an action and then following the policy, all inside the model.

        Args:
            observation: (b, O) float32.
            state: (b, S) float64 of the true simulator.
            first: (b, J, A) float32, the actions in question.
            memory: The policy's, b rows, after it has acted here.
            keys: (b,) int64; all actions of a row share the model's random numbers, draw by draw.

        Returns:
            (b, J) float64; infinity where a prediction that counts is not finite.
        """
        b, count, size = first.shape
        first, device = np.tile(first, (self.draws, 1, 1)), device_of(self.model)
        rows = np.tile(np.repeat(np.arange(b), count), self.draws)
        drawn = [fold_in(fold_in(keys, _IMAGINE), d) for d in range(self.draws)]
        keys = np.repeat(np.concatenate(drawn), count)
        start = Start(torch.from_numpy(observation[rows]).to(device), sim_state=torch.from_numpy(state[rows]))
        action, memory = first.reshape(-1, size), gather(memory, rows)
        found: dict[str, list[np.ndarray]] = {}
        with torch.no_grad():
            imagined = self.model.initial(start, keys=torch.from_numpy(keys).to(device))
            for k in range(self.lookahead):
                imagined, answer = self.model.step(imagined, torch.from_numpy(action).to(device))
                heads = heads_of(answer)
                for head, values in heads.items():
                    found.setdefault(head, []).append(values)
                # what is lost stays lost, and a policy is not asked about it
                seen = np.nan_to_num(heads["observation"], posinf=0.0, neginf=0.0).astype(np.float32)
                action, memory = self.policy.act(seen, memory, keys=fold_in(keys, k))
        shape = len(first), count, self.lookahead
        stacked = {head: np.stack(v, axis=1).reshape(*shape, *v[0].shape[1:]) for head, v in found.items()}
        danger = self.danger(self.task, stacked).reshape(self.draws, b, count).mean(0)
        return np.where(np.isfinite(danger), danger, np.inf)

    def vary(self, action: np.ndarray, keys: np.ndarray) -> np.ndarray:
        """Variations of actions, (b, A) and (b,) keys to (b, m, A), inside the box."""
        low, high = self.task.action_bounds()
        offset = normal(fold_in(keys, _VARY), self.fallbacks * len(low)).reshape(len(keys), self.fallbacks, -1)
        return np.clip(action[:, None] + self.noise * (high - low) / 2 * offset, low, high).astype(np.float32)


def run_arms(
    screen: Screen, simulator: Any, observation: np.ndarray, state: np.ndarray, steps: int
) -> list[tuple[Drive, np.ndarray]]:
    """Let the policy act from the same states without a filter, with the model as one, and with two trivial ones.

    At every step the policy's action is rejected if the model finds it too dangerous, and the least dangerous of m
    variations is taken instead. The ``random`` filter rejects at the rate at which the model did, and takes the first
    variation; ``reject-all`` always takes the least dangerous one. All draw the same random numbers.

    Args:
        screen: The model and the policy.
        simulator: A :class:`wmbench.protocols.Simulator`.
        observation: (n, O) float32.
        state: (n, S) float64.
        steps: T.

    Returns:
        For each of :data:`ARMS` what happened, and how many actions were rejected, (n,) int.
    """
    n = len(state)
    found: list[tuple[Drive, np.ndarray]] = []
    for arm in ARMS:
        rate = float(found[1][1].sum() / max(1, found[1][0].valid.sum())) if arm == "random" else 0.0
        actor, rejected = Actor(screen.policy, n, screen.seed), np.zeros(n, dtype=np.int64)
        every = fold_in(keys_from_seeds(np.arange(n)), screen.seed + 1)

        def choose(
            rows: np.ndarray,
            seen: np.ndarray,
            at: np.ndarray,
            step: int,
            arm: str = arm,
            rate: float = rate,
            actor: Actor = actor,
            rejected: np.ndarray = rejected,
            every: np.ndarray = every,
        ) -> np.ndarray:
            action, keys = actor(rows, seen, step), fold_in(every[rows], step)
            memory = gather(actor.memory, rows)
            if arm == "filtered":
                out = screen.judge(seen, at, action[:, None], memory, keys)[:, 0] > screen.limit
            elif arm == "random":
                out = uniform(fold_in(keys, _CHANCE), 1)[:, 0] < rate
            else:
                out = np.full(len(rows), arm == "reject-all")
            if out.any():
                other = screen.vary(action[out], keys[out])  # (r, m, A)
                pick = np.zeros(len(other), dtype=np.int64)
                if arm != "random":
                    pick = screen.judge(seen[out], at[out], other, gather(memory, out), keys[out]).argmin(1)
                action = action.copy()
                action[out] = other[np.arange(len(other)), pick]
                rejected[rows] += out
            return action[:, None]

        found.append((drive(simulator, observation, state, steps, choose), rejected))
    return found
