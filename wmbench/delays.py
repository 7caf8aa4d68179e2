"""Policies that answer late: a fixed delay, or a recorded latency trace replayed, in both simulators alike."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np

from wmbench.cards import TaskCard
from wmbench.checks import ActionCheck
from wmbench.errors import DatasetError, WmbenchError
from wmbench.files import write_json
from wmbench.keys import fold_in, randint
from wmbench.protocols import Policy, State
from wmbench.trees import gather, scatter

First = Literal["zero", "mid"]
OnMiss = Literal["hold", "zero", "chunk"]

FORMAT = 1
TRACE_PLACE = 0x74726163
"""Label of the random number that says where in a trace an episode begins."""

ROUNDING = 1e-9
"""Control steps: a latency that exceeds a whole number of them by less does not count as late."""


@runtime_checkable
class Chunked(Protocol):
    """A policy that knows what it would do in the next steps, too."""

    def chunk(self, state: State) -> np.ndarray:
        """The actions that follow the one just returned, (B, K, A) float32, from the state returned with it."""
        ...


class FixedDelay:
    """A policy whose action at step t was chosen from the observation, and with the random keys, of step t - d.

    A new decision is taken at every step and waits in a queue of length d. Until the first one arrives a default
    action is applied. With d = 0 it is the policy itself, bit for bit. Rows are independent, so episodes are the
    same for any number of environments. (The one-step case is that of Ramstedt and Pal 2019,
    https://arxiv.org/abs/1911.04448, without their augmented observation: the policy does not see its queue.)
    """

    def __init__(self, policy: Policy, task: TaskCard, delay: int, *, first: First = "zero") -> None:
        """Wrap a policy.

        Args:
            policy: Who decides.
            task: Gives the action box.
            delay: d, in control steps, 0 or more.
            first: What is applied until the first decision arrives: ``"zero"`` (or what is nearest to it in the box)
                or ``"mid"``, the middle of the box.

        Raises:
            WmbenchError: A delay that is no whole number of steps, or an unknown default.
        """
        if isinstance(delay, bool) or not isinstance(delay, (int, np.integer)) or delay < 0:
            raise WmbenchError(f"{task.id}: a delay is a whole number of control steps, 0 or more, got {delay!r}")
        self.policy = policy
        self.delay = int(delay)
        self._first = default_action(task, first)
        self._check = ActionCheck(task)

    def initial(self, batch_size: int) -> State:
        """State of ``batch_size`` fresh episodes: the policy's own, and the queue (B, d, A)."""
        inner = self.policy.initial(batch_size)
        return {"policy": inner, "queue": np.tile(self._first, (batch_size, self.delay, 1))}

    def act(self, observation: np.ndarray, state: State, *, keys: np.ndarray) -> tuple[np.ndarray, State]:
        """Decide now, and apply what was decided d steps ago.

        Args:
            observation: (B, O) float32.
            state: As returned by :meth:`initial` or by the previous call.
            keys: (B,) int64, fresh at every step.

        Raises:
            InvalidActionError: The policy decides on something that no simulator accepts.
        """
        action, inner = self.policy.act(observation, state["policy"], keys=keys)
        if self.delay == 0:
            return action, {"policy": inner, "queue": state["queue"]}
        decided = self._check.batch(action, len(keys))  # (B, A)
        queue = np.concatenate([state["queue"], decided[:, None]], axis=1)  # (B, d + 1, A)
        return queue[:, 0].copy(), {"policy": inner, "queue": queue[:, 1:]}


@dataclass(frozen=True)
class LatencyTrace:
    """Measured seconds from an observation to an action, one per decision, in the order in which they were measured.

    Attributes:
        seconds: (N,) float64, finite and not negative.
        hardware: Plain JSON: where and how it was measured.
    """

    seconds: np.ndarray
    hardware: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what is no trace."""
        seconds = np.array(self.seconds, dtype=np.float64)
        if seconds.ndim != 1 or not len(seconds) or not np.isfinite(seconds).all() or (seconds < 0).any():
            raise DatasetError("a latency trace is a list of at least one finite number of seconds, none negative")
        seconds.setflags(write=False)
        object.__setattr__(self, "seconds", seconds)

    def digest(self) -> str:
        """SHA-256 of the seconds: what a replay depends on."""
        return hashlib.sha256(self.seconds.tobytes()).hexdigest()

    def steps(self, control_hz: float) -> np.ndarray:
        """Delays in control steps, ceil(seconds * control_hz), (N,) int64."""
        return np.ceil(self.seconds * control_hz - ROUNDING).astype(np.int64).clip(min=0)

    def save(self, path: Path | str) -> Path:
        """Write as JSON, atomically."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        data = {"format": FORMAT, "seconds": self.seconds.tolist(), "digest": self.digest(), "hardware": self.hardware}
        write_json(path, data)
        return path

    @classmethod
    def load(cls, path: Path | str) -> LatencyTrace:
        """Read back; a bare JSON list of seconds will do, too.

        Raises:
            DatasetError: Absent, not JSON, no trace, of another format, or damaged.
        """
        try:
            data = json.loads(Path(path).read_text())
        except (OSError, ValueError) as error:
            raise DatasetError(f"{path} is no latency trace, a JSON file: {error}") from error
        data = {"format": FORMAT, "seconds": data} if isinstance(data, list) else data
        if not isinstance(data, dict) or data.get("format") != FORMAT or not isinstance(data.get("seconds"), list):
            raise DatasetError(
                f'{path} is no latency trace: a list of seconds, or {{"format": {FORMAT}, "seconds": ...}}'
            )
        try:
            trace = cls(np.array(data["seconds"], dtype=np.float64), data.get("hardware", {}))
        except (TypeError, ValueError) as error:
            raise DatasetError(f"{path}: {error}") from error
        if data.get("digest", trace.digest()) != trace.digest():
            raise DatasetError(f"{path} is damaged: its seconds do not match their digest; measure it again")
        return trace


class TraceDelay:
    """A policy whose every decision takes as long as a recorded trace says, while the world goes on.

    A decision that starts at step t, from the observation and keys of that step, arrives at step t + ceil(latency *
    control_hz), and only then does the next one start. A step at which nothing arrives is a miss. Each episode reads
    the trace from a place drawn from its own keys, and around: a stored trace gives the same episodes again, for any
    number of environments. A trace of zeros is the policy itself, bit for bit.
    """

    def __init__(
        self, policy: Policy, task: TaskCard, trace: LatencyTrace, *, on_miss: OnMiss = "hold", first: First = "zero"
    ) -> None:
        """Wrap a policy.

        Args:
            policy: Who decides.
            task: Gives the action box and the control rate.
            trace: How long decisions take.
            on_miss: ``"hold"`` the last action, apply ``"zero"`` (or what is nearest in the box), or continue the
                last ``"chunk"`` of actions that has arrived, each at the step that it was planned for (its last one is
                held). A chunk is what the policy's ``chunk`` method gives, see :class:`Chunked`.
            first: What is applied until the first decision arrives; see :class:`FixedDelay`.

        Raises:
            WmbenchError: An unknown rule, or a policy without chunks that is to continue one.
        """
        if on_miss not in ("hold", "zero", "chunk"):
            raise WmbenchError(f"on_miss must be 'hold', 'zero' or 'chunk', got {on_miss!r}")
        self.policy: Any = policy
        self.on_miss = on_miss
        self._delays = trace.steps(task.control_hz)  # (N,)
        self._zero = default_action(task, "zero")
        self._first = default_action(task, first)
        self._check = ActionCheck(task)
        self._length = 1  # of a plan: the action that was returned, then the chunk
        if on_miss == "chunk":
            if not isinstance(policy, Chunked):
                raise WmbenchError(
                    f"on_miss='chunk' needs a policy with chunk(state) -> (B, K, A); {type(policy).__name__} has none"
                )
            self._length += policy.chunk(policy.initial(1)).shape[1]

    def initial(self, batch_size: int) -> State:
        """State of ``batch_size`` fresh episodes.

        ``step`` and ``decisions`` count, ``place`` is where the trace is read, ``due`` the step at which the plan
        under way (``coming``, K + 1 actions from the step it was ``started`` at) arrives, -1 if none is; ``plan`` and
        ``decided`` are those of the one that arrived last, -1 if none has.
        """
        shape = (batch_size, self._length, len(self._zero))
        count = np.zeros(batch_size, dtype=np.int64)
        return {
            "policy": self.policy.initial(batch_size),
            "step": count,
            "decisions": count.copy(),
            "place": count.copy(),
            "due": count - 1,
            "started": count.copy(),
            "coming": np.zeros(shape, dtype=np.float32),
            "plan": np.broadcast_to(self._first, shape).copy(),
            "decided": count - 1,
        }

    def act(self, observation: np.ndarray, state: State, *, keys: np.ndarray) -> tuple[np.ndarray, State]:
        """Take what arrives, start a decision where none is under way, and apply the action that is there.

        Args:
            observation: (B, O) float32.
            state: As returned by :meth:`initial` or by the previous call.
            keys: (B,) int64, fresh at every step.

        Raises:
            InvalidActionError: The policy decides on something that no simulator accepts.
        """
        new = {name: value if name == "policy" else value.copy() for name, value in state.items()}
        step, n = state["step"], len(self._delays)
        begins = step == 0
        new["place"][begins] = randint(fold_in(keys[begins], TRACE_PLACE), n)
        fresh = self._arrive(new, new["due"] == step)
        idle = np.flatnonzero(new["due"] < 0)
        if len(idle):
            plans, new["policy"] = self._decide(observation, state["policy"], keys, idle)
            delay = self._delays[(new["place"][idle] + new["decisions"][idle]) % n]
            new["coming"][idle], new["started"][idle], new["due"][idle] = plans, step[idle], step[idle] + delay
            new["decisions"][idle] += 1
            fresh |= self._arrive(new, new["due"] == step)
        rows = np.arange(len(keys))
        action = new["plan"][rows, np.minimum(step - new["decided"], self._length - 1)]  # (B, A)
        if self.on_miss == "zero":
            missed = ~fresh & (new["decided"] >= 0)
            action = np.where(missed[:, None], self._zero, action)
        new["step"] = step + 1
        return action, new

    def _arrive(self, new: dict[str, Any], rows: np.ndarray) -> np.ndarray:
        """Decisions that are due become the plan in use; gives back (B,) bool, where."""
        new["plan"][rows], new["decided"][rows] = new["coming"][rows], new["started"][rows]
        new["due"][rows] = -1
        return rows

    def _decide(
        self, observation: np.ndarray, memory: State, keys: np.ndarray, idle: np.ndarray
    ) -> tuple[np.ndarray, State]:
        """Plans (n, K + 1, A) of the rows that decide now, and the policy's memory of all rows."""
        everyone = len(idle) == len(keys)
        own = memory if everyone else gather(memory, idle)
        action, own = self.policy.act(observation if everyone else gather(observation, idle), own, keys=keys[idle])
        checked = self._check.batch(action, len(idle))[:, None]  # (n, 1, A)
        if self.on_miss == "chunk":
            rest = self.policy.chunk(own)  # (n, K, A)
            n, k, width = rest.shape
            bounded = self._check.batch(rest.reshape(n * k, width), n * k) if k else rest
            checked = np.concatenate([checked, bounded.reshape(n, k, width)], axis=1)
        return checked, own if everyone else scatter(memory, idle, own)


def default_action(task: TaskCard, first: First) -> np.ndarray:
    """What is applied while no decision has arrived, (A,) float32.

    Args:
        task: Gives the action box.
        first: ``"zero"``, or what is nearest to it in the box; or ``"mid"``, the middle of the box.

    Raises:
        WmbenchError: Unknown.
    """
    low, high = task.action_bounds()
    if first == "zero":
        return np.clip(np.zeros_like(low), low, high)
    if first == "mid":
        return (low + high) / 2
    raise WmbenchError(f"first must be 'zero' or 'mid', got {first!r}")


def delayed(
    policy: Policy,
    task: TaskCard,
    *,
    delay: int = 0,
    trace: LatencyTrace | None = None,
    on_miss: OnMiss = "hold",
    first: First = "zero",
) -> tuple[Policy, dict[str, Any]]:
    """A policy that answers late, and what to store about it.

    Args:
        policy: Who decides.
        task: The task.
        delay: Control steps of a fixed delay; 0 without one.
        trace: Replayed instead of a fixed delay.
        on_miss: See :class:`TraceDelay`.
        first: See :class:`FixedDelay`.

    Returns:
        The policy (the very one that was given, if nothing delays it) and the settings as plain JSON, empty then.

    Raises:
        WmbenchError: Both a delay and a trace, or settings that do not exist.
    """
    if trace is not None and delay:
        raise WmbenchError("give a fixed delay or a latency trace, not both")
    if trace is not None:
        kept = {"trace": trace.digest(), "decisions": len(trace.seconds), "on_miss": on_miss, "first": first}
        kept |= {"seconds": trace.seconds.tolist(), "hardware": trace.hardware}
        return TraceDelay(policy, task, trace, on_miss=on_miss, first=first), kept
    wrapped = FixedDelay(policy, task, delay, first=first)
    return (wrapped, {"delay": delay, "first": first}) if delay else (policy, {})
