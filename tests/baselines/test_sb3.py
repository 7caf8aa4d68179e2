"""stable-baselines3 on true and learned environments, one by one and batched without a row loop."""

import importlib.util
import warnings

import gymnasium as gym
import numpy as np
import pytest

import wmbench  # noqa: F401
from wmbench.collecting import collect
from wmbench.errors import MissingExtraError, WmbenchError
from wmbench.training import train

pytest.importorskip("stable_baselines3")

from stable_baselines3 import PPO, SAC
from stable_baselines3.common.env_checker import check_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor

from wmbench_baselines import sb3
from wmbench_baselines.sb3 import TwinVecEnv, rows_of

HOPPER, CARTPOLE = "wmbench/Gym-Hopper-v0", "wmbench/DMC-CartpoleSwingup-v0"
LEARNED = {"simulator": "oracle", "init": "true"}
"""A learned twin that needs no training and no checkpoint."""


@pytest.fixture(scope="module")
def linear(tmp_path_factory):
    """Arguments of a learned twin with weights, heads and a bank of starts of its own."""
    folder = tmp_path_factory.mktemp("linear")
    dataset = collect(HOPPER, out=folder / "data", policy="random", episodes=30)
    train("linear", HOPPER, dataset, folder / "linear", progress=False)
    return {"simulator": str(folder / "linear")}


def actions_of(env, steps):
    """(T, B, A) float32 in the box, the same at every call."""
    space, rng = env.action_space, np.random.default_rng(0)
    return rng.uniform(space.low, space.high, (steps, env.num_envs, *space.shape)).astype(np.float32)


@pytest.mark.parametrize("kwargs", [{}, LEARNED], ids=["true", "oracle"])
@pytest.mark.parametrize(("task", "steps", "endings"), [(HOPPER, 200, 15), (CARTPOLE, 1010, 3)])
def test_batched_equals_single_true_environments(task, steps, endings, kwargs):
    """Bit for bit across terminations (Hopper) and time limits (Cartpole), unseeded resets included."""
    batched = TwinVecEnv(task, 3, **kwargs)
    single = DummyVecEnv([lambda: Monitor(gym.make(task))] * 3)
    assert batched.seed(5) == single.seed(5)
    assert np.array_equal(batched.reset(), single.reset())
    assert [i["episode_seed"] for i in batched.reset_infos] == [5, 6, 7]
    ended, cut = 0, 0
    for action in actions_of(single, steps):
        ours, theirs = batched.step(action), single.step(action)
        for a, b in zip(ours[:3], theirs[:3], strict=True):
            assert a.dtype == b.dtype and np.array_equal(a, b)
        for row, (info, expected) in enumerate(zip(ours[3], theirs[3], strict=True)):
            for key in ("success", "is_success", "TimeLimit.truncated"):
                assert info[key] is bool(expected[key]), key
            assert ("terminal_observation" in info) == ours[2][row]
            if ours[2][row]:
                ended, cut = ended + 1, cut + info["TimeLimit.truncated"]
                assert np.array_equal(info["terminal_observation"], expected["terminal_observation"])
                assert info["terminal_observation"].dtype == np.float32
                assert info["episode"]["l"] == expected["episode"]["l"]
                assert info["episode"]["r"] == pytest.approx(expected["episode"]["r"], abs=2e-6)
                assert batched.reset_infos[row]["episode_seed"] == single.reset_infos[row]["episode_seed"]
    assert ended >= endings
    assert cut == (3 if task == CARTPOLE else 0)
    batched.close()
    single.close()


def test_batched_equals_single_learned_environments(linear):
    batched, single = TwinVecEnv(HOPPER, 3, **linear), DummyVecEnv([lambda: gym.make(HOPPER, **linear)] * 3)
    for env in (batched, single):
        env.seed(5)
    assert np.array_equal(batched.reset(), single.reset())
    ended = 0
    for action in actions_of(single, 300):
        ours, theirs = batched.step(action), single.step(action)
        for a, b in zip(ours[:3], theirs[:3], strict=True):
            assert np.array_equal(a, b)
        for row in np.flatnonzero(ours[2]):
            ended += 1
            assert np.array_equal(ours[3][row]["terminal_observation"], theirs[3][row]["terminal_observation"])
    assert ended > 3
    batched.close()
    single.close()


def test_seeds_are_used_once_and_reproduce():
    env = TwinVecEnv(HOPPER, 2, **LEARNED)
    env.seed(3)
    first, second = env.reset(), env.reset()
    env.seed(3)
    assert np.array_equal(env.reset(), first)
    assert np.array_equal(env.reset(), second) and not np.array_equal(first, second)
    env.seed(2**32 - 1)  # stable-baselines3 itself draws seeds up to here and adds the row
    assert [i["episode_seed"] for i in (env.reset(), env.reset_infos)[1]] == [2**32 - 1, 0]
    env.close()


def test_infos_are_fresh_and_nobody_elses():
    env = TwinVecEnv(HOPPER, 2, **LEARNED)
    env.seed(0)
    env.reset()
    kept = []
    for action in actions_of(env, 200):
        observation, _, done, infos = env.step(action)
        assert infos[0] is not infos[1]
        for info in infos:
            assert "mine" not in info
            info["mine"] = True
        for row in np.flatnonzero(done):
            last = infos[row]["terminal_observation"]
            kept.append((last, last.copy()))
            assert not np.shares_memory(last, observation)
    assert kept and all(np.array_equal(a, b) for a, b in kept)
    env.close()


def test_vec_monitor_agrees_with_the_built_in_statistics():
    plain, monitored = TwinVecEnv(HOPPER, 3), VecMonitor(TwinVecEnv(HOPPER, 3))
    for env in (plain, monitored):
        env.seed(0)
        env.reset()
    found = 0
    for action in actions_of(plain, 60):
        for ours, theirs in zip(plain.step(action)[3], monitored.step(action)[3], strict=True):
            assert ("episode" in ours) == ("episode" in theirs)
            if "episode" in ours:
                found += 1
                assert ours["episode"]["l"] == theirs["episode"]["l"]
                assert ours["episode"]["r"] == pytest.approx(theirs["episode"]["r"], rel=1e-5)
    assert found > 3
    plain.close()
    monitored.close()


@pytest.mark.parametrize("kwargs", [{}, LEARNED], ids=["true", "learned"])
@pytest.mark.parametrize("task", [HOPPER, CARTPOLE])
def test_stable_baselines3_accepts_the_environment(task, kwargs):
    env = gym.make(task, **kwargs)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*Box bound precision lowered.*")
        check_env(env, skip_render_check=True)
    env.close()


@pytest.mark.parametrize("kwargs", [{}, LEARNED], ids=["true", "learned"])
@pytest.mark.parametrize("algorithm", ["ppo", "sac"])
def test_it_trains_through_plain_make(algorithm, kwargs):
    env = gym.make(HOPPER, **kwargs)
    model = learner(algorithm, env)
    before = model.get_parameters()["policy"]["actor.mu.weight" if algorithm == "sac" else "action_net.weight"].clone()
    model.learn(200)
    after = model.get_parameters()["policy"]["actor.mu.weight" if algorithm == "sac" else "action_net.weight"]
    assert model.num_timesteps >= 200 and not np.array_equal(before, after)
    assert len(model.ep_info_buffer) > 3
    env.close()


@pytest.mark.parametrize(("algorithm", "model_of"), [("ppo", "oracle"), ("sac", "oracle"), ("ppo", "linear")])
def test_it_trains_on_the_batched_twin(algorithm, model_of, linear):
    env = TwinVecEnv("Gym-Hopper", 4, **(LEARNED if model_of == "oracle" else linear))
    model = learner(algorithm, env)
    model.learn(400)
    assert model.num_timesteps >= 400
    assert len(model.ep_info_buffer) > 5  # training curves without a monitor
    assert len(model.ep_success_buffer) == len(model.ep_info_buffer)
    returns, lengths = evaluate_policy(
        model, VecMonitor(env), n_eval_episodes=4, return_episode_rewards=True, deterministic=True
    )
    assert len(returns) == 4 and all(length > 0 for length in lengths)
    env.close()


def learner(algorithm, env):
    """A tiny agent."""
    small = {"policy_kwargs": {"net_arch": [16]}, "device": "cpu", "seed": 0}
    if algorithm == "ppo":
        return PPO("MlpPolicy", env, n_steps=50, batch_size=25, n_epochs=1, **small)
    return SAC("MlpPolicy", env, learning_starts=100, batch_size=16, **small)


def test_infos_by_row():
    info = {
        "success": np.array([True, False, True]),
        "_success": np.array([True, True, True]),
        "seed": np.array([7, 0, 0]),
        "_seed": np.array([True, False, False]),
        "begun": np.array([True, True, True]),
        "_begun": np.array([True, False, False]),
        "uncertainty": {"spread": np.float32([0.5, 1, 2]), "_spread": np.array([True, True, True])},
        "_uncertainty": np.array([True, True, True]),
        "vector": np.arange(6).reshape(3, 2),
        "_vector": np.array([False, False, True]),
    }
    first, last = rows_of(info, np.array([0, 2]), {"constant": 1})
    assert first == {"constant": 1, "success": True, "uncertainty": {"spread": 0.5}, "seed": 7, "begun": True}
    assert last.pop("vector").tolist() == [4, 5]
    assert last == {"constant": 1, "success": True, "uncertainty": {"spread": 2.0}}
    assert type(first["success"]) is bool and type(first["seed"]) is int
    assert rows_of({}, np.arange(2)) == [{}, {}]
    assert rows_of(info, np.arange(0)) == []


class Countdown(gym.Env):
    """Ends after as many steps as its seed says, solved only then; reward 1."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (1,), np.float32)
    action_space = gym.spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        self.left = self.length = seed or self.length + 1
        return np.float32([self.left]), {"success": False, "is_success": False}

    def step(self, action):
        self.left -= 1
        over = self.left == 0
        return np.float32([self.left]), 1.0, over, False, {"success": over, "is_success": over}


def test_known_answers():
    env = TwinVecEnv(gym.vector.SyncVectorEnv([Countdown] * 2, autoreset_mode="SameStep"))
    env.seed(2)  # lengths 2 and 3, each a step longer next time
    assert env.reset().tolist() == [[2], [3]]
    env.step(np.zeros((2, 1), np.float32))
    observation, reward, done, infos = env.step(np.zeros((2, 1), np.float32))
    assert observation.tolist() == [[3], [1]] and reward.tolist() == [1, 1] and done.tolist() == [True, False]
    assert infos[0]["is_success"] is True and infos[0]["terminal_observation"] == 0
    assert infos[0]["episode"]["r"] == 2 and infos[0]["episode"]["l"] == 2
    assert infos[1] == {"success": False, "is_success": False, "TimeLimit.truncated": False}
    assert env.reset_infos[0] == {"success": False, "is_success": False}
    env.seed(2)
    env.reset()  # in the middle of both episodes: their sums are forgotten
    env.step(np.zeros((2, 1), np.float32))
    assert env.step(np.zeros((2, 1), np.float32))[3][0]["episode"]["l"] == 2
    env.step(np.zeros((2, 1), np.float32))
    env.reset()
    for _ in range(4):
        infos = env.step(np.zeros((2, 1), np.float32))[3]
    assert infos[0]["episode"]["r"] == 4 and infos[0]["episode"]["l"] == 4
    env.close()


def test_misuse_is_refused_with_a_sentence():
    with pytest.raises(WmbenchError, match="autoreset_mode='SameStep'"):
        TwinVecEnv(gym.make_vec(HOPPER, num_envs=2))
    with pytest.raises(WmbenchError, match="array='numpy'"):
        TwinVecEnv(HOPPER, 2, array="torch").reset()
    env = TwinVecEnv(HOPPER, 2)
    env.reset()
    with pytest.raises(WmbenchError, match="without step_async"):
        env.step_wait()
    with pytest.raises(WmbenchError, match="no separate environments"):
        env.env_method("get_state")
    with pytest.raises(WmbenchError, match="cannot be set for some"):
        env.set_attr("anything", 1, indices=[0])
    env.set_options([{"reset_mask": 1}, {}])
    with pytest.raises(WmbenchError, match="same reset options"):
        env.reset()
    assert env.get_attr("card", [0])[0].id == HOPPER and env.has_attr("card") and not env.has_attr("nothing")
    env.close()


def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    spec = importlib.util.spec_from_file_location("sb3_again", sb3.__file__)
    with pytest.raises(MissingExtraError, match=r"pip install 'wmbench\[sb3\]'"):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
