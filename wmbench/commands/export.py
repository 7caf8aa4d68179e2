"""``wmbench export``: a dataset in another library's format."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from wmbench.exchange.notes import shown


def main(
    dataset: Annotated[Path, tyro.conf.Positional],
    out: Path,
    format: str,
    storage: str | None = None,
    progress: bool = True,
) -> None:
    """Write a dataset for another library: Minari, LeRobot or RLDS.

    Args:
        dataset: Folder that `wmbench collect` wrote.
        out: New folder.
        format: minari, lerobot or rlds.
        storage: For lerobot video (default) or image, for rlds array_record (default) or tfrecord.
        progress: Show progress.
    """
    from wmbench.exchange import export

    console = Console()
    with shown(console):
        export(dataset, out, format=format, storage=storage, show_progress=progress)
    console.print(
        f"{out}\nback with  wmbench import {out} --format {format} --out FOLDER", highlight=False, soft_wrap=True
    )
