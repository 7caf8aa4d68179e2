"""Records branches: the same state under other actions, in the true simulator and in every model."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from wmbench.cards import TaskCard
from wmbench.episodes import Dataset
from wmbench.errors import DatasetError
from wmbench.protocols import WorldModel
from wmbench.recording.branching import branch_model, branch_true, elsewhere
from wmbench.recording.drift import cut_windows
from wmbench.recording.store import Recording
from wmbench.recording.subjects import AffineDelta, baselines, check_models, describe

BRANCHES = ("recorded", "near", "data", "corner")
NEAR = 0.1
"""Length of a near action's offset, in half widths of the action's box."""


def record_counterfactuals(
    models: Mapping[str, WorldModel],
    dataset: Dataset,
    *,
    split: str = "test",
    starts: int = 128,
    steps: int = 10,
    seed: int = 0,
    with_baselines: bool = True,
) -> Recording:
    """Branch the true simulator and every model from the same states.

    Each state is left under four sequences of actions: the recorded one; one ``near`` it, offset by a tenth of the
    box's half width in a random direction; one from the ``data``, recorded elsewhere; and a random ``corner`` of the
    box, held, which hardly any dataset contains. All truths are branches restored from the saved state, the
    recorded one included. A model that draws its predictions uses the same random numbers in all branches of a
    state, so that only the action differs.

    Args:
        models: Name to model, all of the dataset's task.
        dataset: With simulator states; its train split gives the scales and fits the baselines.
        split: Where the states come from.
        starts: N, how many.
        steps: K, length of the sequences.
        seed: Of the choice of states and actions and of the models' keys.
        with_baselines: Whether copy-last, mean-delta and linear stand beside the models (those not given already).

    Raises:
        DatasetError: A model of another task, an empty split, or a dataset without simulator states.
    """
    check_models(models, dataset)
    cut = cut_windows(dataset, split, starts, steps, seed)
    if cut.state is None:
        raise DatasetError(f"{dataset.folder}: branching needs simulator states, which this dataset does not hold")
    action = branch_actions(dataset.task, cut.action, seed)  # (N, B, K, A)
    known = np.repeat(cut.valid[:, None], len(BRANCHES), axis=1)
    known[:, BRANCHES.index("data")] &= cut.valid[elsewhere(starts, seed)]
    true = branch_true(dataset.task, cut.state, action, known)
    first = cut.truth[:, 0]
    names, roles = list(models), ["model"] * len(models)
    found = [branch_model(model, first, cut.state, action, seed)["observation"] for model in models.values()]
    for name, rule in (baselines(dataset) if with_baselines else {}).items():
        if name not in models:
            names, roles = [*names, name], [*roles, "baseline"]
            found.append(_repeat(rule, first, action))
    with np.errstate(over="ignore"):
        prediction = np.stack(found).astype(np.float32)
    arrays = {
        "subject": np.array(names),
        "role": np.array(roles),
        "branch": np.array(BRANCHES),
        "observation": first,
        "action": action,
        "truth": true.observation,
        "valid": true.valid,
        "prediction": prediction,
        "episode": cut.episode,
        "step": cut.step,
        **describe(dataset),
    }
    meta = {"task": dataset.task.id, "dataset": dataset.digest, "split": split, "seed": seed}
    return Recording("counterfactual", arrays, meta)


def branch_actions(task: TaskCard, recorded: np.ndarray, seed: int) -> np.ndarray:
    """The action sequences of every branch.

    Args:
        task: Gives the box.
        recorded: (N, K, A) float32.
        seed: Of directions, partners and corners.

    Returns:
        (N, B, K, A) float32 inside the box, in the order of :data:`BRANCHES`.
    """
    n, _, size = recorded.shape
    low, high = task.action_bounds()
    half = (high - low) / 2
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(1,)))
    direction = rng.normal(size=(n, 1, size))
    offset = NEAR * half * direction / np.linalg.norm(direction, axis=-1, keepdims=True)
    inside = (recorded + offset >= low) & (recorded + offset <= high)
    near = np.where(inside, recorded + offset, recorded - offset)  # at the box's edge, the other way
    corner = np.broadcast_to(np.where(rng.random((n, 1, size)) < 0.5, low, high), recorded.shape)
    every = np.stack([recorded, near, recorded[elsewhere(n, seed)], corner], axis=1)
    return np.clip(every, low, high).astype(np.float32)


def _repeat(rule: AffineDelta, first: np.ndarray, action: np.ndarray) -> np.ndarray:
    """A baseline's observations of every branch, (N, B, K, O) float64."""
    observation = np.repeat(first[:, None].astype(np.float64), action.shape[1], axis=1)
    out = []
    for k in range(action.shape[2]):
        observation = rule(observation, action[:, :, k])
        out.append(observation)
    return np.stack(out, axis=2)
