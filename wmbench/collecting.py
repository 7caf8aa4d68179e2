"""Collects datasets: policies act in the true simulator, episodes are stored in a fixed order."""

from __future__ import annotations

import json
import math
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import asdict, dataclass, fields, is_dataclass
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any

import numpy as np

from wmbench.cards import TaskCard
from wmbench.episodes import Dataset, DatasetWriter, EpisodeData
from wmbench.episodes.data import check_fractions, split_of
from wmbench.episodes.storage import file_hash
from wmbench.errors import DatasetError
from wmbench.keys import fold_in, normal
from wmbench.progress import progress
from wmbench.protocols import Policy, State
from wmbench.registration import task_card
from wmbench.rollout import Rollout
from wmbench.seeding import episode_seeds

PER_SOURCE = 1_000_000
"""Seeds set aside for each source of a plan, so that a source may grow without moving the others."""

COMMIT_SECONDS = 10.0
NOISE = 0x6E6F6973
"""Label of the random numbers of action noise."""


class NoisyPolicy:
    """Another policy's actions plus independent Gaussian noise, clipped to the task's bounds."""

    def __init__(self, policy: Policy, task: TaskCard, noise: float) -> None:
        """Wrap a policy.

        Args:
            policy: Who chooses the actions.
            task: For the bounds.
            noise: Standard deviation as a share of half the width of each dimension's range.

        Raises:
            ValueError: Negative noise.
        """
        if not noise >= 0:
            raise ValueError(f"action noise must not be negative, got {noise}")
        self.policy = policy
        self.low, self.high = task.action_bounds()
        self.scale = np.float32(noise) * (self.high - self.low) / 2

    def initial(self, batch_size: int) -> State:
        """State of the policy inside."""
        return self.policy.initial(batch_size)

    def act(self, observation: np.ndarray, state: State, *, keys: np.ndarray) -> tuple[np.ndarray, State]:
        """The policy's actions (B, A) with noise drawn from the rows' keys, and its next state."""
        action, state = self.policy.act(observation, state, keys=keys)
        noise = normal(fold_in(keys, NOISE), len(self.scale))  # (B, A)
        return np.clip(action + self.scale * noise, self.low, self.high).astype(np.float32), state


@dataclass(frozen=True)
class Source:
    """One kind of behaviour in a plan: who acts, under which name, and for how many episodes."""

    policy: Any
    name: str
    identity: str
    episodes: int
    noise: float


@dataclass(frozen=True)
class Job:
    """One episode to be run."""

    source: int
    seed: int


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
    sources = _sources(card, policy, episodes, noise)
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
            for episode in _run(card, sources, jobs, min(workers, len(jobs))):
                writer.add(episode)
                advance(1, f"{episode.source}: return {episode.total_reward:.4g}, {len(episode)} steps")
                if time.monotonic() - committed > COMMIT_SECONDS:
                    writer.commit()
                    committed = time.monotonic()
    return Dataset(out, task=card)


def _sources(card: TaskCard, policy: Any, episodes: Any, noise: Any) -> list[Source]:
    """The plan's sources, named, with one number of episodes and one noise level each."""
    several = isinstance(policy, Sequence) and not isinstance(policy, str)
    policies = list(policy) if several else [policy]
    counts = _each(episodes, len(policies), "episodes")
    noises = _each(noise, len(policies), "noise")
    sources = []
    for reference, count, level in zip(policies, counts, noises, strict=True):
        if count < 1 or count > PER_SOURCE:
            raise DatasetError(f"episodes must lie between 1 and {PER_SOURCE} per policy, got {count}")
        if not 0 <= level < math.inf:
            raise DatasetError(f"action noise must be a number that is not negative, got {level}")
        name, identity = _identify(reference, card)
        name += f"+noise{level:g}" if level else ""
        sources.append(Source(reference, name, identity, int(count), float(level)))
    names = [source.name for source in sources]
    if len(set(names)) < len(names):
        raise DatasetError(f"two policies would both be the source {max(names, key=names.count)!r}: name each once")
    return sources


def _each(value: Any, n: int, what: str) -> list[Any]:
    values = list(value) if isinstance(value, Sequence) else [value] * n
    if len(values) != n:
        raise DatasetError(f"{len(values)} values of {what} for {n} policies: give one each, or one for all")
    return values


def _identify(reference: Any, card: TaskCard) -> tuple[str, str]:
    """A policy's name as a source, and what must stay the same for a dataset to be continued."""
    if not isinstance(reference, (str, Path)):
        return _describe(reference)
    from wmbench import checkpoints

    folder = checkpoints.find(str(reference), card, kind="policy")
    if folder is None:
        return str(reference), f"policy {reference}"
    config = checkpoints.read_config(folder)
    weights = file_hash(folder / checkpoints.WEIGHTS)
    shipped = folder != Path(reference)  # its name says which one it is; a folder's name does not
    return str(reference) if shipped else f"{config['name']}-{weights[:8]}", f"checkpoint {config['name']} {weights}"


def _describe(policy: Any) -> tuple[str, str]:
    """The same for an object: its card's or class's name, with the settings that differ from their defaults."""
    card = getattr(policy, "card", None)
    name = card["name"] if isinstance(card, Mapping) else type(policy).__name__
    config = getattr(policy, "config", None)
    if not is_dataclass(config) or isinstance(config, type):
        return name, f"object {name}"
    changed = [f for f in fields(config) if getattr(config, f.name) != f.default]
    settings = ",".join(f"{f.name}={getattr(config, f.name)}" for f in changed)
    return f"{name}({settings})" if settings else name, f"object {name} {json.dumps(asdict(config), sort_keys=True)}"


def _seed(root: int, card: TaskCard, source: int, index: int, split: str) -> int:
    return episode_seeds(root, card.id, split, 1, start=source * PER_SOURCE + index)[0]


def _run(card: TaskCard, sources: list[Source], jobs: list[Job], workers: int) -> Iterator[EpisodeData]:
    """The jobs' episodes in the order of the jobs, from this process or several."""
    if workers <= 1:
        actors = _Actors(card, sources)
        try:
            yield from map(actors.run, jobs)
        finally:
            actors.close()
        return
    pool = ProcessPoolExecutor(workers, get_context("spawn"), initializer=_begin_worker, initargs=(card, sources))
    try:
        queue: deque[Future[EpisodeData]] = deque()
        waiting = iter(jobs)
        for job in waiting:
            queue.append(pool.submit(_work, job))
            if len(queue) >= 4 * workers:
                yield queue.popleft().result()
        while queue:
            yield queue.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


class _Actors:
    """One process's environments and policies, made when they are first needed."""

    def __init__(self, card: TaskCard, sources: list[Source]) -> None:
        self._card = card
        self._sources = sources
        self._engines: dict[int, Rollout] = {}

    def run(self, job: Job) -> EpisodeData:
        """One episode."""
        if job.source not in self._engines:
            self._engines[job.source] = self._engine(self._sources[job.source])
        return next(self._engines[job.source].run([job.seed]))[1]

    def close(self) -> None:
        """Free the environments."""
        for engine in self._engines.values():
            engine.close()

    def _engine(self, source: Source) -> Rollout:
        policy = source.policy
        if isinstance(policy, (str, Path)):
            from wmbench.checkpoints import resolve

            policy = resolve(str(policy), self._card, kind="policy")
        if source.noise:
            policy = NoisyPolicy(policy, self._card, source.noise)
        return Rollout(self._card, policy, source=source.name, record_state=True)


_actors: _Actors | None = None


def _begin_worker(card: TaskCard, sources: list[Source]) -> None:
    """Prepare a worker process; what may fail is left to the first job, whose errors reach the caller."""
    global _actors
    _actors = _Actors(card, sources)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what an interrupt means
    threading.Thread(target=_follow_parent, daemon=True).start()


def _follow_parent() -> None:
    """End this process when its parent has ended, however that happened."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(job: Job) -> EpisodeData:
    import torch

    torch.set_num_threads(1)  # several processes share the cores
    if _actors is None:
        raise RuntimeError("a worker was not initialised")
    return _actors.run(job)
