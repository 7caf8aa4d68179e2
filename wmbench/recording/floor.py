"""How fast the true simulator leaves itself: the same actions from minutely disturbed states."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

from wmbench.episodes import Dataset
from wmbench.keys import fold_in, keys_from_seeds, normal

SCALES = (1e-9, 1e-6, 1e-3)
EPISODES = 40


def record_floor(
    dataset: Dataset,
    states: np.ndarray | None,
    actions: np.ndarray,
    valid: np.ndarray,
    seed: int,
    *,
    scales: tuple[float, ...] = SCALES,
    simulator: Any = None,
) -> tuple[dict[float, np.ndarray], str]:
    """Roll the true simulator from disturbed states.

    Every position and velocity is moved by the scale times its standard deviation in the train split times a
    standard normal number. A twin that ends early stays where it ended.

    Args:
        dataset: Gives the task, and the spread of positions and velocities.
        states: (W, S) float64 where the windows begin, or None.
        actions: (W, H, A) float32.
        valid: (W, H) bool; steps past a window's end are not simulated.
        seed: Of the disturbances.
        scales: Sizes, in standard deviations.
        simulator: A :class:`wmbench.protocols.Simulator`; None makes the task's own.

    Returns:
        Scale to observations (W, H, O) float32, and why there are none (``""`` if there are).
    """
    if states is None:
        return {}, "no floor: the dataset holds no simulator states"
    if "world" in dataset.manifest:
        return {}, "no floor: the dataset was recorded in another world than the nominal one"
    own = simulator is None
    simulator = gym.make(dataset.task.id, **dataset.task.options()).unwrapped if own else simulator
    try:
        if not hasattr(simulator, "moving"):
            return {}, "no floor: the simulator does not say which numbers of its state move"
        moving = simulator.moving()
        if moving.start == moving.stop:
            return {}, "no floor: the simulator's states hold nothing that could be disturbed"
        spread = _spread(dataset)[moving]
        noise = normal(fold_in(keys_from_seeds(np.arange(len(states))), seed), len(spread))  # (W, Q)
        found = {}
        for scale in scales:
            disturbed = states.copy()
            disturbed[:, moving] += scale * spread * noise
            found[scale] = replay(simulator, disturbed, actions, valid)
        return found, ""
    finally:
        if own:
            simulator.close()


def replay(simulator: Any, states: np.ndarray, actions: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Observations of the true simulator from given states under given actions.

    Args:
        simulator: The true simulator.
        states: (W, S) float64.
        actions: (W, H, A) float32.
        valid: (W, H) bool, steps to simulate: a stretch from the start.

    Returns:
        (W, H, O) float32; after an episode's end its last observation, past a window's end zero.
    """
    out: np.ndarray | None = None
    for w, state in enumerate(states):
        observation, ended = simulator.set_state(state), False
        if out is None:
            out = np.zeros((*valid.shape, len(observation)), np.float32)
        for h in range(int(valid[w].sum())):
            if not ended:
                observation, _, terminated, truncated, _ = simulator.step(actions[w, h])
                ended = terminated or truncated
            out[w, h] = observation
    if out is None:
        raise ValueError("there are no states to start from")
    return out


def _spread(dataset: Dataset) -> np.ndarray:
    """Standard deviation of every number of the state over some train episodes, (S,) float64."""
    chosen = dataset.episodes("train")[:EPISODES]
    states = [dataset.episode(int(i)).state for i in chosen]
    return np.concatenate([s for s in states if s is not None]).std(0)
