"""``wmbench transfer``: do policies mean the same in a learned simulator as in the true one?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table


def main(
    task: Annotated[str, tyro.conf.Positional],
    model: tuple[str, ...] = ("ensemble",),
    zoo: Path | None = None,
    policies: tuple[str, ...] = (),
    episodes: int = 50,
    outcome: Literal["return", "success"] = "return",
    device: str = "cpu",
    out: Path | None = None,
    progress: bool = True,
) -> None:
    """Rank a task's zoo of frozen policies in learned simulators, and compare with their frozen true results.

    Args:
        task: Id or short name, for example DMC-CartpoleSwingup.
        model: World models, by shipped name or checkpoint folder.
        zoo: Description of a zoo of your own (see `wmbench zoo --help`); by default the one that is shipped.
        policies: Members of the zoo; all of them by default.
        episodes: Starts of each policy in each simulator.
        outcome: What is compared.
        device: Torch device of the learned simulators.
        out: Folder for the page, the record and the recording; by default runs/transfer/TASK. What is found in a model
            is kept there, and not asked again: a killed call goes on with the next model.
        progress: Show progress.
    """
    from wmbench.registration import task_card
    from wmbench.report.view import with_interval
    from wmbench.transferring import transfer
    from wmbench.transferring.page import COLUMNS
    from wmbench.transferring.words import sentences

    card = task_card(task)
    folder = out or Path("runs/transfer") / card.name
    found = transfer(
        card,
        model,
        zoo=zoo,
        policies=policies,
        episodes=episodes,
        outcome=outcome,
        device=device,
        out=folder,
        show_progress=progress,
    )
    console = Console()
    subjects = [str(s) for s in found.recording.arrays["subject"]]
    table = Table("", *subjects, title=f"{card.name}: {len(found.zoo.members)} policies, {episodes} episodes each")
    for name, heading in COLUMNS.items():
        cells = [next((r for r in found.results if (r.name, r.subject) == (name, s)), None) for s in subjects]
        table.add_row(heading, *(escape(with_interval(cell)) for cell in cells))
    console.print(table)
    for subject in subjects:
        for sentence in sentences(found, subject):
            console.print(sentence, highlight=False, markup=False)
    console.print(f"{folder / 'index.html'} shows every policy", highlight=False, markup=False)
