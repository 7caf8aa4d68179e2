"""Times the calls that an agent waits for, in turns: simulators, policies, and a model's step in several modes."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np

from wmbench.cards import TaskCard
from wmbench.protocols import Policy, WorldModel
from wmbench.provenance import provenance
from wmbench.recording.calls import (
    REWARM,
    WARMUP,
    Contestant,
    first_start,
    mode_calls,
    policy_calls,
    simulator_calls,
    sizes,
    uniform_actions,
)
from wmbench.recording.memory import PeakMemory, method
from wmbench.recording.modes import MODES, TOLERANCE, ModeUnavailableError
from wmbench.recording.store import Recording
from wmbench.recording.subjects import device_of


def record_latency(
    task: TaskCard,
    simulators: Mapping[str, str | None],
    policies: Mapping[str, Policy],
    *,
    models: Mapping[str, WorldModel] | None = None,
    modes: Sequence[str] = MODES,
    calls: int = 2010,
    resets: int = 200,
    batches: Sequence[int] = (1, 16, 256, 4096),
    mode_batches: Sequence[int] = (1, 256),
    budget_s: float = 5.0,
    device: str = "cpu",
    seed: int = 0,
) -> Recording:
    """Time simulators, policies and modes of models in turns: all of them once, then all again in reverse order.

    With the order A B C, C B A every pair of them meets the same drift of the machine, and the ratio of the two rounds
    shows it.

    Args:
        task: The task.
        simulators: Name to what ``gym.make(task.id, simulator=...)`` takes; None is the true simulator.
        policies: Name to policy. ``act`` is timed at every batch, and ``observation-to-action`` with one row: an
            observation of the true simulator in, converted, keys made, the policy asked, its action checked.
        models: Name to world model, whose bare batched step is timed in every mode. Compiling takes a minute.
        modes: Which of ``eager``, ``compiled`` (``torch.compile``) and ``captured`` (as a CUDA graph). One that cannot
            be had here stays in the recording with what is missing.
        calls: Timed steps (or acts), at most.
        resets: Timed resets, at most.
        batches: Rows per call. 1 is ``gym.make``; larger ones ``gym.make_vec`` for learned simulators, which are
            batched, and ``act`` of policies. The true simulator has no batched step and is timed alone.
        mode_batches: Rows per call of the models' modes.
        budget_s: Seconds for each kind of call; timing stops there, and the number of calls shows it.
        device: Where learned simulators run. Models stay where they are; a GPU is waited for at every call.
        seed: Of actions and episodes.

    Returns:
        A recording with the hardware in its meta.
    """
    start = first_start(task, seed)
    rows = tuple(batches)
    actions = uniform_actions(task, max((1, *rows)), seed)
    listed: list[Contestant] = []
    for name, reference in simulators.items():
        listed += simulator_calls(task, name, reference, device, actions, rows, calls, resets, seed)
    for name, policy in policies.items():
        listed += policy_calls(task, name, policy, start, rows, calls, seed)
    for name, model in (models or {}).items():
        listed += mode_calls(task, name, model, start, tuple(mode_batches), tuple(modes), calls, seed)
    places = [device, *(str(device_of(model)) for model in (models or {}).values())]
    _take_turns(listed, budget_s, next((p for p in places if p.startswith("cuda")), "cpu"))
    facts = [(c.subject, f"{_prefix(c)}{name}", value) for c in listed for name, value in c.memory.items()]
    facts += sizes(task, simulators, policies, models or {}, start, device)
    return _recording(task, listed, facts, {"device": device, "seed": seed, "budget_s": budget_s, "memory": method()})


def _prefix(contestant: Contestant) -> str:
    batch = contestant.batch
    return f"{contestant.call}-" if batch == 1 else f"{contestant.call}-x{batch}-"


def _take_turns(listed: list[Contestant], budget_s: float, device: str) -> None:
    """Time everything in order, then in reverse order; memory is watched in the first round."""
    sync = _synchronise(device)
    gc.collect()  # what others left behind must not be given back while memory is watched
    with ExitStack() as stack:
        for contestant in listed:
            watch = PeakMemory(device)
            try:
                contestant.built = contestant.build(contestant, stack)
            except ModeUnavailableError as error:
                contestant.fault = str(error)
                continue
            more = WARMUP + (contestant.calls + 1) // 2 - sum(len(r) for r in contestant.rounds)
            timed = _timing(*contestant.built, more, budget_s / 2, sync)
            contestant.rounds = [[s for r in contestant.rounds for s in r] + timed]
            contestant.memory = watch.growth()
        for contestant in reversed(listed):
            if contestant.built is not None:
                again = REWARM + contestant.calls // 2
                contestant.rounds.append(_timing(*contestant.built, again, budget_s / 2, sync))


def _timing(
    function: Callable[[], Any],
    between: Callable[[Any], None] | None,
    calls: int,
    budget_s: float,
    sync: Callable[[], None],
) -> list[float]:
    """Seconds of each call of ``function``, the device idle before and after; at least one call."""
    clock, seconds = time.perf_counter, []
    end = clock() + budget_s
    for _ in range(calls):
        sync()
        before = clock()
        result = function()
        sync()
        after = clock()
        seconds.append(after - before)
        if between is not None:
            between(result)
        if after > end:
            break
    return seconds


def _recording(
    task: TaskCard, listed: list[Contestant], facts: list[tuple[str, str, float]], meta: dict[str, Any]
) -> Recording:
    """Everything as arrays."""
    parts = [c.arrays() for c in listed]
    arrays = {
        "subject": np.array([c.subject for c in listed], dtype=np.str_),
        "call": np.array([c.call for c in listed], dtype=np.str_),
        "batch": np.array([c.batch for c in listed], dtype=np.int64),
        "fault": np.array([c.fault for c in listed], dtype=np.str_),
        "error": np.array([c.error for c in listed], dtype=np.float64),
        "tolerance": np.array(TOLERANCE),
        "control_hz": np.array(float(task.control_hz)),
        "row": np.repeat(np.arange(len(listed)), [len(p[0]) for p in parts]),
        "seconds": np.concatenate([p[0] for p in parts]) if parts else np.zeros(0),
        "round": np.concatenate([p[1] for p in parts]) if parts else np.zeros(0, np.int64),
        "warmup": np.concatenate([p[2] for p in parts]) if parts else np.zeros(0, bool),
        "fact_subject": np.array([f[0] for f in facts], dtype=np.str_),
        "fact": np.array([f[1] for f in facts], dtype=np.str_),
        "fact_value": np.array([f[2] for f in facts], dtype=np.float64),
    }
    return Recording("latency", arrays, {"task": task.id, **meta, "provenance": provenance()})


def _synchronise(device: str) -> Callable[[], None]:
    """What waits until the device has done everything it was asked."""
    if not device.startswith("cuda"):
        return lambda: None
    import torch

    return lambda: torch.cuda.synchronize(device)
