"""Trains the policies of the zoo: SAC, TD3, PPO and BC on each core task; goes on where it stopped.

Example:
    nice python baselines/scripts/train_zoo.py --work runs/zoo

`make_zoo.py` then chooses among the snapshots. Every unit (task and algorithm) has a folder of its own, whose
`curve.jsonl` gains a line per snapshot; a unit that has reached its steps is skipped. BC is trained on a few and on
more episodes of the task's demonstrator.
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

import wmbench
from wmbench import checkpoints, task_card
from wmbench.cards import TaskCard
from wmbench.errors import WmbenchError
from wmbench_baselines.bc import BCConfig

TASKS = (
    "DMC-CartpoleSwingup",
    "DMC-PendulumSwingup",
    "DMC-ReacherEasy",
    "Gym-HalfCheetah",
    "Gym-Hopper",
    "Gym-Reacher",
    "MS-PushCube",
    "MS-PullCube",
)
Algorithm = Literal["PPO", "SAC", "TD3", "BC"]
HIDDEN = (64, 64)
STEPS: dict[str, int] = {"PPO": 100_000, "SAC": 20_000, "TD3": 20_000}
FEWER = 40_000
"""PPO's steps on ManiSkill, which takes some fifty times as long as MuJoCo for each."""
SNAPSHOTS = 10
DEMONSTRATIONS = (2, 20)
"""Episodes that BC learns from."""


def main(
    work: Path = Path("runs/zoo"),
    tasks: tuple[str, ...] = TASKS,
    algorithms: tuple[Algorithm, ...] = ("BC", "SAC", "TD3", "PPO"),
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
    for task in tasks:
        for algorithm in algorithms:
            if algorithm == "BC":
                clone(task_card(task), work / task, seed)
                continue
            folder = work / task / f"{algorithm.lower()}-{seed}"
            if steps_done(folder) >= steps_of(task_card(task), algorithm):
                continue
            Console().print(f"{task}: {algorithm}, from step {steps_done(folder)}", highlight=False)
            train(task, algorithm, folder, seed)


def demonstrator(card: TaskCard) -> str:
    """The task's expert, else its shipped actor.

    Raises:
        WmbenchError: It has neither.
    """
    try:
        checkpoints.resolve("expert", card, kind="policy")
        return "expert"
    except WmbenchError:
        checkpoints.resolve("actor", card, kind="policy")
        return "actor"


def clone(card: TaskCard, folder: Path, seed: int) -> None:
    """BC on some episodes of the demonstrator."""
    for episodes in DEMONSTRATIONS:
        out = folder / f"bc{episodes}-{seed}"
        if (out / checkpoints.CONFIG).exists():
            continue
        data = wmbench.collect(
            card,
            folder / f"demonstrations{episodes}-{seed}",
            policy=demonstrator(card),
            episodes=episodes,
            seed=seed,
            split=(1.0, 0.0, 0.0),
        )
        wmbench.train("bc", card, data, out, config=BCConfig(hidden=HIDDEN, epochs=60, learning_rate=2e-3), seed=seed)


def train(task: str, algorithm: Algorithm, folder: Path, seed: int) -> None:
    """One unit."""
    card = task_card(task)
    steps = steps_of(card, algorithm)
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


def steps_of(card: TaskCard, algorithm: str) -> int:
    """Environment steps of one training."""
    return FEWER if algorithm == "PPO" and card.physics == "physx-cpu" else STEPS[algorithm]


def steps_done(folder: Path) -> int:
    """Steps of the last snapshot, 0 if there is none."""
    curve = folder / "curve.jsonl"
    return json.loads(curve.read_text().splitlines()[-1])["step"] if curve.exists() else 0


if __name__ == "__main__":
    tyro.cli(main)
