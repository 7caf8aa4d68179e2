"""``wmbench train-inside``: does a policy trained in a learned simulator work in the true one?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console
from rich.table import Table

from wmbench.errors import WmbenchError


def main(
    task: Annotated[str, tyro.conf.Positional],
    model: str = "ensemble",
    algorithm: Literal["SAC", "PPO"] = "SAC",
    steps: int = 12_000,
    seeds: tuple[int, ...] = (0, 1, 2),
    num_envs: int = 16,
    updates: float = 0.5,
    learning_rate: float = 1e-3,
    penalty: Literal["none", "mopo-aleatoric", "mopo-deviation", "rwm-u"] = "none",
    penalty_weight: float = 1.0,
    branch: int = 0,
    dataset: Path | None = None,
    evaluations: int = 5,
    episodes: int = 10,
    out: Path | None = None,
    progress: bool = True,
) -> None:
    """Train a policy in a learned and in the true simulator, and evaluate each in both.

    Args:
        task: Id or short name, for example DMC-CartpoleSwingup.
        model: World model, by shipped name or checkpoint folder.
        algorithm: Of stable-baselines3.
        steps: Environment steps of each training.
        seeds: Training seeds; each is a training in either simulator.
        num_envs: Rows that are stepped together.
        updates: SAC's updates per environment step, the same on both sides.
        learning_rate: Of all optimisers.
        penalty: What is taken off the learned reward for the model's doubt.
        penalty_weight: Its weight.
        branch: Steps of imagined episodes that begin in recorded states; 0 for whole episodes.
        dataset: Folder of these states.
        evaluations: During each training, evenly spaced.
        episodes: Of each evaluation, in each simulator.
        out: Folder of trainings and records; by default runs/train-inside/TASK. A training that is there is kept.
        progress: Show progress.
    """
    from wmbench.registration import task_card
    from wmbench_baselines.inside import InsideConfig, train_inside
    from wmbench_baselines.inside.records import record_of, write_record
    from wmbench_baselines.inside.words import TABLE, sentences, table

    card = task_card(task)
    folder = out or Path("runs/train-inside") / card.name
    remedy = {"penalty": penalty, "penalty_weight": penalty_weight, "branch": branch, "dataset": str(dataset or "")}
    shared = {
        "algorithm": algorithm,
        "steps": steps,
        "num_envs": num_envs,
        "updates": updates,
        "learning_rate": learning_rate,
        "evaluate_every": max(1, steps // max(1, evaluations)),
        "episodes": episodes,
    }
    if len(set(seeds)) < max(1, len(seeds)):
        raise WmbenchError(f"name one seed or more, each once: {seeds}")
    arms: dict[str, list[dict[str, Any]]] = {"learned": [], "true": []}
    for where, records in arms.items():
        for seed in seeds:
            try:
                extra = remedy if where == "learned" else {}
                config = InsideConfig(card.name, model, where=where, seed=seed, **shared, **extra)  # type: ignore[arg-type]
            except ValueError as error:
                raise WmbenchError(f"{card.id}: {error}") from error
            name = f"{card.name}.{algorithm}-{where}.{seed}"
            curve = train_inside(config, folder / name, show_progress=progress)
            records.append(record_of(name, f"{algorithm} {where}", config, curve))
            write_record(records[-1], folder / "records")
    console = Console()
    shown = Table(*TABLE, title=f"{card.name}: {algorithm}, {steps:,} steps, {len(seeds)} seeds")
    for row in table(arms["learned"], arms["true"]):
        shown.add_row(*row)
    console.print(shown)
    for sentence in sentences(arms["learned"], arms["true"]):
        console.print(sentence, highlight=False, markup=False)
    console.print(f"{folder / 'records'} holds every curve", highlight=False, markup=False)
