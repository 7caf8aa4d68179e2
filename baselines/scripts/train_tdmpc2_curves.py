"""Train TD-MPC2 online on a list of tasks and seeds, one after the other, and keep the evaluations as a CSV.

A kill costs time only: the same command goes on where it was stopped and gives the same curves.

    python baselines/scripts/train_tdmpc2_curves.py --out runs/tdmpc2 --preset cpu
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
from pathlib import Path

import torch
from rich.console import Console

from wmbench import checkpoints
from wmbench.banks import bank_of_resets
from wmbench.files import write_atomically
from wmbench.registration import task_card
from wmbench_baselines.tdmpc2 import PRESETS, TDMPC2
from wmbench_baselines.tdmpc2.online import OnlineTraining
from wmbench_baselines.tdmpc2.run import LOG

JOBS = (
    "DMC-CartpoleSwingup:1:50000",
    "DMC-CartpoleBalance:1:50000",
    "DMC-WalkerWalk:1:100000",
    "DMC-CartpoleBalance:2:50000",
    "DMC-CartpoleSwingup:2:50000",
    "DMC-CheetahRun:1:100000",
    "DMC-CartpoleBalance:3:50000",
    "DMC-CartpoleSwingup:3:50000",
    "MS-PushCube:1:50000",
)
"""Task, seed and frames of each run, in an order that gives a first seed of every task early."""
SHORT = 100
"""Control steps of an episode that is cheap enough for many to be evaluated."""
COLUMNS = ("preset", "task", "seed", "frames", "updates", "return", "success", "seconds", "returns")


def main() -> None:
    """Train what is not trained yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("jobs", nargs="*", default=JOBS, help="TASK:SEED:FRAMES")
    parser.add_argument("--out", type=Path, default=Path("runs/tdmpc2"))
    parser.add_argument("--preset", choices=sorted(PRESETS), default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--episodes", type=int, help="per evaluation, every 10,000 frames; 5, or 50 short ones")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    console = Console()
    for job in asked.jobs:
        name, seed, frames = job.split(":")
        card = task_card(name)
        folder = asked.out / f"{asked.preset}-{card.name}-s{seed}"
        episodes = asked.episodes or (50 if card.horizon <= SHORT else 5)
        config = dataclasses.replace(PRESETS[asked.preset], frames=int(frames), eval_episodes=episodes)
        run = OnlineTraining(config, card, folder=folder, seed=int(seed))
        console.print(f"{folder}: {run.model.learnable()} parameters", highlight=False)
        run.run(on_evaluation=lambda: table(asked.out))
        table(asked.out)
        checkpoint(run, folder / "checkpoint")


def checkpoint(run: OnlineTraining, folder: Path) -> None:
    """Keep a finished run as a checkpoint, unless it is kept already."""
    if (folder / checkpoints.CONFIG).exists():
        return
    model = TDMPC2.of_run(run.config, run.task, run, trained_on="", progress=True)
    bank = bank_of_resets(run.task, seed=run.seed)
    provenance = {"command": "train_tdmpc2_curves.py", "seed": run.seed, "outcome": json.loads(run.lines[-1])}
    checkpoints.save(model, folder, kind="world_model", name="tdmpc2", bank=bank, provenance=provenance)


def table(folder: Path) -> None:
    """Write the evaluations of every run below a folder into its ``curves.csv``."""
    rows = []
    for log in sorted(folder.glob(f"*/{LOG}")):
        name, seed = log.parent.name.rsplit("-s", 1)
        preset = next(p for p in PRESETS if name.startswith(p + "-"))
        for line in log.read_text().splitlines():
            entry = json.loads(line)
            if entry["kind"] == "evaluation":
                known = {"preset": preset, "task": name.removeprefix(preset + "-"), "seed": seed}
                listed = " ".join(f"{x:.2f}" for x in entry["returns"])
                rows.append({**{k: entry[k] for k in COLUMNS if k in entry}, **known, "returns": listed})

    def write(path: Path) -> None:
        with path.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)

    write_atomically(folder / "curves.csv", write)


if __name__ == "__main__":
    main()
