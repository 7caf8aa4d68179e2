"""Makes the world models that ship with the package: collects mixed behaviour, trains, and checks what came out.

``python baselines/scripts/make_reference_models.py --work runs/reference``; interrupted, the same command goes on.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console

import wmbench
from wmbench import checkpoints
from wmbench.cards import TaskCard
from wmbench.evaluating import make_policy
from wmbench.measuring import measure_drift, measure_one_step
from wmbench.registration import shipped_checkpoints

SHIPPED = Path(__file__).parent.parent / "wmbench_baselines" / "checkpoints" / "ensemble"
TASKS = ("DMC-CartpoleSwingup", "Gym-Hopper", "DMC-ReacherEasy", "Gym-HalfCheetah")
MIXED = {"DMC-PendulumSwingup": 60, "Gym-Reacher": 600, "MS-PushCube": 160, "MS-PullCube": 160}
"""Episodes by the recipe ``mixed``, for tasks that undirected behaviour does not explore and nobody was trained for."""


@dataclass(frozen=True)
class Options:
    """What to make.

    Attributes:
        work: Folder for datasets and unfinished trainings.
        tasks: Which tasks, by short name.
        out: Where the checkpoints go; the package's own folder by default.
        max_updates: Gradient steps per model.
        seed: Of collection and training.
        workers: Processes that collect.
    """

    work: Path
    tasks: tuple[str, ...] = (*TASKS, *MIXED)
    out: Path = SHIPPED
    max_updates: int = 20_000
    seed: int = 0
    workers: int = 1


def behaviours(card: TaskCard) -> list[tuple[Any, int, float]]:
    """Policies, episodes and action noise: random, correlated in time, and shipped actors at several noise levels."""
    many = 20 if card.terminates else 1
    smooth, slow = (make_policy("random", card, config={"smoothness": s}) for s in (0.9, 0.98))
    found: list[tuple[Any, int, float]] = [("random", 10 * many, 0.0), (smooth, 15 * many, 0.0), (slow, 15 * many, 0.0)]
    shipped = shipped_checkpoints()
    if ("actor-medium", card.id) in shipped:
        found += [("actor-medium", 10, 0.2), ("actor-medium", 10, 0.6)]
    if ("actor", card.id) in shipped:
        found += [("actor", 10, 0.0), ("actor", 10, 0.2), ("actor", 10, 0.6)]
    return found


def mixture(card: TaskCard) -> dict[str, Any]:
    """What `wmbench.collect` is asked for: a recipe, or behaviours of our own."""
    if card.name in MIXED:
        return {"recipe": "mixed", "episodes": MIXED[card.name]}
    policy, episodes, noise = zip(*behaviours(card), strict=True)
    return {"policy": policy, "episodes": episodes, "noise": noise}


def main() -> None:
    """Make every model asked for."""
    options = tyro.cli(Options, description=__doc__)
    console = Console()
    for task in options.tasks:
        card = wmbench.task_card(task)
        dataset = wmbench.collect(
            card,
            options.work / f"{card.name}-data",
            seed=options.seed,
            workers=options.workers,
            show_progress=True,
            **mixture(card),
        )
        folder = options.work / f"{card.name}-model"
        trained = wmbench.train(
            "ensemble", card, dataset, folder, preset="small", seed=options.seed, max_updates=options.max_updates
        )
        models = {"ensemble": trained.model}
        measured = [
            *measure_one_step(models, dataset, limit=4000, seed=options.seed).results,
            *measure_drift(
                models, dataset, horizon=min(100, card.horizon * 4 // 5), windows=100, seed=options.seed, floor=False
            ).results,
        ]
        names = ("skill", "skill-linear", "skill-worst", "mean-steps-to-0.5")
        scores = {
            r.name: [r.value, r.ci_low, r.ci_high] for r in measured if r.subject == "ensemble" and r.name in names
        }
        ship(folder, options.out / card.id.removeprefix("wmbench/"), dataset, scores, options)
        console.print(card.name, json.dumps(scores))


def ship(folder: Path, out: Path, dataset: Any, scores: dict[str, Any], options: Options) -> None:
    """Copy a checkpoint to where it ships from, with what it was made of and what it scores."""
    data = checkpoints.read_config(folder)
    data["provenance"] |= {
        "command": f"python baselines/scripts/make_reference_models.py --work WORK --tasks {dataset.task.name} "
        f"--max-updates {options.max_updates} --seed {options.seed}",
        "data": {"steps": dataset.manifest["steps"], "counts": dataset.manifest["counts"]["source"]},
        "test_split": scores,
    }
    out.mkdir(parents=True, exist_ok=True)
    for name in (checkpoints.WEIGHTS, checkpoints.BANK):
        shutil.copyfile(folder / name, out / name)
    checkpoints.write_json(out / checkpoints.CONFIG, data)


if __name__ == "__main__":
    main()
