"""The frozen test sets that come with the package: task id to folder, laid out as ``frozen/<Suite-Task-vN>/``."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent
DIGESTS = FOLDER / "digests.json"
"""Task id to the set's digest, size and the machine that made it; tests compare the files with it."""


def frozen_sets() -> dict[str, Path]:
    """Every shipped set."""
    return {f"wmbench/{path.parent.name}": path.parent for path in sorted(FOLDER.glob("*/manifest.json"))}
