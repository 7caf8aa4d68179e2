"""What a transfer found, in plain sentences computed from its results."""

from __future__ import annotations

from collections.abc import Sequence

from wmbench.measures import Result
from wmbench.report.view import with_interval
from wmbench.transferring.evaluation import HALTED, Transfer
from wmbench.transferring.pairs import CLOSE, distinct_pairs

STRONG = 0.8
"""A rank correlation that is surely above this is called nearly the same order."""

LEGEND = {
    "spearman": "1: the same order; 0: no relation; -1: reversed",
    "pearson": "1: on a straight line",
    "kendall": "of two policies, how much more often the order is right than wrong",
    "mmrv": "0: no misplaced policy; else the largest true gap that a policy is misplaced by, mean over policies",
    "regret@1": "true value lost by taking the one that looks best; 0 to 1, shares of the range of true values",
    "regret@3": "the same for the best of the three that look best",
    "bias": "learned minus true value, mean over policies",
    "slope": "1: a true gain looks as large as it is; below 1: it looks smaller",
}
"""What the numbers mean."""


def sentences(found: Transfer, subject: str) -> list[str]:
    """How far one may rank, choose and score policies in a learned simulator.

    Args:
        found: The transfer.
        subject: One of the simulators.
    """
    rank, bias = found.find("spearman", subject), found.find("bias", subject)
    said = [_order(rank, subject, len(found.zoo.members)), *_pairs(bias)]
    said += [*_choice(found, subject), _values(bias)]
    if told := _lost(found, subject):
        said.append(told)
    if rank.value is not None and rank.reason:
        said.append(f"Caution: {rank.reason}.")
    return said


def _order(rank: Result, subject: str, k: int) -> str:
    if rank.value is None:
        return f"No rank correlation over {k} policies: {rank.reason}."
    if rank.ci_low is None or rank.ci_low <= 0:
        verdict = "is not shown to order them better than chance"
    elif rank.ci_low < STRONG:
        verdict = "orders them better than chance"
    else:
        verdict = "puts them in nearly the true order"
    return f"Over {k} policies the rank correlation is {with_interval(rank)}: {subject} {verdict}."


def _pairs(bias: Result) -> list[str]:
    """In how many pairs the better one is found."""
    pairs = distinct_pairs(bias.details["table"]) if "table" in bias.details else []
    if not pairs:
        return []
    close = [pair for pair in pairs if pair.gap < CLOSE]
    right = sum(pair.right for pair in pairs)
    text = f"Of {len(pairs)} pairs that truly differ it puts the better first in {right}"
    if close:
        text += f"; of the {len(close)} among them closer than {100 * CLOSE:.0f} % of the range, in "
        text += f"{sum(pair.right for pair in close)}"
    return [text + "."]


def _choice(found: Transfer, subject: str) -> list[str]:
    """What taking its best would cost, and whether its winners are winners."""
    regret, winners = found.find("regret@1", subject), found.find("winners", subject)
    if regret.value is None or winners.value is None:
        return []
    learned, true = winners.details["learned"], winners.details["true"]
    which = (
        "It tells nobody from its best" if len(learned) == len(found.zoo.members) else f"Its best: {_names(learned)}"
    )
    return [
        f"Taking the one that looks best costs {with_interval(regret, 100.0)} % of the range of true values.",
        f"{which}; the true best: {_names(true)} (those that cannot be told from the highest): its choice is "
        f"{winners.details['verdict']}.",
    ]


def _names(names: Sequence[str]) -> str:
    return ", ".join(names[:-1]) + " and " + names[-1] if len(names) > 1 else names[0]


def _values(bias: Result) -> str:
    if bias.value is None:
        return f"What it says of values cannot be compared: {bias.reason}."
    off = bias.ci_low is not None and (bias.ci_low > 0 or (bias.ci_high or 0.0) < 0)
    way = "too high" if bias.value > 0 else "too low"
    tail = way if off else "not shown to be off in one direction"
    unit = "successes per episode" if bias.unit == "1" else "of return"
    return f"Its values are off by {with_interval(bias)} {unit} on average: {tail}."


def _lost(found: Transfer, subject: str) -> str:
    """How many episodes of a simulator broke off, whose, and why the first of them did."""
    lost = found.facts.get("lost", {}).get(subject.removesuffix(HALTED), [])
    invalid = sum(found.find("bias", subject).details.get("table", {}).get("invalid", []))
    if not lost or not invalid:
        return ""
    whose = ", ".join(dict.fromkeys(one["policy"] for one in lost))
    first = lost[0]
    return (
        f"{invalid} episodes broke off and count as worst, of {whose}; the first with seed {first['seed']} "
        f"after {first['steps']} steps: {first['reason']}."
    )
