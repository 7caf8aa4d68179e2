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
from pathlib import Path

from wmbench.cards import TaskCard
from wmbench.collecting.sources import NoisyPolicy, Source
from wmbench.episodes import EpisodeData
from wmbench.rollout import Rollout


@dataclass(frozen=True)
class Job:
    """One episode to be run."""

    source: int
    seed: int


def run_jobs(card: TaskCard, sources: list[Source], jobs: list[Job], workers: int) -> Iterator[EpisodeData]:
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
