"""A world small enough to simulate by the thousand: a puck in a box with walls, and a model of it with known errors."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from wmbench.cards import Dimension, ModelCard, SuccessRule, TaskCard
from wmbench.protocols import Prediction, Start, State

DT, FORCE, DRAG, RESTITUTION = 0.05, 4.0, 0.5, 0.5
GOAL = np.array([0.4, 0.4])

TASK = TaskCard(
    id="wmbench/Toy-Puck-v0",
    suite="toy",
    backend_id="puck",
    simulator="wmbench_baselines.faults.puck:Puck",
    observation=(
        Dimension("x", "m"),
        Dimension("y", "m"),
        Dimension("x velocity", "m/s"),
        Dimension("y velocity", "m/s"),
    ),
    action=(Dimension("x force", "1", low=-1.0, high=1.0), Dimension("y force", "1", low=-1.0, high=1.0)),
    control_hz=1 / DT,
    horizon=40,
    terminates=False,
    success=SuccessRule("reward", -0.01, "within 10 cm of the goal"),
    action_convention="force on a 1 kg puck, in units of 4 N",
    robot="puck",
    pose={"x": 0, "y": 1},
    license="Apache-2.0",
)
"""Not registered: only the study of faults knows it."""


def move(state: np.ndarray, action: np.ndarray, *, walls: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """One control step: semi-implicit Euler, and walls at -1 and 1 that give back half of the speed.

    Args:
        state: (..., 4) x, y, their velocities.
        action: (..., 2) in [-1, 1].
        walls: Whether there are any.

    Returns:
        The next state (..., 4), and whether a wall across x and one across y was touched (..., 2).
    """
    speed = state[..., 2:] + DT * (FORCE * action - DRAG * state[..., 2:])
    place = state[..., :2] + DT * speed
    beyond = np.asarray((np.abs(place) > 1.0) & np.array(walls))
    place = np.where(beyond, np.sign(place) * (1.0 - RESTITUTION * (np.abs(place) - 1.0)), place)
    speed = np.where(beyond, -RESTITUTION * speed, speed)
    return np.concatenate([place, speed], axis=-1), beyond


def reward_of(state: np.ndarray) -> np.ndarray:
    """Minus the squared distance from the goal: (..., 4) to (...,)."""
    return -((state[..., :2] - GOAL) ** 2).sum(-1)


class Puck(gym.Env[np.ndarray, np.ndarray]):
    """The true simulator. Its state is (x, y, velocities, steps so far, walls touched in the last one)."""

    card = TASK

    def __init__(self) -> None:
        """At rest in the middle."""
        low, high = TASK.action_bounds()
        self.action_space = gym.spaces.Box(low, high)
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (4,))
        self.state = np.zeros(7)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin somewhere."""
        super().reset(seed=seed)
        self.state = np.concatenate([starts(self.np_random, 1)[0], np.zeros(3)])
        return self._observation(), {"success": False}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """One step."""
        after, touched = move(self.state[:4], np.asarray(action, np.float64))
        self.state = np.concatenate([after, [self.state[4] + 1], touched])
        reward = float(reward_of(self.state[:4]))
        return self._observation(), reward, False, self.state[4] >= TASK.horizon, {"success": reward >= -0.01}

    def get_state(self) -> np.ndarray:
        """(7,) float64."""
        return self.state.copy()

    def set_state(self, state: np.ndarray) -> np.ndarray:
        """Continue from a state."""
        self.state = state.copy()
        return self._observation()

    def contacts(self) -> frozenset[str]:
        """Which walls were touched in the last step."""
        names = ("puck-wall across x", "puck-wall across y")
        return frozenset(name for name, touched in zip(names, self.state[5:], strict=True) if touched)

    def violations(self, observations: np.ndarray) -> dict[str, np.ndarray]:
        """How deep pucks at (N, 4) observations lie in a wall, (N,) m; infinity for what is not finite."""
        place = np.abs(np.asarray(observations, dtype=np.float64)[:, :2]).max(1)
        return {"penetration": np.where(np.isfinite(place), np.maximum(place - 1.0, 0.0), np.inf)}

    def branch(
        self, states: np.ndarray, action: np.ndarray, steps: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """All branches at once: see :func:`wmbench.recording.branching.branch_true`."""
        rows, horizon = action.shape[:2]
        observation, reward = np.zeros((rows, horizon, 4), np.float32), np.zeros((rows, horizon))
        left = np.minimum(steps, TASK.horizon - states[:, 4])
        valid = np.arange(horizon) < left[:, None]
        state = states[:, :4]
        for k in range(horizon):
            state = np.where(valid[:, k, None], move(state, action[:, k].astype(np.float64))[0], state)
            observation[:, k], reward[:, k] = state, reward_of(state)
        reward = np.where(valid, reward, 0.0)
        observation = np.where(valid[..., None], observation, np.float32(0.0))
        return observation, reward, np.zeros_like(valid), valid & (reward >= -0.01), valid

    def _observation(self) -> np.ndarray:
        return self.state[:4].astype(np.float32)


def starts(rng: np.random.Generator, n: int) -> np.ndarray:
    """Where episodes begin: (n, 4)."""
    return np.concatenate([rng.uniform(-0.8, 0.8, (n, 2)), rng.normal(0.0, 0.5, (n, 2))], axis=1)


@dataclass(frozen=True)
class Episodes:
    """Recorded episodes of random actions that change slowly.

    Attributes:
        state: (E, T + 1, 4) float64.
        action: (E, T, 2) float32.
        touched: (E, T, 2) bool, whether the step touched a wall across x and one across y.
    """

    state: np.ndarray
    action: np.ndarray
    touched: np.ndarray


def collect(rng: np.random.Generator, episodes: int, steps: int) -> Episodes:
    """Record episodes."""
    noise = rng.normal(size=(steps, episodes, 2))
    action = np.zeros((steps, episodes, 2))
    for t in range(steps):
        action[t] = (0.6 * action[t - 1] if t else 0.0) + 0.6 * noise[t]
    given = np.clip(action, -1.0, 1.0).astype(np.float32)
    state = [starts(rng, episodes)]
    touched = []
    for t in range(steps):
        following, touches = move(state[-1], given[t].astype(np.float64))
        state.append(following)
        touched.append(touches)
    return Episodes(np.stack(state, 1), given.transpose(1, 0, 2), np.stack(touched, 1))


class PuckData:
    """A dataset in memory, with what recorders read of :class:`wmbench.episodes.Dataset`."""

    folder, digest, task = "in memory", "0" * 64, TASK
    fields = {"state": {"per": "state"}}  # noqa: RUF012
    manifest: dict[str, Any] = {}  # noqa: RUF012

    def __init__(self, seed: int, *, train: int = 16, test: int = 24, steps: int = 40) -> None:
        """Collect episodes of a seed; the first ``train`` ones are the train split."""
        self.recorded = collect(np.random.default_rng(seed), train + test, steps)
        self.train = train
        observation = self.recorded.state.astype(np.float32)
        reward = reward_of(self.recorded.state[:, 1:])
        counter = np.broadcast_to(np.arange(steps + 1.0)[:, None], (train + test, steps + 1, 1))
        touched = np.pad(self.recorded.touched, ((0, 0), (1, 0), (0, 0))).astype(np.float64)
        state = np.concatenate([self.recorded.state, counter, touched], axis=2)
        self._episodes = []
        for e in range(train + test):
            ends = np.zeros(steps, dtype=bool)
            self._episodes.append(
                Episode(
                    observation=observation[e],
                    action=self.recorded.action[e],
                    reward=reward[e],
                    terminated=ends,
                    truncated=ends,
                    success=reward[e] >= -0.01,
                    state=state[e],
                    seed=e,
                )
            )
        own = {
            "observation": observation[:train].reshape(-1, 4),
            "action": self.recorded.action[:train].reshape(-1, 2),
            "delta": np.diff(self.recorded.state[:train], axis=1).reshape(-1, 4),
            "reward": reward[:train].reshape(-1),
        }
        self.stats = {
            k: {"mean": v.mean(0, np.float64), "std": v.std(0, np.float64), "min": v.min(0), "max": v.max(0)}
            for k, v in own.items()
        }

    def episodes(self, split: str | None = None) -> np.ndarray:
        """Numbers of a split's episodes."""
        every = np.arange(len(self._episodes))
        return every[: self.train] if split == "train" else every[self.train :] if split else every

    def episode(self, i: int) -> Episode:
        """One episode."""
        return self._episodes[i]

    def arrays(self, i: int) -> dict[str, Any]:
        """Its arrays."""
        return vars(self._episodes[i])

    def transitions(self, split: str | None = None, limit: int | None = None, seed: int = 0) -> dict[str, np.ndarray]:
        """Single steps of a split."""
        chosen = self.episodes(split)
        rows = [self._episodes[i] for i in chosen]
        names = ("action", "reward", "terminated", "truncated", "success")
        steps = {name: np.concatenate([getattr(e, name) for e in rows]) for name in names}
        steps["observation"] = np.concatenate([e.observation[:-1] for e in rows])
        steps["next_observation"] = np.concatenate([e.observation[1:] for e in rows])
        steps["episode"] = np.repeat(chosen, [len(e) for e in rows])
        steps["step"] = np.concatenate([np.arange(len(e)) for e in rows])
        keep = np.arange(len(steps["step"]))
        if limit is not None and limit < len(keep):
            keep = np.sort(np.random.default_rng(seed).choice(len(keep), limit, replace=False))
        return {name: values[keep] for name, values in steps.items()}


class Episode(SimpleNamespace):
    """One episode's arrays, named as in :class:`wmbench.episodes.EpisodeData`."""

    def __len__(self) -> int:
        """Steps."""
        return len(self.action)


class PuckModel:
    """What a decent training would leave: the true physics plus a smooth field of errors, and honest about its size.

    The errors are a random function of state and action (a sum of cosines), as large in every dimension as ``size``
    standard deviations of one step's change, more in some places than in others. ``observation_std`` is what the
    field's own scale is there, and ``uncertainty`` its root mean square in units of that change.
    """

    FEATURES = 32

    def __init__(self, seed: int, delta_std: np.ndarray, *, size: float = 0.1, walls: bool = True) -> None:
        """Draw a field of errors.

        Args:
            seed: Of the field.
            delta_std: (4,) spread of one step's change.
            size: Of the errors, in that.
            walls: Whether the model knows that there are walls.
        """
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(1,)))
        self.seed, self.size, self.walls, self.delta_std = seed, size, walls, delta_std
        self.frequency = rng.normal(0.0, 2.0, (6, self.FEATURES))
        self.phase = rng.uniform(0.0, 2 * np.pi, self.FEATURES)
        self.weight = rng.normal(size=(self.FEATURES, 5)) * np.sqrt(2 / self.FEATURES)
        self.card = ModelCard(
            name="puck-model",
            task_ids=(TASK.id,),
            predicts=frozenset({"observation", "observation_std", "reward", "uncertainty"}),
            inputs="the current observation",
            condition="the action",
            consumer="a study of what measures notice",
            risk="errors that are put in on purpose",
            sources={"terminated": "card", "success": "reward"},
            uncertainty=("scale",),
        )

    def initial(self, start: Start, *, keys: torch.Tensor) -> State:
        """The observation is all there is."""
        return {"observation": start.observation}

    def step(self, state: State, action: torch.Tensor, *, uncertainty: bool = False) -> tuple[State, Prediction]:
        """Physics, and the field's error."""
        now, given = state["observation"].double().numpy(), action.double().numpy()
        exact, _ = move(now, given, walls=self.walls)
        field = np.cos(np.concatenate([now, given], 1) @ self.frequency + self.phase) @ self.weight  # (B, 5)
        scale = self.size * np.exp(0.5 * field[:, 4:]) * self.delta_std  # (B, 4)
        after = exact + scale * field[:, :4]
        observation = torch.from_numpy(after.astype(np.float32))
        relative = np.sqrt(((scale / self.delta_std) ** 2).mean(1))
        return {"observation": observation}, Prediction(
            observation=observation,
            observation_std=torch.from_numpy(scale.astype(np.float32)),
            reward=torch.from_numpy(reward_of(after)),
            uncertainty={"scale": torch.from_numpy(relative.astype(np.float32))},
        )


class PuckInverse:
    """Reads the force off the change of speed: exact for the true puck, away from walls."""

    task = TASK

    def recover(self, observation: np.ndarray, following: np.ndarray) -> np.ndarray:
        """Two members of one mind: (2, B, 2)."""
        before, after = (x[:, 2:].astype(np.float64) for x in (observation, following))
        force = ((after - before) / DT + DRAG * before) / FORCE
        return np.repeat(np.clip(force, -1.0, 1.0).astype(np.float32)[None], 2, axis=0)


def register() -> None:
    """Let ``gym.make`` make the puck, once."""
    if TASK.id not in gym.registry:
        gym.register(TASK.id, f"{__name__}:Puck", disable_env_checker=True, order_enforce=False)
