"""Prints what every interval covers: ``python -m wmbench.statistics.coverage --repetitions 2000``."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from dataclasses import dataclass

import tyro
from rich.console import Console

from wmbench.statistics.coverage import all_cases, row_of, table


@dataclass(frozen=True)
class Arguments:
    """What to simulate.

    Attributes:
        repetitions: Samples per parameter.
        seed: Of all samples.
        only: Cases whose interval's name contains this.
        processes: How many cases are simulated side by side; the numbers do not depend on it.
    """

    repetitions: int = 2000
    seed: int = 0
    only: str = ""
    processes: int = 1


def main(arguments: Sequence[str] | None = None) -> None:
    """Simulate, and print the table."""
    options = tyro.cli(Arguments, args=arguments)
    chosen = [i for i, case in enumerate(all_cases()) if options.only in case.interval]
    jobs = [(i, options.repetitions, options.seed) for i in chosen]
    console = Console(soft_wrap=True, highlight=False, markup=False)
    console.print(table([]).strip())
    with multiprocessing.get_context("spawn").Pool(options.processes) as pool:
        for row in pool.imap(row_of, jobs):
            console.print(table([row]).splitlines()[-1])


if __name__ == "__main__":
    main()
