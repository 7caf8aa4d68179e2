"""Named ways to make a policy worse, or to push it off course: policies around another policy.

Each is registered under its name, so it can be given wherever a policy is, with settings as JSON::

    wmbench evaluate DMC-ReacherEasy --policy early-stop --policy-config '{"policy": "expert", "step": 20}'

Two more ways exist elsewhere: action noise (``wmbench collect --noise``, :class:`wmbench.collecting.NoisyPolicy`) and
a delay (``wmbench evaluate --delay``, :class:`wmbench.delays.FixedDelay`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from wmbench.cards import TaskCard
from wmbench.checks import ActionCheck
from wmbench.delays import default_action
from wmbench.keys import fold_in, keys_from_seeds, uniform
from wmbench.protocols import Policy, State
from wmbench_baselines.experts.expert import mistaken

PUSH_BEGINS = 0x70757368
"""Label of the random number that says whether a push begins at a step."""
PUSH_ACTION = 0x70616374
"""Label of the random numbers that say where a push goes."""
STOP = 0x73746F70
"""Label of the random number that says when to stop."""


def inner(reference: str, task: TaskCard, policy: Policy | None) -> Policy:
    """The policy to wrap: the given one, or what the reference names."""
    from wmbench.checkpoints import resolve

    return policy if policy is not None else resolve(reference, task, kind="policy")


def named(way: str, policy: Policy | None) -> str:
    """What a wrapped policy is called; one that was given as an object is named before the way."""
    if policy is None:
        return way
    card = getattr(policy, "card", None)
    return f"{card['name'] if isinstance(card, dict) else type(policy).__name__}+{way}"


@dataclass(frozen=True)
class EarlyStopConfig:
    """Settings of :class:`EarlyStop`.

    Attributes:
        policy: Registered name or checkpoint folder of who acts.
        step: Number of steps that it acts; None for half of the task's horizon.
        random: Whether the number is drawn for each episode, from 1 to that, log-uniformly: tasks differ by orders of
            magnitude in how soon stopping does not matter any more.
    """

    policy: str = "expert"
    step: int | None = None
    random: bool = False

    def __post_init__(self) -> None:
        """Refuse a negative number."""
        if self.step is not None and self.step < 0:
            raise ValueError(f"step must not be negative, got {self.step}")


class EarlyStop:
    """Another policy for so many steps, then no action (or what is nearest to zero in the box) to the end."""

    Config = EarlyStopConfig

    def __init__(self, config: EarlyStopConfig, task: TaskCard, policy: Policy | None = None) -> None:
        """Wrap a policy.

        Args:
            config: Settings.
            task: The task.
            policy: Who acts, instead of ``config.policy``.

        Raises:
            CheckpointError: There is no such policy for the task.
        """
        self.config = config
        self.task = task
        self.policy = inner(config.policy, task, policy)
        self.step = task.horizon // 2 if config.step is None else config.step
        self._nothing = default_action(task, "zero")
        self.card: dict[str, Any] = {
            "name": named("early-stop", policy),
            "inputs": "what the policy inside reads, and the number of the step",
            "consumer": "failures whose cause is known",
            "risk": "on tasks that need no action at the end it may still succeed",
        }

    @classmethod
    def for_task(cls, task: TaskCard, *, device: str = "cpu") -> EarlyStop:
        """The expert, stopped after half the horizon."""
        return cls(EarlyStopConfig(), task)

    def initial(self, batch_size: int) -> State:
        """The inner policy's state, the number of steps taken, and after how many to stop (B,) int64."""
        count = np.zeros(batch_size, dtype=np.int64)
        return {"policy": self.policy.initial(batch_size), "step": count, "stop": count + self.step}

    def act(self, observation: np.ndarray, state: State, *, keys: np.ndarray) -> tuple[np.ndarray, State]:
        """The inner policy's actions (B, A) while its time lasts, and the next state."""
        action, memory = self.policy.act(observation, state["policy"], keys=keys)
        stop = state["stop"]
        if self.config.random and self.step:
            drawn = (self.step + 1.0) ** uniform(fold_in(keys, STOP), 1)[:, 0].astype(
                np.float64
            )  # (B,) in [1, step + 1)
            stop = np.where(state["step"] == 0, drawn.astype(np.int64), stop)
        going = state["step"] < stop  # (B,)
        new = {"policy": memory, "step": state["step"] + 1, "stop": stop}
        return np.where(going[:, None], action, self._nothing), new


@dataclass(frozen=True)
class WrongTargetConfig:
    """Settings of :class:`WrongTarget`: none."""


class WrongTarget:
    """The expert, as competent as ever, with the wrong target.

    Reachers go for the target's mirror image in the shoulder: as far out, half a turn away. Hands that move things
    put them beside the goal, or take one thing for another: see ``mistake`` of each script.
    """

    Config = WrongTargetConfig

    def __init__(self, config: WrongTargetConfig, task: TaskCard) -> None:
        """Prepare the controller.

        Raises:
            CheckpointError: The task's expert has no target to mistake.
        """
        self.config = config
        self.task = task
        self.policy = mistaken(task)
        self.card: dict[str, Any] = {
            "name": "wrong-target",
            "inputs": "the flat state observation",
            "consumer": "failures whose cause is known: competent motion to the wrong place",
            "risk": "a reacher's target near the shoulder is near its mirror image, too",
        }

    @classmethod
    def for_task(cls, task: TaskCard, *, device: str = "cpu") -> WrongTarget:
        """The policy; see the constructor for tasks that have none."""
        return cls(WrongTargetConfig(), task)

    def initial(self, batch_size: int) -> State:
        """The controller's state."""
        return self.policy.initial(batch_size)

    def act(self, observation: np.ndarray, state: State, *, keys: np.ndarray) -> tuple[np.ndarray, State]:
        """The controller's actions (B, A) and next state."""
        return self.policy.act(observation, state, keys=keys)


@dataclass(frozen=True)
class PushedConfig:
    """Settings of :class:`Pushed`.

    Attributes:
        policy: Registered name or checkpoint folder of who acts otherwise.
        pushes: How many pushes are expected to begin in an episode of full length.
        length: Steps that a push lasts.
        seconds: The same in simulated time, in place of ``length``.
        quiet: Share of the horizon at whose end no push begins, so that there is time to recover.
    """

    policy: str = "expert"
    pushes: float = 4.0
    length: int = 20
    seconds: float | None = None
    quiet: float = 0.3

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        if not 0 <= self.pushes < float("inf") or self.length < 1 or not 0 <= self.quiet < 1:
            raise ValueError(
                "pushes must not be negative, length at least 1 and quiet in [0, 1), "
                f"got {self.pushes}, {self.length} and {self.quiet}"
            )
        if self.seconds is not None and not 0 < self.seconds < float("inf"):
            raise ValueError(f"the seconds of a push must be positive, got {self.seconds}")


class Pushed:
    """Another policy that is pushed off course now and then, and takes over again.

    At every step before the quiet end a push begins with the same probability: one action, uniform in the box, is
    held for ``length`` steps (or until another push begins). When pushes happen depends on the episode's seed and
    these settings alone, not on what the policy does, so :meth:`interventions` can say it for stored episodes.
    """

    Config = PushedConfig

    def __init__(self, config: PushedConfig, task: TaskCard, policy: Policy | None = None) -> None:
        """Wrap a policy.

        Args:
            config: Settings.
            task: The task.
            policy: Who acts, instead of ``config.policy``.

        Raises:
            CheckpointError: There is no such policy for the task.
        """
        self.config = config
        self.task = task
        self.policy = inner(config.policy, task, policy)
        self.low, self.high = task.action_bounds()
        self.last = task.horizon - round(config.quiet * task.horizon)
        self.chance = min(1.0, config.pushes / max(1, self.last))
        self.length = config.length if config.seconds is None else max(1, round(config.seconds * task.control_hz))
        self._check = ActionCheck(task)
        self.card: dict[str, Any] = {
            "name": named("pushed", policy),
            "inputs": "what the policy inside reads",
            "consumer": "recoveries, with the interventions known step by step",
            "risk": "a push from which nobody recovers; its episode is a failure",
        }

    @classmethod
    def for_task(cls, task: TaskCard, *, device: str = "cpu") -> Pushed:
        """The expert, pushed about four times an episode."""
        return cls(PushedConfig(), task)

    def initial(self, batch_size: int) -> State:
        """The inner policy's state, the step, how many pushed steps are left (B,), and the push (B, A)."""
        count = np.zeros(batch_size, dtype=np.int64)
        return {
            "policy": self.policy.initial(batch_size),
            "step": count,
            "left": count.copy(),
            "push": np.zeros((batch_size, len(self.low)), dtype=np.float32),
        }

    def act(self, observation: np.ndarray, state: State, *, keys: np.ndarray) -> tuple[np.ndarray, State]:
        """The inner policy's actions (B, A), or the push's while one lasts, and the next state.

        Raises:
            InvalidActionError: The inner policy decides on something that no simulator accepts.
        """
        action, memory = self.policy.act(observation, state["policy"], keys=keys)
        action = self._check.batch(action, len(keys))
        begins = self._begins(keys, state["step"])  # (B,)
        fresh = self.low + (self.high - self.low) * uniform(fold_in(keys, PUSH_ACTION), len(self.low))  # (B, A)
        fresh = np.clip(fresh, self.low, self.high).astype(np.float32)
        push = np.where(begins[:, None], fresh, state["push"])
        left = np.where(begins, self.length, state["left"])
        action = np.where((left > 0)[:, None], push, action)
        new = {"policy": memory, "step": state["step"] + 1, "left": np.maximum(left - 1, 0), "push": push}
        return action, new

    def interventions(self, seeds: Sequence[int] | np.ndarray, steps: int) -> np.ndarray:
        """Who acted, recomputed from the seeds of episodes.

        Args:
            seeds: Of B episodes that this policy acted in, as ``EpisodeData.seed`` stores them.
            steps: T, how many steps.

        Returns:
            (B, T) bool, True where a push acted instead of the policy.
        """
        times = np.arange(steps, dtype=np.int64)
        keys = fold_in(keys_from_seeds(seeds)[:, None], times)  # (B, T), as rollouts give them
        begins = self._begins(keys.ravel(), np.tile(times, len(keys))).reshape(keys.shape)
        latest = np.maximum.accumulate(np.where(begins, times, -self.length), axis=1)
        return times - latest < self.length

    def _begins(self, keys: np.ndarray, step: np.ndarray) -> np.ndarray:
        """Whether a push begins, (n,) bool, from this step's keys (n,) and its number (n,)."""
        return (uniform(fold_in(keys, PUSH_BEGINS), 1)[:, 0] < self.chance) & (step < self.last)
