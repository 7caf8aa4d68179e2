"""Prints which measure notices which fault: ``python -m wmbench_baselines.faults --processes 2``."""

from __future__ import annotations

import functools
import multiprocessing
from collections.abc import Sequence
from dataclasses import dataclass

import tyro
from rich.console import Console

from wmbench_baselines.faults.study import ALARMS, FAULTS, Sizes, study, table


@dataclass(frozen=True)
class Arguments:
    """What to simulate.

    Attributes:
        calibration: Healthy models that set the thresholds: 49, 99, 149 and so on.
        held_out: Healthy models that are counted.
        faulty: Models with each fault.
        processes: Side by side; the numbers do not depend on it.
    """

    calibration: int = 199
    held_out: int = 200
    faulty: int = 100
    processes: int = 1


def main(arguments: Sequence[str] | None = None) -> None:
    """Simulate, and print the table."""
    options = tyro.cli(Arguments, args=arguments)
    sizes = Sizes(options.calibration, options.held_out, options.faulty)
    with multiprocessing.get_context("spawn").Pool(options.processes) as pool:
        rates = study(FAULTS, list(ALARMS), sizes, every=functools.partial(pool.imap, chunksize=4))
    Console(soft_wrap=True, highlight=False, markup=False).print(table(rates, FAULTS))


if __name__ == "__main__":
    main()
