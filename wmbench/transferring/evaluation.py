"""Asks every policy of a zoo in learned simulators, all in one batch, and compares with the frozen truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wmbench.cards import TaskCard
from wmbench.errors import DatasetError
from wmbench.files import write_json
from wmbench.measures import Result
from wmbench.progress import progress
from wmbench.provenance import provenance
from wmbench.recording.agreement import OUTCOMES, worst_at
from wmbench.recording.store import Recording
from wmbench.registration import task_card
from wmbench.transferring.asking import HALT, Answer, ask
from wmbench.transferring.fitting import fitting_model, fitting_policies
from wmbench.zoo import Zoo, load_zoo, read_zoo

FORMAT = 1
EPISODES = 50
HALTED = ", halted in doubt"


@dataclass(frozen=True)
class Transfer:
    """A zoo of policies in learned simulators beside the truth.

    Attributes:
        task: The task.
        models: Name to reference of the world models.
        zoo: The policies.
        outcome: ``"return"`` or ``"success"``, what the headline compares.
        results: Of the measure ``agreement``, subjects being the models, and the models halted in doubt.
        recording: What they were computed from.
        facts: Seconds, which models had been asked before, the episodes that were lost and why, and provenance.
    """

    task: TaskCard
    models: dict[str, str]
    zoo: Zoo
    outcome: str
    results: list[Result]
    recording: Recording
    facts: dict[str, Any]

    def find(self, name: str, subject: str) -> Result:
        """One result.

        Raises:
            KeyError: There is none.
        """
        for result in self.results:
            if (result.name, result.subject) == (name, subject):
                return result
        raise KeyError(f"no result {name!r} of {subject!r}")

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "format": FORMAT,
            "task": self.task.id,
            "models": self.models,
            "outcome": self.outcome,
            "zoo": {"digest": self.zoo.digest, "policies": [member.name for member in self.zoo.members]},
            "episodes": int(self.recording.meta["episodes"]),
            "results": [result.to_json() for result in self.results],
            "facts": self.facts,
        }


def transfer(
    task: TaskCard | str,
    models: Sequence[str] = ("ensemble",),
    *,
    zoo: Path | str | None = None,
    policies: Sequence[str] = (),
    episodes: int = EPISODES,
    outcome: str = "return",
    device: str = "cpu",
    out: Path | str | None = None,
    show_progress: bool = False,
) -> Transfer:
    """Rank a task's frozen policies in learned simulators, and compare with what they truly score.

    The policies face the same starts in every learned simulator as they did in the true one, whose results are frozen
    with the zoo: nothing is simulated but the starts.

    Args:
        task: Card, id or short name.
        models: World models, by shipped name or checkpoint folder.
        zoo: Description of a zoo that :func:`wmbench.transferring.freeze_zoo` wrote; None: the one that is shipped.
        policies: Names of members of the zoo; all of them if empty.
        episodes: Starts, the first of the frozen ones. The truth is always that of all frozen episodes.
        outcome: ``"return"`` or ``"success"``.
        device: Where the learned simulators run.
        out: Folder for the recording, the record and the page; nothing is written without it. What the policies earn
            in a model is kept there as soon as it is found: an interrupted call goes on with the next model.
        show_progress: Whether to show a progress line.

    Raises:
        NotRegisteredError: No such task, or no zoo, member or model of it.
        CheckpointError: A model or policy of another task, or of other spaces or weights; both are named.
        MissingHeadError: A model that lacks a head which the task needs.
        DatasetError: More episodes than are frozen, a model named twice, or a folder that cannot be one.
        DeviceError: A device that cannot be used here.
        ValueError: Another outcome.
    """
    card = task_card(task) if isinstance(task, str) else task
    if outcome not in OUTCOMES:
        raise ValueError(f"unknown outcome {outcome!r}: {' or '.join(OUTCOMES)}")
    given = load_zoo(card) if zoo is None else read_zoo(Path(zoo), card)
    asked = given.pick(policies)
    if not 1 <= episodes <= len(asked.seed):
        raise DatasetError(f"{card.id}: {len(asked.seed)} episodes of the zoo are frozen, asked for {episodes}")
    folder = None if out is None else _folder(Path(out))
    named = _named(models)
    fitting = {n: fitting_model(ref, card, device=device, seed=int(asked.seed[0])) for n, ref in named.items()}
    acting = fitting_policies(asked, next(iter(fitting.values())).start, device=device)
    answers: dict[str, Answer] = {}
    with progress(f"transfer {card.name}", len(named) * len(acting) * episodes, show=show_progress) as advance:
        for name, model in fitting.items():
            answers[name] = ask(
                asked, acting, model, name=name, episodes=episodes, device=device, out=folder, advance=advance
            )
    arrays = _arrays(card, asked, answers, outcome)
    meta = {"task": card.id, "outcome": outcome, "episodes": episodes, "zoo": asked.digest, "models": named}
    recording = Recording("agreement", arrays, meta)
    facts = {
        "seconds": {name: answer.seconds for name, answer in answers.items()},
        "kept": [name for name, answer in answers.items() if answer.kept],
        "lost": {name: answer.lost for name, answer in answers.items() if answer.lost},
        "models": {name: model.identity for name, model in fitting.items()},
        "provenance": provenance(),
        "halt": HALT,
    }
    done = Transfer(card, named, asked, outcome, recording.results(), recording, facts)
    if folder is not None:
        from wmbench.transferring.page import write_page

        recording.save(folder / "agreement.safetensors")
        write_json(folder / "transfer.json", done.to_json())
        write_page(done, folder / "index.html")
    return done


def _folder(out: Path) -> Path:
    """The folder for what is found, made before anything is asked.

    Raises:
        DatasetError: There cannot be such a folder.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DatasetError(f"{out} cannot be a folder for what is found: {error.strerror}") from error
    return out


def _named(models: Sequence[str]) -> dict[str, str]:
    """Short names of the models."""
    names = [Path(reference).name for reference in models]
    if len(set(names)) < len(names) or not names:
        raise DatasetError(f"name one world model or more, each once: {', '.join(models) or 'there is none'}")
    return dict(zip(names, models, strict=True))


def _arrays(card: TaskCard, zoo: Zoo, answers: Mapping[str, Answer], outcome: str) -> dict[str, np.ndarray]:
    """What the measure of agreement reads."""
    subjects: list[str] = []
    learned: list[np.ndarray] = []
    for name, answer in answers.items():
        subjects.append(name)
        learned.append(answer.returns if outcome == "return" else answer.success)
        if answer.halted is not None and outcome == "return":
            subjects.append(name + HALTED)
            learned.append(answer.halted)
    true = zoo.returns if outcome == "return" else zoo.success.astype(np.float64)
    every = np.concatenate([true, *learned], axis=2)  # (H, K, any)
    return {
        "subject": np.array(subjects),
        "policy": np.array([member.name for member in zoo.members]),
        "horizon": np.array(zoo.horizon),
        "true": true,
        "learned": np.stack(learned),
        "worst": worst_at(card, every[None], zoo.horizon, outcome),
        "unit": np.array("1" if outcome == "success" else "reward"),
    }
