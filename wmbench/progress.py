"""One progress line for everything that takes a while: only when asked for, with or without a terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

Advance = Callable[..., None]
"""``advance(n=1, note="")``: n more steps are done; the note is shown beside the bar."""

SECONDS = 10.0
"""Without a terminal a plain line is printed at most this often."""


@contextmanager
def progress(
    what: str, total: int, *, show: bool = True, done: int = 0, console: Console | None = None
) -> Iterator[Advance]:
    """Show how far something is, on the error stream.

    Args:
        what: A few words in front of the bar.
        total: Number of steps.
        show: Nothing at all is printed if False.
        done: Steps that were done before, by an interrupted run.
        console: Where to; None is the error stream.

    Yields:
        A function to call as steps are done: ``advance(n=1, note="")``.
    """
    if not show:
        yield lambda n=1, note="": None
        return
    console = console or Console(stderr=True)
    if console.is_terminal:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        with Progress(*columns, console=console) as bar:
            task = bar.add_task(what, total=total, completed=done, note="")
            yield lambda n=1, note="": bar.update(task, advance=n, note=note)
        return
    yield _lines(what, total, done, console)


def _lines(what: str, total: int, done: int, console: Console) -> Advance:
    """Progress for log files: a line now and then, and one at the end."""
    last = time.monotonic()

    def advance(n: int = 1, note: str = "") -> None:
        nonlocal done, last
        done += n
        if done >= total or time.monotonic() - last >= SECONDS:
            last = time.monotonic()
            console.print(f"{what}: {done}/{total} {note}".rstrip(), highlight=False, markup=False)

    return advance
