"""What tests of several packages share: a little real data in memory, and toy world models by name."""

import functools
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: test processes share the cores
from importlib.util import find_spec
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest

import wmbench
from wmbench import registry


def pytest_collection_modifyitems(items):
    """Tests of ManiSkill's tasks are skipped where it is not installed; the extra ``dev`` brings it."""
    if find_spec("mani_skill") is None:
        skip = pytest.mark.skip(reason="needs ManiSkill:  pip install 'wmbench[maniskill]'")
        for item in items:
            if "MS-" in item.nodeid or "maniskill" in item.nodeid:
                item.add_marker(skip)


class RandomData:
    """A few episodes of random actions in the true simulator, with the reading side of a Dataset."""

    digest = "0" * 64

    def __init__(self, task, episodes=6, steps=40):
        self.task = wmbench.task_card(task)
        if self.task.suite == "maniskill":  # whose steps take milliseconds
            steps = 15
        env = gym.make(self.task.id).unwrapped
        low, high = self.task.action_bounds()
        rng = np.random.default_rng(0)
        self._episodes = []
        for seed in range(episodes):
            observation = [env.reset(seed=seed)[0]]
            state, rows = [env.get_state()], []
            for _ in range(steps):
                action = rng.uniform(low, high).astype(np.float32)
                nxt, reward, terminated, truncated, info = env.step(action)
                rows.append((action, reward, terminated, truncated, info["success"]))
                observation.append(nxt)
                state.append(env.get_state())
                if terminated or truncated:
                    break
            action, reward, terminated, truncated, success = (np.array(c) for c in zip(*rows, strict=True))
            episode = SimpleNamespace(observation=np.array(observation), state=np.array(state), seed=seed)
            episode.action, episode.reward, episode.terminated = action, reward.astype(np.float64), terminated
            episode.truncated, episode.success = truncated, success
            self._episodes.append(episode)

    def episodes(self, split=None):
        return np.arange(len(self._episodes))

    def episode(self, i):
        return self._episodes[i]

    def transitions(self, split=None, limit=None, seed=0):
        out = {
            name: np.concatenate([getattr(e, name) for e in self._episodes])
            for name in ("action", "reward", "terminated", "truncated", "success")
        }
        out["observation"] = np.concatenate([e.observation[:-1] for e in self._episodes])
        out["next_observation"] = np.concatenate([e.observation[1:] for e in self._episodes])
        return out


@pytest.fixture(scope="session")
def random_data():
    """Function from a task id to :class:`RandomData`, made once per task."""
    return functools.cache(RandomData)


@pytest.fixture
def world_model():
    """Function that registers a toy world model under a name until the test ends."""
    names = []

    def add(name, model):
        """``model(task, device)`` builds it."""
        registry.world_models.add(
            name, SimpleNamespace(for_task=lambda task, *, device="cpu": model(task, device), __name__=name)
        )
        names.append(name)
        return name

    yield add
    for name in names:
        registry.world_models.remove(name)
