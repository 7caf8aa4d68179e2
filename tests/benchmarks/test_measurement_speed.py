"""A full measurement of one trained ensemble: seconds in all and by recording, beside collecting the data."""

import time

import pytest

import wmbench
from wmbench.measuring import gather_subjects, measure_all

TASK = "Gym-HalfCheetah"
POLICIES = ("actor", "actor-medium", "random", "zero", *(f"actor+noise{n}" for n in (0.1, 0.3, 0.6, 1.0)))


@pytest.mark.benchmark(group="measurement")
def test_full_measurement_of_a_shipped_ensemble(benchmark, tmp_path):
    began = time.perf_counter()
    data = wmbench.collect(TASK, tmp_path / "data", policy=["random", "actor"], episodes=[10, 10], noise=[0.0, 0.2])
    collecting = time.perf_counter() - began
    subjects = gather_subjects(data, ["ensemble"], POLICIES)
    seconds: dict[str, float] = {}

    def event(name, what, took):
        if what == "done":
            seconds[name] = took

    benchmark.pedantic(lambda: measure_all(subjects, event=event), rounds=1, iterations=1)
    total = sum(seconds.values())
    benchmark.extra_info.update(seconds=seconds, ratio_to_collecting=total / collecting)
    print(f"\nall recordings but the slow ones: {total:.1f} s, {total / collecting:.1f} times collecting 20,000 steps")
    for name, took in sorted(seconds.items(), key=lambda item: -item[1]):
        print(f"  {name:16} {took:6.1f} s")
