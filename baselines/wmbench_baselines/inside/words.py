"""What training inside found, as rows of tables and plain sentences computed from the records."""

from __future__ import annotations

from wmbench.report.view import number
from wmbench_baselines.inside import analysis
from wmbench_baselines.inside.analysis import Estimate, Records

TABLE = ("trained in", "return there in the learned simulator", "return in the true simulator")
"""Headings of :func:`table`."""


def shown(estimate: Estimate) -> str:
    """``mean (low to high)``."""
    if estimate.low is None or estimate.high is None:
        return number(estimate.value)
    return f"{number(estimate.value)} ({number(estimate.low)} to {number(estimate.high)})"


def table(learned: Records, true: Records) -> list[tuple[str, str, str]]:
    """The two-by-two table: where trained, then what it returns in the learned and in the true simulator."""
    cells = analysis.two_by_two(learned, true)
    rows = (("learned", "the learned simulator"), ("true", "the true simulator"))
    return [(label, shown(cells[key, "learned"]), shown(cells[key, "true"])) for key, label in rows]


def sentences(learned: Records, true: Records) -> list[str]:
    """What a comparison says, for the reader of the table.

    Args:
        learned: An arm trained in the learned simulator.
        true: The same trained in the true one.
    """
    config = learned[0]["config"]
    better = analysis.difference(learned, true, "true")
    verdict = (
        "which shows that training inside did better"
        if better.above_zero
        else "which shows that training inside did worse"
        if better.below_zero
        else "which does not tell the two apart"
    )
    time, inside, outside = analysis.at_equal_time(learned, true)
    said = [
        f"In the true simulator, training inside gives {shown(better)} more return than training there on as many "
        f"steps ({config['steps']:,}), {verdict} with {better.n} seeds.",
        f"After the same time, {number(time)} s of one core, true returns are {shown(inside)} and {shown(outside)}.",
        exploited(learned),
        f"The simulator took {number(100 * analysis.simulator_share(learned))} % of the training's time inside, "
        f"{number(100 * analysis.simulator_share(true))} % in the true one. {pace(learned)}",
    ]
    if lost := analysis.faults(learned) + analysis.faults(true):
        said.append(f"{lost} evaluation episodes broke off; what they had earned by then counts.")
    return said


def exploited(group: Records) -> str:
    """What became of true and imagined return after the true one was highest."""
    found = analysis.exploitation(group)
    last = int(analysis.steps(group)[-1])
    if found.peak == last:
        return (
            f"True return is highest at the end, so there is no fall to explain; imagined return exceeds it there by "
            f"{shown(found.gap)}."
        )
    verdict = "the policy exploits the model" if found.shown else "exploitation is not shown"
    return (
        f"True return is highest at step {found.peak:,}; from there to step {found.trough:,} it changes by "
        f"{shown(found.true)} while imagined return changes by {shown(found.learned)}: {verdict}. At the end imagined "
        f"return exceeds the true one by {shown(found.gap)}."
    )


def pace(group: Records) -> str:
    """How often the learner updates, which is the same on both sides."""
    config = group[0]["config"]
    if config["algorithm"] == "PPO":
        return "PPO makes ten passes over every 256 steps of each row, on both sides."
    return f"SAC makes {config['updates']:g} updates per environment step, on both sides."
