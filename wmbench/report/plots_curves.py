"""Figures of measures whose answer is a curve: over search, horizon, delay, coverage or real data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter

from wmbench.measures import Result
from wmbench.report.style import BLUE, COLOURS, INK, MUTED, ORANGE
from wmbench.report.view import TaskView

SOURCES = {"uniform": BLUE, "recorded": ORANGE, "policy": ORANGE, "elite": INK}
SHADES = (INK, BLUE, ORANGE, "#2e7d4f", "#7b61a8", "#b5838d", "#5c7cfa", "#868e96")


def exploitation(view: TaskView) -> Figure | None:
    """Left: what choosing among more candidates gains in truth. Right: what is hoped for and not there."""
    gain, gap = (view.find("exploitation", name, view.model) for name in ("true-gain", "gap"))
    curse = view.find("exploitation", "curse", view.model)
    if gain is None or gap is None or curse is None or "curve" not in gain.details:
        return None
    figure = Figure(figsize=(8, 3), layout="constrained")
    left, right = figure.subplots(1, 2)
    _band(left, gain.details["curve"], "candidates", BLUE, view.model)
    left.axhline(1, color=MUTED, lw=0.8, ls="--")
    left.set(ylabel="true gain (1: the best there is)", ylim=(None, 1.05))
    _band(right, gap.details["curve"], "candidates", BLUE, "imagined - true")
    _band(right, curse.details["curve"], "candidates", MUTED, "the same with honest noise")
    right.axhline(0, color=MUTED, lw=0.8)
    right.set(ylabel="gap, in units of what can be gained")
    right.legend(fontsize=8)
    for axes in (left, right):
        axes.set(xscale="log", xlabel="candidates looked at")
        axes.xaxis.set_major_formatter(ScalarFormatter())
    return figure


def exposure(view: TaskView) -> Figure | None:
    """Error by step: from the true observation before it, and from the model's own."""
    gap = view.find("exposure", "gap", view.model)
    if gap is None or "curve" not in gap.details:
        return None
    curve = gap.details["curve"]
    figure = Figure(figsize=(8, 2.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(curve["step"], _numbers(curve["open"]), color=BLUE, lw=1.8, label="open loop")
    left.plot(curve["step"], _numbers(curve["teacher"]), color=MUTED, lw=1.8, label="teacher-forced")
    left.set(xlabel="step", ylabel="NRMSE (sigma)", ylim=(0, None))
    left.legend(fontsize=8)
    for subject in view.subjects("exposure", "gap"):
        r = view.find("exposure", "gap", subject)
        if r is not None and "curve" in r.details:
            own = r.details["curve"]
            right.plot(own["step"], _numbers(own["gap"]), color=COLOURS.get(subject, INK), lw=1.4, label=subject)
    right.axhline(1, color=MUTED, lw=0.8, ls="--")
    right.set(xlabel="step", ylabel="exposure gap", yscale="log")
    right.legend(fontsize=8)
    return figure


def ranking(view: TaskView) -> Figure | None:
    """Rank correlation and regret by horizon, for candidates of every source."""
    own = [r for r in view.results if r.measure == "ranking" and r.subject == view.model and r.value is not None]
    by_source: dict[str, dict[str, dict[int, Result]]] = {}
    for r in own:
        name, _, qualifier = r.name.partition(":")
        source, _, steps = qualifier.rpartition("-")
        if source and steps.isdigit():
            by_source.setdefault(name, {}).setdefault(source, {})[int(steps)] = r
    if not {"spearman", "regret-1"} <= set(by_source):
        return None
    figure = Figure(figsize=(8, 2.8), layout="constrained")
    for axes, name, label in zip(
        figure.subplots(1, 2), ("spearman", "regret-1"), ("rank correlation", "regret (1: at random)"), strict=True
    ):
        for i, (source, found) in enumerate(by_source[name].items()):
            lengths = sorted(found)
            places = np.array(lengths) * (1 + 0.04 * (i - 1))
            colour = SOURCES.get(source, INK)
            axes.plot(
                places, _numbers([found[s].value for s in lengths]), "o-", ms=4, lw=1.2, color=colour, label=source
            )
            for x, s in zip(places, lengths, strict=True):
                _ends(axes, found[s], x, colour)
        axes.set(xscale="log", xlabel="steps of a plan", ylabel=label)
        axes.set_xticks(sorted({n for one in by_source[name].values() for n in one}))
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.minorticks_off()
    axes.legend(fontsize=8)
    return figure


def real_time(view: TaskView) -> Figure | None:
    """Return by delay, of every policy and simulator."""
    figure = Figure(figsize=(8, 3), layout="constrained")
    axes = figure.subplots()
    drawn = False
    for i, subject in enumerate(view.subjects("real-time", "return:0")):
        found = {
            int(r.name.split(":")[1]): r
            for r in view.results
            if r.measure == "real-time"
            and r.subject == subject
            and r.name.startswith("return:")
            and r.value is not None
        }
        if not found:
            continue
        drawn, steps, colour = True, sorted(found), SHADES[i % len(SHADES)]
        style = "o-" if subject.endswith(" in true") else "o--"
        axes.plot(steps, _numbers([found[s].value for s in steps]), style, ms=4, lw=1.2, color=colour, label=subject)
        for s in steps:
            _ends(axes, found[s], s, colour)
    if not drawn:
        return None
    axes.set(xlabel="delay (control steps)", ylabel="return")
    figure.legend(loc="outside right upper", fontsize=8)
    return figure


def filtering(view: TaskView) -> Figure | None:
    """Share of bad ends among accepted action sequences, by the share that is accepted."""
    rows = [r for r in view.results if (r.measure, r.name) == ("filter", "augrc") and "curve" in r.details]
    if not rows:
        return None
    figure = Figure(figsize=(8, 2.8), layout="constrained")
    axes = figure.subplots()
    for r in rows:
        curve = r.details["curve"]
        colour = COLOURS.get(r.subject, MUTED if r.details.get("role") != "model" else INK)
        axes.plot(curve["coverage"], _numbers(curve["risk"]), color=colour, lw=1.8, label=r.subject)
    if (base := rows[0].details.get("base_risk")) is not None:
        axes.axhline(base, color=MUTED, lw=0.8, ls="--", label="accept all")
    axes.set(xlabel="accepted", ylabel="bad ends among them", xlim=(0, 1), ylim=(0, None))
    figure.legend(loc="outside right upper", fontsize=8)
    return figure


def images(view: TaskView) -> Figure | None:
    """PSNR and SSIM by step of an imagined rollout."""
    figure = Figure(figsize=(8, 2.6), layout="constrained")
    drawn = False
    for axes, name, label in zip(figure.subplots(1, 2), ("psnr", "ssim"), ("PSNR (dB)", "SSIM"), strict=True):
        for i, subject in enumerate(view.subjects("images", name)):
            r = view.find("images", name, subject)
            if r is not None and "curve" in r.details:
                drawn = True
                _band(axes, r.details["curve"], "step", COLOURS.get(subject, SHADES[i % len(SHADES)]), subject)
        axes.set(xlabel="step", ylabel=label)
    if not drawn:
        return None
    axes.legend(fontsize=8)
    return figure


def _band(axes: Axes, curve: Mapping[str, Any], x: str, colour: str, label: str) -> None:
    """A curve with its interval."""
    axes.plot(curve[x], _numbers(curve["value"]), color=colour, lw=1.8, label=label)
    axes.fill_between(curve[x], _numbers(curve["ci_low"]), _numbers(curve["ci_high"]), color=colour, alpha=0.15, lw=0)


def _ends(axes: Axes, r: Result, x: float, colour: str) -> None:
    """The interval of one value as a vertical line."""
    if r.ci_low is not None and r.ci_high is not None:
        axes.plot([x, x], [r.ci_low, r.ci_high], color=colour, lw=1)


def _numbers(values: Sequence[float | None]) -> np.ndarray:
    """Numbers to draw; what is missing is not drawn."""
    return np.array([np.nan if v is None else v for v in values], dtype=float)
