"""``wmbench import``: another library's dataset as one of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from wmbench.exchange.notes import shown


def main(
    path: Annotated[Path, tyro.conf.Positional],
    out: Path,
    format: str,
    task: str | None = None,
    control_hz: float | None = None,
    source: str = "",
    progress: bool = True,
) -> None:
    """Read a dataset of Minari, LeRobot or RLDS, and refuse what does not fit its task.

    Args:
        path: Folder of the other dataset.
        out: New folder.
        format: minari, lerobot or rlds.
        task: Id or short name; not needed for what `wmbench export` wrote.
        control_hz: The control rate in Hz, where the data do not say it.
        source: Who acted, where the data do not say it; by default the format's name.
        progress: Show progress.
    """
    from wmbench.exchange import import_

    console = Console()
    with shown(console):
        data = import_(
            path, out, task, format=format, control_hz=control_hz, source=source, show_progress=progress
        )  # fmt: skip
    console.print(
        f"{out}: {len(data)} episodes of {data.task.name}, {data.manifest['steps']} steps, digest {data.digest[:12]}\n"
        f"look at it with  wmbench inspect {out}",
        highlight=False,
        soft_wrap=True,
    )
