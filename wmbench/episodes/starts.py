"""Where episodes begin: hashes of first observations and states, and whether test starts are new ones."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np


def start_hashes(observation: np.ndarray, state: np.ndarray | None = None) -> tuple[str, ...]:
    """What an episode's start is recognised by.

    Args:
        observation: (O,) or (T + 1, O), whose first row counts.
        state: (S,) or (T + 1, S) of the simulator, or None.

    Returns:
        SHA-256 (its first 32 hexadecimal digits) of the first observation and, if known, of the first state;
        -0 counts as 0.
    """
    found = [("observation", observation)] if state is None else [("observation", observation), ("state", state)]
    digests = []
    for name, array in found:
        first = np.asarray(array if array.ndim == 1 else array[0])
        data = name.encode() + first.dtype.str.encode() + (first + first.dtype.type(0)).tobytes()
        digests.append(hashlib.sha256(data).hexdigest()[:32])
    return tuple(digests)


class Starts:
    """The starts of a dataset by split. Two episodes share a start if their first observations or states are equal."""

    def __init__(self) -> None:
        """No episode yet."""
        self._episodes: list[tuple[tuple[str, ...], str]] = []
        self._splits: dict[str, set[str]] = {}

    def add(self, observation: np.ndarray, state: np.ndarray | None, split: str) -> None:
        """Take in one episode, see :func:`start_hashes`."""
        hashes = start_hashes(observation, state)
        self._episodes.append((hashes, split))
        for value in hashes:
            self._splits.setdefault(value, set()).add(split)

    def clash(self, observation: np.ndarray, state: np.ndarray | None, split: str) -> str | None:
        """A split that must not share this start: the test split with any other; None if there is no such episode."""
        for value in start_hashes(observation, state):
            for other in sorted(self._splits.get(value, ())):
                if other != split and "test" in (other, split):
                    return other
        return None

    def shared(self, hashes: Iterable[str]) -> int:
        """How many episodes outside the test split begin at one of these starts."""
        known = set(hashes)
        return sum(split != "test" and not known.isdisjoint(own) for own, split in self._episodes)

    def hashes(self) -> list[str]:
        """Every hash, sorted."""
        return sorted(self._splits)

    def to_json(self) -> dict[str, Any]:
        """Plain data.

        ``distinct`` counts different first observations and states (None if not every state is known), ``test_in``
        how many test episodes begin where one of another split does, ``disjoint`` whether that is none.
        """
        test = [own for own, split in self._episodes if split == "test"]
        shared = {
            split: sum(any(split in self._splits[value] for value in own) for own in test) for split in ("train", "val")
        }
        states = [own[1] for own, _ in self._episodes if len(own) > 1]
        known = len(states) == len(self._episodes)
        return {
            "hash": "SHA-256 of the first observation and of the first simulator state",
            "episodes": len(self._episodes),
            "distinct": {
                "observation": len({own[0] for own, _ in self._episodes}),
                "state": len(set(states)) if known else None,
            },
            "test": len(test),
            "test_in": shared,
            "disjoint": not any(shared.values()),
        }
