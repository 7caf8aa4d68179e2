"""Records where bodies touch along windows of real episodes, and what models predict there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np

from wmbench.cards import TaskCard
from wmbench.episodes import Dataset
from wmbench.errors import DatasetError
from wmbench.floors import floor_arrays
from wmbench.protocols import WorldModel
from wmbench.recording.drift import cut_windows
from wmbench.recording.exposure import both_ways, window_states
from wmbench.recording.recorder import Recorder, Subjects
from wmbench.recording.store import Recording
from wmbench.recording.subjects import check_models, describe


def record_contacts(
    models: Mapping[str, WorldModel],
    dataset: Dataset,
    *,
    split: str = "test",
    horizon: int = 50,
    windows: int = 64,
    seed: int = 0,
    with_baselines: bool = True,
    simulator: Any = None,
) -> Recording:
    """Ask the true simulator what touches at every step of some windows, and every model to predict them.

    Args:
        models: Name to model, all of the dataset's task.
        dataset: With simulator states; its train split gives the scales and fits the baselines.
        split: Which split is scored.
        horizon: H, steps of a window.
        windows: W.
        seed: Of the choice of windows and of the models' keys.
        with_baselines: Whether copy-last, mean-delta and linear stand beside the models (those not given already).
        simulator: The true one, with a method ``contacts``; None makes the task's own.

    Raises:
        DatasetError: A model of another task, an empty split, or a dataset without simulator states.
    """
    check_models(models, dataset)
    cut = cut_windows(dataset, split, windows, horizon, seed)
    states = window_states(dataset, cut)
    if states is None:
        raise DatasetError(f"{dataset.folder}: contacts need simulator states, which this dataset does not hold")
    pairs, touching, known = _touching(dataset.task, states, cut.valid, simulator)
    arrays = {
        **both_ways(models, dataset, cut, states, seed, with_baselines=with_baselines),
        "pair": np.array(pairs, dtype=np.str_),
        "touching": touching,
        "contacts_known": np.array(known),
        **describe(dataset),
        **floor_arrays(dataset.task),
    }
    meta = {"task": dataset.task.id, "dataset": dataset.digest, "split": split, "seed": seed}
    return Recording("contact", arrays, meta)


def _touching(
    task: TaskCard, states: np.ndarray, valid: np.ndarray, simulator: Any
) -> tuple[list[str], np.ndarray, bool]:
    """Pairs that ever touch, which of them do at each step (W, H + 1, P), and whether the simulator says so at all."""
    own: Any = gym.make(task.id, **task.options()).unwrapped if simulator is None else simulator
    try:
        found: dict[tuple[int, int], frozenset[str]] = {}
        for w, steps in enumerate(valid.sum(1)):
            for h in range(int(steps) + 1):
                own.set_state(states[w, h])
                seen = own.contacts()
                if seen is None:
                    return [], np.zeros((*states.shape[:2], 0), dtype=bool), False
                found[w, h] = seen
    finally:
        if simulator is None:
            own.close()
    pairs = sorted(frozenset().union(*found.values()))
    touching = np.zeros((*states.shape[:2], len(pairs)), dtype=bool)
    for at, seen in found.items():
        touching[at] = [pair in seen for pair in pairs]
    return pairs, touching, True


def _record(subjects: Subjects, **options: Any) -> Recording:
    return record_contacts(subjects.models, subjects.dataset, **{"seed": subjects.seed, **options})


RECORDER = Recorder("contact", _record)
