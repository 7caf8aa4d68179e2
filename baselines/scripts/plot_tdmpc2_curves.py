"""Draw TD-MPC2's learning curves over the published ones, and print both as a table.

python baselines/scripts/plot_tdmpc2_curves.py --curves runs/tdmpc2/curves.csv
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from rich.console import Console
from train_tdmpc2_curves import JOBS

HERE = Path(__file__).parents[1]
PUBLISHED = HERE / "results" / "tdmpc2" / "published.csv"


def main() -> None:
    """Read the runs' evaluations, copy them beside the published numbers, draw and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--curves", type=Path, default=Path("runs/tdmpc2/curves.csv"))
    parser.add_argument("--keep", type=Path, default=HERE / "results" / "tdmpc2" / "curves.csv")
    parser.add_argument("--image", type=Path, default=HERE.parent / "docs" / "images" / "tdmpc2-curves.png")
    asked = parser.parse_args()
    if asked.curves.resolve() != asked.keep.resolve():
        asked.keep.write_text(asked.curves.read_text())
    ours: dict[str, dict[int, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))  # task, seed, frames
    for row in read(asked.keep):
        ours[row["task"]][int(row["seed"])][int(row["frames"])] = float(row["return"])
    published: dict[str, list[tuple[int, float, float]]] = defaultdict(list)
    for row in read(PUBLISHED):
        published[row["task"]].append((int(row["frames"]), float(row["mean"]), float(row["std_over_seeds"])))
    draw(ours, published, asked.image)
    console = Console(width=160)
    for line in table(ours, published):
        console.print(line, highlight=False)


def table(
    ours: dict[str, dict[int, dict[int, float]]], published: dict[str, list[tuple[int, float, float]]]
) -> list[str]:
    """The latest evaluation of every run on the list beside the published numbers, as Markdown."""
    lines = ["| task | seed | frames, of those planned | ours | published at 100,000 frames: mean (std of 3 seeds) |"]
    lines.append("|---|---|---|---|---|")
    for job in sorted(JOBS):
        task, seed, frames = job.split(":")
        curve = ours.get(task, {}).get(int(seed), {})
        reached = max(curve, default=0)
        state = "" if reached >= int(frames) else ", **unfinished**"
        value = f"{curve[reached]:.0f}" if curve else "no evaluation yet"
        known = next((f"{m:.0f} ({s:.0f})" for f, m, s in published.get(task, []) if f == 100_000), "not published")
        lines.append(f"| {task} | {seed} | {reached:,} of {int(frames):,}{state} | {value} | {known} |")
    return lines


def read(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV."""
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def draw(
    ours: dict[str, dict[int, dict[int, float]]], published: dict[str, list[tuple[int, float, float]]], path: Path
) -> None:
    """One panel per task: every seed of ours, and the published mean with its standard deviation over seeds."""
    figure, axes = plt.subplots(1, len(ours), figsize=(3.6 * len(ours), 3.2), squeeze=False)
    for axis, (task, seeds) in zip(axes[0], sorted(ours.items()), strict=True):
        end = max(100_000, max(f for curve in seeds.values() for f in curve))
        known = np.array([row for row in sorted(published[task]) if row[0] <= end]).T.reshape(3, -1)
        axis.fill_between(known[0] / 1e3, known[1] - known[2], known[1] + known[2], color="0.85", linewidth=0)
        axis.plot(known[0] / 1e3, known[1], color="0.4", marker="o", label="published, size 5, 3 seeds")
        for i, (_, curve) in enumerate(sorted(seeds.items())):
            x = np.array(sorted(curve))
            label = "ours, size 1, preset cpu, one line per seed" if i == 0 else None
            axis.plot(x / 1e3, [curve[f] for f in x], color="C0", alpha=0.8, marker=".", label=label)
        axis.set(title=task, xlabel="frames (thousands)", ylim=(0, 1000), xlim=(0, end / 1e3 * 1.02))
    axes[0][0].set_ylabel("return of 10 evaluation episodes")
    axes[0][0].legend(fontsize=7, loc="lower right")
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    main()
