"""``wmbench merge``: several datasets of one task as one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console


def main(datasets: Annotated[tuple[Path, ...], tyro.conf.Positional], out: Path, progress: bool = True) -> None:
    """Put several datasets of one task into one; those that must not be mixed are refused with what differs.

    Args:
        datasets: Two or more folders.
        out: New folder.
        progress: Show progress.
    """
    from wmbench.merging import merge

    data = merge(datasets, out, show_progress=progress)
    counts = data.manifest["counts"]["split"]
    parts = ", ".join(f"{name} {count['episodes']}" for name, count in counts.items())
    Console().print(
        f"{out}: {len(data)} episodes ({parts}), {data.manifest['steps']} steps, digest {data.digest[:12]}",
        highlight=False,
        soft_wrap=True,
    )
