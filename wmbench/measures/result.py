"""What a measure is and what it gives back: a value never travels without its interval, count and variant."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from wmbench.errors import DatasetError

Direction = Literal["lower", "higher", "none"]
Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Result:
    """One number about one subject.

    Attributes:
        measure: Registered name of the measure, for example ``"one-step"``.
        name: Which of the measure's numbers, for example ``"skill"``.
        subject: What was measured: a model, a policy, a simulator.
        value: The number, None if there is none (then ``reason`` says why).
        ci_low: Lower end of the interval; None if there is no interval, or it is open below.
        ci_high: Upper end of the interval; None if there is no interval, or it is open above.
        n: How many independent items stand behind it (episodes, windows, calls), invalid ones included.
        n_invalid: Items that were not finite or did not complete; counted as worst, never dropped.
        unit: Unit of the value; ``"1"`` for pure numbers.
        direction: Which way is better.
        variant: The exact definition, in words and constants.
        reason: Why there is no value, or a caution about the one there is.
        details: Plain JSON data: curves, per-dimension tables, lists of invalid items.
    """

    measure: str
    name: str
    subject: str
    value: float | None
    ci_low: float | None
    ci_high: float | None
    n: int
    n_invalid: int
    unit: str
    direction: Direction
    variant: str
    reason: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse numbers that are not finite, and a missing value without a reason."""
        where = f"{self.measure}/{self.name} of {self.subject!r}"
        for part in ("value", "ci_low", "ci_high"):
            number = getattr(self, part)
            if number is not None and not math.isfinite(number):
                raise ValueError(f"{where}: {part} is {number}; use None with a reason")
        if self.value is None and not self.reason:
            raise ValueError(f"{where}: a missing value needs a reason")
        if self.direction not in ("lower", "higher", "none"):
            raise ValueError(f"{where}: unknown direction {self.direction!r}")

    def to_json(self) -> dict[str, Any]:
        """Plain data, readable again by :meth:`from_json`."""
        return json.loads(json.dumps(dataclasses.asdict(self), allow_nan=False))

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Result:
        """Read a result back from plain data.

        Raises:
            DatasetError: A field is missing, unknown or contradictory.
        """
        try:
            return cls(**data)
        except (TypeError, ValueError) as error:
            raise DatasetError(f"not a result: {error}") from error


@dataclass(frozen=True)
class Measure:
    """A question, and the pure function of recorded arrays that answers it.

    Attributes:
        name: Registered name.
        question: What it answers, in one sentence.
        unit: Unit of its main number.
        direction: Which way the main number is better.
        range: Lowest and highest possible value of the main number, None where unbounded.
        needs: Names of the arrays it reads.
        source: Where the definition comes from.
        function: Arrays by name to results. No file, clock, simulator, model or global random state.
        ranks: Whether its numbers may order models in a ranking; False for what only describes artefacts.
        recording: Name of the recording whose arrays it reads; ``""`` for one of its own name.
    """

    name: str
    question: str
    unit: str
    direction: Direction
    range: tuple[float | None, float | None]
    needs: tuple[str, ...]
    source: str
    function: Callable[[Arrays], list[Result]]
    ranks: bool = True
    recording: str = ""

    def __call__(self, arrays: Arrays) -> list[Result]:
        """Measure.

        Args:
            arrays: Name to array; must hold everything in ``needs``.

        Returns:
            The measure's results, main number of each subject first.

        Raises:
            DatasetError: An array is missing.
        """
        if missing := [name for name in self.needs if name not in arrays]:
            raise DatasetError(f"measure {self.name!r} needs the arrays {missing}; the recording has {sorted(arrays)}")
        return self.function(arrays)


def finite_or_none(number: float | None) -> float | None:
    """A float for JSON: None instead of NaN and infinity."""
    return None if number is None or not math.isfinite(number) else float(number)


def json_list(values: np.ndarray) -> list[Any]:
    """Nested lists for JSON, with None instead of NaN and infinity."""
    array = np.asarray(values)
    if array.ndim > 1:
        return [json_list(row) for row in array]
    return [finite_or_none(v) if isinstance(v, float) else v for v in array.tolist()]
