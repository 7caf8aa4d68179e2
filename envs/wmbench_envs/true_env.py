"""The shell around a true simulator: checks, seeds, lifecycle, time limit, success and exact states."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from math import isfinite
from typing import Any, NoReturn

import gymnasium as gym
import numpy as np

from wmbench.cards import SuccessRule, TaskCard
from wmbench.checks import ActionCheck, misuse
from wmbench.errors import RenderError, SimulationError, StateError
from wmbench.views import View
from wmbench.worlds import World
from wmbench_envs.frames import Frames
from wmbench_envs.spaces import check_seed, draw_seed, metadata, spaces
from wmbench_envs.true_backend import Backend, backend_class
from wmbench_envs.true_branch import HEADER, Outcome, branch_together


class TrueEnv(gym.Env[Any, np.ndarray]):
    """The true simulator of a task as a Gymnasium environment that obeys the task's card.

    Attributes:
        card: The task's card.
        view: What observations consist of, with camera and preset named.
    """

    def __init__(
        self,
        card: TaskCard,
        *,
        view: View | None = None,
        render_mode: str | None = None,
        height: int = 240,
        width: int = 320,
        world: World | None = None,
    ) -> None:
        """Build the backend that the card names.

        Args:
            card: The task.
            view: What observations consist of, None for the state vector.
            render_mode: None or ``"rgb_array"``.
            height: Pixels of a frame.
            width: Pixels of a frame.
            world: Other worlds than the nominal one, see :mod:`wmbench.worlds`.

        Raises:
            RenderError: An unknown render mode or an impossible size, or pictures of a simulator that draws none.
            ViewError: The task has no such camera or preset.
        """
        self.metadata = metadata(card)
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise RenderError(f"{card.id}: render_mode must be None or 'rgb_array', got {render_mode!r}")
        if not (isinstance(height, int) and isinstance(width, int) and height > 0 and width > 0):
            raise RenderError(f"{card.id}: height and width must be positive integers, got {height!r} and {width!r}")
        self.card = card
        self.render_mode = render_mode
        self.view = (view or View()).of(card)
        self.observation_space, self.action_space = spaces(card, self.view)
        self._size = (height, width)
        once = card.repeated(1)
        self._backend: Backend = backend_class(card)(once)
        self._sense: Callable[[np.ndarray], np.ndarray] | None = None  # what noisy sensors make of an observation
        if world is not None:
            from wmbench_envs.world_backend import WorldBackend

            other = WorldBackend(once, self._backend, world)
            self._backend, self._sense = other, other.sense
        self._frames: Frames | None = None
        if self.view.images:
            if not hasattr(self._backend, "images"):
                raise RenderError(f"{card.id}: its simulator draws no pictures; observation='state' is all there is")
            if hasattr(self._backend, "look"):
                self._backend.look(self.view)
            self._frames = Frames(self.view, self._backend.images)
        self._advance = self._backend.step if card.action_repeat == 1 else self._repeat
        self._bounds = ActionCheck(card)
        self._check = self._bounds.one
        self._rule = card.success
        self._kind = card.success.kind
        self._threshold = card.success.threshold
        self._horizon = card.horizon
        self._last_repeat = once.horizon - (card.horizon - 1) * card.action_repeat
        repeat = f" x {card.action_repeat}" if card.action_repeat > 1 else ""
        self._tag = float(zlib.crc32((card.id + repeat).encode()))
        self._ready = False  # between reset and the end of the episode
        self._begun = False
        self._closed = False
        self._steps = 0
        self._return = 0.0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict]:
        """Begin an episode.

        Args:
            seed: Seed of this episode and of the stream that later resets without a seed draw from.
            options: None or empty: these tasks have no options.

        Returns:
            Observation (O,) float32, or what the view asks for, and info with ``episode_seed``, ``success`` and
            ``is_success``; in another world than the nominal one also ``world``, name to value.

        Raises:
            LifecycleError: The environment is closed.
            RenderError: The view has pictures, and they cannot be drawn here; says what to install.
            ValueError: A bad seed, or options.
        """
        if self._closed:
            self._misuse("reset")
        if options:
            raise ValueError(f"{self.card.id}: reset takes no options, got {sorted(options)}")
        if seed is not None:
            seed = check_seed(self.card.id, seed)
        super().reset(seed=seed)
        episode_seed = draw_seed(self.np_random) if seed is None else seed
        observation, info = self._backend.reset(episode_seed)
        self._steps = 0
        self._return = 0.0
        self._ready = self._begun = True
        info["episode_seed"] = episode_seed
        info["success"] = info["is_success"] = False
        if self._sense is not None:
            observation = self._sense(observation)
        return observation if self._frames is None else self._frames.begin(observation), info

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Apply one action for one control step, or for as many as the card's ``action_repeat`` says.

        Args:
            action: (A,) float array; what happens outside the bounds is the card's ``action_rule``.

        Returns:
            Observation (O,) float32 or what the view asks for, reward, terminated, truncated, and info with
            ``success``.

        Raises:
            LifecycleError: Before reset, after the episode's end, or after close.
            InvalidActionError: The action is not acceptable; nothing has moved.
            SimulationError: The simulation has become unstable, as it may in another world: no number that is not
                finite gets out, and the episode is over.
        """
        if not self._ready:
            self._misuse("step")
        try:
            observation, reward, terminated, truncated, info = self._advance(self._check(action))
            if not (isfinite(reward) and np.isfinite(observation).all()):
                raise SimulationError(f"{self.card.id}: reward or observation are not finite")
        except SimulationError as error:
            self._ready = False
            raise SimulationError(f"{error}, at step {self._steps + 1} of the episode; reset to go on") from error
        self._steps += 1
        self._return += reward
        if self._steps >= self._horizon:
            truncated = True
        if terminated or truncated:
            self._ready = False
        kind = self._kind
        if kind == "return":
            success = not self._ready and self._return >= self._threshold
        elif kind == "reward":
            success = reward >= self._threshold
        elif kind == "distance":
            success = _near(self._rule, observation)
        else:
            success = bool(info["success"])
        info["success"] = info["is_success"] = success
        if self._sense is not None:
            observation = self._sense(observation)
        if self._frames is not None:
            observation = self._frames.after(observation)
        return observation, reward, terminated, truncated, info

    def _repeat(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """One action for as many control steps as the card says, or until the episode ends; rewards are summed."""
        total = 0.0
        count = self._last_repeat if self._steps == self._horizon - 1 else self.card.action_repeat
        for _ in range(count):
            observation, reward, terminated, truncated, info = self._backend.step(action)
            total += reward
            if terminated or truncated:
                break
        return observation, total, terminated, truncated, info

    def get_state(self) -> np.ndarray:
        """Everything the rest of the episode depends on, the random stream of later resets apart.

        Returns:
            (S,) float64: task tag, steps taken, return so far, ended (0 or 1), then the backend's own numbers.

        Raises:
            LifecycleError: Before the first reset, or after close.
        """
        if self._closed or not self._begun:
            self._misuse("get_state")
        head = (self._tag, self._steps, self._return, not self._ready)
        return np.concatenate((head, self._backend.get_state()), dtype=np.float64)

    def set_state(self, state: np.ndarray) -> Any:
        """Continue from a saved state: from here on everything equals the original rollout bit for bit.

        Stacked pictures are the one exception: a state does not hold the past, so the stack begins anew, as after a
        reset.

        Args:
            state: As :meth:`get_state` of the same task gave it, in this or another environment object.

        Returns:
            The observation there, (O,) float32 or what the view asks for.

        Raises:
            LifecycleError: After close.
            StateError: Wrong size, not finite, or of another task.
        """
        if self._closed:
            self._misuse("set_state")
        given = self._own_state(state)
        observation = self._backend.set_state(given[HEADER:])
        self._steps = int(given[1])
        self._return = float(given[2])
        self._ready = not given[3]
        self._begun = True
        if self._sense is not None:
            observation = self._sense(observation)
        return observation if self._frames is None else self._frames.begin(observation)

    def branch(self, states: np.ndarray, action: np.ndarray, steps: np.ndarray) -> Outcome | None:
        """Follow many branches at once: the same bits as :meth:`set_state` and :meth:`step` for each in turn.

        The episode that this environment is in the middle of goes on afterwards as if nothing had happened.

        Args:
            states: (R, S), each as :meth:`get_state` of this task gave it.
            action: (R, K, A) float array.
            steps: (R,) int, how far each branch is to go if its episode lasts.

        Returns:
            Observation (R, K, O) float32, reward (R, K) float64, terminated, success and valid (R, K) bool, the last
            up to and with the episode's end, everything zero elsewhere. None where the backend has no such way, or
            something about these branches has to be looked at one by one (an action that is not finite, an episode
            that has ended, a simulation that breaks down): then step, which says what is wrong.

        Raises:
            LifecycleError: After close.
            StateError: As :meth:`set_state`.
        """
        if self._closed:
            self._misuse("branch")
        given = [self._own_state(state) for state in states]
        before = self._backend.get_state() if self._begun else None
        found = branch_together(self.card, self._backend, self._bounds, given, action, steps)
        if before is not None:
            self._backend.set_state(before)
        return found

    def _own_state(self, state: np.ndarray) -> np.ndarray:
        """Refuse a state that :meth:`get_state` cannot have given; (S,) float64."""
        given = np.asarray(state)
        if given.dtype.kind != "f" or given.shape != (HEADER + self._backend.state_size(),):
            raise StateError(
                f"{self.card.id}: a state is {HEADER + self._backend.state_size()} floats, "
                f"got shape {given.shape}, dtype {given.dtype}"
                + (
                    "; states of the nominal world and of others differ in size"
                    if self._of_another_world(given)
                    else ""
                )
            )
        if given[0] != self._tag:
            raise StateError(f"{self.card.id}: this state was saved by another task, version or action repeat")
        if not np.isfinite(given).all():
            raise StateError(f"{self.card.id}: number {int(np.argmin(np.isfinite(given)))} of the state is not finite")
        return given.astype(np.float64)

    def _of_another_world(self, state: np.ndarray) -> bool:
        """Whether a state of the wrong size may come from an environment made with ``world=``, or this one was."""
        return state.ndim == 1 and (self._sense is not None or state.size > HEADER + self._backend.state_size())

    def moving(self) -> slice:
        """Where positions and velocities lie in :meth:`get_state`: what a small disturbance moves."""
        inner = self._backend.moving()
        return slice(HEADER + inner.start, HEADER + inner.stop)

    def contacts(self) -> frozenset[str] | None:
        """Which bodies touch in the current state.

        Returns:
            Names of pairs, for example ``"foot-world"``, a function of :meth:`get_state` alone; None if the backend
            does not say.

        Raises:
            LifecycleError: Before the first reset, or after close.
        """
        if self._closed or not self._begun:
            self._misuse("contacts")
        return self._backend.contacts() if hasattr(self._backend, "contacts") else None

    def violations(self, observations: np.ndarray) -> dict[str, np.ndarray]:
        """How far observations, for example a world model's, break the laws of the task's bodies.

        Args:
            observations: (N, O) floats; what is not finite breaks every law.

        Returns:
            Name of a law to (N,) float64, see :meth:`wmbench_envs.mujoco_contacts.Physics.violations`. Only the laws
            that the card's pose allows to check; none if the backend knows none.

        Raises:
            LifecycleError: After close.
            StateError: Not observations of this task.
        """
        if self._closed:
            self._misuse("violations")
        given = np.asarray(observations)
        if given.dtype.kind != "f" or given.ndim != 2 or given.shape[1] != len(self.card.observation):
            raise StateError(
                f"{self.card.id}: expected rows of {len(self.card.observation)} floats, "
                f"got shape {given.shape}, dtype {given.dtype}"
            )
        return self._backend.violations(given) if hasattr(self._backend, "violations") else {}

    def segments(self) -> dict[int, str]:
        """What the numbers in a segmentation image stand for.

        Returns:
            Number to the name of a body, the same in all episodes of a task; 0, where there is none, is not among
            them. Empty if the backend does not say.

        Raises:
            LifecycleError: After close.
        """
        if self._closed:
            self._misuse("segments")
        return dict(self._backend.segments()) if hasattr(self._backend, "segments") else {}

    def render(self) -> np.ndarray | None:
        """The current scene.

        Returns:
            (H, W, 3) uint8, or None if no render mode was chosen.

        Raises:
            LifecycleError: Before the first reset, or after close.
            RenderError: No graphics backend works here; says what to install.
        """
        if self._closed or not self._begun:
            self._misuse("render")
        if self.render_mode is None:
            gym.logger.warn(f"{self.card.id}: render() without a render mode; make it with render_mode='rgb_array'")
            return None
        return self._backend.render(*self._size)

    def images_of(self, observation: np.ndarray) -> dict[str, np.ndarray]:
        """The view's pictures of the scene that an observation describes; the simulation itself is left alone.

        Args:
            observation: (O,) floats, for example a world model's prediction.

        Returns:
            Name to (H, W, C), unstacked.

        Raises:
            LifecycleError: After close.
            RenderError: As :meth:`render_pose`.
        """
        return dict(self._backend.images_of(self._drawable(observation, "images_of"), self.view))

    def render_pose(self, observation: np.ndarray) -> np.ndarray:
        """Draw the scene that an observation describes; the simulation itself is left alone.

        Args:
            observation: (O,) floats, for example a world model's prediction.

        Returns:
            (H, W, 3) uint8.

        Raises:
            LifecycleError: After close.
            RenderError: The card does not say how to pose the task, the observation is not one, or no
                graphics backend works here.
        """
        return self._backend.render_pose(self._drawable(observation, "render_pose"), *self._size)

    def _drawable(self, observation: np.ndarray, call: str) -> np.ndarray:
        """An observation (O,) float64 that can be drawn, or a sentence on why it cannot."""
        if self._closed:
            self._misuse(call)
        if not self.card.pose:
            raise RenderError(f"{self.card.id}: the card has no pose, so an observation of this task cannot be drawn")
        given = np.asarray(observation)
        size = len(self.card.observation)
        if given.dtype.kind != "f" or given.shape != (size,):
            raise RenderError(f"{self.card.id}: {size} floats can be drawn, got shape {given.shape}, {given.dtype}")
        if not np.isfinite(given).all():
            raise RenderError(f"{self.card.id}: an observation with NaN or infinite numbers cannot be drawn")
        return given.astype(np.float64)

    def close(self) -> None:
        """Free the simulator; closing twice is fine."""
        if not self._closed:
            self._closed = True
            self._ready = False
            self._backend.close()

    def _misuse(self, call: str) -> NoReturn:
        raise misuse(self.card.id, call, closed=self._closed, begun=self._begun)


def _near(rule: SuccessRule, observation: np.ndarray) -> bool:
    """The distance rule for one row, with the float32 arithmetic of :class:`SuccessRule`."""
    total = np.float32(0)
    for i, index in enumerate(rule.dims):
        gap = observation[index] - observation[rule.minus[i]] if rule.minus else observation[index]
        total += gap * gap
    return bool(total <= rule.threshold**2)
