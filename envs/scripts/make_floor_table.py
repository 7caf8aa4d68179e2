"""Measures the floor of every registered task that has one, and writes the table that ships and the page that shows it.

``python envs/scripts/make_floor_table.py --work runs/floors``; interrupted, the same command goes on.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import tyro

from wmbench.files import write_json
from wmbench.progress import progress
from wmbench.registration import task_card, task_cards
from wmbench_envs.floors import SETTINGS, TABLE, disturbable, measure_floor, page, versions

PAGE = Path(__file__).parents[2] / "docs" / "measures" / "floor.md"


@dataclass(frozen=True)
class Options:
    """What to measure.

    Attributes:
        work: Folder for episodes and for what is measured already.
        tasks: Which tasks, by id or short name; all of them by default. Others keep their entries.
        out: Where the table goes.
        page: Which page shows it.
    """

    work: Path
    tasks: tuple[str, ...] = ()
    out: Path = TABLE
    page: Path = PAGE


def main() -> None:
    """Measure, then write."""
    options = tyro.cli(Options, description=__doc__)
    cards = [c for c in [task_card(t) for t in options.tasks] or task_cards().values() if disturbable(c)]
    entries = json.loads(options.out.read_text())["tasks"] if options.tasks and options.out.exists() else {}
    with progress("floors", len(cards)) as advance:
        for card in cards:
            kept = options.work / f"{card.name}.json"
            entry = json.loads(kept.read_text()) if kept.exists() else None
            if entry is None or entry["task_digest"] != card.digest():
                entry = measure_floor(card, options.work / card.name)
                write_json(kept, entry)
            entries[card.id] = entry
            advance(1, card.name)
    table = {
        "command": "python envs/scripts/make_floor_table.py --work WORK",
        "settings": SETTINGS,
        "versions": versions(),
        "tasks": {task: entries[task] for task in task_cards() if task in entries},
    }
    write_json(options.out, table)
    options.page.write_text(page(options.page.read_text(), table))


if __name__ == "__main__":
    main()
