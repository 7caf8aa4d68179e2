"""Pictures of imagined episodes: decoded by the model, or the true simulator posed from the predictions."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

from wmbench.cards import TaskCard
from wmbench.errors import RenderError
from wmbench.protocols import State, WorldModel


class TwinRenderer:
    """Draws the current imagined states. A model that decodes pixels has ``render(state) -> (B, H, W, 3) uint8``."""

    def __init__(self, task: TaskCard, model: WorldModel, *, height: int, width: int) -> None:
        """Choose how to draw.

        Args:
            task: The task.
            model: The world model.
            height: Pixels of a frame; a model that decodes pixels has its own size.
            width: Pixels of a frame.

        Raises:
            RenderError: Neither the model nor the task's card says how predicted states look.
        """
        self._decode = getattr(model, "render", None)
        if self._decode is None and not task.pose:
            raise RenderError(
                f"{task.id}: model {model.card.name!r} decodes no pixels, and the task's card has no pose to draw "
                "predicted states with; make it without render_mode"
            )
        self._task = task
        self._size = (height, width)
        self._env: Any = None

    def frames(self, state: State, observation: np.ndarray) -> tuple[np.ndarray, ...]:
        """One frame per row.

        Args:
            state: The model's state, B rows.
            observation: (B, O) float32 predicted observations.

        Returns:
            B arrays (H, W, 3) uint8, fresh.

        Raises:
            RenderError: No graphics backend works here; says what to install.
        """
        if self._decode is not None:
            return tuple(self._decode(state).cpu().numpy().copy())
        if self._env is None:
            self._env = gym.make(
                self._task.id,
                **self._task.options(),
                render_mode="rgb_array",
                height=self._size[0],
                width=self._size[1],
            ).unwrapped
        return tuple(self._env.render_pose(row) for row in observation)

    def close(self) -> None:
        """Close the simulator, if one was needed."""
        if self._env is not None:
            self._env.close()
            self._env = None
