"""Draw TD-MPC2's learning curves over the published ones, and write both as tables into the two pages that show them.

python baselines/scripts/plot_tdmpc2_curves.py --curves runs/tdmpc2/curves.csv
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from train_tdmpc2_curves import JOBS
from transfer_tables import insert

from wmbench.report.style import BLUE, INK, STYLE

HERE = Path(__file__).parents[1]
RESULTS = HERE / "results" / "tdmpc2"
PAGES = {"tdmpc2-runs": HERE / "wmbench_baselines" / "tdmpc2" / "README.md", "tdmpc2": HERE.parent / "README.md"}
"""Where each table stands, between markers of that name."""
FIRST = 100_000
"""Frames of the first published evaluation after the untrained one."""


@dataclass(frozen=True)
class Point:
    """One evaluation of one run.

    Attributes:
        value: Mean over its episodes, of the return or, on ManiSkill's tasks, of success.
        episodes: How many.
        preset: Of the run.
        hours: Since the run began, on the processor that it had.
    """

    value: float
    episodes: int
    preset: str
    hours: float


Curves = dict[str, dict[int, dict[int, Point]]]
"""Task, seed, frames."""
Published = dict[str, list[tuple[int, float, float]]]
"""Task to rows of frames, mean and standard deviation over seeds."""


def main() -> None:
    """Read the runs' evaluations, keep a copy beside the published numbers, draw, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--curves", type=Path, default=RESULTS / "curves.csv", help="default: the copy that is kept")
    parser.add_argument("--image", type=Path, default=HERE.parent / "docs" / "images" / "tdmpc2-curves.png")
    asked = parser.parse_args()
    if asked.curves.resolve() != (RESULTS / "curves.csv").resolve():
        (RESULTS / "curves.csv").write_text(asked.curves.read_text())
    ours, published = curves(RESULTS / "curves.csv"), known(RESULTS / "published.csv")
    with mpl.rc_context(STYLE):
        draw(ours, published, asked.image)
    found = {"tdmpc2-runs": runs(ours, published), "tdmpc2": summary(ours, published)}
    for name, page in PAGES.items():
        page.write_text(insert(page.read_text(), {name: found[name]}))


def curves(path: Path) -> Curves:
    """The evaluations that ``train_tdmpc2_curves.py`` wrote."""
    found: Curves = defaultdict(lambda: defaultdict(dict))
    for row in rows(path):
        value = float(row["success" if row["task"].startswith("MS-") else "return"])
        point = Point(value, len(row["returns"].split()), row["preset"], float(row["seconds"]) / 3600)
        found[row["task"]][int(row["seed"])][int(row["frames"])] = point
    return found


def known(path: Path) -> Published:
    """The published curves."""
    found: Published = defaultdict(list)
    for row in rows(path):
        found[row["task"]].append((int(row["frames"]), float(row["mean"]), float(row["std_over_seeds"])))
    return found


def rows(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV."""
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def planned() -> dict[str, dict[int, int]]:
    """Task, seed and frames of the runs on the list."""
    found: dict[str, dict[int, int]] = defaultdict(dict)
    for job in sorted(JOBS):
        task, seed, frames = job.split(":")
        found[task][int(seed)] = int(frames)
    return found


def first(published: Published, task: str) -> str:
    """The published number that ours are put beside."""
    return next((f"{m:.0f} ({s:.0f})" for f, m, s in published.get(task, []) if f == FIRST), "not published")


def number(task: str, value: float) -> str:
    """A return, or a share of successes."""
    return f"{100 * value:.0f} %" if task.startswith("MS-") else f"{value:.0f}"


def runs(ours: Curves, published: Published) -> str:
    """Every run on the list: its evaluations one after the other, beside the published number."""
    lines = [f"| task | seed | frames, of those planned | every 10,000 frames | hours | at {FIRST:,}, published |"]
    lines.append("|---|---|---|---|---|---|")
    for task, seeds in planned().items():
        for seed, frames in seeds.items():
            curve = ours.get(task, {}).get(seed, {})
            reached = max(curve, default=0)
            state = "" if reached >= frames else ", **unfinished**"
            values = ", ".join(number(task, curve[f].value) for f in sorted(curve)) or "no evaluation yet"
            hours = f"{curve[reached].hours:.1f}" if curve else ""
            cells = (task, seed, f"{reached:,} of {frames:,}{state}", values, hours, first(published, task))
            lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def summary(ours: Curves, published: Published) -> str:
    """Every task: the finished runs' last evaluation, beside the published number."""
    lines = [f"| task | ours, size 1 | seeds | frames | TD-MPC2 as published, size 5, {FIRST:,} frames |"]
    lines.append("|---|---|---|---|---|")
    for task, seeds in planned().items():
        done = {s: f for s, f in seeds.items() if f in ours.get(task, {}).get(s, {})}
        values = [ours[task][s][f].value for s, f in done.items()]
        said = "not trained yet"
        if values:
            said = number(task, float(np.mean(values)))
            said += f" ({', '.join(number(task, v) for v in values)})" if len(values) > 1 else ""
        count = f"{len(done)}" if len(done) == len(seeds) else f"{len(done)} of {len(seeds)} planned"
        lines.append(f"| {task} | {said} | {count} | {max(seeds.values()):,} | {first(published, task)} |")
    return "\n".join(lines)


def draw(ours: Curves, published: Published, path: Path) -> None:
    """One panel per task: every seed of ours, and the published points, between which nothing is known."""
    across = min(3, len(ours))
    down = -(-len(ours) // across)
    figure = Figure(figsize=(3.4 * across, 2.8 * down), layout="constrained")
    axes = np.ravel(figure.subplots(down, across, squeeze=False))
    for axis in axes[len(ours) :]:
        axis.set_visible(False)
    for axis, (task, seeds) in zip(axes, sorted(ours.items()), strict=False):
        success = task.startswith("MS-")
        end = max(FIRST, max(f for curve in seeds.values() for f in curve))
        if near := [row for row in sorted(published.get(task, [])) if row[0] <= end]:
            frames, mean, spread = np.array(near).T
            label = "published, size 5: mean and std of 3 seeds"
            axis.errorbar(frames / 1e3, mean, spread, color=INK, fmt="o", markersize=4, capsize=3, label=label)
        for i, (_, curve) in enumerate(sorted(seeds.items())):
            x = np.array(sorted(curve))
            label = "ours, size 1, a line per seed" if i == 0 else None
            y = [curve[f].value for f in x]
            axis.plot(x / 1e3, y, color=BLUE, alpha=0.85, marker=".", linewidth=1.3, label=label)
        axis.set(title=task, ylim=(-0.03, 1.03) if success else (-30, 1030), xlim=(-3, end / 1e3 * 1.03))
        axis.set(xlabel="frames (thousands)", ylabel="success" if success else "return")
    axes[0].legend(fontsize=7, loc="lower right")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    main()
