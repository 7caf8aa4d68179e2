"""Pictures as observations of imagined episodes: decoded by the model, or drawn from the states that it predicts."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

from wmbench.cards import TaskCard
from wmbench.errors import CardError, ViewError
from wmbench.protocols import State, WorldModel
from wmbench.views import STATE, View


class TwinPictures:
    """What B imagined rows show, stacked as the view asks.

    A model that decodes pixels, see :class:`wmbench_envs.twin_render.TwinRenderer`, shows what it decodes. For one that
    predicts the state alone, the true simulator is posed from the prediction and draws it. Such pictures show exactly
    what was predicted and nothing else; a view must then contain the state, so that nobody mistakes them for pixels
    that a model made.
    """

    def __init__(self, task: TaskCard, model: WorldModel, view: View, num_envs: int) -> None:
        """Choose how pictures come about.

        Args:
            task: The task.
            model: The world model.
            view: With pictures, camera and preset named.
            num_envs: B.

        Raises:
            ViewError: Neither the model nor the task's card says how predicted states look, or the model decodes
                other pictures than are asked for.
        """
        self._decode = getattr(model, "render", None)
        name = model.card.name
        if self._decode is not None and view.images != ("rgb",):
            raise ViewError(f"{task.id}: model {name!r} decodes rgb and nothing else, asked for {view.observation!r}")
        if self._decode is None and STATE not in view.names:
            raise ViewError(
                f"{task.id}: model {name!r} predicts the state and no pictures, so observation={view.observation!r} "
                f"cannot be had of it; observation='state+{view.observation}' gives what it predicts, with pictures "
                "that the true simulator draws of it"
            )
        if self._decode is None and not task.pose:
            raise ViewError(
                f"{task.id}: model {name!r} predicts the state and no pictures, and the task's card has no pose to "
                "draw predicted states with; leave observation at 'state'"
            )
        self._task, self._view, self._count = task, view, num_envs
        self._model_name = name
        self._env: Any = None
        self._stacks: dict[str, np.ndarray] = {}

    def begin(self, state: State, observation: np.ndarray, rows: Any = None) -> None:
        """Show the first pictures of episodes, repeated in every place of a stack.

        Args:
            state: The model's state, B rows.
            observation: (B, O) float32.
            rows: (n,) int which begin, None for all.
        """
        for name, now in self._draw(state, observation, rows).items():
            if name not in self._stacks:
                shape = (self._count, self._view.frame_stack, *now.shape[1:])
                self._stacks[name] = np.zeros(shape, now.dtype)
            self._stacks[name][slice(None) if rows is None else rows] = now[:, None]

    def after(self, state: State, observation: np.ndarray, rows: Any = None) -> None:
        """Show the pictures after a step of some rows, None for all."""
        chosen: Any = slice(None) if rows is None else rows
        for name, now in self._draw(state, observation, rows).items():
            stack = self._stacks[name]
            stack[chosen] = np.concatenate([stack[chosen][:, 1:], now[:, None]], axis=1)

    def observation(self, state_vector: Any, convert: Any = None) -> Any:
        """What all rows observe, fresh.

        Args:
            state_vector: (B, O), a copy already.
            convert: Turns an array into what the environment gives out, None for arrays.
        """
        single = self._view.frame_stack == 1
        parts = {}
        for name in self._view.names:
            if name == STATE:
                parts[name] = state_vector
                continue
            shown = (self._stacks[name][:, 0] if single else self._stacks[name]).copy()
            parts[name] = shown if convert is None else convert(shown)
        return parts if len(parts) > 1 else next(iter(parts.values()))

    def close(self) -> None:
        """Close the simulator, if one was needed."""
        if self._env is not None:
            self._env.close()
            self._env = None

    def _draw(self, state: State, observation: np.ndarray, rows: Any) -> dict[str, np.ndarray]:
        """Pictures of some rows: name to (n, H, W, C)."""
        if self._decode is not None:
            pictures = self._decode(state).cpu().numpy()
            expected = (self._count, self._view.height, self._view.width, 3)
            if pictures.shape != expected or pictures.dtype != np.uint8:
                raise CardError(
                    f"{self._task.id}: model {self._model_name!r} decodes {pictures.dtype} {pictures.shape}, asked for "
                    f"uint8 {expected}: choose its image_size"
                )
            return {"rgb": pictures if rows is None else pictures[rows]}
        if self._env is None:
            self._env = gym.make(self._task.id, **self._task.options(), **self._view.unstacked().options()).unwrapped
        shown = [self._env.images_of(one) for one in (observation if rows is None else observation[rows])]
        return {name: np.stack([one[name] for one in shown]) for name in self._view.images}
