"""Collects datasets: policies act in the true simulator, episodes are stored in a fixed order."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from wmbench.cards import TaskCard
from wmbench.collecting.sources import PER_SOURCE, read_sources
from wmbench.collecting.workers import Job, run_jobs
from wmbench.episodes import Dataset, DatasetWriter
from wmbench.episodes.data import check_fractions, split_of
from wmbench.errors import DatasetError
from wmbench.progress import progress
from wmbench.protocols import Policy
from wmbench.registration import task_card
from wmbench.seeding import episode_seeds

COMMIT_SECONDS = 10.0


def collect(
    task: TaskCard | str,
    out: Path | str,
    *,
    policy: str | Policy | Sequence[str | Policy] = "random",
    episodes: int | Sequence[int] = 20,
    seed: int = 0,
    workers: int = 1,
    noise: float | Sequence[float] = 0.0,
    split: Sequence[float] = (0.8, 0.1, 0.1),
    show_progress: bool = False,
) -> Dataset:
    """Collect episodes of the true simulator, or continue where an earlier call stopped.

    The bytes on disk depend on the task, the policies, the seed and the numbers of episodes only: neither on
    the number of workers nor on interruptions. Asking for more episodes later appends them.

    Args:
        task: Card, id or short name.
        out: Folder of the dataset.
        policy: A registered name, a checkpoint folder, an object that acts, or several of them: each is a
            source that the manifest counts. With workers, objects must be picklable, and the caller's module
            importable (``if __name__ == "__main__":`` around the call in a script).
        episodes: How many in all, one number per policy.
        seed: Root of all seeds.
        workers: Processes that run episodes.
        noise: Gaussian action noise, as a share of half the action range; one number per policy.
        split: Shares of train, val and test within each source.
        show_progress: Whether to show a progress line.

    Returns:
        The dataset.

    Raises:
        DatasetError: The folder holds something else, or the plan differs from the one it was begun with.
        WmbenchError: A policy cannot be found, or fails.
    """
    card = task_card(task) if isinstance(task, str) else task
    if seed < 0 or workers < 1:
        raise DatasetError(f"seed must not be negative and workers at least 1, got seed {seed} and workers {workers}")
    sources = read_sources(card, policy, episodes, noise)
    check_fractions(split)
    plan = {"seed": seed, "sources": [{"name": s.name, "policy": s.identity, "noise": s.noise} for s in sources]}
    with DatasetWriter(out, card, split=split, plan=plan) as writer:
        for source in sources:
            if (have := writer.count(source.name)) > source.episodes:
                raise DatasetError(
                    f"{writer.folder} already has {have} episodes of {source.name!r}, asked for {source.episodes}: "
                    "ask for at least as many, or choose a new folder"
                )
        jobs = [
            Job(number, _seed(seed, card, number, i, split_of(i, split)))
            for number, source in enumerate(sources)
            for i in range(writer.count(source.name), source.episodes)
        ]
        total = sum(source.episodes for source in sources)
        committed = time.monotonic()
        with progress(f"collect {card.name}", total, show=show_progress, done=len(writer)) as advance:
            for episode in run_jobs(card, sources, jobs, min(workers, len(jobs))):
                writer.add(episode)
                advance(1, f"{episode.source}: return {episode.total_reward:.4g}, {len(episode)} steps")
                if time.monotonic() - committed > COMMIT_SECONDS:
                    writer.commit()
                    committed = time.monotonic()
    return Dataset(out, task=card)


def _seed(root: int, card: TaskCard, source: int, index: int, split: str) -> int:
    return episode_seeds(root, card.id, split, 1, start=source * PER_SOURCE + index)[0]
