"""``report.html``: one page that needs no other file, from a run's records."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2

from wmbench.files import write_atomically
from wmbench.measures import Result
from wmbench.report.plots import figures
from wmbench.report.tables import DRIFT, ONE_STEP
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
    return {
        "card": view.card,
        "verdict": verdict(view),
        "figures": figures(view, folder),
        "tables": [
            ("One-step error", _rows(view, "one-step", ONE_STEP), list(ONE_STEP.values())),
            ("Rollout drift", _rows(view, "drift", DRIFT), list(DRIFT.values())),
            ("Success", _rows(view, "success", {"success": "success", "return": "return", "length": "length"}),
             ["success rate", "return", "length"]),
        ],
        "data": view.values.get("collect", {}),
        "training": {name: view.values[name] for name in ("ensemble", "bc") if name in view.values},
        "seconds": {name: facts.get("seconds", 0.0) for name, facts in view.facts.items()},
        "latency": [r for r in view.results if r.measure == "latency"],
        "cautions": _cautions(view),
    }  # fmt: skip


def _rows(view: TaskView, measure: str, columns: dict[str, str]) -> list[tuple[str, list[Result | None]]]:
    return [(s, [view.find(measure, name, s) for name in columns]) for s in view.subjects(measure)]


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
