"""Records how models value short action sequences from the same state, and what the true simulator makes of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from wmbench.episodes import Dataset
from wmbench.keys import fold_in, keys_from_seeds
from wmbench.protocols import Policy, WorldModel
from wmbench.recording.candidates import cut_states, expert_of, perturbed, policy_actions, uniform_actions
from wmbench.recording.exploitation import BAR
from wmbench.recording.judging import ModelJudge, TrueJudge
from wmbench.recording.planning import Budget, drive, plan_and_drive, search, solved
from wmbench.recording.recorder import Recorder, Subjects
from wmbench.recording.store import Recording
from wmbench.recording.subjects import check_models

NOISE = 0.3
"""Standard deviation of variations on a policy's actions, in half widths of the action box."""

REPLANS = (1, 2, 5, 10)
PLANNER = Budget(samples=32, iterations=2, elites=8, lookahead=10)


def record_ranking(
    models: Mapping[str, WorldModel],
    dataset: Dataset,
    *,
    split: str = "test",
    starts: int = 20,
    candidates: int = 16,
    steps: int = 20,
    policy: Policy | None = None,
    budget: Budget | None = None,
    planner_starts: int = 4,
    planner_steps: int = 10,
    planner: Budget = PLANNER,
    replans: Sequence[int] = REPLANS,
    draws: int = 4,
    seed: int = 0,
) -> Recording:
    """Value candidates from recorded states, in every model and by exact branches of the true simulator.

    Candidates are of three sources: ``uniform`` in the action box at every step; variations of what a policy does there
    (``policy``), or without one of the recorded actions (``recorded``); and ``elite``, the best ones of the last
    iteration of the cross-entropy method in the model itself, which differ by model. Beside them planners act in the
    true simulator, planning in each model and replanning after 1, 2, 5, 10 steps.

    Args:
        models: Name to model, all of the dataset's task.
        dataset: With simulator states.
        split: Where the starts come from.
        starts: N.
        candidates: B, of each source.
        steps: K, length of the sequences.
        policy: Whose actions are varied; None for the recorded behaviour.
        budget: Of the search for elites; its lookahead is ``steps``.
        planner_starts: E, starts of the planners that act; 0 for none.
        planner_steps: Steps that they act for.
        planner: Their budget.
        replans: Steps between plans.
        draws: Over how many draws a model's returns are averaged if it draws its predictions.
        seed: Of starts, candidates and the models' keys.

    Raises:
        DatasetError: A model of another task, an empty split, or a dataset without simulator states.
        ValueError: A planner that replans beyond its lookahead, or fewer samples than candidates.
    """
    task = dataset.task
    if any(not 1 <= m <= planner.lookahead for m in replans):
        raise ValueError(f"planners must replan after 1 to {planner.lookahead} steps, not {list(replans)}")
    budget = budget or Budget(max(64, 2 * candidates), 3, candidates, steps)
    if budget.lookahead != steps or budget.samples < candidates:
        raise ValueError(f"the search for elites needs {steps} steps of lookahead and {candidates} samples or more")
    check_models(models, dataset)
    cut = cut_states(dataset, split, starts, steps, seed)
    first, states = cut.truth[:, 0], cut.state
    assert states is not None
    keys = fold_in(keys_from_seeds(np.arange(starts)), seed)
    judges = [ModelJudge(model, task, seed=seed, draws=draws) for model in models.values()]
    source = ("uniform", "policy" if policy else "recorded", "elite")
    true = np.zeros((len(judges), len(source), starts, candidates, steps))
    imagined = np.full_like(true, np.nan)
    with TrueJudge(task) as truth:
        nominal = cut.action
        if policy is not None:
            nominal = policy_actions(policy, truth.simulator, first, states, steps, seed)
        shared = [
            uniform_actions(task, (starts, candidates, steps), seed),
            perturbed(task, nominal, candidates, NOISE, seed),
        ]
        true[:, :2] = np.stack([truth(first, states, action) for action in shared])
        for m, judge in enumerate(judges):
            if judge.has_reward:
                best = search(judge, task, first, states, budget, keys).population[:, :candidates]
                true[m, 2] = truth(first, states, best)
                for s, action in enumerate([*shared, best]):
                    imagined[m, s] = judge(first, states, action)
        acted = _planners(judges, truth, dataset, split, planner_starts, planner_steps, planner, replans, seed)
    arrays = {
        "subject": np.array(list(models), dtype=np.str_),
        "role": np.array(["model"] * len(models), dtype=np.str_),
        "has_reward": np.array([judge.has_reward for judge in judges], dtype=bool),
        "source": np.array(source),
        "true": true,
        "imagined": imagined,
        "episode": cut.episode,
        "step": cut.step,
        **acted,
        "success_rule": np.array(BAR.get(task.success.kind, "as the card says, at any step")),
    }
    meta = {"task": task.id, "dataset": dataset.digest, "split": split, "seed": seed, "noise": NOISE}
    return Recording("ranking", arrays, meta)


def _planners(
    judges: Sequence[ModelJudge],
    truth: TrueJudge,
    dataset: Dataset,
    split: str,
    starts: int,
    steps: int,
    planner: Budget,
    replans: Sequence[int],
    seed: int,
) -> dict[str, np.ndarray]:
    """Planners that act, with every model and replan interval, and random actions beside them."""
    shape = (len(judges), starts, len(replans))
    arrays = {
        "replan": np.array(replans, dtype=np.int64),
        "plan_return": np.zeros(shape),
        "plan_success": np.zeros(shape, dtype=bool),
        "plan_planless": np.zeros(shape, dtype=bool),
        "random_return": np.zeros(starts),
        "recorded_return": np.zeros(starts),
        "plan_episode": np.zeros(starts, dtype=np.int64),
    }
    if not starts:
        return arrays
    cut = cut_states(dataset, split, starts, steps + planner.lookahead, seed)
    first, states = cut.truth[:, 0], cut.state
    assert states is not None
    random = uniform_actions(truth.task, (starts, steps), seed)
    driven = drive(truth.simulator, first, states, steps, lambda rows, o, s, t: random[rows, t:])
    recorded = cut.reward[:, :steps].sum(1)
    arrays |= {"plan_episode": cut.episode, "recorded_return": recorded, "random_return": driven.reward.sum(1)}
    for m, judge in enumerate(judges):
        for r, replan in enumerate(replans if judge.has_reward else ()):
            driven = plan_and_drive(
                judge,
                truth.task,
                truth.simulator,
                first,
                states,
                steps=steps,
                replan=replan,
                budget=planner,
                seed=seed,
            )
            arrays["plan_return"][m, :, r] = driven.reward.sum(1)
            arrays["plan_success"][m, :, r] = solved(truth.task, driven, recorded)
            arrays["plan_planless"][m, :, r] = driven.planless
    return arrays


def _record(subjects: Subjects, **options: Any) -> Recording:
    own = {"seed": subjects.seed, "policy": expert_of(subjects)}
    return record_ranking(subjects.models, subjects.dataset, **{**own, **options})


RECORDER = Recorder("ranking", _record)
