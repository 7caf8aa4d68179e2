"""Draws the learning curves that the shipped actors' configurations hold.

``python baselines/scripts/plot_actor_curves.py`` writes ``docs/images/actor-curves.png``.
"""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib as mpl
import tyro
from matplotlib.figure import Figure

from wmbench.registration import shipped_checkpoints, task_card

ROOT = Path(__file__).parents[2]


def curves() -> dict[str, list[tuple[str, dict]]]:
    """By task: the name and the provenance of each shipped actor."""
    found: dict[str, list[tuple[str, dict]]] = {}
    for (name, task), folder in sorted(shipped_checkpoints().items()):
        if name.startswith("actor"):
            text = (Path(folder) / "config.json").read_text()
            found.setdefault(task, []).append((name, json.loads(text)["provenance"]))
    return found


def draw() -> Figure:
    """One panel per task: mean return on validation episodes by step, and where each actor was taken."""
    mpl.use("agg")
    found = curves()
    figure = Figure(figsize=(3.4 * len(found), 2.8), layout="constrained")
    for axes, (task, actors) in zip(figure.subplots(1, len(found)), found.items(), strict=True):
        steps, returns = zip(*actors[0][1]["curve"], strict=True)
        axes.plot(steps, returns, color="0.4", lw=1)
        for marker, (name, made) in zip("os", actors, strict=True):
            near = min(made["curve"], key=lambda point: abs(point[0] - made["step"]))
            axes.plot(*near, marker, label=name)
        axes.set(title=f"{task_card(task).name}, {actors[0][1]['algorithm'].split(',')[0]}", xlabel="steps")
        axes.legend(fontsize=7)
        axes.tick_params(labelsize=7)
    figure.axes[0].set_ylabel("mean return of 5 episodes")
    return figure


def main(out: Path = ROOT / "docs" / "images" / "actor-curves.png") -> None:
    """Write the figure.

    Args:
        out: Where to.
    """
    draw().savefig(out, dpi=110)


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
