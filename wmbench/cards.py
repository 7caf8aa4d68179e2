"""Task and model cards: frozen, validated, JSON-able facts that both simulators of a task obey."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from wmbench.card_parts import Cause, Dimension, JointReading, SuccessRule
from wmbench.errors import CardError
from wmbench.model_card import ModelCard

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Cause", "Dimension", "JointReading", "ModelCard", "SuccessRule", "TaskCard"]

DESCRIPTION = frozenset(
    {
        *("tags", "license", "citation", "pose", "causes", "requires"),
        *("drawn_by", "cameras", "presets", "perturbations", "typical_std"),
    }
)
"""Fields of a task card that change nothing about what is simulated, recorded or scored."""

UNREPEATED = frozenset({"control_hz", "horizon", "threshold", "reward_low", "reward_high"})
"""What a card of an action repeat keeps of the task's own."""

ID_PATTERN = re.compile(r"^wmbench/(Gym|DMC|MS|[A-Z]\w*)-[A-Z][A-Za-z0-9]*-v\d+$")


@dataclass(frozen=True)
class TaskCard:
    """Everything about a task that its two simulators must share.

    Attributes:
        id: Gymnasium id, ``wmbench/<Suite>-<Task>-v<version>``.
        suite: ``"gym-mujoco"``, ``"dm-control"``, ``"maniskill"`` or a third party's name.
        backend_id: The name of the task in its own suite, for example ``"cartpole/swingup"``.
        simulator: ``"module:Class"`` of the true backend, imported only when it is made.
        observation: One entry per dimension of the flat float32 state, in order.
        action: One entry per dimension of the action, in order, with bounds.
        control_hz: Control steps per second of simulated time.
        horizon: Steps after which an episode is truncated.
        terminates: Whether the task itself can end an episode before the horizon.
        success: The success rule.
        action_convention: What an action means, for example ``"normalised joint torque"``.
        action_rule: What happens to finite actions outside the bounds, in both simulators.
        action_repeat: Control steps for which every action is applied. The card of a repeat, see :meth:`repeated`,
            counts steps of the agent: ``control_hz`` is how many it takes per second, and ``horizon`` how many
            an episode has.
        unrepeated: What :meth:`repeated` changed, as it was; empty for a repeat of 1.
        kwargs: Keyword arguments for the backend.
        robot: Name of the embodiment.
        physics: The engine and device that define the true task.
        reward_range: Lowest and highest possible reward of one step, None where unbounded.
        pose: How a true simulator is posed from an observation for rendering: joint name to
            an index into the observation, to a (sine, cosine) pair of indices, to a
            :class:`JointReading`, or for a free joint to five indices (z, then the quaternion).
            Joints that are not listed stay at their reset value. Empty: predicted states cannot be drawn.
        causes: Why episodes of this task may fail, beside what can be said of any task: name to :class:`Cause`.
        requires: Import names of packages that the simulator needs and the core does not install.
        drawn_by: What its images are drawn with, ``"opengl"`` or ``"vulkan"``; ``""``: it has none.
        cameras: Names of the cameras that pictures can be taken from; the first is the task's own.
        presets: Ways of drawing them; the first is the task's own. ``"fast"``: without shadows, reflections and
            multisampling. ``"full"``: as the simulator draws by itself.
        perturbations: What can be varied of the simulator itself, by the names of :mod:`wmbench.worlds`.
        typical_std: Typical standard deviation of each dimension of the observation, the unit of observation noise;
            empty if unknown.
        tags: Free words for filters.
        license: SPDX expression of the task's definition and assets.
        citation: Where the task was introduced.
        version: Changes whenever reward, observation, horizon or success rule do.
    """

    id: str
    suite: str
    backend_id: str
    simulator: str
    observation: tuple[Dimension, ...]
    action: tuple[Dimension, ...]
    control_hz: float
    horizon: int
    terminates: bool
    success: SuccessRule
    action_convention: str
    action_rule: Literal["clip", "refuse"] = "clip"
    action_repeat: int = 1
    unrepeated: Mapping[str, Any] = field(default_factory=dict)
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    robot: str = ""
    physics: str = "mujoco-cpu"
    reward_range: tuple[float | None, float | None] = (None, None)
    pose: Mapping[str, int | tuple[int, ...] | JointReading] = field(default_factory=dict)
    causes: Mapping[str, Cause] = field(default_factory=dict)
    requires: tuple[str, ...] = ()
    drawn_by: Literal["", "opengl", "vulkan"] = ""
    cameras: tuple[str, ...] = ()
    presets: tuple[str, ...] = ()
    perturbations: tuple[str, ...] = ()
    typical_std: tuple[float, ...] = ()
    tags: tuple[str, ...] = ()
    license: str = ""
    citation: str = ""
    version: int = 0

    def __post_init__(self) -> None:
        """Refuse a card that contradicts itself."""
        if not ID_PATTERN.match(self.id):
            raise CardError(f"{self.id!r} is no task id: expected wmbench/<Suite>-<Task>-v<N>")
        if not self.id.endswith(f"-v{self.version}"):
            raise CardError(f"{self.id}: id and version {self.version} differ")
        if self.horizon < 1 or not self.control_hz > 0:
            raise CardError(f"{self.id}: horizon and control_hz must be positive")
        for what, dims in (("observation", self.observation), ("action", self.action)):
            names = [d.name for d in dims]
            if not names or len(set(names)) != len(names):
                raise CardError(f"{self.id}: {what} dimensions must be named, each name once")
        for d in self.action:
            if d.low is None or d.high is None or not -math.inf < d.low < d.high < math.inf:
                raise CardError(f"{self.id}: action {d.name!r} needs finite bounds, low < high")
        if self.action_repeat < 1 or set(self.unrepeated) != (set() if self.action_repeat == 1 else UNREPEATED):
            raise CardError(f"{self.id}: a card of an action repeat is made by repeated(), got {self.action_repeat}")
        used = (*self.success.dims, *self.success.minus)
        if used and max(used) >= len(self.observation):
            raise CardError(f"{self.id}: the success rule reads observation {max(used)} of {len(self.observation)}")
        if self.typical_std and (len(self.typical_std) != len(self.observation) or min(self.typical_std) < 0):
            raise CardError(f"{self.id}: typical_std must give each observation dimension a number, none negative")
        for name, cause in self.causes.items():
            if (most := max(*cause.dims, *cause.minus, 0)) >= len(self.observation):
                raise CardError(f"{self.id}: the cause {name!r} reads observation {most} of {len(self.observation)}")

    @property
    def name(self) -> str:
        """The id without namespace and version, for file names: ``"Gym-HalfCheetah"``."""
        return self.id.removeprefix("wmbench/").rsplit("-v", 1)[0]

    @property
    def dt(self) -> float:
        """Seconds of simulated time per control step."""
        return 1.0 / self.control_hz

    def repeated(self, count: int) -> TaskCard:
        """The card of the same task at an action repeat, whatever this one's is; at 1 the task's own.

        Every action is applied for ``count`` control steps, or until the episode ends; the reward is their sum. A
        success threshold on the reward grows with it. Rules that read an observation see the last control step's.

        Args:
            count: Control steps per action.

        Raises:
            CardError: Not a positive integer.
        """
        if type(count) is not int or count < 1:
            raise CardError(f"{self.id}: action_repeat must be a positive integer, got {count!r}")
        base = self
        if self.action_repeat > 1:
            was = dict(self.unrepeated)
            rule = dataclasses.replace(self.success, threshold=was.pop("threshold"))
            limits = was.pop("reward_low"), was.pop("reward_high")
            base = dataclasses.replace(self, action_repeat=1, unrepeated={}, success=rule, reward_range=limits, **was)
        if count == 1:
            return base
        low, high = base.reward_range
        rule = base.success
        times = count if rule.kind == "reward" else 1
        return dataclasses.replace(
            base,
            action_repeat=count,
            control_hz=base.control_hz / count,
            horizon=math.ceil(base.horizon / count),
            success=dataclasses.replace(rule, threshold=rule.threshold * times),
            # An episode may end during the repeat, so the sum has one term at least.
            reward_range=(
                None if low is None else min(low, low * count),
                None if high is None else max(high, high * count),
            ),
            unrepeated={
                "control_hz": base.control_hz,
                "horizon": base.horizon,
                "threshold": rule.threshold,
                "reward_low": low,
                "reward_high": high,
            },
        )

    def options(self) -> dict[str, Any]:
        """Keyword arguments with which ``gym.make(card.id, ...)`` gives an environment of this card."""
        return {} if self.action_repeat == 1 else {"action_repeat": self.action_repeat}

    def action_bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper bounds of the action, each (A,) float32."""
        import numpy as np

        return (
            np.array([d.low for d in self.action], dtype=np.float32),
            np.array([d.high for d in self.action], dtype=np.float32),
        )

    def shows(self, cause: str, observation: np.ndarray) -> bool:
        """Whether a cause of failure can be seen in an episode.

        Args:
            cause: Name of one of :attr:`causes`.
            observation: (T, O), after each step; angles are wrapped to [-pi, pi).
        """
        import numpy as np

        rule = self.causes[cause]
        read = np.asarray(observation, dtype=np.float64)
        value = read[:, list(rule.dims)]  # (T, n)
        if rule.minus:
            value = value - read[:, list(rule.minus)]
        turns = [self.observation[d].kind == "angle" for d in rule.dims]
        value = np.where(turns, (value + np.pi) % (2 * np.pi) - np.pi, value)
        one = value[:, 0] if len(rule.dims) == 1 else np.linalg.norm(value, axis=1)
        outside = np.zeros(len(one), dtype=bool)
        if rule.low is not None:
            outside |= one < rule.low
        if rule.high is not None:
            outside |= one > rule.high
        if not len(outside):
            return False
        return bool({"ever": outside.any(), "never": outside.all(), "end": outside[-1]}[rule.when])

    def to_json(self) -> dict[str, Any]:
        """Plain data, readable again by :meth:`from_json`."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> TaskCard:
        """Read a card back from plain data.

        Raises:
            CardError: A field is missing, unknown or contradictory.
        """
        try:
            values = dict(data)
            values["observation"] = tuple(Dimension(**d) for d in values["observation"])
            values["action"] = tuple(Dimension(**d) for d in values["action"])
            rule = dict(values["success"])
            rule["dims"], rule["minus"] = tuple(rule.get("dims", ())), tuple(rule.get("minus", ()))
            values["success"] = SuccessRule(**rule)
            for name in ("tags", "requires", "cameras", "presets", "perturbations", "typical_std"):
                values[name] = tuple(values.get(name, ()))
            values["reward_range"] = tuple(values.get("reward_range", (None, None)))
            values["pose"] = {k: _read_pose(v) for k, v in values.get("pose", {}).items()}
            values["causes"] = {k: Cause.from_json(v) for k, v in values.get("causes", {}).items()}
            return cls(**values)
        except (TypeError, KeyError) as error:
            raise CardError(f"not a task card: {error}") from error

    def behaviour(self) -> dict[str, Any]:
        """The fields that decide what the task is, as plain data; what merely describes or draws it is left out."""
        data = {key: value for key, value in self.to_json().items() if key not in DESCRIPTION}
        del data["success"]["source"]
        if self.action_repeat == 1:  # so that digests from before there were repeats stay what they are
            del data["action_repeat"], data["unrepeated"]
        return data

    def digest(self) -> str:
        """SHA-256 of :meth:`behaviour` in canonical form: two tasks agree if and only if their digests do."""
        text = json.dumps(self.behaviour(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


def _read_pose(value: Any) -> int | tuple[int, ...] | JointReading:
    """One entry of a card's pose, from plain data."""
    if isinstance(value, dict):
        return JointReading.from_json(value)
    return tuple(value) if isinstance(value, list) else value
