"""Finds out once what every policy of a zoo truly scores, and writes it beside the zoo's description."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from safetensors.numpy import load_file, save_file

from wmbench.cards import TaskCard
from wmbench.errors import DatasetError
from wmbench.files import write_atomically, write_json
from wmbench.measuring.everything import read_policy
from wmbench.progress import progress
from wmbench.provenance import provenance
from wmbench.recording.agreement import scores_at
from wmbench.rollout import rollout
from wmbench.seeding import episode_seeds
from wmbench.threads import one_thread
from wmbench.transferring.fitting import check_fits, weights_of
from wmbench.zoo import FORMAT, Member, Zoo, digest_of, read_zoo

EPISODES = 200
QUARTERS = (1, 2, 3, 4)


def freeze_zoo(
    task: TaskCard,
    members: Sequence[Member],
    out: Path,
    *,
    episodes: int = EPISODES,
    seed: int = 0,
    work: Path,
    command: str = "",
    show_progress: bool = True,
) -> Zoo:
    """Evaluate every member in the true simulator, and write the zoo.

    Args:
        task: The task.
        members: The policies; digests of their weights are filled in here.
        out: The description, ``NAME.json``; the arrays go to ``NAME.safetensors`` beside it.
        episodes: Of each policy, the same starts for all.
        seed: Root seed, from which the episodes' seeds derive, as in an evaluation.
        work: Folder for what is finished so far: an interrupted call goes on there.
        command: What made the zoo, for its reader.
        show_progress: Whether to show a progress line.

    Raises:
        DatasetError: Two members of one name, or an episode in which a policy failed.
        CheckpointError: A reference that names nothing, or a policy of another task or of other spaces; both are named.
    """
    if len({member.name for member in members}) != len(members) or not members:
        raise DatasetError(f"{task.id}: a zoo needs policies, each name once")
    horizon = [max(1, task.horizon * i // 4) for i in QUARTERS]
    seeds = episode_seeds(seed, task.id, "eval", episodes)
    _check(task, members, seeds[0])
    named, parts = [], []
    with progress(f"zoo of {task.name}", len(members), show=show_progress) as advance:
        for member in members:
            known = replace(member, weights=weights_of(member, task))
            part = work / f"{member.name}-{known.weights[:8]}-{task.digest()[:8]}-{seed}-{episodes}.safetensors"
            if not part.exists():
                found = _evaluate(task, known, seeds, horizon)
                part.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(part, lambda path, found=found: save_file(found, path))  # type: ignore[misc]
            named.append(known)
            parts.append(load_file(part))
            advance(1, f"{member.name}: return {parts[-1]['returns'][-1].mean():.4g}")
    arrays = {
        "seed": np.array(seeds, dtype=np.int64),
        "length": np.stack([part["length"] for part in parts]),
        "returns": np.stack([part["returns"] for part in parts], axis=1),
        "success": np.stack([part["success"] for part in parts], axis=1),
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out.with_suffix(".safetensors"), lambda path: save_file(arrays, path))
    data: dict[str, Any] = {
        "format": FORMAT,
        "task": task.id,
        "task_digest": task.digest(),
        "horizon": horizon,
        "root_seed": seed,
        "members": [asdict(member) for member in named],
        "digest": digest_of(named, out.with_suffix(".safetensors")),
        "command": command,
        "provenance": provenance(),
    }
    write_json(out, data)
    return read_zoo(out, task)


def _check(task: TaskCard, members: Sequence[Member], seed: int) -> None:
    """Refuse members that do not fit the task before any of them acts for minutes."""
    env = gym.make(task.id, **task.options())
    try:
        start = env.reset(seed=seed)[0][None]
    finally:
        env.close()
    for member in members:
        check_fits(read_policy(member.reference, task), task, start, name=repr(member.name))


def _evaluate(task: TaskCard, member: Member, seeds: list[int], horizon: list[int]) -> dict[str, np.ndarray]:
    """One member's truth: ``length`` (E,), ``returns`` and ``success`` (H, E)."""
    policy = read_policy(member.reference, task)
    with one_thread():
        episodes = rollout(task, policy, seeds, num_envs=min(16, len(seeds)), on_error="record", source="zoo")
    for episode in episodes:
        if episode.invalid is not None:
            raise DatasetError(f"{task.id}: {member.name!r} fails in the episode {episode.seed}: {episode.invalid}")
    return {
        "length": np.array([len(episode) for episode in episodes], dtype=np.int64),
        "returns": scores_at(task, episodes, horizon, "return"),
        "success": scores_at(task, episodes, horizon, "success").astype(bool),
    }
