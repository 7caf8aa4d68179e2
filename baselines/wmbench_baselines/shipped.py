"""The checkpoints and zoos of policies that come with the package, found without importing torch."""

from __future__ import annotations

from pathlib import Path

CHECKPOINTS = Path(__file__).parent / "checkpoints"
ZOOS = Path(__file__).parent / "zoos"


def checkpoints() -> dict[tuple[str, str], Path]:
    """Every shipped checkpoint, laid out as ``checkpoints/<name>/<Suite-Task-vN>/``."""
    return {
        (folder.parent.name, f"wmbench/{folder.name}"): folder
        for folder in sorted(CHECKPOINTS.glob("*/*"))
        if (folder / "config.json").exists()
    }


def zoos() -> dict[str, Path]:
    """Task id to the description of its zoo, laid out as ``zoos/<Suite-Task-vN>.json``."""
    return {f"wmbench/{path.stem}": path for path in sorted(ZOOS.glob("*.json"))}
