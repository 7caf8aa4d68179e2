"""Asks every policy of a zoo in learned simulators, all in one batch, and compares with the frozen truth."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wmbench import checkpoints
from wmbench.cards import TaskCard
from wmbench.episodes import EpisodeData
from wmbench.errors import DatasetError
from wmbench.files import write_json
from wmbench.measures import Result
from wmbench.measuring.everything import read_policy
from wmbench.progress import progress
from wmbench.provenance import provenance
from wmbench.recording.agreement import OUTCOMES, scores_at, worst_at
from wmbench.recording.store import Recording
from wmbench.registration import task_card
from wmbench.rollout import rollout
from wmbench.threads import one_thread
from wmbench.troop import Troop
from wmbench.zoo import Zoo, load_zoo

FORMAT = 1
EPISODES = 50
ROWS = 1000
"""Imagined episodes that run side by side at most; results do not depend on it."""

HALT = 0.95
"""Quantile of the first steps' doubt beyond which an imagined episode is no longer believed."""
SURE = 5
"""Steps after a start whose doubt tells what is usual: there the model has drifted least."""
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
        facts: Seconds and provenance.
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
        policies: Names of members of the zoo; all of them if empty.
        episodes: Starts, the first of the frozen ones. The truth is always that of all frozen episodes.
        outcome: ``"return"`` or ``"success"``.
        device: Where the learned simulators run.
        out: Folder for the recording, the record and the page; nothing is written without it.
        show_progress: Whether to show a progress line.

    Raises:
        NotRegisteredError: No such task, or no zoo, member or model of it.
        CheckpointError: A model or policy of another task; both are named.
        CardError: A model that lacks a head which the task needs.
        DatasetError: More episodes than are frozen, or a model named twice.
        ValueError: Another outcome.
    """
    card = task_card(task) if isinstance(task, str) else task
    if outcome not in OUTCOMES:
        raise ValueError(f"unknown outcome {outcome!r}: {' or '.join(OUTCOMES)}")
    zoo = load_zoo(card).pick(policies)
    if not 1 <= episodes <= len(zoo.seed):
        raise DatasetError(f"{card.id}: {len(zoo.seed)} episodes of the zoo are frozen, asked for {episodes}")
    named = _named(models)
    doubts = {n: _doubts(reference, card, device) for n, reference in named.items()}
    seeds = [int(seed) for seed in zoo.seed[:episodes]]
    troop = Troop([read_policy(member.reference, card, device=device) for member in zoo.members], episodes)
    subjects: list[str] = []
    learned: list[np.ndarray] = []
    seconds: dict[str, float] = {}
    everyone = seeds * len(zoo.members)
    with progress(f"transfer {card.name}", len(named) * len(everyone), show=show_progress) as advance:
        for name, reference in named.items():
            began = time.perf_counter()
            with one_thread():
                found = rollout(
                    card,
                    troop,
                    everyone,
                    simulator=reference,
                    num_envs=min(ROWS, len(everyone)),
                    device=device,
                    on_error="record",
                    on_episode=lambda _, episode: advance(1, f"{name}: {len(episode)} steps"),  # noqa: B023
                    **({"uncertainty": True} if doubts[name] else {}),
                )
            seconds[name] = time.perf_counter() - began
            rows = [found[k * episodes : (k + 1) * episodes] for k in range(len(zoo.members))]
            subjects.append(name)
            learned.append(np.stack([scores_at(card, row, zoo.horizon, outcome) for row in rows], axis=1))
            if doubts[name] and outcome == "return":
                subjects.append(name + HALTED)
                learned.append(_halted(rows, zoo.horizon))
    arrays = _arrays(card, zoo, subjects, learned, outcome)
    meta = {"task": card.id, "outcome": outcome, "episodes": episodes, "zoo": zoo.digest, "models": named}
    recording = Recording("agreement", arrays, meta)
    facts = {"seconds": seconds, "provenance": provenance(), "halt": HALT}
    done = Transfer(card, named, zoo, outcome, recording.results(), recording, facts)
    if out is not None:
        from wmbench.transferring.page import write_page

        folder = Path(out)
        folder.mkdir(parents=True, exist_ok=True)
        recording.save(folder / "agreement.safetensors")
        write_json(folder / "transfer.json", done.to_json())
        write_page(done, folder / "index.html")
    return done


def _named(models: Sequence[str]) -> dict[str, str]:
    """Short names of the models."""
    names = [Path(reference).name for reference in models]
    if len(set(names)) < len(names) or not names:
        raise DatasetError(f"name one world model or more, each once: {', '.join(models) or 'there is none'}")
    return dict(zip(names, models, strict=True))


def _doubts(reference: str, card: TaskCard, device: str) -> bool:
    """Whether a model says how sure it is."""
    model = checkpoints.resolve(reference, card, kind="world_model", device=device)
    return "uncertainty" in model.card.predicts


def _halted(rows: Sequence[Sequence[EpisodeData]], horizon: Sequence[int]) -> np.ndarray:
    """Returns (H, K, E) of episodes that stop where the model's doubt leaves what is usual just after a start.

    From there on an episode counts as earning, at every further step, the mean of what it earned until then, so that
    stopping is neither punished nor rewarded. An episode that ended by itself before earns nothing more, as ever.
    """
    doubt = [[episode.extra["doubt"] for episode in row] for row in rows]
    early = np.concatenate([d[:SURE] for row in doubt for d in row])
    early = early[np.isfinite(early)]
    limit = float(np.quantile(early, HALT)) if len(early) else -np.inf
    found = np.full((len(horizon), len(rows), len(rows[0])), np.nan)
    for k, row in enumerate(rows):
        for e, episode in enumerate(row):
            over = np.flatnonzero(~(doubt[k][e] <= limit))
            halted = len(over) > 0
            if not halted and (episode.invalid is not None or episode.diverged):
                continue
            believed = episode.reward[: max(int(over[0]), 1)] if halted else episode.reward
            for h, steps in enumerate(horizon):
                counted = believed[:steps]
                found[h, k, e] = counted.mean() * steps if halted and len(counted) else counted.sum()
    return np.where(np.isfinite(found), found, np.nan)


def _arrays(
    card: TaskCard, zoo: Zoo, subjects: Sequence[str], learned: Sequence[np.ndarray], outcome: str
) -> dict[str, np.ndarray]:
    """What the measure of agreement reads."""
    true = zoo.returns if outcome == "return" else zoo.success.astype(np.float64)
    every = np.concatenate([true, *learned], axis=2)  # (H, K, any)
    return {
        "subject": np.array(list(subjects)),
        "policy": np.array([member.name for member in zoo.members]),
        "horizon": np.array(zoo.horizon),
        "true": true,
        "learned": np.stack(learned),
        "worst": worst_at(card, every[None], zoo.horizon, outcome),
        "unit": np.array("1" if outcome == "success" else "reward"),
    }
