"""Collecting with two workers against one, and what a recipe costs over rolling out the episodes that it keeps."""

from __future__ import annotations

import os
import time
from typing import Any

import numpy as np
import pytest

import wmbench
from wmbench.collecting.recipes import load_recipe
from wmbench.collecting.sources import recipe_sources
from wmbench.collecting.workers import Crew, Job, Work
from wmbench.rollout import Rollout

TASK = "Gym-Hopper"
CARD = wmbench.task_card(TASK)


def work(seed: int, recipe: str, episodes: int) -> tuple[Work, list[Job]]:
    """The jobs of a recipe, as a collection would run them."""
    sources = recipe_sources(load_recipe(recipe), CARD, episodes)
    jobs = [Job(s, i, "train") for s, source in enumerate(sources) for i in range(source.episodes)]
    return Work(CARD, tuple(sources), seed, True), jobs


def test_two_workers_against_one(benchmark: Any) -> None:
    """The same episodes by processes that are up already; starting them is measured apart."""
    if (os.cpu_count() or 1) < 2:
        pytest.skip("one core")
    crews = {}
    starting = {}
    for workers in (1, 2):
        plan, jobs = work(0, "play", 40)
        began = time.perf_counter()
        crews[workers] = Crew(plan, workers)
        list(crews[workers].results(jobs[: 2 * workers]))
        starting[workers] = time.perf_counter() - began
    times: dict[int, list[float]] = {1: [], 2: []}
    try:
        for _ in range(5):
            for workers, crew in crews.items():
                began = time.perf_counter()
                found = list(crew.results(jobs))
                times[workers].append(time.perf_counter() - began)
                assert len(found) == len(jobs)
        one, two = (float(np.median(times[workers])) for workers in (1, 2))
        benchmark.extra_info["ratio"] = one / two
        steps = sum(len(taken.episode or ()) for taken in found)
        print(f"\n{len(jobs)} episodes of {TASK}, {steps} steps, medians of 5 interleaved rounds")
        print(f"  load average of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
        print(f"  1 worker   {one:7.3f} s   {steps / one:9.0f} steps/s")
        print(f"  2 workers  {two:7.3f} s   {steps / two:9.0f} steps/s   {one / two:.2f} times as fast")
        print(f"  first episodes, with the start of the processes: {starting[1]:.2f} s and {starting[2]:.2f} s")
        benchmark.pedantic(lambda: list(crews[2].results(jobs)), rounds=1)
    finally:
        for crew in crews.values():
            crew.__exit__(None, None, None)


def test_a_recipe_against_plain_rollouts(benchmark: Any, tmp_path: Any) -> None:
    """What is kept of a recipe, rolled out by the same policies and seeds without anything else."""
    options = {"recipe": "play", "episodes": 20, "seed": 0}
    data = wmbench.collect(TASK, tmp_path / "warm", **options)  # type: ignore[arg-type]
    sources = recipe_sources(load_recipe("play"), CARD, 20)
    engines = {s.name: Rollout(CARD, s.make(CARD), source=s.name, record_state=True) for s in sources}

    def plain() -> None:
        for i in range(len(data)):
            row = data.index[i]
            for _ in engines[str(row["source"])].run([int(row["seed"])]):
                pass

    times: dict[str, list[float]] = {"recipe": [], "plain": []}
    for i in range(5):
        began = time.perf_counter()
        wmbench.collect(TASK, tmp_path / f"{i}", **options)  # type: ignore[arg-type]
        middle = time.perf_counter()
        plain()
        times["recipe"].append(middle - began)
        times["plain"].append(time.perf_counter() - middle)
    recipe, rollouts = (float(np.median(times[name])) for name in ("recipe", "plain"))
    benchmark.extra_info["ratio"] = recipe / rollouts
    print(
        f"\n20 episodes of {TASK} by the recipe 'play', {data.manifest['steps']} steps, medians of 5 interleaved rounds"
    )
    print(f"  rollouts alone                          {rollouts:7.3f} s")
    print(f"  the recipe, policies and files included {recipe:7.3f} s   {recipe / rollouts:.2f} times as long")
    benchmark.pedantic(plain, rounds=1)
    for engine in engines.values():
        engine.close()
