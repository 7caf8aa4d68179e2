"""stable-baselines3 on the batched twin: its VecEnv interface over one vector environment, without a row loop."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv

from wmbench.errors import WmbenchError, require
from wmbench.registration import task_card

require("stable_baselines3", "sb3")

from stable_baselines3.common.vec_env import VecEnv  # noqa: E402


class TwinVecEnv(VecEnv):
    """The VecEnv interface over a Gymnasium vector environment that resets rows in the step that ends them.

    Arrays pass through whole. Python touches single rows only where an episode has ended, and to make the
    one info dict per row that stable-baselines3 expects. Infos are those of ``DummyVecEnv`` over the same
    environments, plus ``"episode"`` (return ``r``, length ``l``, seconds ``t``) at the end of each, so
    training curves are logged without a ``VecMonitor``; one around it works too.
    """

    def __init__(
        self, env: VectorEnv[Any, Any, Any] | str, num_envs: int = 1, *, simulator: str | None = None, **kwargs: Any
    ) -> None:
        """Make a task's vector environment, or wrap one that is made.

        Args:
            env: Task id or short name; or a vector environment with ``autoreset_mode="SameStep"`` and NumPy arrays,
                then nothing else is to be given.
            num_envs: Rows.
            simulator: Checkpoint folder or name of a world model for the learned twin; None for the true simulator.
            **kwargs: Anything else that ``gym.make_vec`` takes for the id (``device``, ``init``...).

        Raises:
            WmbenchError: Another autoreset mode: final observations would be lost.
        """
        if isinstance(env, str):
            options = {"autoreset_mode": "SameStep", "array": "numpy", "simulator": simulator, **kwargs}
            venv = gym.make_vec(task_card(env).id, num_envs=num_envs, **options)
        else:
            venv = env
        mode = venv.metadata.get("autoreset_mode")
        if mode != AutoresetMode.SAME_STEP:
            raise WmbenchError(
                f"stable-baselines3 needs rows that reset in the step that ends them, this vector environment has "
                f"{mode}: make it with autoreset_mode='SameStep'"
            )
        self.venv: Any = venv
        self.spec = venv.spec
        super().__init__(venv.num_envs, venv.single_observation_space, venv.single_action_space)
        self._actions: np.ndarray | None = None
        self._returns = np.zeros(venv.num_envs)  # (B,) float64
        self._lengths = np.zeros(venv.num_envs, dtype=np.int64)  # (B,)
        self._every = np.arange(venv.num_envs)
        self._began = time.time()

    def reset(self) -> np.ndarray:
        """Begin all episodes, with the seeds given to :meth:`seed` since the last reset, if any.

        Returns:
            (B, O) float32.

        Raises:
            WmbenchError: :meth:`set_options` asked for options that differ between rows, or the vector
                environment gives tensors.
        """
        if any(options != self._options[0] for options in self._options):
            raise WmbenchError("the batched twin takes the same reset options for every row")
        seeds = [None if seed is None else seed % 2**32 for seed in self._seeds]
        observation, info = self.venv.reset(seed=seeds, options=self._options[0] or None)
        if not isinstance(observation, np.ndarray):
            raise WmbenchError("stable-baselines3 needs NumPy arrays: make the vector environment with array='numpy'")
        self.reset_infos = rows_of(info, self._every)
        self._returns[:] = 0.0
        self._lengths[:] = 0
        self._actions = None
        self._reset_seeds()
        self._reset_options()
        return observation

    def step_async(self, actions: np.ndarray) -> None:
        """Keep the actions (B, A) for :meth:`step_wait`."""
        self._actions = actions

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """Take the step.

        Returns:
            Observations (B, O) float32, of the next episode where one has ended; rewards (B,) float32; dones (B,)
            bool; and one fresh dict per row with ``TimeLimit.truncated`` and, where done, ``terminal_observation``
            (O,) float32 and ``episode``.

        Raises:
            WmbenchError: No action was given.
        """
        if self._actions is None:
            raise WmbenchError("step_wait() was called without step_async()")
        actions, self._actions = self._actions, None
        observation, reward, terminated, truncated, info = self.venv.step(actions)
        done = terminated | truncated  # (B,)
        self._returns += reward
        self._lengths += 1
        if done.any():
            infos = self._split(info, truncated & ~terminated, done)
        else:
            infos = rows_of(info, self._every, {"TimeLimit.truncated": False})
        return observation, reward.astype(np.float32), done, infos

    def _split(self, info: dict[str, Any], cut: np.ndarray, done: np.ndarray) -> list[dict[str, Any]]:
        """Infos of a step that ended some episodes: their last one for SB3, that of their reset for reset_infos."""
        final_observation, final_info = info.pop("final_obs"), info.pop("final_info")
        infos: list[dict[str, Any]] = [{}] * self.num_envs  # every one is replaced below
        alive, ended = np.flatnonzero(~done), np.flatnonzero(done)
        for row, plain in zip(alive.tolist(), rows_of(info, alive, {"TimeLimit.truncated": False}), strict=True):
            infos[row] = plain
        seconds = round(time.time() - self._began, 6)
        lasts, firsts = rows_of(final_info, ended), rows_of(info, ended)
        for row, last, first in zip(ended.tolist(), lasts, firsts, strict=True):
            last["TimeLimit.truncated"] = bool(cut[row])
            last["terminal_observation"] = np.array(final_observation[row])
            last["episode"] = {"r": round(float(self._returns[row]), 6), "l": int(self._lengths[row]), "t": seconds}
            infos[row], self.reset_infos[row] = last, first
        self._returns[ended] = 0.0
        self._lengths[ended] = 0
        return infos

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """An attribute of the vector environment, which all rows share, once for each asked row."""
        return [getattr(self.venv, attr_name) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Set an attribute of the vector environment, for all rows at once.

        Raises:
            WmbenchError: Only some rows were asked for.
        """
        if len(list(self._get_indices(indices))) != self.num_envs:
            raise WmbenchError(f"rows of the batched twin share {attr_name!r}: it cannot be set for some of them")
        setattr(self.venv, attr_name, value)

    def env_method(self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any) -> list[Any]:
        """Refused: rows of a batch have no methods of their own.

        Raises:
            WmbenchError: Always.
        """
        raise WmbenchError(
            f"the batched twin has no separate environments to call {method_name!r} on: use DummyVecEnv over "
            "gym.make(id, simulator=...) where a method of single environments is needed"
        )

    def env_is_wrapped(self, wrapper_class: type[gym.Wrapper], indices: Any = None) -> list[bool]:
        """False for every asked row: there are no wrappers around rows of a batch."""
        return [False for _ in self._get_indices(indices)]

    def get_images(self) -> Sequence[np.ndarray | None]:
        """One frame per row, as the vector environment renders them."""
        return list(self.venv.render() or [None] * self.num_envs)

    def close(self) -> None:
        """Close the vector environment."""
        self.venv.close()


def rows_of(info: dict[str, Any], rows: np.ndarray, constant: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    """Split a vector environment's info into fresh dicts of plain Python values, one per row.

    Args:
        info: Keys to arrays with the batch first, each with its mask of the rows that have it under ``_key``.
        rows: (n,) indices of the wanted rows.
        constant: Entries that every row gets.

    Returns:
        n dicts; a key is absent where its mask is False.
    """
    shared: dict[str, Any] = dict(constant or {})  # copying one dict per row costs a tenth of filling it
    varying: list[tuple[str, Sequence[Any], np.ndarray]] = []
    for key, value in info.items():
        if f"_{key}" not in info:
            continue  # a mask
        present = info[f"_{key}"][rows]  # (n,)
        if not present.any():
            continue
        if isinstance(value, dict):
            varying.append((key, rows_of(value, rows), present))
            continue
        column = value[rows]  # (n, ...)
        if column.ndim > 1:
            varying.append((key, list(column), present))
        elif column.dtype != object and present.all() and bool((column == column[0]).all()):
            shared[key] = column[0].item()
        else:
            varying.append((key, column.tolist(), present))
    infos = [shared.copy() for _ in range(len(rows))]
    for key, values, present in varying:
        for i in np.flatnonzero(present).tolist():
            infos[i][key] = values[i]
    return infos
