"""Records open-loop rollouts of models from true states, under the actions that were really taken."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from wmbench.episodes import Dataset
from wmbench.errors import DatasetError
from wmbench.floors import floor_arrays
from wmbench.keys import fold_in, keys_from_seeds
from wmbench.protocols import Start, WorldModel
from wmbench.recording.floor import SCALES, record_floor
from wmbench.recording.one_step import HEADS, heads_of
from wmbench.recording.store import Recording
from wmbench.recording.subjects import AffineDelta, baselines, check_models, describe, device_of
from wmbench.trees import gather


@dataclass(frozen=True)
class Windows:
    """Stretches of recorded episodes. What lies past an episode's end is zero and not valid.

    Attributes:
        truth: (W, H + 1, O) float32 observations.
        action: (W, H, A) float32.
        reward: (W, H) float64.
        terminated: (W, H) bool.
        success: (W, H) bool.
        valid: (W, H) bool, True up to the episode's end.
        state: (W, S) float64, the true simulator's state at the start, or None.
        episode: (W,) int.
        step: (W,) int, where in the episode the window begins.
    """

    truth: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray
    success: np.ndarray
    valid: np.ndarray
    state: np.ndarray | None
    episode: np.ndarray
    step: np.ndarray


def cut_windows(
    dataset: Dataset, split: str, windows: int, horizon: int, seed: int, episodes: np.ndarray | None = None
) -> Windows:
    """Draw windows, spread evenly over the split's episodes.

    Starts are uniform among those that leave a whole horizon; a shorter episode is taken from its beginning.

    Args:
        dataset: Where from.
        split: Which split.
        windows: W.
        horizon: H.
        seed: The same seed gives the same windows.
        episodes: Only from these; None for all of the split.

    Raises:
        DatasetError: The split is empty.
    """
    episodes = dataset.episodes(split) if episodes is None else episodes
    if not len(episodes):
        raise DatasetError(f"{dataset.folder}: the split {split!r} is empty; collect more episodes")
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(horizon,)))
    rounds = -(-windows // len(episodes))
    chosen = np.sort(np.concatenate([rng.permutation(episodes) for _ in range(rounds)])[:windows])
    n_observation, n_action = len(dataset.task.observation), len(dataset.task.action)
    truth = np.zeros((windows, horizon + 1, n_observation), np.float32)
    action = np.zeros((windows, horizon, n_action), np.float32)
    reward = np.zeros((windows, horizon))
    terminated, success, valid = (np.zeros((windows, horizon), dtype=bool) for _ in range(3))
    starts = np.zeros(windows, dtype=np.int64)
    states = []
    for w, index in enumerate(chosen):
        episode = dataset.episode(int(index))
        start = starts[w] = rng.integers(max(0, len(episode) - horizon) + 1)
        steps = min(horizon, len(episode) - int(start))
        rows = slice(int(start), int(start) + steps)
        truth[w, : steps + 1] = episode.observation[start : start + steps + 1]
        action[w, :steps], reward[w, :steps] = episode.action[rows], episode.reward[rows]
        terminated[w, :steps], success[w, :steps] = episode.terminated[rows], episode.success[rows]
        valid[w, :steps] = True
        if episode.state is not None:
            states.append(episode.state[start])
    state = np.stack(states) if len(states) == windows else None
    return Windows(truth, action, reward, terminated, success, valid, state, chosen, starts)


def record_drift(
    models: Mapping[str, WorldModel],
    dataset: Dataset,
    *,
    split: str = "test",
    horizon: int = 100,
    windows: int = 64,
    seed: int = 0,
    floor: bool = True,
    with_baselines: bool = True,
) -> Recording:
    """Let every model imagine what followed from recorded states under the recorded actions.

    A model that draws its predictions is followed along one draw per window, as an agent inside it would be.

    Args:
        models: Name to model, all of the dataset's task.
        dataset: Where the windows come from; its train split gives the scales and fits the baselines.
        split: Which split is scored.
        horizon: H, steps of a window.
        windows: W.
        seed: Of the choice of windows, of the models' keys and of the disturbances.
        floor: Whether to run the true simulator from disturbed states beside the models. Left out, with a note in
            the recording's meta, where the dataset or the simulator does not allow it. Where there is none the
            floor that ships with the task stands in, in the nominal world.
        with_baselines: Whether copy-last, mean-delta and linear stand beside the models (those not given already).

    Raises:
        DatasetError: A model of another task, or an empty split.
    """
    check_models(models, dataset)
    cut = cut_windows(dataset, split, windows, horizon, seed)
    names, roles, disturbance = list(models), ["model"] * len(models), [0.0] * len(models)
    found = [imagine(model, cut, seed) for model in models.values()]
    for name, rule in (baselines(dataset) if with_baselines else {}).items():
        if name not in models:
            names, roles, disturbance = [*names, name], [*roles, "baseline"], [*disturbance, 0.0]
            found.append({"observation": repeat(rule, cut)})
    meta = {"task": dataset.task.id, "dataset": dataset.digest, "split": split, "seed": seed}
    if floor:
        twins, why = record_floor(dataset, cut.state, cut.action, cut.valid, seed)
        meta["floor"] = why or f"disturbances of {', '.join(f'{s:g}' for s in SCALES)} standard deviations"
        for scale, twin in twins.items():
            names, roles, disturbance = [*names, f"true+{scale:g}"], [*roles, "floor"], [*disturbance, scale]
            found.append({"observation": twin})
    blank = np.zeros(cut.valid.shape)
    with np.errstate(over="ignore"):
        prediction = np.stack([f["observation"] for f in found]).astype(np.float32)
    arrays = {
        "subject": np.array(names),
        "role": np.array(roles),
        "disturbance": np.array(disturbance),
        "truth": cut.truth,
        "action": cut.action,
        "reward": cut.reward,
        "terminated": cut.terminated,
        "success": cut.success,
        "valid": cut.valid,
        "episode": cut.episode,
        "step": cut.step,
        "prediction": prediction,
        **{f"{head}_prediction": np.stack([f.get(head, blank) for f in found]) for head in HEADS},
        **{f"has_{head}": np.array([head in f for f in found]) for head in HEADS},
        **describe(dataset),
    }
    if "floor" not in roles:
        arrays |= floor_arrays(None if "world" in dataset.manifest else dataset.task)
    return Recording("drift", arrays, meta)


def imagine(model: WorldModel, cut: Windows, seed: int, *, uncertainty: bool = False) -> dict[str, np.ndarray]:
    """Open-loop rollouts of a model. Rows leave the batch when their window ends.

    Args:
        model: Which model.
        cut: From where, under which actions, for how long.
        seed: Of the model's keys.
        uncertainty: Whether to ask for it as well; see :func:`wmbench.recording.one_step.heads_of`.

    Returns:
        ``observation`` (W, H, O) and the heads that the model has, (W, H), float64; zero past a window's end.
    """
    device = device_of(model)
    windows, horizon = cut.valid.shape
    keys = fold_in(keys_from_seeds(np.arange(windows)), seed)
    start = Start(
        observation=torch.from_numpy(cut.truth[:, 0]).to(device),
        sim_state=None if cut.state is None else torch.from_numpy(cut.state),
    )
    action = torch.from_numpy(cut.action).to(device)
    out: dict[str, np.ndarray] = {}
    with torch.no_grad():
        state = model.initial(start, keys=torch.from_numpy(keys).to(device))
        live = np.arange(windows)
        for h in range(horizon):
            stay = cut.valid[live, h]
            if not stay.all():
                live = live[stay]
                state = gather(state, torch.from_numpy(np.flatnonzero(stay)).to(device))
            if not len(live):
                break
            state, answer = model.step(state, action[live, h], uncertainty=uncertainty)
            for head, values in heads_of(answer, uncertainty=uncertainty).items():
                out.setdefault(head, np.zeros((windows, horizon, *values.shape[1:])))[live, h] = values
    return out


def repeat(rule: AffineDelta, cut: Windows) -> np.ndarray:
    """Open-loop rollouts of a baseline, (W, H, O) float64."""
    observation = cut.truth[:, 0].astype(np.float64)
    steps = []
    for h in range(cut.action.shape[1]):
        observation = rule(observation, cut.action[:, h])
        steps.append(observation)
    return np.stack(steps, axis=1)
