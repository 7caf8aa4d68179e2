"""Which measure notices which fault? Hundreds of models, healthy and faulty, and thresholds set on healthy ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from wmbench import registry
from wmbench.measures import Result
from wmbench.protocols import Start, WorldModel
from wmbench.recording.branching import branch_model
from wmbench.recording.constraints import record_constraints
from wmbench.recording.contact import record_contacts
from wmbench.recording.counterfactual import record_counterfactuals
from wmbench.recording.drift import cut_windows, record_drift
from wmbench.recording.executability import Plan, Planner, record_executability
from wmbench.recording.exploitation import record_exploitation
from wmbench.recording.exposure import record_exposure
from wmbench.recording.heads import record_heads
from wmbench.recording.one_step import record_one_step
from wmbench.recording.planning import Budget
from wmbench.recording.ranking import record_ranking
from wmbench.recording.recoverability import record_recoverability
from wmbench.recording.store import Recording
from wmbench.recording.uncertainty import record_uncertainty
from wmbench_baselines.faults import models
from wmbench_baselines.faults.puck import TASK, Puck, PuckData, PuckInverse, PuckModel, move, register, reward_of

FALSE_ALARMS = 0.02
SIZES = (0.05, 0.2)
"""Errors of healthy models, in standard deviations of one step's change: good ones and poor ones, evenly in logs."""

PER_METRE = 3 * math.pi
"""Pockets lie a third of a metre apart, on the diagonals of the box."""

SUBJECT = "model"


@dataclass(frozen=True)
class Case:
    """What is put under measure: one seed's data, a model, and how a cascade of it acts."""

    model: WorldModel
    data: PuckData
    seed: int
    stages: Callable[[Planner], Planner]


@dataclass(frozen=True)
class Fault:
    """One way to break a model, or the cascade that it is part of.

    Attributes:
        name: In words.
        alarm: The number that is to notice it, a key of :data:`ALARMS`.
        put: Healthy model to faulty model.
        stages: Healthy cascade to faulty one.
    """

    name: str
    alarm: str
    put: Callable[[PuckModel], WorldModel] = lambda model: model
    stages: Callable[[Planner], Planner] = lambda planner: planner


def without_walls(model: PuckModel) -> PuckModel:
    """The same model with the same errors, but in free flight where there is a wall."""
    return PuckModel(model.seed, model.delta_std, size=model.size, walls=False)


def pockets(observation: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
    """A bonus in small places all over the box, as reward models have them where nobody looked."""
    x, y = (PER_METRE * observation[:, :2]).unbind(1)
    return (torch.cos(x) * torch.cos(y) > 0.8).to(torch.float64)


FAULTS = (
    Fault("actions shifted by one step", "counterfactual/cfe", lambda m: models.ShiftedAction(m, TASK)),
    Fault(
        "action convention: sign flipped",
        "counterfactual/cosine",
        lambda m: models.MistakenAction(m, TASK, torch.neg),
    ),
    Fault(
        "action convention: dimensions swapped",
        "counterfactual/cosine",
        lambda m: models.MistakenAction(m, TASK, lambda a: a.flip(1)),
    ),
    Fault(
        "action convention: half the scale",
        "counterfactual/magnitude",
        lambda m: models.MistakenAction(m, TASK, lambda a: 0.5 * a),
    ),
    Fault("action ignored", "counterfactual/shuffle-ratio", lambda m: models.IgnoredAction(m, TASK)),
    Fault("observations stale by one step", "drift/auc", models.StaleObservation),
    Fault("contact dropped", "contact/making-ratio", without_walls),
    Fault("confidence exaggerated four times", "uncertainty/coverage-90", models.Overconfident),
    Fault("reward exploitable", "exploitation/systematic", lambda m: models.Exploitable(m, pockets)),
    Fault("cascade: action stage one step late", "executability/cascade-gap", stages=models.DisagreeingStages),
)


def one_step(case: Case) -> Recording:
    """Of 400 transitions."""
    return record_one_step({SUBJECT: case.model}, case.data, limit=400, with_baselines=False)  # type: ignore[arg-type]


def drift(case: Case) -> Recording:
    """Of 48 windows of 20 steps."""
    options = {"windows": 48, "horizon": 20, "floor": False, "with_baselines": False}
    return record_drift({SUBJECT: case.model}, case.data, **options)  # type: ignore[arg-type]


def heads(case: Case) -> Recording:
    """Of 200 transitions and 48 windows of 20 steps."""
    return record_heads({SUBJECT: case.model}, case.data, limit=200, horizon=20, windows=48)  # type: ignore[arg-type]


def counterfactual(case: Case) -> Recording:
    """Of 48 states and 5 steps."""
    return record_counterfactuals({SUBJECT: case.model}, case.data, starts=48, steps=5, with_baselines=False)  # type: ignore[arg-type]


def uncertainty(case: Case) -> Recording:
    """Of 96 single steps; without the marginal, and without signals, whose intervals take longer than all else here."""
    arrays = record_uncertainty({SUBJECT: case.model}, case.data, windows=96, horizon=1).arrays  # type: ignore[arg-type]
    signals = ("signal", "signal_subject", "signal_role", "signal_value", "group_value", "group_asked")
    return Recording("uncertainty", arrays | {k: arrays[k][:0] for k in signals} | {"subject": arrays["subject"][:1]})


def exploitation(case: Case) -> Recording:
    """Of 24 states with 64 random candidates of 10 steps; nobody plans further, and nobody acts in a closed loop."""
    budget = Budget(samples=2, iterations=1, elites=1)
    options = {"starts": 24, "candidates": 64, "steps": 10, "drives": 0, "budget": budget}
    return record_exploitation({SUBJECT: case.model}, case.data, **options)  # type: ignore[arg-type]


def ranking(case: Case) -> Recording:
    """Of 24 states with 16 candidates of 10 steps; nobody acts in a closed loop."""
    options = {"starts": 24, "candidates": 16, "steps": 10, "planner_starts": 0, "budget": Budget(16, 1, 16, 10)}
    return record_ranking({SUBJECT: case.model}, case.data, **options)  # type: ignore[arg-type]


def recoverability(case: Case) -> Recording:
    """Of 96 single steps, by the exact inverse."""
    options = {"inverse": PuckInverse(), "starts": 96, "with_baselines": False}
    return record_recoverability({SUBJECT: case.model}, case.data, **options)  # type: ignore[arg-type]


def executability(case: Case) -> Recording:
    """Of 48 paths of 10 steps that a cascade says: what the model imagines, and the actions it imagined it under."""
    starts, steps = 48, 10
    cut = cut_windows(case.data, "test", starts, steps, 0)  # type: ignore[arg-type]

    def planner(observation: np.ndarray, state: np.ndarray, steps: int) -> Plan:
        answers = branch_model(case.model, observation, state, cut.action[:, None], 0)
        return Plan(answers["observation"][:, 0], cut.action)

    options = {"inverse": PuckInverse(), "starts": starts, "steps": steps, "with_baselines": False}
    options["planners"] = {SUBJECT: case.stages(planner)}
    return record_executability({}, case.data, **options)  # type: ignore[arg-type]


def contact(case: Case) -> Recording:
    """Of 64 windows of 20 steps."""
    options = {"windows": 64, "horizon": 20, "with_baselines": False, "simulator": Puck()}
    return record_contacts({SUBJECT: case.model}, case.data, **options)  # type: ignore[arg-type]


def constraints(case: Case) -> Recording:
    """Of 48 windows of 20 steps."""
    options = {"windows": 48, "horizon": 20, "with_baselines": False, "simulator": Puck()}
    return record_constraints({SUBJECT: case.model}, case.data, **options)  # type: ignore[arg-type]


def exposure(case: Case) -> Recording:
    """Of 48 windows of 20 steps; nobody acts."""
    options = {"windows": 48, "horizon": 20, "with_baselines": False}
    return record_exposure({SUBJECT: case.model}, case.data, **options)  # type: ignore[arg-type]


POLICIES = 10


def agreement(case: Case) -> Recording:
    """Of ten controllers on 16 starts, each pulling the puck to a place of its own; one of them into a pocket."""
    episodes, steps = 16, TASK.horizon
    rng = np.random.default_rng(np.random.SeedSequence(case.seed, spawn_key=(3,)))
    angle = np.linspace(0.0, np.pi, POLICIES - 1)
    targets = np.append(np.stack([0.8 * np.cos(angle), 0.8 * np.sin(angle)], 1), [[-2 / 3, -2 / 3]], axis=0)  # (K, 2)
    begin = case.data.recorded.state[case.data.train :, 0]
    begin = begin[rng.permutation(len(begin))[:episodes]]
    rows = np.tile(begin, (POLICIES, 1))
    target = np.repeat(targets, episodes, axis=0)

    def act(now: np.ndarray) -> np.ndarray:
        return np.clip(2.0 * (target - now[:, :2]) - 1.0 * now[:, 2:], -1.0, 1.0)

    true, learned = np.zeros(len(rows)), np.zeros(len(rows))
    state, keys = rows, torch.arange(len(rows))
    imagined = rows.astype(np.float32)
    memory = case.model.initial(Start(torch.from_numpy(imagined)), keys=keys)
    for _ in range(steps):
        state, _ = move(state, act(state).astype(np.float32))
        true += reward_of(state)
        memory, answer = case.model.step(memory, torch.from_numpy(act(imagined).astype(np.float32)))
        imagined = answer.observation.numpy()
        learned += answer.reward.numpy()  # type: ignore[union-attr]
    shape = (1, POLICIES, episodes)
    arrays = {
        "subject": np.array([SUBJECT]),
        "policy": np.array([f"to {x:.1f} {y:.1f}" for x, y in targets]),
        "horizon": np.array([steps]),
        "true": true.reshape(shape),
        "learned": learned.reshape(1, *shape),
        "worst": np.array(np.nan),
        "unit": np.array("reward"),
    }
    return Recording("agreement", arrays)


RECORDERS: dict[str, Callable[[Case], Recording]] = {
    "one-step": one_step,
    "drift": drift,
    "counterfactual": counterfactual,
    "heads": heads,
    "uncertainty": uncertainty,
    "exploitation": exploitation,
    "agreement": agreement,
    "ranking": ranking,
    "recoverability": recoverability,
    "executability": executability,
    "contact": contact,
    "constraints": constraints,
    "exposure": exposure,
}

ALARMS: dict[str, Callable[[float], float]] = {
    "one-step/skill": lambda v: -v,
    "drift/auc": lambda v: v,
    "counterfactual/cfe": lambda v: v,
    "counterfactual/cosine": lambda v: -v,
    "counterfactual/magnitude": lambda v: abs(math.log(max(v, 1e-9))),
    "counterfactual/shuffle-ratio": lambda v: -v,
    "heads/reward-sum-error": lambda v: v,
    "uncertainty/coverage-90": lambda v: 0.9 - v,
    "uncertainty/ece": lambda v: v,
    "exploitation/systematic": lambda v: v,
    "exploitation/gap": lambda v: v,
    "exposure/gap": lambda v: v,
    "contact/making-ratio": lambda v: v,
    "constraints/violations": lambda v: v,
    "ranking/spearman": lambda v: -v,
    "recoverability/recoverability": lambda v: -v,
    "executability/cascade-gap": lambda v: v,
    "executability/path-error-ratio": lambda v: v,
    "agreement/mmrv": lambda v: v,
    "agreement/bias": abs,
}
"""Number of a measure to how bad it is: larger is worse."""


def badness(fault: Fault | None, seed: int, alarms: Iterable[str]) -> dict[str, float]:
    """How bad a model of one seed looks by several alarms. The seed decides data, errors and their size.

    A number that a measure does not give is as bad as can be.

    Args:
        fault: What is wrong with it, None for a healthy one.
        seed: Which.
        alarms: Keys of :data:`ALARMS`.
    """
    register()
    data = PuckData(seed)
    size = math.exp(np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(4,))).uniform(*np.log(SIZES)))
    healthy = PuckModel(seed, data.stats["delta"]["std"], size=size)
    fault = fault or Fault("none", "")
    case = Case(fault.put(healthy), data, seed, fault.stages)
    found: dict[str, float] = {}
    wanted = list(alarms)
    for measure in dict.fromkeys(a.partition("/")[0] for a in wanted):
        recording = RECORDERS[measure](case)
        results: list[Result] = registry.measures.load(measure)(recording.arrays)
        values = {f"{measure}/{r.name}": r.value for r in results if r.subject == SUBJECT}
        for alarm in (a for a in wanted if a.startswith(f"{measure}/")):
            value = values.get(alarm)
            found[alarm] = math.inf if value is None else ALARMS[alarm](value)
    return found


def threshold(healthy: np.ndarray, rate: float = FALSE_ALARMS) -> float:
    """The badness above which an alarm is raised.

    The k-th largest of N healthy ones with k = rate (N + 1): another healthy one exceeds it with exactly this
    probability, whatever the distribution (if there are no ties).

    Args:
        healthy: (N,).
        rate: Of false alarms; rate (N + 1) must be a whole number, at least 1.

    Raises:
        ValueError: It is not.
    """
    k = rate * (len(healthy) + 1)
    if abs(k - round(k)) > 1e-9 or round(k) < 1:
        raise ValueError(f"{len(healthy)} healthy models give no threshold for {rate:g} false alarms; take 49, 99, ...")
    return float(np.sort(healthy)[-round(k)])


@dataclass(frozen=True)
class Sizes:
    """How many models of each kind; no seed is used twice.

    Attributes:
        calibration: Healthy ones that set the thresholds: 49, 99, 149 and so on.
        held_out: Healthy ones that are counted.
        faulty: Of each fault.
    """

    calibration: int = 99
    held_out: int = 100
    faulty: int = 100


@dataclass(frozen=True)
class Rates:
    """How often each alarm was raised.

    Attributes:
        sizes: Over how many models.
        healthy: Alarm to share of held-out healthy models.
        faulty: Fault to alarm to share of models with it.
    """

    sizes: Sizes
    healthy: dict[str, float]
    faulty: dict[str, dict[str, float]]


Job = tuple[str | None, int, tuple[str, ...]]
"""Name of a fault or None, seed, alarms."""


def look(job: Job) -> dict[str, float]:
    """:func:`badness` of one job, for a pool of processes."""
    name, seed, alarms = job
    torch.set_num_threads(1)
    return badness(next((f for f in FAULTS if f.name == name), None), seed, alarms)


def study(
    faults: Sequence[Fault] = FAULTS,
    alarms: Sequence[str] | None = None,
    sizes: Sizes = Sizes(),
    *,
    every: Callable[[Callable[[Job], dict[str, float]], Sequence[Job]], Iterable[dict[str, float]]] = map,
) -> Rates:
    """How often alarms are raised for healthy models and for each fault.

    Args:
        faults: Which.
        alarms: Which numbers are looked at, by default of each fault the one that is to notice it.
        sizes: How many models.
        every: ``map``, or that of a pool of processes.
    """
    chosen = tuple(dict.fromkeys(f.alarm for f in faults) if alarms is None else alarms)
    names = [None, *(f.name for f in faults)]
    seeds = [range(sizes.calibration + sizes.held_out), *(range(10_000, 10_000 + sizes.faulty) for _ in faults)]
    jobs: list[Job] = [
        (name, 100_000 * i + seed, chosen if alarms or not i else (faults[i - 1].alarm,))
        for i, (name, own) in enumerate(zip(names, seeds, strict=True))
        for seed in own
    ]
    found = dict(zip(jobs, every(look, jobs), strict=True))

    def seen(name: str | None, alarm: str) -> np.ndarray:
        return np.array([found[job][alarm] for job in jobs if job[0] == name and alarm in found[job]])

    limit = {a: threshold(seen(None, a)[: sizes.calibration]) for a in chosen}

    def share(values: np.ndarray, alarm: str) -> float:
        return float(np.mean(values > limit[alarm]))

    healthy = {a: share(seen(None, a)[sizes.calibration :], a) for a in chosen}
    faulty = {f.name: {a: share(seen(f.name, a), a) for a in chosen if alarms or a == f.alarm} for f in faults}
    return Rates(sizes, healthy, faulty)


def table(rates: Rates, faults: Sequence[Fault] = FAULTS) -> str:
    """Percentages in Markdown, one row per alarm and one column per fault, the alarm that is to notice it in bold."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[: len(faults)]
    lines = [f"- **{letter}**: {fault.name}" for letter, fault in zip(letters, faults, strict=True)]
    lines += ["", f"| | healthy | {' | '.join(letters)} |", f"|---|---|{'---|' * len(faults)}"]
    for alarm, rate in rates.healthy.items():
        cells = [f"{100 * rate:.0f}"]
        for fault in faults:
            own = rates.faulty[fault.name]
            cell = f"{100 * own[alarm]:.0f}" if alarm in own else ""
            cells.append(f"**{cell}**" if alarm == fault.alarm else cell)
        lines.append(f"| {alarm} | {' | '.join(cells)} |")
    return "\n".join(lines)
