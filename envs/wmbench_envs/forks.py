"""Many branches of a simulator that cannot save itself: processes forked in the middle of an episode."""

from __future__ import annotations

import gc
import os
import pickle
import warnings
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from wmbench_envs.true_branch import Branched

Followed = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""Of one branch: observation (k, O), reward (k,), terminated (k,), success (k,), up to its last step."""


class Replayed(Protocol):
    """A simulator whose states are replayed: the first two numbers of one are the episode's seed and its steps."""

    def set_state(self, state: np.ndarray) -> np.ndarray:
        """Replay; cheap if the episode so far is the beginning of that one."""
        ...

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """See :class:`wmbench_envs.true_backend.Backend`."""
        ...


def branch_forked(
    simulator: Replayed, states: np.ndarray, action: np.ndarray, steps: np.ndarray, observations: int
) -> Branched | None:
    """Follow each branch in a process forked at its state: as exact as stepping, for the process *is* the simulator.

    An episode is replayed once for all states along it, not once for each branch; and as many are replayed side by
    side as there are cores. The simulator must run in the thread that forks, alone.

    Args:
        simulator: Left at the state if there is but one, and else untouched.
        states: (R, S) float64.
        action: (R, K, A) float32.
        steps: (R,) int, how far each branch goes if its episode lasts.
        observations: O.

    Returns:
        See :data:`wmbench_envs.true_branch.Branched`; None where processes cannot be forked, where there is one branch
        only, or if one came to a bad end: stepping them one by one will say why.
    """
    if not hasattr(os, "fork") or len(states) < 2:
        return None
    stops: dict[bytes, list[int]] = {}  # a state to its branches
    for row in np.lexsort((states[:, 1], states[:, 0])):
        if steps[row] < 1:
            continue
        stops.setdefault(states[row].tobytes(), []).append(int(row))
    routes = _routes(states, list(stops.values()), len(os.sched_getaffinity(0)))
    if len(stops) == 1:
        simulator.set_state(states[routes[0][0][0]])  # whoever plans comes back with the next state
    walks = [_Process(_walk, simulator, states, action, steps, route) for route in routes]
    followed: dict[int, Followed] = {}
    whole = True
    for walk in walks:  # all of them, so that none is left behind
        found = walk.result()
        whole = whole and found is not None
        followed.update(found or {})
    if not whole:
        return None
    shape = action.shape[:2]
    observation, reward = np.zeros((*shape, observations), np.float32), np.zeros(shape)
    terminated, success = (np.zeros(shape, dtype=bool) for _ in range(2))
    taken = np.zeros(len(states), dtype=np.int64)
    for row, parts in followed.items():
        taken[row] = n = len(parts[1])
        for array, part in zip((observation, reward, terminated, success), parts, strict=True):
            array[row, :n] = part
    return Branched(observation, reward, terminated, taken, success)


def _routes(states: np.ndarray, stops: list[list[int]], walkers: int) -> list[list[list[int]]]:
    """Deal out states, each with its branches: an episode's together, in order; those of a single state in parts."""
    if len(stops) == 1:
        rows = stops[0]
        return [[rows[i::walkers]] for i in range(min(walkers, len(rows)))]
    episodes: dict[float, list[list[int]]] = {}
    for rows in stops:
        episodes.setdefault(states[rows[0], 0], []).append(rows)
    routes: list[list[list[int]]] = [[] for _ in range(min(walkers, len(episodes)))]
    work = [0.0] * len(routes)
    longest = sorted(episodes.values(), key=lambda stops: -states[stops[-1][0], 1])
    for episode in longest:
        least = work.index(min(work))
        routes[least] += episode
        work[least] += states[episode[-1][0], 1]
    return routes


def _walk(
    simulator: Replayed, states: np.ndarray, action: np.ndarray, steps: np.ndarray, route: Sequence[list[int]]
) -> dict[int, Followed] | None:
    """Go from state to state, and from each down every branch and back."""
    found: dict[int, Followed] = {}
    for rows in route:
        simulator.set_state(states[rows[0]])
        for row in rows:
            followed: Followed | None = _Process(_follow, simulator, action[row, : steps[row]]).result()
            if followed is None:
                return None
            found[row] = followed
    return found


def _follow(simulator: Replayed, actions: np.ndarray) -> Followed:
    """Step on from here."""
    seen = []
    for action in actions:
        observation, reward, terminated, truncated, info = simulator.step(action)
        seen.append((observation, reward, terminated, bool(info.get("success", False))))
        if terminated or truncated:
            break
    first, *rest = (np.array(part) for part in zip(*seen, strict=True))
    return first, rest[0], rest[1], rest[2]


class _Process:
    """A fork of this process that computes one thing and ends."""

    def __init__(self, compute: Callable[..., Any], *given: Any) -> None:
        """Fork; the parent goes on at once."""
        self._pipe, outlet = os.pipe()
        with warnings.catch_warnings():
            # From Python 3.12 on: other threads do not come along, and might have held a lock. The child runs the
            # simulator alone, with no thread but its own.
            warnings.simplefilter("ignore", DeprecationWarning)
            self._child = os.fork()
        if self._child:
            os.close(outlet)
            return
        status = 1
        try:
            gc.disable()  # it would copy pages that are shared
            os.close(self._pipe)
            with os.fdopen(outlet, "wb") as stream:
                pickle.dump(compute(*given), stream)
            status = 0
        finally:
            os._exit(status)  # nothing of the parent's is run to its end here

    def result(self) -> Any:
        """What it computed; None if it came to a bad end."""
        with os.fdopen(self._pipe, "rb") as stream:
            told = stream.read()
        _, status = os.waitpid(self._child, 0)
        return pickle.loads(told) if told and status == 0 else None
