"""The batched twin: N imagined environments behind Gymnasium's VectorEnv, one model call per step."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode

from wmbench.cards import ModelCard
from wmbench.protocols import State, WorldModel
from wmbench.views import View
from wmbench_envs.batched_vector import BatchedVectorEnv
from wmbench_envs.twin_core import Imagination
from wmbench_envs.twin_render import TwinRenderer


class LearnedVectorEnv(BatchedVectorEnv):
    """N rows of a task's learned simulator.

    Attributes:
        model: The world model.
    """

    _core: Imagination

    def __init__(
        self,
        core: Imagination,
        renderer: TwinRenderer | None = None,
        *,
        array: str = "numpy",
        autoreset_mode: AutoresetMode = AutoresetMode.NEXT_STEP,
        view: View | None = None,
    ) -> None:
        """Wrap a core; :func:`wmbench_envs.twin.make_twin_vec` builds it from plain arguments.

        Args:
            core: Built with the same ``array``.
            renderer: None for ``render_mode=None``.
            array: ``"numpy"`` or ``"torch"``.
            autoreset_mode: What happens to a row after its episode's end.
            view: What observations consist of; the core draws its pictures, if it has any.
        """
        super().__init__(core, array=array, autoreset_mode=autoreset_mode, view=view)
        self.model: WorldModel = core.model
        self.render_mode = None if renderer is None else "rgb_array"
        self._renderer = renderer

    @property
    def model_card(self) -> ModelCard:
        """The world model's card."""
        return self.model.card

    @property
    def model_state(self) -> State:
        """The model's state, a pytree whose leaves have N rows; None before the first reset."""
        return self._core.state

    def render(self) -> tuple[np.ndarray, ...] | None:
        """A picture of every row.

        Returns:
            N arrays (H, W, 3) uint8, or None if no render mode was chosen.

        Raises:
            LifecycleError: Before the first reset, or after close.
            RenderError: No graphics backend works here; says what to install.
        """
        if self.closed or not self._begun:
            self._misuse("render")
        if self._renderer is None:
            gym.logger.warn(f"{self.card.id}: render() without a render mode; make it with render_mode='rgb_array'")
            return None
        return self._renderer.frames(self._core.state, self._arrays.host(self._core.observation))

    def _observed(self) -> Any:
        """Observations of all rows, with pictures where they were asked for."""
        state = super()._observed()
        if self._core.pictures is None:
            return state
        return self._core.pictures.observation(state, self._arrays.of_numpy)

    def close_extras(self, **kwargs: object) -> None:
        """Free what starts and pictures needed."""
        super().close_extras()
        if self._renderer is not None:
            self._renderer.close()
