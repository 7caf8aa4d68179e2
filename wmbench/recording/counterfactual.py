"""Records branches: the same state under other actions, in the true simulator and in every model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from wmbench.cards import TaskCard
from wmbench.episodes import Dataset
from wmbench.errors import DatasetError
from wmbench.keys import fold_in, keys_from_seeds
from wmbench.protocols import Start, WorldModel
from wmbench.recording.drift import cut_windows
from wmbench.recording.one_step import heads_of
from wmbench.recording.store import Recording
from wmbench.recording.subjects import AffineDelta, baselines, check_models, describe, device_of

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
    known[:, BRANCHES.index("data")] &= cut.valid[_others(starts, seed)]
    simulator = gym.make(dataset.task.id).unwrapped
    try:
        truth, valid = _branch(simulator, cut.state, action, known)
    finally:
        simulator.close()
    first = cut.truth[:, 0]
    names, roles = list(models), ["model"] * len(models)
    found = [_imagine(model, first, cut.state, action, seed) for model in models.values()]
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
        "truth": truth,
        "valid": valid,
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
    every = np.stack([recorded, near, recorded[_others(n, seed)], corner], axis=1)
    return np.clip(every, low, high).astype(np.float32)


def _others(n: int, seed: int) -> np.ndarray:
    """A permutation of n items in which nobody keeps its place (for n > 1)."""
    order = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(2,))).permutation(n)
    partner = np.empty(n, dtype=np.int64)
    partner[order] = np.roll(order, 1)
    return partner


def _branch(simulator: Any, states: np.ndarray, action: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """True observations (N, B, K, O) float32, and which steps there were (N, B, K): up to the end of the episode."""
    n, branches, steps, _ = action.shape
    out, valid = None, np.zeros((n, branches, steps), dtype=bool)
    for i in range(n):
        for b in range(branches):
            observation = simulator.set_state(states[i])
            if out is None:
                out = np.zeros((n, branches, steps, len(observation)), np.float32)
            for k in range(int(known[i, b].sum())):
                out[i, b, k], _, terminated, truncated, _ = simulator.step(action[i, b, k])
                valid[i, b, k] = True
                if terminated or truncated:
                    break
    assert out is not None  # cut_windows returns at least one window
    return out, valid


def _imagine(model: WorldModel, first: np.ndarray, states: np.ndarray, action: np.ndarray, seed: int) -> np.ndarray:
    """A model's observations of every branch, (N, B, K, O) float64."""
    n, branches, steps, size = action.shape
    device = device_of(model)
    keys = np.repeat(fold_in(keys_from_seeds(np.arange(n)), seed), branches)
    start = Start(
        observation=torch.from_numpy(np.repeat(first, branches, axis=0)).to(device),
        sim_state=torch.from_numpy(np.repeat(states, branches, axis=0)),
    )
    given = torch.from_numpy(action.reshape(n * branches, steps, size)).to(device)
    out = []
    with torch.no_grad():
        state = model.initial(start, keys=torch.from_numpy(keys).to(device))
        for k in range(steps):
            state, answer = model.step(state, given[:, k])
            out.append(heads_of(answer)["observation"])
    return np.stack(out, axis=1).reshape(n, branches, steps, -1)


def _repeat(rule: AffineDelta, first: np.ndarray, action: np.ndarray) -> np.ndarray:
    """A baseline's observations of every branch, (N, B, K, O) float64."""
    observation = np.repeat(first[:, None].astype(np.float64), action.shape[1], axis=1)
    out = []
    for k in range(action.shape[2]):
        observation = rule(observation, action[:, :, k])
        out.append(observation)
    return np.stack(out, axis=2)
