"""``wmbench inspect``: what a dataset holds, five steps of it, and whether it can be trusted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from wmbench.cards import Dimension
from wmbench.commands.inspect_mixture import coverage_table, mixture_table, returns_table, starts_line, worlds_table
from wmbench.episodes import Dataset
from wmbench.episodes.alignment import SHIFTS, Alignment, check_alignment
from wmbench.episodes.coverage import Coverage
from wmbench.episodes.coverage import coverage as cover
from wmbench.episodes.data import SPLITS
from wmbench.errors import DatasetError
from wmbench.frozen_sets import open_dataset


def main(
    dataset: Annotated[str, tyro.conf.Positional],
    episode: int | None = None,
    start: int | None = None,
    steps: int = 5,
    dims: int = 40,
    verify: bool = True,
    alignment: bool = True,
    coverage: bool = True,
    plots: Path | None = None,
) -> None:
    """Show a dataset: facts, mixture, returns, coverage, starts, consecutive timesteps, hashes, alignment.

    Args:
        dataset: Folder of the dataset, or frozen:TASK for a task's frozen test set.
        episode: Which episode's steps to show; by default the first of the train split.
        start: First step to show; by default in the middle of the episode.
        steps: How many steps to show.
        dims: Show at most so many dimensions of the observation; 0 shows all.
        verify: Read every file and compare its SHA-256.
        alignment: Check whether actions sit beside the observations they act on.
        coverage: Say which states and actions each source covers.
        plots: Folder for figures of the returns, the coverage and the states by source.
    """
    console = Console()
    data = open_dataset(dataset, verify=verify)
    number = int([*data.episodes("train"), 0][0]) if episode is None else episode
    length = len(data.episode(number))
    if steps < 1 or (start is not None and not 0 <= start < length):
        raise DatasetError(f"{dataset}: episode {number} has steps 0 to {length - 1}, asked for {steps} from {start}")
    first = max(0, (length - steps) // 2) if start is None else start
    shown = range(first, min(first + steps, length))
    console.print(facts(data, verified=verify))
    console.print(mixture_table(data))
    console.print(counts_table(data))
    if "world" in data.manifest:
        console.print(worlds_table(data))
    console.print(returns_table(data))
    covered = cover(data) if coverage or plots else []
    if coverage:
        console.print(coverage_table(covered))
    sound, sentence = starts_line(data)
    console.print(f"[{'green' if sound else 'red'}]{escape(sentence)}[/]", highlight=False)
    for path in _figures(data, covered, plots):
        console.print(f"figure: {path}", highlight=False, markup=False)
    console.print(fields_table(data))
    console.print(steps_table(data, number, shown, dims, statistics=console.width >= 100))
    if alignment:
        try:
            result = check_alignment(data)
        except DatasetError as error:
            console.print(f"[yellow]cannot tell[/]: {escape(str(error))}", highlight=False, soft_wrap=True)
            return
        console.print(alignment_table(result))
        color = {"aligned": "green", "shifted": "red", "cannot tell": "yellow"}[result.verdict]
        console.print(f"[{color}]{result.verdict}[/]: {escape(result.reason)}", highlight=False, soft_wrap=True)


def _figures(data: Dataset, covered: Sequence[Coverage], folder: Path | None) -> list[Path]:
    if folder is None:
        return []
    from wmbench.report.mixture import save_mixture

    return save_mixture(data, covered, folder)


def facts(data: Dataset, *, verified: bool) -> Table:
    """Where the dataset comes from and how its numbers are to be read."""
    card, manifest = data.task, data.manifest
    made = "; ".join(
        f"wmbench {g['versions']['wmbench']}, commit {g['commit'] or 'unknown: ' + g['commit_missing']}"
        + (", with changes" if g["dirty"] else "")
        for g in manifest["generators"]
    )
    table = Table(title=str(data.folder), title_justify="left", show_header=False, box=None, padding=(0, 2))
    rows = {
        "task": card.id,
        "robot": card.robot or "-",
        "physics": card.physics,
        "action convention": f"{card.action_convention}; outside the bounds: {card.action_rule}",
        "control rate": f"{card.control_hz:g} Hz ({card.dt:g} s per step), horizon {card.horizon}"
        + (f", every action for {card.action_repeat} control steps" if card.action_repeat > 1 else ""),
        "pictures": _pictures(data),
        "success": f"{card.success.kind}, threshold {card.success.threshold:g}, counted {card.success.when}",
        "size": f"{len(data)} episodes, {manifest['steps']} steps in {len(data.shards)} shards",
        "plan": _plan(manifest["plan"]),
        "made by": made,
        "digest": data.digest,
        "files": f"{len(manifest['files'])}, "
        + ("every SHA-256 is as written" if verified else "sizes and shapes are as written; --verify reads them"),
    }
    for name, value in rows.items():
        table.add_row(f"[bold]{name}[/]", escape(value))
    return table


def _pictures(data: Dataset) -> str:
    """What was drawn, how large, from where and how, in which units."""
    view = data.view
    if view is None:
        return "-"
    units = "; ".join(f"{name}: {data.manifest['view']['units'][name]}" for name in view.images)
    return f"{view.height} x {view.width} pixels, camera {view.camera}, preset {view.preset}; {units}"


def _plan(plan: dict[str, Any] | None) -> str:
    """The plan in a line; of a recipe its name, as its sources have a table of their own."""
    if not plan:
        return "-"
    return f"recipe {plan['recipe']['name']}, seed {plan['seed']}" if "recipe" in plan else str(plan)


def counts_table(data: Dataset) -> Table:
    """Episodes, steps, returns and success by source and split."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for heading in ("source", "split", "episodes", "steps", "length", "return", "lowest", "highest", "success"):
        table.add_column(heading, overflow="fold")
    index = data.index
    sources = list(data.manifest["counts"]["source"])
    for source in [*sources, None] if len(sources) > 1 else sources:
        for split in [*SPLITS, None]:
            rows = index[data.episodes(split, source=source)]
            if not len(rows):
                continue
            returns = rows["return"]
            table.add_row(
                escape(source or "all"),
                split or "all",
                str(len(rows)),
                str(rows["length"].sum()),
                f"{rows['length'].mean():.1f}",
                f"{returns.mean():.4g} ± {returns.std():.3g}",
                f"{returns.min():.4g}",
                f"{returns.max():.4g}",
                f"{rows['success'].mean():.0%}",
                end_section=split is None,
            )
    return table


def fields_table(data: Dataset) -> Table:
    """What is stored, in which form."""
    table = Table("key", "dtype", "shape of one row", "rows per episode", "bytes")
    for name, spec in data.fields.items():
        size = sum(shard[name].nbytes for shard in data.shards)
        rows = "T + 1" if spec["per"] == "state" else "T"
        table.add_row(escape(name), spec["dtype"], str(tuple(spec["shape"])), rows, f"{size:,}")
    return table


def steps_table(data: Dataset, number: int, steps: range, dims: int, *, statistics: bool) -> Table:
    """Consecutive timesteps: each row one number, named, with its unit, and mean and deviation where there is room."""
    episode, stats = data.episode(number), data.stats
    times = [f"t={t}" for t in steps]
    title = f"episode {number}: {episode.source}, {episode.split}, seed {episode.seed}, {len(episode)} steps"
    table = Table(title=escape(title), title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("key and name", no_wrap=True)
    table.add_column("unit", no_wrap=True)
    summaries = ("mean", "std") if statistics else ()
    for heading in (*times, *summaries):
        table.add_column(heading, justify="right", no_wrap=True, min_width=6)

    def vector(key: str, dimensions: tuple[Dimension, ...], values: np.ndarray, limit: int) -> None:
        shown = len(dimensions) if limit == 0 else min(limit, len(dimensions))
        table.add_row(f"[bold]{key}[/]", f"({len(dimensions)},)")
        for i, d in enumerate(dimensions[:shown]):
            numbers = [_number(values[t, i]) for t in steps]
            summary = [_number(stats[key][which][i]) for which in summaries]
            table.add_row(f"  {escape(d.name)}", d.unit, *numbers, *summary, end_section=i == len(dimensions) - 1)
        if shown < len(dimensions):
            table.add_row(f"  and {len(dimensions) - shown} more", end_section=True)

    vector("observation", data.task.observation, episode.observation, dims)
    vector("action", data.task.action, episode.action, 0)
    reward = [_number(episode.reward[t]) for t in steps]
    table.add_row("[bold]reward[/]", "1", *reward, *(_number(stats["reward"][which][0]) for which in summaries))
    for key in ("success", "terminated", "truncated"):
        table.add_row(f"[bold]{key}[/]", "bool", *("yes" if getattr(episode, key)[t] else "no" for t in steps))
    return table


def alignment_table(result: Alignment) -> Table:
    """Errors of the shifts, best first."""
    sources = ", ".join(result.sources)
    title = f"alignment: {result.transitions} steps of {escape(sources)}"
    caption = "f(o_t, a_t+k) against o_t+1 - o_t; 1 is no better than the mean"
    table = Table("k", "held-out error", title=title, caption=caption, title_justify="left", caption_justify="left")
    for k in SHIFTS:
        style: dict[str, Any] = {"style": "bold"} if k == result.best else {}
        table.add_row(f"{k:+d}" if k else "0", f"{result.errors[k]:.4f}", **style)
    table.add_row("no action", f"{result.without_action:.4f}")
    return table


def _number(value: float) -> str:
    """At most seven characters, so that five steps fit beside each other."""
    if value == 0 or 1e-3 <= abs(value) < 1e3:
        return f"{value:.3f}" if abs(value) < 100 else f"{value:.1f}"
    return f"{value:.0e}"
