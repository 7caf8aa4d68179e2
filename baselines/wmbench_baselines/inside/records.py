"""The compact record of a training inside: what was trained, its curve, where it was made; read and written."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from wmbench import checkpoints
from wmbench.episodes.storage import file_hash
from wmbench.errors import DatasetError
from wmbench.files import write_atomically
from wmbench.provenance import provenance
from wmbench.registration import task_card
from wmbench_baselines.inside.config import InsideConfig

FORMAT = 1
FIELDS = ("format", "name", "task", "arm", "config", "weights", "curve", "provenance")
SIDES = ("true", "learned")


def record_of(
    name: str, arm: str, config: InsideConfig, curve: list[dict[str, Any]], *, note: str = ""
) -> dict[str, Any]:
    """The record of a finished training.

    Args:
        name: Of the training, each once in a study.
        arm: What trainings that differ by their seed alone have in common, for example ``"SAC learned"``.
        config: Of the training. Paths are left out: a model is known by its name and the digest of its weights.
        curve: From :func:`wmbench_baselines.inside.train_inside`.
        note: How the model was made, if it is not one that ships.
    """
    card = task_card(config.task)
    folder = checkpoints.find(config.model, card, kind="world_model")
    known = asdict(config) | {"model": Path(config.model).name, "dataset": Path(config.dataset).name}
    return {
        "format": FORMAT,
        "name": name,
        "task": card.name,
        "arm": arm,
        "note": note,
        "config": json.loads(json.dumps(known)),
        "weights": "" if folder is None else file_hash(folder / checkpoints.WEIGHTS),
        "curve": [_compact(point) for point in curve],
        "provenance": provenance(),
    }


def _compact(point: dict[str, Any]) -> dict[str, Any]:
    """A line of a curve with one list per outcome in place of one dict per episode."""
    kept = {"step": point["step"]} | {k: round(point[k], 3) for k in ("seconds", "simulator_seconds")}
    for side in SIDES:
        kept[side] = {
            "returns": [float(f"{e['returns']:.7g}") for e in point[side]],
            "success": [int(e["once"]) for e in point[side]],
            "length": [e["length"] for e in point[side]],
            "faults": [e["fault"] for e in point[side] if not e["valid"]],
        }
    return kept


def write_record(record: dict[str, Any], folder: Path) -> Path:
    """Write it as ``NAME.json``, a line per point of the curve."""
    folder.mkdir(parents=True, exist_ok=True)
    head = {key: value for key, value in record.items() if key != "curve"}
    points = ",\n".join("  " + json.dumps(point, allow_nan=False) for point in record["curve"])
    text = json.dumps(head, indent=1, allow_nan=False)[:-2] + f',\n "curve": [\n{points}\n ]\n}}\n'
    path = folder / f"{record['name']}.json"
    write_atomically(path, lambda temporary: temporary.write_text(text))
    return path


def read_records(paths: Iterable[Path]) -> list[dict[str, Any]]:
    """The records in files, in the order of their names.

    Raises:
        DatasetError: A file is no record of this kind, or a curve is empty.
    """
    records = []
    for path in sorted(paths):
        try:
            record = json.loads(path.read_text())
        except ValueError as error:
            raise DatasetError(f"{path} is no JSON: {error}") from error
        if not isinstance(record, dict) or (lacks := [f for f in FIELDS if f not in record]):
            raise DatasetError(f"{path} is no record of a training inside: it lacks {', '.join(lacks)}")
        if record["format"] != FORMAT or not record["curve"]:
            raise DatasetError(f"{path}: expected format {FORMAT} and a curve that is not empty")
        records.append(record)
    return records
