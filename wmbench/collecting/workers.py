"""Runs the episodes of a plan in this process or in several, and gives them back in the plan's order."""

from __future__ import annotations

import os
import signal
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from types import TracebackType

from wmbench.cards import TaskCard
from wmbench.collecting.recipes import meets
from wmbench.collecting.sources import PER_SOURCE, Source, interventions
from wmbench.episodes import EpisodeData
from wmbench.protocols import Policy
from wmbench.rollout import Rollout
from wmbench.seeding import episode_seeds
from wmbench.views import View
from wmbench.worlds import Asked

MOST_TRIES = 10_000
REDRAWS = 10**12
"""Numbers of seeds from here on are for episodes that take the place of discarded ones."""


@dataclass(frozen=True)
class Work:
    """What every process needs to know: the task, who acts, the root of all seeds, and what is stored.

    Attributes:
        card: The task.
        sources: Who acts.
        seed: Root of all seeds.
        flags: Whether episodes carry the field ``intervention``.
        world: Where they take place.
        view: Which pictures are stored, None for none.
    """

    card: TaskCard
    sources: tuple[Source, ...]
    seed: int
    flags: bool
    world: Asked = None
    view: View | None = None


@dataclass(frozen=True)
class Job:
    """One episode that is wanted: which of its source's, in which split, and the first try to make at it."""

    source: int
    index: int
    split: str
    attempt: int = 0


@dataclass(frozen=True)
class Taken:
    """What became of a job: the episode of the given try, or None if no try was what the source is asked for."""

    job: Job
    episode: EpisodeData | None
    attempt: int


def job_seed(root: int, task: str, job: Job, attempt: int) -> int:
    """The seed of a try: the job's own number at first, then numbers that belong to nobody else."""
    number = job.source * PER_SOURCE + job.index
    start = number if attempt == 0 else REDRAWS + number * MOST_TRIES + attempt
    return episode_seeds(root, task, job.split, 1, start=start)[0]


class Crew:
    """Processes that run jobs; with one worker, this process. Use it as a context manager."""

    def __init__(self, work: Work, workers: int) -> None:
        """Say what is to be done, and by how many."""
        self._workers = max(1, workers)
        self._actors = _Actors(work)
        self._pool: ProcessPoolExecutor | None = None
        if self._workers > 1:
            context = get_context("spawn")
            self._pool = ProcessPoolExecutor(workers, context, initializer=_begin_worker, initargs=(work,))

    def results(self, jobs: list[Job]) -> Iterator[Taken]:
        """What became of the jobs, in their order."""
        if self._pool is None:
            yield from map(self._actors.run, jobs)
            return
        queue: deque[Future[Taken]] = deque()
        for job in jobs:
            queue.append(self._pool.submit(_work, job))
            if len(queue) >= 4 * self._workers:
                yield queue.popleft().result()
        while queue:
            yield queue.popleft().result()

    def again(self, job: Job) -> Taken:
        """Run one more job out of turn."""
        return self._actors.run(job) if self._pool is None else self._pool.submit(_work, job).result()

    def __enter__(self) -> Crew:
        """Nothing more to begin."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the processes and free the environments."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        self._actors.close()


class _Actors:
    """One process's environments and policies, made when they are first needed."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._engines: dict[int, tuple[Policy, Rollout]] = {}

    def run(self, job: Job) -> Taken:
        """Try seeds until an episode is what the job's source is asked for, or its tries are over."""
        card, source = self._work.card, self._work.sources[job.source]
        if job.source not in self._engines:
            policy = source.make(card)
            engine = Rollout(
                card, policy, source=source.name, record_state=True, world=self._work.world, view=self._work.view
            )
            self._engines[job.source] = policy, engine
        policy, engine = self._engines[job.source]
        for attempt in range(job.attempt, source.tries):
            seed = job_seed(self._work.seed, card.id, job, attempt)
            episode = next(engine.run([seed]))[1]
            if self._work.flags:
                episode.extra["intervention"] = interventions(policy, episode)
            if meets(source.kind, episode, card):
                return Taken(job, episode, attempt)
        return Taken(job, None, source.tries)

    def close(self) -> None:
        """Free the environments."""
        for _, engine in self._engines.values():
            engine.close()


_actors: _Actors | None = None


def _begin_worker(work: Work) -> None:
    """Prepare a worker process; what may fail is left to the first job, whose errors reach the caller."""
    global _actors
    _actors = _Actors(work)
    os.environ.setdefault("LP_NUM_THREADS", "0")  # Mesa draws in this thread: the cores are busy with other workers
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what an interrupt means
    threading.Thread(target=_follow_parent, daemon=True).start()


def _follow_parent() -> None:
    """End this process when its parent has ended, however that happened."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(job: Job) -> Taken:
    import torch

    torch.set_num_threads(1)  # several processes share the cores
    if _actors is None:
        raise RuntimeError("a worker was not initialised")
    return _actors.run(job)
