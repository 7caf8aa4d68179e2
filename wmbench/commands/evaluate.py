"""``wmbench evaluate TASK``: success, return and length of a policy in the true or in a learned simulator."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from wmbench.errors import WmbenchError
from wmbench.evaluating import Evaluation, evaluate
from wmbench.measures import Result
from wmbench.registration import task_card
from wmbench.worlds import read_world, world_suffix


def main(
    task: str,
    /,
    policy: str = "random",
    simulator: str | None = None,
    episodes: int = 20,
    seed: int = 0,
    num_envs: int = 8,
    device: str = "cpu",
    init: Literal["true", "bank"] = "true",
    policy_config: str = "{}",
    delay: int = 0,
    latency_trace: Path | None = None,
    on_miss: Literal["hold", "zero", "chunk"] = "hold",
    action_repeat: int = 1,
    world: str = "nominal",
    out: Path | None = None,
) -> None:
    """Evaluate a policy over a fixed list of episodes.

    Args:
        task: Id or short name, for example DMC-CartpoleSwingup.
        policy: Registered name or checkpoint folder.
        simulator: World model, by name or checkpoint folder; without it the true simulator.
        episodes: How many.
        seed: Root of the episodes' seeds.
        num_envs: Episodes that run side by side; the result does not depend on it.
        device: Torch device of learned simulator and policy.
        init: Where imagined episodes begin: the true simulator's starts, or the bank of the checkpoint.
        policy_config: Settings of a policy that needs no training, as JSON, for example '{"smoothness": 0.9}'.
        delay: Control steps from an observation to the action chosen from it; the world goes on meanwhile.
        latency_trace: JSON file with measured seconds per decision, which are replayed instead of a fixed delay.
        on_miss: What is applied while a decision of the trace is under way: the last action, zero, or the next one of
            the plan that arrived last.
        action_repeat: Control steps for which every action is applied; policy and world model must be made for it.
        world: Where the true simulator's episodes take place: nominal, near or far (all perturbations of the task, per
            episode), or JSON such as '{"mass": 1.5, "delay": "far"}'. See `wmbench info TASK`.
        out: Where to write the record; by default runs/evaluate/TASK-POLICY-SIMULATOR-sSEED.json.
    """
    card = task_card(task).repeated(action_repeat)
    if episodes < 1 or num_envs < 1:
        raise WmbenchError(f"--episodes and --num-envs must be at least 1, got {episodes} and {num_envs}")
    where = "true" if simulator is None else Path(simulator).name
    late = f"-d{delay}" if delay else ("" if latency_trace is None else f"-{latency_trace.stem}-{on_miss}")
    late += f"-x{action_repeat}" if action_repeat > 1 else ""
    elsewhere = read_world(world)
    late += world_suffix(elsewhere)
    path = out or Path("runs") / "evaluate" / f"{card.name}-{Path(policy).name}-{where}-s{seed}{late}.json"
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, transient=True) as progress:
        bar = progress.add_task(f"{card.name}, {policy} in {where}", total=episodes)
        found = evaluate(
            card,
            policy,
            simulator=simulator,
            episodes=episodes,
            seed=seed,
            num_envs=num_envs,
            device=device,
            init=init,
            policy_config=_settings(policy_config),
            delay=delay,
            latency_trace=latency_trace,
            on_miss=on_miss,
            world=elsewhere,
            out=path,
            on_episode=lambda *_: progress.advance(bar),
        )
    console = Console()
    console.print(results_table(found))
    for line in invalid_lines(found):
        console.print(line, highlight=False, markup=False)
    steps = sum(e["length"] for e in found.episodes)
    console.print(f"{steps} steps in {found.facts['seconds']:.1f} s; record: {path}", highlight=False, markup=False)


def results_table(evaluation: Evaluation) -> Table:
    """One row per number, with its interval."""
    table = Table("", "value", "95 % interval", "n", "invalid", title=f"{evaluation.task}: {evaluation.subject}")
    for result in evaluation.results:
        value = "-" if result.value is None else f"{result.value:.4g}"
        table.add_row(result.name, value, interval(result), str(result.n), str(result.n_invalid))
    return table


def interval(result: Result) -> str:
    """The interval as text; a dash where there is none."""
    if result.ci_low is None or result.ci_high is None:
        return "-"
    return f"{result.ci_low:.4g} to {result.ci_high:.4g}"


def invalid_lines(evaluation: Evaluation) -> list[str]:
    """One line per invalid episode."""
    return [
        f"invalid, counted as a failure: episode {i}, seed {e['seed']}, after {e['length']} steps: {e['fault']}"
        for i, e in enumerate(evaluation.episodes)
        if not e["valid"]
    ]


def _settings(text: str) -> dict[str, Any]:
    try:
        settings = json.loads(text)
    except json.JSONDecodeError as error:
        raise WmbenchError(f"--policy-config is not JSON: {error}") from error
    if not isinstance(settings, dict):
        raise WmbenchError(f"--policy-config must be a JSON object, got {text}")
    return settings
