"""``wmbench.merge``: several datasets of one task as one, and by which fields two that look alike differ."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wmbench.cards import TaskCard
from wmbench.episodes import Dataset, DatasetWriter
from wmbench.episodes.data import EpisodeData, check_fractions
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
    return _differences(first.behaviour(), second.behaviour())


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
        if differing := dataset_differences(first, other):
            raise DatasetError(f"{first.folder} and {other.folder} must not be mixed: {sentence(differing)}")
    _check_starts(parts)
    generators = [generator for part in parts for generator in part.manifest["generators"]]
    split = check_fractions(first.manifest["split"])
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


def _check_starts(parts: Sequence[Dataset]) -> None:
    """Refuse an episode that is in two parts, and starts that are both trained and tested on."""
    seen: dict[str, tuple[int, int]] = {}
    trained: dict[str, tuple[int, int]] = {}
    held: dict[str, tuple[int, int]] = {}
    for p, part in enumerate(parts):
        for i in range(len(part)):
            episode = part.episode(i)
            start = hashlib.sha256()
            for array in (episode.observation, episode.state):
                start.update(b"" if array is None else np.ascontiguousarray(array[0]).tobytes())
            (trained if episode.split == "train" else held).setdefault(start.hexdigest(), (p, i))
            whole = _content(episode)
            q, j = seen.setdefault(whole, (p, i))
            if q != p:
                raise DatasetError(
                    f"episode {i} of {part.folder} is episode {j} of {parts[q].folder}: leave one of the datasets out"
                )
    both = [key for key in held if key in trained and held[key][0] != trained[key][0]]
    if both:
        (p, i), (q, j) = held[both[0]], trained[both[0]]
        raise DatasetError(
            f"{len(both)} starts would be both trained and tested on, the first: episode {i} of {parts[p].folder} "
            f"({parts[p].index['split'][i]}) begins as episode {j} of {parts[q].folder} (train): "
            "collect one of them with another seed"
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
