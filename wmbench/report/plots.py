"""The report's figures, each drawn from one task's results, as SVG."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wmbench.measures import Result
from wmbench.report.style import BLUE, COLOURS, INK, MUTED
from wmbench.report.view import TRUE, TaskView


def drift(view: TaskView) -> Figure | None:
    """NRMSE by step of every model and baseline, with the floor."""
    rows = [r for r in view.results if r.measure == "drift" and r.name == "auc" and "curve" in r.details]
    if not rows:
        return None
    figure = Figure(figsize=(8, 3.4), layout="constrained")
    axes = figure.subplots()
    greys = iter(("#c5ccd3", "#9aa5b1", "#7b8794"))
    for r in rows:
        curve = r.details["curve"]
        level = dict(zip(curve["quantiles"], curve["nrmse"], strict=True))
        floor = r.details.get("role") == "floor"
        colour = next(greys, MUTED) if floor else COLOURS.get(r.subject, INK)
        axes.plot(
            curve["step"], level[0.5], color=colour, lw=1 if floor else 1.8, ls=":" if floor else "-", label=r.subject
        )
        if r.subject == view.model:
            axes.fill_between(curve["step"], level[0.1], level[0.9], color=colour, alpha=0.15, lw=0)
    for threshold in (0.5, 1.0):
        axes.axhline(threshold, color=MUTED, lw=0.6, ls="--")
    axes.set(xlabel="step", ylabel="NRMSE (sigma)", ylim=(0, 2.2), xlim=(1, None))
    dt = view.card.dt
    conversions: Any = (lambda s: s * dt, lambda t: t / dt)
    seconds = axes.secondary_xaxis("top", functions=conversions)
    seconds.set_xlabel("seconds")
    figure.legend(loc="outside right upper")
    return figure


def rollout(view: TaskView, folder: Path) -> Figure | None:
    """Film strips and traces of one rollout in both simulators."""
    values = view.values.get("rollout")
    if not values:
        return None
    true, imagined = np.array(values["true"], dtype=float), np.array(values["imagined"], dtype=float)
    shown = len(values["dimensions"])
    frames = np.load(folder / values["frames"]) if values["frames"] else None  # (2, F, H, W, 3)
    figure = Figure(figsize=(8, 3.2 + 1.6 * (frames is not None)), layout="constrained")
    parts: Any = figure.subfigures(2, 1, height_ratios=(1.3, 2)) if frames is not None else [None, figure]
    if frames is not None:
        grid: Any = parts[0].subplots(2, frames.shape[1], squeeze=False)
        for row, name in enumerate(("true", "learned")):
            for column, step in enumerate(values["frame_steps"]):
                axes = grid[row, column]
                axes.imshow(frames[row, column])
                axes.set_xticks([])
                axes.set_yticks([])
                axes.spines[:].set_visible(False)
                if row == 0:
                    axes.set_title(f"step {step}", fontsize=8, fontweight="normal", loc="center")
            grid[row, 0].set_ylabel(name)
    columns = 2
    grid = parts[1].subplots(-(-shown // columns), columns, sharex=True, squeeze=False)
    time = np.arange(len(true))
    for i, (name, unit) in enumerate(zip(values["dimensions"], values["units"], strict=True)):
        axes = grid.flat[i]
        axes.plot(time, true[:, i], color=INK, lw=1.4, label="true")
        axes.plot(time, imagined[:, i], color=BLUE, lw=1.4, label="learned")
        axes.set_title(f"{name} ({unit})", fontsize=8, fontweight="normal")
    for axes in grid.flat[shown:]:
        axes.set_visible(False)
    grid.flat[0].legend(fontsize=8, loc="best")
    for axes in grid[-1]:
        axes.set_xlabel("step")
    return figure


def skill(view: TaskView) -> Figure | None:
    """Skill of every dimension, models side by side."""
    rows = {
        r.subject: r.details["table"]
        for r in view.results
        if r.measure == "one-step"
        and r.name == "skill"
        and "table" in r.details
        and r.subject not in ("copy-last", "mean-delta")
    }
    if not rows:
        return None
    names = next(iter(rows.values()))["dimension"]
    figure = Figure(figsize=(8, 1.2 + 0.2 * len(names)), layout="constrained")
    axes = figure.subplots()
    for subject, table in rows.items():
        values = [max(-1.0, v) if v is not None else -1.0 for v in table["skill"]]
        axes.plot(values, range(len(names)), "o", ms=5, color=COLOURS.get(subject, INK), label=subject)
    axes.axvline(0, color=MUTED, lw=0.8)
    axes.axvline(1, color=MUTED, lw=0.8)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set(xlim=(-1.05, 1.05), xlabel="skill (cut at -1)")
    axes.grid(axis="y", color="#eef1f4")
    figure.legend(loc="outside right upper")
    return figure


def success(view: TaskView) -> Figure | None:
    """Success rate and return of every policy, both simulators on one line."""
    policies = view.values.get("success", {}).get("policies", [])
    if not policies:
        return None
    figure = Figure(figsize=(8, 1.1 + 0.5 * len(policies)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, name, label in ((left, "success", "success rate"), (right, "return", "return")):
        for i, policy in enumerate(policies):
            for offset, simulator, fill in ((-0.12, TRUE, INK), (0.12, view.model, "white")):
                result = view.find("success", name, f"{policy} in {simulator}")
                if result is not None and result.value is not None:
                    colour = INK if simulator == TRUE else BLUE
                    _point(axes, result, i + offset, colour, fill)
        axes.set_xlabel(label)
        axes.grid(axis="y", color="#eef1f4")
    left.set_xlim(-0.03, 1.03)
    left.set_yticks(range(len(policies)), policies)
    left.invert_yaxis()
    return figure


def _point(axes: Axes, result: Result, y: float, colour: str, fill: str) -> None:
    assert result.value is not None
    if result.ci_low is not None and result.ci_high is not None:
        axes.plot([result.ci_low, result.ci_high], [y, y], color=colour, lw=1.4)
    axes.plot([result.value], [y], "o", ms=6, mec=colour, mfc=fill if fill == "white" else colour)


def latency(view: TaskView) -> Figure | None:
    """Time of one call, and rows per second by batch."""
    every = [r for r in view.results if r.measure == "latency"]
    calls = [
        (r, view.find("latency", r.name.replace("p50", "p95"), r.subject)) for r in every if r.name.endswith("p50")
    ]
    calls = [(p50, p95) for p50, p95 in calls if p50.value is not None and p50.details.get("batch") == 1]
    if not calls:
        return None
    figure = Figure(figsize=(8, 1.4 + 0.24 * len(calls)), layout="constrained")
    left, right = figure.subplots(1, 2)
    for i, (p50, p95) in enumerate(calls):
        colour = COLOURS.get(p50.subject, INK)
        left.plot([1e3 * (p50.value or 0)], [i], "o", ms=5, color=colour)
        if p95 is not None and p95.value is not None:
            left.plot([1e3 * (p50.value or 0), 1e3 * p95.value], [i, i], color=colour, lw=1.4)
    left.set_yticks(range(len(calls)), [f"{p.subject} {p.name.removesuffix('-p50')}" for p, _ in calls])
    left.invert_yaxis()
    left.set(xscale="log", xlabel="milliseconds per call")
    series: dict[str, list[tuple[int, float]]] = {}
    for r in every:
        if r.name.startswith("step-") and r.name.endswith("throughput") and r.value is not None:
            series.setdefault(r.subject, []).append((int(r.details["batch"]), r.value))
    for subject, points in series.items():
        points.sort()
        right.plot(*zip(*points, strict=True), "o-", ms=4, color=COLOURS.get(subject, INK), label=subject)
    right.set(xscale="log", yscale="log", xlabel="rows per call", ylabel="rows per second")
    right.legend(fontsize=8)
    return figure


def svg(figure: Figure, salt: str) -> str:
    """The figure as inline SVG whose ids do not clash with another figure's on the same page."""
    stream = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": salt}):
        metadata: dict[str, Any] = {"Date": None}
        figure.savefig(stream, format="svg", metadata=metadata)
    text = stream.getvalue()
    return text[text.index("<svg") :]
