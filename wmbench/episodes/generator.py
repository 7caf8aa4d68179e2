"""What made a dataset: the version of this package and its commit, as far as they can be known."""

from __future__ import annotations

import subprocess
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import wmbench


@cache
def generator() -> dict[str, Any]:
    """Version and git commit of the running code; the commit is None, with the reason, outside a checkout."""
    commit, reason = _commit(Path(wmbench.__file__).parent)
    return {
        "wmbench": wmbench.__version__,
        "commit": commit,
        "commit_missing": reason,
        "versions": {name: version(name) for name in ("gymnasium", "mujoco", "dm-control", "numpy")},
    }


def _commit(folder: Path) -> tuple[str | None, str | None]:
    """The commit of a folder's checkout, marked if files differ from it; or None and why."""
    try:
        root = _git(folder, "rev-parse", "--show-toplevel")
        if not (Path(root) / "wmbench" / "__init__.py").exists():  # installed inside somebody else's repository
            return None, "not a git checkout of wmbench"
        commit = _git(folder, "rev-parse", "HEAD")
        changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    except FileNotFoundError:
        return None, "git is not installed"
    except subprocess.CalledProcessError:
        return None, "not a git checkout"
    return commit + ("-modified" if changed else ""), None


def _git(folder: Path, *words: str) -> str:
    done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, check=True)
    return done.stdout.strip()
