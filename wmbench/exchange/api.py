"""``wmbench.export`` and ``wmbench.import_``: a dataset to another library's format, and back."""

from __future__ import annotations

from pathlib import Path

from wmbench.cards import TaskCard
from wmbench.episodes import Dataset
from wmbench.errors import DatasetError, require
from wmbench.exchange.format import Format, Wanted
from wmbench.files import fresh_folder
from wmbench.progress import progress
from wmbench.registration import task_card
from wmbench.registry import formats


def export(
    dataset: Dataset | Path | str,
    out: Path | str,
    *,
    format: str,
    storage: str | None = None,
    show_progress: bool = False,
) -> Path:
    """Write a dataset in another library's format. What that cannot hold is kept beside it or named in a warning.

    Args:
        dataset: A dataset or its folder.
        out: New folder.
        format: ``"minari"``, ``"lerobot"``, ``"rlds"`` or another registered one.
        storage: How, where the format leaves a choice; None is its default.
        show_progress: Whether to show a progress line.

    Returns:
        ``out``.

    Raises:
        MissingExtraError: The format's library is not installed.
        DatasetError: The dataset cannot be read, or there is no such storage.
        WmbenchError: ``out`` exists.
    """
    found = _format(format)
    how = found.storages[0] if storage is None else storage
    if how not in found.storages:
        raise DatasetError(f"{format} has no storage {how!r}; there are {', '.join(found.storages)}")
    data = dataset if isinstance(dataset, Dataset) else Dataset(dataset)
    with (
        fresh_folder(Path(out).absolute()) as folder,  # Minari cannot size a dataset by a relative path
        progress(f"export {data.task.name} to {format}", len(data), show=show_progress) as advance,
    ):
        found.export(data, folder, how, advance)
    return Path(out)


def import_(
    path: Path | str,
    out: Path | str,
    task: TaskCard | str | None = None,
    *,
    format: str,
    control_hz: float | None = None,
    source: str = "",
    show_progress: bool = False,
) -> Dataset:
    """Read another library's dataset into one of ours.

    One that :func:`export` wrote comes back as it was. In any other, shapes, bounds, rate and length must agree
    with the task; success is computed by the task's card where it can be; what is missing is refused, not invented.

    Args:
        path: Folder of the other dataset.
        out: New folder.
        task: Card, id or short name; None takes what the data name themselves.
        format: ``"minari"``, ``"lerobot"``, ``"rlds"`` or another registered one.
        control_hz: The control rate in Hz, where the data do not say it.
        source: Who acted, where the data do not say it; by default the format's name.
        show_progress: Whether to show a progress line.

    Returns:
        The new dataset.

    Raises:
        MissingExtraError: The format's library is not installed.
        DatasetError: It cannot be read, does not fit the task (all differing fields are named), or lacks something.
        NotRegisteredError: No such task or format.
        WmbenchError: ``out`` exists.
    """
    found = _format(format)
    card = task_card(task) if isinstance(task, str) else task
    place = Path(path)
    if not place.is_dir():
        raise DatasetError(f"{place} is no folder, and a {format} dataset is one")
    wanted = Wanted(card, control_hz, source or format)
    name = card.name if card else place.name
    with fresh_folder(Path(out).absolute()) as folder:
        with progress(f"import {name} from {format}", found.count(place), show=show_progress) as advance:
            card = found.import_(place, folder, wanted, advance)
        (folder / ".lock").unlink(missing_ok=True)
    return Dataset(out, task=card)


def _format(name: str) -> Format:
    found: Format = formats.load(name)
    require(found.module, found.extra)
    return found
