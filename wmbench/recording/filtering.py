"""Records how models judge candidate actions before they are taken, and which of them really end badly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from wmbench.cards import TaskCard
from wmbench.episodes import Dataset
from wmbench.errors import DatasetError
from wmbench.measures.filtering import badly
from wmbench.protocols import Policy, WorldModel
from wmbench.recording.branching import branch_model
from wmbench.recording.candidates import cut_states, expert_of, perturbed, policy_actions, uniform_actions
from wmbench.recording.drift import Windows
from wmbench.recording.exploitation import BAR
from wmbench.recording.filter_loop import ARMS, Screen, run_arms
from wmbench.recording.judging import TrueJudge, going_on, imagined_returns, true_returns
from wmbench.recording.planning import solved
from wmbench.recording.ranking import NOISE
from wmbench.recording.recorder import Recorder, Subjects
from wmbench.recording.store import Recording
from wmbench.recording.subjects import check_models
from wmbench.statistics.selective import Ranking

QUANTILE = 0.2
"""Where the task never terminates, candidates below this quantile of all true returns count as having ended badly."""

TARGET = 0.05
"""Share of bad ends among accepted candidates that the filter in the loop is set to."""


def record_filter(
    models: Mapping[str, WorldModel],
    dataset: Dataset,
    *,
    split: str = "test",
    starts: int = 40,
    candidates: int = 12,
    steps: int = 10,
    policy: Policy | None = None,
    quantile: float = QUANTILE,
    target: float = TARGET,
    loop_starts: int = 6,
    loop_steps: int = 30,
    fallbacks: int = 8,
    draws: int = 4,
    seed: int = 0,
) -> Recording:
    """Judge candidates from recorded states, in every model and by exact branches of the true simulator.

    Half of the candidates of a start are what the policy does there (without one: the recorded actions) and variations
    of it, the others are random. A model's score is the predicted chance of a termination within K steps, or less its
    imagined return where the task never terminates; beside it stands the first uncertainty signal of its card, the
    mean over the steps. Then, if there is a policy, it acts in the true simulator with and without each model as
    its filter: see :func:`wmbench.recording.filter_loop.run_arms`. Its threshold is set on candidates from the same
    number of starts in episodes that are not scored: those of the val split, or, where there are none, every other
    episode of the scored split, and then the loop starts in the rest.

    Args:
        models: Name to model, all of the dataset's task.
        dataset: With simulator states.
        split: Where the starts come from.
        starts: N.
        candidates: B.
        steps: K, length of the sequences.
        policy: Who is filtered; None leaves the loop out.
        quantile: Which returns count as bad ends where the task never terminates.
        target: Share of bad ends among what is accepted that sets the threshold of the filter in the loop.
        loop_starts: E, starts of the loop; 0 for none.
        loop_steps: Steps that the policy acts for.
        fallbacks: How many variations of a rejected action are looked at for the safest.
        draws: Over how many draws a model that draws its predictions is averaged.
        seed: Of starts, candidates and the models' keys.

    Raises:
        DatasetError: A model of another task, an empty split, a dataset without simulator states, or a loop and no
            episodes to set its threshold on.
    """
    check_models(models, dataset)
    task = dataset.task
    cut = cut_states(dataset, split, starts, steps, seed)
    with TrueJudge(task) as truth:
        arrays = _offline(models, truth, cut, policy, candidates, quantile, draws, seed)
        sizes = starts, candidates, loop_starts, loop_steps, fallbacks, draws
        arrays |= _loop(models, truth, dataset, split, policy, quantile, target, steps, *sizes, seed)
    arrays["success_rule"] = np.array(BAR.get(task.success.kind, "as the card says, at any step"))
    meta = {"task": task.id, "dataset": dataset.digest, "split": split, "seed": seed, "noise": NOISE, "steps": steps}
    meta |= {"target": target, "source": "policy" if policy else "recorded", "around": -(-candidates // 2)}
    return Recording("filter", arrays, meta)


def can_judge(task: TaskCard, model: WorldModel) -> bool:
    """Whether a model predicts what its score is made of: endings, or rewards where the task never terminates."""
    return ("terminated" if task.terminates else "reward") in model.card.predicts


def danger(task: TaskCard, answers: Mapping[str, np.ndarray]) -> np.ndarray:
    """How bad a model expects candidates to end; larger is worse.

    1 - prod_k (1 - p_k (1 - s_k)) over the steps of the model's episode, p_k being the predicted probability that the
    task terminates at step k and s_k that of success at that step, 0 for a model without such a head: who ends because
    the task is solved is in no danger. Less the imagined return for a task that never terminates.

    Args:
        task: The task.
        answers: Heads, (N, B, K) each, observation (N, B, K, O).

    Returns:
        (N, B) float64; NaN where a prediction that counts is not finite.
    """
    if not task.terminates:
        return -imagined_returns(task, answers)[..., -1]
    ends, alive = answers["terminated"], going_on(answers)
    solved = answers.get("success", np.zeros_like(ends))
    lost = alive & ~(np.isfinite(ends) & np.isfinite(solved) & np.isfinite(answers["observation"]).all(-1))
    bad = np.clip(ends, 0.0, 1.0) * (1.0 - np.clip(solved, 0.0, 1.0))
    chance = 1.0 - np.prod(np.where(alive & ~lost, 1.0 - bad, 1.0), axis=-1)
    return np.where(lost.any(-1), np.nan, chance)


def held_out(dataset: Dataset, split: str) -> tuple[str, np.ndarray, np.ndarray]:
    """Where the threshold of the filter in the loop is set, and where the loop may start.

    Args:
        dataset: Which.
        split: What is scored.

    Returns:
        The split whose episodes set the threshold, those episodes, and those in which the loop may start.

    Raises:
        DatasetError: There are no two episodes that could be kept apart.
    """
    scored, other = dataset.episodes(split), dataset.episodes("val")
    if split != "val" and len(other):
        return "val", other, scored
    if len(scored) < 2:
        raise DatasetError(
            f"{dataset.folder}: the filter's threshold needs episodes of its own, and there is no val split and only "
            f"{len(scored)} episodes in {split!r}; collect more, or leave the loop out with loop_starts=0"
        )
    return split, scored[1::2], scored[::2]


def threshold(arrays: Mapping[str, np.ndarray], m: int, target: float) -> float:
    """Largest score at which at most a share ``target`` of what is accepted ends badly; minus infinity if none is."""
    score = arrays["score"][m].ravel()
    bad = badly(arrays).ravel()
    ranking = Ranking(np.where(np.isfinite(score), score, np.inf))
    risk = ranking.risk_coverage(bad.astype(np.float64))[1]
    kept = ranking.unique[(risk <= target) & np.isfinite(ranking.unique)]
    return float(kept[-1]) if len(kept) else -np.inf


def _ask(
    model: WorldModel, first: np.ndarray, states: np.ndarray, action: np.ndarray, draws: int, seed: int
) -> dict[str, np.ndarray]:
    """Every head of every draw, (draws N, B, K)."""
    observation, state, given = (np.concatenate([part] * draws) for part in (first, states, action))
    return branch_model(model, observation, state, given, seed, uncertainty=bool(model.card.uncertainty))


def _offline(
    models: Mapping[str, WorldModel],
    truth: TrueJudge,
    cut: Windows,
    policy: Policy | None,
    candidates: int,
    quantile: float,
    draws: int,
    seed: int,
) -> dict[str, Any]:
    """Candidates from these starts, what becomes of them, and what every model says."""
    task, first, states = truth.task, cut.truth[:, 0], cut.state
    assert states is not None
    (starts, steps), around = cut.reward.shape, -(-candidates // 2)
    nominal = cut.action
    if policy is not None:
        nominal = policy_actions(policy, truth.simulator, first, states, steps, seed)
    near = perturbed(task, nominal, around, NOISE, seed)
    action = np.concatenate([near, uniform_actions(task, (starts, candidates - around, steps), seed)], axis=1)
    branches = truth.branch(states, action)
    true = true_returns(branches)[..., -1]
    arrays: dict[str, Any] = {
        "subject": np.array(list(models), dtype=np.str_),
        "role": np.array(["model"] * len(models), dtype=np.str_),
        "terminates": np.array(task.terminates),
        "quantile": np.array(quantile),
        "failed": (branches.terminated & ~branches.success).any(-1),
        "true": true,
        "episode": cut.episode,
        "step": cut.step,
        "has_score": np.array([can_judge(task, model) for model in models.values()], dtype=bool),
        "has_doubt": np.array([bool(model.card.uncertainty) for model in models.values()], dtype=bool),
    }
    shape = (len(models), *true.shape)
    arrays |= {"score": np.full(shape, np.nan), "doubt": np.full(shape, np.nan)}
    for m, model in enumerate(models.values()):
        answers = _ask(model, first, states, action, draws, seed)
        if arrays["has_score"][m]:
            arrays["score"][m] = danger(task, answers).reshape(draws, *true.shape).mean(0)
        if arrays["has_doubt"][m]:
            signal = answers[f"uncertainty/{model.card.uncertainty[0]}"].mean(-1)
            arrays["doubt"][m] = signal.reshape(draws, *true.shape).mean(0)
    return arrays


def _loop(
    models: Mapping[str, WorldModel],
    truth: TrueJudge,
    dataset: Dataset,
    split: str,
    policy: Policy | None,
    quantile: float,
    target: float,
    lookahead: int,
    held_starts: int,
    candidates: int,
    starts: int,
    steps: int,
    fallbacks: int,
    draws: int,
    seed: int,
) -> dict[str, Any]:
    """The policy with and without every model as its filter."""
    starts = starts if policy is not None else 0
    shape = (len(models), len(ARMS), starts)
    arrays: dict[str, Any] = {
        "arm": np.array(ARMS),
        "threshold": np.full(len(models), -np.inf),
        "threshold_split": np.array(""),
        "threshold_episode": np.zeros(0, dtype=np.int64),
        "loop_return": np.zeros(shape),
        "loop_success": np.zeros(shape, dtype=bool),
        "loop_failed": np.zeros(shape, dtype=bool),
        "loop_steps": np.zeros(shape, dtype=np.int64),
        "loop_interventions": np.zeros(shape, dtype=np.int64),
        "loop_episode": np.zeros(starts, dtype=np.int64),
    }
    if policy is None or not starts:
        return arrays
    task = truth.task
    where, own, others = held_out(dataset, split)
    held = cut_states(dataset, where, held_starts, lookahead, seed, own)
    judged = _offline(models, truth, held, policy, candidates, quantile, draws, seed)
    arrays["threshold"] = np.array([threshold(judged, m, target) for m in range(len(models))])
    arrays["threshold_split"], arrays["threshold_episode"] = np.array(where), held.episode
    cut = cut_states(dataset, split, starts, steps, seed, others)
    states = cut.state
    assert states is not None
    arrays["loop_episode"] = cut.episode
    recorded = cut.reward.sum(1)
    for m, model in enumerate(models.values()):
        if not judged["has_score"][m]:
            continue
        limit = float(arrays["threshold"][m])
        screen = Screen(model, task, policy, danger, lookahead, limit, fallbacks, NOISE, seed, draws)
        arms = run_arms(screen, truth.simulator, cut.truth[:, 0], states, steps)
        for a, (driven, interventions) in enumerate(arms):
            arrays["loop_return"][m, a] = driven.reward.sum(1)
            arrays["loop_success"][m, a] = solved(task, driven, recorded)
            arrays["loop_failed"][m, a] = (driven.terminated & ~driven.success).any(1)
            arrays["loop_steps"][m, a] = driven.valid.sum(1)
            arrays["loop_interventions"][m, a] = interventions
    return arrays


def _record(subjects: Subjects, **options: Any) -> Recording:
    own = {"seed": subjects.seed, "policy": expert_of(subjects)}
    return record_filter(subjects.models, subjects.dataset, **{**own, **options})


RECORDER = Recorder("filter", _record)
