"""What a run does: its tasks, sizes and seeds, as plain data that is stored beside its records."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wmbench.errors import WmbenchError
from wmbench.files import write_json
from wmbench.registration import task_card


@dataclass(frozen=True)
class Plan:
    """Everything that decides a run's numbers.

    Attributes:
        name: What the plan is called, for example ``"quick"``.
        tasks: Task ids, each a track of steps of its own.
        seed: Root seed; collection, training and evaluation derive theirs from it.
        random_episodes: Episodes of random behaviour in the dataset.
        smooth_episodes: Episodes of time-correlated random behaviour.
        noisy_episodes: Episodes of the demonstrator with action noise.
        demonstrations: Episodes of the demonstrator as it is.
        demonstrator: The shipped policy that demonstrates.
        preset: Size of the ensemble, a preset of its configuration.
        updates: Gradient steps of the ensemble; the preset's own number if None.
        models: Further world models to put under the measures: names or checkpoint folders; each joins the tasks it is
            made for.
        policies: Further policies that act in all simulators, the same way; a world model that plans is one, too.
        eval_episodes: Episodes per policy and simulator.
        windows: Test windows for drift.
        horizon: Steps of a drift window.
        one_step_limit: Test transitions for the one-step error.
        branch_starts: States from which other actions are tried.
        open_loops: Test windows on which uncertainty and reward heads are scored.
        zoo_noise: Action noise of the demonstrator's worse relatives; with random, still, cloned and half-trained
            policies they are ranked in both simulators.
        latency_seconds: Time budget of each latency measurement.
    """

    name: str = "quick"
    tasks: tuple[str, ...] = ("wmbench/DMC-CartpoleSwingup-v0", "wmbench/Gym-Hopper-v0")
    seed: int = 0
    random_episodes: int = 10
    smooth_episodes: int = 10
    noisy_episodes: int = 10
    demonstrations: int = 10
    demonstrator: str = "actor"
    preset: str = "quick"
    updates: int | None = None
    models: tuple[str, ...] = ()
    policies: tuple[str, ...] = ()
    eval_episodes: int = 16
    windows: int = 64
    horizon: int = 100
    one_step_limit: int = 4000
    branch_starts: int = 128
    open_loops: int = 200
    zoo_noise: tuple[float, ...] = (0.1, 0.3, 0.6, 1.0)
    latency_seconds: float = 1.5

    def to_json(self) -> dict[str, Any]:
        """Plain data, readable again by :meth:`from_json`."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Plan:
        """Read a plan back from plain data."""
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
        return cls(**values)


PLANS = {"quick": Plan()}
"""Named plans."""


def make_plan(name: str, **changes: Any) -> Plan:
    """A named plan with some fields changed; tasks may be short names.

    Raises:
        WmbenchError: No such plan.
        NotRegisteredError: No such task.
    """
    if name not in PLANS:
        raise WmbenchError(f"no run is called {name!r}: known are {', '.join(sorted(PLANS))}")
    given = {k: v for k, v in changes.items() if v is not None}
    if "tasks" in given:
        given["tasks"] = tuple(task_card(t).id for t in given["tasks"])
    return dataclasses.replace(PLANS[name], **given)


def commit_plan(plan: Plan, folder: Path) -> None:
    """Store the plan in a run's folder, or check that the folder already holds the same one.

    Raises:
        WmbenchError: The folder holds another run.
    """
    path = folder / "plan.json"
    if path.exists():
        there, here = Plan().to_json() | json.loads(path.read_text()), plan.to_json()
        if there != here:
            differ = sorted(k for k in {*there, *here} if there.get(k) != here.get(k))
            raise WmbenchError(f"{folder} holds another run (it differs in {', '.join(differ)}); choose another --out")
        return
    folder.mkdir(parents=True, exist_ok=True)
    write_json(path, plan.to_json())


def read_plan(folder: Path) -> Plan:
    """The plan stored in a run's folder.

    Raises:
        WmbenchError: The folder is not a run.
    """
    path = folder / "plan.json"
    if not path.exists():
        raise WmbenchError(f"{folder} is not a run: it has no plan.json")
    return Plan.from_json(json.loads(path.read_text()))
