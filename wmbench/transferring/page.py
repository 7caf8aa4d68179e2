"""``index.html`` of a transfer: one page that needs no other file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2
import matplotlib as mpl

from wmbench.files import write_atomically
from wmbench.report.plots import svg
from wmbench.report.plots_trust import agreement
from wmbench.report.style import STYLE
from wmbench.report.view import TaskView, number, with_interval
from wmbench.transferring.evaluation import HALTED, Transfer
from wmbench.transferring.pairs import places
from wmbench.transferring.words import LEGEND, sentences

COLUMNS = {
    "spearman": "Spearman",
    "pearson": "Pearson",
    "kendall": "Kendall",
    "mmrv": "MMRV",
    "regret@1": "regret of the best",
    "regret@3": "regret of the best three",
    "bias": "bias",
    "slope": "slope",
}
"""Results in the table, by their names."""


def write_page(found: Transfer, path: Path) -> Path:
    """Write the page.

    Args:
        found: The transfer.
        path: The file.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("wmbench.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.globals.update(number=number, with_interval=with_interval)
    subjects = [str(s) for s in found.recording.arrays["subject"]]
    page = environment.get_template("transfer.html").render(
        found=found,
        columns=COLUMNS,
        legend=LEGEND,
        rows=[(s, [found.find(name, s) if _has(found, name, s) else None for name in COLUMNS]) for s in subjects],
        subjects=[_subject(found, s) for s in subjects],
    )
    write_atomically(path, lambda temporary: temporary.write_text(page, encoding="utf-8"))
    return path


def _has(found: Transfer, name: str, subject: str) -> bool:
    return any((r.name, r.subject) == (name, subject) for r in found.results)


def _subject(found: Transfer, subject: str) -> dict[str, Any]:
    """What the page shows of one simulator: its sentences, its figure, and every policy's values."""
    with mpl.rc_context(STYLE):
        figure = agreement(TaskView(found.task, {}, {}, tuple(found.results), model=subject))
        drawing = None if figure is None else svg(figure, f"{found.task.id} {subject}")
    table = found.find("bias", subject).details["table"]
    truly, here = places(table["true"]), places(table["learned"])
    policies = [
        {
            "member": found.zoo.members[i],
            "places": (truly[i], here[i]),
            "true": _mean(table, "true", i),
            "learned": _mean(table, "learned", i),
            "invalid": table["invalid"][i],
        }
        for i in sorted(range(len(truly)), key=lambda i: truly[i])
    ]
    return {
        "name": subject,
        "aside": subject.endswith(HALTED),
        "sentences": sentences(found, subject),
        "figure": drawing,
        "policies": policies,
    }


def _mean(table: dict[str, Any], which: str, i: int) -> str:
    """``mean (low to high)``."""
    ends = table[f"{which}_interval"][i]
    text = number(table[which][i])
    return text if ends is None else f"{text} ({number(ends[0])} to {number(ends[1])})"
