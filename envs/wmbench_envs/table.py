"""Writes the table of tasks in ``envs/README.md`` from the cards: ``python -m wmbench_envs.table envs/README.md``."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from wmbench.cards import SuccessRule, TaskCard
from wmbench.registration import task_cards

BEGIN, END = "<!-- tasks: begin -->\n", "<!-- tasks: end -->\n"


def success(rule: SuccessRule) -> str:
    """A success rule in a few words."""
    at_end = ", at the last step" if rule.when == "end" else ""
    if rule.kind == "env":
        return f"as the environment says{at_end}"
    sign = "≤" if rule.kind == "distance" else "≥"
    return f"{rule.kind} {sign} {rule.threshold:g}{at_end}"


def picture(card: TaskCard) -> str:
    """The image of a task that ``envs/scripts/make_task_pictures.py`` draws, relative to the page."""
    return f'<img src="images/{card.name}.png" alt="{card.name}" width="120">'


def table(cards: Iterable[TaskCard]) -> str:
    """Markdown: one row and picture per task, then where each success threshold comes from."""
    cards = list(cards)
    lines = [
        "| | Task | Observation | Action | Hz | Steps | Ends early | Success | Images by | Tags |",
        "| --- | --- | ---: | ---: | ---: | ---: | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {picture(c)} | `{c.id}` | {len(c.observation)} | {len(c.action)} | {c.control_hz:g} | {c.horizon} "
        f"| {'yes' if c.terminates else 'no'} | {success(c.success)} | {c.drawn_by or 'none'} | {', '.join(c.tags)} |"
        for c in cards
    ]
    sources = [f"- {c.name}: {success(c.success)}: {c.success.source}." for c in cards]
    return "\n".join([*lines, "", "Where the success rules come from:", "", *sources]) + "\n"


def update(text: str, cards: Iterable[TaskCard]) -> str:
    """The text with everything between the two markers replaced by the table.

    Raises:
        ValueError: A marker is missing.
    """
    head, rest = text.split(BEGIN)
    _, tail = rest.split(END)
    return f"{head}{BEGIN}\n{table(cards)}\n{END}{tail}"


if __name__ == "__main__":
    page = Path(sys.argv[1])
    page.write_text(update(page.read_text(), task_cards().values()))
