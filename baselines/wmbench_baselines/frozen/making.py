"""How the frozen test sets are made: a recipe and a seed per task, without simulator states, digests beside them."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import wmbench
from wmbench.episodes import Dataset, DatasetWriter
from wmbench.provenance import provenance

SEED = 20_251_120
"""Of every set; training data use others, and recipes leave out starts that meet all the same."""

ALL_TEST = (0.0, 0.0, 1.0)
HALVES = (0.5, 0.0, 0.5)
"""Of a set: ``train`` gives measures their scales and reference models, ``test`` is what models are tested on."""

ACTORS: dict[str, Any] = {
    "name": "frozen-actors",
    "description": "a quarter each of random actions, play, and the shipped actors, whatever comes of it",
    "sources": [
        {"share": 0.25, "kind": "random", "policy": "random"},
        {"share": 0.25, "kind": "random", "policy": "play", "config": {"policies": ["actor"]}},
        {"share": 0.25, "kind": "any", "policy": "actor-medium"},
        {"share": 0.25, "kind": "any", "policy": "actor"},
    ],
}
SETS: dict[str, tuple[str | Mapping[str, Any], int]] = {
    "DMC-AcrobotSwingup": ("mixed", 8),
    "DMC-CartpoleBalance": ("mixed", 8),
    "DMC-CartpoleSwingup": ("mixed", 8),
    "DMC-PendulumSwingup": ("mixed", 8),
    "DMC-PointMassEasy": ("mixed", 8),
    "DMC-ReacherEasy": ("mixed", 8),
    "Gym-HalfCheetah": (ACTORS, 8),
    "Gym-Hopper": (ACTORS, 8),
    "Gym-Reacher": ("mixed", 16),
    "MS-PickCube": ("mixed", 16),
    "MS-PushCube": ("mixed", 16),
}
"""Task to its recipe and number of episodes."""


def make_set(task: str, out: Path, *, workers: int = 1) -> Dataset:
    """Make a task's set anew.

    Args:
        task: One of :data:`SETS`.
        out: A new folder.
        workers: Processes; the result does not depend on it.

    Returns:
        The set, without simulator states, which a replay gives back.
    """
    recipe, episodes = SETS[task]
    with tempfile.TemporaryDirectory() as folder:
        whole = wmbench.collect(
            task, folder, recipe=recipe, episodes=episodes, seed=SEED, split=ALL_TEST, workers=workers
        )
        return write_set(whole, out)


def write_set(whole: Dataset, out: Path) -> Dataset:
    """Write what was collected, cut in halves and without states."""
    plan = whole.manifest["plan"]
    with DatasetWriter(out, whole.task, split=HALVES, plan=plan, split_within="dataset") as writer:
        writer.recipe = whole.manifest["recipe"]
        for i in range(len(whole)):
            writer.add(replace(whole.episode(i), state=None))
    return Dataset(out, verify=True)


def describe(data: Dataset) -> dict[str, Any]:
    """What is written down about a set: digest, size, and the machine that made it."""
    known = provenance()
    return {
        "digest": data.digest,
        "bytes": sum(entry["bytes"] for entry in data.manifest["files"].values()),
        "episodes": len(data),
        "steps": data.manifest["steps"],
        "recipe": data.manifest["recipe"]["name"],
        "made": {key: known[key] for key in ("versions", "python", "platform", "cpu")},
    }
