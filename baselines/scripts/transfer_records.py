"""Reads the records of the transfer study, and what tables and figures both need of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from train_zoo import TASKS

from wmbench.measures import Result

RECORDS = Path(__file__).parents[1] / "results" / "transfer"
HALTED = ", halted in doubt"
TRUTH, ORACLE = "truth-again", "oracle"
MODELS = {
    TRUTH: "true simulator, other episodes",
    "ensemble": "ensemble, shipped",
    "ensemble-100%": "ensemble, 100 %",
    "ensemble-25%": "ensemble, 25 %",
    "ensemble-5%": "ensemble, 5 %",
    "ensemble-random": "ensemble, random data only",
    "tdmpc2": "TD-MPC2",
    "linear": "linear",
    "random-walk": "random walk",
    "mean-delta": "mean change",
    "copy-last": "nothing moves",
    ORACLE: "oracle",
}
"""Name in the records to name on the page, in the order of the page; others follow."""
LEARNED = ("ensemble", "ensemble-100%", "ensemble-25%", "ensemble-5%", "ensemble-random", "tdmpc2")
REFERENCE = ("linear", "random-walk", "mean-delta", "copy-last")
SIZES = ("ensemble-5%", "ensemble-25%", "ensemble-100%")


@dataclass(frozen=True)
class Record:
    """One model's record on one task.

    Attributes:
        task: Short name of the task.
        model: Name of the model.
        data: Everything that was recorded.
        results: Of all subjects.
    """

    task: str
    model: str
    data: dict[str, Any]
    results: tuple[Result, ...]

    def find(self, name: str, *, halted: bool = False) -> Result | None:
        """One number, of full episodes or of those halted in doubt; None if there is none."""
        subject = self.model + (HALTED if halted else "")
        return next((r for r in self.results if (r.name, r.subject) == (name, subject)), None)

    def has_halted(self) -> bool:
        """Whether the model says how sure it is."""
        return any(r.subject.endswith(HALTED) for r in self.results)

    def table(self, *, halted: bool = False) -> dict[str, Any]:
        """Every policy's true and learned mean, with intervals."""
        found = self.find("bias", halted=halted)
        assert found is not None
        return dict(found.details["table"])

    def spread(self) -> float:
        """The range of the policies' true values, which errors are measured against."""
        true = self.table()["true"]
        return float(max(true) - min(true))

    def skill(self) -> float | None:
        """One-step skill against standing still, on the study's test split."""
        found = self.data["quality"].get("skill")
        return None if found is None else found[0]


Study = dict[str, dict[str, Record]]
"""Task to model to record, in the order of the page."""


def read(folder: Path = RECORDS) -> Study:
    """All records of a folder."""
    study: Study = {}
    for path in sorted(folder.glob("*/*.json")):
        data = json.loads(path.read_text())
        results = tuple(Result.from_json(r) for r in data["results"])
        study.setdefault(path.parent.name, {})[data["model"]] = Record(path.parent.name, data["model"], data, results)
    order = {name: i for i, name in enumerate(MODELS)}
    return {
        task: dict(sorted(study[task].items(), key=lambda item: order.get(item[0], len(order))))
        for task in [*(t for t in TASKS if t in study), *(t for t in study if t not in TASKS)]
    }


def models_of(study: Study, wanted: tuple[str, ...] | None = None) -> list[str]:
    """The models that any task has, in the order of the page."""
    there = {model for models in study.values() for model in models}
    named = [*MODELS, *sorted(there - set(MODELS))]
    return [model for model in named if model in there and (wanted is None or model in wanted)]
