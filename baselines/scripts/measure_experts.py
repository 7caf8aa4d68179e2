"""Measures every expert over fixed episodes of the true simulator, and writes results and the section that shows them.

``python baselines/scripts/measure_experts.py``; interrupted, the same command goes on. What it finds for one task is
what ``wmbench evaluate TASK --policy expert --episodes 200`` finds. Where one success is enough, ``--until-solved``
ends an episode there, which tells the same share of solved episodes in less time, and no return.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import tyro

from wmbench.cards import TaskCard
from wmbench.evaluating import evaluate, make_policy, subject
from wmbench.files import write_json
from wmbench.keys import fold_in, keys_from_seeds
from wmbench.progress import progress
from wmbench.provenance import provenance
from wmbench.recording.success import record_success
from wmbench.registration import task_card
from wmbench.seeding import episode_seeds
from wmbench.statistics import wilson
from wmbench_baselines.experts import expert_tasks
from wmbench_baselines.experts.expert import CANDIDATES
from wmbench_baselines.experts.table import update

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "baselines" / "results" / "experts.json"
CANDIDATE = {"candidates": True}
"""Settings of the policy: what is measured well becomes an expert."""
AT_ONCE = 20
"""Episodes between two savings of what is known."""


@dataclass(frozen=True)
class Options:
    """What to measure.

    Attributes:
        tasks: Which tasks, by id or short name; by default all with an expert.
        episodes: Of each.
        seed: Root of the episodes' seeds.
        until_solved: End an episode at its first success, where the task asks for no more; returns are then unknown.
        again: Forget what was measured of these tasks, for example after a change to a controller.
        work: Folder for the outcomes of single episodes.
        out: Where results go.
        page: Which page shows them.
    """

    tasks: tuple[str, ...] = ()
    episodes: int = 200
    seed: int = 0
    until_solved: bool = False
    again: bool = False
    work: Path = ROOT / "runs" / "experts"
    out: Path = RESULTS
    page: Path = ROOT / "envs" / "README.md"


def main() -> None:
    """Measure, then write."""
    options = tyro.cli(Options, description=__doc__)
    cards = [task_card(task) for task in options.tasks or expert_tasks()]
    found = json.loads(options.out.read_text()) if options.out.exists() else {"tasks": {}}
    found["command"] = "python baselines/scripts/measure_experts.py"
    for folder in (options.work, options.out.parent):
        folder.mkdir(parents=True, exist_ok=True)
    with progress("experts", len(cards) * options.episodes) as advance:
        for card in cards:
            found["tasks"][card.id] = measure(card, options, advance)
            write_json(options.out, found)
    options.page.write_text(update(options.page.read_text(), found))


def measure(card: TaskCard, options: Options, advance: Callable[[int, str], None]) -> dict[str, Any]:
    """A task's entry, after its missing episodes have been run; they are saved as they come."""
    brief = options.until_solved and card.success.when == "once"
    kept = options.work / f"{card.name}-s{options.seed}{'-brief' if brief else ''}.json"
    saved = json.loads(kept.read_text()) if kept.exists() and not options.again else {}
    have = saved["outcomes"][: options.episodes] if saved.get("task_digest") == card.digest() else []
    advance(len(have), card.name)
    seeds = episode_seeds(options.seed, card.id, "eval", options.episodes)
    while len(have) < options.episodes:
        part = seeds[len(have) : len(have) + AT_ONCE]
        have = have + (
            solve(card, part)
            if brief
            else evaluate(card, "expert", policy_config=CANDIDATE, seeds=part, num_envs=len(part)).episodes
        )
        write_json(kept, {"task_digest": card.digest(), "outcomes": have})
        advance(len(part), card.name)
    return {"task_digest": card.digest(), "seed": options.seed} | summary(card, have, brief)


def solve(card: TaskCard, seeds: Sequence[int]) -> list[dict[str, Any]]:
    """One outcome per seed: whether the task was solved, and after how many steps."""
    policy = make_policy("expert", card, config=CANDIDATE)
    outcomes = []
    with gym.make(card.id) as env:
        for seed in seeds:
            observation, _ = env.reset(seed=seed)
            memory, key = policy.initial(1), keys_from_seeds([seed])
            for step in range(card.horizon):
                action, memory = policy.act(observation[None], memory, keys=fold_in(key, step))
                observation, _, terminated, _, info = env.step(action[0])
                if terminated or info["success"]:
                    break
            outcomes.append({"seed": seed, "once": bool(info["success"]), "length": step + 1})
    return outcomes


def summary(card: TaskCard, outcomes: list[dict[str, Any]], brief: bool) -> dict[str, Any]:
    """The numbers of the table, and which episodes were solved."""
    solved = [bool(o[card.success.when.replace("end", "at_end")]) for o in outcomes]
    entry = {
        "how": (expert_tasks() | {task: how for task, (_, how) in CANDIDATES.items()})[card.id],
        "episodes": len(outcomes),
        "success": sum(solved) / len(solved),
        "success_interval": list(wilson(sum(solved), len(solved))),
        "return": None,
        "return_interval": None,
        "lowest_return": None,
    }
    if not brief:
        returns = record_success(card, subject("expert", "true"), outcomes).results()
        found = next(r for r in returns if r.name == "return")
        lowest = min(o["returns"] for o in outcomes)
        entry |= {"return": found.value, "return_interval": [found.ci_low, found.ci_high], "lowest_return": lowest}
    return entry | {"solved": "".join(str(int(s)) for s in solved), "provenance": provenance()}


if __name__ == "__main__":
    main()
