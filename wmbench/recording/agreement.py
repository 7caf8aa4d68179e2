"""Evaluates the same policies on the same starts in the true and in learned simulators."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wmbench.cards import TaskCard
from wmbench.episodes import EpisodeData
from wmbench.errors import DatasetError
from wmbench.protocols import Policy
from wmbench.recording.store import Recording
from wmbench.rollout import rollout
from wmbench.seeding import episode_seeds

OUTCOMES = ("return", "success")


def record_agreement(
    task: TaskCard,
    policies: Mapping[str, Policy],
    simulators: Mapping[str, str | Path],
    *,
    episodes: int = 50,
    seed: int = 0,
    outcome: str = "return",
    horizons: Sequence[int] | None = None,
    roll: Callable[[str, str | None, Sequence[int]], list[EpisodeData]] | None = None,
    **options: Any,
) -> Recording:
    """Roll every policy out in every simulator.

    Args:
        task: The task.
        policies: Name to policy; eight or more, some close to each other and some far apart.
        simulators: Name to what ``gym.make(id, simulator=...)`` takes, the learned ones.
        episodes: How many starts, the same for all.
        seed: Root seed, from which the episodes' seeds derive.
        outcome: ``return``, the undiscounted one up to the horizon, or ``success``, by the card's rule up to it.
        horizons: Steps after which outcomes are compared; by default four, up to the task's own.
        roll: Gives the episodes of a policy's name in a simulator's (None is the true one) for a list of seeds, where
            they exist already; None lets the policies act now.
        **options: Of :func:`wmbench.rollout.rollout`, for example ``num_envs`` and ``device``.

    Raises:
        DatasetError: No policies or simulators, horizons beyond the task's, or not one valid true episode.
        ValueError: Unknown outcome.
    """
    if outcome not in OUTCOMES:
        raise ValueError(f"unknown outcome {outcome!r}: {' or '.join(OUTCOMES)}")
    if not policies or not simulators or episodes < 1:
        raise DatasetError(f"{task.id}: agreement needs policies, learned simulators and at least one episode")
    steps = sorted(set(horizons or [max(1, task.horizon * i // 4) for i in (1, 2, 3, 4)]))
    if steps[0] < 1 or steps[-1] > task.horizon:
        raise DatasetError(f"{task.id}: horizons must lie between 1 and {task.horizon}, got {steps}")
    seeds = episode_seeds(seed, task.id, "eval", episodes)

    def run(name: str, simulator: str | None) -> list[EpisodeData]:
        if roll is not None:
            return roll(name, simulator, seeds)
        where = None if simulator is None else simulators[simulator]
        return rollout(task, policies[name], seeds, simulator=where, on_error="record", **options)

    found = [[run(name, where) for name in policies] for where in (None, *simulators)]
    faults = [e.invalid for row in found[0] for e in row if e.invalid]
    if len(faults) == len(policies) * episodes:
        raise DatasetError(f"{task.id}: no episode in the true simulator is valid, the first because {faults[0]}")
    true, *learned = (np.stack([scores_at(task, row, steps, outcome) for row in rows], axis=1) for rows in found)
    arrays = {
        "subject": np.array(list(simulators)),
        "policy": np.array(list(policies)),
        "horizon": np.array(steps),
        "true": true,
        "learned": np.stack(learned),
        "worst": worst_at(task, np.stack([true, *learned]), steps, outcome),
        "unit": np.array("1" if outcome == "success" else "reward"),
    }
    meta = {"task": task.id, "outcome": outcome, "episodes": episodes, "seed": seed, "seeds": seeds}
    return Recording("agreement", arrays, meta)


def scores_at(task: TaskCard, episodes: Sequence[EpisodeData], steps: Sequence[int], outcome: str) -> np.ndarray:
    """Outcome of each episode up to each step, (H, E); NaN from where an invalid episode breaks off."""
    found = np.full((len(steps), len(episodes)), np.nan)
    for e, episode in enumerate(episodes):
        invalid = episode.invalid is not None or episode.diverged
        for h, step in enumerate(steps):
            if invalid and step > len(episode):
                continue
            if outcome == "return":
                found[h, e] = episode.reward[:step].sum()
            else:
                solved = episode.success[:step]
                found[h, e] = bool(solved.any() if task.success.when == "once" else len(solved) and solved[-1])
    return np.where(np.isfinite(found), found, np.nan)


def worst_at(task: TaskCard, scores: np.ndarray, steps: Sequence[int], outcome: str) -> np.ndarray:
    """(H,) what an invalid episode is worth: failure, the least the card allows, or the least any valid one got."""
    if outcome == "success":
        return np.zeros(len(steps))
    low = task.reward_range[0]
    if low is not None:
        return np.array(steps, dtype=np.float64) * low
    least = np.where(np.isfinite(scores), scores, np.inf).min((0, 2, 3))  # (H,)
    return np.where(np.isfinite(least), least, np.nan)
