"""``wmbench.merge``: several datasets of one task as one, and by which fields two that look alike differ."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wmbench.cards import TaskCard
from wmbench.episodes import Dataset, DatasetWriter
from wmbench.episodes.data import SPLITS, EpisodeData, check_fractions
from wmbench.episodes.starts import start_hashes
from wmbench.episodes.storage import MANIFEST, read_manifest
from wmbench.errors import CardError, DatasetError
from wmbench.files import fresh_folder
from wmbench.progress import progress

Differences = dict[str, tuple[Any, Any]]
"""Name of a field to its two values."""

COUNTED = frozenset({"episodes", "steps", "counts", "stats", "starts", "shards", "files"})
"""Entries of a manifest that follow from the episodes."""

CARD = frozenset({"task", "task_digest", "control_hz", "action_convention", "action", "observation"})
"""Entries that repeat what the task card says."""

MAKING = frozenset({"split", "split_within", "plan", "recipe", "shard_bytes", "generators"})
"""Entries on how the episodes came about, which may differ between datasets that belong together."""


def facts(dataset: Dataset) -> dict[str, Any]:
    """What a manifest says beside the card, the counts and how the episodes came about: the view, the world, ..."""
    known = COUNTED | CARD | MAKING | {"format", "fields"}
    return {key: value for key, value in dataset.manifest.items() if key not in known}


def card_differences(first: TaskCard, second: TaskCard) -> Differences:
    """Every field of two cards that decides what the task is and differs, long ones entry by entry."""
    one, other = ({"action_repeat": 1} | card.behaviour() for card in (first, second))
    return _differences(one, other)


def dataset_differences(first: Dataset, second: Dataset) -> Differences:
    """Every field by which two datasets differ that makes mixing them wrong: of the card, the view, what is stored."""
    return (
        card_differences(first.task, second.task)
        | _differences(facts(first), facts(second))
        | _differences({"fields": first.fields}, {"fields": second.fields})
    )


def sentence(differences: Differences) -> str:
    """The differences as words, ``name: one / other``."""
    return "; ".join(f"{name}: {_short(one)} / {_short(other)}" for name, (one, other) in differences.items())


def merge(datasets: Sequence[Dataset | Path | str], out: Path | str, *, show_progress: bool = False) -> Dataset:
    """Put the episodes of several datasets of one task into one, each in the split it was in.

    Args:
        datasets: Two or more datasets or their folders, in order.
        out: New folder.
        show_progress: Whether to show a progress line.

    Returns:
        The new dataset. Its manifest's plan lists the digests and plans of the parts.

    Raises:
        DatasetError: They differ in action convention, control rate, action repeat, cameras, world, version or any
            other field that the cards and manifests have (all are named); ``out`` exists; the same episode
            is in two of them, or an episode for testing in one begins as one for training in another.
    """
    parts = [data if isinstance(data, Dataset) else _open(Path(data)) for data in datasets]
    if len(parts) < 2:
        raise DatasetError(f"merging needs two datasets or more, got {len(parts)}")
    first = parts[0]
    for other in parts[1:]:
        if first.task.name != other.task.name:
            raise DatasetError(
                f"{first.folder} and {other.folder} must not be mixed: they are of two tasks, {first.task.id} and "
                f"{other.task.id}"
            )
        if differing := dataset_differences(first, other):
            raise DatasetError(f"{first.folder} and {other.folder} must not be mixed: {sentence(differing)}")
    _check_starts(parts)
    generators = [generator for part in parts for generator in part.manifest["generators"]]
    split = _shares(parts)
    made = [{key: part.manifest[key] for key in ("plan", "recipe") if key in part.manifest} for part in parts]
    plan = {"merged": [{"digest": part.digest, **how} for part, how in zip(parts, made, strict=True)]}
    with fresh_folder(Path(out)) as folder:
        with (
            DatasetWriter(
                folder, first.task, split=split, plan=plan, facts=facts(first), generators=_once(generators)
            ) as writer,
            progress(f"merge {first.task.name}", sum(map(len, parts)), show=show_progress) as advance,
        ):
            for part in parts:
                for i in range(len(part)):
                    episode = part.episode(i)
                    writer.add(episode, split=episode.split)
                    advance()
        (folder / ".lock").unlink(missing_ok=True)
    return Dataset(out, task=first.task)


def _open(folder: Path) -> Dataset:
    """A dataset under its own card, installed or not: what differs is named by comparing the parts."""
    manifest = read_manifest(folder)
    try:
        return Dataset(folder, task=TaskCard.from_json(manifest["task"]))
    except CardError as error:
        raise DatasetError(f"{folder / MANIFEST}: its task card is unreadable ({error})") from error


def _shares(parts: Sequence[Dataset]) -> tuple[float, float, float]:
    """What the parts intend, or how their episodes are in fact split if they disagree."""
    intended = [part.manifest["split"] for part in parts]
    if all(shares == intended[0] for shares in intended):
        return check_fractions(intended[0])
    splits = np.concatenate([part.index["split"] for part in parts])
    return check_fractions([float(np.mean(splits == split)) for split in SPLITS])


def _check_starts(parts: Sequence[Dataset]) -> None:
    """Refuse an episode that is in two parts, and test starts that another part does not keep for testing."""
    seen: dict[str, tuple[int, int]] = {}
    begun: dict[str, list[tuple[int, int, str]]] = {}
    for p, part in enumerate(parts):
        for i in range(len(part)):
            episode = part.episode(i)
            q, j = seen.setdefault(_content(episode), (p, i))
            if q != p:
                raise DatasetError(
                    f"episode {i} of {part.folder} is episode {j} of {parts[q].folder}: leave one of the datasets out"
                )
            for value in start_hashes(episode.observation, episode.state):
                begun.setdefault(value, []).append((p, i, episode.split))
    for same in begun.values():
        for p, i, split in same:
            other = next((entry for entry in same if entry[0] != p and entry[2] != split), None)
            if split == "test" and other is not None:
                raise DatasetError(
                    f"episode {i} of {parts[p].folder} (test) begins where episode {other[1]} of "
                    f"{parts[other[0]].folder} ({other[2]}) does: collect one of them with another seed"
                )


def _content(episode: EpisodeData) -> str:
    """Digest of an episode's numbers."""
    total = hashlib.sha256()
    for name, array in sorted(episode.fields().items()):
        total.update(name.encode() + np.ascontiguousarray(array).tobytes())
    return total.hexdigest()


def _once(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [entry for i, entry in enumerate(entries) if entry not in entries[:i]]


def _differences(first: Mapping[str, Any], second: Mapping[str, Any], prefix: str = "") -> Differences:
    """Leaves that differ, by dotted name; a missing one is None."""
    found: Differences = {}
    for key in dict.fromkeys((*first, *second)):
        one, other = first.get(key), second.get(key)
        if one == other:
            continue
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            found |= _differences(one, other, f"{prefix}{key}.")
        elif isinstance(one, list) and isinstance(other, list) and _pairs(one, other):
            for i, (a, b) in enumerate(zip(one, other, strict=True)):
                found |= _differences(a, b, f"{prefix}{key}[{i}].")
        else:
            found[f"{prefix}{key}"] = (one, other)
    return found


def _pairs(one: list[Any], other: list[Any]) -> bool:
    """Whether these are two lists of dimensions or the like, to be compared one by one."""
    return len(one) == len(other) and all(isinstance(entry, Mapping) for entry in (*one, *other))


def _short(value: Any) -> str:
    """A value in a sentence: long lists by their length."""
    if isinstance(value, (list, tuple)) and len(str(value)) > 80:
        return f"{len(value)} entries"
    text = str(value)
    return text if len(text) <= 80 else text[:77] + "..."
