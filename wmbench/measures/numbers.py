"""Builds the results of one subject, so that a measure states only what differs between them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from wmbench.measures.result import Direction, Result, finite_or_none
from wmbench.statistics import Interval


@dataclass(frozen=True)
class Definition:
    """What one of a measure's numbers is, whoever is measured.

    Attributes:
        unit: Unit of the value.
        direction: Which way is better.
        variant: The exact definition, in words and constants.
    """

    unit: str
    direction: Direction
    variant: str


@dataclass
class Numbers:
    """The results of one subject, in the order in which they were added.

    Attributes:
        measure: Registered name of the measure.
        subject: What was measured.
        definitions: Name to definition; a name may be followed by ``:`` and a qualifier, which takes the definition
            of what stands before it.
        common: Details of every result.
        results: What was added.
    """

    measure: str
    subject: str
    definitions: Mapping[str, Definition]
    common: Mapping[str, Any] = field(default_factory=dict)
    results: list[Result] = field(default_factory=list)

    def add(
        self,
        name: str,
        value: float | None,
        interval: Interval | None,
        n: int,
        n_invalid: int = 0,
        *,
        reason: str | None = None,
        **details: Any,
    ) -> None:
        """Append a result. Ends of the interval that are not finite are open; a missing value needs a reason."""
        what = self.definitions[name.partition(":")[0]]
        low, high = (finite_or_none(end) for end in interval or (None, None))
        self.results.append(
            Result(
                self.measure,
                name,
                self.subject,
                value,
                low,
                high,
                n,
                n_invalid,
                what.unit,
                what.direction,
                what.variant,
                reason,
                {**self.common, **details},
            )
        )

    def none(self, names: Iterable[str], reason: str, n: int = 0) -> None:
        """Append results without a value."""
        for name in names:
            self.add(name, None, None, n, reason=reason)
