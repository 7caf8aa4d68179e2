"""Trains the policies of the zoo: SAC, TD3 and PPO on each core task, with snapshots; goes on where it stopped.

Example:
    nice python baselines/scripts/train_zoo.py --work runs/zoo

`make_zoo.py` then chooses among the snapshots. Every unit (task and algorithm) has a folder of its own, whose
`curve.jsonl` gains a line per snapshot; a unit that has reached its steps is skipped.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import torch
import train_ppo_actor
import train_sac_actor
import tyro
from rich.console import Console

from wmbench import task_card

TASKS = (
    "DMC-CartpoleSwingup",
    "DMC-PendulumSwingup",
    "DMC-ReacherEasy",
    "Gym-HalfCheetah",
    "Gym-Hopper",
    "Gym-Reacher",
    "MS-PushCube",
    "MS-CartpoleBalance",
)
Algorithm = Literal["PPO", "SAC", "TD3"]
HIDDEN = (64, 64)
STEPS: dict[str, int] = {"PPO": 200_000, "SAC": 30_000, "TD3": 30_000}
SNAPSHOTS = 10


def main(
    work: Path = Path("runs/zoo"),
    tasks: tuple[str, ...] = TASKS,
    algorithms: tuple[Algorithm, ...] = ("PPO", "SAC", "TD3"),
    seed: int = 0,
) -> None:
    """Train what is not trained yet.

    Args:
        work: Folder of all units.
        tasks: Names of the tasks.
        algorithms: Which of them.
        seed: Of every training.
    """
    torch.set_num_threads(1)
    for algorithm in algorithms:
        for task in tasks:
            folder = work / task / f"{algorithm.lower()}-{seed}"
            if steps_done(folder) >= STEPS[algorithm]:
                continue
            Console().print(f"{task}: {algorithm}, from step {steps_done(folder)}", highlight=False)
            train(task, algorithm, folder, seed)


def train(task: str, algorithm: Algorithm, folder: Path, seed: int) -> None:
    """One unit."""
    card, steps = task_card(task), STEPS[algorithm]
    every = steps // SNAPSHOTS
    if algorithm == "PPO":
        ppo = train_ppo_actor.Settings(
            task, folder, folder, steps=steps, seed=seed, hidden=HIDDEN, fused=True, evaluate_every=every
        )
        train_ppo_actor.train(ppo, card)
    else:
        off = train_sac_actor.Settings(
            task,
            folder,
            folder,
            steps=steps,
            seed=seed,
            hidden=HIDDEN,
            fused=True,
            evaluate_every=every,
            algorithm=algorithm,
        )
        train_sac_actor.train(off, card)


def steps_done(folder: Path) -> int:
    """Steps of the last snapshot, 0 if there is none."""
    curve = folder / "curve.jsonl"
    return json.loads(curve.read_text().splitlines()[-1])["step"] if curve.exists() else 0


if __name__ == "__main__":
    tyro.cli(main)
