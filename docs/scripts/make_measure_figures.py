"""Makes the figure of every measure that the documentation shows, from runs of the suite itself.

    python docs/scripts/make_measure_figures.py --data runs/reference/Gym-Hopper-data

Recordings are kept in ``--work``, so that an interrupted run goes on. The data are those from which
``baselines/scripts/make_reference_models.py`` trains the shipped Hopper ensemble; everything else is made here.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from rich.console import Console

import wmbench
from wmbench import registry
from wmbench.measuring import gather_subjects, measure_all
from wmbench.recording import Recording
from wmbench.recording.sparing import CurvePoint, record_sparing
from wmbench.recording.store import find_recordings
from wmbench.report.figures import save_figures

POLICIES = ("actor", "actor-medium", "random", "zero", *(f"actor+noise{n}" for n in (0.1, 0.3, 0.6, 1.0)))
SLOW = ("exploitation", "images", "latency", "real-time")
CLONES = "DMC-CartpoleSwingup"
DEMONSTRATIONS = (1, 2, 4, 8)
SEEDS = (0, 1, 2)
NOISES = {"clean demonstrations": 0.0, "noisy demonstrations": 0.3}


@dataclass(frozen=True)
class Options:
    """What to draw from.

    Attributes:
        data: Dataset of the task on which models are measured.
        model: World model.
        work: Folder for recordings and clones.
        out: Folder for the figures.
    """

    data: Path
    model: str = "ensemble"
    work: Path = Path("runs/measure-figures")
    out: Path = Path("docs/images/measures")


def clone(noise: float, count: int, seed: int, work: Path) -> list[float]:
    """Returns in the true simulator of a policy cloned from some demonstrations, one per episode."""
    folder = work / f"noise{noise:g}-{count}-{seed}"
    done = folder / "returns.json"
    if not done.exists():
        data = wmbench.collect(
            CLONES,
            folder / "data",
            policy="actor",
            episodes=count + 2,
            noise=noise,
            seed=seed,
            split=(count / (count + 2), 1 / (count + 2), 1 / (count + 2)),
        )
        wmbench.train("bc", CLONES, data, folder / "bc", preset="quick", seed=seed, progress=False)
        found = wmbench.evaluate(CLONES, str(folder / "bc"), episodes=8, seed=7)
        done.write_text(json.dumps([e["returns"] for e in found.episodes]))
    return json.loads(done.read_text())


def clones(work: Path, console: Console) -> list[Recording]:
    """Two ways to demonstrate, compared by training seeds and by the real data they need."""
    task = wmbench.task_card(CLONES)
    points, rows = [], []
    for name, noise in NOISES.items():
        for count in DEMONSTRATIONS:
            for seed in SEEDS:
                returns = clone(noise, count, seed, work)
                console.print(f"{name}, {count} episodes, seed {seed}: {np.mean(returns):.0f}", highlight=False)
                points.append(CurvePoint(name, task.id, seed, count * task.horizon, float(np.mean(returns))))
                if count == DEMONSTRATIONS[1]:
                    rows += [(name, task.id, seed, r / task.horizon) for r in returns]
    subject, tasks, seeds, score = zip(*rows, strict=True)
    methods = {
        "subject": np.array(subject),
        "task": np.array(tasks),
        "train_seed": np.array(seeds),
        "score": np.array(score, dtype=np.float64),
        "worst": np.array(0.0),
        "target": np.array(0.8),
    }
    sparing = record_sparing(points, reference="clean demonstrations", base=26.0)
    return [Recording("methods", methods, {"task": task.id}), sparing]


def main(options: Options) -> None:
    """Record what is missing, and draw everything."""
    console = Console()
    subjects = gather_subjects(options.data, [options.model], POLICIES)
    recordings = options.work / "recordings"

    def event(name: str, what: str, seconds: float) -> None:
        if what != "start":
            console.print(f"{name}: {what} ({seconds:.0f} s)", highlight=False)

    measure_all(subjects, recordings, event=event)
    few = gather_subjects(options.data, [options.model], ["actor", "actor-medium", "random"])
    measure_all(few, recordings, only=SLOW, event=event)
    for recording in clones(options.work / "clones", console):
        recording.save(recordings / f"{recording.measure}.safetensors")
    for path in find_recordings(recordings):
        recording = Recording.load(path)
        task = recording.meta.get("task")
        for file in save_figures(recording.every_result(), wmbench.task_card(task) if task else None, options.out):
            console.print(str(file), highlight=False)
    if missing := [n for n in registry.measures.names() if not (options.out / f"{n}.png").exists()]:
        raise SystemExit(f"no figure of {', '.join(missing)}")


if __name__ == "__main__":
    main(tyro.cli(Options))
