"""Records policies that act in real time: the same starts at every delay, and under a measured latency trace."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np

from wmbench.cards import TaskCard
from wmbench.checks import ActionCheck
from wmbench.delays import FixedDelay, LatencyTrace, OnMiss, TraceDelay
from wmbench.errors import DatasetError
from wmbench.keys import fold_in, keys_from_seeds
from wmbench.measures.realtime import RANDOM, TRACE
from wmbench.protocols import Policy
from wmbench.provenance import provenance
from wmbench.recording.recorder import Recorder, Subjects
from wmbench.recording.store import Recording
from wmbench.recording.success import outcome
from wmbench.rollout import rollout
from wmbench.seeding import episode_seeds

DELAYS = (0, 1, 2, 4, 8)
WARMUP = 10


def record_realtime(
    task: TaskCard,
    policies: Mapping[str, Policy],
    simulators: Mapping[str, str | None] | None = None,
    *,
    delays: Sequence[int] = DELAYS,
    traces: Mapping[str, LatencyTrace] | None = None,
    measure: bool = True,
    on_miss: OnMiss = "hold",
    random: Policy | None = None,
    episodes: int = 20,
    seed: int = 0,
    num_envs: int = 20,
    device: str = "cpu",
) -> Recording:
    """Run every policy in every simulator at every delay and under its latency trace, on the same starts.

    Args:
        task: The task.
        policies: Name to policy.
        simulators: Name to what ``gym.make(task.id, simulator=...)`` takes; by default the true one alone.
        delays: Fixed delays in control steps, 0 among them.
        traces: Policy to its latency trace.
        measure: Whether traces that are not given are measured here and now, by :func:`measure_trace`.
        on_miss: What is applied while a decision of the trace is under way; see :class:`wmbench.delays.TraceDelay`.
        random: The policy that counts as having lost everything; the registered ``random`` by default.
        episodes: How many starts.
        seed: Root seed of the starts.
        num_envs: Episodes side by side.
        device: Where learned simulators run.

    Returns:
        A recording with the traces among its arrays, and their digests and hardware in its meta.

    Raises:
        DatasetError: Nothing to run, delays without 0 or given twice, or a trace of a policy that is not there.
    """
    simulators = {"true": None} if simulators is None else dict(simulators)
    wanted = sorted(int(d) for d in delays)
    if not policies or not simulators or episodes < 1:
        raise DatasetError(f"{task.id}: real-time evaluation needs policies, simulators and at least one episode")
    if 0 not in wanted or len(set(wanted)) != len(wanted):
        raise DatasetError(f"{task.id}: delays must be different and 0 among them, got {list(delays)}")
    traces = dict(traces or {})
    if unknown := sorted(set(traces) - set(policies)):
        raise DatasetError(f"{task.id}: there are latency traces of {unknown}, which are no policies here")
    if measure:
        traces |= {name: measure_trace(task, p, seed=seed) for name, p in policies.items() if name not in traces}
    elif traces and len(traces) < len(policies):
        raise DatasetError(f"{task.id}: with measure=False every policy needs a trace, or none")
    if random is None:
        from wmbench.evaluating import make_policy

        random = make_policy("random", task)
    seeds = episode_seeds(seed, task.id, "eval", episodes)
    conditions = [str(d) for d in wanted] + [TRACE] * bool(traces) + [RANDOM]
    names = {"solved": bool, "returns": np.float64, "valid": bool, "length": np.int64}
    shape = (len(policies) * len(simulators), len(conditions), episodes)
    found = {name: np.zeros(shape, dtype=kind) for name, kind in names.items()}
    subjects: list[str] = []
    owner: list[str] = []

    def run(who: Policy, where: str | None) -> dict[str, np.ndarray]:
        options: dict[str, Any] = {} if where is None else {"device": device}
        outcomes = [
            outcome(e)
            for e in rollout(task, who, seeds, simulator=where, num_envs=num_envs, on_error="record", **options)
        ]
        once = "once" if task.success.when == "once" else "at_end"
        return {name: np.array([o[once if name == "solved" else name] for o in outcomes]) for name in names}

    for place, where in simulators.items():
        floor = run(random, where)
        for name, policy in policies.items():
            variants: list[Policy] = [FixedDelay(policy, task, d) for d in wanted]
            variants += [TraceDelay(policy, task, traces[name], on_miss=on_miss)] if traces else []
            for c, got in enumerate([*(run(v, where) for v in variants), floor]):
                for key, values in got.items():
                    found[key][len(subjects), c] = values
            subjects.append(f"{name} in {place}")
            owner.append(name)
    low = task.reward_range[0]
    seconds = [traces[name].seconds if traces else np.zeros(0) for name in owner]
    arrays = {
        "subject": np.array(subjects),
        "condition": np.array(conditions),
        **found,
        "seed": np.array(seeds, dtype=np.int64),
        "reward_low": np.array(np.nan if low is None else low),
        "horizon": np.array(task.horizon),
        "control_hz": np.array(float(task.control_hz)),
        "trace_subject": np.repeat(np.arange(len(owner)), [len(s) for s in seconds]),
        "trace_seconds": np.concatenate(seconds),
    }
    meta = {"task": task.id, "seed": seed, "on_miss": on_miss, "first": "zero", "device": device}
    meta["traces"] = {name: {"digest": t.digest(), "hardware": t.hardware} for name, t in traces.items()}
    return Recording("real-time", arrays, meta)


def measure_trace(
    task: TaskCard, policy: Policy, *, calls: int = 500, budget_s: float = 5.0, seed: int = 0
) -> LatencyTrace:
    """Time a policy's decisions on this machine, from an observation in NumPy to a checked action in NumPy.

    The policy acts in the true simulator, one row, without delay; only its own part is timed. The first ten calls are
    warm-up and left out.

    Args:
        task: The task.
        policy: Who decides; it is waited for, since its actions are NumPy arrays.
        calls: How many at most.
        budget_s: Seconds, at most, but at least one call is timed.
        seed: Of the episodes.
    """
    decide = decision(task, policy)
    env = gym.make(task.id, **task.options()).unwrapped
    seconds: list[float] = []
    try:
        end, seeds = time.perf_counter() + budget_s, iter(episode_seeds(seed, task.id, "eval", calls + WARMUP))
        ended, step = True, 0
        while len(seconds) < calls + WARMUP:
            if ended:
                episode = next(seeds)
                observation, memory, step = env.reset(seed=episode)[0], policy.initial(1), 0
            before = time.perf_counter()
            action, memory = decide(observation, memory, episode, step)
            after = time.perf_counter()
            seconds.append(after - before)
            if after > end and len(seconds) > 1:
                break
            observation, _, terminated, truncated, _ = env.step(action)
            ended, step = terminated or truncated, step + 1
    finally:
        env.close()
    warm = min(WARMUP, len(seconds) // 2)
    return LatencyTrace(np.array(seconds[warm:]), {**provenance(), "warmup": warm, "batch": 1})


def decision(task: TaskCard, policy: Policy) -> Any:
    """What a robot's control loop calls: (observation (O,), memory, episode seed, step) to (action (A,), memory).

    Conversion of the observation, keys, the policy and the check of its action are all part of it.
    """
    check = ActionCheck(task)

    def decide(observation: np.ndarray, memory: Any, episode: int, step: int) -> tuple[np.ndarray, Any]:
        row = np.asarray(observation, dtype=np.float32)[None]  # (1, O)
        action, memory = policy.act(row, memory, keys=fold_in(keys_from_seeds([episode]), step))
        return check.batch(action, 1)[0], memory

    return decide


def _record(subjects: Subjects, **options: Any) -> Recording:
    simulators: dict[str, str | None] = {"true": None, **subjects.simulators}
    options = {"seed": subjects.seed, "device": subjects.device, **options}
    return record_realtime(subjects.task, subjects.policies, simulators, **options)


RECORDER = Recorder("real-time", _record, policies=1, full=False, anywhere=True)
