"""Steps in order, each done once: the sequence of one track, skipping what its records already hold."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wmbench.cards import TaskCard
from wmbench.runs.plan import Plan
from wmbench.runs.store import RecordStore


@dataclass
class Context:
    """What a step may use.

    Attributes:
        plan: The run's plan.
        card: The task, None in a track that is about all of them.
        folder: This step's own folder for datasets, checkpoints and pictures, under a name derived
            from what it depends on; a step that was interrupted finds there what it left.
        records: Values of the records it reads, by step.
        facts: Filled by the step with what may differ between repetitions (timings, hardware).
    """

    plan: Plan
    card: TaskCard | None
    folder: Path
    records: Mapping[str, dict[str, Any]]
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def task(self) -> TaskCard:
        """The task of this track."""
        assert self.card is not None, "this step belongs into a task's track"
        return self.card


@dataclass(frozen=True)
class Step:
    """One unit of work: a function from a context to plain values.

    Attributes:
        name: Unique within its track.
        function: Does the work and returns what must be the same at every repetition.
        reads: Earlier steps whose values it uses.
        parameters: Fields of the plan that its outcome depends on.
    """

    name: str
    function: Callable[[Context], dict[str, Any]]
    reads: tuple[str, ...] = ()
    parameters: tuple[str, ...] = ("seed",)


Event = Callable[[str, str, float], None]
"""Called with a step's name, ``"start"``, ``"done"`` or ``"kept"``, and seconds."""


def run_track(
    folder: Path, track: str, card: TaskCard | None, steps: Sequence[Step], plan: Plan, event: Event
) -> dict[str, dict[str, Any]]:
    """Do a track's steps in order, keeping those whose records are there.

    Args:
        folder: The run's folder.
        track: Name of the track, used in file names.
        card: The task it is about, or None.
        steps: In an order in which every step comes after those it reads.
        plan: The run's plan.
        event: Told when a step starts and ends.

    Returns:
        Step name to record.
    """
    store = RecordStore(folder)
    done: dict[str, dict[str, Any]] = {}
    plain = plan.to_json()
    for step in steps:
        parameters = {"plan": {k: plain[k] for k in step.parameters}, "task": card.digest() if card else None}
        key = store.key(track, step.name, parameters, {name: done[name]["digest"] for name in step.reads})
        record = store.read(track, step.name, key)
        if record is not None:
            event(step.name, "kept", record["facts"].get("seconds", 0.0))
        else:
            event(step.name, "start", 0.0)
            began = time.perf_counter()
            context = Context(
                plan=plan,
                card=card,
                folder=folder / "work" / f"{track}.{step.name}.{key}",
                records={name: done[name]["values"] for name in step.reads},
            )
            values = step.function(context)
            seconds = time.perf_counter() - began
            record = store.write(track, step.name, key, values, seconds=round(seconds, 3), **context.facts)
            event(step.name, "done", seconds)
        done[step.name] = record
    return done
