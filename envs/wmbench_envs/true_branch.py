"""What a card makes of many branches at once: time limit, return so far and success, as a step makes of one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from wmbench.cards import TaskCard
from wmbench.checks import ActionCheck

HEADER = 4
"""A state begins with: the task's tag, steps taken, return so far, whether the episode has ended."""


class Branched(NamedTuple):
    """What a backend found.

    Attributes:
        observation: (R, K, O) float32.
        reward: (R, K) float64.
        terminated: (R, K) bool.
        taken: (R,) int, steps.
        success: (R, K) bool where the backend alone knows, and else None: the card's rule says.
    """

    observation: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray
    taken: np.ndarray
    success: np.ndarray | None = None


Outcome = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""Observation (R, K, O) float32, reward (R, K) float64, terminated, success and valid, (R, K) bool each."""


def branch_together(
    card: TaskCard, backend: Any, bounds: ActionCheck, states: Sequence[np.ndarray], action: np.ndarray, steps: Any
) -> Outcome | None:
    """Let a backend follow many branches at once, and judge each step by the card.

    Args:
        card: The task's.
        backend: Has ``branch``.
        bounds: Puts actions inside the card's bounds.
        states: R states (S,) of the task, checked.
        action: (R, K, A) float array.
        steps: (R,) int, how far each branch is to go if its episode lasts.

    Returns:
        See :data:`Outcome`; None if the branches have to be stepped one by one: the backend has no such way, or an
        action is not finite, an episode has ended, a simulation breaks down.
    """
    if not len(states) or not action.shape[1]:
        return None
    given = np.stack(states)
    left = np.minimum(steps, card.horizon - given[:, 1]).astype(np.int64)
    count = np.arange(action.shape[1])
    chosen = np.where((count < left[:, None])[:, :, None], action, np.float32(0)).reshape(-1, action.shape[2])
    if given[:, 3].any() or not np.isfinite(chosen).all():
        return None
    checked = bounds.batch(chosen, len(chosen)).reshape(action.shape)
    if card.action_repeat == 1:
        found = backend.branch(given[:, HEADER:], checked, left)
    else:
        found = _repeated(card, backend, given, checked, left)
    if found is None or (card.success.kind == "env" and found.success is None):
        return None
    observation, reward, terminated, taken, success = found
    valid = count < taken[:, None]  # (R, K)
    if card.success.kind == "env":
        assert success is not None
        return observation, reward, terminated, success & valid, valid
    returns = np.cumsum(np.concatenate([given[:, 2:3], reward], axis=1), axis=1)[:, 1:]
    ended = terminated | (given[:, 1:2] + 1 + count >= card.horizon)
    flat = (a.reshape(valid.size, *a.shape[2:]) for a in (reward, returns, observation, ended))
    success = card.success(*flat).reshape(valid.shape) & valid
    return observation, reward, terminated, success, valid


def _repeated(card: TaskCard, backend: Any, given: np.ndarray, action: np.ndarray, left: np.ndarray) -> Branched | None:
    """Branches of an action repeat: the backend's own control steps, put together as one step of the agent each."""
    count = card.action_repeat
    most = card.repeated(1).horizon - given[:, 1] * count  # (R,) control steps that an episode has left
    steps = np.minimum(left * count, most).astype(np.int64)
    found = backend.branch(given[:, HEADER:], np.repeat(action, count, axis=1), steps)
    if found is None:
        return None
    observation, reward, terminated, taken, success = found
    rows, length = action.shape[:2]
    total = np.zeros((rows, length))
    for i in range(count):  # in the order in which a step adds them up
        total += reward[:, i::count]
    did = -(-taken // count)  # (R,) steps of the agent
    last = np.minimum((np.arange(length) + 1) * count, taken[:, None]) - 1  # (R, K)
    at = np.arange(rows)[:, None], last.clip(min=0)
    seen = observation[at]
    valid = np.arange(length) < did[:, None]
    seen[~valid] = 0.0
    ended = terminated.reshape(rows, length, count).any(2)
    return Branched(seen, total, ended, did, None if success is None else success[at] & valid)
