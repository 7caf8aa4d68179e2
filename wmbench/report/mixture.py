"""Figures of a dataset in the report's style: returns by source, what each covers, and where its states lie."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from wmbench.episodes import Dataset
from wmbench.episodes.coverage import Coverage
from wmbench.report.style import BLUE, GREEN, INK, MUTED, ORANGE, STYLE

PALETTE = (BLUE, ORANGE, GREEN, "#7b61a8", "#c23b5e", "#12a3a3", "#8d6e63", MUTED, INK)


def save_mixture(data: Dataset, found: Sequence[Coverage], folder: Path) -> list[Path]:
    """Write ``returns.png``, ``coverage.png`` and ``states.png``.

    Args:
        data: The dataset.
        found: What its sources cover, see :func:`wmbench.episodes.coverage.coverage`.
        folder: Where to; created if absent.

    Returns:
        The files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    own = [entry for entry in found if entry.source != "all" or len(found) == 1]
    files = []
    with mpl.rc_context(STYLE):
        figures = {"returns": returns(data), "coverage": covered(data, own), "states": states(own)}
        for name, figure in figures.items():
            path = folder / f"{name}.png"
            figure.savefig(path, dpi=110, metadata={"Software": None})
            files.append(path)
    return files


def returns(data: Dataset, bins: int = 30) -> Figure:
    """A histogram of returns per source, all over the same range."""
    sources = list(data.manifest["counts"]["source"])
    values = data.index["return"]
    edges = np.linspace(values.min(), values.max() if np.ptp(values) else values.min() + 1, bins + 1)
    figure = Figure(figsize=(8, 0.7 + 0.8 * len(sources)), layout="constrained")
    every = figure.subplots(len(sources), 1, sharex=True, squeeze=False)[:, 0]
    for i, (axes, source) in enumerate(zip(every, sources, strict=True)):
        rows = data.episodes(source=source)
        solved = data.index["success"][rows].mean()
        axes.hist(values[rows], edges, color=_colour(i))
        axes.set_title(f"{source}: {len(rows)} episodes, {solved:.0%} solved", fontsize=9, fontweight="normal")
        axes.yaxis.get_major_locator().set_params(integer=True, nbins=3)
    every[-1].set_xlabel("return")
    return figure


def covered(data: Dataset, found: Sequence[Coverage]) -> Figure:
    """Share of occupied bins by source and dimension, observations and actions beside each other."""
    blocks = [
        (data.task.observation, [own.states for own in found]),
        (data.task.action, [own.actions for own in found]),
    ]
    widths = [max(3, len(dimensions)) for dimensions, _ in blocks]
    figure = Figure(figsize=(min(16, 4 + 0.3 * sum(widths)), 1.6 + 0.35 * len(found)), layout="constrained")
    every = figure.subplots(1, 2, squeeze=False, width_ratios=widths)[0]
    for axes, title, (dimensions, rows) in zip(every, ("states", "actions"), blocks, strict=True):
        image = axes.imshow(np.array(rows), vmin=0, vmax=1, cmap="Blues", aspect="auto")
        names = [d.name for d in dimensions] if len(dimensions) <= 48 else []
        axes.set_xticks(range(len(names)), names, rotation=90, fontsize=6)
        axes.set_yticks(range(len(found)), [own.source for own in found] if axes is every[0] else [])
        axes.set_title(title)
    figure.colorbar(image, ax=every[-1], label="share of bins occupied")
    return figure


def states(found: Sequence[Coverage]) -> Figure:
    """The sampled states of every source on the two directions in which all of them vary most."""
    rows = np.concatenate([own.rows for own in found])
    centre = rows.mean(0)
    _, _, directions = np.linalg.svd(rows - centre, full_matrices=False)
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    for i, own in enumerate(found):
        place = (own.rows - centre) @ directions[:2].T  # (n, 2), or (n, 1) for a single dimension
        axes.plot(place[:, 0], place[:, -1], ".", ms=2, color=_colour(i), label=own.source, alpha=0.6)
    axes.set(xlabel="first direction (sigma)", ylabel="second direction (sigma)")
    axes.set_title("states by source, two principal directions")
    figure.legend(loc="outside right upper", markerscale=5)
    return figure


def _colour(i: int) -> str:
    return PALETTE[i % len(PALETTE)]
