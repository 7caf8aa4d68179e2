"""How a trained TD-MPC2 depends on its planner's horizon and samples: a CSV and a plot of returns.

python baselines/scripts/sweep_tdmpc2_planner.py CHECKPOINT --horizons 1 2 3 5 8 --samples 32 128 512
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch
from rich.console import Console

from wmbench import checkpoints
from wmbench.evaluating import evaluate

COLUMNS = ("mode", "horizon", "samples", "iterations", "return", "low", "high", "episodes")


def main() -> None:
    """Evaluate every pair of horizon and samples on the same episodes, with the prior alone for comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--horizons", type=int, nargs="+", default=[1, 2, 3, 5, 8])
    parser.add_argument("--samples", type=int, nargs="+", default=[64, 256, 512])
    parser.add_argument("--iterations", type=int, default=6)
    parser.add_argument("--episodes", type=int, default=10)
    parser.add_argument("--out", type=Path, default=Path("runs/tdmpc2-sweep"))
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    asked.out.mkdir(parents=True, exist_ok=True)
    settings: list[dict[str, Any]] = [{"mode": "prior"}]
    for samples in asked.samples:
        shares = {"elites": max(1, samples // 8), "prior_samples": max(1, samples // 21)}  # as 64 and 24 are of 512
        for horizon in asked.horizons:
            settings.append({"horizon": horizon, "samples": samples, "iterations": asked.iterations, **shares})
    task = checkpoints.read_config(asked.checkpoint)
    rows = []
    for own in settings:
        found = evaluate(
            task["task"],
            str(asked.checkpoint),
            episodes=asked.episodes,
            num_envs=asked.episodes,
            policy_config=own,
            action_repeat=task.get("action_repeat", 1),
        ).find("return")
        rows.append({"mode": "plan", **own, "return": found.value, "low": found.ci_low, "high": found.ci_high})
        rows[-1]["episodes"] = asked.episodes
        Console().print(rows[-1], highlight=False)
        with (asked.out / "sweep.csv").open("w", newline="") as stream:
            writer = csv.DictWriter(stream, COLUMNS, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(rows)
    draw(rows, f"{task['task']}, {asked.episodes} episodes", asked.out / "sweep.png")


def draw(rows: list[dict[str, Any]], title: str, path: Path) -> None:
    """Return against horizon, one line per number of samples."""
    figure, axis = plt.subplots(figsize=(5, 3.4))
    axis.axhline(rows[0]["return"], color="0.5", linestyle="--", label="policy prior alone")
    for samples in sorted({row["samples"] for row in rows[1:]}):
        line = sorted((row["horizon"], row["return"]) for row in rows[1:] if row["samples"] == samples)
        axis.plot(*zip(*line, strict=True), marker="o", label=f"{samples} samples")
    axis.set(title=title, xlabel="planning horizon (actions)", ylabel="return")
    axis.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    main()
