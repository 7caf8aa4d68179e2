"""The floor of every task that has one: how soon two true simulators, minutely apart, disagree under random actions."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import gymnasium as gym

import wmbench
from wmbench.cards import TaskCard
from wmbench.measures import Result
from wmbench.measures.drift import MEASURE as DRIFT
from wmbench.measures.drift_rate import MEASURE as RATE

TABLE = Path(__file__).parent / "floors.json"
SETTINGS = {"episodes": 32, "windows": 64, "horizon": 200, "seed": 0, "threshold": 0.5}
PACKAGES = ("wmbench", "gymnasium", "mujoco", "dm-control", "numpy")
BEGIN, END = "<!-- floors: begin -->\n", "<!-- floors: end -->\n"


@cache
def floors() -> dict[str, Any]:
    """The shipped table, as ``envs/scripts/make_floor_table.py`` wrote it; no tasks if there is none yet."""
    return json.loads(TABLE.read_text()) if TABLE.exists() else {"tasks": {}}


def disturbable(card: TaskCard) -> bool:
    """Whether states of a task's simulator hold positions and velocities; replayed ones do not, and have no floor."""
    env: Any = gym.make(card.id, **card.options()).unwrapped
    moving = env.moving()
    env.close()
    return moving.start < moving.stop


def measure_floor(card: TaskCard, folder: Path, settings: Mapping[str, Any] = SETTINGS) -> dict[str, Any]:
    """Measure one task: random episodes, windows from random places of them, and disturbed copies of each.

    Args:
        card: The task.
        folder: Where the episodes are kept; a begun collection goes on.
        settings: As :data:`SETTINGS`.

    Returns:
        The task's entry of the table, plain data.
    """
    from wmbench.recording.drift import record_drift

    data = wmbench.collect(
        card, folder, policy="random", episodes=settings["episodes"], seed=settings["seed"], split=(1.0, 0.0, 0.0)
    )
    recording = record_drift(
        {},
        data,
        split="train",
        horizon=min(settings["horizon"], card.horizon),
        windows=settings["windows"],
        seed=settings["seed"],
        with_baselines=False,
    )
    found = {(r.subject, r.name): r for m in (DRIFT, RATE) for r in m(recording.arrays)}
    rows = []
    for subject, scale in zip(recording.arrays["subject"], recording.arrays["disturbance"], strict=True):
        steps, rate = found[str(subject), f"steps-to-{settings['threshold']:g}"], found[str(subject), "rate"]
        rows.append(
            {
                "disturbance": float(scale),
                **_numbers("steps", steps),
                "mean_steps": found[str(subject), f"mean-steps-to-{settings['threshold']:g}"].value,
                "censored": steps.details["censored"],
                **_numbers("rate", rate),
                "rate_points": rate.details.get("points"),
            }
        )
    auc = found[str(recording.arrays["subject"][0]), "auc"]
    return {
        "task_digest": card.digest(),
        "dataset": data.digest,
        "horizon": auc.details["horizon"],
        "control_hz": card.control_hz,
        "masked": auc.details["masked"],
        "floors": rows,
    }


def versions() -> dict[str, str]:
    """Of everything that the numbers depend on."""
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


def page(text: str, table: Mapping[str, Any]) -> str:
    """A page with everything between the two markers replaced by the table.

    Raises:
        ValueError: A marker is missing.
    """
    head, rest = text.split(BEGIN)
    _, tail = rest.split(END)
    return f"{head}{BEGIN}\n{markdown(table)}\n{END}{tail}"


def markdown(table: Mapping[str, Any]) -> str:
    """One row per task: median steps and censored share per disturbance, growth at 1e-6."""
    scales = [f"{r['disturbance']:.0e}".replace("e-0", "e-") for r in next(iter(table["tasks"].values()))["floors"]]
    lines = [
        f"| Task | {' | '.join(f'steps, {s}' for s in scales)} | growth per step, 1e-6 | per second | of steps |",
        f"| --- |{' ---: |' * (len(scales) + 3)}",
    ]
    for task, entry in table["tasks"].items():
        rate = entry["floors"][1]["rate"]
        growth = ("", "") if rate is None else (f"{rate:.3f}", f"{rate * entry['control_hz']:.3g}")
        cells = [*(_steps(row) for row in entry["floors"]), *growth, str(entry["horizon"])]
        lines.append(f"| `{task.removeprefix('wmbench/')}` | {' | '.join(cells)} |")
    made = table["versions"]
    lines += ["", f"`{table['command']}`, {', '.join(f'{k} {v}' for k, v in made.items())}."]
    return "\n".join(lines) + "\n"


def _steps(row: Mapping[str, Any]) -> str:
    share = row["censored"]
    if row["steps"] is None:
        return f"never ({share:.0%} stay)"
    return f"{row['steps']:g} ({share:.0%} stay)" if share else f"{row['steps']:g}"


def _numbers(name: str, result: Result) -> dict[str, Any]:
    return {name: result.value, f"{name}_ci": [result.ci_low, result.ci_high]}
