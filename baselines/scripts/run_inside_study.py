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

import tyro
from rich.console import Console

import wmbench
from wmbench import checkpoints, task_card
from wmbench.evaluating import make_policy
from wmbench_baselines.inside import InsideConfig, train_inside
from wmbench_baselines.inside.records import record_of, write_record

RESULTS = Path(__file__).parent.parent / "results" / "inside"
SEEDS = (0, 1, 2)
TASKS = ("Gym-HalfCheetah", "Gym-Hopper", "DMC-CartpoleSwingup", "DMC-ReacherEasy", "DMC-PendulumSwingup")
PPO_TASKS = ("DMC-CartpoleSwingup", "Gym-HalfCheetah")
EXPLOITED = {"Gym-HalfCheetah": 2, "Gym-Hopper": 40}
"""Where a world model of few data is trained in: episodes of each of its three random behaviours."""
FEW_NOTE = "an ensemble (preset quick) trained on few episodes of random behaviour"
SAC: dict[str, Any] = {
    "steps": 12_000,
    "num_envs": 16,
    "updates": 0.5,
    "learning_rate": 1e-3,
    "evaluate_every": 2_400,
    "episodes": 8,
}
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

    def add(task: str, arm: str, note: str = "", prepare: Callable[[], object] | None = None, **changes: Any) -> None:
        base = PPO if arm.startswith("PPO") else SAC
        for seed in SEEDS:
            name = f"{task}.{arm.replace(' ', '-')}.{seed}"
            found.append(Job(name, arm, InsideConfig(task, seed=seed, **(base | changes)), note, prepare))

    for task in EXPLOITED:
        few = work / "models" / f"{task}-few"
        add(task, "SAC few", FEW_NOTE, partial(few_model, task, few), model=str(few))
    for task in TASKS:
        for where in ("learned", "true"):
            add(task, f"SAC {where}", where=where)
    for task in PPO_TASKS:
        for where in ("learned", "true"):
            add(task, f"PPO {where}", where=where)
    return found


def few_model(task: str, out: Path) -> None:
    """Train a world model on few episodes of random behaviour."""
    if (out / checkpoints.CONFIG).exists():
        return
    card = task_card(task)
    behaviours: list[Any] = ["random", *(make_policy("random", card, config={"smoothness": s}) for s in (0.9, 0.98))]
    data = wmbench.collect(
        card,
        out.with_name(f"{out.name}-data"),
        policy=behaviours,
        episodes=[EXPLOITED[task]] * 3,
        seed=0,
        split=(0.67, 0.33, 0.0),
    )
    wmbench.train("ensemble", card, data, out, preset="quick", seed=0, progress=False)


def untrained_model(trained: Path, task: str, out: Path) -> str:
    """The same architecture and normalisers with the weights it began with: what imagination without learning gives."""
    if not (out / checkpoints.CONFIG).exists():
        model = checkpoints.load(trained, kind="world_model", task=task_card(task))
        model.reset_parameters(1)
        checkpoints.save(model, out, kind="world_model", name="ensemble", provenance={"note": "untrained"})
        shutil.copy(trained / "bank.safetensors", out)
    return str(out)


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
    seeds: tuple[int, ...] = SEEDS,
    workers: int = 1,
) -> None:
    """Carry out what has no record yet.

    Args:
        work: Folder of all jobs.
        results: Folder of the records.
        only: Part of the names of the jobs to carry out; all of them by default.
        seeds: Their seeds.
        workers: Jobs at a time.
    """
    console, failed = Console(), []
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
