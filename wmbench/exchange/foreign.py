"""Datasets that others wrote: what must agree with the task card before their numbers mean what ours do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from wmbench.cards import TaskCard
from wmbench.episodes import DatasetWriter, EpisodeData
from wmbench.errors import DatasetError
from wmbench.exchange.notes import note
from wmbench.merging import sentence


@dataclass
class Facts:
    """What a dataset says of itself; None where it does not say.

    Attributes:
        observation: Shape of one observation.
        action: Shape of one action.
        bounds: Lower and upper bound of the action, each of that shape.
        control_hz: Control steps per second.
        environment: Id of the environment it was recorded in.
        kwargs: And its arguments.
        horizon: Steps after which that truncates.
    """

    observation: tuple[int, ...]
    action: tuple[int, ...]
    bounds: tuple[np.ndarray, np.ndarray] | None = None
    control_hz: float | None = None
    environment: str | None = None
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    horizon: int | None = None


@dataclass
class Steps:
    """One episode as it was found.

    Attributes:
        observation: (T + 1, O).
        action: (T, A).
        reward: (T,), None if there is none.
        terminated: (T,) bool.
        truncated: (T,) bool.
        success: (T,) bool, None if it does not say.
        extra: Further fields, (T, ...) or (T + 1, ...).
        seed: Of its reset; -1: unknown.
        split: Its split; "": to be chosen.
    """

    observation: np.ndarray
    action: np.ndarray
    reward: np.ndarray | None
    terminated: np.ndarray
    truncated: np.ndarray
    success: np.ndarray | None = None
    extra: dict[str, np.ndarray] = field(default_factory=dict)
    seed: int = -1
    split: str = ""


def check_facts(where: Path | str, facts: Facts, card: TaskCard) -> None:
    """Refuse a dataset of another task, naming every field that differs.

    Raises:
        DatasetError: Shapes, bounds, control rate, environment or horizon differ, or the rate is not known.
    """
    low, high = card.action_bounds()
    wrong: dict[str, tuple[Any, Any]] = {}

    def compare(name: str, found: Any, wanted: Any) -> None:
        if found is not None and found != wanted:
            wrong[name] = (found, wanted)

    compare("observation shape", tuple(facts.observation), (len(card.observation),))
    compare("action shape", tuple(facts.action), (len(card.action),))
    if facts.bounds is not None and "action shape" not in wrong:
        compare("lowest action", np.asarray(facts.bounds[0], np.float32).tolist(), low.tolist())
        compare("highest action", np.asarray(facts.bounds[1], np.float32).tolist(), high.tolist())
    known = facts.environment in (card.id, card.backend_id)
    if facts.environment is not None:
        compare(
            "environment", facts.environment, card.id if facts.environment.startswith("wmbench/") else card.backend_id
        )
        ours = card.id == facts.environment
        repeat = {"action_repeat": card.action_repeat} if card.action_repeat > 1 else {}
        arguments = {key: value for key, value in facts.kwargs.items() if not ours or key != "task"}
        if known:
            compare("environment's arguments", arguments, repeat if ours else dict(card.kwargs))
        compare("horizon", facts.horizon, card.horizon)
    compare("control_hz", facts.control_hz, card.control_hz)
    if wrong:
        raise DatasetError(f"{where} does not fit {card.id} (it has / the task has): {sentence(wrong)}")
    if facts.control_hz is None and not known:
        raise DatasetError(
            f"{where} does not say its control rate, {card.id} has {card.control_hz:g} Hz: if it is known, state it "
            "with --control-hz (control_hz= in Python)"
        )


def adopt(
    where: Path | str,
    card: TaskCard,
    out: Path,
    episodes: Iterable[Steps],
    *,
    source: str,
    plan: Mapping[str, Any],
    advance: Callable[..., None],
    shares: tuple[float, float, float] = (0.8, 0.1, 0.1),
) -> None:
    """Write a foreign dataset's episodes as ours. What is missing is computed by the card or refused.

    Args:
        where: For errors.
        card: The task, which the dataset fits (:func:`check_facts`).
        out: New folder.
        episodes: In order.
        source: Who acted, the name under which the manifest counts them.
        plan: Where they come from, for the manifest.
        advance: Called after each episode.
        shares: Of train, val and test among the episodes that name no split.

    Raises:
        DatasetError: Rewards are missing, success is neither given nor computable, actions lie outside the
            task's bounds, or an episode cannot be stored.
    """
    contradicted = 0
    with DatasetWriter(out, card, plan=plan, split=shares) as writer:
        for number, steps in enumerate(episodes):
            episode = _episode(f"{where}, episode {number}", steps, card, source)
            if steps.success is not None:
                contradicted += not np.array_equal(episode.success, steps.success)
            writer.add(episode, split=steps.split or None)
            advance()
        if not len(writer):
            raise DatasetError(f"{where} holds no episodes")
    note(
        "the simulator's states are unknown: nothing that restores them (branching, recoverability) works on this "
        "dataset"
    )
    if contradicted:
        note(f"success is what {card.id} means by it; in {contradicted} episodes the dataset says otherwise")


def _episode(who: str, steps: Steps, card: TaskCard, source: str) -> EpisodeData:
    if steps.reward is None:
        raise DatasetError(f"{who} has no rewards, and {card.id} cannot compute them: they are not invented")
    observation, action = _float32(who, "observation", steps.observation), _float32(who, "action", steps.action)
    low, high = card.action_bounds()
    if (outside := (action < low) | (action > high)).any():
        raise DatasetError(
            f"{who}: {int(outside.any(1).sum())} of {len(action)} actions lie outside the bounds of {card.id}, "
            "where clipping would change what they did"
        )
    if steps.terminated.any() and not card.terminates:
        raise DatasetError(f"{who} terminates, {card.id} never does")
    if len(action) > card.horizon:
        raise DatasetError(f"{who} has {len(action)} steps, {card.id} ends after {card.horizon}")
    reward = np.asarray(steps.reward, dtype=np.float64)
    ended = steps.terminated | steps.truncated
    if card.success.kind != "env":
        success = np.asarray(card.success(reward, np.cumsum(reward), observation[1:], ended), dtype=bool)
    elif steps.success is not None:
        success = steps.success
    else:
        raise DatasetError(
            f"{who} does not say whether it succeeded, and only the simulator of {card.id} knows: it is not invented"
        )
    return EpisodeData(
        observation, action, reward, steps.terminated, steps.truncated, success,
        seed=steps.seed, source=source, extra=steps.extra,
    )  # fmt: skip


def _float32(who: str, name: str, array: np.ndarray) -> np.ndarray:
    """Rows as float32, as the environments give them."""
    if array.dtype.kind != "f":
        raise DatasetError(f"{who}: {name} must hold floats, got {array.dtype}")
    with np.errstate(over="ignore"):
        return array.astype(np.float32)
