"""Frozen policies of a task with what each truly scores, found through entry points: what simulators are ranked by."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from wmbench import registry
from wmbench.cards import TaskCard
from wmbench.episodes.storage import file_hash
from wmbench.errors import CheckpointError, NotRegisteredError

FORMAT = 1
FIELDS = {"seed": (1, "int64"), "length": (2, "int64"), "returns": (3, "float64"), "success": (3, "bool")}
"""Arrays of the truth, with axes and dtype."""


@dataclass(frozen=True)
class Member:
    """One policy of a zoo.

    Attributes:
        name: Unique in the zoo.
        reference: What the suite calls it: a registered name or shipped checkpoint, with ``+noise0.3`` if its actions
            are disturbed.
        algorithm: How it came about: ``"random"``, ``"scripted"``, ``"SAC"``, ``"PPO"``, ``"TD3"``, ``"BC"``.
        note: A sentence about it.
        weights: SHA-256 of its checkpoint's weights, ``""`` if it has none.
    """

    name: str
    reference: str
    algorithm: str
    note: str = ""
    weights: str = ""


@dataclass(frozen=True)
class Zoo:
    """The policies of a task, and their frozen true results.

    Attributes:
        task: The task.
        members: K policies.
        horizon: (H,) steps after which outcomes are counted, ascending; the last is the task's own.
        seed: (E,) int64, the episodes' seeds, the same for every policy.
        returns: (H, K, E) float64, undiscounted, up to each horizon.
        success: (H, K, E) bool, by the card's rule, up to each horizon.
        length: (K, E) int64, steps.
        facts: How and where the truth was found: command, provenance.
        digest: SHA-256 over members and truth.
    """

    task: TaskCard
    members: tuple[Member, ...]
    horizon: tuple[int, ...]
    seed: np.ndarray
    returns: np.ndarray
    success: np.ndarray
    length: np.ndarray
    facts: Mapping[str, Any]
    digest: str

    def pick(self, names: Sequence[str]) -> Zoo:
        """The zoo with only some members, in the order given; all of them if no name is.

        Raises:
            NotRegisteredError: A name that is not in the zoo.
        """
        if not names:
            return self
        known = [member.name for member in self.members]
        if strange := [name for name in names if name not in known]:
            raise NotRegisteredError(f"the zoo of {self.task.id} has no {strange[0]!r}: there are {', '.join(known)}")
        rows = [known.index(name) for name in names]
        return Zoo(
            self.task,
            tuple(self.members[i] for i in rows),
            self.horizon,
            self.seed,
            self.returns[:, rows],
            self.success[:, rows],
            self.length[rows],
            self.facts,
            self.digest,
        )


def load_zoo(task: TaskCard) -> Zoo:
    """The zoo that an installed package ships for a task, checked against its digests.

    Raises:
        NotRegisteredError: No package ships one for this task; those that have one are named.
        CheckpointError: It was made for another version of the task, or its files are not as they were written.
    """
    shipped = shipped_zoos()
    if task.id not in shipped:
        names = ", ".join(sorted(name.removeprefix("wmbench/").rsplit("-v", 1)[0] for name in shipped))
        raise NotRegisteredError(
            f"no zoo of policies is shipped for {task.id}; there are zoos for {names or 'no task'}"
        )
    return read_zoo(shipped[task.id], task)


@cache
def shipped_zoos() -> dict[str, Path]:
    """Task id to the description of its zoo, a JSON file beside its arrays, of every installed package."""
    found: dict[str, Path] = {}
    for _, list_zoos in registry.zoos:
        found.update(list_zoos())
    return found


def read_zoo(path: Path, task: TaskCard) -> Zoo:
    """Read a zoo's description ``NAME.json`` and its arrays ``NAME.safetensors``.

    Raises:
        CheckpointError: See :func:`load_zoo`.
    """
    try:
        data = json.loads(path.read_text())
        arrays = load_file(path.with_suffix(".safetensors"))
        members = tuple(Member(**member) for member in data["members"])
        horizon, digest = tuple(data["horizon"]), str(data["digest"])
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: not a zoo of policies ({type(error).__name__}: {error})") from error
    if data.get("format") != FORMAT:
        raise CheckpointError(f"{path}: format {data.get('format')!r}, this version reads {FORMAT}")
    if data["task"] != task.id or data["task_digest"] != task.digest():
        raise CheckpointError(
            f"{path}: made for {data['task']} with digest {data['task_digest'][:12]}, the task here is {task.id} with "
            f"{task.digest()[:12]}: make the zoo anew"
        )
    if (found := digest_of(members, path.with_suffix(".safetensors"))) != digest:
        raise CheckpointError(f"{path}: its digest says {digest[:12]}, the files give {found[:12]}: restore them")
    sizes = {"H": len(horizon), "K": len(members), "E": len(arrays.get("seed", ()))}
    shapes = {"seed": "E", "length": "KE", "returns": "HKE", "success": "HKE"}
    for name, (_, dtype) in FIELDS.items():
        expected = tuple(sizes[axis] for axis in shapes[name])
        if name not in arrays or arrays[name].shape != expected or arrays[name].dtype != np.dtype(dtype):
            raise CheckpointError(f"{path}: the array {name!r} is missing or not {dtype} {expected}")
    facts = {key: data[key] for key in ("command", "provenance") if key in data}
    return Zoo(task, members, horizon, **{name: arrays[name] for name in FIELDS}, facts=facts, digest=digest)


def digest_of(members: Sequence[Member], arrays: Path) -> str:
    """SHA-256 over the members as JSON and the file of the truth."""
    import hashlib

    text = json.dumps([asdict(member) for member in members], sort_keys=True)
    return hashlib.sha256((text + file_hash(arrays)).encode()).hexdigest()
