"""Reads learning curves from files, one's own or those of our training scripts, to see what real data they spare."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wmbench import checkpoints
from wmbench.errors import DatasetError
from wmbench.recording.store import Recording

FIELDS = ("subject", "task", "train_seed", "real_steps", "score")
SHARE = 0.8
SHARES = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


@dataclass(frozen=True)
class CurvePoint:
    """One evaluation during training.

    Attributes:
        subject: The method.
        task: Task id.
        train_seed: Which training.
        real_steps: Steps taken so far in the true simulator, those of a collected dataset included.
        score: Mean score of the evaluation, in the true simulator; None or NaN if it failed.
    """

    subject: str
    task: str
    train_seed: int
    real_steps: float
    score: float | None


def record_sparing(
    points: Sequence[CurvePoint],
    *,
    reference: str,
    base: Mapping[str, float] | float = 0.0,
    share: float = SHARE,
    shares: Sequence[float] = SHARES,
) -> Recording:
    """Put learning curves together.

    Args:
        points: Of all methods, tasks and training seeds, in any order.
        reference: The method that the others are compared with, for example one trained in the true simulator.
        base: Score of who has learned nothing, of all tasks or of each. Random actions' return, say; the target is
            counted from there, so it must be given where returns are negative.
        share: How much of the way from there to the reference's final score must be reached.
        shares: The same, for the curve.

    Raises:
        DatasetError: No points, a reference that has none, or a task without a base.
    """
    if reference not in {p.subject for p in points}:
        raise DatasetError(
            f"the reference {reference!r} has no learning curve; there are {sorted({p.subject for p in points})}"
        )
    tasks = sorted({p.task for p in points})
    given = {t: float(base) for t in tasks} if isinstance(base, int | float) else dict(base)
    if lacking := [t for t in tasks if t not in given]:
        raise DatasetError(f"the tasks {lacking} have no base score; give that of random actions")
    score = [np.nan if p.score is None else p.score for p in points]
    arrays = {
        "subject": np.array([p.subject for p in points]),
        "task": np.array([p.task for p in points]),
        "train_seed": np.array([p.train_seed for p in points], dtype=np.int64),
        "real_steps": np.array([p.real_steps for p in points], dtype=np.float64),
        "score": np.array(score, dtype=np.float64),
        "reference": np.array(reference),
        "share": np.array(float(share)),
        "shares": np.array(shares, dtype=np.float64),
        "task_name": np.array(tasks),
        "task_base": np.array([given[t] for t in tasks]),
    }
    return Recording("sparing", arrays, {"reference": reference, "tasks": tasks})


def read_curves(path: Path | str) -> list[CurvePoint]:
    """Read learning curves from a table.

    The file is CSV with a header, JSON (a list of objects) or JSON lines (one object per line), by its suffix ``.csv``,
    ``.json`` or ``.jsonl``. Columns or keys are those of :class:`CurvePoint`: ``subject``, ``task``, ``train_seed``,
    ``real_steps`` and ``score``; others are ignored. An empty cell, ``null`` or ``NaN`` is an evaluation that failed.

    Args:
        path: The file.

    Raises:
        DatasetError: Absent, of another kind, or a row with a field missing or no number where one is due.
    """
    path = Path(path)
    if path.suffix not in (".csv", ".json", ".jsonl"):
        raise DatasetError(f"{path}: learning curves are read from .csv, .json and .jsonl files")
    text = _text(path)
    if path.suffix == ".csv":
        rows: Any = list(csv.DictReader(text.splitlines()))
    elif path.suffix == ".json":
        rows = _json(text, str(path))
    else:
        rows = [_json(line, f"{path}, line {i + 1}") for i, line in enumerate(text.splitlines()) if line.strip()]
    if not isinstance(rows, list) or not rows:
        raise DatasetError(f"{path}: expected a list of evaluations, and at least one")
    return [_point(row, f"{path}, evaluation {i + 1}") for i, row in enumerate(rows)]


def read_log(
    path: Path | str, *, subject: str, task: str, train_seed: int, score: str = "return_mean"
) -> list[CurvePoint]:
    """Read the ``curve.jsonl`` that ``train_sac_actor.py`` and ``train_ppo_actor.py`` write, of one training.

    Args:
        path: The file, or the work folder that holds it.
        subject: Name of the method.
        task: Task id.
        train_seed: Its seed.
        score: Which column: ``return_mean``, or ``success_rate``.

    Raises:
        DatasetError: Absent, or not such a log.
    """
    path = Path(path)
    path = path / "curve.jsonl" if path.is_dir() else path
    same = {"subject": subject, "task": task, "train_seed": train_seed}
    points = []
    for i, line in enumerate(_text(path).splitlines()):
        where = f"{path}, line {i + 1}"
        row = _json(line, where)
        if not isinstance(row, dict) or "step" not in row or score not in row:
            raise DatasetError(f"{where}: expected an object with 'step' and {score!r}")
        points.append(_point({**same, "real_steps": row["step"], "score": row[score]}, where))
    return points


def read_checkpoint_curve(folder: Path | str, *, subject: str | None = None) -> list[CurvePoint]:
    """Read the learning curve (mean returns) that a policy's checkpoint carries in its provenance.

    Args:
        folder: A checkpoint that one of our training scripts exported.
        subject: Name of the method; by default the algorithm that the checkpoint names.

    Raises:
        CheckpointError: No checkpoint.
        DatasetError: It holds no curve.
    """
    config = checkpoints.read_config(folder)
    provenance = config["provenance"]
    try:
        who, seed = subject or provenance["algorithm"], provenance["settings"]["seed"]
        rows = [dict(zip(("real_steps", "score"), pair, strict=True)) for pair in provenance["curve"]]
    except (KeyError, TypeError, ValueError) as error:
        raise DatasetError(f"{folder}: its provenance holds no learning curve with algorithm and seed") from error
    same = {"subject": who, "task": config["task"], "train_seed": seed}
    return [_point({**same, **row}, f"{folder}, evaluation {i + 1}") for i, row in enumerate(rows)]


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path} cannot be read: {error}") from error


def _json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise DatasetError(f"{where} is not JSON: {error}") from error


def _point(row: Any, where: str) -> CurvePoint:
    """One row of a table, checked."""
    if not isinstance(row, dict):
        raise DatasetError(f"{where}: expected an object with {', '.join(FIELDS)}")
    if missing := [f for f in FIELDS if f not in row or (row[f] in (None, "") and f != "score")]:
        raise DatasetError(f"{where}: {', '.join(missing)} missing")
    try:
        seed, steps = int(row["train_seed"]), float(row["real_steps"])
        score = None if row["score"] in (None, "") else float(row["score"])
    except (TypeError, ValueError) as error:
        raise DatasetError(f"{where}: {error}") from error
    return CurvePoint(str(row["subject"]), str(row["task"]), seed, steps, score)
