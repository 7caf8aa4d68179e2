"""Measures every expert over fixed episodes of the true simulator, and writes results and the section that shows them.

``python baselines/scripts/measure_experts.py``; interrupted, the same command goes on. What it finds for one task is
what ``wmbench evaluate TASK --policy expert --episodes 200`` finds.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from wmbench.cards import TaskCard
from wmbench.evaluating import evaluate, subject
from wmbench.files import write_json
from wmbench.progress import progress
from wmbench.provenance import provenance
from wmbench.recording.success import record_success
from wmbench.registration import task_card
from wmbench.seeding import episode_seeds
from wmbench_baselines.experts import expert_tasks
from wmbench_baselines.experts.table import update

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "baselines" / "results" / "experts.json"
AT_ONCE = 40
"""Episodes between two savings of what is known."""


@dataclass(frozen=True)
class Options:
    """What to measure.

    Attributes:
        tasks: Which tasks, by id or short name; all with an expert by default.
        episodes: Of each.
        seed: Root of the episodes' seeds.
        again: Forget what was measured of these tasks, for example after a change to a controller.
        work: Folder for the outcomes of single episodes.
        out: Where results go.
        page: Which page shows them.
    """

    tasks: tuple[str, ...] = ()
    episodes: int = 200
    seed: int = 0
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
    kept = options.work / f"{card.name}-s{options.seed}.json"
    saved = json.loads(kept.read_text()) if kept.exists() and not options.again else {}
    have = saved["outcomes"][: options.episodes] if saved.get("task_digest") == card.digest() else []
    advance(len(have), card.name)
    seeds = episode_seeds(options.seed, card.id, "eval", options.episodes)
    while len(have) < options.episodes:
        part = evaluate(card, "expert", seeds=seeds[len(have) : len(have) + AT_ONCE], num_envs=AT_ONCE)
        have = have + part.episodes
        write_json(kept, {"task_digest": card.digest(), "outcomes": have})
        advance(len(part.episodes), card.name)
    return {"task_digest": card.digest(), "seed": options.seed} | summary(card, have)


def summary(card: TaskCard, outcomes: list[dict[str, Any]]) -> dict[str, Any]:
    """The numbers of the table, and which episodes were solved."""
    results = {r.name: r for r in record_success(card, subject("expert", "true"), outcomes).results()}
    success, returns = results["success"], results["return"]
    return {
        "how": expert_tasks()[card.id],
        "episodes": len(outcomes),
        "success": success.value,
        "success_interval": [success.ci_low, success.ci_high],
        "return": returns.value,
        "return_interval": [returns.ci_low, returns.ci_high],
        "lowest_return": min(o["returns"] for o in outcomes),
        "solved": "".join(str(int(o[card.success.when.replace("end", "at_end")])) for o in outcomes),
        "provenance": provenance(),
    }


if __name__ == "__main__":
    main()
