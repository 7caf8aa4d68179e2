"""Records whether imagined paths can be executed: actions read off them are replayed in the true simulator."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from wmbench.cards import TaskCard
from wmbench.episodes import Dataset
from wmbench.errors import DatasetError, WmbenchError
from wmbench.keys import fold_in, keys_from_seeds
from wmbench.protocols import InverseModel, Policy, Start, WorldModel
from wmbench.recording.branching import Branches, branch_model, branch_true
from wmbench.recording.drift import Windows, cut_windows
from wmbench.recording.recorder import Recorder, Subjects
from wmbench.recording.recoverability import Inverse, recover, reference_inverse
from wmbench.recording.store import Recording
from wmbench.recording.subjects import AffineDelta, baselines, check_models, describe, device_of

ACT = 0x616374
"""Label of the random numbers of a policy that plans inside a model."""


@dataclass(frozen=True)
class Plan:
    """What something says will happen, and by which actions.

    Attributes:
        observation: (N, K, O) imagined, after each step.
        action: (N, K, A) float32, said to lead there.
    """

    observation: np.ndarray
    action: np.ndarray


Planner = Callable[[np.ndarray, np.ndarray, int], Plan]
"""Observations (N, O) and simulator states (N, S) of the starts, and a number of steps K, to a plan of N paths."""


def record_executability(
    models: Mapping[str, WorldModel],
    dataset: Dataset,
    *,
    policies: Mapping[str, Policy] | None = None,
    planners: Mapping[str, Planner] | None = None,
    inverse: InverseModel | Inverse | None = None,
    split: str = "test",
    starts: int = 128,
    steps: int = 10,
    seed: int = 0,
    with_baselines: bool = True,
) -> Recording:
    """Imagine paths, read their actions off them with a frozen inverse model, and replay those from the same states.

    Every model imagines what follows from true states under the recorded actions and, with each of the policies, what
    follows if the policy acts on the imagined observations. Anything else that says both what will happen and by which
    actions is given as a planner: a cascade whose stages disagree shows in how far the actions it says are from those
    that its observations show. Beside each path stands its ceiling: what the true simulator does under the actions that
    were said, and the replay of the actions that the inverse model reads off that. The floor of all is the replay of
    the actions read off a path that stands still at its start.

    Args:
        models: Name to model, all of the dataset's task.
        dataset: With simulator states; its train split gives the scales and fits the baselines.
        policies: Name to policy, for ``model | policy`` in closed loop.
        planners: Name to planner.
        inverse: The inverse model; None for the task's reference.
        split: Where the starts come from.
        starts: N, how many.
        steps: K, length of the paths.
        seed: Of the choice of starts, of the keys, and of the inverse model's fit if there is one.
        with_baselines: Whether copy-last, mean-delta and linear stand beside the models (those not given already).

    Raises:
        DatasetError: A model of another task, an empty split, or a dataset without simulator states.
        WmbenchError: A planner's arrays have other shapes, or an action that is not finite.
    """
    check_models(models, dataset)
    judge = reference_inverse(dataset, inverse, seed=seed)
    cut = cut_windows(dataset, split, starts, steps, seed)
    if cut.state is None:
        raise DatasetError(f"{dataset.folder}: replaying needs simulator states, which this dataset does not hold")
    first, states = cut.truth[:, 0], cut.state
    plans: dict[str, tuple[str, Plan]] = {}
    for name, model in models.items():
        imagined = branch_model(model, first, states, cut.action[:, None], seed)["observation"][:, 0]
        plans[name] = "model", Plan(imagined, cut.action)
        for who, policy in (policies or {}).items():
            plans[f"{name} | {who}"] = "closed-loop", closed_loop(model, policy, first, states, steps, seed)
    for name, rule in (baselines(dataset) if with_baselines else {}).items():
        if name not in models:
            plans[name] = "baseline", Plan(_repeat(rule, first, cut.action), cut.action)
    for name, planner in (planners or {}).items():
        plans[name] = "planner", _checked(name, planner(first, states, steps), dataset.task, starts, steps)
    simulator: Any = gym.make(dataset.task.id, **dataset.task.options()).unwrapped
    try:
        outcome = _replays(plans, cut, simulator, judge)
        shown = _read(judge, first, np.repeat(first[:, None], steps, axis=1))
        still = _branch(cut, shown, np.ones(shown.shape[:2], dtype=bool), simulator)
    finally:
        simulator.close()
    arrays = {
        "subject": np.array(list(plans)),
        "role": np.array([role for role, _ in plans.values()]),
        "observation": first,
        "episode": cut.episode,
        "step": cut.step,
        "action_low": dataset.task.action_bounds()[0],
        "action_high": dataset.task.action_bounds()[1],
        "success_kind": np.array(dataset.task.success.kind),
        "success_when": np.array(dataset.task.success.when),
        "still_replay": still.observation[:, 0],
        "still_replay_valid": still.valid[:, 0],
        **outcome,
        **describe(dataset),
    }
    meta = {"task": dataset.task.id, "dataset": dataset.digest, "split": split, "seed": seed, **judge.meta()}
    return Recording("executability", arrays, meta)


def closed_loop(
    model: WorldModel, policy: Policy, first: np.ndarray, states: np.ndarray, steps: int, seed: int
) -> Plan:
    """Let a policy act on a model's imagined observations. A row that is no longer finite stays NaN, its actions zero.

    Args:
        model: The model.
        policy: Who acts.
        first: (N, O) float32.
        states: (N, S) of the true simulator.
        steps: K.
        seed: Of the keys of both.
    """
    device = device_of(model)
    keys = fold_in(keys_from_seeds(np.arange(len(first))), seed)
    start = Start(torch.from_numpy(first).to(device), sim_state=torch.from_numpy(states))
    seen, memory = first, policy.initial(len(first))
    observations, actions = [], []
    with torch.no_grad():
        state = model.initial(start, keys=torch.from_numpy(keys).to(device))
        for k in range(steps):
            good = np.isfinite(seen).all(1, keepdims=True)
            given = np.where(good, seen, first)
            action, memory = policy.act(given, memory, keys=fold_in(fold_in(keys, ACT), k))
            action = np.where(good, action, np.float32(0))
            state, answer = model.step(state, torch.from_numpy(action).to(device))
            seen = np.where(good, answer.observation.cpu().numpy(), np.float32(np.nan))
            observations.append(seen)
            actions.append(action)
    return Plan(np.stack(observations, axis=1), np.stack(actions, axis=1))


def _replays(
    plans: Mapping[str, tuple[str, Plan]], cut: Windows, simulator: Any, judge: Inverse
) -> dict[str, np.ndarray]:
    """What every plan imagined, said and showed, what its replay did, and the same of the truth under its actions."""
    assert cut.state is not None
    known: dict[bytes, tuple[Branches, np.ndarray, Branches]] = {}  # plans that say the same share a ceiling
    rows: dict[str, list[np.ndarray]] = {}
    for role, plan in plans.values():
        said = np.ascontiguousarray(plan.action, np.float32)
        asked = np.ones(said.shape[:2], dtype=bool) if role in ("closed-loop", "planner") else cut.valid
        if (label := said.tobytes()) not in known:
            truth = _branch(cut, said, asked, simulator)
            shown = _read(judge, cut.truth[:, 0], truth.observation[:, 0])
            known[label] = truth, shown, _branch(cut, shown, truth.valid[:, 0], simulator)
        truth, shown, again = known[label]
        with np.errstate(over="ignore"):
            imagined = plan.observation.astype(np.float32)
        read = _read(judge, cut.truth[:, 0], imagined)
        replay = _branch(cut, read, truth.valid[:, 0], simulator)
        for name, values in (
            ("imagined", imagined),
            ("said", said),
            ("recovered", read),
            ("replay", replay.observation[:, 0]),
            ("replay_valid", replay.valid[:, 0]),
            ("replay_success", replay.success[:, 0]),
            ("truth", truth.observation[:, 0]),
            ("valid", truth.valid[:, 0]),
            ("truth_success", truth.success[:, 0]),
            ("truth_recovered", shown),
            ("truth_replay", again.observation[:, 0]),
            ("truth_replay_valid", again.valid[:, 0]),
        ):
            rows.setdefault(name, []).append(values)
    return {name: np.stack(values) for name, values in rows.items()}


def _read(judge: Inverse, first: np.ndarray, path: np.ndarray) -> np.ndarray:
    """Mean of what the inverse model's members recover along paths (N, K, O): (N, K, A), NaN from the first loss on."""
    before = np.concatenate([first[:, None], path[:, :-1]], axis=1)
    action = recover(judge.model, before, path).mean(0)
    lost = np.maximum.accumulate(~np.isfinite(action).all(-1), axis=1)
    return np.where(lost[:, :, None], np.float32(np.nan), action)


def _branch(cut: Windows, action: np.ndarray, asked: np.ndarray, simulator: Any) -> Branches:
    """The true simulator from the starts under (N, K, A), as far as they are finite and asked for."""
    assert cut.state is not None
    known = asked & np.isfinite(action).all(-1)
    return branch_true(simulator.card, cut.state, action[:, None], known[:, None], simulator=simulator)


def _repeat(rule: AffineDelta, first: np.ndarray, action: np.ndarray) -> np.ndarray:
    """A baseline's path under actions (N, K, A): (N, K, O) float64."""
    observation, out = first.astype(np.float64), []
    for k in range(action.shape[1]):
        observation = rule(observation, action[:, k])
        out.append(observation)
    return np.stack(out, axis=1)


def _checked(name: str, plan: Plan, task: TaskCard, starts: int, steps: int) -> Plan:
    """Refuse a plan of another size, or with actions that nobody could take."""
    for what, array, size in (
        ("observation", plan.observation, len(task.observation)),
        ("action", plan.action, len(task.action)),
    ):
        if array.shape != (starts, steps, size):
            raise WmbenchError(f"planner {name!r}: its {what} must be {(starts, steps, size)}, got {array.shape}")
    if not np.isfinite(plan.action).all():
        raise WmbenchError(f"planner {name!r} says actions that are not finite")
    low, high = task.action_bounds()
    return Plan(plan.observation, np.clip(plan.action, low, high).astype(np.float32))


def _record(subjects: Subjects, **options: Any) -> Recording:
    given: dict[str, Any] = {"seed": subjects.seed}
    if subjects.expert is not None:
        given["policies"] = {subjects.expert: subjects.policies[subjects.expert]}
    return record_executability(subjects.models, subjects.dataset, **{**given, **options})


RECORDER = Recorder("executability", _record)
