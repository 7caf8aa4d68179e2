"""What task cards are made of: dimensions, readings of joints, success rules and causes of failure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from wmbench.errors import CardError


@dataclass(frozen=True)
class Dimension:
    """One number of an observation or action vector.

    Attributes:
        name: Unique within its vector, for example ``"cart_position"``.
        unit: SI unit, ``"1"`` for pure numbers (cosines, normalised torques).
        kind: How differences are taken: ``"linear"``; ``"angle"`` (wrapped, radians);
            ``"quaternion"`` (four neighbouring dimensions, w first, share one rotation).
        low: Lower bound, None if unbounded. Mandatory for actions.
        high: Upper bound, None if unbounded. Mandatory for actions.
    """

    name: str
    unit: str = "1"
    kind: Literal["linear", "angle", "quaternion"] = "linear"
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class JointReading:
    """How the position of one joint follows from an observation: ``sign * (of - minus) + offset``.

    Attributes:
        of: An index into the observation, or a (sine, cosine) pair of indices, read as an angle.
        minus: The same, subtracted: two absolute orientations give the angle of the joint between them.
        sign: -1 where the joint turns the other way.
        offset: Added last, in the joint's unit.
    """

    of: int | tuple[int, int]
    minus: int | tuple[int, int] | None = None
    sign: int = 1
    offset: float = 0.0

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> JointReading:
        """Read back from plain data."""
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
        return cls(**values)


@dataclass(frozen=True)
class SuccessRule:
    """When a step or an episode counts as a success, as a pure function of recorded numbers.

    Attributes:
        kind: ``"reward"``: this step's reward is at least ``threshold``.
            ``"return"``: the episode has ended and its undiscounted return is at least ``threshold``.
            ``"distance"``: the Euclidean norm of the observation dimensions ``dims``
            (minus ``minus``, if given) is at most ``threshold``.
            ``"env"``: the environment says so itself; a world model needs a success head.
        threshold: In the unit of what is compared.
        source: Where the threshold comes from, so that a reader can check it.
        dims: Indices into the observation, for ``"distance"``.
        minus: Indices subtracted from ``dims`` one by one, for ``"distance"``.
        when: Which steps of an episode decide it: ``"once"`` (any) or ``"end"`` (the last).
    """

    kind: Literal["reward", "return", "distance", "env"]
    threshold: float = 0.0
    source: str = ""
    dims: tuple[int, ...] = ()
    minus: tuple[int, ...] = ()
    when: Literal["once", "end"] = "once"

    def __post_init__(self) -> None:
        """Refuse a rule that cannot be evaluated."""
        if self.kind == "distance" and not self.dims:
            raise CardError("a success rule of kind 'distance' needs the observation indices in dims")
        if self.minus and len(self.minus) != len(self.dims):
            raise CardError("a success rule's minus must be as long as its dims")
        if not self.source:
            raise CardError("a success rule must name the source of its threshold")

    def __call__(self, reward: Any, returns: Any, observation: Any, ended: Any) -> Any:
        """Evaluate the rule for a batch of steps; NumPy arrays and torch tensors alike.

        Args:
            reward: (B,) float64, this step's reward.
            returns: (B,) float64, sum of the episode's rewards up to and including this step.
            observation: (B, O) float32, the observation after this step.
            ended: (B,) bool, terminated or truncated at this step.

        Returns:
            (B,) bool, success at this step.

        Raises:
            CardError: The rule is ``"env"``: only the environment or a success head knows.
        """
        if self.kind == "reward":
            return reward >= self.threshold
        if self.kind == "return":
            return ended & (returns >= self.threshold)
        if self.kind == "distance":
            gap = observation[:, list(self.dims)]
            if self.minus:
                gap = gap - observation[:, list(self.minus)]
            return (gap * gap).sum(-1) <= self.threshold**2
        raise CardError("a success rule of kind 'env' cannot be computed from observations")


@dataclass(frozen=True)
class Cause:
    """A reason why an episode may have failed, read off its observations: a number that leaves its range.

    Attributes:
        dims: An index into the observation; with several, the number is the Euclidean norm of those dimensions.
        low: The range begins here, None if it has no lower end.
        high: And ends here, None if it has no upper end.
        when: ``"ever"``: outside at some step. ``"never"``: inside at no step. ``"end"``: outside at the last step.
        minus: Indices subtracted from ``dims`` one by one.
        source: Where the range comes from, so that a reader can check it.
    """

    dims: tuple[int, ...]
    low: float | None = None
    high: float | None = None
    when: Literal["ever", "never", "end"] = "ever"
    minus: tuple[int, ...] = ()
    source: str = ""

    def __post_init__(self) -> None:
        """Refuse a range that is none."""
        if not self.dims or (self.minus and len(self.minus) != len(self.dims)):
            raise CardError("a cause of failure needs observation indices in dims, and minus as long as they are")
        low, high = (-math.inf if self.low is None else self.low), (math.inf if self.high is None else self.high)
        if not low < high or (low == -math.inf and high == math.inf):
            raise CardError(f"a cause of failure needs a range with an end, low < high, got {self.low} to {self.high}")

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Cause:
        """Read back from plain data."""
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
        return cls(**values)
