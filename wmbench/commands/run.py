"""``wmbench run quick``: the main job, from real data to an honest report."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console


def main(
    name: str = "quick",
    /,
    out: Path | None = None,
    seed: int = 0,
    tasks: tuple[str, ...] = (),
    models: tuple[str, ...] = (),
    policies: tuple[str, ...] = (),
    workers: int | None = None,
) -> None:
    """Collect real data, train a world model and a policy, and measure how far the model can be trusted.

    Prints tables and writes report.html with plots, and every record as JSON. Interrupted or killed,
    the same command goes on where it stopped.

    Args:
        name: The plan: quick.
        out: Folder for everything the run makes; runs/NAME by default.
        seed: Root seed of collection, training and evaluation.
        tasks: Ids or short names instead of the plan's two tasks.
        models: Further world models to measure: registered names or checkpoint folders; each joins the tasks it is
            made for, with actions that are not repeated.
        policies: Further policies to act in every simulator, the same way; a TD-MPC2 checkpoint is one, too.
        workers: Tasks worked on at the same time; one per core by default.
    """
    from wmbench.report import print_report
    from wmbench.runs import run

    folder = out or Path("runs") / name
    done = run(
        name,
        folder,
        seed=seed,
        tasks=tasks or None,
        models=models or None,
        policies=policies or None,
        workers=workers,
    )
    console = Console()
    print_report(done["records"], console)
    console.print(f"\nreport: {done['report']}\nrecords: {done['folder'] / 'records'}", highlight=False, soft_wrap=True)
