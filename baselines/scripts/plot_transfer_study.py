"""Draws the figures of docs/transfer.md and writes its tables, from the study's records alone.

python baselines/scripts/plot_transfer_study.py
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import tyro
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from transfer_records import (
    HALTED,
    LEARNED,
    MODELS,
    ORACLE,
    RECORDS,
    REFERENCE,
    SIZES,
    TRUTH,
    Record,
    Study,
    models_of,
    read,
)
from transfer_tables import insert, tables, value

from wmbench.report.style import BLUE, GREEN, INK, MUTED, ORANGE, STYLE

ROOT = Path(__file__).parents[2]
PAGE, IMAGES = ROOT / "docs" / "transfer.md", ROOT / "docs" / "images"
COLOURS = {
    TRUTH: INK,
    "ensemble": BLUE,
    "ensemble-100%": "#0b3d91",
    "ensemble-25%": "#5b9bf3",
    "ensemble-5%": "#a9cdfb",
    "ensemble-random": MUTED,
    "tdmpc2": GREEN,
    "linear": ORANGE,
    "random-walk": "#b5838d",
    "mean-delta": "#c9a227",
    "copy-last": "#7b61a8",
}
MARKS = "osD^vP*X"


def main(records: Path = RECORDS, page: Path = PAGE, images: Path = IMAGES) -> None:
    """Draw and write everything.

    Args:
        records: Folder of the records.
        page: The page whose tables are rewritten.
        images: Where the figures go.
    """
    study = read(records)
    images.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(STYLE):
        for name, draw in FIGURES.items():
            draw(study).savefig(images / f"transfer-{name}.png", dpi=100)
    page.write_text(insert(page.read_text(), tables(study)))


def panels(study: Study, *, height: float, share: bool = False) -> tuple[Figure, list[tuple[Axes, str]]]:
    """A panel per task, four in a row."""
    lines = -(-len(study) // 4)
    figure = Figure(figsize=(11, height * lines), layout="constrained")
    axes = figure.subplots(lines, 4, squeeze=False, sharey=share).ravel()
    for spare in axes[len(study) :]:
        spare.set_axis_off()
    for panel, task in zip(axes, study, strict=False):
        panel.set_title(task, fontsize=9)
    return figure, list(zip(axes, study, strict=False))


def main_model(models: dict[str, Record]) -> Record:
    """The shipped ensemble, else the first model there is."""
    return next((models[name] for name in LEARNED if name in models), next(iter(models.values())))


def scatter(study: Study) -> Figure:
    """Every policy of the shipped ensemble, learned against true, with both intervals."""
    figure, every = panels(study, height=2.7)
    for panel, task in every:
        record = main_model(study[task])
        table = record.table()
        spots = [*(v for v in table["true"]), *(v for v in table["learned"] if v is not None)]
        low, high = min(spots), max(spots)
        panel.plot([low, high], [low, high], color=MUTED, lw=0.8, ls="--", zorder=0)
        for i, (x, y) in enumerate(zip(table["true"], table["learned"], strict=True)):
            if y is None:
                continue
            colour = GROUPS.get(record.data["algorithms"][i], INK)
            for ends, level in ((table["true_interval"][i], y), (table["learned_interval"][i], x)):
                if ends is not None:
                    across = level == y
                    panel.plot(ends if across else [x, x], [y, y] if across else ends, color=colour, lw=0.9)
            panel.plot([x], [y], "o", ms=4.5, color=colour)
        rank = record.find("spearman")
        if rank is not None and rank.value is not None:
            panel.annotate(
                f"{MODELS[record.model]}: {rank.value:.2f}", (0.03, 0.92), xycoords="axes fraction", fontsize=8
            )
        panel.tick_params(labelsize=7)
    for name, colour in GROUPS.items():
        every[0][0].plot([], [], "o", ms=4.5, color=colour, label=name)
    figure.legend(loc="outside upper center", ncols=len(GROUPS), fontsize=8)
    figure.supxlabel("true return, mean per policy", fontsize=9)
    figure.supylabel("in the learned simulator", fontsize=9)
    return figure


GROUPS = {"random": MUTED, "scripted": INK, "BC": GREEN, "SAC": BLUE, "TD3": "#7b61a8", "PPO": ORANGE}


def by_model(study: Study) -> Figure:
    """Spearman's correlation of every model with its interval, a panel per task."""
    figure, every = panels(study, height=2.5, share=True)
    models = [m for m in models_of(study) if m != ORACLE]
    for panel, task in every:
        for y, model in enumerate(models):
            record = study[task].get(model)
            if record is not None:
                bar(panel, record, "spearman", y, COLOURS.get(model, MUTED))
        panel.axvline(0, color=MUTED, lw=0.8, ls="--")
        panel.set(xlim=(-1.05, 1.05))
        panel.set_yticks(range(len(models)), [MODELS.get(m, m) for m in models], fontsize=7)
        panel.set_ylim(len(models) - 0.5, -0.5)
    figure.supxlabel("Spearman's rank correlation with the truth", fontsize=9)
    return figure


def bar(panel: Axes, record: Record, name: str, y: float, colour: str, scale: float = 1.0, **options: Any) -> None:
    """A value with its interval on one line."""
    found = record.find(name, **options)
    if found is None or found.value is None:
        return
    if found.ci_low is not None and found.ci_high is not None:
        panel.plot([found.ci_low * scale, found.ci_high * scale], [y, y], color=colour, lw=1.4)
    panel.plot([found.value * scale], [y], "o", ms=5, color=colour)


def skill(study: Study) -> Figure:
    """Agreement by data, and agreement by one-step skill."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    colours = mpl.colormaps["tab10"].colors
    for i, (task, found) in enumerate(study.items()):
        colour, mark = colours[i % len(colours)], MARKS[i % len(MARKS)]
        there = [m for m in SIZES if m in found]
        steps = [found[m].data["data"]["train_steps"] for m in there]
        rank = [value(found[m], "spearman") for m in there]
        left.plot(steps, rank, f"{mark}-", ms=5, lw=1.2, color=colour, label=task)
        for model, record in found.items():
            if record.skill() is None:
                continue
            error = np.clip(1 - record.skill(), 1e-6, 10)
            full = model not in REFERENCE
            rank_of = value(record, "spearman")
            shape = "x" if np.isnan(rank_of) else mark
            right.plot([error], [np.nan_to_num(rank_of)], shape, ms=5, color=colour, mfc=colour if full else "none")
    left.set(xscale="log", xlabel="steps of training data", ylabel="Spearman", title="by data")
    right.set(xscale="log", xlabel="one-step error, 1 - skill (log)", title="by one-step error")
    right.invert_xaxis()
    left.xaxis.set_minor_formatter(NullFormatter())
    right.annotate(
        "hollow: reference models; x: all policies alike", (0.03, 0.03), xycoords="axes fraction", fontsize=7
    )
    for panel in (left, right):
        panel.axhline(0, color=MUTED, lw=0.8, ls="--")
        panel.set_ylim(-1.05, 1.05)
    figure.legend(loc="outside upper center", ncols=4, fontsize=8)
    return figure


def horizon(study: Study) -> Figure:
    """Agreement if only so many steps counted, of full episodes and of those halted in doubt."""
    figure, every = panels(study, height=2.3, share=True)
    for panel, task in every:
        record = main_model(study[task])
        for halted, colour, label in ((False, BLUE, "full episodes"), (True, ORANGE, HALTED.removeprefix(", "))):
            found = record.find("spearman", halted=halted)
            if found is None or "curve" not in found.details:
                continue
            curve = found.details["curve"]
            place = np.array(curve["horizon"]) * (1 + 0.02 * halted)
            panel.plot(place, [np.nan if v is None else v for v in curve["value"]], "o-", ms=4, color=colour)
            for x, low, high in zip(place, curve["low"], curve["high"], strict=True):
                if low is not None and high is not None:
                    panel.plot([x, x], [low, high], color=colour, lw=1)
            if task == next(iter(study)):
                panel.plot([], [], "o-", ms=4, color=colour, label=label)
        panel.axhline(0, color=MUTED, lw=0.8, ls="--")
        panel.set(ylim=(-1.05, 1.05), xlim=(0, None))
    figure.legend(loc="outside upper center", ncols=2, fontsize=8)
    figure.supxlabel("steps counted", fontsize=9)
    figure.supylabel("Spearman", fontsize=9)
    return figure


def bias(study: Study) -> Figure:
    """How far values are off, as a share of the range of true values, of full and of halted episodes."""
    figure, every = panels(study, height=2.1, share=True)
    models = [m for m in models_of(study) if m not in (ORACLE, *REFERENCE)]
    for panel, task in every:
        for y, model in enumerate(models):
            record = study[task].get(model)
            if record is None:
                continue
            bar(panel, record, "bias", y, BLUE, 1 / record.spread())
            bar(panel, record, "bias", y + 0.3, ORANGE, 1 / record.spread(), halted=True)
        panel.axvline(0, color=MUTED, lw=0.8, ls="--")
        panel.set_yticks(range(len(models)), [MODELS.get(m, m) for m in models], fontsize=7)
        panel.set_ylim(len(models) - 0.3, -0.5)
    for colour, label in ((BLUE, "full episodes"), (ORANGE, HALTED.removeprefix(", "))):
        every[0][0].plot([], [], "o-", ms=4, color=colour, label=label)
    figure.legend(loc="outside upper center", ncols=2, fontsize=8)
    figure.supxlabel("bias: learned minus true, mean over policies, as a share of the range of true values", fontsize=9)
    return figure


FIGURES = {"scatter": scatter, "models": by_model, "skill": skill, "horizon": horizon, "bias": bias}

if __name__ == "__main__":
    tyro.cli(main)
