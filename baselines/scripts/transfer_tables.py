"""The tables of docs/transfer.md, from the study's records alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from transfer_records import (
    HALTED,
    LEARNED,
    MODELS,
    ORACLE,
    REFERENCE,
    SIZES,
    TRUTH,
    Record,
    Study,
    models_of,
)

from wmbench.measures import Result
from wmbench.report.view import number
from wmbench.statistics import bootstrap
from wmbench.statistics.comparison import t_interval
from wmbench.transferring.pairs import distinct_pairs

GAPS = ((0.0, 0.1), (0.1, 0.3), (0.3, 1.01))
"""True gaps of pairs, as shares of the range."""


def tables(study: Study) -> dict[str, str]:
    """Marker to Markdown."""
    return {
        "zoos": zoos(study),
        "ranks": ranks(study, [TRUTH, *LEARNED]),
        "references": ranks(study, list(REFERENCE) + [m for m in models_of(study) if m not in MODELS] + [ORACLE]),
        "sizes": sizes(study),
        "choices": choices(study),
        "halting": halting(study),
        "pairs": pair_table(study),
    }


def rows(head: list[str], body: list[list[str]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in body)])


def brief(value: float | None) -> str:
    """Two digits after the point."""
    return "-" if value is None or np.isnan(value) else f"{value:.2f}".replace("-0.00", "0.00")


def with_ends(
    result: Result | None, form: Callable[[float | None], str] = brief, scale: float = 1.0, none: str = "-"
) -> str:
    """``value (low to high)``."""
    if result is None or result.value is None:
        return none
    text = form(result.value * scale)
    if result.ci_low is None or result.ci_high is None:
        return text
    return f"{text} ({form(result.ci_low * scale)} to {form(result.ci_high * scale)})"


def zoos(study: Study) -> str:
    """Who is ranked."""
    body = []
    for task, models in study.items():
        record = next((r for name, r in models.items() if name != TRUTH), next(iter(models.values())))
        table, true = record.table(), np.array(record.table()["true"])
        near = int((np.diff(np.sort(true)) <= 0.1 * np.ptp(true)).sum())
        kinds = sorted({name for name in record.data["algorithms"] if name not in ("random", "scripted")})
        best = table["policy"][int(true.argmax())]
        body.append(
            [
                task,
                str(len(true)),
                ", ".join(kinds),
                f"{number(true.min())} to {number(true.max())} ({best})",
                str(near),
            ]
        )
    return rows(["task", "policies", "trained by", "true return", "neighbours within a tenth of the range"], body)


def ranks(study: Study, models: list[str]) -> str:
    """Spearman's correlation with its interval, per task and model, and the mean; whoever tells none apart has 0."""
    models = [model for model in models if any(model in found for found in study.values())]
    body = []
    for task, found in study.items():
        body.append(
            [task, *(with_ends(found[m].find("spearman"), none="all alike") if m in found else "" for m in models)]
        )
    last = ["**mean over tasks**"]
    for model in models:
        values = np.nan_to_num([value(found[model], "spearman") for found in study.values() if model in found])
        ends = t_interval(values) if len(values) > 2 else None
        text = brief(float(values.mean()))
        last.append(text + (f" ({brief(max(ends[0], -1))} to {brief(min(ends[1], 1))})" if ends else ""))
    return rows(["task", *(MODELS.get(model, model) for model in models)], [*body, last])


def value(record: Record, name: str, *, halted: bool = False) -> float:
    """A number, NaN if there is none."""
    found = record.find(name, halted=halted)
    return np.nan if found is None or found.value is None else found.value


def sizes(study: Study) -> str:
    """Data, one-step skill and agreement of the ensemble at three sizes."""
    body = []
    for task, found in study.items():
        for model in (*SIZES, "ensemble", "ensemble-random"):
            if model not in found:
                continue
            record = found[model]
            quality, steps = record.data["quality"], record.data["data"].get("train_steps")
            ahead = quality.get("mean-steps-to-0.5", [None])[0]
            horizon = quality.get("drift_horizon")
            body.append(
                [
                    task,
                    MODELS[model],
                    "-" if steps is None else f"{steps:,}",
                    "-" if record.skill() is None else f"{record.skill():.3f}",
                    "-" if ahead is None else f"{ahead:.0f} of {horizon}",
                    with_ends(record.find("spearman")),
                    brief(value(record, "mae") / record.spread()),
                ]
            )
    head = [
        "task",
        "model",
        "steps of data",
        "one-step skill",
        "steps within half a sigma",
        "Spearman",
        "error / range",
    ]
    return rows(head, body)


def choices(study: Study) -> str:
    """What choosing by a learned simulator costs, and how far its values are off."""
    body = []
    for task, found in study.items():
        for model in [m for m in ("ensemble", "ensemble-100%", "ensemble-random", "tdmpc2") if m in found]:
            record, percent = found[model], lambda v: "-" if v is None else f"{v:.0f}"
            winners = record.find("winners")
            verdict = "-" if winners is None or winners.value is None else str(winners.details["verdict"])
            body.append(
                [
                    task,
                    MODELS[model],
                    with_ends(record.find("regret@1"), percent, 100),
                    verdict,
                    with_ends(record.find("bias"), percent, 100 / record.spread()),
                    with_ends(record.find("slope")),
                    str(sum(record.table()["invalid"])),
                ]
            )
    head = [
        "task",
        "model",
        "regret of its best, % of range",
        "its winners are",
        "bias, % of range",
        "slope",
        "broken off",
    ]
    return rows(head, body)


def halting(study: Study) -> str:
    """Full episodes beside those halted in doubt."""
    body = []
    for task, found in study.items():
        for model in [
            m for m in (*LEARNED[:1], *reversed(SIZES), "ensemble-random") if m in found and found[m].has_halted()
        ]:
            record = found[model]
            cells = [task, MODELS[model]]
            for name in ("spearman", "bias", "mae"):
                for halted in (False, True):
                    scale = 1.0 if name == "spearman" else 1 / record.spread()
                    cells.append(brief(value(record, name, halted=halted) * scale))
            body.append(cells)
    head = ["task", "model"]
    for name in ("Spearman", "bias / range", "error / range"):
        head += [f"{name}, full", HALTED.removeprefix(", ")]
    return rows(head, body)


def pair_table(study: Study) -> str:
    """How often the better of two is found, by how far apart they truly are; intervals over tasks."""
    body = []
    for model in [m for m in models_of(study) if m != ORACLE]:
        by_task = [distinct_pairs(found[model].table()) for found in study.values() if model in found]
        cells = [MODELS.get(model, model)]
        for low, high in GAPS:
            right = np.array([sum(pair.right for pair in task if low <= pair.gap < high) for task in by_task], float)
            count = np.array([sum(low <= pair.gap < high for pair in task) for task in by_task], float)
            cells.append(_share(right, count))
        body.append(cells)
    names = [f"{100 * low:.0f} to {min(100, 100 * high):.0f} % of the range apart" for low, high in GAPS]
    return rows(["model", *names], body)


def _share(right: np.ndarray, count: np.ndarray) -> str:
    """Percent right over all pairs, with an interval from resampled tasks."""
    if not count.sum():
        return "-"
    there = count > 0
    right, count = right[there], count[there]
    text = f"{100 * right.sum() / count.sum():.0f} % of {count.sum():.0f}"
    if len(count) < 3:
        return text
    ends = bootstrap(lambda weights: weights @ right / (weights @ count), len(count))
    return text if ends is None else f"{text} ({100 * max(ends[0], 0):.0f} to {100 * min(ends[1], 1):.0f})"


def insert(text: str, found: dict[str, str]) -> str:
    """A page with its generated parts replaced.

    Raises:
        ValueError: A marker is missing.
    """
    for name, table in found.items():
        begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        if begin not in text or end not in text:
            raise ValueError(f"the page lacks {begin} or {end}")
        text = text.split(begin)[0] + f"{begin}\n{table}\n{end}" + text.split(end, 1)[1]
    return text
