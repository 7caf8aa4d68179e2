"""``wmbench record``: puts world models (and policies in them) under every measure and keeps the recordings."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from wmbench.commands.measure import results_table
from wmbench.errors import WmbenchError
from wmbench.files import write_json
from wmbench.progress import progress


def main(
    dataset: Path,
    models: tuple[str, ...] = ("ensemble",),
    policies: tuple[str, ...] = (),
    expert: str | None = None,
    only: tuple[str, ...] = (),
    out: Path = Path("runs/record"),
    seed: int = 0,
    device: str = "cpu",
) -> None:
    """Measure trained world models on real data, and keep recordings that `wmbench measure` reads again.

    Interrupted, the same command goes on where it stopped.

    Args:
        dataset: Folder that `wmbench collect` wrote, or frozen:TASK for the task's frozen test set.
        models: World models, by registered name or checkpoint folder.
        policies: Policies that act in both simulators; actor+noise0.3 adds noise to the actions.
        expert: The one of them that stands for good behaviour; the first by default.
        only: Recordings to make; by default all but what takes minutes or wants the machine to itself.
        out: Folder for the recordings and results.json.
        seed: Root of every random choice.
        device: Torch device.
    """
    from wmbench.measuring.everything import chosen_recorders, gather_subjects, measure_all

    if not models:
        raise WmbenchError("name at least one world model with --models")
    console = Console()
    subjects = gather_subjects(dataset, models, policies, expert=expert, seed=seed, device=device)
    lines = []
    with progress(f"{subjects.task.name}", len(chosen_recorders(only))) as advance:

        def event(name: str, what: str, seconds: float) -> None:
            if what == "start":
                advance(0, note=name)
                return
            advance(1)
            lines.append(f"{name}: {what}" if seconds == 0 else f"{name}: {what}, {seconds:.1f} s")

        done = measure_all(subjects, out, only=only, event=event)
    results = [r for measured in done.values() for r in measured.results]
    for measure in dict.fromkeys(r.measure for r in results):
        console.print(results_table([r for r in results if r.measure == measure]))
    write_json(out / "results.json", [r.to_json() for r in results])
    for line in lines:
        console.print(line, highlight=False, markup=False)
    console.print(f"recordings and results.json: {out}", highlight=False, markup=False)
