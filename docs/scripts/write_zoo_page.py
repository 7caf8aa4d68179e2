"""Writes `docs/zoo.md`, a card for every policy of every shipped zoo, from the shipped files alone.

Example:
    python docs/scripts/write_zoo_page.py

`tests/baselines/test_zoos.py` fails while the page is not up to date.
"""

from __future__ import annotations

from pathlib import Path

from wmbench import task_card
from wmbench.files import write_atomically
from wmbench.transferring.cards import PolicyCard, policy_cards
from wmbench.zoo import Zoo, load_zoo, shipped_zoos

PAGE = Path(__file__).parents[1] / "zoo.md"
HEAD = """# The zoos: frozen policies, and what each truly earns

A zoo is what simulators are judged by: policies of one task, from random to expert, by several algorithms, neighbours
of one training among them, and some made worse on purpose. `wmbench transfer` lets all of them act in a learned
simulator and compares with what is written here ([how, and what came out](transfer.md)).

```sh
wmbench zoo                                   # every shipped zoo
wmbench zoo DMC-CartpoleSwingup               # a card per policy; --json for programs
wmbench evaluate DMC-CartpoleSwingup --policy sac-020k     # any of them by its reference
wmbench zoo Gym-Hopper --policies actor actor+noise0.4 random models/mine --out mine.json   # a zoo of your own
wmbench transfer Gym-Hopper --zoo mine.json --model ensemble
```

Each has digests: of every policy's weights, and of the zoo as a whole. A policy whose weights are no longer those that
the truth was found with is refused, and so is one of another task or of other spaces. Trainings are made by
`baselines/scripts/train_zoo.py`, zoos by `baselines/scripts/make_zoo.py`; this page by
`python docs/scripts/write_zoo_page.py`, from the shipped files.

Returns are undiscounted, means over the frozen true episodes with 95 % intervals (Student's); success counts by the
task's rule, with Wilson's intervals. *Tied with* are those that the frozen episodes cannot tell a policy from: on the
same starts, the interval of the mean difference holds zero. *Steps* are environment steps of training, for BC recorded
transitions. *Weights* are the first eight digits of their SHA-256.
"""


def page() -> str:
    """The page as it should be."""
    zoos = [load_zoo(task_card(task)) for task in sorted(shipped_zoos())]
    members = sum(len(zoo.members) for zoo in zoos)
    lines = [HEAD, f"{members} policies of {len(zoos)} tasks:", ""]
    lines += ["| task | policies | by | episodes each | lowest | highest |", "|---|---|---|---|---|---|"]
    for zoo in zoos:
        means, name = zoo.returns[-1].mean(1), zoo.task.name
        by = ", ".join(sorted({member.algorithm for member in zoo.members}))
        ends = f"{number(means.min())} | {number(means.max())}"
        lines.append(f"| [{name}](#{name.lower()}) | {len(zoo.members)} | {by} | {len(zoo.seed)} | {ends} |")
    for zoo in zoos:
        lines += ["", *section(zoo)]
    return "\n".join(lines) + "\n"


def section(zoo: Zoo) -> list[str]:
    """One task's policies, the best first."""
    columns = ("policy", "by", "steps", "true return", "success", "tied with", "weights", "what it is")
    return [
        f"## {zoo.task.name}",
        "",
        f"Digest `{zoo.digest[:16]}`, {len(zoo.seed)} episodes of each policy in the true simulator. Made by "
        f"`{zoo.facts.get('command', '')}`.",
        "",
        "| " + " | ".join(columns) + " |",
        "|---" * len(columns) + "|",
        *("| " + " | ".join(row(card)) + " |" for card in policy_cards(zoo)),
    ]


def row(card: PolicyCard) -> list[str]:
    """One policy's cells."""
    name = f"`{card.name}`" if card.name == card.reference else f"`{card.name}` (`{card.reference}`)"
    ends = card.returns_interval
    low, high = card.success_interval
    return [
        name,
        card.algorithm,
        "" if card.steps is None else f"{card.steps:,}",
        number(card.returns) + ("" if ends is None else f" ({number(ends[0])} to {number(ends[1])})"),
        f"{card.success:.0%} ({low:.0%} to {high:.0%})",
        ", ".join(f"`{name}`" for name in card.ties),
        f"`{card.weights[:8]}`" if card.weights else "",
        card.note,
    ]


def number(value: float) -> str:
    """Four digits, whole numbers from a thousand on."""
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"


if __name__ == "__main__":
    write_atomically(PAGE, lambda temporary: temporary.write_text(page(), encoding="utf-8"))
