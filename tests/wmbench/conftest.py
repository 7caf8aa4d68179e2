"""A toy task and episodes of it, whose every number follows from the episode's seed."""

import os

import numpy as np
import pytest

from wmbench.cards import Dimension, SuccessRule, TaskCard
from wmbench.episodes import EpisodeData

TOY = TaskCard(
    id="wmbench/Toy-Point-v0",
    suite="toy",
    backend_id="point",
    simulator="nowhere:Nothing",
    observation=(Dimension("place", "m"), Dimension("heading", "rad", "angle"), Dimension("speed", "m/s")),
    action=(Dimension("push", "N", low=-1.0, high=1.0), Dimension("turn", "1", low=-2.0, high=2.0)),
    control_hz=20,
    horizon=40,
    terminates=True,
    success=SuccessRule("reward", 1.0, "a toy"),
    action_convention="force",
    robot="point",
)


def make_episode(seed, source="random", steps=None):
    """The episode of a seed: 3 to 40 steps of noise."""
    rng = np.random.default_rng(seed)
    steps = steps or int(rng.integers(3, 40))
    ends = np.zeros(steps, dtype=bool)
    ends[-1] = True
    reward = rng.normal(size=steps)
    return EpisodeData(
        observation=rng.normal(size=(steps + 1, 3)).astype(np.float32),
        action=rng.uniform(-1, 1, (steps, 2)).astype(np.float32),
        reward=reward,
        terminated=ends if seed % 2 else np.zeros_like(ends),
        truncated=np.zeros_like(ends) if seed % 2 else ends,
        success=reward >= 1.0,
        state=rng.normal(size=(steps + 1, 5)),
        seed=seed,
        source=source,
    )


@pytest.fixture
def toy_card():
    """Card of the toy task."""
    return TOY


@pytest.fixture
def toy_episode():
    """Function from a seed to its episode."""
    return make_episode


@pytest.fixture
def unsynced(monkeypatch):
    """Files are not flushed to the disk, which only a power cut would notice: tests of contents run faster."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)
