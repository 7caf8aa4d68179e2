"""A full measurement: every recording that the subjects allow, kept where it is there already."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from wmbench import __version__, checkpoints, registry
from wmbench.cards import TaskCard
from wmbench.collecting import NoisyPolicy
from wmbench.episodes import Dataset
from wmbench.errors import DatasetError, WmbenchError
from wmbench.evaluating import make_policy
from wmbench.frozen_sets import open_dataset
from wmbench.measuring.calls import Measured
from wmbench.protocols import Policy
from wmbench.recording import Recording
from wmbench.recording.recorder import Recorder, Subjects
from wmbench.threads import one_thread

NOISY = re.compile(r"^(?P<reference>.+)\+noise(?P<level>\d*\.?\d+)$")
"""``actor+noise0.3``: a policy whose actions get Gaussian noise of so many half widths of the action box."""

Event = Callable[[str, str, float], None]
"""Called with a recording's name, ``"start"``, ``"done"``, ``"kept"`` or why it was left out, and seconds."""


def gather_subjects(
    dataset: Dataset | Path | str,
    models: Sequence[str] | Mapping[str, str],
    policies: Sequence[str] | Mapping[str, str] = (),
    *,
    expert: str | None = None,
    seed: int = 0,
    device: str = "cpu",
) -> Subjects:
    """Load what is to be measured.

    Args:
        dataset: Of the task, a folder, or ``frozen:TASK``.
        models: World models by registered name or checkpoint folder, or name to such a reference.
        policies: The same for policies; ``REFERENCE+noise0.3`` adds Gaussian noise to the actions.
        expert: Name of the policy that stands for good behaviour; the first one if None.
        seed: Root of every random choice.
        device: Torch device.

    Raises:
        CheckpointError: A reference names nothing for this task.
        DatasetError: The dataset cannot be read.
        WmbenchError: Two references of the same name, or an expert who is not among the policies.
    """
    data = dataset if isinstance(dataset, Dataset) else open_dataset(dataset)
    worlds, actors = _named(models), _named(policies)
    loaded = {n: checkpoints.resolve(r, data.task, kind="world_model", device=device) for n, r in worlds.items()}
    acting = {n: read_policy(r, data.task, device=device) for n, r in actors.items()}
    best = expert or next(iter(acting), None)
    if best is not None and best not in acting:
        raise WmbenchError(f"the expert {best!r} is not among the policies: {', '.join(acting) or 'there are none'}")
    where = {n: str(Path(r).resolve()) if Path(r).exists() else r for n, r in worlds.items()}
    identity: dict[str, Any] = {n: _identity(r, data.task, "world_model") for n, r in worlds.items()}
    identity |= {f"policy {n}": [r, _identity(plain_reference(r), data.task, "policy")] for n, r in actors.items()}
    return Subjects(data, loaded, where, acting, best, seed, device, identity)


def read_policy(reference: str, task: TaskCard, *, device: str = "cpu") -> Policy:
    """The policy behind a reference, with noise if it asks for some: ``actor+noise0.3``."""
    plain = plain_reference(reference)
    policy = make_policy(plain, task, device=device)
    return policy if plain == reference else NoisyPolicy(policy, task, float(reference[len(plain + "+noise") :]))


def plain_reference(reference: str) -> str:
    """A policy's reference without its noise."""
    noisy = NOISY.match(reference)
    return reference if noisy is None or Path(reference).exists() else noisy["reference"]


def measure_all(
    subjects: Subjects,
    out: Path | str | None = None,
    *,
    only: Sequence[str] = (),
    options: Mapping[str, Mapping[str, Any]] | None = None,
    event: Event = lambda *_: None,
) -> dict[str, Measured]:
    """Make every recording, and apply every measure that reads it.

    Args:
        subjects: What is measured.
        out: Folder for the recordings, ``NAME.safetensors`` each. One that is there from the same subjects, seed,
            options and version is kept, so that an interrupted measurement goes on.
        only: Names of recordings; without it all but those that take minutes or want the machine to themselves.
        options: Name of a recording to options that replace its recorder's own.
        event: Told what happens.

    Returns:
        Name of each recording to what it and its measures gave.

    Raises:
        NotRegisteredError: No such recorder.
        DatasetError: Something cannot be recorded, or the names asked for can be recorded of none of these subjects.
    """
    done: dict[str, Measured] = {}
    for recorder in chosen_recorders(only):
        if why := recorder.why_not(subjects):
            if only:
                raise DatasetError(why)
            event(recorder.name, why, 0.0)
            continue
        began = time.perf_counter()
        event(recorder.name, "start", 0.0)
        with one_thread() if recorder.full else nullcontext():  # timings want what the user has
            recording, kept = _recording(recorder, subjects, out, dict((options or {}).get(recorder.name, {})))
        done[recorder.name] = Measured(recording, recording.every_result())
        event(recorder.name, "kept" if kept else "done", time.perf_counter() - began)
    return done


def chosen_recorders(only: Sequence[str] = ()) -> list[Recorder]:
    """The recorders of these names, or those of a full measurement; what needs no policy comes first.

    Raises:
        NotRegisteredError: No such recorder.
    """
    chosen = [registry.recorders.load(n) for n in only] or [r for _, r in registry.recorders if r.full]
    return sorted(chosen, key=lambda r: r.policies)


def _recording(
    recorder: Recorder, subjects: Subjects, out: Path | str | None, options: dict[str, Any]
) -> tuple[Recording, bool]:
    """A recording, and whether it was there."""
    if out is None:
        return recorder(subjects, **options), False
    path, key = Path(out) / f"{recorder.name}.safetensors", _key(recorder, subjects, options)
    if path.exists() and subjects.identity:
        recording = Recording.load(path)
        needs = registry.measures.load(recording.measure).needs
        if recording.meta.get("key") == key and all(name in recording.arrays for name in needs):
            return recording, True  # an older version may have recorded less than is read today
    recording = recorder(subjects, **options)
    recording.meta["key"] = key
    recording.save(path)
    return recording, False


def _key(recorder: Recorder, subjects: Subjects, options: dict[str, Any]) -> str:
    """Digest of everything that a recording depends on, as far as it can be told without making it."""
    parts = [__version__, recorder.name, subjects.task.digest(), subjects.dataset.digest, subjects.identity]
    text = json.dumps([*parts, subjects.expert, subjects.seed, subjects.device, options], sort_keys=True, default=repr)
    return hashlib.sha256(text.encode()).hexdigest()


def _identity(reference: str, task: TaskCard, kind: str) -> str:
    """SHA-256 of a checkpoint's files; the name of what needs none."""
    folder = checkpoints.find(reference, task, kind=kind)
    if folder is None:
        return reference
    digest = hashlib.sha256()
    for path in sorted([*folder.glob("*.safetensors"), *folder.glob("config.json")]):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def _named(references: Sequence[str] | Mapping[str, str]) -> dict[str, str]:
    """References by name: the last part of a folder."""
    if isinstance(references, Mapping):
        return dict(references)
    found: dict[str, str] = {}
    for reference in references:
        name = Path(reference).name
        if name in found:
            raise WmbenchError(f"both {found[name]} and {reference} would be called {name!r}: name them apart")
        found[name] = reference
    return found
