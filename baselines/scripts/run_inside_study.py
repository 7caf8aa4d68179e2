"""Runs the study of training inside: every training in a folder of its own, a record of each as it is finished.

Example:
    nice python baselines/scripts/run_inside_study.py --work runs/inside

Killed, the same command goes on: a job that has its record is skipped, any other resumes from its last evaluation. A
job runs in a process of its own, so that one that dies loses itself and no other.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import shutil
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch._dynamo  # by every job, if not here before they fork
import tyro
from rich.console import Console

import wmbench
from wmbench import checkpoints, task_card
from wmbench.evaluating import make_policy
from wmbench.protocols import Start
from wmbench.rollout import rollout
from wmbench.seeding import episode_seeds
from wmbench_baselines.inside import InsideConfig, train_inside
from wmbench_baselines.inside.records import record_of, write_record

RESULTS = Path(__file__).parent.parent / "results" / "inside"
SEEDS = (0, 1, 2)
TASKS = (
    "Gym-HalfCheetah",
    "Gym-Hopper",
    "DMC-CartpoleSwingup",
    "DMC-ReacherEasy",
    "DMC-PendulumSwingup",
    "Gym-Reacher",
)
PPO_TASKS = ("Gym-Hopper", "DMC-CartpoleSwingup")
EXPLOITED = "Gym-HalfCheetah"
"""Where controls and remedies are compared, in a world model of few data."""
MORE_SEEDS = (3, 4)
"""Further ones of the training that everything there is compared with, and of the first remedy."""
FEW = 2
"""Episodes of each of three random behaviours that this model is trained on."""
PENALTY_WEIGHTS = {"rwm-u": 5.0, "mopo-deviation": 1.0, "mopo-aleatoric": 1.0}
BRANCH = 10
"""Steps of the short branches."""
NOISE = 0.89
"""Root mean square of that model's error in a step's reward where the policies trained in it lead in truth:
``--measure-noise`` prints it."""
FEW_NOTE = "an ensemble (preset quick) trained on six episodes of random behaviour"
NOISE_NOTE = "noise of the size of the reward error of the ensemble trained on six episodes"
UNTRAINED_NOTE = "the ensemble trained on six episodes with its initial weights"
SAC: dict[str, Any] = {
    "steps": 12_000,
    "num_envs": 16,
    "updates": 0.5,
    "learning_rate": 1e-3,
    "evaluate_every": 2_400,
    "episodes": 8,
}
SHORTER: dict[str, Any] = {"steps": 9_600}
"""Of the tasks whose evaluations take longest."""
PPO: dict[str, Any] = SAC | {"algorithm": "PPO", "steps": 40_960, "evaluate_every": 8_192}


@dataclass(frozen=True)
class Job:
    """One training.

    Attributes:
        name: Each once.
        arm: What its seeds have in common.
        config: What is trained.
        note: How its model was made.
        prepare: Makes what it needs first, if it is not there.
    """

    name: str
    arm: str
    config: InsideConfig
    note: str = ""
    prepare: Callable[[], object] | None = None


def jobs(work: Path) -> list[Job]:
    """All of them, in the order in which they answer questions."""
    found = []

    def add(
        task: str,
        arm: str,
        note: str = "",
        prepare: Callable[[], object] | None = None,
        *,
        seeds: tuple[int, ...] = SEEDS,
        **changes: Any,
    ) -> None:
        base = PPO if arm.startswith("PPO") else SAC | (SHORTER if task.startswith("DMC") else {})
        for seed in seeds:
            name = f"{task}.{arm.replace(' ', '-')}.{seed}"
            found.append(Job(name, arm, InsideConfig(task, seed=seed, **(base | changes)), note, prepare))

    few, untrained = (work / "models" / f"{EXPLOITED}-{kind}" for kind in ("few", "untrained"))
    make, forget = partial(few_model, few), partial(untrained_model, few, untrained)
    add(EXPLOITED, "SAC few", FEW_NOTE, make, seeds=(*SEEDS, *MORE_SEEDS), model=str(few))
    for penalty, weight in PENALTY_WEIGHTS.items():
        settings: dict[str, Any] = {"model": str(few), "penalty": penalty, "penalty_weight": weight}
        seeds = (*SEEDS, *MORE_SEEDS) if penalty == "rwm-u" else SEEDS
        add(EXPLOITED, f"SAC few {penalty}", FEW_NOTE, make, seeds=seeds, **settings)
    data = str(few.with_name(f"{few.name}-data"))
    add(EXPLOITED, f"SAC few branch{BRANCH}", FEW_NOTE, make, model=str(few), branch=BRANCH, dataset=data)
    add(EXPLOITED, "SAC noise", NOISE_NOTE, make, where="true", model=str(few), reward_noise=NOISE)
    add(EXPLOITED, "SAC untrained", UNTRAINED_NOTE, forget, model=str(untrained))
    for algorithm, tasks in (("SAC", TASKS[:3]), ("PPO", PPO_TASKS), ("SAC", TASKS[3:])):
        for task in tasks:
            for where in ("learned", "true"):
                add(task, f"{algorithm} {where}", where=where)
    return found


def few_model(out: Path) -> None:
    """Train a world model on few episodes of random behaviour."""
    if (out / checkpoints.CONFIG).exists():
        return
    card = task_card(EXPLOITED)
    behaviours: list[Any] = ["random", *(make_policy("random", card, config={"smoothness": s}) for s in (0.9, 0.98))]
    folder = out.with_name(f"{out.name}-data")
    data = wmbench.collect(card, folder, policy=behaviours, episodes=[FEW] * 3, seed=0, split=(0.67, 0.33, 0.0))
    wmbench.train("ensemble", card, data, out, preset="quick", seed=0, progress=False)


def untrained_model(few: Path, out: Path) -> None:
    """The same architecture and normalisers with the weights it began with: imagination without learning."""
    few_model(few)
    if (out / checkpoints.CONFIG).exists():
        return
    model = checkpoints.load(few, kind="world_model", task=task_card(EXPLOITED))
    model.reset_parameters(1)
    checkpoints.save(model, out, kind="world_model", name="ensemble", provenance={"note": UNTRAINED_NOTE})
    shutil.copy(few / "bank.safetensors", out)


def reward_error(work: Path) -> float:
    """Root mean square error of the model's reward, one step ahead, where the policies trained in it lead in truth."""
    card, errors = task_card(EXPLOITED), []
    model = checkpoints.resolve(str(work / "models" / f"{EXPLOITED}-few"), card, kind="world_model")
    for seed in SEEDS:
        actor = checkpoints.resolve(str(work / f"{EXPLOITED}.SAC-few.{seed}" / "actor"), card, kind="policy")
        for episode in rollout(card, actor, episode_seeds(0, card.id, "test", 2), num_envs=2):
            start = Start(observation=torch.from_numpy(episode.observation[:-1]))
            state = model.initial(start, keys=torch.arange(len(episode)))
            _, predicted = model.step(state, torch.from_numpy(episode.action))
            errors.append(predicted.reward.numpy() - episode.reward)
    return float(np.sqrt(np.mean(np.concatenate(errors) ** 2)))


def carry_out(job: Job, work: Path, results: Path) -> None:
    """Train and write the record; an error goes to the job's own log, and ends its process."""
    folder = work / job.name
    folder.mkdir(parents=True, exist_ok=True)
    try:
        curve = train_inside(job.config, folder)
        write_record(record_of(job.name, job.arm, job.config, curve, note=job.note), results)
    except BaseException:
        (folder / "error.txt").write_text(traceback.format_exc())
        sys.exit(1)


def main(
    work: Path = Path("runs/inside"),
    results: Path = RESULTS,
    only: str = "",
    seeds: tuple[int, ...] = SEEDS + MORE_SEEDS,
    workers: int = 1,
    measure_noise: bool = False,
) -> None:
    """Carry out what has no record yet.

    Args:
        work: Folder of all jobs.
        results: Folder of the records.
        only: Part of the names of the jobs to carry out; all of them by default.
        seeds: Their seeds.
        workers: Jobs at a time.
        measure_noise: Only print the size of the noise-matched control's noise.
    """
    console, failed = Console(), []
    if measure_noise:
        console.print(f"{reward_error(work):.3g}")
        return
    context = multiprocessing.get_context("fork")
    asked = [job for job in jobs(work) if only in job.name and job.config.seed in seeds]
    waiting = [job for job in asked if not (results / f"{job.name}.json").exists()]
    running: dict[Any, tuple[Job, Any]] = {}
    while waiting or running:
        while waiting and len(running) < workers:
            job = waiting.pop(0)
            if job.prepare is not None:
                job.prepare()
            process = context.Process(target=carry_out, args=(job, work, results))
            process.start()
            running[process.sentinel] = job, process
        for sentinel in multiprocessing.connection.wait(list(running)):
            job, process = running.pop(sentinel)
            process.join()
            console.print(f"{job.name}: {'done' if process.exitcode == 0 else 'FAILED'}", highlight=False)
            if process.exitcode:
                failed.append(f"{job.name}: see {work / job.name / 'error.txt'}")
    if failed:
        console.print("\n".join(["these failed, and are tried again by the same command:", *failed]), highlight=False)
        sys.exit(1)


if __name__ == "__main__":
    tyro.cli(main)
