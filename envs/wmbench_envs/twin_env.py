"""One imagined environment: the batched twin's core with a single row, behind Gymnasium's Env."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import torch

from wmbench.cards import ModelCard, TaskCard
from wmbench.checks import ActionCheck, misuse
from wmbench.protocols import State, WorldModel
from wmbench.views import View
from wmbench_envs.spaces import check_seed, draw_seed, metadata, spaces
from wmbench_envs.twin_core import Imagination
from wmbench_envs.twin_render import TwinRenderer


class LearnedEnv(gym.Env[Any, np.ndarray]):
    """A task's learned simulator with the spaces, limits, seeds and refusals of the true one.

    Attributes:
        card: The task's card.
        model: The world model.
    """

    def __init__(self, core: Imagination, renderer: TwinRenderer | None = None, view: View | None = None) -> None:
        """Wrap a core of one row; :func:`wmbench_envs.twin.make_twin` builds it from plain arguments.

        Args:
            core: Built with ``num_envs=1`` and ``array="numpy"``.
            renderer: None for ``render_mode=None``.
            view: What observations consist of; the core draws its pictures, if it has any.
        """
        self.card: TaskCard = core.task
        self.model: WorldModel = core.model
        self.metadata = metadata(core.task)
        self.render_mode = None if renderer is None else "rgb_array"
        self.observation_space, self.action_space = spaces(core.task, view)
        self._core = core
        self._renderer = renderer
        self._check = ActionCheck(core.task).one
        self._ready = False  # between reset and the end of the episode
        self._begun = False
        self._closed = False

    @property
    def model_card(self) -> ModelCard:
        """The world model's card."""
        return self.model.card

    @property
    def model_state(self) -> State:
        """The model's state, a pytree whose leaves have one row; None before the first reset."""
        return self._core.state

    @property
    def diverged_count(self) -> int:
        """How many episodes ended because a prediction was not finite."""
        return self._core.diverged_count

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an imagined episode.

        Args:
            seed: Seed of this episode and of the stream that later resets without a seed draw from.
            options: None or empty: there are no options.

        Returns:
            Observation (O,) float32 and info with ``episode_seed``, ``success``, ``is_success``, ``diverged``.

        Raises:
            LifecycleError: The environment is closed.
            ValueError: A bad seed, or options.
        """
        if self._closed:
            raise misuse(self.card.id, "reset", closed=True, begun=self._begun)
        if options:
            raise ValueError(f"{self.card.id}: reset takes no options, got {sorted(options)}")
        if seed is not None:
            seed = check_seed(self.card.id, seed)
        super().reset(seed=seed)
        episode_seed = draw_seed(self.np_random) if seed is None else seed
        self._core.begin(np.array([episode_seed], dtype=np.int64))
        self._ready = self._begun = True
        info = {"episode_seed": episode_seed, "success": False, "is_success": False, "diverged": False}
        return self._observed(), info

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Imagine one control step.

        Args:
            action: (A,) float array; what happens outside the bounds is the card's ``action_rule``.

        Returns:
            Observation (O,) float32, reward, terminated, truncated, and info with ``success``, ``is_success``,
            ``diverged`` and, where asked for, ``uncertainty`` (name to float). If the prediction is not finite,
            ``diverged`` is True, the row truncated, its observation the last finite one and its reward 0.

        Raises:
            LifecycleError: Before reset, after the episode's end, or after close.
            InvalidActionError: The action is not acceptable; nothing has moved.
        """
        if not self._ready:
            raise misuse(self.card.id, "step", closed=self._closed, begun=self._begun)
        core = self._core
        outcome = core.advance(torch.from_numpy(self._check(action)).to(core.device)[None])
        self._ready = not outcome.any_ended
        success = bool(outcome.success[0])
        info: dict[str, Any] = {"success": success, "is_success": success, "diverged": bool(outcome.diverged[0])}
        if outcome.uncertainty is not None:
            info["uncertainty"] = {name: float(value[0]) for name, value in outcome.uncertainty.items()}
        return (
            self._observed(),
            float(outcome.reward[0]),
            bool(outcome.terminated[0]),
            bool(outcome.truncated[0]),
            info,
        )

    def _observed(self) -> Any:
        """The observation, with pictures where they were asked for."""
        state = self._core.observation
        if self._core.pictures is None:
            return state[0].copy()
        seen = self._core.pictures.observation(state.copy())
        return {name: batch[0] for name, batch in seen.items()} if isinstance(seen, dict) else seen[0]

    def render(self) -> np.ndarray | None:
        """A picture of the imagined state.

        Returns:
            (H, W, 3) uint8, or None if no render mode was chosen.

        Raises:
            LifecycleError: Before the first reset, or after close.
            RenderError: No graphics backend works here; says what to install.
        """
        if self._closed or not self._begun:
            raise misuse(self.card.id, "render", closed=self._closed, begun=self._begun)
        if self._renderer is None:
            gym.logger.warn(f"{self.card.id}: render() without a render mode; make it with render_mode='rgb_array'")
            return None
        return self._renderer.frames(self._core.state, self._core.observation)[0]

    def close(self) -> None:
        """Free what starts and pictures needed; closing twice is fine."""
        if not self._closed:
            self._closed = True
            self._ready = False
            self._core.close()
            if self._renderer is not None:
                self._renderer.close()
