"""One figure per measure, from its results alone: a drawing of its own, or else values with intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from wmbench.cards import TaskCard
from wmbench.measures import Result
from wmbench.report import plots, plots_curves, plots_trust
from wmbench.report.style import COLOURS, INK, MUTED, STYLE
from wmbench.report.view import TaskView

LINES = 30
"""Values with intervals on one figure, at most."""

OWN: dict[str, Callable[[TaskView], Figure | None]] = {
    "one-step": plots.skill,
    "drift": plots.drift,
    "heads": plots_trust.heads,
    "counterfactual": plots_trust.counterfactual,
    "uncertainty": plots_trust.uncertainty,
    "agreement": plots_trust.agreement,
    "latency": plots.latency,
    "exploitation": plots_curves.exploitation,
    "exposure": plots_curves.exposure,
    "ranking": plots_curves.ranking,
    "real-time": plots_curves.real_time,
    "filter": plots_curves.filtering,
    "images": plots_curves.images,
}

MAIN: dict[str, tuple[str, ...]] = {
    "success": ("success", "return"),
    "comparison": ("return-difference",),
    "methods": ("score", "iqm", "improvement"),
    "contact": ("making-ratio", "one-step:free", "one-step:making", "one-step:in-contact", "one-step:breaking"),
    "constraints": ("violations", "violation:penetration", "violation:joint-limit", "violation:energy-jump"),
    "drift-rate": ("rate", "excess"),
    "recoverability": ("recoverability", "fooled"),
    "executability": ("skill", "executable", "cascade-gap"),
    "subgoals": ("progress", "reach-rate", "oracle-reach-rate"),
    "failures": ("precision", "recall", "exact"),
    "sparing": ("ratio", "gain", "reached"),
}
"""Numbers that stand for a measure where values with intervals are drawn; of any other measure the first ones."""


def figure_of(measure: str, results: Sequence[Result], task: TaskCard | None) -> Figure | None:
    """Draw what a measure found.

    Args:
        measure: Its name.
        results: Its results, of any number of subjects.
        task: Whose they are; None if of no registered one.

    Returns:
        The figure; None if no result has a value.
    """
    own = [r for r in results if r.measure == measure]
    models = [r.subject for r in own if r.details.get("role", "model") == "model"]
    with mpl.rc_context(STYLE):
        if task is not None and measure in OWN:
            drawn = OWN[measure](TaskView(task, {}, {}, tuple(own), model=models[0] if models else ""))
            if drawn is not None:
                return drawn
        return forest([r for r in own if r.name in MAIN.get(measure, (r.name,))]) or forest(own)


def forest(results: Sequence[Result]) -> Figure | None:
    """Values with their intervals, number by number; each number has its own scale."""
    found = [r for r in results if r.value is not None]
    names = list(dict.fromkeys(r.name for r in found))
    if not names:
        return None
    shown: list[str] = []
    for name in names:
        if shown and sum(r.name in (*shown, name) for r in found) > LINES:
            break
        shown.append(name)
    every_row = {name: [r for r in found if r.name == name] for name in shown}
    rows = [row[:LINES] for row in every_row.values()]
    figure = Figure(figsize=(8, sum(0.55 + 0.24 * len(row) for row in rows)), layout="constrained")
    every = figure.subplots(len(rows), 1, squeeze=False, height_ratios=[1.6 + len(row) for row in rows])[:, 0]
    for axes, row in zip(every, rows, strict=True):
        for i, r in enumerate(row):
            assert r.value is not None
            colour = COLOURS.get(r.subject, MUTED if r.details.get("role", "model") != "model" else INK)
            ends = (r.value if r.ci_low is None else r.ci_low, r.value if r.ci_high is None else r.ci_high)
            axes.plot(ends, [i, i], color=colour, lw=1.4)
            axes.plot([r.value], [i], "o", ms=5, color=colour)
        axes.set_yticks(range(len(row)), [r.subject for r in row])
        axes.set_ylim(len(row) - 0.5, -0.5)
        unit = "" if row[0].unit == "1" else f" ({row[0].unit})"
        better = {"lower": ", lower is better", "higher": ", higher is better", "none": ""}[row[0].direction]
        cut = f", the first {len(row)} of {whole}" if (whole := len(every_row[row[0].name])) > len(row) else ""
        axes.set_title(f"{row[0].name}{unit}{better}{cut}", fontsize=9, fontweight="normal", loc="left")
        values = np.array([r.value for r in row], dtype=float)
        if np.ptp(values) == 0 and all(r.ci_low is None for r in row):
            axes.margins(x=0.5)
    return figure


def save_figures(results: Sequence[Result], task: TaskCard | None, folder: Path) -> list[Path]:
    """Write one PNG per measure.

    Args:
        results: Of any measures.
        task: Whose they are; None if of no registered one.
        folder: Where to; created if absent.

    Returns:
        The files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for measure in dict.fromkeys(r.measure for r in results):
        figure = figure_of(measure, results, task)
        if figure is not None:
            path = folder / f"{measure}.png"
            with mpl.rc_context(STYLE):
                figure.savefig(path, dpi=110, metadata={"Software": None})
            files.append(path)
    return files
