"""Rows that a core advances all at once, behind Gymnasium's VectorEnv: seeds, autoreset, infos, endings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn, Protocol

import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from wmbench.cards import TaskCard
from wmbench.checks import ActionCheck, misuse
from wmbench.views import View
from wmbench_envs.spaces import metadata, row_mask, spaces
from wmbench_envs.twin_arrays import Arrays, rows_of
from wmbench_envs.twin_core import Outcome
from wmbench_envs.twin_streams import RowStreams


class Core(Protocol):
    """What advances N rows: a world model's imagination, or scenes of a simulator.

    Attributes:
        task: The task's card.
        num_envs: N.
        device: Where the core computes.
        observation: (N, O) float32, the current observations; copied before they are handed out.
        diverged_count: How many episodes were cut off because a number was not finite.
    """

    task: TaskCard
    num_envs: int
    device: torch.device
    observation: Any
    diverged_count: int

    def begin(self, seeds: np.ndarray, rows: Any = None) -> None:
        """Start the episodes of these seeds (n,) in these rows (n,), None: in all."""
        ...

    def advance(self, action: torch.Tensor, rows: Any = None) -> Outcome:
        """One control step of these rows, None: of all."""
        ...

    def close(self) -> None:
        """Free what it holds."""
        ...


class BatchedVectorEnv(VectorEnv[Any, Any, Any]):
    """N rows advanced together; the results are laid out as Gymnasium's own vector environments do.

    With ``array="torch"`` observations, rewards, flags and infos are tensors on the core's device, and in
    the same-step mode ``final_obs`` is one dense (N, O) tensor (rows outside ``_final_obs`` hold their
    ordinary observation) instead of an object array.

    Attributes:
        card: The task's card.
    """

    def __init__(
        self,
        core: Core,
        *,
        array: str = "numpy",
        autoreset_mode: AutoresetMode = AutoresetMode.NEXT_STEP,
        view: View | None = None,
    ) -> None:
        """Wrap a core.

        Args:
            core: Built with the same ``array``.
            array: ``"numpy"`` or ``"torch"``.
            autoreset_mode: What happens to a row after its episode's end.
            view: What observations consist of, None for the state alone.
        """
        self.card: TaskCard = core.task
        self.num_envs = core.num_envs
        self.metadata = {**metadata(core.task), "autoreset_mode": autoreset_mode}
        self.render_mode = None
        self.single_observation_space, self.single_action_space = spaces(core.task, view)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self._core = core
        self._arrays = Arrays(array, core.device)
        self._mode = autoreset_mode
        self._check = ActionCheck(core.task)
        self._streams = RowStreams(self.num_envs, core.task.id)
        self._begun = False
        self._waiting: np.ndarray = np.zeros(0, dtype=np.int64)  # rows whose episode has ended and not begun anew

    @property
    def diverged_count(self) -> int:
        """How many episodes were cut off because a number was not finite."""
        return self._core.diverged_count

    @property  # type: ignore[misc]
    def np_random(self) -> tuple[np.random.Generator, ...]:  # type: ignore[override]
        """The rows' random streams."""
        return tuple(self._streams.stream(row) for row in range(self.num_envs))

    @property
    def np_random_seed(self) -> tuple[int, ...]:  # type: ignore[override]
        """The seeds that the rows' streams were made with."""
        return tuple(self._streams.seed(row) for row in range(self.num_envs))

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin episodes in all rows, or in those of ``options={"reset_mask": mask}``.

        Args:
            seed: None: every row's own stream continues. An int: row i gets ``seed + i``, Gymnasium's rule.
                A sequence of N: row by row, None continuing the row's stream.
            options: None, or a ``reset_mask``: (N,) bool NumPy array with at least one True.

        Returns:
            Observations (N, O) float32 of all rows, and infos with masks.

        Raises:
            LifecycleError: The environment is closed, or a part is reset before the whole ever was.
            ValueError: A bad seed, number of seeds, mask or option.
        """
        if self.closed:
            self._misuse("reset")
        mask = row_mask(self.card.id, options, self.num_envs, begun=self._begun)
        rows = np.arange(self.num_envs) if mask is None else np.flatnonzero(mask)
        info: dict[str, Any] = {}
        self._begin(info, self._streams.episode_seeds(seed, rows), None if mask is None else rows)
        self._waiting = np.setdiff1d(self._waiting, rows)
        self._begun = True
        return self._observed(), info

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """One control step in every row.

        Args:
            actions: (N, A) float array, or tensor where ``array="torch"``.

        Returns:
            Observations (N, O) float32, rewards (N,) float64, terminated and truncated (N,) bool, and infos
            with masks: ``success``, ``is_success``, ``diverged``, where asked for ``uncertainty``, for rows
            that began an episode ``episode_seed``, and in the same-step mode ``final_obs`` and ``final_info``.

        Raises:
            LifecycleError: Before reset, after close, or, with autoreset disabled, for a row that has ended.
            InvalidActionError: A row's action is not acceptable; it is named, and no row has moved.
        """
        if self.closed or not self._begun:
            self._misuse("step")
        if len(self._waiting) and self._mode is AutoresetMode.DISABLED:
            self._misuse("step", self._waiting.tolist())
        if self._arrays.numpy:
            action = torch.from_numpy(self._check.batch(actions, self.num_envs)).to(self._core.device)
        else:
            action = self._check.batch_torch(actions, self.num_envs, self._core.device)
        if len(self._waiting):
            return self._step_and_begin(action)
        outcome = self._core.advance(action)
        info: dict[str, Any] = {}
        if not outcome.any_ended:
            self._add(info, self._step_info(outcome), None)
        else:
            ended = self._arrays.host(outcome.ended)
            self._waiting = np.flatnonzero(ended)
            if self._mode is AutoresetMode.SAME_STEP:
                self._finish_and_begin(info, outcome, ended)
            else:
                self._add(info, self._step_info(outcome), None)
        return self._observed(), self._arrays.copy(outcome.reward), outcome.terminated, outcome.truncated, info

    def _step_and_begin(self, action: torch.Tensor) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Next-step mode: rows whose episode has ended begin anew, their action unused; the others move."""
        reward, terminated, truncated = (self._arrays.zeros(self.num_envs, d) for d in ("float64", "bool", "bool"))
        going = np.ones(self.num_envs, dtype=np.bool_)
        going[self._waiting] = False
        starting, moving = self._waiting, np.flatnonzero(going)
        self._waiting = moving[:0]
        info: dict[str, Any] = {}
        if len(moving):
            rows = self._arrays.of_numpy(moving)
            outcome = self._core.advance(action[self._arrays.tensor(rows)], rows)
            reward[rows], terminated[rows], truncated[rows] = outcome.reward, outcome.terminated, outcome.truncated
            self._add(info, self._step_info(outcome), rows)
            if outcome.any_ended:
                self._waiting = moving[self._arrays.host(outcome.ended)]
        self._begin(info, self._streams.draw(starting), starting)
        return self._observed(), reward, terminated, truncated, info

    def _finish_and_begin(self, info: dict[str, Any], outcome: Outcome, ended: np.ndarray) -> None:
        """Same-step mode: keep the last observation and info of rows whose episode has ended; begin them anew."""
        starting, self._waiting = self._waiting, self._waiting[:0]
        rows = self._arrays.of_numpy(starting)
        mask = self._arrays.zeros(self.num_envs, "bool")
        mask[rows] = True
        last = self._observed()
        if self._arrays.numpy:
            every, last = last, np.full(self.num_envs, None, dtype=object)
            for row in starting:
                parts = isinstance(every, dict)
                last[row] = {name: v[row].copy() for name, v in every.items()} if parts else every[row].copy()
        info["final_obs"], info["_final_obs"] = last, mask
        values = self._step_info(outcome)
        self._add(info, {"final_info": rows_of(values, rows)}, rows)
        if not ended.all():
            going = self._arrays.of_numpy(np.flatnonzero(~ended))
            self._add(info, rows_of(values, going), going)
        self._begin(info, self._streams.draw(starting), starting)

    def _begin(self, info: dict[str, Any], seeds: np.ndarray, rows: np.ndarray | None) -> None:
        """Begin episodes in some rows (None: all) and write their info."""
        where = None if rows is None else self._arrays.of_numpy(rows)
        self._core.begin(seeds, where)
        no = np.zeros(len(seeds), dtype=np.bool_)
        values = {"episode_seed": seeds, "success": no, "is_success": no, "diverged": no}
        self._add(info, {k: self._arrays.of_numpy(v) for k, v in values.items()}, where)

    def _observed(self) -> Any:
        """Observations of all rows, in memory of their own."""
        return self._arrays.copy(self._core.observation)

    def close_extras(self, **kwargs: Any) -> None:
        """Free what the core holds."""
        self._core.close()

    def _step_info(self, outcome: Outcome) -> dict[str, Any]:
        """Info of rows that moved."""
        info = {"success": outcome.success, "is_success": outcome.success, "diverged": outcome.diverged}
        if outcome.uncertainty is not None:
            info["uncertainty"] = outcome.uncertainty
        return info

    def _add(self, info: dict[str, Any], values: dict[str, Any], rows: Any) -> None:
        self._arrays.add_info(info, values, rows, self.num_envs)

    def _misuse(self, call: str, rows: list[int] | None = None) -> NoReturn:
        raise misuse(self.card.id, call, closed=self.closed, begun=self._begun, rows=rows)
