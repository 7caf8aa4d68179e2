"""The run's numbers as tables for the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from wmbench.report.sections import SECTIONS, Section
from wmbench.report.verdict import verdict
from wmbench.report.view import Records, TaskView, views, with_interval

LATENCY = {
    "p50": "p50 ms",
    "p95": "p95 ms",
    "p99": "p99 ms",
    "first-call": "first call ms",
    "deadline-misses": "too late for the control rate",
    "throughput": "rows/s",
}


def print_report(records: Records, console: Console) -> None:
    """Print every task's tables and verdict."""
    for view in views(records):
        console.rule(f"[bold]{view.card.id}[/]")
        for table in task_tables(view):
            console.print(table)
        for sentence in verdict(view):
            console.print(f"  {sentence}", highlight=False)


def task_tables(view: TaskView) -> list[Table]:
    """One table per question, and one of timings; brackets are 95 % intervals."""
    tables = [_by_subject(view, section) for section in SECTIONS if section.measure != "success"]
    success = Table(
        "policy in simulator", "success", "return", "episodes", "invalid", title="Success", title_justify="left"
    )
    for subject in view.subjects("success"):
        rate, value = view.find("success", "success", subject), view.find("success", "return", subject)
        if rate is not None:
            success.add_row(
                subject, with_interval(rate), with_interval(value, digits=4), str(rate.n), str(rate.n_invalid)
            )
    tables.append(success)
    latency = Table("simulator or policy", "call", *LATENCY.values(), title="Latency", title_justify="left")
    for subject, call, cells in latency_rows(view):
        latency.add_row(subject, call, *cells)
    tables.append(latency)
    return [t for t in tables if t.row_count]


def latency_rows(view: TaskView) -> list[tuple[str, str, list[str]]]:
    """Who, which call, and the columns of :data:`LATENCY`; a dash where too few calls allow no quantile."""
    found = []
    for result in view.results:
        if result.measure != "latency" or not result.name.endswith("-throughput"):
            continue
        prefix = result.name.removesuffix("throughput")
        own = {name: view.find("latency", prefix + name, result.subject) for name in LATENCY}
        cells = [
            "-" if r is None or r.value is None else with_interval(r, 1e3 if r.unit == "s" else 1.0)
            for r in own.values()
        ]
        call = prefix.rstrip("-").replace("-x", " of ") + (" rows" if "-x" in prefix else "")
        found.append((result.subject, call, cells))
    return found


def _by_subject(view: TaskView, section: Section) -> Table:
    """A line per subject, a column per number; an explanation where there is no number would fill the screen."""
    table = Table(section.rows, *section.columns.values(), title=section.question, title_justify="left")
    for subject in view.subjects(section.measure):
        found = [view.find(section.measure, name, subject) for name in section.columns]
        if subject not in section.skip and any(r is not None and r.value is not None for r in found):
            table.add_row(subject, *("-" if r is None or r.value is None else with_interval(r) for r in found))
    return table
