"""The tables of ``wmbench inspect`` that tell sources apart: mixture, returns, coverage, starts."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from wmbench.episodes import Dataset
from wmbench.episodes.coverage import BINS, Coverage, histogram
from wmbench.frozen_sets import FrozenStarts, dataset_starts
from wmbench.worlds import PERTURBATIONS

BARS = " ▁▂▃▄▅▆▇█"


def mixture_table(data: Dataset) -> Table:
    """Balance and success by source, what a recipe asked for and discarded, and the share of intervened steps."""
    recipe = data.manifest.get("recipe") or {}
    asked = recipe.get("sources", {})
    flagged = "intervention" in data.fields
    title = f"mixture: recipe {recipe['name']}" if recipe else "mixture"
    if recipe and not recipe["complete"]:
        title += ", unfinished: the same command goes on"
    table = Table(title=escape(title), title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    more = (*(("run", "discarded") if recipe else ()), *(("pushed",) if flagged else ()))
    for heading in ("source", *(("kind",) if recipe else ()), "episodes", "of all", "steps", "solved", *more):
        table.add_column(heading, justify="left" if heading in ("source", "kind") else "right", overflow="fold")
    for source in data.manifest["counts"]["source"]:
        numbers = data.episodes(source=source)
        entry = asked.get(source)
        row = [source]
        row += [entry["kind"] if entry else "-"] if recipe else []
        row += [str(len(numbers)) + (f" of {entry['asked']}" if entry and entry["asked"] != len(numbers) else "")]
        row += [f"{len(numbers) / len(data):.1%}", str(data.index["length"][numbers].sum())]
        row += [f"{data.index['success'][numbers].mean():.0%}"]
        if recipe:
            row += [str(entry["tried"]) if entry else "-", _discarded(entry["discarded"]) if entry else "-"]
        if flagged:
            flags = [data.arrays(int(i))["intervention"] for i in numbers]
            row += [f"{np.concatenate(flags).mean():.1%}"]
        table.add_row(*map(escape, row))
    for kind, entry in recipe.get("kinds", {}).items():
        share = f"{entry['episodes'] / len(data):.1%}"
        table.add_row(*map(escape, ("", kind, str(entry["episodes"]), share, str(entry["steps"]), "")), style="dim")
    return table


def worlds_table(data: Dataset) -> Table:
    """From where to where the perturbations of a dataset's worlds go, by split."""
    splits = list(data.manifest["counts"]["split"])
    table = Table(title=escape(f"worlds: {data.manifest['world']['asked']}"), title_justify="left", box=SIMPLE_HEAD)
    for heading in ("", "unit", *splits):
        table.add_column(heading)
    worlds = [data.worlds(split) for split in splits]
    for name in data.manifest["world"]["names"]:
        ranges = (f"{world[name].min():g} to {world[name].max():g}" for world in worlds)
        table.add_row(name, PERTURBATIONS[name].unit, *ranges)
    return table


def returns_table(data: Dataset, bins: int = 32) -> Table:
    """A histogram of returns per source, all over the same range."""
    returns = data.index["return"]
    low, high = float(returns.min()), float(returns.max())
    table = Table(title=f"returns from {low:.4g} to {high:.4g}, {bins} bins", title_justify="left")
    for heading in ("source", "histogram", "median"):
        table.add_column(heading, no_wrap=heading == "histogram", justify="right" if heading == "median" else "left")
    for source in data.manifest["counts"]["source"]:
        own = returns[data.episodes(source=source)]
        table.add_row(escape(source), bars(histogram(own, low, high, bins)), f"{np.median(own):.4g}")
    return table


def bars(counts: np.ndarray) -> str:
    """Counts as one line of bars; whatever is not zero can be seen."""
    most = max(1, int(counts.max()))
    return "".join(BARS[math.ceil(int(count) * (len(BARS) - 1) / most)] for count in counts)


def coverage_table(found: Sequence[Coverage]) -> Table:
    """What each source covers of the states and actions."""
    caption = (
        f"bins: mean share of {BINS} bins per dimension that hold a state (an action); dims: directions that vary; "
        "spread: to the nearest state of another of its episodes; novelty: to the nearest of another source, in "
        "standard deviations per dimension"
    )
    table = Table(title="coverage", title_justify="left", caption=caption, caption_justify="left")
    table.add_column("source")
    for heading in ("state bins", "dims", "action bins", "dims", "spread", "novelty"):
        table.add_column(heading, justify="right")
    for own in found:
        table.add_row(
            escape(own.source),
            _mean(own.states),
            f"{own.state_dimension:.1f} of {len(own.states)}",
            _mean(own.actions),
            f"{own.action_dimension:.1f} of {len(own.actions)}",
            *("-" if math.isnan(value) else f"{value:.3f}" for value in (own.spread, own.novelty)),
        )
    return table


def starts_line(data: Dataset) -> tuple[bool, str]:
    """Whether test starts are new ones, computed from the episodes, and a sentence about it."""
    starts = dataset_starts(data)
    found = starts.to_json()
    states = "" if found["distinct"]["state"] is None else f" and {found['distinct']['state']} states"
    text = f"starts: {found['episodes']} episodes from {found['distinct']['observation']} first observations{states}"
    shared = [f"{count} in {split}" for split, count in found["test_in"].items() if count]
    if not found["test"]:
        text += "; no test split"
    elif shared:
        text += f"; of {found['test']} test episodes, {' and '.join(shared)} begin at the same place"
    else:
        text += f"; none of the {found['test']} test episodes begins where one of train or val does"
    frozen = FrozenStarts(data.task)
    common = frozen.shared(starts)
    own = (frozen.to_json() or {}).get("digest") == data.digest
    if own:
        return True, text + "; this is the task's frozen test set"
    if frozen.to_json():
        text += f"; {common or 'nothing'} of train and val begins where the frozen test set does"
    return found["disjoint"] and not common, text


def _discarded(entry: dict[str, int]) -> str:
    parts = [f"{count} by {why}" for why, count in entry.items() if count]
    return ", ".join(parts) or "0"


def _mean(shares: np.ndarray) -> str:
    known = shares[np.isfinite(shares)]
    return f"{known.mean():.0%}" if len(known) else "-"
