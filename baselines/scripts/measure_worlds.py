"""Measures shipped policies and ensembles in other worlds, and writes results, picture and the table of docs/worlds.md.

    python baselines/scripts/measure_worlds.py

Per task: return and success of a shipped policy over the same episode seeds in the nominal world, near, far, and far in
one perturbation at a time; and the one-step skill of the shipped ensemble on transitions of that policy (half of the
episodes with action noise 0.3) in the nominal world, near and far.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from wmbench import checkpoints
from wmbench.cards import TaskCard
from wmbench.collecting import collect
from wmbench.evaluating import evaluate
from wmbench.files import write_json
from wmbench.measures import Result
from wmbench.provenance import provenance
from wmbench.recording.one_step import record_one_step
from wmbench.registration import task_card
from wmbench.worlds import PERTURBATIONS, WORLDS, supported, world_suffix

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "baselines" / "results" / "worlds.json"
PICTURE = ROOT / "docs" / "images" / "worlds.png"
PAGE = ROOT / "docs" / "worlds.md"
BEGIN, END = "<!-- measured -->", "<!-- /measured -->"
TASKS = {"DMC-CartpoleSwingup": "actor", "DMC-PendulumSwingup": "expert", "Gym-HalfCheetah": "actor"}


@dataclass(frozen=True)
class Options:
    """What to measure.

    Attributes:
        episodes: Of each policy in each world.
        seed: Root of the episodes' seeds.
        tasks: Which tasks to measure; what is known of the others stays.
        draw: Only draw the picture and the table from the results that are there.
    """

    episodes: int = 10
    seed: int = 0
    tasks: tuple[str, ...] = tuple(TASKS)
    draw: bool = False


def main() -> None:
    """Measure, then write."""
    options = tyro.cli(Options, description=__doc__)
    found = json.loads(RESULTS.read_text())["tasks"] if RESULTS.exists() else {}
    for name in () if options.draw else options.tasks:
        found[name] = measure(task_card(name), TASKS[name], options)
        found[name]["settings"] = {"episodes": options.episodes, "seed": options.seed}
        write_json(RESULTS, {"format": 1, "tasks": found, "provenance": provenance()})
    results = json.loads(RESULTS.read_text())
    draw(results)
    text = PAGE.read_text()
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    PAGE.write_text(f"{before}{BEGIN}\n{table(results)}{END}{after}")


def measure(card: TaskCard, policy: str, options: Options) -> dict[str, Any]:
    """Everything of one task."""
    felt = [name for name in supported(card) if PERTURBATIONS[name].part != "picture"]  # by policies that see states
    worlds: list[Any] = [*WORLDS, *({name: "far"} for name in felt)]
    rows = []
    for world in worlds:
        found = evaluate(
            card, policy, episodes=options.episodes, seed=options.seed, num_envs=options.episodes, world=world
        )
        row = {"world": world, **{name: found.find(name).to_json() for name in ("return", "success")}}
        row["returns"] = [e["returns"] for e in found.episodes]
        if isinstance(world, str):
            row["skill"] = skill(card, policy, world, options).to_json()
        rows.append(row)
    return {"policy": policy, "worlds": rows}


def skill(card: TaskCard, policy: str, world: str, options: Options) -> Result:
    """One-step skill of the shipped ensemble against copy-last, on transitions of a world."""
    model = checkpoints.resolve("ensemble", card, kind="world_model")
    with tempfile.TemporaryDirectory() as folder:
        half = max(1, options.episodes // 2)
        data = collect(
            card, folder, policy=[policy, policy], episodes=half, noise=[0.0, 0.3], seed=options.seed, world=world
        )
        recording = record_one_step({"ensemble": model}, data, split=None, limit=2000, draws=4)
    return next(r for r in recording.results() if r.name == "skill" and r.subject == "ensemble")


def label(world: Any) -> str:
    """What the table and the picture call a world."""
    return world if isinstance(world, str) else world_suffix(world)[1:].replace("=far", " far")


def table(results: dict[str, Any]) -> str:
    """Markdown."""
    lines = ["| task, policy | world | return | success | one-step skill of the ensemble |", "|---|---|---|---|---|"]
    for name, task in results["tasks"].items():
        for row in task["worlds"]:
            cells = [f"{name}, `{task['policy']}`", label(row["world"]), number(row["return"], ".0f")]
            cells += [number(row["success"], ".2f"), number(row["skill"], ".3f") if "skill" in row else ""]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def number(result: dict[str, Any], form: str) -> str:
    """A value with its interval."""
    if result["value"] is None:
        return "-"
    if result["ci_low"] is None:
        return format(result["value"], form)
    return f"{result['value']:{form}} ({result['ci_low']:{form}} to {result['ci_high']:{form}})"


def draw(results: dict[str, Any]) -> None:
    """One panel per task: the return in each world, with its interval."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, len(results["tasks"]), figsize=(11, 3.2), layout="constrained", squeeze=False)
    for panel, (name, task) in zip(panels[0], results["tasks"].items(), strict=True):
        rows = task["worlds"][::-1]
        value = [row["return"]["value"] for row in rows]
        low = [v - row["return"]["ci_low"] for v, row in zip(value, rows, strict=True)]
        high = [row["return"]["ci_high"] - v for v, row in zip(value, rows, strict=True)]
        colours = ["tab:blue" if isinstance(row["world"], str) else "lightsteelblue" for row in rows]
        panel.barh([label(row["world"]) for row in rows], value, xerr=[low, high], color=colours, ecolor="0.3")
        panel.set_title(f"{name}, {task['policy']}", fontsize=9)
        panel.set_xlabel("return")
    figure.savefig(PICTURE, dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    main()
