"""Where a step of a run finds what earlier steps made."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from wmbench.runs.pipeline import Context
from wmbench.runs.plan import Plan


def extra_models(plan: Plan) -> list[str]:
    """The plan's further models, folders made absolute."""
    return [str(Path(m).resolve()) if Path(m).exists() else m for m in plan.models]


def label(reference: str) -> str:
    """What results call a model: the last part of a folder."""
    return Path(reference).name


def run_folder(context: Context) -> Path:
    """The run's folder."""
    return context.folder.parent.parent


def relative(context: Context) -> str:
    """This step's folder, from the run's."""
    return str(context.folder.relative_to(run_folder(context)))


def checkpoint_path(context: Context, step: str) -> str:
    """Absolute path of a checkpoint that an earlier step wrote."""
    return str((run_folder(context) / context.records[step]["checkpoint"]).resolve())


def dataset_path(context: Context) -> Path:
    """The folder that the collecting step filled."""
    return run_folder(context) / context.records["collect"]["dataset"]


def dataset(context: Context) -> Any:
    """What the collecting step collected."""
    from wmbench.episodes import Dataset

    return Dataset(dataset_path(context))


def file_digest(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
