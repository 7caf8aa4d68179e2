"""Makes the world models of the transfer study: per task one dataset, ensembles on three sizes of it, and references.

    python baselines/scripts/make_transfer_models.py --work runs/study

The smaller datasets are parts of the larger ones, and the test split is the same for all. Architecture, settings and
gradient steps are the same at every size. Interrupted, the same command goes on.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from make_reference_models import behaviours, mixture
from rich.console import Console
from train_zoo import TASKS

import wmbench
from wmbench.cards import TaskCard
from wmbench.episodes import Dataset, DatasetWriter
from wmbench.errors import DatasetError
from wmbench.files import fresh_folder
from wmbench.seeding import episode_seeds
from wmbench.threads import one_thread

SIZES = (0.05, 0.25, 1.0)
"""Shares of the dataset's steps."""
REFERENCES = ("copy-last", "mean-delta", "linear", "random-walk")
MIXED = {"DMC-ReacherEasy": 60}
"""Episodes by the recipe ``mixed`` where the shipped model has seen undirected behaviour only."""
RANDOM_ONLY = ("DMC-PendulumSwingup",)
"""Tasks with one more ensemble, on random and slow random behaviour alone, which never comes near the reward."""
RANDOM: dict[str, Any] = {"preset": "small", "seed": 0, "max_updates": 20_000}
"""How that one is trained: as long as a shipped model, and until revision 875c064 it was one."""
SEED = 1
"""Other than that of the shipped models' data: what these are tested on none has seen."""
ZOO_SEED, ZOO_EPISODES = 0, 200
"""The zoos' own starts, which nothing may be trained on."""


def main(
    tasks: Annotated[tuple[str, ...], tyro.conf.Positional] = TASKS, work: Path = Path("runs/study"), seed: int = SEED
) -> None:
    """Make what is not there yet.

    Args:
        tasks: Names of the tasks.
        work: Folder of datasets and models, one folder per task.
        seed: Of collection, choice and training.
    """
    for task in tasks:
        card = wmbench.task_card(task)
        data = collect(card, work / card.name / "data", seed, mixed(card))
        with one_thread():
            for share in SIZES:
                part = subset(data, share, work / card.name / f"data-{label(share)}", seed)
                out = work / card.name / f"ensemble-{label(share)}"
                made = wmbench.train("ensemble", card, part, out, preset="quick", seed=seed)
                steps = int(part.index["length"][part.episodes("train")].sum())
                Console().print(f"{card.name} {out.name}: {steps} steps{', kept' if made.kept else ''}")
            if card.name in RANDOM_ONLY:
                policy, episodes, noise = zip(*behaviours(card), strict=True)
                how = {"policy": policy, "episodes": episodes, "noise": noise}
                part = collect(card, work / card.name / "data-random", RANDOM["seed"], how)
                wmbench.train("ensemble", card, part, work / card.name / "ensemble-random", **RANDOM)
            for name in REFERENCES:
                wmbench.train(name, card, data, work / card.name / name, seed=seed)


def label(share: float) -> str:
    """What a size is called: ``5%``."""
    return f"{100 * share:g}%"


def mixed(card: TaskCard) -> dict[str, Any]:
    """Mixed behaviour: random, slow random, and the actors or the expert at several degrees of disturbance."""
    return {"recipe": "mixed", "episodes": MIXED[card.name]} if card.name in MIXED else mixture(card)


def collect(card: TaskCard, folder: Path, seed: int, how: dict[str, Any]) -> Dataset:
    """A dataset from starts that no zoo is judged on.

    Raises:
        DatasetError: An episode begins where a policy of the zoo is judged.
    """
    data = wmbench.collect(card, folder, seed=seed, show_progress=True, **how)
    judged = set(episode_seeds(ZOO_SEED, card.id, "eval", ZOO_EPISODES))
    if shared := judged & set(data.index["seed"].tolist()):
        raise DatasetError(f"{folder}: the zoo of {card.id} is judged on the start {min(shared)}: collect with --seed")
    return data


def subset(data: Dataset, share: float, out: Path, seed: int) -> Dataset:
    """A part of a dataset, nested: whatever is in a smaller share is in every larger one.

    Args:
        data: The whole.
        share: Of the steps of the train and of the val split; the test split is taken whole.
        out: Folder; kept if it is there already.
        seed: Of the order in which episodes are taken.

    Raises:
        DatasetError: ``out`` holds another part, or a part of something else.
    """
    plan = {"part_of": data.digest, "share": share, "seed": seed}
    if out.exists():
        found = Dataset(out, task=data.task)
        if found.manifest["plan"] != plan:
            raise DatasetError(f"{out} holds {found.manifest['plan']}, wanted is {plan}: remove it")
        return found
    keep = np.concatenate([*(first(data, split, share, seed) for split in ("train", "val")), data.episodes("test")])
    with fresh_folder(out) as folder:
        with DatasetWriter(folder, data.task, split=data.manifest["split"], plan=plan) as writer:
            for i in np.sort(keep):
                episode = data.episode(int(i))
                writer.add(episode, split=episode.split)
        (folder / ".lock").unlink(missing_ok=True)
    return Dataset(out, task=data.task)


def first(data: Dataset, split: str, share: float, seed: int) -> np.ndarray:
    """The first episodes of a split, in a random order that goes through all sources alike, at least one.

    Returns:
        (N,) int, as many as come closest to ``share`` of the split's steps.
    """
    episodes, rng = data.episodes(split), np.random.default_rng([seed, len(split)])
    place = np.zeros(len(episodes))
    sources = data.index["source"][episodes]
    for source in np.unique(sources):
        rows = np.flatnonzero(sources == source)
        place[rows] = (rng.permutation(len(rows)) + rng.random()) / len(rows)
    order = episodes[np.argsort(place, kind="stable")]
    steps = np.cumsum(data.index["length"][order])
    return order[: 1 + int(np.argmin(np.abs(steps - share * steps[-1])))]


if __name__ == "__main__":
    tyro.cli(main)
