"""``wmbench zoo``: the frozen policies that simulators are ranked by, and how to freeze some of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from wmbench.cards import TaskCard
from wmbench.errors import CheckpointError, WmbenchError
from wmbench.zoo import Zoo, load_zoo, read_zoo, shipped_zoos


def main(
    task: Annotated[str | None, tyro.conf.Positional] = None,
    zoo: Path | None = None,
    policies: tuple[str, ...] = (),
    episodes: int = 200,
    seed: int = 0,
    out: Path | None = None,
    json: bool = False,
    progress: bool = True,
) -> None:
    """List the zoos of frozen policies, show one policy by policy, or freeze one of your own.

    Args:
        task: Id or short name, for example DMC-CartpoleSwingup; without it, all shipped zoos are listed.
        zoo: Description of a zoo of your own to show, as --policies and --out write it.
        policies: Freeze these policies instead: registered names, shipped checkpoints or folders, +noise0.3 disturbs.
        episodes: True episodes of each policy that is frozen.
        seed: Root of the episodes' seeds.
        out: Where to write the zoo of your own, NAME.json; an interrupted call goes on beside it.
        json: Print the cards as JSON.
        progress: Show progress.
    """
    from wmbench.registration import task_card

    console = Console()
    if task is None:
        if zoo is not None or policies or out is not None:
            raise WmbenchError("name the task of the zoo: wmbench zoo TASK ...")
        console.print(overview())
        return
    card = task_card(task)
    if policies:
        if zoo is not None:
            raise WmbenchError("--zoo shows a zoo and --policies makes one: give one of them")
        found = _freeze(card, policies, episodes, seed, out, show_progress=progress)
    else:
        if out is not None:
            raise WmbenchError("--out is where the zoo of --policies goes, and there are none")
        found = load_zoo(card) if zoo is None else read_zoo(zoo, card)
    if json:
        print_json(console, found)
        return
    console.print(zoo_table(found))
    console.print(
        "tied with: cannot be told from these by the frozen episodes (same starts, 95 % interval of the difference)\n"
        f"digest {found.digest}; made by: {found.facts.get('command') or 'unknown'}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )


def overview() -> Table:
    """All shipped zoos, one line each."""
    from wmbench.registration import task_cards

    table = Table("task", "policies", "algorithms", "episodes each", "lowest", "highest", box=SIMPLE_HEAD)
    for task in sorted(shipped_zoos()):
        if (card := task_cards().get(task)) is None:
            continue
        zoo = load_zoo(card)
        means = zoo.returns[-1].mean(1)
        table.add_row(
            card.name,
            str(len(zoo.members)),
            ", ".join(sorted({member.algorithm for member in zoo.members})),
            str(len(zoo.seed)),
            f"{means.min():.4g}",
            f"{means.max():.4g}",
        )
    return table


def zoo_table(zoo: Zoo) -> Table:
    """The policies of a zoo, the best first."""
    from wmbench.transferring.cards import policy_cards

    title = f"{zoo.task.name}: {len(zoo.members)} policies, {len(zoo.seed)} true episodes each"
    table = Table(box=SIMPLE_HEAD, title=escape(title), padding=(0, 1, 0, 0), pad_edge=False)
    for column in ("policy", "by", "steps", "true return", "success", "tied with", "weights", "note"):
        table.add_column(column, overflow="fold")
    for one in policy_cards(zoo):
        low, high = one.success_interval
        ends = "" if one.returns_interval is None else " ({:.4g} to {:.4g})".format(*one.returns_interval)
        table.add_row(
            escape(one.name),
            escape(one.algorithm),
            "-" if one.steps is None else f"{one.steps:,}",
            f"{one.returns:.4g}{ends}",
            f"{one.success:.0%} ({low:.0%} to {high:.0%})",
            escape(", ".join(one.ties) or "-"),
            one.weights[:8] or "-",
            escape(one.note),
        )
    return table


def print_json(console: Console, zoo: Zoo) -> None:
    """The cards as JSON."""
    import json

    from wmbench.transferring.cards import policy_cards

    data = {"task": zoo.task.id, "digest": zoo.digest, "policies": [one.to_json() for one in policy_cards(zoo)]}
    console.print(json.dumps(data, indent=1), highlight=False, markup=False, soft_wrap=True)


def _freeze(
    card: TaskCard, policies: tuple[str, ...], episodes: int, seed: int, out: Path | None, *, show_progress: bool
) -> Zoo:
    """Make a zoo of one's own."""
    from wmbench.transferring import freeze_zoo
    from wmbench.transferring.cards import member_of

    if out is None or out.suffix != ".json":
        raise WmbenchError(f"--policies needs --out NAME.json for the zoo, got {out}")
    if out.exists():
        raise CheckpointError(f"{out} exists and is never overwritten: choose another name, or remove it first")
    if episodes < 2:
        raise WmbenchError(f"--episodes must be at least 2, got {episodes}: one episode has no interval")
    return freeze_zoo(
        card,
        [member_of(reference, card) for reference in policies],
        out,
        episodes=episodes,
        seed=seed,
        work=out.with_suffix(".parts"),
        command=f"wmbench zoo {card.name} --policies {' '.join(policies)} --episodes {episodes} --seed {seed}",
        show_progress=show_progress,
    )
