"""``wmbench.run``: carries out a plan with one process per track, and builds the report."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from wmbench.errors import WmbenchError
from wmbench.runs.plan import Plan, commit_plan, make_plan


def run(
    name: str = "quick",
    out: str | Path = "runs/quick",
    *,
    seed: int | None = None,
    tasks: Sequence[str] | None = None,
    models: Sequence[str] | None = None,
    policies: Sequence[str] | None = None,
    workers: int | None = None,
    progress: bool = True,
    **changes: Any,
) -> dict[str, Any]:
    """Carry out a named plan, going on where an earlier call with the same folder stopped.

    Args:
        name: A plan, for example ``"quick"``.
        out: Folder for records, datasets, checkpoints and the report.
        seed: Root seed; the plan's own if None.
        tasks: Task ids or short names instead of the plan's.
        models: Further world models for the measures: registered names or checkpoint folders, each for the tasks
            it is made for.
        policies: Further policies, the same way, to act in every simulator.
        workers: Tracks carried out at the same time; None takes one per core.
        progress: Whether to show what is being done.
        changes: Other fields of :class:`wmbench.runs.plan.Plan`.

    Returns:
        ``{"folder", "report", "records"}``: paths, and every record by track and step.

    Raises:
        WmbenchError: No such plan or task, the folder holds another run, a model or policy fits none of the tasks,
            or a step failed.
    """
    from wmbench.report import build_report
    from wmbench.runs.places import check_extras
    from wmbench.runs.quick import tracks

    folder = Path(out)
    plan = make_plan(name, seed=seed, tasks=tasks, models=models, policies=policies, **changes)
    check_extras(plan)
    commit_plan(plan, folder)
    every = tracks(plan)
    began = time.monotonic()
    with _progress(progress) as bars:
        first = [t for t, track in every.items() if track.card is not None]
        last = [t for t, track in every.items() if track.card is None]
        counts = {t: len(every[t].steps) for t in every}
        _in_parallel(folder, first, counts, workers or os.cpu_count() or 1, bars, single_threaded=True)
        _in_parallel(folder, last, counts, 1, bars, single_threaded=False)  # timings want the machine to themselves
    records = _by_track(folder, plan)
    report = build_report(folder, plan.to_json(), records)
    if progress:
        Console().print(f"done in {time.monotonic() - began:.0f} s", highlight=False)
    return {"folder": folder, "report": report, "records": records}


def _by_track(folder: Path, plan: Plan) -> dict[str, dict[str, Any]]:
    """The run's current records, track to step to record."""
    from wmbench.runs.pipeline import run_track
    from wmbench.runs.quick import tracks

    return {
        name: run_track(folder, name, track.card, track.steps, plan, lambda *_: None)
        for name, track in tracks(plan).items()
    }


def _progress(show: bool) -> Progress:
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(24), TimeElapsedColumn())
    return Progress(*columns, TextColumn("{task.fields[now]}"), disable=not show)


def _in_parallel(
    folder: Path, names: list[str], counts: dict[str, int], workers: int, bars: Progress, *, single_threaded: bool
) -> None:
    """Run tracks as processes, ``workers`` at a time, showing their events; stop all if one fails."""
    waiting, failures = list(names), list[str]()
    running: list[tuple[subprocess.Popen[str], threading.Thread]] = []
    environment = dict(os.environ)
    if single_threaded:
        environment |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}  # the same sums for any number of workers
    gate = threading.Lock()

    def follow(name: str, process: subprocess.Popen[str], bar: Any) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            event = json.loads(line)
            if event["what"] == "error":
                with gate:
                    failures.append(f"{name}: {event['step']}")
            elif event["what"] == "start":
                bars.update(bar, now=event["step"])
            else:
                bars.update(bar, advance=1, now="")
        if process.wait() and not failures:
            with gate:
                failures.append(
                    f"{name}: the process died with status {process.returncode}; run the same command again"
                )

    try:
        while waiting or running:
            while waiting and len(running) < workers and not failures:
                name = waiting.pop(0)
                bar = bars.add_task(name, total=counts[name], now="starting")
                process = subprocess.Popen(
                    [sys.executable, "-m", "wmbench.runs.worker", str(folder), name],
                    stdout=subprocess.PIPE,
                    text=True,
                    env=environment,
                )
                thread = threading.Thread(target=follow, args=(name, process, bar), daemon=True)
                thread.start()
                running.append((process, thread))
            running = [(p, t) for p, t in running if t.is_alive()]
            if failures:
                break
            time.sleep(0.05)
    finally:
        for process, _ in running:
            process.terminate()
        for process, thread in running:
            process.wait()
            thread.join()
    if failures:
        raise WmbenchError("; ".join(failures))
