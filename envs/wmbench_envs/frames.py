"""Observations as a view asks for them: the state vector, the pictures of the last steps, or both."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from wmbench.views import STATE, View


class Frames:
    """Puts observations together, and remembers the pictures that are stacked. All that it gives out is fresh."""

    def __init__(self, view: View, images: Callable[[View], Mapping[str, np.ndarray]]) -> None:
        """Remember where pictures come from.

        Args:
            view: What is observed; at least one kind of picture.
            images: The simulator's current scene: name to (H, W, C).
        """
        self._view = view
        self._images = images
        self._last: dict[str, np.ndarray] = {}

    def begin(self, state: np.ndarray) -> Any:
        """The observation after a reset, or after a state was restored: a stack holds the present picture k times."""
        count = self._view.frame_stack
        self._last = {name: np.stack([one] * count) for name, one in self._images(self._view).items()}
        return self._observation(state)

    def after(self, state: np.ndarray) -> Any:
        """The observation after a step: the oldest picture of a stack makes room for the present one."""
        for name, one in self._images(self._view).items():
            stack = self._last[name]
            stack[:-1] = stack[1:]
            stack[-1] = one
        return self._observation(state)

    def _observation(self, state: np.ndarray) -> Any:
        single = self._view.frame_stack == 1
        seen = {name: (stack[0] if single else stack).copy() for name, stack in self._last.items()}
        parts = {name: state if name == STATE else seen[name] for name in self._view.names}
        return parts if len(parts) > 1 else next(iter(parts.values()))
