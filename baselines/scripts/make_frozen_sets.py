"""Makes the frozen test sets that ship with the package, and writes their digests.

``python baselines/scripts/make_frozen_sets.py``; sets that exist are kept unless ``--again``. A new set is a new
benchmark: results on the old one do not compare with it.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass

import tyro
from rich.console import Console

from wmbench import task_card
from wmbench.files import write_json
from wmbench_baselines.frozen import DIGESTS, FOLDER
from wmbench_baselines.frozen.making import SETS, describe, make_set


@dataclass(frozen=True)
class Options:
    """What to make.

    Attributes:
        tasks: Which tasks, by short name.
        again: Make sets anew that exist.
        workers: Processes that collect; the result does not depend on it.
    """

    tasks: tuple[str, ...] = tuple(SETS)
    again: bool = False
    workers: int = 1


def main() -> None:
    """Make every set asked for."""
    options = tyro.cli(Options, description=__doc__)
    console = Console()
    known = json.loads(DIGESTS.read_text()) if DIGESTS.exists() else {}
    for task in options.tasks:
        card = task_card(task)
        folder = FOLDER / card.id.removeprefix("wmbench/")
        if folder.exists() and not options.again:
            continue
        shutil.rmtree(folder, ignore_errors=True)
        data = make_set(task, folder, workers=options.workers)
        (folder / ".lock").unlink()
        known[card.id] = describe(data)
        write_json(DIGESTS, dict(sorted(known.items())))
        account = data.manifest["recipe"]["sources"]
        counts = ", ".join(f"{name} {entry['episodes']} of {entry['tried']} run" for name, entry in account.items())
        console.print(f"{card.name}: {known[card.id]['bytes'] / 1e6:.2f} MB, {counts}", highlight=False)


if __name__ == "__main__":
    main()
