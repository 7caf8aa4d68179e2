"""Makes the inverse models that ship with the package: collects mixed behaviour of its own, trains, and checks.

``python baselines/scripts/make_inverse_models.py --work runs/inverse``; interrupted, the same command goes on.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from make_reference_models import TASKS, behaviours
from rich.console import Console

import wmbench
from wmbench import checkpoints

SHIPPED = Path(__file__).parent.parent / "wmbench_baselines" / "checkpoints" / "inverse"


@dataclass(frozen=True)
class Options:
    """What to make.

    Attributes:
        work: Folder for datasets and trainings.
        tasks: Which tasks, by short name.
        out: Where the checkpoints go; the package's own folder by default.
        share: Episodes of each behaviour, as a share of what the reference world models learn from; at least ten.
        updates: Gradient steps per model.
        seed: Of collection and training. Not that of the reference world models, whose data are thus others.
        workers: Processes that collect.
    """

    work: Path
    tasks: tuple[str, ...] = TASKS
    out: Path = SHIPPED
    share: float = 0.5
    updates: int = 10_000
    seed: int = 1
    workers: int = 1


def main() -> None:
    """Make every model asked for."""
    options = tyro.cli(Options, description=__doc__)
    console = Console()
    for task in options.tasks:
        card = wmbench.task_card(task)
        policy, episodes, noise = zip(*behaviours(card), strict=True)
        dataset = wmbench.collect(
            card,
            options.work / f"{card.name}-data",
            policy=policy,
            episodes=[max(10, round(options.share * n)) for n in episodes],
            noise=noise,
            seed=options.seed,
            workers=options.workers,
        )
        folder = options.work / f"{card.name}-model"
        trained = wmbench.train(
            "inverse", card, dataset, folder, seed=options.seed, updates=options.updates, progress=False
        )
        scores = score(trained.model, dataset)
        ship(folder, options.out / card.id.removeprefix("wmbench/"), trained.model, scores, options)
        console.print(card.name, json.dumps(scores))


def score(model: Any, dataset: Any) -> dict[str, Any]:
    """R2 on the test split, with respect to the train split's mean action, over all dimensions and for each."""
    data = dataset.transitions("test", 10_000, 0)
    half = (model.high - model.low).numpy() / 2
    recovered = model.recover(data["observation"], data["next_observation"])
    error = (((recovered.mean(0) - data["action"]) / half) ** 2).sum(0, dtype=np.float64)
    spread = (((data["action"] - dataset.stats["action"]["mean"]) / half) ** 2).sum(0)
    return {
        "r2": round(float(1 - error.sum() / spread.sum()), 4),
        "r2_by_dimension": (1 - error / spread).round(4).tolist(),
        "disagreement": round(float(np.sqrt(((recovered / half).var(0)).mean())), 4),
    }


def ship(folder: Path, out: Path, model: Any, scores: dict[str, Any], options: Options) -> None:
    """Copy a checkpoint to where it ships from, with what it was made of and what it scores."""
    data = checkpoints.read_config(folder)
    data["provenance"] |= {
        "command": f"python baselines/scripts/make_inverse_models.py --work WORK --share {options.share:g} "
        f"--updates {options.updates} --seed {options.seed}",
        "digest": checkpoints.digest(model),
        "test_split": scores,
    }
    out.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(folder / checkpoints.WEIGHTS, out / checkpoints.WEIGHTS)
    checkpoints.write_json(out / checkpoints.CONFIG, data)


if __name__ == "__main__":
    main()
