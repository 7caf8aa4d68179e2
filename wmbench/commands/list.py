"""``wmbench list``: what is installed: tasks, world models, policies, measures."""

from __future__ import annotations

from typing import Literal

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from wmbench import registry
from wmbench.cards import TaskCard
from wmbench.errors import NotRegisteredError
from wmbench.machine import obstacle
from wmbench.registration import shipped_checkpoints, task_cards
from wmbench.views import NAMES as SEEN


def main(
    what: Literal["tasks", "models", "policies", "measures", "recipes", "all"] = "tasks",
    /,
    suite: str | None = None,
    tag: tuple[str, ...] = (),
    observation: str = "state",
    model: str | None = None,
    runnable: bool = False,
    names: bool = False,
) -> None:
    """List the installed tasks, world models, policies, measures or recipes of datasets.

    Args:
        what: Which of them.
        suite: Only tasks of this suite, for example dm-control.
        tag: Only tasks with all of these tags, for example locomotion contact.
        observation: Only tasks that can be observed so: state, rgb, state+rgb, rgb+depth+segmentation.
        model: Only tasks that this world model or policy is shipped for, for example ensemble.
        runnable: Only tasks that this machine can run, and observe so.
        names: Print the tasks' names alone, one a line, for scripts.
    """
    console = Console()
    if what in ("tasks", "all"):
        cards = select_tasks(suite, tag, observation, model)
        obstacles = {card.id: obstacle(card, observation) for card in cards}
        shown = [card for card in cards if obstacles[card.id] is None] if runnable else cards
        if names:
            console.print("\n".join(card.name for card in shown), highlight=False, soft_wrap=True)
        else:
            console.print(task_table(shown))
            which = "others" if runnable else "of these"
            for reason in sorted({found for card in cards if (found := obstacles[card.id])}):
                hit = [card.name for card in cards if obstacles[card.id] == reason]
                console.print(
                    f"[yellow]{len(hit)} {which} cannot be run here: {reason}[/] (wmbench doctor says more)",
                    highlight=False,
                    soft_wrap=True,
                )
    shipped = shipped_checkpoints()
    for word, entries in (("models", registry.world_models), ("policies", registry.policies)):
        if what in (word, "all"):
            table = Table("name", "shipped for", title=word, title_justify="left")
            for name in sorted({*entries.names(), *(n for n, _ in shipped if _kind_matches(n, word))}):
                tasks = [task_cards()[t].name for n, t in sorted(shipped) if n == name and t in task_cards()]
                table.add_row(name, ", ".join(tasks) or "-")
            console.print(table)
    if what in ("recipes", "all"):
        console.print(recipe_table())
    if what in ("measures", "all"):
        table = Table("name", "unit", "direction", "source", title="measures", title_justify="left")
        for name, measure in registry.measures:
            table.add_row(name, measure.unit, measure.direction, measure.source)
        console.print(table)


def recipe_table() -> Table:
    """The recipes of `wmbench collect --recipe`, and what they consist of."""
    from wmbench.collecting import load_recipe

    table = Table("name", "episodes", "description", title="recipes", title_justify="left")
    for name in registry.recipes.names():
        recipe = load_recipe(name)
        shares = ", ".join(f"{s.share:.0%} {s.kind} by {s.behaviours[0].name}" for s in recipe.sources)
        table.add_row(name, shares, recipe.description)
    return table


def select_tasks(
    suite: str | None = None, tags: tuple[str, ...] = (), observation: str = "state", model: str | None = None
) -> list[TaskCard]:
    """Cards of the installed tasks, filtered.

    Args:
        suite: Exact suite name, or None for all.
        tags: Tags that the card must carry, all of them.
        observation: Names joined by ``+``; with images, only tasks whose simulator draws them.
        model: Name of a shipped world model or policy, or None for all.

    Raises:
        NotRegisteredError: A suite, tag, kind of observation or model that no task has; the known ones are named.
    """
    cards, shipped = list(task_cards().values()), set(shipped_checkpoints())
    _known("suite", suite, {card.suite for card in cards})
    for tag in tags:
        _known("tag", tag, {t for card in cards for t in card.tags})
    for name in observation.split("+"):
        _known("observation", name, set(SEEN))
    _known("shipped model", model, {name for name, _ in shipped})
    return [
        card
        for card in cards
        if (suite is None or card.suite == suite)
        and set(tags) <= set(card.tags)
        and (observation == "state" or card.drawn_by)
        and (model is None or (model, card.id) in shipped)
    ]


def _known(what: str, value: str | None, known: set[str]) -> None:
    if value is not None and value not in known:
        raise NotRegisteredError(f"no task has the {what} {value!r}: there are {', '.join(sorted(known))}")


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
