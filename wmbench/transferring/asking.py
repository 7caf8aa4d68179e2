"""What all policies of a zoo earn in one learned simulator: found in one batch, or read from where it was kept."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save_file

from wmbench import __version__
from wmbench.episodes import EpisodeData
from wmbench.errors import DatasetError
from wmbench.files import write_atomically
from wmbench.progress import Advance
from wmbench.protocols import Policy
from wmbench.recording.agreement import scores_at
from wmbench.rollout import rollout
from wmbench.threads import one_thread
from wmbench.transferring.fitting import Fitting
from wmbench.troop import Troop
from wmbench.zoo import Zoo

FORMAT = 2
ROWS = 1000
"""Imagined episodes that run side by side at most; results do not depend on it."""

HALT = 0.95
"""Quantile of the first steps' doubt beyond which an imagined episode is no longer believed."""
SURE = 5
"""Steps after a start whose doubt tells what is usual: there the model has drifted least."""
PARTS = "parts"


@dataclass(frozen=True)
class Answer:
    """What policies earn in one learned simulator.

    Attributes:
        returns: (H, K, E) float64 up to each horizon, NaN from where an episode was lost.
        success: (H, K, E) float64, likewise.
        halted: (H, K, E) float64, returns with halting in doubt, see :func:`halted`; None if the model has no doubts.
        lost: Episodes that broke off: ``policy``, ``seed``, ``steps`` and ``reason``.
        seconds: What it took.
        kept: Whether an earlier call found it.
    """

    returns: np.ndarray
    success: np.ndarray
    halted: np.ndarray | None
    lost: list[dict[str, Any]]
    seconds: float
    kept: bool = False


def ask(
    zoo: Zoo,
    policies: Sequence[Policy],
    model: Fitting,
    *,
    name: str,
    episodes: int,
    device: str,
    out: Path | None,
    advance: Advance,
) -> Answer:
    """Let all policies act in a learned simulator from the zoo's first starts, all in one batch.

    An episode in which the policy or the model fails is lost, and no other.

    Args:
        zoo: The zoo.
        policies: Its members' policies, in order.
        model: The learned simulator.
        name: What it is called.
        episodes: Starts of each policy.
        device: Torch device.
        out: Folder in which the answer is kept; one that is there, of the same zoo, model and episodes, is taken.
        advance: Told of episodes as they are done.

    Raises:
        DatasetError: What was kept cannot be read.
    """
    part = None if out is None else out / PARTS / f"{name}-{_key(zoo, model, episodes, device)}.safetensors"
    total = episodes * len(zoo.members)
    if part is not None and part.exists():
        advance(total, f"{name}: kept")
        return _load(part)
    began = time.perf_counter()
    seeds = [int(seed) for seed in zoo.seed[:episodes]]
    with one_thread():
        found = rollout(
            zoo.task,
            Troop(policies, episodes),
            seeds * len(policies),
            simulator=model.reference,
            num_envs=min(ROWS, total),
            device=device,
            on_error="record",
            on_episode=lambda _, episode: advance(1, f"{name}: {len(episode)} steps"),
            **({"uncertainty": True} if model.doubts else {}),
        )
    rows = [found[k * episodes : (k + 1) * episodes] for k in range(len(policies))]
    scores = {
        outcome: np.stack([scores_at(zoo.task, row, zoo.horizon, outcome) for row in rows], axis=1)
        for outcome in ("return", "success")
    }
    answer = Answer(
        returns=scores["return"],
        success=scores["success"],
        halted=halted(rows, zoo.horizon) if model.doubts else None,
        lost=[
            {"policy": member.name, "seed": episode.seed, "steps": len(episode), "reason": _reason(episode)}
            for member, row in zip(zoo.members, rows, strict=True)
            for episode in row
            if episode.invalid is not None or episode.diverged
        ],
        seconds=time.perf_counter() - began,
    )
    if part is not None:
        _save(answer, part)
    return answer


def halted(rows: Sequence[Sequence[EpisodeData]], horizon: Sequence[int]) -> np.ndarray:
    """Returns (H, K, E) of episodes that stop where the model's doubt leaves what is usual just after a start.

    From there on an episode counts as earning, at every further step, the mean of what it earned until then, so that
    stopping is neither punished nor rewarded. An episode that ended by itself before earns nothing more, as ever.
    """
    doubt = [[episode.extra.get("doubt", np.empty(0)) for episode in row] for row in rows]
    early = np.concatenate([d[:SURE] for row in doubt for d in row])
    early = early[np.isfinite(early)]
    limit = float(np.quantile(early, HALT)) if len(early) else -np.inf
    found = np.full((len(horizon), len(rows), len(rows[0])), np.nan)
    for k, row in enumerate(rows):
        for e, episode in enumerate(row):
            over = np.flatnonzero(~(doubt[k][e] <= limit))
            stopped = len(over) > 0
            if not stopped and (episode.invalid is not None or episode.diverged):
                continue
            believed = episode.reward[: max(int(over[0]), 1)] if stopped else episode.reward
            for h, steps in enumerate(horizon):
                counted = believed[:steps]
                found[h, k, e] = counted.mean() * steps if stopped and len(counted) else counted.sum()
    return np.where(np.isfinite(found), found, np.nan)


def _reason(episode: EpisodeData) -> str:
    return episode.invalid or "a prediction was not finite"


def _key(zoo: Zoo, model: Fitting, episodes: int, device: str) -> str:
    """Twelve characters that differ whenever the answer could."""
    asked = [FORMAT, __version__, zoo.digest, [m.name for m in zoo.members], model.identity, episodes, device]
    return hashlib.sha256(json.dumps([*asked, HALT, SURE]).encode()).hexdigest()[:12]


def _save(answer: Answer, path: Path) -> None:
    """Write an answer, whole or not at all."""
    arrays = {"returns": answer.returns, "success": answer.success}
    if answer.halted is not None:
        arrays["halted"] = answer.halted
    told = {"transfer": json.dumps({"lost": answer.lost, "seconds": answer.seconds})}
    path.parent.mkdir(parents=True, exist_ok=True)
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    write_atomically(path, lambda temporary: save_file(contiguous, temporary, told))


def _load(path: Path) -> Answer:
    try:
        arrays = load_file(path)
        with safe_open(path, framework="np") as file:
            told = json.loads(file.metadata()["transfer"])
        return Answer(arrays["returns"], arrays["success"], arrays.get("halted"), **told, kept=True)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise DatasetError(f"{path} is damaged ({type(error).__name__}: {error}): remove it") from error
