"""Draws the study of training inside from its records, and rewrites its part of docs/transfer.md.

python baselines/scripts/plot_inside_study.py
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import matplotlib as mpl
import numpy as np
import tyro
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wmbench.report.style import BLUE, MUTED, ORANGE, STYLE
from wmbench.report.view import number
from wmbench_baselines.inside import analysis
from wmbench_baselines.inside.analysis import Records
from wmbench_baselines.inside.records import read_records
from wmbench_baselines.inside.words import exploited, shown, table

HERE = Path(__file__).parents[2]
RESULTS = HERE / "baselines" / "results" / "inside"
MARKS = ("<!-- inside -->", "<!-- /inside -->")
EXPLOITED = "SAC few"
REMEDIES = {
    "SAC few": "the model of six episodes",
    "SAC few rwm-u": "with RWM-U's penalty, weight 5",
    "SAC few mopo-deviation": "with MOPO's penalty on deviations, weight 1",
    "SAC few mopo-aleatoric": "with MOPO's penalty on variances, weight 1",
    "SAC few branch10": "in branches of 10 steps from data",
    "SAC noise": "control: the true simulator, rewards as noisy as the model's",
    "SAC untrained": "control: the model untrained",
    "SAC learned": "the shipped model of 90 episodes",
    "SAC true": "the true simulator",
}
"""Arms of the comparison, and what a reader calls them."""
OTHER_MODEL = ("SAC learned", "SAC true", "SAC untrained")
"""Whose imagined return is that of another model."""
SEEDS = 3
"""Trainings that an arm must have to be shown."""
Arms = Mapping[tuple[str, str], Records]


def main(results: Path = RESULTS, page: Path = HERE / "docs" / "transfer.md", images: Path | None = None) -> None:
    """Rewrite the section and its figures.

    Args:
        results: Folder of the records.
        page: Where the section stands between its two marks.
        images: Folder of the figures; ``images`` beside the page by default.
    """
    arms = complete(analysis.arms(read_records(results.glob("*.json"))))
    folder = images or page.parent / "images"
    with mpl.rc_context(STYLE):
        for name, figure in (("inside-curves", curves(arms)), ("inside-remedies", remedies(arms))):
            figure.savefig(folder / f"{name}.png", dpi=110)
    before, rest = page.read_text().split(MARKS[0])
    page.write_text(before + MARKS[0] + "\n\n" + section(arms) + "\n" + MARKS[1] + rest.split(MARKS[1])[1])


def complete(arms: Arms) -> Arms:
    """Arms with as many seeds as an interval over them needs."""
    return {key: group for key, group in arms.items() if len(group) >= SEEDS}


def pairs(arms: Arms) -> list[tuple[str, str, Records, Records]]:
    """Task, algorithm and the arms trained in the learned and in the true simulator, where both are there."""
    return [
        (task, algorithm, arms[task, f"{algorithm} learned"], arms[task, f"{algorithm} true"])
        for algorithm in ("SAC", "PPO")
        for task in sorted({task for task, _ in arms})
        if (task, f"{algorithm} learned") in arms and (task, f"{algorithm} true") in arms
    ]


def few(arms: Arms) -> str:
    """The task on which remedies are compared."""
    return next(task for task, arm in arms if arm == EXPLOITED)


def section(arms: Arms) -> str:
    """The generated part of the page."""
    return "\n".join([*_two_by_two(arms), *_time(arms), *_exploitation(arms)])


def _row(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


def _two_by_two(arms: Arms) -> list[str]:
    lines = [
        "**Two by two.** Return at the end of training, mean over three training seeds with Student's 95 % interval "
        "over them.",
        "",
        _row("task", "algorithm, steps", "trained in", "return in the learned one", "return in the true one"),
        "|---|---|---|---|---|",
    ]
    for task, algorithm, learned, true in pairs(arms):
        steps = learned[0]["config"]["steps"]
        lines += [_row(task, f"{algorithm}, {steps:,}", *cells) for cells in table(learned, true)]
    return [*lines, "", "![Return by training step](images/inside-curves.png)", ""]


def _time(arms: Arms) -> list[str]:
    lines = [
        "**On as many steps, and in as much time.** True return of training inside minus that of training in the true "
        "simulator, on as many steps; both when the faster training ends, in seconds of one core; the part of the "
        "training's time that each simulator took; and what became of imagined and true return.",
        "",
        _row("task", "difference", "seconds", "inside", "in the true one", "twin's share", "true simulator's share"),
        "|---|---|---|---|---|---|---|",
    ]
    for task, algorithm, learned, true in pairs(arms):
        time, inside, outside = analysis.at_equal_time(learned, true)
        shares = (f"{number(100 * analysis.simulator_share(group), 2)} %" for group in (learned, true))
        difference = shown(analysis.difference(learned, true, "true"))
        lines.append(
            _row(f"{task}, {algorithm}", difference, number(time), number(inside.value), number(outside.value), *shares)
        )
    lines.append("")
    lines += [f"- {task}, {algorithm}: {exploited(learned)}" for task, algorithm, learned, _ in pairs(arms)]
    return [*lines, ""]


def _exploitation(arms: Arms) -> list[str]:
    task = few(arms)
    base = arms[task, EXPLOITED]
    trough = analysis.exploitation(base).trough
    lines = [
        f"**Exploitation, and what helps.** {task} in a world model of six episodes of random behaviour, "
        f"{len(base)} seeds. {exploited(base)}",
        "",
        _row(
            "trained in",
            "seeds",
            "true return at the end",
            "imagined return at the end",
            f"change of true return at step {trough:,}",
            "at the end",
            "change of the gap over all of training",
        ),
        "|---|---|---|---|---|---|---|",
    ]
    for arm, label in REMEDIES.items():
        if (task, arm) not in arms:
            continue
        group = arms[task, arm]
        cells = [label, str(len(group)), shown(analysis.final(group, "true"))]
        cells.append("-" if arm == "SAC true" else shown(analysis.final(group, "learned")))
        for of, when in (("true", trough), ("true", "end"), ("gap", "throughout")):
            compared = arm != EXPLOITED and (of == "true" or arm not in OTHER_MODEL)
            cells.append(shown(analysis.difference(group, base, of, when)) if compared else "")
        lines.append(_row(*cells))
    return [*lines, "", "![Exploitation and remedies](images/inside-remedies.png)", ""]


def curves(arms: Arms) -> Figure:
    """True and imagined return by step of every pair; thin lines are seeds."""
    found = pairs(arms)
    rows = -(-len(found) // 3)
    figure = Figure(figsize=(9.5, 2.6 * rows), layout="constrained")
    grid = figure.subplots(rows, 3, squeeze=False).ravel()
    for axes, (task, algorithm, learned, true) in zip(grid, found, strict=False):
        _band(axes, learned, "learned", ORANGE, "trained inside: imagined")
        _band(axes, learned, "true", BLUE, "trained inside: true")
        _band(axes, true, "true", MUTED, "trained in the true one: true")
        axes.set(title=f"{task}, {algorithm}", xlabel="environment steps", ylabel="return")
    grid[0].legend(fontsize=7)
    for axes in grid[len(found) :]:
        axes.axis("off")
    return figure


def _band(axes: Axes, group: Records, side: str, colour: str, label: str) -> None:
    """Seeds, their mean and its interval, which is cut where it is far outside what the seeds span."""
    at, drawn = analysis.steps(group), analysis.values(group, side)
    axes.plot(at, drawn.T, color=colour, lw=0.6, alpha=0.6)
    axes.plot(at, drawn.mean(0), color=colour, lw=1.8, label=label)
    means = [analysis.over_seeds(column) for column in drawn.T]
    low, high = drawn.min(), drawn.max()
    room = 0.25 * (high - low)
    ends = np.array([(m.value, m.value) if m.low is None else (m.low, m.high) for m in means])
    axes.fill_between(at, *ends.clip(low - room, high + room).T, color=colour, alpha=0.12, lw=0)


def remedies(arms: Arms) -> Figure:
    """Left: imagined return rises while the true one falls. Right: every arm's true and imagined return at the end."""
    task = few(arms)
    figure = Figure(figsize=(9.5, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(2, 3))
    _band(left, arms[task, EXPLOITED], "learned", ORANGE, "imagined")
    _band(left, arms[task, EXPLOITED], "true", BLUE, "true")
    left.axhline(0, color=MUTED, lw=0.6)
    left.set(title=f"{task}, a model of six episodes", xlabel="environment steps", ylabel="return")
    left.legend(fontsize=8)
    there = [arm for arm in REMEDIES if (task, arm) in arms]
    for place, arm in enumerate(reversed(there)):
        group = arms[task, arm]
        for side, colour, shift in (("learned", ORANGE, 0.12), ("true", BLUE, -0.12)):
            if side == "learned" and arm == "SAC true":
                continue
            ends = analysis.values(group, side)[:, -1]
            estimate = analysis.final(group, side)
            y = place + shift
            if estimate.low is not None:
                right.plot([estimate.low, estimate.high], [y, y], color=colour, lw=1.2)
            right.plot(ends, np.full(len(ends), y), "o", ms=2.5, color=colour, alpha=0.6)
            right.plot(estimate.value, y, "|", ms=9, mew=2, color=colour)
    right.axvline(0, color=MUTED, lw=0.6)
    right.set_yticks(range(len(there)), [REMEDIES[arm] for arm in reversed(there)], fontsize=7)
    right.set(title="The end: true (blue), imagined (orange)", xlabel="return")
    return figure


if __name__ == "__main__":
    tyro.cli(main)
