"""``wmbench info TASK``: everything a task's card says, as a person would read it."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from wmbench.cards import Dimension, TaskCard
from wmbench.registration import learned_id, shipped_checkpoints, task_card
from wmbench.worlds import PERTURBATIONS, supported


def main(task: str, /) -> None:
    """Show a task's card: spaces with names and units, timing, success rule, what is shipped.

    Args:
        task: Id or short name, for example DMC-CartpoleSwingup.
    """
    card = task_card(task)
    console = Console()
    console.print(f"[bold]{card.id}[/]", highlight=False)
    console.print(facts(card))
    console.print(dimension_table("observation", card.observation))
    console.print(dimension_table("action", card.action))
    console.print(world_table(card))


def facts(card: TaskCard) -> Table:
    """The card's scalar facts as a two-column table."""
    rule = card.success
    shipped = sorted(name for name, task in shipped_checkpoints() if task == card.id)
    low, high = card.reward_range
    rows = {
        "suite": f"{card.suite} ({card.backend_id})",
        "physics": card.physics,
        "robot": card.robot,
        "timing": f"{card.control_hz:g} Hz, {card.horizon} steps = {card.horizon * card.dt:g} s",
        "ends early": "yes" if card.terminates else "never",
        "reward per step": f"[{'-inf' if low is None else f'{low:g}'}, {'inf' if high is None else f'{high:g}'}]",
        "success": f"{rule.kind}, threshold {rule.threshold:g}, decided {rule.when}",
        "threshold from": rule.source,
        "action": f"{card.action_convention}; outside the bounds: {card.action_rule}",
        "cameras": ", ".join(card.cameras) or "-",
        "render presets": ", ".join(card.presets) or "-",
        "tags": ", ".join(card.tags),
        "licence": card.license,
        "citation": card.citation,
        "shipped": ", ".join(shipped) or "nothing",
        "true simulator": f'gym.make("{card.id}")',
        "learned twin": f'gym.make("{card.id}", simulator=FOLDER_OR_NAME)'
        + (f' or gym.make("{learned_id(card)}")' if "ensemble" in shipped else ""),
        "digest": card.digest()[:16],
    }
    table = Table(box=None, show_header=False, padding=(0, 2))
    for key, value in rows.items():
        table.add_row(f"[bold]{key}[/]", value.replace("[", r"\[") if isinstance(value, str) else value)
    return table


def world_table(card: TaskCard) -> Table:
    """What can be varied of the task, and where ``world="near"`` and ``world="far"`` draw it from."""
    table = Table("", "unit", "near", "far", "meaning", title="other worlds", title_justify="left")
    for name in supported(card):
        kind = PERTURBATIONS[name]
        far = " or ".join(f"{low:g} to {high:g}" for low, high in kind.far)
        table.add_row(name, kind.unit, f"{kind.near[0]:g} to {kind.near[1]:g}", far, kind.meaning)
    return table


def dimension_table(title: str, dimensions: tuple[Dimension, ...]) -> Table:
    """Names, units, kinds and bounds of a vector's dimensions."""
    table = Table("#", "name", "unit", "kind", "bounds", title=title, title_justify="left")
    for i, d in enumerate(dimensions):
        bounds = "-" if d.low is None and d.high is None else f"{d.low} to {d.high}"
        table.add_row(str(i), d.name, d.unit, d.kind, bounds)
    return table
