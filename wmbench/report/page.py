"""``report.html``: one page that needs no other file, from a run's records."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2
import matplotlib as mpl

from wmbench.files import write_atomically
from wmbench.report import plots
from wmbench.report.sections import SECTIONS, Section
from wmbench.report.style import STYLE
from wmbench.report.tables import latency_rows
from wmbench.report.verdict import verdict
from wmbench.report.view import Records, TaskView, number, views, with_interval


def build_report(folder: Path, plan: dict[str, Any], records: Records) -> Path:
    """Write the page.

    Args:
        folder: The run's folder; the page becomes ``report.html`` in it.
        plan: The run's plan as plain data.
        records: Every record by track and step.

    Returns:
        The page's path.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("wmbench.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.globals.update(number=number, with_interval=with_interval)
    tasks = [_task(view, folder) for view in views(records)]
    provenance = records.get("timing", {}).get("latency", {}).get("facts", {}).get("provenance", {})
    page = environment.get_template("report.html").render(plan=plan, tasks=tasks, provenance=provenance)
    path = folder / "report.html"
    write_atomically(path, lambda temporary: temporary.write_text(page, encoding="utf-8"))
    return path


def _task(view: TaskView, folder: Path) -> dict[str, Any]:
    """What the template shows of one task."""
    with mpl.rc_context(STYLE):
        sections = [_section(section, view, folder) for section in SECTIONS]
        timing = plots.latency(view)
        latency = None if timing is None else plots.svg(timing, f"{view.card.id} latency")
    return {
        "card": view.card,
        "verdict": verdict(view),
        "sections": [s for s in sections if s["rows"] or s["figures"]],
        "data": view.values.get("collect", {}),
        "training": {name: view.values[name] for name in ("ensemble", "bc") if name in view.values},
        "seconds": {name: facts.get("seconds", 0.0) for name, facts in view.facts.items()},
        "latency": latency_rows(view),
        "latency_figure": latency,
        "cautions": _cautions(view),
    }


def _section(section: Section, view: TaskView, folder: Path) -> dict[str, Any]:
    """One question's figures and table."""
    drawn = [(caption, draw(view, folder)) for caption, draw in section.figures]
    rows = [
        (subject, [view.find(section.measure, name, subject) for name in section.columns])
        for subject in view.subjects(section.measure)
        if subject not in section.skip
    ]
    return {
        "about": section,
        "figures": [(c, plots.svg(f, f"{view.card.id} {c}")) for c, f in drawn if f is not None],
        "rows": rows,
    }


def _cautions(view: TaskView) -> list[str]:
    """What was invalid, masked or missing: a reader must not have to look for it."""
    found: dict[str, None] = {}
    for r in view.results:
        if r.n_invalid:
            found[f"{r.measure}, {r.subject}: {r.n_invalid} of {r.n} items not finite or incomplete; worst counts."] = (
                None
            )
        if masked := r.details.get("masked"):
            found[f"{r.measure}: constant in the data and left out: {', '.join(masked)}."] = None
    return list(found)
