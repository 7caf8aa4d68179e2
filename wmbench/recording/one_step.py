"""Records one-step predictions on a dataset's test split, of models and of the baselines beside them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from wmbench.episodes import Dataset
from wmbench.errors import DatasetError
from wmbench.keys import fold_in, keys_from_seeds
from wmbench.protocols import Prediction, Start, WorldModel
from wmbench.recording.store import Recording
from wmbench.recording.subjects import baselines, check_models, describe, device_of

CHUNK = 2048
DRAWS = 16
HEADS = ("reward", "terminated", "success")


def record_one_step(
    models: Mapping[str, WorldModel],
    dataset: Dataset,
    *,
    split: str = "test",
    limit: int = 4000,
    draws: int = DRAWS,
    seed: int = 0,
    with_baselines: bool = True,
) -> Recording:
    """Ask every model for one step from true observations.

    A model that draws its prediction is asked several times with other keys, and the mean of the draws is what
    is scored; one whose first two answers agree is taken to be deterministic.

    Args:
        models: Name to model, all of the dataset's task.
        dataset: Where the transitions come from; its train split gives the scales and fits the baselines.
        split: Which split is scored.
        limit: At most this many transitions, drawn without replacement.
        draws: Predictions per transition of a model that draws them.
        seed: Of the choice of transitions and of the models' keys.
        with_baselines: Whether copy-last, mean-delta and linear stand beside the models (those not given already).

    Raises:
        DatasetError: A model of another task, or an empty split.
    """
    check_models(models, dataset)
    steps = dataset.transitions(split, limit, seed)
    states = _states(dataset, steps) if "state" in dataset.fields else None
    n, (m, o) = len(steps["reward"]), (len(models), len(dataset.task.observation))
    prediction, spread = np.zeros((m, n, o)), np.zeros((m, n, o))
    heads = {head: np.zeros((m, n)) for head in HEADS}
    has = {head: np.zeros(m, dtype=bool) for head in HEADS}
    drawn = np.ones(m, dtype=np.int64)
    for i, model in enumerate(models.values()):
        total, squares = np.zeros((n, o)), np.zeros((n, o))
        first = np.zeros((n, o))
        for draw in range(draws):
            answers = _predict(model, steps, states, seed, draw)
            observation = answers["observation"]
            if draw == 0:
                first = observation
            offset = observation - first  # sums of offsets, so that equal answers have a spread of exactly 0
            total, squares = total + offset, squares + offset**2
            for head in HEADS:
                if head in answers:
                    has[head][i] = True
                    heads[head][i] += answers[head]
            drawn[i] = draw + 1
            if draw == 1 and np.array_equal(observation, first, equal_nan=True):
                break
        k = drawn[i]
        with np.errstate(invalid="ignore", over="ignore"):
            prediction[i] = first + total / k
            spread[i] = np.sqrt(np.maximum(squares / k - (total / k) ** 2, 0.0) * k / max(k - 1, 1))
        for head in HEADS:
            heads[head][i] /= k
    names, roles = list(models), ["model"] * m
    extra = [b for b in baselines(dataset).items() if b[0] not in models] if with_baselines else []
    fitted = [np.asarray(f(steps["observation"], steps["action"]))[None] for _, f in extra]
    pad = len(extra)
    arrays = {
        "subject": np.array(names + [name for name, _ in extra]),
        "role": np.array(roles + ["baseline"] * pad),
        "draws": np.concatenate([drawn, np.ones(pad, dtype=np.int64)]),
        "observation": steps["observation"],
        "action": steps["action"],
        "next_observation": steps["next_observation"],
        "reward": steps["reward"],
        "terminated": steps["terminated"],
        "success": steps["success"],
        "episode": steps["episode"],
        "step": steps["step"],
        "prediction": np.concatenate([prediction, *fitted]).astype(np.float32),
        "prediction_std": np.concatenate([spread, np.zeros((pad, n, o))]).astype(np.float32),
        **{f"{head}_prediction": np.concatenate([heads[head], np.zeros((pad, n))]) for head in HEADS},
        **{f"has_{head}": np.concatenate([has[head], np.zeros(pad, dtype=bool)]) for head in HEADS},
        **describe(dataset),
    }
    meta = {"task": dataset.task.id, "dataset": dataset.digest, "split": split, "limit": limit, "seed": seed}
    return Recording("one-step", arrays, meta)


def _predict(
    model: WorldModel, steps: dict[str, np.ndarray], states: np.ndarray | None, seed: int, draw: int
) -> dict[str, np.ndarray]:
    """One prediction for every transition, in chunks: head name to (N, ...) float64."""
    device = device_of(model)
    n = len(steps["reward"])
    keys = fold_in(fold_in(keys_from_seeds(np.arange(n)), seed), draw)
    parts: dict[str, list[np.ndarray]] = {}
    for start in range(0, n, CHUNK):
        rows = slice(start, start + CHUNK)
        begin = Start(
            observation=torch.from_numpy(steps["observation"][rows]).to(device),
            sim_state=None if states is None else torch.from_numpy(states[rows]),
        )
        with torch.no_grad():
            state = model.initial(begin, keys=torch.from_numpy(keys[rows]).to(device))
            _, answer = model.step(state, torch.from_numpy(steps["action"][rows]).to(device))
        for head, values in heads_of(answer).items():
            parts.setdefault(head, []).append(values)
    return {head: np.concatenate(values) for head, values in parts.items()}


def heads_of(answer: Prediction, *, uncertainty: bool = False) -> dict[str, np.ndarray]:
    """The heads that a prediction has, as float64 arrays: observation (B, O), the others (B,).

    With ``uncertainty`` also ``observation_std`` (B, O), and every signal as ``uncertainty/<name>`` (B,).
    """
    found = {head: getattr(answer, head) for head in ("observation", *HEADS)}
    if uncertainty:
        found["observation_std"] = answer.observation_std
        found |= {f"uncertainty/{name}": values for name, values in (answer.uncertainty or {}).items()}
    return {head: v.detach().cpu().double().numpy() for head, v in found.items() if v is not None}


def _states(dataset: Dataset, steps: dict[str, np.ndarray]) -> np.ndarray:
    """The true simulator's state before each transition, (N, S) float64."""
    rows = []
    for episode in np.unique(steps["episode"]):
        state = dataset.episode(int(episode)).state
        if state is None:
            raise DatasetError(f"{dataset.folder}: episode {episode} has no simulator state, though others do")
        rows.append(state[steps["step"][steps["episode"] == episode]])
    return np.concatenate(rows)
