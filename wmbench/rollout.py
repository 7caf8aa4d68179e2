"""The one engine that lets a policy act: the same episodes for any number of environments, true or learned."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np

from wmbench.cards import TaskCard
from wmbench.checks import ActionCheck
from wmbench.episodes.data import EpisodeData
from wmbench.keys import keys_from_seeds
from wmbench.protocols import Policy, State
from wmbench.registration import task_card
from wmbench.rollout_buffers import Buffers
from wmbench.rollout_rows import LoopRows, Rows, VectorRows
from wmbench.trees import gather, scatter
from wmbench.troop import Troop
from wmbench.views import STATE, View, joined, wanted_by
from wmbench.worlds import Asked, parse_world


def rollout(
    task: TaskCard | str,
    policy: Policy,
    seeds: Sequence[int],
    *,
    num_envs: int = 1,
    on_episode: Callable[[int, EpisodeData], None] | None = None,
    **options: Any,
) -> list[EpisodeData]:
    """Run one episode per seed.

    Args:
        task: Card, id or short name.
        policy: Who acts.
        seeds: One per episode; an episode is ``reset(seed=seed)``, and the policy's keys derive from it, too.
        num_envs: Episodes that run side by side; it changes the speed and nothing else.
        on_episode: Called with (position in ``seeds``, episode) as episodes end, in no particular order.
        **options: See :class:`Rollout`: ``simulator``, ``init``, ``device``, ``vectorization``,
            ``record_state``, ``source``, ``on_error``, ``timing``, ``action_repeat``, ``world``.

    Returns:
        Episodes in the order of ``seeds``.

    Raises:
        WmbenchError: The simulator, or an action of the policy, is at fault (``on_error="raise"``).
    """
    done: dict[int, EpisodeData] = {}
    with Rollout(task, policy, num_envs=max(1, min(num_envs, len(seeds))), **options) as engine:
        for position, episode in engine.run(seeds):
            done[position] = episode
            if on_episode is not None:
                on_episode(position, episode)
    return [done[i] for i in range(len(seeds))]


class Rollout:
    """Environments and a policy, kept for any number of runs. Use it as a context manager, or close it."""

    def __init__(
        self,
        task: TaskCard | str,
        policy: Policy,
        *,
        simulator: str | Path | None = None,
        num_envs: int = 1,
        init: str = "true",
        device: str = "cpu",
        vectorization: Literal["sync", "async"] = "sync",
        record_state: bool = False,
        source: str = "",
        on_error: Literal["raise", "record"] = "raise",
        timing: bool = False,
        action_repeat: int | None = None,
        world: Asked = None,
        view: View | None = None,
        **env_options: Any,
    ) -> None:
        """Make the environments.

        Args:
            task: Card, id or short name.
            policy: Who acts.
            simulator: None for the true simulator, otherwise a checkpoint folder or a world model's name.
            num_envs: Episodes that run side by side.
            init: Where imagined episodes begin, ``"true"`` or ``"bank"``; the true simulator ignores it.
            device: Where the learned simulator runs; the true simulator ignores it.
            vectorization: The true simulator in this process, or in one process per environment.
            record_state: Whether to store the true simulator's state at every step.
            source: Name of who acts, stored with the episodes.
            on_error: ``"raise"``, or ``"record"``: an episode in which the policy or the simulator fails is
                returned up to that step with the reason in ``EpisodeData.invalid``, and the others go on.
            timing: Whether to store wall-clock seconds per call.
            action_repeat: Control steps per action, see :meth:`wmbench.cards.TaskCard.repeated`; None: the card's.
            world: Where the true simulator's episodes take place, see :func:`wmbench.worlds.parse_world`. Episodes of
                another world than the nominal one have its values in ``extra["world"]``, (T + 1, P) float64 in the
                order of :func:`wmbench.worlds.supported`.
            view: Pictures to be recorded with the episodes, one per state, in ``extra``; None: none. Whatever it is, a
                policy acts on what it declares, see :func:`wmbench.views.wanted_by`.
            **env_options: Further keyword arguments for ``gym.make_vec`` of a learned simulator.

        Raises:
            ViewError: The policy wants pictures of another size, camera or preset than are to be recorded, or such
                that the task does not have.
            RenderError: Pictures that cannot be drawn here.
            ValueError: A setting that does not exist, or states of a learned simulator.
        """
        if vectorization not in ("sync", "async"):
            raise ValueError(f"vectorization must be 'sync' or 'async', got {vectorization!r}")
        if on_error not in ("raise", "record"):
            raise ValueError(f"on_error must be 'raise' or 'record', got {on_error!r}")
        if num_envs < 1:
            raise ValueError(f"num_envs must be at least 1, got {num_envs}")
        if simulator is not None and record_state:
            raise ValueError("record_state needs simulator=None: only the true simulator has a state")
        if simulator is None and env_options:
            raise ValueError(f"{', '.join(sorted(env_options))} only have a meaning with simulator=...")
        card = task_card(task) if isinstance(task, str) else task
        self.card = card if action_repeat is None else card.repeated(action_repeat)
        self.policy = policy
        self.source = source
        self.num_envs = num_envs
        self._recording = on_error == "record"
        self._timing = timing
        self._check = ActionCheck(self.card)
        self._world = parse_world(self.card, world)
        elsewhere: dict[str, Any] = {} if self._world is None else {"world": world}
        self._view = (view or View()).of(self.card)
        self._wanted = wanted_by(policy).of(self.card)
        shown = joined(self._view, self._wanted)
        self._images: dict[str, np.ndarray] = {}  # what every row shows now, if the policy wants to see it
        elsewhere |= shown.options()
        options: dict[str, Any] = {"vectorization": vectorization, **elsewhere}
        if simulator is not None:
            options = {"simulator": str(simulator), "init": init, "device": device, **elsewhere, **env_options}

        def make(n: int) -> Rows:
            if simulator is None and vectorization == "sync":
                return LoopRows(self.card, n, elsewhere, record_state=record_state, keep_going=self._recording)
            return VectorRows(self.card, n, options, record_state=record_state)

        self._make = make
        self._rows = make(num_envs)

    def run(self, seeds: Sequence[int]) -> Iterator[tuple[int, EpisodeData]]:
        """Run one episode per seed.

        Args:
            seeds: See :func:`rollout`.

        Yields:
            Position in ``seeds`` and the episode, as they end.

        Raises:
            WmbenchError: A fault of the policy or simulator, unless it is to be recorded.
        """
        for position, episode in self._run(deque((i, int(seed)) for i, seed in enumerate(seeds))):
            if self._world is not None:
                values = list(self._world.draw(episode.seed).values())
                episode.extra["world"] = np.tile(values, (len(episode.observation), 1))
            yield position, episode

    def _run(self, waiting: deque[tuple[int, int]]) -> Iterator[tuple[int, EpisodeData]]:
        """The waiting episodes, given by their positions and seeds."""
        while waiting:
            stack = self._wanted.frame_stack
            buffers = Buffers(self.card, self.num_envs, self.source, timing=self._timing, view=self._view, stack=stack)
            self._images = {}
            try:
                yield from self._advance(buffers, waiting)
            except _SimulatorFailed as failure:
                yield from self._alone(buffers, failure)

    def close(self) -> None:
        """Free the environments."""
        self._rows.close()

    def __enter__(self) -> Rollout:
        """Nothing more to open."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Free the environments."""
        self.close()

    def _advance(self, buffers: Buffers, waiting: deque[tuple[int, int]]) -> Iterator[tuple[int, EpisodeData]]:
        """Keep all rows busy until every waiting episode has ended."""
        memory = self.policy.initial(self.num_envs)
        while True:
            if waiting and len(free := buffers.free()):
                started = [waiting.popleft() for _ in free[: len(waiting)]]
                rows, seeds = free[: len(started)], [seed for _, seed in started]
                memory = scatter(memory, rows, self._begin(started))
                buffers.begin(rows, started, keys_from_seeds(seeds))
                observation, state = self._simulate(self._rows.reset, rows, seeds)
                buffers.first(rows, observation, state, skip=self._rows.errors)
                buffers.show(rows, self._rows.images)
                self._look(rows)
                for row, error in self._rows.errors.items():
                    yield buffers.finish(row, invalid=_reason(error))
            rows = buffers.active()
            if not len(rows):
                if waiting:
                    continue
                return
            clock = time.perf_counter()
            everyone = len(rows) == self.num_envs
            observation, keys = buffers.now(rows)
            action, new, faults = self._act(
                self._seen(observation, rows), memory if everyone else gather(memory, rows), keys
            )
            memory = new if everyone else scatter(memory, rows, new)
            act_seconds = time.perf_counter() - clock
            if faults:
                for i, reason in faults.items():
                    yield buffers.finish(int(rows[i]), invalid=reason)
                sound = [i for i in range(len(rows)) if i not in faults]
                rows, action = rows[sound], action[sound]
                if not sound:
                    continue
            clock = time.perf_counter()
            steps = self._simulate(self._rows.step, rows, action)
            errors = self._rows.errors
            buffers.show(rows, self._rows.images, ahead=1)
            self._look(rows)
            ended = buffers.record(rows, action, steps, (act_seconds, time.perf_counter() - clock))
            for row in rows[ended].tolist():
                fault = errors.get(row)
                yield buffers.finish(row, invalid=_reason(fault) if fault else None, failed_step=fault is not None)

    def _begin(self, started: list[tuple[int, int]]) -> State:
        """The policy's state of fresh episodes; one that acts differently in each is told which they are."""
        if isinstance(self.policy, Troop):
            return self.policy.begin(np.array([position for position, _ in started]))
        return self.policy.initial(len(started))

    def _look(self, rows: np.ndarray) -> None:
        """Keep what rows show, if the policy wants to see it."""
        for name in self._wanted.images:
            given = self._rows.images[name]
            if name not in self._images:
                self._images[name] = np.zeros((self.num_envs, *given.shape[1:]), given.dtype)
            self._images[name][rows] = given

    def _seen(self, state: np.ndarray, rows: np.ndarray) -> Any:
        """What the policy is given: state vectors (n, O), pictures (n, ...), or a dictionary of several."""
        if not self._wanted.images:
            return state
        parts = {name: state if name == STATE else self._images[name][rows] for name in self._wanted.names}
        return parts if len(parts) > 1 else next(iter(parts.values()))

    def _act(self, observation: Any, memory: State, keys: np.ndarray) -> tuple[np.ndarray, State, dict[int, str]]:
        """Checked actions (n, A), the policy's next state, and in recording mode the rows at fault."""
        n = len(keys)
        try:
            action, new = self.policy.act(observation, memory, keys=keys)
            return self._check.batch(action, n), new, {}
        except Exception as error:
            if not self._recording:
                raise
            if n == 1:
                return np.zeros((1, *self._check.shape), np.float32), memory, {0: _reason(error)}
        actions = np.zeros((n, *self._check.shape), np.float32)
        faults = {}
        for i in range(n):  # the policy's rows are independent, so asking again finds the ones at fault
            row = np.array([i])
            actions[row], new, fault = self._act(gather(observation, row), gather(memory, row), keys[row])
            memory = scatter(memory, row, new)
            if fault:
                faults[i] = fault[0]
        return actions, memory, faults

    def _simulate(self, call: Callable[..., Any], *arguments: Any) -> Any:
        """Call the simulator; in recording mode a fault of the whole batch becomes :class:`_SimulatorFailed`."""
        if not self._recording:
            return call(*arguments)
        try:
            return call(*arguments)
        except Exception as error:
            raise _SimulatorFailed(error) from error

    def _alone(self, buffers: Buffers, failure: _SimulatorFailed) -> Iterator[tuple[int, EpisodeData]]:
        """After a fault of the whole batch: find the episode at fault by running each by itself."""
        self._rows.close()
        if self.num_envs == 1:
            self._rows = self._make(1)
            yield buffers.finish(0, invalid=_reason(failure.cause))
            return
        running = buffers.running()
        everyone, self.num_envs = self.num_envs, 1
        self._rows = self._make(1)
        try:
            for position, seed in running:
                yield from self._run(deque([(position, seed)]))
        finally:
            self._rows.close()
            self.num_envs = everyone
            self._rows = self._make(everyone)


class _SimulatorFailed(Exception):
    """A simulator raised while it advanced a batch."""

    def __init__(self, cause: Exception) -> None:
        """Keep what it raised."""
        super().__init__(str(cause))
        self.cause = cause


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
