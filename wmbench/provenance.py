"""Where a number was made: versions, commit, machine and threads, as plain data for every record."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("wmbench", "numpy", "scipy", "torch", "gymnasium", "mujoco", "dm-control", "stable-baselines3")


def provenance() -> dict[str, Any]:
    """Everything that may change a number besides its inputs.

    Returns:
        ``date`` (UTC), ``versions``, ``python``, ``platform``, ``commit`` and ``dirty`` (None outside a clone),
        ``cpu``, ``cores``, ``gpu`` (None without one), ``threads`` (torch's, None if torch is not in use).
    """
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return {"date": now, **_machine(), "gpu": _gpu(), "threads": _threads()}


@cache
def _machine() -> dict[str, Any]:
    commit, dirty = _commit()
    return {
        "versions": versions(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "commit": commit,
        "dirty": dirty,
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
    }


def versions() -> dict[str, str]:
    """Installed versions of the packages that numbers depend on."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _commit() -> tuple[str | None, bool | None]:
    """Commit of the source tree this package runs from, and whether it has changes that are not committed."""
    folder = Path(__file__).resolve().parent
    try:
        git = ["git", "-C", str(folder)]
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10)
        inside = subprocess.run(
            [*git, "ls-files", "--error-unmatch", Path(__file__).name], capture_output=True, timeout=10
        )
        status = subprocess.run(
            [*git, "status", "--porcelain", "--untracked-files=no"], capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None, None
    if commit.returncode or inside.returncode:  # no clone, or installed into somebody else's repository
        return None, None
    return commit.stdout.strip(), bool(status.stdout.strip())


def _cpu() -> str:
    """Model name of the processor."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _gpu() -> str | None:
    """Name of the GPU that torch would use; torch is not imported for it."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return None
    return f"{torch.cuda.get_device_name()} (CUDA {torch.version.cuda})"


def _threads() -> int | None:
    torch = sys.modules.get("torch")
    return None if torch is None else int(torch.get_num_threads())
