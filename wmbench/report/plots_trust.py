"""Figures about trust: other actions, rewards and endings, the model's own doubts, and policies ranked in it."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wmbench.measures import Result
from wmbench.report.style import BLUE, COLOURS, INK, MUTED, ORANGE
from wmbench.report.view import TaskView

EFFECTS = (("near", "a little different"), ("data", "from elsewhere in the data"), ("corner", "extreme"))
SIGNALS = 3
"""Signals of the model that are shown beside the trivial ones."""


def counterfactual(view: TaskView) -> Figure | None:
    """Error of the effect of another action, by kind of action and number of steps."""
    subjects = [s for s in view.subjects("counterfactual", "cfe") if s not in ("mean-delta", "copy-last")]
    if not subjects:
        return None
    figure = Figure(figsize=(8, 2.8), layout="constrained")
    every = figure.subplots(1, len(EFFECTS), sharey=True)
    for axes, (kind, label) in zip(every, EFFECTS, strict=True):
        for i, subject in enumerate(subjects):
            found = {}
            for r in view.results:
                if r.measure != "counterfactual" or r.subject != subject or r.value is None:
                    continue
                if r.name == "cfe" and kind == "data":
                    found[1] = r
                elif r.name.startswith(f"cfe-{kind}-"):
                    found[int(r.name.rsplit("-", 1)[1])] = r
            _curve(axes, found, COLOURS.get(subject, INK), subject, 0.12 * (i - (len(subjects) - 1) / 2))
        axes.axhline(1, color=MUTED, lw=0.8, ls="--")
        axes.set(xlabel="steps", ylim=(0, None))
        axes.set_title(label, fontsize=9, fontweight="normal")
    every[0].set_ylabel("error of the effect")
    every[0].annotate("ignores the action", (0.02, 1), xycoords=("axes fraction", "data"), fontsize=7, va="bottom")
    every[-1].legend(fontsize=8)
    return figure


def _curve(axes: Axes, found: dict[int, Result], colour: str, label: str, shift: float) -> None:
    """Values with intervals by an integer, a little apart where several subjects share it."""
    steps = sorted(found)
    if not steps:
        return
    values = np.array([found[s].value for s in steps], dtype=float)
    places = np.array(steps) * (1 + 0.3 * shift)
    axes.plot(places, values, "o-", ms=4, lw=1.2, color=colour, label=label)
    for x, s in zip(places, steps, strict=True):
        r = found[s]
        if r.ci_low is not None and r.ci_high is not None:
            axes.plot([x, x], [r.ci_low, r.ci_high], color=colour, lw=1)


def heads(view: TaskView) -> Figure | None:
    """Error of the summed reward by horizon, against always predicting the mean reward."""
    rows = [
        r
        for r in view.results
        if (r.measure, r.name) == ("heads", "reward-sum-error") and r.value is not None and "curve" in r.details
    ]
    if not rows:
        return None
    figure = Figure(figsize=(8, 2.8), layout="constrained")
    axes = figure.subplots()
    for r in rows:
        curve = r.details["curve"]
        colour = MUTED if r.subject == "marginal" else COLOURS.get(r.subject, INK)
        label = "mean reward of the data" if r.subject == "marginal" else r.subject
        axes.plot(curve["step"], curve["error"], color=colour, lw=1.8, label=label)
        low = [np.nan if v is None else v for v in curve["ci_low"]]
        high = [np.nan if v is None else v for v in curve["ci_high"]]
        axes.fill_between(curve["step"], low, high, color=colour, alpha=0.15, lw=0)
    axes.set(xlabel="step", ylabel="|imagined - true| sum of rewards", xlim=(1, None), ylim=(0, None))
    figure.legend(loc="outside right upper")
    return figure


def uncertainty(view: TaskView) -> Figure | None:
    """Left: do intervals hold what they promise? Right: which signal finds the large errors?"""
    curve = view.find("uncertainty", "ece", view.model)
    of_model = [r for r in view.results if (r.measure, r.subject) == ("uncertainty", view.model)]
    signals = [r for r in of_model if r.name.split(":")[0] == "auroc" and r.value is not None]
    calibrated = curve is not None and "curve" in curve.details
    if not signals and not calibrated:
        return None
    figure = Figure(figsize=(8, 3), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot([0, 1], [0, 1], color=MUTED, lw=0.8, ls="--")
    for subject in view.subjects("uncertainty", "ece"):
        r = view.find("uncertainty", "ece", subject)
        if r is None or "curve" not in r.details:
            continue
        colour = MUTED if subject == "marginal" else COLOURS.get(subject, INK)
        left.plot(r.details["curve"]["level"], r.details["curve"]["coverage"], color=colour, lw=1.8, label=subject)
    left.set(xlabel="interval promises", ylabel="holds", xlim=(0, 1), ylim=(0, 1))
    left.annotate("too sure of itself", (0.95, 0.05), ha="right", fontsize=7, color=INK)
    left.annotate("too cautious", (0.05, 0.92), fontsize=7, color=INK)
    if not calibrated:
        left.text(0.5, 0.5, "the model predicts no distribution", ha="center", fontsize=8)
    trivial = ("constant", "motion", "nearest", "linear-spread")
    named = [(r.details.get("signal", r.name), r) for r in signals]
    shown = [n for n in named if n[0] not in trivial][:SIGNALS] + [n for n in named if n[0] in trivial]
    for i, (name, r) in enumerate(shown):
        colour = MUTED if name in trivial else BLUE
        _bar(right, r, i, colour)
    right.axvline(0.5, color=MUTED, lw=0.8, ls="--")
    right.set_yticks(range(len(shown)), [f"{n} (trivial)" if n in trivial else n for n, _ in shown], fontsize=8)
    right.invert_yaxis()
    right.set(xlim=(0, 1), xlabel="AUROC of large errors (0.5: no idea)")
    return figure


def _bar(axes: Axes, r: Result, y: float, colour: str) -> None:
    """A value with its interval on one line."""
    assert r.value is not None
    if r.ci_low is not None and r.ci_high is not None:
        axes.plot([r.ci_low, r.ci_high], [y, y], color=colour, lw=1.4)
    axes.plot([r.value], [y], "o", ms=6, color=colour)


def agreement(view: TaskView) -> Figure | None:
    """Every policy's mean outcome, learned against true, and the rank correlation by horizon."""
    bias = view.find("agreement", "bias", view.model)
    if bias is None or "table" not in bias.details:
        return None
    table = bias.details["table"]
    true, learned = np.array(table["true"], dtype=float), np.array(table["learned"], dtype=float)
    figure = Figure(figsize=(8, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.6, 1))
    span = [float(np.nanmin([true, learned])), float(np.nanmax([true, learned]))]
    left.plot(span, span, color=MUTED, lw=0.8, ls="--")
    marks = "osD^vP*Xhd<>p8"
    for i, (name, x, y) in enumerate(zip(table["policy"], true, learned, strict=True)):
        fill = "none" if "noise" in name else BLUE
        for axis, which in ((0, "true"), (1, "learned")):
            if (ends := table.get(f"{which}_interval", {i: None})[i]) is not None:
                left.plot(*((ends, [y, y]) if axis == 0 else ([x, x], ends)), color=BLUE, lw=0.9)
        left.plot([x], [y], marks[i % len(marks)], ms=6, color=BLUE, mfc=fill, label=name)
    what = "return" if bias.unit == "reward" else "success rate"
    left.set(xlabel=f"true {what}, mean per policy", ylabel="in the learned simulator")
    left.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    for name, colour in (("spearman", BLUE), ("pearson", ORANGE)):
        r = view.find("agreement", name, view.model)
        if r is None or "curve" not in r.details:
            continue
        curve = r.details["curve"]
        values = [np.nan if v is None else v for v in curve["value"]]
        right.plot(curve["horizon"], values, "o-", ms=4, color=colour, label=name)
        for x, low, high in zip(curve["horizon"], curve["low"], curve["high"], strict=True):
            if low is not None and high is not None:
                right.plot([x, x], [low, high], color=colour, lw=1)
    right.axhline(0, color=MUTED, lw=0.8)
    right.set(xlabel="steps counted", ylabel="correlation over policies", ylim=(-1.05, 1.05))
    right.legend(fontsize=8, loc="lower right")
    return figure
