"""What a format is: two functions, and what they can be asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wmbench.cards import TaskCard
from wmbench.episodes import Dataset

Advance = Callable[..., None]


@dataclass(frozen=True)
class Wanted:
    """What somebody asks of an import.

    Attributes:
        task: The task that the data are of, None: the one that the data name themselves.
        control_hz: The control rate, where the data do not say it.
        source: Who acted, where the data do not say it; "": the format's name.
    """

    task: TaskCard | None
    control_hz: float | None
    source: str


@dataclass(frozen=True)
class Format:
    """A format to exchange datasets in.

    Attributes:
        name: As in ``--format``.
        module: Import name of the library behind it.
        extra: The extra of this distribution that brings the library.
        storages: Ways to store pictures or files, the default first.
        count: ``count(path)``: episodes in there, for the progress line.
        export: ``export(dataset, folder, storage, advance)`` fills an empty folder.
        import_: ``import_(path, folder, wanted, advance)`` fills an empty folder with a dataset and returns its card.
    """

    name: str
    module: str
    extra: str
    storages: tuple[str, ...]
    count: Callable[[Path], int]
    export: Callable[[Dataset, Path, str, Advance], Any]
    import_: Callable[[Path, Path, Wanted, Advance], TaskCard]
