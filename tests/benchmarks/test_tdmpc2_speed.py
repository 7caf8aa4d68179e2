"""A plan and an update of our TD-MPC2 beside the authors' classes, or, without those, beside matrix products.

``WMBENCH_TDMPC2_AUTHORS``: a checkout of nicklashansen/tdmpc2; ``WMBENCH_TDMPC2_PYTHON``: the interpreter of an
environment with torch, tensordict, torchrl and omegaconf (ours, if it is not given); ``WMBENCH_TDMPC2_RESULT``: a file
for the numbers; ``WMBENCH_TDMPC2_COMPILE=1``: both sides compiled, each its way; ``WMBENCH_TDMPC2_DEVICE=cuda``: on a
GPU.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from wmbench.provenance import provenance
from wmbench_baselines.tdmpc2 import planner, update
from wmbench_baselines.tdmpc2.config import of_size
from wmbench_baselines.tdmpc2.model import LatentModel

AUTHORS = os.environ.get("WMBENCH_TDMPC2_AUTHORS")
ROUNDS = int(os.environ.get("WMBENCH_TDMPC2_ROUNDS", "20"))
COMPILED = os.environ.get("WMBENCH_TDMPC2_COMPILE") == "1"
DEVICE = os.environ.get("WMBENCH_TDMPC2_DEVICE", "cpu")
WARM = 10 if COMPILED else 3
OBSERVATIONS, ACTIONS = 24, 6
PAIR = tuple[float, float]
"""Wall and processor seconds."""


def ours(size: int) -> Callable[[str], PAIR]:
    """Our plan and update with published settings; random numbers are drawn within the time, as theirs are."""
    config = of_size(size, compile=COMPILED)
    model = LatentModel(config, OBSERVATIONS, [ACTIONS]).to(DEVICE)
    discount = torch.tensor(0.99).to(DEVICE)
    learner, plans = update.Learner(model, discount), planner.Planner(model)
    generator = torch.Generator(DEVICE).manual_seed(0)
    h, b = config.horizon, config.batch_size
    batch = update.Batch(
        observation=torch.randn(h + 1, b, OBSERVATIONS).to(DEVICE),
        action=(torch.rand(h, b, ACTIONS) * 2 - 1).to(DEVICE),
        reward=torch.randn(h, b).to(DEVICE),
        terminated=torch.zeros(h, b).to(DEVICE),
    )
    observation, previous = torch.randn(1, OBSERVATIONS).to(DEVICE), torch.zeros(1, h, ACTIONS).to(DEVICE)

    def once(what: str) -> PAIR:
        wall, processor = time.perf_counter(), time.process_time()
        if what == "plan":
            with torch.inference_mode():
                noise = planner.PlanNoise.draw(config, 1, ACTIONS, generator, explore=True)
                plans.plan_at(observation, previous, discount, noise)
        else:
            learner.update(batch, update.UpdateNoise.draw(config, b, ACTIONS, generator))
        settle()
        return time.perf_counter() - wall, time.process_time() - processor

    return once


def settle() -> None:
    """Wait for a GPU."""
    if DEVICE != "cpu":
        torch.cuda.synchronize()


@contextmanager
def theirs(size: int, threads: int) -> Iterator[Callable[[str], PAIR]]:
    """The authors' plan and update, in a process of its own that only works when asked."""
    assert AUTHORS is not None
    script = Path(__file__).with_name("tdmpc2_authors.py")
    python = os.environ.get("WMBENCH_TDMPC2_PYTHON", sys.executable)
    command = [python, str(script), AUTHORS, str(size), str(threads), str(int(COMPILED)), DEVICE]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        request, answers = process.stdin, process.stdout

        def once(what: str) -> PAIR:
            request.write(what + "\n")
            request.flush()
            wall, processor = answers.readline().split()
            return float(wall), float(processor)

        yield once
        request.close()


@contextmanager
def products(size: int, threads: int) -> Iterator[Callable[[str], PAIR]]:
    """Bare products of about as many multiplications: six rounds of 512 rows, or 256 windows of three steps."""
    config = of_size(size)
    width = config.mlp_dim
    x, weight = torch.randn(512, width).to(DEVICE), torch.randn(width, width).to(DEVICE)
    q = (config.latent_dim + ACTIONS + width + config.num_bins) / width  # one network, in squares of the width
    rounds = {"plan": round(6 * (3 * 2 + 1 + 2) * q), "update": round(1.5 * (3 * 3 + 3 * config.num_q + 10) * q)}

    def once(what: str) -> PAIR:
        wall, processor = time.perf_counter(), time.process_time()
        for _ in range(rounds[what]):
            x @ weight
        settle()
        return time.perf_counter() - wall, time.process_time() - processor

    yield once


def compare(size: int, threads: int) -> dict[str, dict[str, Any]]:
    """Times of both, in turn, round by round."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        mine = ours(size)
        with (theirs if AUTHORS else products)(size, threads) as other:
            rows = {}
            for what in ("plan", "update"):
                for _ in range(WARM):
                    mine(what), other(what)
                pairs = np.array([(mine(what), other(what)) for _ in range(ROUNDS)])  # (R, 2, 2)
                rows[what] = summary(pairs)
    finally:
        torch.set_num_threads(before)
    return rows


def summary(pairs: np.ndarray) -> dict[str, Any]:
    """Medians, and quartiles of the ratio: (R, us or them, wall or processor)."""
    ratio = pairs[:, 0] / pairs[:, 1]
    return {
        "ours_ms": dict(zip(("wall", "processor"), np.median(pairs[:, 0], 0) * 1e3, strict=True)),
        "other_ms": dict(zip(("wall", "processor"), np.median(pairs[:, 1], 0) * 1e3, strict=True)),
        "wall_ratio": np.quantile(ratio[:, 0], [0.25, 0.5, 0.75]).tolist(),
        "processor_ratio": np.quantile(ratio[:, 1], [0.25, 0.5, 0.75]).tolist(),
    }


@pytest.mark.parametrize("threads", [1, 2] if DEVICE == "cpu" else [1])
@pytest.mark.parametrize("size", [1, 5])
def test_tdmpc2_speed(size: int, threads: int, benchmark: Any) -> None:
    rows = benchmark.pedantic(compare, args=(size, threads), rounds=1)
    other = "the authors'" if AUTHORS else "bare products"
    for what, row in rows.items():
        print(f"\nsize {size}, {threads} threads, {what}: {row['ours_ms']['wall']:.0f} ms;", end=" ")
        print(f"times {other}: wall {row['wall_ratio'][1]:.2f}, processor {row['processor_ratio'][1]:.2f}", end="")
    if path := os.environ.get("WMBENCH_TDMPC2_RESULT"):
        record(Path(path), f"size {size}, {threads} threads", rows)


def record(path: Path, name: str, rows: dict[str, Any]) -> None:
    """Add a comparison to the file."""
    known = json.loads(path.read_text()) if path.exists() else {}
    name += (", compiled" if COMPILED else "") + ("" if DEVICE == "cpu" else f", {torch.cuda.get_device_name()}")
    known[name] = {"rows": rows, "rounds": ROUNDS, "load": os.getloadavg()}
    known["versus"] = "nicklashansen/tdmpc2 at e9f5932" if AUTHORS else "bare products"
    known["command"] = "pytest tests/benchmarks/test_tdmpc2_speed.py --benchmark-only -s"
    known["provenance"] = provenance()
    path.write_text(json.dumps(known, indent=1) + "\n")
