"""What a dataset of ours is besides its numbers: carried along as plain data, and compared when it comes back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from wmbench.cards import TaskCard
from wmbench.episodes import Dataset, DatasetWriter, EpisodeData
from wmbench.episodes.data import CORE
from wmbench.episodes.storage import FORMAT, digest, read_manifest
from wmbench.errors import CardError, DatasetError
from wmbench.exchange.notes import note
from wmbench.merging import CARD, COUNTED, card_differences, sentence

VERSION = 1
KEY = "wmbench"
"""Under this name the description lies in the other format's own metadata."""


def describe(dataset: Dataset, **more: Any) -> dict[str, Any]:
    """Everything that belongs to a dataset and not to one of its episodes, as plain data.

    Args:
        dataset: What is exported.
        more: What the format adds, such as where it put the fields.
    """
    manifest = {key: value for key, value in dataset.manifest.items() if key not in COUNTED}
    return {"version": VERSION, "digest": dataset.digest, "episodes": len(dataset), "manifest": manifest, **more}


def restore(
    where: Path | str,
    description: Mapping[str, Any],
    task: TaskCard | None,
    out: Path,
    episodes: Iterable[EpisodeData],
    *,
    changed: Mapping[str, str],
    advance: Callable[..., None],
) -> TaskCard:
    """Write a dataset that we once exported, and compare it with what was exported.

    Args:
        where: The file or folder it is read from, for errors.
        description: As :func:`describe` made it.
        task: The task it is wanted for, None: whichever it is of.
        out: New folder.
        episodes: In their order, with seed, source and split.
        changed: Fields that the format does not give back bit by bit, and by how much.
        advance: Called after each episode.

    Returns:
        The card it was recorded under.

    Raises:
        DatasetError: Another task than the wanted one, a version that is not known, or fields that have changed.
    """
    card = described_card(where, description)
    if task is not None and (differing := card_differences(card, task)):
        raise DatasetError(f"{where} does not fit {task.id}: {sentence(differing)}")
    manifest = description["manifest"]
    own = CARD | {"format", "split", "plan", "shard_bytes", "generators", "fields"}
    with DatasetWriter(
        out,
        card,
        split=manifest["split"],
        plan=manifest["plan"],
        shard_bytes=manifest["shard_bytes"],
        facts={key: value for key, value in manifest.items() if key not in own},
        generators=manifest["generators"],
    ) as writer:
        for episode in episodes:
            writer.add(episode, split=episode.split)
            advance()
        if not len(writer):
            raise DatasetError(f"{where} holds no episodes")
    made = read_manifest(out)
    if made["fields"] != manifest["fields"]:
        names = [n for n in manifest["fields"] if made["fields"].get(n) != manifest["fields"][n]]
        raise DatasetError(f"{where}: {', '.join(names)} came back in another shape or dtype than was exported")
    for name, how in changed.items():
        note(f"{name} {how}")
    if not changed and digest(made) != description["digest"]:
        note(
            f"{where} is no longer what was exported (digest {digest(made)[:12]}, then {description['digest'][:12]}): "
            "it was changed in between"
        )
    return card


def described_card(where: Path | str, description: Mapping[str, Any]) -> TaskCard:
    """The task card in a description.

    Raises:
        DatasetError: Unreadable, or of another version.
    """
    versions = {"description": VERSION, "dataset format": FORMAT}
    try:
        found = {"description": description["version"], "dataset format": description["manifest"]["format"]}
        if found != versions:
            raise DatasetError(
                f"{where} was exported with versions {found}, this wmbench reads {versions}: "
                "install the version that wrote it"
            )
        return TaskCard.from_json(description["manifest"]["task"])
    except (CardError, KeyError) as error:
        raise DatasetError(f"{where}: its description is unreadable ({error}); export it again") from error


def assemble(arrays: Mapping[str, np.ndarray], seed: int, source: str, split: str) -> EpisodeData:
    """An episode from its fields by name."""
    core: dict[str, Any] = {name: arrays[name] for name in CORE}
    extra = {name: array for name, array in arrays.items() if name not in CORE and name != "state"}
    return EpisodeData(**core, state=arrays.get("state"), seed=seed, source=source, split=split, extra=extra)
