"""The checkpoints that come with the package: (name, task id) to folder, found without importing torch."""

from __future__ import annotations

from pathlib import Path

CHECKPOINTS = Path(__file__).parent / "checkpoints"


def checkpoints() -> dict[tuple[str, str], Path]:
    """Every shipped checkpoint, laid out as ``checkpoints/<name>/<Suite-Task-vN>/``."""
    return {
        (folder.parent.name, f"wmbench/{folder.name}"): folder
        for folder in sorted(CHECKPOINTS.glob("*/*"))
        if (folder / "config.json").exists()
    }
