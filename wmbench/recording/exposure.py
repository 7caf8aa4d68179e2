"""Records a model fed the truth at every step, fed its own predictions, and lived in by a policy."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from wmbench.cards import TaskCard
from wmbench.episodes import Dataset, EpisodeData
from wmbench.floors import floor_arrays
from wmbench.keys import fold_in, keys_from_seeds
from wmbench.protocols import Policy, Start, WorldModel
from wmbench.recording.drift import Windows, cut_windows, imagine, repeat
from wmbench.recording.recorder import Recorder, Subjects
from wmbench.recording.store import Recording
from wmbench.recording.subjects import baselines, check_models, describe, device_of
from wmbench.rollout import rollout
from wmbench.seeding import episode_seeds

STEPS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
"""Steps of an episode at which closed loops are compared, as far as the task's horizon goes."""

CHUNK = 4096

Roll = Callable[[str | None, Sequence[int]], list[EpisodeData]]


def record_exposure(
    models: Mapping[str, WorldModel],
    dataset: Dataset,
    *,
    policy: Policy | None = None,
    simulators: Mapping[str, str | Path] | None = None,
    roll: Roll | None = None,
    split: str = "test",
    horizon: int = 50,
    windows: int = 64,
    episodes: int = 12,
    seed: int = 0,
    with_baselines: bool = True,
    **options: Any,
) -> Recording:
    """Ask every model for the same windows twice, and let a policy act in it.

    Teacher-forced, every step of a window is predicted from the true observation before it; open-loop, from the model's
    own prediction. The first step of a window is the same question with the same random numbers in both. In the closed
    loop the policy acts on the model's observations, from the same starts as in the true simulator; the true
    simulator runs again from other starts, to show how far apart equal distributions look.

    Args:
        models: Name to model, all of the dataset's task.
        dataset: Where the windows come from; its train split gives the scales and fits the baselines.
        policy: Who acts in the closed loop; None leaves it out.
        simulators: Name of a model to what ``gym.make(id, simulator=...)`` takes; models without are left out of the
            closed loop.
        roll: Gives the policy's episodes in a simulator's (None is the true one) for a list of seeds, where they exist
            already; None lets the policy act now.
        split: Which split is scored.
        horizon: H, steps of a window.
        windows: W.
        episodes: E of the closed loop.
        seed: Of the choice of windows, the models' keys and the closed loop's starts.
        with_baselines: Whether copy-last, mean-delta and linear stand beside the models (those not given already).
        **options: Of :func:`wmbench.rollout.rollout`, for example ``device``.

    Raises:
        DatasetError: A model of another task, or an empty split.
    """
    check_models(models, dataset)
    cut = cut_windows(dataset, split, windows, horizon, seed)
    states = window_states(dataset, cut)
    arrays = {
        **both_ways(models, dataset, cut, states, seed, with_baselines=with_baselines),
        **describe(dataset),
        **floor_arrays(dataset.task),
    }
    where = simulators or {}

    def act(simulator: str | None, seeds: Sequence[int]) -> list[EpisodeData]:
        assert policy is not None
        reference = None if simulator is None else where[simulator]
        given = {"num_envs": len(seeds), "on_error": "record", **options}
        return rollout(dataset.task, policy, seeds, simulator=reference, **given)

    if policy is not None or roll is not None:
        arrays |= _closed(dataset.task, roll or act, arrays["subject"].tolist(), where, episodes, seed)
    meta = {"task": dataset.task.id, "dataset": dataset.digest, "split": split, "seed": seed}
    return Recording("exposure", arrays, meta)


def window_states(dataset: Dataset, cut: Windows) -> np.ndarray | None:
    """The true simulator's state at every step of the windows, (W, H + 1, S) float64, or None if there are none.

    Past an episode's end the last one is repeated.
    """
    if cut.state is None:
        return None
    found = []
    steps = cut.valid.shape[1]
    for episode, start in zip(cut.episode, cut.step, strict=True):
        state = dataset.episode(int(episode)).state
        assert state is not None  # cut.state has one of it
        found.append(state[np.minimum(start + np.arange(steps + 1), len(state) - 1)])
    return np.stack(found)


def both_ways(
    models: Mapping[str, WorldModel],
    dataset: Dataset,
    cut: Windows,
    states: np.ndarray | None,
    seed: int,
    *,
    with_baselines: bool,
) -> dict[str, np.ndarray]:
    """The same windows predicted from the model's own states and from the true ones.

    Args:
        models: M models of the dataset's task.
        dataset: Fits the baselines.
        cut: W windows of H steps.
        states: Of the true simulator at every step of the windows, for models that read them, or None.
        seed: Of the models' keys.
        with_baselines: Whether copy-last, mean-delta and linear stand beside the models (those not given already).

    Returns:
        ``subject`` and ``role`` (M,), ``prediction`` (open loop) and ``teacher`` (M, W, H, O) float32, and of the
        windows ``truth`` (W, H + 1, O), ``valid`` (W, H), ``episode`` and ``step`` (W,).
    """
    names, roles = list(models), ["model"] * len(models)
    opened = [imagine(model, cut, seed)["observation"] for model in models.values()]
    taught = [teach(model, cut, states, seed) for model in models.values()]
    for name, rule in (baselines(dataset) if with_baselines else {}).items():
        if name not in models:
            names, roles = [*names, name], [*roles, "baseline"]
            opened.append(repeat(rule, cut))
            taught.append(rule(cut.truth[:, :-1].astype(np.float64), cut.action))
    with np.errstate(over="ignore"):
        prediction, teacher = (np.stack(found).astype(np.float32) for found in (opened, taught))
    return {
        "subject": np.array(names),
        "role": np.array(roles),
        "truth": cut.truth,
        "valid": cut.valid,
        "episode": cut.episode,
        "step": cut.step,
        "prediction": prediction,
        "teacher": teacher,
    }


def teach(model: WorldModel, cut: Windows, states: np.ndarray | None, seed: int) -> np.ndarray:
    """One step from every true observation of the windows.

    Args:
        model: Which model.
        cut: The windows.
        states: (W, H + 1, S) as :func:`window_states` gives them, for models that read them.
        seed: Of the model's keys, those of :func:`wmbench.recording.drift.imagine` at each window's first step.

    Returns:
        (W, H, O) float64; zero past a window's end.
    """
    device = device_of(model)
    windows, horizon = cut.valid.shape
    base = fold_in(keys_from_seeds(np.arange(windows)), seed)
    keys = np.stack([base, *(fold_in(base, h) for h in range(1, horizon))], axis=1)  # (W, H)
    out = np.zeros((windows, horizon, cut.truth.shape[2]))
    w, h = np.nonzero(cut.valid)
    for start in range(0, len(w), CHUNK):
        at = w[start : start + CHUNK], h[start : start + CHUNK]
        begin = Start(
            observation=torch.from_numpy(cut.truth[at]).to(device),
            sim_state=None if states is None else torch.from_numpy(states[at]),
        )
        with torch.no_grad():
            state = model.initial(begin, keys=torch.from_numpy(keys[at]).to(device))
            _, answer = model.step(state, torch.from_numpy(cut.action[at]).to(device))
        out[at] = answer.observation.detach().cpu().double().numpy()
    return out


def _closed(
    task: TaskCard, roll: Roll, names: Sequence[str], simulators: Collection[str], episodes: int, seed: int
) -> dict[str, np.ndarray]:
    """Episodes in the true simulator, in it again, and in each learned one."""
    steps = np.array([s for s in STEPS if s <= task.horizon])
    seeds = episode_seeds(seed, task.id, "eval", 2 * episodes)
    same, other = seeds[:episodes], seeds[episodes:]

    def act(starts: Sequence[int], simulator: str | None) -> tuple[np.ndarray, np.ndarray]:
        found = roll(simulator, starts)
        return np.stack([_seen(e, steps) for e in found]), np.array([_return(e) for e in found])

    blank = np.zeros((episodes, len(steps), len(task.observation)), np.float32), np.zeros(episodes)
    learned = [act(same, n) if n in simulators else blank for n in names]
    true, again = act(same, None), act(other, None)
    return {
        "closed_step": steps,
        "closed_subject": np.array([n in simulators for n in names]),
        "closed_true": true[0],
        "closed_again": again[0],
        "closed": np.stack([seen for seen, _ in learned]),
        "return_true": true[1],
        "return_again": again[1],
        "return": np.stack([returns for _, returns in learned]),
    }


def _seen(episode: EpisodeData, steps: np.ndarray) -> np.ndarray:
    """Observations at some steps, (K, O): where an episode ended it stays; NaN where one broke off."""
    seen = episode.observation[np.minimum(steps, len(episode))]
    if episode.invalid is not None or episode.diverged:
        seen[steps >= max(len(episode), 1)] = np.nan
    return seen


def _return(episode: EpisodeData) -> float:
    return float("nan") if episode.invalid is not None or episode.diverged else episode.total_reward


def _record(subjects: Subjects, **options: Any) -> Recording:
    given: dict[str, Any] = {"simulators": subjects.simulators, "seed": subjects.seed}
    if subjects.expert is not None:
        given["roll"] = partial(subjects.episodes, subjects.expert)
    return record_exposure(subjects.models, subjects.dataset, **{**given, **options})


RECORDER = Recorder("exposure", _record)
