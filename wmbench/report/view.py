"""What tables, plots and verdicts read: a run's records, looked up by measure, name and subject."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from wmbench.cards import TaskCard
from wmbench.measures import Result

Records = dict[str, dict[str, Any]]
"""Track to step to record."""

ROUNDING = 1e-12
"""Smaller numbers are what rounding leaves of zero, and are shown as zero."""

TRUE, LEARNED = "true", "ensemble"


@dataclass(frozen=True)
class TaskView:
    """One task's records.

    Attributes:
        card: The task.
        values: Step to values.
        facts: Step to facts.
        results: Every result of the task's steps, timings included.
        model: The model that is shown where only one can be.
    """

    card: TaskCard
    values: dict[str, Any]
    facts: dict[str, Any]
    results: tuple[Result, ...]
    model: str = LEARNED

    def find(self, measure: str, name: str, subject: str) -> Result | None:
        """One result, or None if it was not measured."""
        for r in self.results:
            if (r.measure, r.name, r.subject) == (measure, name, subject):
                return r
        return None

    def subjects(self, measure: str, name: str | None = None) -> list[str]:
        """Subjects of a measure, in the order they were measured."""
        return list(dict.fromkeys(r.subject for r in self.results if r.measure == measure and name in (None, r.name)))


def views(records: Records) -> list[TaskView]:
    """A view of every task's track; timings are taken from the track that measured them."""
    from wmbench.registration import task_cards

    by_name = {card.name: card for card in task_cards().values()}
    timings = [
        (item["task"], Result.from_json(item["result"]))
        for item in records.get("timing", {}).get("latency", {}).get("facts", {}).get("results", [])
    ]
    found = []
    for track, steps in records.items():
        if track not in by_name:
            continue
        card = by_name[track]
        own = [Result.from_json(r) for step in steps.values() for r in step["values"].get("results", [])]
        own += [result for task, result in timings if task == card.id]
        found.append(
            TaskView(
                card=card,
                values={name: step["values"] for name, step in steps.items()},
                facts={name: step["facts"] for name, step in steps.items()},
                results=tuple(own),
            )
        )
    return found


def number(value: float | None, digits: int = 3) -> str:
    """A number as a person reads it; a dash for none."""
    if value is None:
        return "-"
    if abs(value) < ROUNDING:
        value = 0.0
    if value != 0 and (abs(value) >= 10**6 or abs(value) < 10**-4):
        return f"{value:.2e}"
    return f"{value:,.{max(0, digits - len(str(int(abs(value)))))}f}" if abs(value) >= 1 else f"{value:.{digits}f}"


def with_interval(result: Result | None, scale: float = 1.0, digits: int = 3) -> str:
    """``value (low to high)``; a reason in words where there is no value."""
    if result is None:
        return "-"
    if result.value is None:
        return result.reason or "-"
    text = number(result.value * scale, digits)
    if result.ci_low is None and result.ci_high is None:
        return text
    low = "..." if result.ci_low is None else number(result.ci_low * scale, digits)
    high = "..." if result.ci_high is None else number(result.ci_high * scale, digits)
    return f"{text} ({low} to {high})"
