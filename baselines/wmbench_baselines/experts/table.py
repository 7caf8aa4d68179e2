"""Writes the section on experts in ``envs/README.md`` from what ``baselines/scripts/measure_experts.py`` measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wmbench.registration import task_card, task_cards
from wmbench_baselines.experts.expert import expert_tasks

BEGIN, END = "<!-- experts: begin -->\n", "<!-- experts: end -->\n"
GOOD = 0.9
"""Share of solved episodes from which an expert is called one without reservation."""


def table(measured: Mapping[str, Any]) -> str:
    """Markdown: one row per task with an expert, and which of them miss the mark.

    Args:
        measured: The contents of ``baselines/results/experts.json``.
    """
    experts = expert_tasks()
    lines = [
        "| Task | Expert | Success | 95 % interval | Return | Lowest |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    tasks = [task for task in task_cards() if task in measured["tasks"]]
    missed, candidates = [], []
    for task in tasks:
        entry = measured["tasks"][task]
        low, high = entry["success_interval"]
        if task not in experts:
            candidates.append(f"{task_card(task).name} ({entry['success']:.1%}, {low:.1%} to {high:.1%})")
            continue
        lines.append(
            f"| `{task}` | {entry['how']} | {entry['success']:.1%} | {low:.1%} to {high:.1%} "
            f"| {_number(entry['return'])} | {_number(entry['lowest_return'])} |"
        )
        if entry["success"] < GOOD:
            missed.append(task_card(task).name)
    said = f"Below {GOOD:.0%}: {', '.join(missed)}." if missed else f"None is below {GOOD:.0%}."
    if candidates:
        said += f" Scripts that were measured and are no experts: {', '.join(candidates)}."
    return "\n".join([*lines, "", said]) + "\n"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def update(text: str, measured: Mapping[str, Any]) -> str:
    """The text with everything between the two markers replaced by the table.

    Raises:
        ValueError: A marker is missing.
    """
    head, rest = text.split(BEGIN)
    _, tail = rest.split(END)
    return f"{head}{BEGIN}\n{table(measured)}\n{END}{tail}"
