"""Do the intervals cover what they promise? Simulated at the sample sizes that the suite uses.

``python -m wmbench.statistics.coverage`` prints the table of ``docs/measures/coverage.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from wmbench.statistics.intervals import Interval

MEAN_BAR, WORST_BAR = 0.94, 0.90
"""What a nominal 95 % interval has to cover on average over the parameter, and at its worst."""

Draw = Callable[[np.random.Generator], tuple[Interval | None, float]]
"""One simulated sample's interval (None if the sample gives none, which is not printed either) and the truth."""


@dataclass(frozen=True)
class Case:
    """One interval at one sample size.

    Attributes:
        interval: What it is.
        size: Sample size in words.
        where: The numbers of the suite that have it; empty for what it was compared with and found wanting.
        parameters: Gives distributions or parameters in words, with how a sample is drawn, or with its coverage where
            that is known exactly.
    """

    interval: str
    size: str
    where: str
    parameters: Callable[[], Mapping[str, Draw | float]]


@dataclass(frozen=True)
class Row:
    """What a case covers.

    Attributes:
        case: Which.
        mean: Averaged over its parameters.
        worst: At its worst parameter.
        worst_at: Which one that is.
        repetitions: Samples per parameter, 0 if exact.
    """

    case: Case
    mean: float
    worst: float
    worst_at: str
    repetitions: int

    @property
    def passes(self) -> bool:
        """Whether it covers what it promises."""
        return self.mean >= MEAN_BAR and self.worst >= WORST_BAR


def covered(draw: Draw, repetitions: int, seed: np.random.SeedSequence) -> float:
    """Share of samples whose interval holds the truth, of those that have one.

    Args:
        draw: One sample.
        repetitions: How many.
        seed: Of the samples.
    """
    rng = np.random.default_rng(seed)
    found = [draw(rng) for _ in range(repetitions)]
    slack = 1e-9
    hits = [i.low - slack <= truth <= i.high + slack for i, truth in found if i is not None]
    return float(np.mean(hits))


def study(cases: Iterable[Case], repetitions: int, seed: int = 0) -> list[Row]:
    """Simulate cases, each with random numbers of its own, whatever the others are.

    Args:
        cases: Which.
        repetitions: Samples per parameter.
        seed: Of all samples.
    """
    rows = []
    for case in cases:
        found, parameters = {}, case.parameters()
        for name, draw in parameters.items():
            words = f"{case.interval}/{case.size}/{name}".encode()
            entropy = np.random.SeedSequence(seed, spawn_key=tuple(words))
            found[name] = draw if isinstance(draw, float) else covered(draw, repetitions, entropy)
        worst_at = min(found, key=lambda name: found[name])
        exact = all(isinstance(draw, float) for draw in parameters.values())
        mean = float(np.mean(list(found.values())))
        rows.append(Row(case, mean, found[worst_at], worst_at, 0 if exact else repetitions))
    return rows


def table(rows: Iterable[Row]) -> str:
    """Rows as Markdown."""
    lines = ["| interval | sizes | average | worst | at | where |", "|---|---|---|---|---|---|"]
    for row in rows:
        mean, worst = (f"{100 * value:.1f} %" for value in (row.mean, row.worst))
        if not row.passes:
            mean, worst = f"**{mean}**", f"**{worst}**"
        where = row.case.where or "not used"
        lines.append(f"| {row.case.interval} | {row.case.size} | {mean} | {worst} | {row.worst_at} | {where} |")
    return "\n".join(lines) + "\n"


def all_cases() -> list[Case]:
    """Every interval of the suite, and those it was compared with."""
    from wmbench.statistics.coverage import episodes, policies, proportions, seeds, trajectories

    return [*proportions.cases(), *episodes.cases(), *policies.cases(), *seeds.cases(), *trajectories.cases()]


def row_of(job: tuple[int, int, int]) -> Row:
    """One row, in whatever process: index into :func:`all_cases`, repetitions, seed."""
    index, repetitions, seed = job
    row = study([all_cases()[index]], repetitions, seed)[0]
    return replace(row, case=replace(row.case, parameters=dict))  # what is simulated cannot be sent elsewhere
