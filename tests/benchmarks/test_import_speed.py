"""What ``import wmbench`` costs beside ``import gymnasium``, each in fresh processes, alternating."""

import statistics
import subprocess
import sys
import time
from typing import Any


def _seconds(module: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", f"import {module}"], check=True)
    return time.perf_counter() - began


def test_import(benchmark: Any) -> None:
    times: dict[str, list[float]] = {"wmbench": [], "gymnasium": [], "sys": []}

    def once() -> None:
        for module, seen in times.items():
            seen.append(_seconds(module))

    benchmark.pedantic(once, rounds=10, warmup_rounds=1)
    median = {module: statistics.median(seen[1:]) for module, seen in times.items()}
    ratio = (median["wmbench"] - median["sys"]) / (median["gymnasium"] - median["sys"])
    print(f"\nimport wmbench / import gymnasium: {ratio:.2f} ({median['wmbench']:.3f} s, {median['gymnasium']:.3f} s)")
