"""Turns evaluated episodes into the arrays that the success measure reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from wmbench.cards import TaskCard
from wmbench.episodes import EpisodeData
from wmbench.errors import DatasetError
from wmbench.recording.store import Recording

DIVERGED = "the prediction was not finite"
PER_EPISODE = {
    "subject": np.str_,
    "seed": np.int64,
    "once": np.bool_,
    "at_end": np.bool_,
    "valid": np.bool_,
    "fault": np.str_,
    "returns": np.float64,
    "length": np.int64,
    "terminated": np.bool_,
}


def outcome(episode: EpisodeData) -> dict[str, Any]:
    """What counts of one episode, as plain JSON: exactly one outcome, and why if it is invalid."""
    fault = episode.invalid or (DIVERGED if episode.diverged else "")
    some = len(episode) > 0
    total = episode.total_reward if some else 0.0
    if not np.isfinite(total):
        fault, total = fault or "the return is not finite", 0.0
    return {
        "seed": int(episode.seed),
        "once": bool(episode.success.any()),
        "at_end": bool(some and episode.success[-1]),
        "valid": not fault,
        "fault": fault,
        "returns": total,
        "length": len(episode),
        "terminated": bool(some and episode.terminated[-1]),
    }


def record_success(task: TaskCard, subject: str, outcomes: Sequence[Mapping[str, Any]]) -> Recording:
    """Arrays of one evaluation.

    Args:
        task: The task.
        subject: Who was evaluated, and where.
        outcomes: As :func:`outcome` returns them.

    Raises:
        DatasetError: There are no episodes, or an outcome lacks a field.
    """
    if not outcomes:
        raise DatasetError(f"{task.id}: an evaluation needs at least one episode")
    try:
        arrays: dict[str, np.ndarray] = {
            name: np.array([subject if name == "subject" else o[name] for o in outcomes], dtype=kind)
            for name, kind in PER_EPISODE.items()
        }
    except KeyError as error:
        raise DatasetError(f"{subject}: an outcome lacks the field {error}") from error
    low = task.reward_range[0]
    arrays |= {
        "when": np.array(task.success.when),
        "reward_low": np.array(np.nan if low is None else low),
        "horizon": np.array(task.horizon),
    }
    return Recording("success", arrays, {"task": task.id})


def join(evaluations: Mapping[str, Any]) -> Recording:
    """Arrays of several evaluations of one task, subject after subject.

    Args:
        evaluations: Subject to an :class:`wmbench.evaluating.Evaluation` or its JSON.

    Raises:
        DatasetError: Evaluations of different tasks, or none.
    """
    from wmbench.registration import task_card

    plain = {s: e if isinstance(e, Mapping) else e.to_json() for s, e in evaluations.items()}
    tasks = sorted({e["task"] for e in plain.values()})
    if len(tasks) != 1:
        raise DatasetError(f"evaluations of exactly one task can stand side by side, got {tasks or 'none'}")
    repeats = sorted({e.get("settings", {}).get("action_repeat", 1) for e in plain.values()})
    if len(repeats) != 1:
        raise DatasetError(f"{tasks[0]}: evaluations at different action repeats ({repeats}) cannot stand side by side")
    card = task_card(tasks[0]).repeated(repeats[0])
    parts = [record_success(card, s, e["episodes"]).arrays for s, e in plain.items()]
    arrays = {
        name: np.concatenate([part[name] for part in parts]) if name in PER_EPISODE else parts[0][name]
        for name in parts[0]
    }
    return Recording("success", arrays, {"task": tasks[0]})
