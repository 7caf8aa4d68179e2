"""Records what an inverse model, frozen on true transitions, recovers from true and from predicted transitions."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wmbench import checkpoints, registry
from wmbench.episodes import Dataset
from wmbench.errors import DatasetError
from wmbench.protocols import InverseModel, WorldModel
from wmbench.recording.branching import branch_model, branch_true, elsewhere
from wmbench.recording.drift import Windows, cut_windows
from wmbench.recording.recorder import Recorder, Subjects
from wmbench.recording.store import Recording
from wmbench.recording.subjects import baselines, check_models
from wmbench.registration import shipped_checkpoints

REFERENCE = "inverse"
"""Registered name of the reference inverse model."""


@dataclass(frozen=True)
class Inverse:
    """An inverse model and where it comes from.

    Attributes:
        model: The model.
        source: ``"shipped"``, ``"fitted"`` to the dataset's train split, or ``"given"``.
        digest: SHA-256 of its weights, ``""`` if it has none.
    """

    model: InverseModel
    source: str
    digest: str

    def meta(self) -> dict[str, str]:
        """For a recording."""
        return {"inverse_model": self.source, "inverse_digest": self.digest}


def reference_inverse(dataset: Dataset, given: InverseModel | Inverse | None = None, *, seed: int = 0) -> Inverse:
    """The inverse model to judge by: the given one, the task's shipped one, or one fitted to the train split.

    Args:
        dataset: Of the task; read only if nothing is given or shipped.
        given: One to use instead.
        seed: Of the fit.

    Raises:
        DatasetError: The given one is of another task.
    """
    if isinstance(given, Inverse):
        found = given
    elif given is not None:
        found = Inverse(given, "given", checkpoints.digest(given) if hasattr(given, "state_dict") else "")
    elif (REFERENCE, dataset.task.id) in shipped_checkpoints():
        model = checkpoints.resolve(REFERENCE, dataset.task, kind="inverse_model")
        found = Inverse(model, "shipped", checkpoints.digest(model))
    else:
        cls = registry.inverse_models.load(REFERENCE)
        with tempfile.TemporaryDirectory() as folder:
            model = cls.fit(cls.PRESETS["quick"], dataset, folder=Path(folder), seed=seed, progress=False)
        found = Inverse(model, "fitted", checkpoints.digest(model))
    if found.model.task.id != dataset.task.id:
        raise DatasetError(f"the inverse model is of {found.model.task.id}, the dataset of {dataset.task.id}")
    return found


def recover(inverse: InverseModel, observation: np.ndarray, following: np.ndarray) -> np.ndarray:
    """What the members recover from pairs of observations of any shape.

    Args:
        inverse: The inverse model.
        observation: (..., O).
        following: (..., O), one control step later.

    Returns:
        (E, ..., A) float32, NaN where an observation is not finite.
    """
    shape = observation.shape
    now, then = (np.asarray(a, np.float32).reshape(-1, shape[-1]) for a in (observation, following))
    lost = ~np.isfinite(np.concatenate([now, then], axis=1)).all(1, keepdims=True)
    action = inverse.recover(np.where(lost, np.float32(0), now), np.where(lost, np.float32(0), then))  # (E, B, A)
    return np.where(lost, np.float32(np.nan), action).reshape(len(action), *shape[:-1], action.shape[-1])


def record_recoverability(
    models: Mapping[str, WorldModel],
    dataset: Dataset,
    *,
    inverse: InverseModel | Inverse | None = None,
    split: str = "test",
    starts: int = 2000,
    seed: int = 0,
    with_baselines: bool = True,
) -> Recording:
    """Let every model imagine single steps from true states, and the inverse model read the actions off them.

    Each state is left under the recorded action and, where the dataset has simulator states, under one recorded
    elsewhere, whose outcome the true simulator says. A model that draws its predictions is asked for one draw, which is
    what an agent inside it would see.

    Args:
        models: Name to model, all of the dataset's task.
        dataset: Its train split gives the scale of actions and fits the baselines.
        inverse: The inverse model; None for the task's reference, see :func:`reference_inverse`.
        split: Where the states come from.
        starts: N, how many.
        seed: Of the choice of states and actions, of the models' keys, and of the fit if there is one.
        with_baselines: Whether copy-last, mean-delta and linear stand beside the models (those not given already).

    Raises:
        DatasetError: A model of another task, or an empty split.
    """
    check_models(models, dataset)
    judge = reference_inverse(dataset, inverse, seed=seed)
    cut = cut_windows(dataset, split, starts, 1, seed)
    branches, action, truth, valid = _transitions(dataset, cut, seed)  # (N, B, A), (N, B, O), (N, B)
    first = np.repeat(cut.truth[:, :1], len(branches), axis=1)  # (N, B, O)
    names, roles = list(models), ["model"] * len(models)
    found = [
        branch_model(m, cut.truth[:, 0], cut.state, action[:, :, None], seed)["observation"][:, :, 0]
        for m in models.values()
    ]
    for name, rule in (baselines(dataset) if with_baselines else {}).items():
        if name not in models:
            names, roles = [*names, name], [*roles, "baseline"]
            found.append(rule(first, action))
    with np.errstate(over="ignore"):
        prediction = np.stack(found).astype(np.float32)  # (M, N, B, O)
    low, high = dataset.task.action_bounds()
    arrays: dict[str, Any] = {
        "subject": np.array(names),
        "role": np.array(roles),
        "branch": np.array(branches),
        "action_name": np.array([d.name for d in dataset.task.action]),
        "action_low": low,
        "action_high": high,
        "action_mean": dataset.stats["action"]["mean"],
        "action": action,
        "valid": valid,
        "recovered_true": recover(judge.model, first, truth),
        "recovered": np.stack([recover(judge.model, first, p) for p in prediction]),
        "truth": truth,
        "episode": cut.episode,
        "step": cut.step,
    }
    meta = {"task": dataset.task.id, "dataset": dataset.digest, "split": split, "seed": seed, **judge.meta()}
    return Recording("recoverability", arrays, meta)


def _transitions(dataset: Dataset, cut: Windows, seed: int) -> tuple[list[str], np.ndarray, np.ndarray, np.ndarray]:
    """Kinds of actions (B), actions (N, B, A), true next observations (N, B, O), and which of them there are (N, B)."""
    if cut.state is None or len(cut.action) < 2:
        return ["recorded"], cut.action, cut.truth[:, 1:], cut.valid
    other = cut.action[elsewhere(len(cut.action), seed)]
    action = np.concatenate([other, cut.action], axis=1)  # (N, 2, A)
    true = branch_true(dataset.task, cut.state, action[:, :, None])
    return ["elsewhere", "recorded"], action, true.observation[:, :, 0], true.valid[:, :, 0]


def _record(subjects: Subjects, **options: Any) -> Recording:
    return record_recoverability(subjects.models, subjects.dataset, **{"seed": subjects.seed, **options})


RECORDER = Recorder("recoverability", _record)
