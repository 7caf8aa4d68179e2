"""Records imagined states, and how far the task's own bodies, posed as they say, would break the laws they obey."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np

from wmbench.cards import TaskCard
from wmbench.episodes import Dataset
from wmbench.measures.geometry import Geometry
from wmbench.protocols import WorldModel
from wmbench.recording.drift import cut_windows, imagine, repeat
from wmbench.recording.recorder import Recorder, Subjects
from wmbench.recording.store import Recording
from wmbench.recording.subjects import baselines, check_models, describe

POSITIONS = ("m", "rad")
TRUE = "true"


def record_constraints(
    models: Mapping[str, WorldModel],
    dataset: Dataset,
    *,
    split: str = "test",
    horizon: int = 100,
    windows: int = 48,
    limit: int = 5000,
    seed: int = 0,
    with_baselines: bool = True,
    simulator: Any = None,
) -> Recording:
    """Let every model imagine, and pose the true simulator from every imagined state.

    What real states show, at most, is read off the train split; the test split's real states stand beside the models
    as subject ``true``.

    Args:
        models: Name to model, all of the dataset's task.
        dataset: Where the windows come from; its train split gives the limits and fits the baselines.
        split: Which split is scored.
        horizon: H, steps of a window.
        windows: W.
        limit: Transitions of the train split that are read for limits.
        seed: Of the choice of windows and of the models' keys.
        with_baselines: Whether copy-last, mean-delta and linear stand beside the models (those not given already).
        simulator: The true one, with a method ``violations``; None makes the task's own.

    Raises:
        DatasetError: A model of another task, or an empty split.
    """
    check_models(models, dataset)
    cut = cut_windows(dataset, split, windows, horizon, seed)
    names, roles = [TRUE, *models], ["true", *["model"] * len(models)]
    found = [cut.truth[:, 1:], *(imagine(model, cut, seed)["observation"] for model in models.values())]
    for name, rule in (baselines(dataset) if with_baselines else {}).items():
        if name not in models:
            names, roles = [*names, name], [*roles, "baseline"]
            found.append(repeat(rule, cut))
    with np.errstate(over="ignore"):
        prediction = np.stack(found).astype(np.float32)
    train = dataset.transitions("train", limit)
    before, after = train["observation"], train["next_observation"]
    own: Any = gym.make(dataset.task.id, **dataset.task.options()).unwrapped if simulator is None else simulator
    try:
        laws, posed = _posed(own, prediction, cut.valid)
        start, earlier, later = (_values(own, laws, rows) for rows in (cut.truth[:, 0], before, after))
    finally:
        if simulator is None:
            own.close()
    arrays = {
        "subject": np.array(names),
        "role": np.array(roles),
        "start": cut.truth[:, 0],
        "valid": cut.valid,
        "episode": cut.episode,
        "step": cut.step,
        "prediction": prediction,
        "has_pose": np.array(bool(dataset.task.pose)),
        "posed": np.array(laws, dtype=np.str_),
        "posed_value": posed,
        "posed_start": start,
        "posed_before": earlier,
        "posed_after": later,
        **_motion(dataset.task, before, after),
        **describe(dataset),
    }
    meta = {"task": dataset.task.id, "dataset": dataset.digest, "split": split, "seed": seed, "limit": limit}
    return Recording("constraints", arrays, meta)


def _posed(simulator: Any, prediction: np.ndarray, valid: np.ndarray) -> tuple[list[str], np.ndarray]:
    """What the simulator says of every imagined state: names (L,) and values (M, W, H, L); 0 past a window's end."""
    rows = prediction[:, valid]  # (M, N, O)
    found = simulator.violations(rows.reshape(-1, rows.shape[-1]))
    laws = sorted(found)
    out = np.zeros((*prediction.shape[:3], len(laws)))
    if laws:
        out[:, valid] = np.stack([found[law] for law in laws], axis=-1).reshape(*rows.shape[:2], len(laws))
    return laws, out


def _values(simulator: Any, laws: list[str], rows: np.ndarray) -> np.ndarray:
    """The same for true observations (N, O): (N, L)."""
    found = simulator.violations(rows)
    return np.stack([found[law] for law in laws], axis=-1) if laws else np.zeros((len(rows), 0))


def _motion(task: TaskCard, before: np.ndarray, after: np.ndarray) -> dict[str, np.ndarray]:
    """How far positions move in a step of the train split, and which positions come with their velocity."""
    dims = task.observation
    names, kinds = np.array([d.name for d in dims]), np.array([d.kind for d in dims])
    geometry = Geometry.of(names, kinds, np.array([d.unit for d in dims]))
    place = [
        kind != "linear" or unit in POSITIONS or name.endswith(("sine", "cosine"))
        for name, kind, unit in zip(geometry.names, geometry.kinds, geometry.units, strict=True)
    ]
    moved = np.abs(geometry.difference(after, before)).max(0)  # (D,)
    index = {d.name: i for i, d in enumerate(dims)}
    pairs = [
        (i, index[velocity])
        for i, d in enumerate(dims)
        if d.kind != "quaternion" and (velocity := _velocity_of(d.name)) in index and d.unit in POSITIONS
    ]
    return {
        "step_limit": np.where(place, moved, np.nan),
        "moving_position": np.array([p for p, _ in pairs], dtype=np.int64),
        "moving_velocity": np.array([v for _, v in pairs], dtype=np.int64),
        "before": before,
        "after": after,
    }


def _velocity_of(position: str) -> str:
    """Name of the velocity that belongs to a position: ``hinge_velocity``, and of a free root ``root_velocity_z``."""
    if position.endswith("_position"):
        return position.removesuffix("_position") + "_velocity"
    body, _, axis = position.rpartition("_")
    return f"{body}_velocity_{axis}"


def _record(subjects: Subjects, **options: Any) -> Recording:
    return record_constraints(subjects.models, subjects.dataset, **{"seed": subjects.seed, **options})


RECORDER = Recorder("constraints", _record, anywhere=True)
