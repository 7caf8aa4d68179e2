"""The run's numbers as tables for the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from wmbench.report.sections import SECTIONS, Section
from wmbench.report.verdict import verdict
from wmbench.report.view import Records, TaskView, views, with_interval


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
    latency = Table("simulator or policy", "call", "p50 ms", "p95 ms", "rows/s", title="Latency", title_justify="left")
    for result in view.results:
        if result.measure == "latency" and result.name.endswith("throughput"):
            prefix = result.name.removesuffix("throughput")
            p50, p95 = (view.find("latency", prefix + q, result.subject) for q in ("p50", "p95"))
            rate_text = "-" if result.value is None else f"{result.value:,.0f}"
            call = prefix.rstrip("-").replace("-x", " of ") + (" rows" if "-x" in prefix else "")
            latency.add_row(result.subject, call, with_interval(p50, 1e3), with_interval(p95, 1e3), rate_text)
    tables.append(latency)
    return [t for t in tables if t.row_count]


def _by_subject(view: TaskView, section: Section) -> Table:
    """A line per subject, a column per number; an explanation where there is no number would fill the screen."""
    table = Table(section.rows, *section.columns.values(), title=section.question, title_justify="left")
    for subject in view.subjects(section.measure):
        found = [view.find(section.measure, name, subject) for name in section.columns]
        if subject not in section.skip and any(r is not None and r.value is not None for r in found):
            table.add_row(subject, *("-" if r is None or r.value is None else with_interval(r) for r in found))
    return table
