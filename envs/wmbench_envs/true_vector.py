"""A batch of true environments: Gymnasium's sync or async stepping behind the checks of a single one."""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

import numpy as np
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv

from wmbench.cards import TaskCard
from wmbench.checks import ActionCheck, misuse
from wmbench.devices import torch_device
from wmbench.views import View
from wmbench.worlds import World
from wmbench_envs.spaces import row_mask, row_seeds
from wmbench_envs.true_env import TrueEnv


class TrueVectorEnv(VectorEnv[Any, Any, Any]):
    """``num_envs`` true simulators stepped together; a bad row is named before any row has moved.

    Row i depends on its own seed and actions only, so the same rows come out of one process and of many.

    Attributes:
        card: The task's card.
        view: What a row's observations consist of.
    """

    def __init__(
        self,
        card: TaskCard,
        num_envs: int,
        *,
        vectorization: str = "sync",
        autoreset_mode: AutoresetMode = AutoresetMode.NEXT_STEP,
        array: str = "numpy",
        device: str = "cpu",
        view: View | None = None,
        render_mode: str | None = None,
        height: int = 240,
        width: int = 320,
        world: World | None = None,
    ) -> None:
        """Build the rows.

        Args:
            card: The task.
            num_envs: Rows.
            vectorization: ``"sync"`` (this process) or ``"async"`` (a process per row).
            autoreset_mode: What happens when a row's episode ends.
            array: ``"numpy"`` or ``"torch"``.
            device: Where the tensors live if ``array="torch"``.
            view: What observations consist of, None for the state vector.
            render_mode: None or ``"rgb_array"``.
            height: Pixels of a frame.
            width: Pixels of a frame.
            world: Other worlds than the nominal one; each row draws its own from its episode's seed.
        """
        self.card = card
        self.num_envs = num_envs
        self.view = (view or View()).of(card)
        row = partial(TrueEnv, card, view=self.view, render_mode=render_mode, height=height, width=width, world=world)
        if vectorization == "sync":
            self._rows: Any = SyncVectorEnv([row] * num_envs, autoreset_mode=autoreset_mode)
        else:
            # A process forked after this one has opened OpenGL or Vulkan hangs at its own first picture; Gymnasium
            # makes an environment here first, for its spaces, and ManiSkill's opens its device at once.
            drawn = render_mode is not None or self.view.images
            opened = "OpenGL" in sys.modules or card.drawn_by == "vulkan"
            context = "forkserver" if drawn and opened else None
            self._rows = AsyncVectorEnv([row] * num_envs, autoreset_mode=autoreset_mode, context=context)
        self.metadata = self._rows.metadata
        self.render_mode = render_mode
        self.single_observation_space = self._rows.single_observation_space
        self.single_action_space = self._rows.single_action_space
        self.observation_space = self._rows.observation_space
        self.action_space = self._rows.action_space
        self._check = ActionCheck(card)
        self._disabled = autoreset_mode == AutoresetMode.DISABLED
        self._device = torch_device(card.id, device) if array == "torch" else None
        self._begun = False
        self._ended = np.zeros(num_envs, dtype=bool)

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin episodes in all rows, or in those of a mask.

        Args:
            seed: None (each row continues its own stream), an int (row i takes ``seed + i``, Gymnasium's
                rule), or a sequence with an int or None for every row.
            options: None, or ``{"reset_mask": (B,) bool array}`` with at least one True.

        Returns:
            Observations (B, O) float32, or what the view asks for with B rows, and infos, each key with its mask.

        Raises:
            LifecycleError: After close, or a mask at the very first reset.
            ValueError: A bad seed, number of seeds, mask or option.
        """
        self._open("reset")
        seeds = row_seeds(self.card.id, seed, self.num_envs)
        mask = row_mask(self.card.id, options, self.num_envs, begun=self._begun)
        observation, infos = self._rows.reset(seed=seeds, options=None if mask is None else {"reset_mask": mask})
        self._begun = True
        self._ended[slice(None) if mask is None else mask] = False
        return self._out(observation), self._out(infos)

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Apply one action per row.

        Args:
            actions: (B, A) float array; with ``array="torch"`` a tensor on any device will do as well.

        Returns:
            Observations as at reset, rewards (B,) float64, terminated (B,) bool, truncated (B,) bool, infos.

        Raises:
            LifecycleError: Before reset, after close, or with a row whose episode has ended (``Disabled`` mode).
            InvalidActionError: A row is not acceptable; no row has moved.
        """
        ended = np.flatnonzero(self._ended).tolist() if self._disabled else []
        if self.closed or not self._begun or ended:
            raise misuse(self.card.id, "step", closed=self.closed, begun=self._begun, rows=ended)
        if self._device is None:
            checked = self._check.batch(actions, self.num_envs)
        else:
            checked = self._check.batch_torch(actions, self.num_envs, "cpu").numpy()
        observation, reward, terminated, truncated, infos = self._rows.step(checked)
        self._ended = terminated | truncated
        if self._device is not None and "final_obs" in infos:  # one tensor; rows that go on hold their observation
            infos["final_obs"] = _dense(infos["final_obs"], observation)
        out = self._out
        return out(observation), out(np.asarray(reward, np.float64)), out(terminated), out(truncated), out(infos)

    def render(self) -> Any:
        """A tuple of B frames, each (H, W, 3) uint8 (or None without a render mode)."""
        if self.closed or not self._begun:
            raise misuse(self.card.id, "render", closed=self.closed, begun=self._begun)
        return self._rows.render()

    def call(self, name: str, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Call a method, or read an attribute, of every row."""
        self._open(name)
        return self._rows.call(name, *args, **kwargs)

    def get_attr(self, name: str) -> tuple[Any, ...]:
        """An attribute of every row."""
        return self.call(name)

    def close_extras(self, **kwargs: Any) -> None:
        """Close every row."""
        self._rows.close(**kwargs)

    def _open(self, call: str) -> None:
        if self.closed:
            raise misuse(self.card.id, call, closed=True, begun=self._begun)

    def _out(self, value: Any) -> Any:
        """NumPy as it is, or tensors: arrays of numbers wherever they are, also inside infos."""
        if self._device is None:
            return value
        import torch

        if isinstance(value, dict):
            return {k: self._out(v) for k, v in value.items()}
        if isinstance(value, np.ndarray) and value.dtype != object:
            return torch.from_numpy(value).to(self._device)
        return value


def _dense(final: np.ndarray, observation: Any) -> Any:
    """Last observations of rows that have ended, those of the others as they are now: one array (of each name)."""
    if isinstance(observation, dict):
        return {
            name: _dense(np.array([None if f is None else f[name] for f in final] + [None], dtype=object)[:-1], now)
            for name, now in observation.items()
        }
    return np.stack([now if last is None else last for last, now in zip(final, observation, strict=True)])
