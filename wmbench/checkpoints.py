"""Checkpoints: safetensors plus checked JSON, loaded by registered name; no pickle is ever opened."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import typing
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from wmbench import registry
from wmbench.cards import ModelCard, TaskCard
from wmbench.errors import CardError, CheckpointError, NotRegisteredError
from wmbench.files import write_atomically, write_json
from wmbench.registration import shipped_checkpoints, task_card

FORMAT = 1
WEIGHTS = "model.safetensors"
CONFIG = "config.json"
BANK = "bank.safetensors"
KINDS = {
    "world_model": registry.world_models,
    "policy": registry.policies,
    "inverse_model": registry.inverse_models,
}
PICKLES = {".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".bin", ".zip"}


def save_tensors(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    """Write tensors atomically as safetensors."""
    plain = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
    write_atomically(path, lambda temporary: save_file(plain, temporary))


def load_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Read safetensors.

    Raises:
        CheckpointError: The file is absent, a pickle, or damaged.
    """
    if path.suffix in PICKLES:
        raise CheckpointError(f"{path}: pickles can run code and are never loaded; save as safetensors")
    try:
        return load_file(path)
    except FileNotFoundError:
        raise CheckpointError(f"{path} does not exist") from None
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is not a safetensors file or is damaged: {error}") from error


def save(
    model: Any,
    folder: Path | str,
    *,
    kind: str,
    name: str,
    bank: dict[str, torch.Tensor] | None = None,
    provenance: dict[str, Any] | None = None,
) -> Path:
    """Write a trained model or policy to a folder.

    Args:
        model: A ``torch.nn.Module`` with ``config``, ``task`` and ``card``.
        folder: Created if absent.
        kind: ``"world_model"``, ``"policy"`` or ``"inverse_model"``.
        name: Its registered name.
        bank: Starts for the learned twin, fields of :class:`wmbench.protocols.Start` to (N, ...) tensors.
        provenance: Plain data on how it came about (command, seed, dataset digest, scores).

    Raises:
        CheckpointError: A weight is not finite: nothing is written.
    """
    folder = Path(folder)
    weights = model.state_dict()
    _refuse_nonfinite(weights, folder / WEIGHTS)
    if bank is not None:
        _refuse_nonfinite(bank, folder / BANK)
    folder.mkdir(parents=True, exist_ok=True)
    for old in (CONFIG, BANK):  # without a config a folder is no checkpoint: it goes first and comes last
        (folder / old).unlink(missing_ok=True)
    if bank is not None:
        save_tensors(folder / BANK, bank)
    save_tensors(folder / WEIGHTS, weights)
    write_json(
        folder / CONFIG,
        {
            "format": FORMAT,
            "kind": kind,
            "name": name,
            "config": dataclasses.asdict(model.config),
            "card": model.card.to_json() if isinstance(model.card, ModelCard) else model.card,
            "task": model.task.id,
            "task_digest": model.task.digest(),
            **model.task.options(),
            "provenance": provenance or {},
        },
    )
    return folder


def read_config(folder: Path | str) -> dict[str, Any]:
    """The checked contents of a checkpoint's ``config.json``.

    Raises:
        CheckpointError: Absent, not JSON, of another format, or with fields missing.
    """
    path = Path(folder) / CONFIG
    if Path(folder).suffix in PICKLES or Path(folder).is_file():
        raise CheckpointError(
            f"{folder} is a file: a checkpoint is a folder with {WEIGHTS} and {CONFIG}; pickles are never loaded"
        )
    try:
        data = json.loads(path.read_text())
    except FileNotFoundError:
        raise CheckpointError(f"{path} does not exist: not a checkpoint folder") from None
    except ValueError as error:  # of the JSON, or of its bytes
        raise CheckpointError(f"{path} is not JSON: {error}") from error
    if not isinstance(data, dict):
        raise CheckpointError(f"{path}: an object is expected, got {type(data).__name__}")
    if data.get("format") != FORMAT:
        raise CheckpointError(f"{path}: format {data.get('format')!r}, this version reads {FORMAT}")
    kinds = {"config": dict, "card": dict, "provenance": dict}
    for key in ("kind", "name", "config", "card", "task", "task_digest", "provenance"):
        if key not in data:
            raise CheckpointError(f"{path}: the field {key!r} is missing")
        if not isinstance(data[key], kinds.get(key, str)):
            raise CheckpointError(f"{path}: the field {key!r} must be a {kinds.get(key, str).__name__}")
    if data["kind"] not in KINDS:
        raise CheckpointError(f"{path}: unknown kind {data['kind']!r}, expected one of {sorted(KINDS)}")
    return data


def load(folder: Path | str, *, kind: str, task: TaskCard | str | None = None, device: str = "cpu") -> Any:
    """Rebuild a model or policy from its folder.

    Args:
        folder: As :func:`save` wrote it.
        kind: What is expected, ``"world_model"``, ``"policy"`` or ``"inverse_model"``.
        task: The task it is wanted for; None accepts the checkpoint's own.
        device: Torch device.

    Returns:
        An instance of the registered class, in evaluation mode.

    Raises:
        CheckpointError: Unreadable, unsafe, non-finite, of another kind, or made for another task.
    """
    folder = Path(folder)
    data = read_config(folder)
    path = folder / CONFIG
    if kind == "policy" and data["kind"] == "world_model" and (acting := acts_by(data["name"])):
        return acting.of_world_model(load(folder, kind="world_model", task=task, device=device))
    if data["kind"] != kind:
        raise CheckpointError(f"{path}: this is a {data['kind']}, a {kind} is needed")
    try:
        cls = KINDS[kind].load(data["name"])
    except NotRegisteredError as error:
        raise CheckpointError(f"{path} names an unknown class: {error}") from error
    try:
        own = task_card(data["task"])
    except NotRegisteredError as error:
        raise CheckpointError(f"{path} was made for a task that is not installed: {error}") from error
    try:
        own = own.repeated(data.get("action_repeat", 1))
    except CardError as error:
        raise CheckpointError(f"{path}: {error}") from error
    wanted = task_card(task) if isinstance(task, str) else task
    if wanted is not None and wanted.id != own.id:
        raise CheckpointError(f"{path}: made for {own.id}, asked for {wanted.id}")
    if wanted is not None and wanted.action_repeat != own.action_repeat:
        raise CheckpointError(
            f"{path}: made for {own.id} at action_repeat={own.action_repeat}, "
            f"asked for action_repeat={wanted.action_repeat}"
        )
    if data["task_digest"] != own.digest():
        raise CheckpointError(f"{path}: {own.id} has changed since this checkpoint was made; train it again")
    model = cls(parse_config(cls.Config, data["config"], path), own)
    weights = load_tensors(folder / WEIGHTS)
    _refuse_nonfinite(weights, folder / WEIGHTS)
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise CheckpointError(f"{folder / WEIGHTS} does not fit its config: {' '.join(str(error).split())}") from error
    if kind == "world_model":
        try:
            model.card = ModelCard.from_json(data["card"])
        except CardError as error:
            raise CheckpointError(f"{path}: {error}") from error
    return model.to(device).eval()


def acts_by(name: str) -> Any:
    """The policy class that acts by a world model of this registered name; None if there is none."""
    cls = registry.policies.load(name) if name in registry.policies.names() else None
    return cls if hasattr(cls, "of_world_model") else None


def load_bank(folder: Path | str) -> dict[str, torch.Tensor] | None:
    """The starts stored beside a world model, or None.

    Raises:
        CheckpointError: The file is damaged or holds non-finite numbers.
    """
    path = Path(folder) / BANK
    if not path.exists():
        return None
    bank = load_tensors(path)
    _refuse_nonfinite(bank, path)
    return bank


def find(reference: str, task: TaskCard, *, kind: str) -> Path | None:
    """The folder behind a reference: a path, or the name of something shipped for this task.

    Args:
        reference: A checkpoint folder, or a registered name.
        task: The task it is wanted for.
        kind: ``"world_model"``, ``"policy"`` or ``"inverse_model"``.

    Returns:
        The folder; None for a registered class that needs no checkpoint (it has ``for_task``).

    Raises:
        CheckpointError: Neither a folder nor a name that is shipped for this task; says what is.
    """
    if Path(reference).exists():
        return Path(reference)
    if os.sep in reference or Path(reference).suffix in PICKLES:
        raise CheckpointError(f"there is no checkpoint folder {reference}")
    shipped = shipped_checkpoints()
    if (reference, task.id) in shipped:
        return shipped[reference, task.id]
    try:
        cls = KINDS[kind].load(reference)
    except NotRegisteredError as error:
        raise CheckpointError(
            f"{reference!r} is neither a checkpoint folder nor a registered {kind}: {error}"
        ) from error
    if hasattr(cls, "for_task"):
        return None
    there = sorted(t for n, t in shipped if n == reference)
    raise CheckpointError(
        f"no {reference!r} is shipped for {task.id} (there is one for {', '.join(there) or 'no task'}): "
        f"train it with  wmbench train {reference} --task {task.name} --dataset FOLDER  and give the folder it writes"
    )


def resolve(reference: str, task: TaskCard, *, kind: str, device: str = "cpu") -> Any:
    """Load what a reference names, see :func:`find`; classes that need no checkpoint are built for the task."""
    folder = find(reference, task, kind=kind)
    if folder is None:
        return KINDS[kind].load(reference).for_task(task, device=device)
    return load(folder, kind=kind, task=task, device=device)


def digest(model: Any) -> str:
    """SHA-256 over the names, types, shapes and contents of everything in a module's state dict."""
    found = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        array = tensor.detach().cpu().contiguous().numpy()
        found.update(f"{name} {array.dtype.str} {array.shape};".encode() + array.tobytes())
    return found.hexdigest()


def plain(config: Any) -> dict[str, Any]:
    """A config dataclass as JSON gives it back, so that it compares equal to one read from a file."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def parse_config(cls: type, data: Any, path: Path) -> Any:
    """Check plain data against a config dataclass, field by field.

    Raises:
        CheckpointError: An unknown or missing field, or a value of the wrong type.
    """
    if not isinstance(data, dict):
        raise CheckpointError(f"{path}: config must be an object, got {type(data).__name__}")
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls)}
    if unknown := sorted(set(data) - set(fields)):
        raise CheckpointError(f"{path}: unknown config fields {unknown}; {cls.__qualname__} has {sorted(fields)}")
    values: dict[str, Any] = {}
    for name, value in data.items():
        value = _tuples(value)
        if not _fits(value, hints[name]):
            raise CheckpointError(f"{path}: config field {name!r} is {value!r}, expected {hints[name]}")
        values[name] = value
    try:
        return cls(**values)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: {error}") from error


def _tuples(value: Any) -> Any:
    """JSON's lists as tuples, all the way down."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _fits(value: Any, hint: Any) -> bool:
    """Whether a plain value matches a type hint made of scalars, tuples, unions and literals."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return value in args
    if origin is tuple:
        kinds = args[:1] * len(value) if isinstance(value, tuple) and args[1:] == (...,) else args
        return isinstance(value, tuple) and len(kinds) == len(value) and all(map(_fits, value, kinds))
    if args:
        return any(_fits(value, a) for a in args)
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint is None or hint is type(None):
        return value is None
    return isinstance(value, hint)


def _refuse_nonfinite(tensors: dict[str, torch.Tensor], path: Path) -> None:
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(f"{path}: {name!r} holds NaN or infinite numbers; such weights are refused")
