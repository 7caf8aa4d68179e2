"""``wmbench.train``: from a registered name and a dataset to a checkpoint, resuming what was interrupted."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wmbench import checkpoints
from wmbench.banks import bank_of_resets, make_bank
from wmbench.cards import TaskCard
from wmbench.devices import torch_device
from wmbench.episodes import Dataset
from wmbench.errors import CheckpointError, DatasetError, NotRegisteredError, WmbenchError
from wmbench.provenance import versions
from wmbench.registration import task_card

WORK = "training"
"""Subfolder for what an unfinished training leaves, and its log."""
LOG = "log.jsonl"
"""One JSON object per epoch."""


@dataclass(frozen=True)
class Trained:
    """A checkpoint just written, or found finished.

    Attributes:
        folder: The checkpoint.
        model: The trained object, in evaluation mode.
        kept: Whether it was there already, from the same data, settings and seed.
    """

    folder: Path
    model: Any
    kept: bool


def train(
    name: str,
    task: TaskCard | str,
    dataset: Dataset | Path | str | None,
    out: Path | str,
    *,
    config: Any = None,
    preset: str | None = None,
    seed: int = 0,
    device: str = "cpu",
    progress: bool = True,
    bank_size: int = 256,
    **changes: Any,
) -> Trained:
    """Train a world model or a policy and write its checkpoint.

    Called again after an interruption it goes on where it stopped; after it has finished, it returns the checkpoint.

    Args:
        name: Registered name of a world model or policy that learns from data.
        task: Card, id or short name; must be the dataset's.
        dataset: A dataset or its folder; None lets a class that can (it has ``live``) act in the true simulator itself.
        out: Folder of the checkpoint.
        config: Settings of the class; None takes its defaults or the preset.
        preset: Name of one of the class's presets.
        seed: Of everything random in training.
        device: Torch device.
        progress: Whether to show progress.
        bank_size: Starts stored with a world model.
        **changes: Fields of the settings that differ from ``config`` or the preset.

    Returns:
        The checkpoint's folder and the trained object.

    Raises:
        NotRegisteredError: Nothing has that name.
        DatasetError: The dataset is of another task, or unusable.
        CheckpointError: ``out`` holds the outcome of another training.
        DeviceError: The device cannot be used here.
        WmbenchError: The class does not learn from data, the settings are not its own, or the seed is negative.
    """
    kind, cls = trainable(name)
    card = task_card(task) if isinstance(task, str) else task
    settings = settle(cls, config, preset, changes)
    torch_device(name, device)
    data = None
    if dataset is None:
        if not hasattr(cls, "live"):
            raise WmbenchError(f"{name!r} learns from data that are there: give a dataset")
        card = card.repeated(getattr(settings, "action_repeat", card.action_repeat))
    else:
        data = dataset if isinstance(dataset, Dataset) else Dataset(dataset)
        if isinstance(task, str):  # names the task; how often its actions repeat, the dataset says
            card = card.repeated(data.task.action_repeat)
        if (data.task.id, data.task.action_repeat) != (card.id, card.action_repeat):
            raise DatasetError(
                f"the dataset is of {data.task.id} at action_repeat={data.task.action_repeat}, training was asked for "
                f"{card.id} at action_repeat={card.action_repeat}"
            )
    folder = Path(out)
    identity = _identity(name, settings, seed, [data] if data else [], card)
    model = _finished(folder, identity, kind, card, device)
    if model is not None:
        return Trained(folder, model, kept=True)
    how: dict[str, Any] = {"folder": folder / WORK, "seed": seed, "device": device, "progress": progress}
    model = cls.fit(settings, data, **how) if data else cls.live(settings, card, **how)
    _save(model, folder, kind, identity, data, [data] if data else [], folder / WORK, bank_size)
    _clear(folder / WORK)
    return Trained(folder, model, kept=False)


def train_several(
    name: str,
    datasets: Sequence[Dataset | Path | str],
    out: Path | str,
    *,
    config: Any = None,
    preset: str | None = None,
    seed: int = 0,
    device: str = "cpu",
    progress: bool = True,
    bank_size: int = 256,
    **changes: Any,
) -> list[Trained]:
    """Train one model on the datasets of several tasks, and write a checkpoint for each task: ``out/TASK``.

    Called again after an interruption it goes on where it stopped.

    Args:
        name: Registered name of a model that can be of several tasks (its class has ``fit_several``).
        datasets: One for each task.
        out: Folder of the checkpoints.
        config: See :func:`train`, like the rest.
        preset: Name of one of the class's presets.
        seed: Of everything random in training.
        device: Torch device.
        progress: Whether to show progress.
        bank_size: Starts stored with each world model.
        **changes: Fields of the settings that differ from ``config`` or the preset.

    Returns:
        One for each dataset, in that order; all share the same weights.

    Raises:
        NotRegisteredError: Nothing has that name.
        DatasetError: Two datasets are of the same task, or one is unusable.
        CheckpointError: A task's folder holds the outcome of another training.
        DeviceError: The device cannot be used here.
        WmbenchError: The class learns one task at a time, the settings are not its own, or the seed is negative.
    """
    kind, cls = trainable(name)
    if not hasattr(cls, "fit_several"):
        raise WmbenchError(f"{name!r} learns one task at a time: give one task and one dataset")
    settings = settle(cls, config, preset, changes)
    torch_device(name, device)
    found = [data if isinstance(data, Dataset) else Dataset(data) for data in datasets]
    cards = [data.task for data in found]
    if twice := sorted({c.name for c in cards if [x.id for x in cards].count(c.id) > 1}):
        raise DatasetError(f"two datasets are of {', '.join(twice)}: merge those of one task first (wmbench merge)")
    folders = [Path(out) / card.name for card in cards]
    identities = [_identity(name, settings, seed, found, card) for card in cards]
    each = list(zip(folders, identities, cards, strict=True))
    there = [_finished(folder, identity, kind, card, device) for folder, identity, card in each]
    if all(model is not None for model in there):
        return [Trained(folder, model, kept=True) for folder, model in zip(folders, there, strict=True)]
    work = Path(out) / WORK
    models = cls.fit_several(settings, found, folder=work, seed=seed, device=device, progress=progress)
    for model, folder, identity, data in zip(models, folders, identities, found, strict=True):
        _save(model, folder, kind, identity, data, found, work, bank_size)
    _clear(work)
    return [Trained(folder, model, kept=False) for model, folder in zip(models, folders, strict=True)]


def _identity(name: str, settings: Any, seed: int, data: Sequence[Dataset], card: TaskCard) -> dict[str, Any]:
    """What tells one training from another.

    Raises:
        WmbenchError: The seed is negative.
    """
    if seed < 0:
        raise WmbenchError(f"{name}: a seed must not be negative, got {seed}")
    return {
        "name": name,
        "config": checkpoints.plain(settings),
        "seed": seed,
        "dataset": "+".join(one.digest for one in data) or None,
        "task_digest": card.digest(),
    }


def _finished(folder: Path, identity: dict[str, Any], kind: str, card: TaskCard, device: str) -> Any:
    """The outcome of this training if the folder holds it, None if it is no checkpoint yet.

    Raises:
        CheckpointError: It holds another one.
    """
    if not (folder / checkpoints.CONFIG).exists():
        return None
    found = checkpoints.read_config(folder)["provenance"]
    if differ := sorted(key for key, value in identity.items() if found.get(key) != value):
        raise CheckpointError(f"{folder} holds another training (it differs in {', '.join(differ)}); choose another")
    return checkpoints.load(folder, kind=kind, task=card, device=device)


def _save(
    model: Any,
    folder: Path,
    kind: str,
    identity: dict[str, Any],
    data: Dataset | None,
    every: Sequence[Dataset],
    work: Path,
    bank_size: int,
) -> None:
    """Write a checkpoint with its starts, and how it came about: from its own task's data, and from all of them."""
    card, seed = model.task, identity["seed"]
    bank = None
    if kind == "world_model":
        bank = make_bank(data, bank_size, seed) if data else bank_of_resets(card, bank_size, seed)
    tasks = " ".join(one.task.name for one in every) or card.name
    given = " --dataset " + " ".join(one.folder.name for one in every) if every else ""
    made = identity | {
        "command": f"wmbench train {identity['name']} --task {tasks}{given} --seed {seed}",
        "episodes": data.manifest["counts"] if data else None,
        "outcome": _last_line(work / LOG),
        "versions": versions(),
    }
    checkpoints.save(model, folder, kind=kind, name=identity["name"], bank=bank, provenance=made)


def _clear(work: Path) -> None:
    """Remove what only an unfinished training needs; its log stays."""
    for leftover in work.iterdir() if work.exists() else ():
        if leftover.name != LOG:
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()


def _last_line(log: Path) -> dict[str, Any] | None:
    """The last epoch of a log, None if there is none."""
    lines = log.read_text().splitlines() if log.exists() else []
    return json.loads(lines[-1]) if lines else None


def trainable(name: str) -> tuple[str, Any]:
    """Kind and class of something that learns from data.

    Returns:
        ``"world_model"``, ``"policy"`` or ``"inverse_model"``, and the class.

    Raises:
        NotRegisteredError: Nothing has that name.
        WmbenchError: A world model and a policy share it, or it does not learn from data.
    """
    kinds = [kind for kind, group in checkpoints.KINDS.items() if name in group.names()]
    if not kinds:
        known = sorted(n for group in checkpoints.KINDS.values() for n in group.names())
        raise NotRegisteredError(f"no world model or policy is called {name!r}: known are {', '.join(known)}")
    if "world_model" in kinds and checkpoints.acts_by(name):
        kinds = ["world_model"]
    if len(kinds) > 1:
        raise WmbenchError(f"{name!r} is both a {kinds[0]} and a {kinds[1]}; rename one")
    cls = checkpoints.KINDS[kinds[0]].load(name)
    if not hasattr(cls, "fit"):
        raise WmbenchError(f"{name!r} does not learn from a dataset; use it by name")
    return kinds[0], cls


def settle(cls: Any, config: Any, preset: str | None, changes: Mapping[str, Any]) -> Any:
    """The settings of a training: a preset, the given ones or the defaults, with some fields changed.

    Raises:
        WmbenchError: No such preset or field, or a value the class refuses.
    """
    if preset is not None:
        presets: Mapping[str, Any] = getattr(cls, "PRESETS", {})
        if config is not None:
            raise WmbenchError("give settings or a preset, not both")
        if preset not in presets:
            raise WmbenchError(f"{cls.__name__} has no preset {preset!r}: known are {', '.join(presets) or 'none'}")
        config = presets[preset]
    try:
        base = cls.Config() if config is None else config
        return dataclasses.replace(base, **changes)
    except (TypeError, ValueError) as error:
        raise WmbenchError(f"{cls.__name__}: {error}") from error
