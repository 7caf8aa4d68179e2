"""Records reward, success and termination as models predict them: one step from true states, and along open loops."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from wmbench.episodes import Dataset
from wmbench.protocols import WorldModel
from wmbench.recording.drift import Windows, cut_windows, imagine
from wmbench.recording.one_step import HEADS, record_one_step
from wmbench.recording.store import Recording

MARGINAL = "marginal"
"""The subject that predicts the train split's mean reward and rates of success and termination, whatever it sees."""

SPARSE = 0.5
"""Share of a train split's rewards equal to the smallest from which a reward counts as sparse."""


def record_heads(
    models: Mapping[str, WorldModel],
    dataset: Dataset,
    *,
    split: str = "test",
    limit: int = 4000,
    horizon: int = 50,
    windows: int = 200,
    seed: int = 0,
) -> Recording:
    """Ask every model for its heads.

    Args:
        models: Name to model, all of the dataset's task.
        dataset: Where the transitions come from; its train split gives the scales and the marginal.
        split: Which split is scored.
        limit: At most this many single steps.
        horizon: H, steps of a window.
        windows: W.
        seed: Of the choice of steps and windows and of the models' keys.

    Raises:
        DatasetError: A model of another task, or an empty split.
    """
    single = record_one_step(models, dataset, split=split, limit=limit, seed=seed, with_baselines=False)
    cut = cut_windows(dataset, split, windows, horizon, seed)
    limits = np.minimum(horizon, dataset.task.horizon - cut.step)  # (W,)
    going_on = beyond(cut, limits)
    found = [imagine(model, going_on, seed) for model in models.values()]
    marginal = _marginal(dataset)
    n, blank = len(single.arrays["reward"]), np.zeros(cut.valid.shape)

    def stacked(head: str) -> np.ndarray:
        return np.stack([*(f.get(head, blank) for f in found), np.full(cut.valid.shape, marginal[head])])

    train = dataset.stats["reward"]
    arrays = {
        "subject": np.array([*models, MARGINAL]),
        "role": np.array(["model"] * len(models) + ["baseline"]),
        **{name: single.arrays[name] for name in (*HEADS, "episode", "step")},
        **{
            f"{head}_prediction": np.concatenate([single.arrays[f"{head}_prediction"], np.full((1, n), marginal[head])])
            for head in HEADS
        },
        **{f"has_{head}": np.append(single.arrays[f"has_{head}"], True) for head in HEADS},
        "window_reward": cut.reward,
        "window_terminated": cut.terminated,
        "window_valid": cut.valid,
        "window_limit": limits,
        "window_episode": cut.episode,
        "window_step": cut.step,
        "window_reward_prediction": stacked("reward"),
        "window_terminated_prediction": stacked("terminated"),
        "samples_end": np.array([*(m.card.termination == "sample" for m in models.values()), True]),
        **{f"reward_{ours}": np.array(train[name].item()) for ours, name in _NAMES.items()},
        "reward_event": np.array(_event(dataset)),
        "control_hz": np.array(dataset.task.control_hz),
    }
    meta = {"task": dataset.task.id, "dataset": dataset.digest, "split": split, "limit": limit, "seed": seed}
    return Recording("heads", arrays, meta)


_NAMES = {"mean": "mean", "std": "std", "low": "min", "high": "max"}


def beyond(cut: Windows, limits: np.ndarray) -> Windows:
    """Windows whose actions go on after the true end, by repeating the last one, so that a late end can be seen.

    Args:
        cut: The windows.
        limits: (W,) steps that each may be imagined for.
    """
    steps = np.arange(cut.valid.shape[1])
    last = np.minimum(steps, cut.valid.sum(1, keepdims=True) - 1)  # (W, H)
    action = np.take_along_axis(cut.action, last[..., None], axis=1)
    return dataclasses.replace(cut, action=action, valid=steps < limits[:, None])


def _marginal(dataset: Dataset) -> dict[str, float]:
    """Means of the train split: reward, and rates of termination and success per step."""
    every = [dataset.arrays(int(i)) for i in dataset.episodes("train")]
    steps = sum(len(e["reward"]) for e in every)
    return {head: sum(float(e[head].sum()) for e in every) / steps for head in HEADS}


def _event(dataset: Dataset) -> float:
    """Above which a reward is an event: the smallest of a sparse one, 0 for one of both signs; NaN for any other."""
    reward = np.concatenate([dataset.arrays(int(i))["reward"] for i in dataset.episodes("train")])
    low, high = float(reward.min()), float(reward.max())
    if low < high and (reward == low).mean() >= SPARSE:
        return low
    return 0.0 if low < 0 < high else float("nan")
