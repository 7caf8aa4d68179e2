"""stable-baselines3 learns in batched twins, true and learned, and its own wrappers find all they need."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wmbench import checkpoints, collect, task_card, train

pytest.importorskip("stable_baselines3")

from stable_baselines3 import PPO
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecCheckNan, VecFrameStack, VecMonitor, VecNormalize

from wmbench.rollout import rollout
from wmbench_baselines.ensemble import EnsembleConfig
from wmbench_baselines.sb3 import TwinVecEnv

TASK = "Gym-InvertedPendulum"
SMALL: dict[str, Any] = {
    "members": 2,
    "elites": 2,
    "hidden": (32, 32),
    "end_hidden": (32,),
    "weight_decay": (0.0, 0.0, 0.0),
    "max_updates": 1500,
    "sample": False,
}
ORACLE = {"simulator": "oracle", "init": "true"}


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A small ensemble that saw random behaviour alone."""
    folder = tmp_path_factory.mktemp("ensemble")
    data = collect(TASK, folder / "data", policy="random", episodes=300)
    config = EnsembleConfig(**SMALL)
    train("ensemble", TASK, data, folder / "model", config=config, progress=False)
    return {"simulator": str(folder / "model"), "init": "true"}


def ppo(env: Any, **more: Any) -> PPO:
    small = {"net_arch": [32], "log_std_init": -0.5}
    fast = {"n_steps": 64, "batch_size": 256, "learning_rate": 1e-3, "gamma": 0.98, "gae_lambda": 0.9}
    return PPO("MlpPolicy", env, seed=0, device="cpu", policy_kwargs=small, **fast, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("where", ["true", "learned"])
def test_it_learns_what_chance_never_reaches(where: str, request: pytest.FixtureRequest) -> None:
    """Steps before the pole falls: all of ten episodes are longer than the longest of two hundred random ones."""
    env = TwinVecEnv(TASK, 16, **(request.getfixturevalue("learned") if where == "learned" else {}))
    model = ppo(env).learn(6144)
    true = TwinVecEnv(TASK, 10)
    true.seed(100)
    _, lengths = evaluate_policy(model, true, n_eval_episodes=10, return_episode_rewards=True, warn=False)
    card = task_card(TASK)
    chance = rollout(card, checkpoints.resolve("random", card, kind="policy"), list(range(200)))
    assert min(lengths) > max(len(episode) for episode in chance), lengths
    env.close()
    true.close()


def actions_of(env: Any, steps: int) -> np.ndarray:
    """(T, B, A) float32 in the box, the same at every call."""
    space, rng = env.action_space, np.random.default_rng(0)
    return rng.uniform(space.low, space.high, (steps, env.num_envs, *space.shape)).astype(np.float32)


def played(env: Any, steps: int = 40) -> list[Any]:
    env.seed(3)
    out = [env.reset()]
    return out + [env.step(action) for action in actions_of(env, steps)]


@pytest.mark.parametrize("options", [{}, ORACLE], ids=["true", "oracle"])
def test_wrappers_of_stable_baselines3_see_the_last_observation_of_an_episode(options: dict[str, Any]) -> None:
    plain = played(TwinVecEnv(TASK, 3, **options))
    stacked = played(VecFrameStack(TwinVecEnv(TASK, 3, **options), 2))
    checked = played(VecCheckNan(TwinVecEnv(TASK, 3, **options), raise_exception=True))
    normal = VecNormalize(TwinVecEnv(TASK, 3, **options), norm_reward=False, clip_obs=1e9)
    normalised = played(normal)
    ended = 0
    for t, (observation, reward, done, infos) in enumerate(plain[1:]):
        np.testing.assert_array_equal(checked[t + 1][0], observation)
        np.testing.assert_array_equal(normalised[t + 1][1], reward)
        before = plain[0] if t == 0 else plain[t][0]
        for row in range(3):
            now, width = stacked[t + 1][0][row], observation.shape[1]
            np.testing.assert_array_equal(now[width:], observation[row])
            np.testing.assert_array_equal(now[:width], np.zeros(width) if done[row] else before[row])
            if done[row]:
                ended += 1
                last = infos[row]["terminal_observation"]
                seen = stacked[t + 1][3][row]["terminal_observation"]
                np.testing.assert_array_equal(seen, np.concatenate([before[row], last]))
                assert not np.array_equal(last, observation[row])
                assert normalised[t + 1][3][row]["terminal_observation"].shape == last.shape
    assert ended > 5
    mean = normal.obs_rms.mean
    np.testing.assert_allclose(mean, np.concatenate([plain[0], *(s[0] for s in plain[1:])]).mean(0), atol=1e-4)


def test_an_agent_is_saved_and_goes_on_in_another_twin(tmp_path: Path) -> None:
    env = VecNormalize(VecMonitor(TwinVecEnv(TASK, 4)))
    model = ppo(env).learn(256)
    model.save(tmp_path / "agent")
    env.save(str(tmp_path / "statistics"))
    other = VecNormalize.load(str(tmp_path / "statistics"), VecMonitor(TwinVecEnv(TASK, 4, **ORACLE)))
    again = PPO.load(tmp_path / "agent", env=other, device="cpu")
    np.testing.assert_array_equal(again.predict(other.reset(), deterministic=True)[0].shape, (4, 1))
    again.learn(256, reset_num_timesteps=False)
    assert again.num_timesteps == 512 and len(again.ep_info_buffer) > 5
