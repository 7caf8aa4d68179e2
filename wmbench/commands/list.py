"""``wmbench list``: what is installed: tasks, world models, policies, measures."""

from __future__ import annotations

from typing import Literal

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from wmbench import registry
from wmbench.cards import TaskCard
from wmbench.registration import shipped_checkpoints, task_cards


def main(
    what: Literal["tasks", "models", "policies", "measures", "all"] = "tasks",
    /,
    suite: str | None = None,
    tag: str | None = None,
) -> None:
    """List the installed tasks, world models, policies or measures.

    Args:
        what: Which of them.
        suite: Only tasks of this suite, for example dm-control.
        tag: Only tasks with this tag, for example locomotion.
    """
    console = Console()
    if what in ("tasks", "all"):
        console.print(task_table(select_tasks(suite, tag)))
    shipped = shipped_checkpoints()
    for word, entries in (("models", registry.world_models), ("policies", registry.policies)):
        if what in (word, "all"):
            table = Table("name", "shipped for", title=word, title_justify="left")
            for name in sorted({*entries.names(), *(n for n, _ in shipped if _kind_matches(n, word))}):
                tasks = [task_cards()[t].name for n, t in sorted(shipped) if n == name and t in task_cards()]
                table.add_row(name, ", ".join(tasks) or "-")
            console.print(table)
    if what in ("measures", "all"):
        table = Table("name", "unit", "direction", "source", title="measures", title_justify="left")
        for name, measure in registry.measures:
            table.add_row(name, measure.unit, measure.direction, measure.source)
        console.print(table)


def select_tasks(suite: str | None = None, tag: str | None = None) -> list[TaskCard]:
    """Cards of the installed tasks, filtered.

    Args:
        suite: Exact suite name, or None for all.
        tag: A tag the card must carry, or None.
    """
    return [
        card
        for card in task_cards().values()
        if (suite is None or card.suite == suite) and (tag is None or tag in card.tags)
    ]


def task_table(cards: list[TaskCard]) -> Table:
    """The cards as a table, one line each."""
    table = Table(box=SIMPLE_HEAD, title=f"{len(cards)} tasks", padding=(0, 1, 0, 0))
    for column in ("task", "obs", "act", "steps", "ends", "success", "learned"):
        table.add_column(column, no_wrap=True, overflow="fold")
    shipped = shipped_checkpoints()
    for card in cards:
        models = [n for n, task in shipped if task == card.id and n in registry.world_models.names()]
        rule = card.success
        table.add_row(
            card.name,
            str(len(card.observation)),
            str(len(card.action)),
            str(card.horizon),
            "yes" if card.terminates else "no",
            "its own"
            if rule.kind == "env"
            else f"{rule.kind} {'<=' if rule.kind == 'distance' else '>='} {rule.threshold:g}",
            ", ".join(sorted(models)) or "-",
        )
    return table


def _kind_matches(name: str, word: str) -> bool:
    """Whether a shipped collection belongs under this heading, by the kind its first folder declares."""
    from wmbench.checkpoints import read_config

    folder = next(path for (n, _), path in shipped_checkpoints().items() if n == name)
    return read_config(folder)["kind"] == ("world_model" if word == "models" else "policy")
