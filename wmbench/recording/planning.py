"""One planner for the true simulator and for models: the same candidates, so that only who judges them differs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from wmbench.cards import TaskCard
from wmbench.keys import fold_in, keys_from_seeds, normal
from wmbench.recording.judging import Judge


@dataclass(frozen=True)
class Budget:
    """How hard a planner searches.

    Attributes:
        samples: Candidates per iteration.
        iterations: Of the cross-entropy method; 1 is random shooting.
        elites: Best candidates of an iteration from which the next one is drawn.
        lookahead: K, steps of a candidate.
        spread: Standard deviation of the first iteration, in half widths of the action box.
        least: Smallest standard deviation, the same.
    """

    samples: int = 64
    iterations: int = 3
    elites: int = 8
    lookahead: int = 10
    spread: float = 0.7
    least: float = 0.05


@dataclass(frozen=True)
class Search:
    """What planning from n states found.

    Attributes:
        action: (I, n, K, A) float32, the best plan so far after each iteration, by the judge's return.
        score: (I, n) float64, its return by the judge; minus infinity if none was finite.
        population: (n, S, K, A) float32, candidates of the last iteration, best first.
    """

    action: np.ndarray
    score: np.ndarray
    population: np.ndarray


def search(
    judge: Judge,
    task: TaskCard,
    observation: np.ndarray,
    state: np.ndarray,
    budget: Budget,
    keys: np.ndarray,
    mean: np.ndarray | None = None,
) -> Search:
    """Plan by the cross-entropy method (Rubinstein 1999, https://doi.org/10.1023/A:1010091220143).

    Candidates are Gaussian around a mean, cut to the action box, the first one the mean itself; the best ones give the
    mean and the spread of the next iteration. All randomness derives from the keys: another judge gets the same
    numbers. A return that is not finite is never chosen.

    Args:
        judge: Who values candidates.
        task: Gives the action box.
        observation: (n, O) float32.
        state: (n, S) float64.
        budget: How hard.
        keys: (n,) int64.
        mean: (n, K, A) where to start; the middle of the box if None.
    """
    low, high = task.action_bounds()
    half, n = (high - low) / 2, len(keys)
    shape = (n, budget.samples, budget.lookahead, len(low))
    mean = np.broadcast_to((low + high) / 2, (n, *shape[2:])) if mean is None else mean
    std = np.broadcast_to(budget.spread * half, mean.shape)
    best = np.clip(mean, low, high).astype(np.float32)
    best_score = np.full(n, -np.inf)
    rows, plans, scores = np.arange(n), [], []
    for iteration in range(budget.iterations):
        noise = _noise(fold_in(keys, iteration), shape)
        action = np.clip(mean[:, None] + std[:, None] * noise, low, high).astype(np.float32)
        returns = judge(observation, state, action)[..., -1]  # (n, S)
        returns = np.where(np.isfinite(returns), returns, -np.inf)
        order = np.argsort(-returns, axis=1, kind="stable")
        top = order[:, : budget.elites]
        better = returns[rows, top[:, 0]] > best_score
        best = np.where(better[:, None, None], action[rows, top[:, 0]], best)
        best_score = np.maximum(best_score, returns[rows, top[:, 0]])
        plans.append(best)
        scores.append(best_score)
        chosen = action[rows[:, None], top].astype(np.float64)  # (n, E, K, A)
        weight = np.isfinite(returns[rows[:, None], top]).astype(np.float64)[..., None, None]
        count = np.maximum(weight.sum(1), 1.0)
        new = (weight * chosen).sum(1) / count
        usable = np.isfinite(best_score)[:, None, None]
        spread = np.sqrt((weight * (chosen - new[:, None]) ** 2).sum(1) / count)
        std = np.where(usable, np.maximum(spread, budget.least * half), std)
        mean = np.where(usable, new, mean)
    return Search(np.stack(plans), np.stack(scores), action[rows[:, None], order])


@dataclass(frozen=True)
class Drive:
    """What happened in the true simulator from n states, over T steps.

    Attributes:
        reward: (n, T) float64, zero after the end.
        success: (n, T) bool.
        terminated: (n, T) bool.
        valid: (n, T) bool, steps there were.
        planless: (n,) bool, episodes in which the planner once had no finite return to go by, and did what it had
            planned before, or the middle of the box.
    """

    reward: np.ndarray
    success: np.ndarray
    terminated: np.ndarray
    valid: np.ndarray
    planless: np.ndarray


Choose = Callable[[np.ndarray, np.ndarray, np.ndarray, int], np.ndarray]
"""(live rows (b,), observation (b, O), state (b, S), step) to the actions of the next steps, (b, m, A)."""


def drive(simulator: Any, observation: np.ndarray, state: np.ndarray, steps: int, choose: Choose) -> Drive:
    """Act in the true simulator from saved states, a stretch of m actions at a time.

    Args:
        simulator: A :class:`wmbench.protocols.Simulator`.
        observation: (n, O) float32.
        state: (n, S) float64.
        steps: T.
        choose: Gives the next stretch of every episode that still goes on.
    """
    n = len(state)
    reward = np.zeros((n, steps))
    success, terminated, valid = (np.zeros((n, steps), dtype=bool) for _ in range(3))
    observation, state = observation.copy(), state.copy()
    live, t = np.ones(n, dtype=bool), 0
    while t < steps and live.any():
        rows = np.flatnonzero(live)
        stretch = choose(rows, observation[rows], state[rows], t)[:, : steps - t]
        for row, actions in zip(rows, stretch, strict=True):
            simulator.set_state(state[row])
            for k, action in enumerate(actions):
                at = (row, t + k)
                observation[row], reward[at], terminated[at], truncated, info = simulator.step(action)
                success[at], valid[at] = info["success"], True
                if terminated[at] or truncated:
                    live[row] = False
                    break
            state[row] = simulator.get_state()
        t += stretch.shape[1]
    return Drive(reward, success, terminated, valid, np.zeros(n, dtype=bool))


def plan_and_drive(
    judge: Judge,
    task: TaskCard,
    simulator: Any,
    observation: np.ndarray,
    state: np.ndarray,
    *,
    steps: int,
    replan: int,
    budget: Budget,
    seed: int = 0,
) -> Drive:
    """Plan, carry out the first ``replan`` actions in the true simulator, and plan again from where they led.

    Args:
        judge: Who values candidates.
        task: The task.
        simulator: Where the plans are carried out.
        observation: (n, O) float32.
        state: (n, S) float64.
        steps: T.
        replan: m, at most the lookahead.
        budget: How hard each search is.
        seed: Of the candidates; every judge sees the same random numbers.
    """
    keys = fold_in(keys_from_seeds(np.arange(len(state))), seed)
    low, high = task.action_bounds()
    mean = np.broadcast_to((low + high) / 2, (len(state), budget.lookahead, len(low))).astype(np.float64)

    planless = np.zeros(len(state), dtype=bool)

    def choose(rows: np.ndarray, observation: np.ndarray, state: np.ndarray, step: int) -> np.ndarray:
        found = search(judge, task, observation, state, budget, fold_in(keys[rows], step), mean[rows])
        plan = found.action[-1]
        planless[rows] |= ~np.isfinite(found.score[-1])
        mean[rows] = np.concatenate([plan[:, replan:], np.broadcast_to((low + high) / 2, plan[:, :replan].shape)], 1)
        return plan[:, :replan]

    return replace(drive(simulator, observation, state, steps, choose), planless=planless)


def solved(task: TaskCard, driven: Drive, recorded: np.ndarray) -> np.ndarray:
    """Which stretches count as a success, (n,) bool.

    The task's own rule at any step. Where that looks at the return of a whole episode, which no stretch is, the stretch
    must earn at least what the recorded behaviour earned from the same state in as many steps.

    Args:
        task: The task.
        driven: What happened.
        recorded: (n,) returns of the recorded behaviour.
    """
    if task.success.kind == "return":
        return np.greater_equal(driven.reward.sum(1), recorded)
    return np.logical_or.reduce(driven.success, axis=1)


def _noise(keys: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Standard normal numbers (n, S, K, A), zero for the first candidate of each row."""
    n, samples, steps, size = shape
    candidate = np.tile(np.arange(samples), n)
    noise = normal(fold_in(np.repeat(keys, samples), candidate), steps * size).reshape(shape)
    noise[:, 0] = 0.0
    return noise
