"""What the numbers say in plain sentences: each is computed from results, and hedged by their intervals."""

from __future__ import annotations

from wmbench.report.view import LEARNED, TRUE, TaskView, number


def verdict(view: TaskView) -> list[str]:
    """Sentences on how far the learned simulator of one task can be trusted."""
    sentences = [
        _one_step(view),
        _drift(view),
        _effect(view),
        _doubt(view),
        _agreement(view),
        _choice(view),
        _speed(view),
    ]
    return [s for s in sentences if s]


def _one_step(view: TaskView) -> str:
    skill = view.find("one-step", "skill", LEARNED)
    linear = view.find("one-step", "skill-linear", LEARNED)
    worst = view.find("one-step", "skill-worst", LEARNED)
    if skill is None or skill.value is None:
        return ""
    text = f"In one step the model predicts {100 * skill.value:.0f} % of the change that standing still would miss"
    if linear is not None and linear.value is not None and linear.ci_low is not None:
        if linear.ci_low > 0:
            text += f", and {100 * linear.value:.0f} % of what a linear model misses"
        else:
            text += "; it is not shown to beat a linear model"
    if worst is not None and worst.value is not None and worst.value < 0:
        text += ". Its worst dimension is worse than standing still"
    return text + "."


def _drift(view: TaskView) -> str:
    steps = view.find("drift", "mean-steps-to-0.5", LEARNED)
    if steps is None or steps.value is None:
        return ""
    horizon = int(steps.details["horizon"])
    text = (
        f"An imagined rollout stays within half a standard deviation of the true one for {number(steps.value)} "
        f"of {horizon} steps on average ({number(steps.value * view.card.dt)} s)"
    )
    references = [s for s in ("linear", "copy-last", "mean-delta") if view.find("drift", "mean-steps-to-0.5", s)]
    values = {s: view.find("drift", "mean-steps-to-0.5", s) for s in references}
    best = max((s for s in references), key=lambda s: values[s].value or 0.0, default=None)  # type: ignore[union-attr]
    if best is not None and values[best] is not None and values[best].value is not None:  # type: ignore[union-attr]
        text += f"; the best trivial model ({best}) for {number(values[best].value)}"  # type: ignore[union-attr]
    floor = view.find("drift", "auc", LEARNED)
    if floor is not None and floor.details.get("floor") and floor.details["floor"] < horizon:
        text += (
            f". Past step {floor.details['floor']} the true simulator, disturbed by a millionth, loses itself too: "
            "errors beyond it say nothing about the model"
        )
    return text + "."


def _effect(view: TaskView) -> str:
    """What the model knows of other actions."""
    one = view.find("counterfactual", "cfe", LEARNED)
    if one is None or one.value is None:
        return ""
    text = f"The effect of another action is off by {100 * one.value:.0f} % of its size after one step"
    of_model = [r for r in view.results if (r.measure, r.subject) == ("counterfactual", LEARNED)]
    far = [r for r in of_model if r.name.startswith("cfe-data-") and r.value is not None]
    if far:
        last = max(far, key=lambda r: int(r.name.rsplit("-", 1)[1]))
        text += f" and by {100 * (last.value or 0):.0f} % after {last.name.rsplit('-', 1)[1]}"
    if one.ci_high is not None and one.ci_high >= 1:
        text += "; it is not shown to use the action at all"
    return text + "."


def _doubt(view: TaskView) -> str:
    """Whether the model's own uncertainty is worth having."""
    own, gain = view.find("uncertainty", "auroc", LEARNED), view.find("uncertainty", "auroc-gain", LEARNED)
    if own is None or own.value is None or gain is None or gain.value is None:
        return ""
    best = gain.details.get("best_trivial", "the best trivial signal")
    text = f"Its own doubt finds large errors with an AUROC of {number(own.value)}"
    if gain.ci_low is not None and gain.ci_low > 0:
        return text + f", {number(gain.value)} above the best signal that costs nothing ({best})."
    if gain.ci_high is not None and gain.ci_high < 0:
        return text + f", {number(-gain.value)} below a signal that costs nothing ({best})."
    return text + f", which is not shown to beat a signal that costs nothing ({best})."


def _choice(view: TaskView) -> str:
    """Whether somebody who chooses a policy in the learned simulator chooses well."""
    rank, regret = view.find("agreement", "spearman", LEARNED), view.find("agreement", "regret@1", LEARNED)
    if rank is None or rank.value is None or regret is None or regret.value is None:
        return ""
    ends = "" if rank.ci_low is None or rank.ci_high is None else f" ({number(rank.ci_low)} to {number(rank.ci_high)})"
    text = f"Over {rank.n} policies the two simulators' rankings correlate at {number(rank.value)}{ends}; "
    text += f"choosing the best in the learned one gives away {100 * regret.value:.0f} % of the range of true returns"
    if rank.details.get("evidence") is False:
        text += "; so few policies are no evidence"
    return text + "."


def _agreement(view: TaskView) -> str:
    parts = []
    for policy in view.values.get("success", {}).get("policies", []):
        true = view.find("success", "return", f"{policy} in {TRUE}")
        learned = view.find("success", "return", f"{policy} in {LEARNED}")
        if true is None or learned is None or true.value is None or learned.value is None:
            continue
        apart = (
            None not in (true.ci_low, true.ci_high, learned.ci_low, learned.ci_high)
            and (learned.ci_low > true.ci_high or learned.ci_high < true.ci_low)  # type: ignore[operator]
        )  # fmt: skip
        word = "intervals apart" if apart else "intervals overlap"
        parts.append(f"{policy}: {number(learned.value)} learned, {number(true.value)} true ({word})")
    if not parts:
        return ""
    return "Mean return in both simulators: " + "; ".join(parts) + "."


def _speed(view: TaskView) -> str:
    true = view.find("latency", "step-throughput", TRUE)
    batches = [
        r
        for r in view.results
        if r.measure == "latency"
        and r.subject == LEARNED
        and r.name.startswith("step-")
        and r.name.endswith("throughput")
    ]
    if true is None or true.value is None or not batches:
        return ""
    best = max(batches, key=lambda r: r.value or 0.0)
    if best.value is None:
        return ""
    batch = best.details.get("batch", 1)
    return (
        f"One process of the true simulator does {true.value:,.0f} steps/s; the learned one, {batch:,} rows at a time, "
        f"{best.value:,.0f} ({best.value / true.value:.1f} times)."
    )
