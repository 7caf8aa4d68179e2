"""What a transfer found, in plain sentences computed from its results."""

from __future__ import annotations

from wmbench.report.view import with_interval
from wmbench.transferring.evaluation import HALTED, Transfer


def sentences(found: Transfer, subject: str) -> list[str]:
    """How far one may rank, choose and score policies in a learned simulator.

    Args:
        found: The transfer.
        subject: One of the simulators.
    """
    rank, regret = found.find("spearman", subject), found.find("regret@1", subject)
    bias, winners = found.find("bias", subject), found.find("winners", subject)
    k = len(found.zoo.members)
    said = []
    if rank.value is None:
        said.append(f"No rank correlation over {k} policies: {rank.reason}.")
    else:
        sure = rank.ci_low is not None and rank.ci_low > 0
        verdict = "ranks them as the true simulator does, more or less" if sure else "is not shown to rank them at all"
        said.append(f"Over {k} policies the rank correlation is {with_interval(rank)}: {subject} {verdict}.")
    if regret.value is not None and winners.value is not None:
        chosen = ", ".join(winners.details["learned"])
        said.append(
            f"Choosing by it costs {with_interval(regret, 100.0)} % of the range of true values; those it cannot tell "
            f"from its best ({chosen}) are {winners.details['verdict']}."
        )
    if bias.value is None:
        said.append(f"What it says of values cannot be compared: {bias.reason}.")
    else:
        off = bias.ci_low is not None and (bias.ci_low > 0 or (bias.ci_high or 0.0) < 0)
        way = "too high" if bias.value > 0 else "too low"
        tail = way if off else "not shown to be off in one direction"
        unit = "successes per episode" if bias.unit == "1" else "of return"
        said.append(f"Its values are off by {with_interval(bias)} {unit} on average: {tail}.")
    if told := _lost(found, subject):
        said.append(told)
    return said


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
