"""Pairs of policies: which are truly told apart, and does a learned simulator put the better one first?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

CLOSE = 0.1
"""Pairs nearer than this share of the range of true values are close."""


@dataclass(frozen=True)
class Pair:
    """Two policies whose true intervals do not overlap.

    Attributes:
        better: Name of the one with the higher true mean.
        worse: Name of the other.
        gap: Between their true means, as a share of the range over all policies.
        right: Whether the learned mean of the better is higher, too; an estimate that is none ranks last.
    """

    better: str
    worse: str
    gap: float
    right: bool


def distinct_pairs(table: Mapping[str, Any]) -> list[Pair]:
    """The pairs that the truth tells apart, from the table of all policies (``bias`` of the measure ``agreement``)."""
    names, true, ends = table["policy"], table["true"], table["true_interval"]
    learned = [-math.inf if value is None else value for value in table["learned"]]
    spread = max(true) - min(true)
    every = range(len(names))
    return [
        Pair(names[i], names[j], (true[i] - true[j]) / spread, learned[i] > learned[j])
        for i in every
        for j in every
        if true[i] > true[j] and ends[i] and ends[j] and ends[i][0] > ends[j][1]
    ]


def places(values: list[float | None]) -> list[int]:
    """Each value's place, 1 being the highest; equal values share the better place, None comes last."""
    plain = [-math.inf if value is None else value for value in values]
    return [1 + sum(other > value for other in plain) for value in plain]
