"""Records what models propose as subgoals, and where the true simulator gets under the same candidate actions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from wmbench.cards import TaskCard
from wmbench.episodes import Dataset
from wmbench.errors import DatasetError
from wmbench.protocols import WorldModel
from wmbench.recording.branching import Branches, branch_model, branch_true, elsewhere
from wmbench.recording.candidates import cut_states, perturbed, uniform_actions
from wmbench.recording.judging import going_on, imagined_returns
from wmbench.recording.recorder import Recorder, Subjects
from wmbench.recording.store import Recording
from wmbench.recording.subjects import check_models, describe

NOISE = 0.3
"""Standard deviation of variations on the recorded actions, in half widths of the action box."""

TOLERANCE = 0.5


def record_subgoals(
    models: Mapping[str, WorldModel],
    dataset: Dataset,
    *,
    split: str = "test",
    starts: int = 64,
    candidates: int = 16,
    steps: int = 10,
    within: int = 20,
    tolerance: float = TOLERANCE,
    seed: int = 0,
) -> Recording:
    """Let every model propose one subgoal per start, and branch the true simulator under all candidates.

    Candidates are the recorded actions, variations of them, and as many sequences uniform in the box. A model imagines
    all of them for k steps, or to the end of the episode that it predicts, and proposes what it observes there along
    the one with the largest imagined return. The rest of the sequence is there so that the true simulator may be late.
    Beside the models stand ``true``, the simulator itself, which proposes what it will do; ``stay``, the observation at
    the start; and ``elsewhere``, where ``true`` would go from another start.

    Args:
        models: Name to model, all of the dataset's task.
        dataset: With simulator states; its train split gives the scales.
        split: Where the starts come from.
        starts: N, two or more.
        candidates: B, an even number.
        steps: k.
        within: H, true steps in which a subgoal must be reached, at least k.
        tolerance: NRMSE at which it counts as reached.
        seed: Of starts, candidates and the models' keys.

    Raises:
        DatasetError: A model of another task, an empty split, a dataset without simulator states, or sizes that make no
            sense.
    """
    if starts < 2 or candidates < 2 or candidates % 2 or not 1 <= steps <= within or not tolerance > 0:
        raise DatasetError(
            "subgoals need two starts or more, an even number of candidates, 1 <= steps <= within and a tolerance "
            f"above 0, got {starts}, {candidates}, {steps}, {within} and {tolerance}"
        )
    check_models(models, dataset)
    task, cut = dataset.task, cut_states(dataset, split, starts, within, seed)
    assert cut.state is not None
    half = candidates // 2
    action = np.concatenate(
        [perturbed(task, cut.action, half, NOISE, seed), uniform_actions(task, (starts, half, within), seed)], axis=1
    )  # (N, B, H, A)
    true = branch_true(task, cut.state, action)
    rows, first = np.arange(starts), cut.truth[:, 0]
    goals, chosen = [], []
    for model in models.values():
        found = branch_model(model, first, cut.state, action[:, :, :steps], seed)
        best = _imagined_best(task, found) if "reward" in found else np.zeros(starts, dtype=np.int64)
        goals.append(found["observation"][rows, best, _imagined_end(found)[rows, best]])
        chosen.append(best)
    best = np.where(true.valid, true.reward, 0.0)[:, :, :steps].sum(2).argmax(1)
    own = _ends(true, steps)[rows, best]
    partner, recorded = elsewhere(starts, seed), np.zeros(starts, dtype=np.int64)
    goals += [own, first, own[partner]]
    chosen += [best, recorded, recorded]
    with np.errstate(over="ignore"):
        subgoal = np.stack(goals).astype(np.float32)
    arrays = {
        "subject": np.array([*models, "true", "stay", "elsewhere"]),
        "role": np.array(["model"] * len(models) + ["oracle", "baseline", "baseline"]),
        "subgoal": subgoal,
        "chosen": np.stack(chosen),
        "start": first,
        "truth": true.observation,
        "reward": true.reward,
        "valid": true.valid,
        "steps": np.array(steps),
        "tolerance": np.array(float(tolerance)),
        "episode": cut.episode,
        "step": cut.step,
        **describe(dataset),
    }
    meta = {"task": task.id, "dataset": dataset.digest, "split": split, "seed": seed, "noise": NOISE}
    meta["without_reward"] = [n for n, m in models.items() if "reward" not in m.card.predicts]
    return Recording("subgoals", arrays, meta)


def _imagined_best(task: TaskCard, found: Mapping[str, np.ndarray]) -> np.ndarray:
    """(N,) int, the branch with the largest imagined return; one that is not finite counts as the least."""
    total = imagined_returns(task, found)[..., -1]
    return np.where(np.isnan(total), -np.inf, total).argmax(1)


def _imagined_end(found: Mapping[str, np.ndarray]) -> np.ndarray:
    """(N, B) int, index of the step at which a branch ends: the first with an end more likely than not, or the last."""
    return going_on(found).sum(2) - 1


def _ends(true: Branches, steps: int) -> np.ndarray:
    """(N, B, O) where branches are after so many steps, or at their episode's end if that comes first."""
    last = true.valid[:, :, :steps].sum(2) - 1
    return np.take_along_axis(true.observation, last[..., None, None], axis=2)[:, :, 0]


def _record(subjects: Subjects, **options: Any) -> Recording:
    return record_subgoals(subjects.models, subjects.dataset, **{"seed": subjects.seed, **options})


RECORDER = Recorder("subgoals", _record)
