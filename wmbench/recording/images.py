"""Records pictures: what a model decodes or what its predicted states look like, beside the true ones."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from wmbench.episodes import Dataset
from wmbench.errors import DatasetError
from wmbench.keys import fold_in, keys_from_seeds
from wmbench.protocols import Start, WorldModel
from wmbench.recording.drift import Windows, cut_windows, imagine
from wmbench.recording.pretrained import Lpips, VideoNetwork
from wmbench.recording.store import Recording
from wmbench.recording.subjects import check_models, device_of

BASELINE = "copy-last"
"""The subject that shows the window's first picture at every step."""

FIELD = "rgb"
"""Stored pictures of a dataset, (T + 1, h, w, 3) uint8."""


def record_images(
    models: Mapping[str, WorldModel],
    dataset: Dataset,
    *,
    split: str = "test",
    horizon: int = 20,
    windows: int = 16,
    size: int = 64,
    seed: int = 0,
    lpips: Path | str | None = None,
    fvd: Path | str | None = None,
) -> Recording:
    """Draw open-loop predictions and the truth.

    Models that decode pixels (``render(state) -> (B, h, w, 3) uint8``) are compared with the dataset's own pictures of
    that size, or with the true simulator's in the recorded states. Models of states are compared as pictures of
    states: the prediction and the true observation are both drawn by posing the true simulator as the task's card says.

    Args:
        models: Name to model, all of the dataset's task, all decoding pixels or none.
        dataset: Where the windows come from.
        split: Which split is scored.
        horizon: H, steps of a window.
        windows: W.
        size: Height and width of pictures of states; a model that decodes pixels has its own size.
        seed: Of the choice of windows and of the models' keys.
        lpips: AlexNet's weights, see :class:`wmbench.recording.pretrained.Lpips`; None leaves LPIPS out.
        fvd: A video network, see :class:`wmbench.recording.pretrained.VideoNetwork`; None leaves FVD out.

    Raises:
        DatasetError: A model of another task, an empty split, models of both kinds, or no simulator states to draw.
        CheckpointError: Weights that are absent or of another kind.
        RenderError: No graphics backend works here, or the task's card has no pose.
    """
    check_models(models, dataset)
    perceptual = None if lpips is None else Lpips(lpips)
    network = None if fvd is None else VideoNetwork(fvd)
    cut = cut_windows(dataset, split, windows, horizon, seed)
    decoding = [name for name, model in models.items() if hasattr(model, "render")]
    if decoding and len(decoding) < len(models):
        others = sorted(set(models) - set(decoding))
        raise DatasetError(f"models {decoding} decode pixels and {others} do not: record them apart")
    if decoding:
        pictures = [_decoded(model, cut, seed) for model in models.values()]
        sizes = {p.shape[2:4] for p, _ in pictures}
        if len(sizes) > 1:
            raise DatasetError(f"models {decoding} decode pictures of the sizes {sorted(sizes)}: record them apart")
        seen = _true_pictures(dataset, cut, sizes.pop())
    else:
        square = (size, size)
        with closing(_simulator(dataset, square)) as simulator, np.errstate(over="ignore"):
            seen = _posed(simulator, cut.truth, np.pad(cut.valid, ((0, 0), (1, 0)), constant_values=True), square)[0]
            states = [imagine(model, cut, seed)["observation"].astype(np.float32) for model in models.values()]
            pictures = [_posed(simulator, each, cut.valid, square) for each in states]
    truth = seen[:, 1:]
    still = np.repeat(seen[:, :1], horizon, axis=1)
    still[~cut.valid] = 0
    subjects, roles = [*models], ["model"] * len(models)
    if BASELINE not in models:
        subjects, roles, pictures = [*subjects, BASELINE], [*roles, "baseline"], [*pictures, (still, cut.valid)]
    prediction = np.stack([p for p, _ in pictures])
    frames = np.zeros((len(prediction), *cut.valid.shape))
    complete = cut.valid.all(1)
    features = [np.zeros((int(complete.sum()), 0)) for _ in range(len(prediction) + 1)]
    if perceptual is not None:
        for m, each in enumerate(prediction):
            frames[m][cut.valid] = perceptual(each[cut.valid], truth[cut.valid])
    if network is not None and complete.any():
        features = [network(each[complete]) for each in (truth, *prediction)]
    arrays = {
        "subject": np.array(subjects),
        "role": np.array(roles),
        "truth": truth,
        "valid": cut.valid,
        "episode": cut.episode,
        "step": cut.step,
        "prediction": prediction,
        "drawn": np.stack([d for _, d in pictures]),
        "has_lpips": np.array(perceptual is not None),
        "lpips_frame": frames,
        "true_feature": features[0],
        "feature": np.stack(features[1:]),
    }
    meta = {"task": dataset.task.id, "dataset": dataset.digest, "split": split, "seed": seed}
    return Recording("images", arrays, meta | {"pictures": "decoded" if decoding else "posed states"})


def _simulator(dataset: Dataset, size: tuple[int, int]) -> Any:
    """The true simulator, able to draw."""
    return gym.make(
        dataset.task.id, **dataset.task.options(), render_mode="rgb_array", height=size[0], width=size[1]
    ).unwrapped


def _posed(
    simulator: Any, observation: np.ndarray, valid: np.ndarray, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Pictures of states, (W, T, O) to (W, T, h, w, 3) uint8; and which could be drawn, (W, T): others are black."""
    drawn = valid & np.isfinite(observation).all(-1)
    out = np.zeros((*valid.shape, *size, 3), dtype=np.uint8)
    for w, t in zip(*np.nonzero(drawn), strict=True):
        out[w, t] = simulator.render_pose(observation[w, t])
    return out, drawn


def _decoded(model: WorldModel, cut: Windows, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Open-loop pictures that a model decodes: (W, H, h, w, 3) uint8, and (W, H) bool."""
    device = device_of(model)
    keys = fold_in(keys_from_seeds(np.arange(len(cut.valid))), seed)
    start = Start(
        observation=torch.from_numpy(cut.truth[:, 0]).to(device),
        sim_state=None if cut.state is None else torch.from_numpy(cut.state),
    )
    render: Any = model.render  # type: ignore[attr-defined]
    action = torch.from_numpy(cut.action).to(device)
    steps = []
    with torch.no_grad():
        state = model.initial(start, keys=torch.from_numpy(keys).to(device))
        for h in range(cut.valid.shape[1]):
            state, _ = model.step(state, action[:, h])
            steps.append(np.asarray(render(state).cpu()))
    return np.where(cut.valid[..., None, None, None], np.stack(steps, axis=1), np.uint8(0)), cut.valid.copy()


def _true_pictures(dataset: Dataset, cut: Windows, size: tuple[int, ...]) -> np.ndarray:
    """Pictures of the recorded episodes, (W, H + 1, h, w, 3) uint8, black past a window's end."""
    out = np.zeros((len(cut.valid), cut.valid.shape[1] + 1, *size, 3), dtype=np.uint8)
    stored = FIELD in dataset.fields and tuple(dataset.fields[FIELD]["shape"]) == (*size, 3)
    if not stored and "state" not in dataset.fields:
        raise DatasetError(f"{dataset.folder} holds neither pictures of {size} nor simulator states to draw them from")
    simulator = None if stored else _simulator(dataset, (size[0], size[1]))
    for w, index in enumerate(cut.episode):
        rows = slice(int(cut.step[w]), int(cut.step[w]) + int(cut.valid[w].sum()) + 1)
        fields = dataset.arrays(int(index))
        if simulator is None:
            out[w, : rows.stop - rows.start] = fields[FIELD][rows]
            continue
        for t, state in enumerate(fields["state"][rows]):
            simulator.set_state(state)
            out[w, t] = simulator.render()
    if simulator is not None:
        simulator.close()
    return out
