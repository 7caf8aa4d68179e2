"""Runs the transfer study: every zoo in every world model of its task, one committed record per task and model.

    python baselines/scripts/run_transfer_study.py --work runs/study
    python baselines/scripts/run_transfer_study.py DMC-CartpoleSwingup --only ensemble oracle
    python baselines/scripts/run_transfer_study.py DMC-CartpoleSwingup --model tdmpc2=runs/study/tdmpc2/{task}

A record whose zoo, model and numbers of episodes are still the same is kept, so an interrupted study goes on. The
models come from `make_transfer_models.py`; a task without a zoo, or a model that is not there, is left out and named.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from make_transfer_models import RANDOM_ONLY, REFERENCES, SEED, SIZES, label
from rich.console import Console
from train_zoo import TASKS

from wmbench import checkpoints, task_card
from wmbench.cards import TaskCard
from wmbench.episodes import Dataset
from wmbench.episodes.storage import file_hash
from wmbench.errors import CheckpointError
from wmbench.files import write_atomically
from wmbench.measures import Result
from wmbench.measuring import measure_drift, measure_one_step
from wmbench.provenance import provenance
from wmbench.recording.agreement import worst_at
from wmbench.recording.store import Recording
from wmbench.threads import one_thread
from wmbench.transferring import transfer
from wmbench.zoo import Zoo, load_zoo, shipped_zoos

FORMAT = 1
HALTING = 2
"""The same for models that say how sure they are: records of version 1 had read a constant in place of their doubt."""
RECORDS = Path(__file__).parents[1] / "results" / "transfer"
EPISODES = 50
FEWER = {"oracle": 2}
"""Episodes of what is as slow as the true simulator."""
AGAIN = "truth-again"
"""The true simulator judged by its other episodes: as well as anything can agree with so many episodes."""
AGREEMENT = (
    "spearman",
    "pearson",
    "kendall",
    "mmrv",
    "regret@1",
    "regret@1-raw",
    "regret@3",
    "bias",
    "mae",
    "slope",
    "winners",
)
QUALITY = {"one-step": ("skill", "skill-linear", "skill-worst"), "drift": ("mean-steps-to-0.5", "median-steps-to-0.5")}
DRIFT = 100
"""Steps of a drift window, at most four fifths of the task's."""


@dataclass(frozen=True)
class Job:
    """One record: a model, by the name that the study gives it, and what `gym.make` takes."""

    name: str
    reference: str
    episodes: int


def main(
    tasks: Annotated[tuple[str, ...], tyro.conf.Positional] = TASKS,
    work: Path = Path("runs/study"),
    out: Path = RECORDS,
    only: tuple[str, ...] = (),
    model: tuple[str, ...] = (),
    episodes: int = EPISODES,
) -> None:
    """Make every record that is not there, or is of another zoo or model.

    Args:
        tasks: Names of the tasks.
        work: Where `make_transfer_models.py` put datasets and models.
        out: Folder of the records, one folder per task.
        only: Names of the models, as in the records; all of them by default.
        model: Further models as NAME=FOLDER, in which {task} stands for the task's name.
        episodes: Starts of each policy in each model.
    """
    for task in tasks:
        card = task_card(task)
        if card.id not in shipped_zoos():
            say(f"{card.name}: no zoo is shipped, left out")
            continue
        zoo = load_zoo(card)
        for job in jobs(card, work, model, episodes):
            if only and job.name not in only:
                continue
            path = out / card.name / f"{job.name}.json"
            if known(path, identity(card, zoo, job)):
                say(f"{card.name} {job.name}: kept")
                continue
            began = time.perf_counter()
            with one_thread():
                record = again(card, zoo, job) if job.name == AGAIN else of_model(card, zoo, job, work)
            record["provenance"] = provenance()
            path.parent.mkdir(parents=True, exist_ok=True)
            write_record(path, record)
            found = next(r for r in record["results"] if r["name"] == "spearman")
            say(f"{card.name} {job.name}: Spearman {found['value']} in {time.perf_counter() - began:.0f} s")


def say(text: str) -> None:
    """A line of progress."""
    Console().print(text, highlight=False, markup=False, soft_wrap=True)


def jobs(card: TaskCard, work: Path, extra: Sequence[str], episodes: int) -> list[Job]:
    """Every model of a task that is there; those that are not are named."""
    folder = work / card.name
    found = [(AGAIN, ""), ("ensemble", "ensemble")]
    found += [
        (name, str(folder / name))
        for name in (*(f"ensemble-{label(s)}" for s in SIZES), "ensemble-random", *REFERENCES)
    ]
    for text in extra:
        name, _, place = text.partition("=")
        found.append((name, place.replace("{task}", card.name)))
    found.append(("oracle", "oracle"))
    there = []
    for name, reference in found:
        if name != AGAIN:
            try:
                checkpoints.find(reference, card, kind="world_model")
            except CheckpointError as error:
                if name != "ensemble-random" or card.name in RANDOM_ONLY:
                    say(f"{card.name} {name} left out: {str(error).split(':')[0]}")
                continue
        there.append(Job(name, reference, min(episodes, FEWER.get(name, episodes))))
    return there


def identity(card: TaskCard, zoo: Zoo, job: Job) -> dict[str, Any]:
    """What a record is of; with another identity it is made anew."""
    folder = checkpoints.find(job.reference, card, kind="world_model") if job.reference else None
    weights = folder and folder / checkpoints.WEIGHTS
    return {
        "format": FORMAT,
        "task": card.id,
        "task_digest": card.digest(),
        "model": job.name,
        "weights": file_hash(weights) if weights and weights.exists() else "",
        "zoo": zoo.digest,
        "episodes": job.episodes,
    }


def known(path: Path, wanted: dict[str, Any]) -> bool:
    """Whether a record is there and still of the same things."""
    if not path.exists():
        return False
    record = json.loads(path.read_text())
    return all(record.get(key) == value for key, value in wanted.items())


def of_model(card: TaskCard, zoo: Zoo, job: Job, work: Path) -> dict[str, Any]:
    """The record of a world model."""
    found = transfer(card, [job.reference], episodes=job.episodes, show_progress=True)
    own = Path(job.reference).name
    results = [r for r in found.results if r.name in AGREEMENT]
    data = work / card.name / "data"
    quality = measured(card, job, Dataset(data, task=card)) if job.name != "oracle" and data.exists() else {}
    return identity(card, zoo, job) | {
        "algorithms": [member.algorithm for member in zoo.members],
        "truth_episodes": len(zoo.seed),
        "data": trained_on(card, job, work),
        "quality": quality,
        "results": [plain(r, r.subject.replace(own, job.name, 1)) for r in results],
        "seconds": found.facts["seconds"][own],
        "command": f"python baselines/scripts/run_transfer_study.py {card.name} --work WORK --only {job.name}",
    }


def again(card: TaskCard, zoo: Zoo, job: Job) -> dict[str, Any]:
    """The record of the truth: its last episodes, as if they were a model's, against all before."""
    last = zoo.returns[..., -job.episodes :]
    arrays = {
        "subject": np.array([AGAIN]),
        "policy": np.array([member.name for member in zoo.members]),
        "horizon": np.array(zoo.horizon),
        "true": zoo.returns[..., : -job.episodes],
        "learned": last[None],
        "worst": worst_at(card, zoo.returns[None], zoo.horizon, "return"),
        "unit": np.array("reward"),
    }
    results = Recording("agreement", arrays, {}).results()
    return identity(card, zoo, job) | {
        "algorithms": [member.algorithm for member in zoo.members],
        "truth_episodes": len(zoo.seed) - job.episodes,
        "data": {},
        "quality": {},
        "results": [plain(r, AGAIN) for r in results if r.name in AGREEMENT],
        "seconds": 0.0,
        "command": f"python baselines/scripts/run_transfer_study.py {card.name} --only {AGAIN}",
    }


def measured(card: TaskCard, job: Job, data: Dataset) -> dict[str, Any]:
    """One-step skill and drift on the study's test split: name to value and interval."""
    model = checkpoints.resolve(job.reference, card, kind="world_model")
    if "observation" not in model.card.predicts:
        return {}
    horizon = min(DRIFT, card.horizon * 4 // 5)
    both = {
        "one-step": measure_one_step({"model": model}, data, limit=2000, draws=4, seed=SEED),
        "drift": measure_drift({"model": model}, data, horizon=horizon, windows=64, seed=SEED, floor=False),
    }
    found = {
        r.name: [rounded(v) for v in (r.value, r.ci_low, r.ci_high)]
        for measure, names in QUALITY.items()
        for r in both[measure].results
        if r.subject == "model" and r.name in names
    }
    return found | {"drift_horizon": horizon, "test_data": data.digest}


def trained_on(card: TaskCard, job: Job, work: Path) -> dict[str, Any]:
    """Digest and size of the data behind a model."""
    folder = checkpoints.find(job.reference, card, kind="world_model")
    if folder is None:
        return {}
    made = checkpoints.read_config(folder)["provenance"]
    steps = (made.get("episodes") or {}).get("split", {}).get("train", {}).get("steps")
    return {"digest": made.get("dataset"), "train_steps": steps}


def plain(result: Result, subject: str) -> dict[str, Any]:
    """A result as plain data, numbers to six digits."""
    return json.loads(json.dumps(rounded({**result.to_json(), "subject": subject}), allow_nan=False))


def rounded(value: Any) -> Any:
    """Floats to six significant digits, everywhere in plain data."""
    if isinstance(value, dict):
        return {key: rounded(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(entry) for entry in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def write_record(path: Path, record: dict[str, Any]) -> None:
    """JSON with one line per entry and result."""
    lines = []
    for key, value in record.items():
        if key == "results":
            rows = ",\n  ".join(json.dumps(row, allow_nan=False) for row in value)
            lines.append(f' "results": [\n  {rows}\n ]')
        else:
            lines.append(f" {json.dumps(key)}: {json.dumps(value, allow_nan=False)}")
    text = "{\n" + ",\n".join(lines) + "\n}\n"
    write_atomically(path, lambda temporary: temporary.write_text(text))


if __name__ == "__main__":
    tyro.cli(main)
