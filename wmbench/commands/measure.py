"""``wmbench measure``: every number again from recordings alone, and what the installed measures are."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from wmbench import registry
from wmbench.errors import DatasetError
from wmbench.files import write_json
from wmbench.measures import Measure, Result
from wmbench.recording import Recording
from wmbench.recording.store import find_recordings


def main(
    records: Annotated[tuple[Path, ...], tyro.conf.Positional] = (),
    list: bool = False,
    only: tuple[str, ...] = (),
    names: tuple[str, ...] = (),
    out: Path | None = None,
    plots: Path | None = None,
) -> None:
    """Compute every number again from recordings, without simulator or model; --list shows the measures.

    A folder is searched for recordings. Where it is a run's, the numbers are compared with those in its records.

    Args:
        records: Recordings, or folders that hold some (a run's folder, for example).
        list: Show every installed measure with unit, direction, range, needs and source instead.
        only: Measures to apply; all that read the recording by default.
        names: Numbers to print, for example skill auc; all by default.
        out: File for all results as JSON.
        plots: Folder for a figure of every measure, in a folder per task and recording where there are several.
    """
    console = Console()
    if list:
        for name in only or registry.measures.names():
            console.print(describe(name), highlight=False)
        return
    if not records:
        raise DatasetError("name a recording or a folder that holds some, or ask for --list")
    for name in only:
        registry.measures.load(name)
    found = {path: Recording.load(path) for given in records for path in find_recordings(given)}
    written = []
    for path, recording in found.items():
        results = recording.every_result(only)
        written.append({"recording": str(path), "meta": recording.meta, "results": [r.to_json() for r in results]})
        if results:
            title = " ".join(str(x) for x in (recording.meta.get("task"), path) if x)
            console.print(f"[bold]{escape(title)}[/]", highlight=False, soft_wrap=True)
        for measure in dict.fromkeys(r.measure for r in results if not names or r.name in names):
            console.print(
                results_table([r for r in results if r.measure == measure and (not names or r.name in names)])
            )
        if plots is not None and results:
            named = path.parent.name if path.stem == "recording" else f"{path.parent.name}/{path.stem}"
            folder = plots if len(found) == 1 else plots / named
            for file in save_figures(results, recording.meta.get("task"), folder):
                console.print(f"figure: {file}", highlight=False, markup=False)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_json(out, written)
    for folder in (r for r in records if (r / "records").is_dir()):
        same, differ = compare_with_records(folder, found, only)
        if differ:
            raise DatasetError(f"{folder}: {len(differ)} numbers differ from its records: {', '.join(differ[:5])}")
        console.print(f"{folder}: {same} numbers equal those in its records, digit for digit", highlight=False)


def describe(name: str) -> str:
    """What a measure answers, in which unit, which way, from which arrays and after whom, as lines of markup."""
    m: Measure = registry.measures.load(name)
    low, high = m.range
    ends = f"{'-inf' if low is None else f'{low:g}'} to {'inf' if high is None else f'{high:g}'}"
    better = {"lower": "lower is better", "higher": "higher is better", "none": "neither way is better"}[m.direction]
    lines = [
        m.question,
        f"unit {m.unit}, range {ends}, {better}" + ("" if m.ranks else "; never in a ranking"),
        f"needs of a recording {m.recording or name!r}: {', '.join(m.needs)}",
        f"source: {m.source}",
    ]
    return "\n".join([f"[bold]{escape(name)}[/]", *(f"  {escape(line)}" for line in lines)])


def results_table(results: Sequence[Result]) -> Table:
    """Numbers line by line, subject below subject, with 95 % intervals."""
    from wmbench.report.view import number

    table = Table(box=SIMPLE_HEAD, title=results[0].measure, title_justify="left", title_style="bold")
    for column in ("number", "subject", "value", "95 % interval", "n", "invalid"):
        table.add_column(column, overflow="fold", justify="right" if column in ("value", "n", "invalid") else "left")
    last = None
    for r in sorted(results, key=lambda r: [o.name for o in results].index(r.name)):
        arrow = {"lower": " ↓", "higher": " ↑", "none": ""}[r.direction]
        unit = "" if r.unit == "1" else f" ({r.unit})"
        name = "" if r.name == last else f"{r.name}{unit}{arrow}"
        low, high = ("..." if end is None else number(end) for end in (r.ci_low, r.ci_high))
        ends = (r.reason or "") if r.value is None else "" if low == high == "..." else f"{low} to {high}"
        table.add_row(*map(escape, (name, r.subject, number(r.value), ends, str(r.n), str(r.n_invalid or ""))))
        last = r.name
    return table


def save_figures(results: Sequence[Result], task: str | None, folder: Path) -> list[Path]:
    """A figure of every measure of one recording; see :func:`wmbench.report.figures.save_figures`."""
    from wmbench.registration import task_card
    from wmbench.report import figures

    return figures.save_figures(results, task_card(task) if task else None, folder)


def compare_with_records(folder: Path, found: dict[Path, Recording], only: Sequence[str] = ()) -> tuple[int, list[str]]:
    """Compare what recordings give now with what a run wrote down.

    Args:
        folder: The run's.
        found: Recordings by path, those of the run among them.
        only: Measures to compare; all if empty.

    Returns:
        How many numbers are equal, and the names of those that are not.
    """
    by_path = {path.resolve(): recording for path, recording in found.items()}
    same, differ = 0, []
    for path in sorted((folder / "records").glob("[!.]*.json")):
        for recording, results in recorded(json.loads(path.read_text())):
            file = (folder / recording / "recording.safetensors").resolve()
            if file not in by_path:
                raise DatasetError(f"{path} speaks of {file}, which is not there: run the same command again")
            now = {(r.measure, r.name, r.subject): r.to_json() for r in by_path[file].every_result(only)}
            for then in results:
                key = (then["measure"], then["name"], then["subject"])
                if only and key[0] not in only:
                    continue
                if now.get(key) == then:
                    same += 1
                else:
                    differ.append("/".join(key))
    return same, differ


def recorded(record: dict[str, Any]) -> list[tuple[str, list[dict[str, Any]]]]:
    """Folder of each recording and the results that a record of a run holds; none where it measured nothing."""
    values, facts = record.get("values", {}), record.get("facts", {})
    if "recording" in values and "results" in values:
        return [(values["recording"], values["results"])]
    timed = facts.get("recordings", {})
    return [(folder, [r["result"] for r in facts["results"] if r["task"] == task]) for task, folder in timed.items()]
