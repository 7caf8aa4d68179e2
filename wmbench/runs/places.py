"""Where a step of a run finds what earlier steps made."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from wmbench import checkpoints
from wmbench.cards import TaskCard
from wmbench.errors import CheckpointError, WmbenchError
from wmbench.registration import task_card
from wmbench.runs.pipeline import Context
from wmbench.runs.plan import Plan


def extra_models(plan: Plan, task: TaskCard) -> dict[str, str]:
    """Those of the plan's further models that are there for the task: label to reference."""
    return _extra(plan.models, task, "world_model")


def extra_policies(plan: Plan, task: TaskCard) -> dict[str, str]:
    """Those of the plan's further policies that are there for the task: label to reference."""
    return _extra(plan.policies, task, "policy")


def check_extras(plan: Plan) -> None:
    """Refuse further models and policies that a run could not use, before it works for minutes.

    Raises:
        CheckpointError: One is nothing for any of the plan's tasks, or was made for repeated actions.
        WmbenchError: Two of a task have the same label, or one has a label of the run's own.
    """
    cards = [task_card(task) for task in plan.tasks]
    name = plan.demonstrator
    zoo = {"random", "zero", "bc", name, f"{name}-medium", *(f"{name}+noise{x:g}" for x in plan.zoo_noise)}
    own = {"world_model": {"true", "ensemble"}, "policy": zoo}
    for kind, references in (("world_model", plan.models), ("policy", plan.policies)):
        for reference in references:
            reasons = [why for card in cards if (why := _why_not(reference, card, kind)) is not None]
            if len(reasons) == len(cards):
                raise CheckpointError(reasons[0])
        for card in cards:
            fit = [r for r in references if _why_not(r, card, kind) is None]
            labels = [label(r) for r in fit]
            if twice := sorted({x for x in labels if labels.count(x) > 1 or x in own[kind]}):
                raise WmbenchError(f"{card.id}: two subjects would be called {', '.join(twice)}; rename a folder")


def _extra(references: tuple[str, ...], task: TaskCard, kind: str) -> dict[str, str]:
    """Label to reference, folders made absolute, of what is there for the task."""
    fit = [r for r in references if _why_not(r, task, kind) is None]
    return {label(r): str(Path(r).resolve()) if Path(r).exists() else r for r in fit}


def _why_not(reference: str, task: TaskCard, kind: str) -> str | None:
    """Why a reference is nothing for a task, None if it is something."""
    from wmbench.measuring.everything import plain_reference

    plain = plain_reference(reference) if kind == "policy" else reference
    try:
        folder = checkpoints.find(plain, task, kind=kind)
        if folder is None:
            return None
        found = checkpoints.read_config(folder)
    except CheckpointError as error:
        return str(error)
    if found["task"] != task.id:
        return f"{folder}: made for {found['task']}, which is none of this run's tasks: choose them with --tasks"
    if (repeat := found.get("action_repeat", 1)) != 1:
        return (
            f"{folder}: made for {task.id} at action_repeat={repeat}; in a run every action is one control step. Train "
            f"it with --action-repeat 1, or measure it on repeated actions:  wmbench collect {task.name} "
            f"--action-repeat {repeat}  and  wmbench record --dataset FOLDER --models {reference}"
        )
    return None


def label(reference: str) -> str:
    """What results call a model or a policy: the last part of a folder."""
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
