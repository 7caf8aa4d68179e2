"""Rollouts: the same episodes however they are run side by side, and faults that stay where they arose."""

import dataclasses

import gymnasium as gym
import numpy as np
import pytest
import torch

import wmbench
from wmbench.cards import ModelCard, SuccessRule
from wmbench.errors import CardError, InvalidActionError
from wmbench.keys import fold_in, keys_from_seeds, normal, uniform
from wmbench.protocols import Prediction
from wmbench.rollout import Rollout, rollout
from wmbench_baselines.simple import RandomConfig, RandomPolicy

SEEDS = [5, 11, 2, 900, 31, 8, 77, 64, 13, 40]
BREAKS, STUCK = 64, 900
"""Seeds whose episode fails at the fourth step, and whose reset fails."""


class Point(gym.Env):
    """A point that drifts; its seed decides how long the episode lasts."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (3,), np.float32)
    action_space = gym.spaces.Box(np.float32([-1, -2]), np.float32([1, 2]))
    broken = False

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if self.broken and seed == STUCK:
            raise RuntimeError("the reset is stuck")
        self.seed, self.t = seed, 0
        self.length = 3 + seed % 17
        self.x = self.np_random.normal(size=3)
        return self.x.astype(np.float32), {}

    def step(self, action):
        assert action.dtype == np.float32 and self.action_space.contains(action)
        self.t += 1
        if self.broken and self.seed == BREAKS and self.t == 4:
            raise RuntimeError("a joint has broken")
        self.x = 0.9 * self.x + np.array([action[0], action[1], 0.1])
        ends = self.t == self.length
        info = {"success": bool(self.x[0] > 1)}
        return (
            self.x.astype(np.float32),
            float(self.x[1]),
            ends and self.seed % 2 == 0,
            ends and self.seed % 2 == 1,
            info,
        )

    def get_state(self):
        return np.concatenate([self.x, [self.t]])


class Remembers:
    """A policy with memory, noise from its keys and a habit of leaving the box."""

    def initial(self, batch_size):
        return {"sum": np.zeros((batch_size, 3), np.float32), "calls": np.zeros(batch_size, np.int64)}

    def act(self, observation, state, *, keys):
        assert observation.shape == (len(keys), 3) and state["sum"].shape == (len(keys), 3)
        total = state["sum"] * np.float32(0.5) + observation
        action = total[:, :2] * 0.3 + normal(keys, 2) * (1 + state["calls"][:, None] % 3)
        return action.astype(np.float32), {"sum": total, "calls": state["calls"] + 1}


@pytest.fixture
def card(toy_card):
    """The toy task, registered with Gymnasium until the test ends."""
    gym.register(toy_card.id, entry_point=Point, order_enforce=False, disable_env_checker=True)
    yield toy_card
    del gym.registry[toy_card.id]


@pytest.fixture
def broken(monkeypatch, card):
    """The toy task with a few faults."""
    monkeypatch.setattr(Point, "broken", True)
    return card


def assert_same(one, other):
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        assert (a.seed, a.source, a.invalid, a.diverged) == (b.seed, b.source, b.invalid, b.diverged)
        fields = a.fields()
        assert fields.keys() == b.fields().keys()
        for name, array in fields.items():
            assert array.dtype == b.fields()[name].dtype
            assert array.shape == b.fields()[name].shape
            assert array.tobytes() == b.fields()[name].tobytes(), name


def test_episodes_are_what_a_plain_loop_gives(card):
    episodes = rollout(card, Remembers(), SEEDS, num_envs=4, record_state=True, source="me")
    for seed, episode in zip(SEEDS, episodes, strict=True):
        env, policy = Point(), Remembers()
        observation, memory, states = env.reset(seed=seed)[0], policy.initial(1), []
        states.append(env.get_state())
        assert np.array_equal(episode.observation[0], observation)
        for t in range(len(episode)):
            keys = fold_in(keys_from_seeds([seed]), t)
            action, memory = policy.act(observation[None], memory, keys=keys)
            clipped = np.clip(action[0], env.action_space.low, env.action_space.high)
            observation, reward, terminated, truncated, info = env.step(clipped)
            states.append(env.get_state())
            assert np.array_equal(episode.action[t], clipped)
            assert np.array_equal(episode.observation[t + 1], observation)
            assert episode.reward[t] == reward and episode.success[t] == info["success"]
            assert (episode.terminated[t], episode.truncated[t]) == (terminated, truncated)
        assert terminated or truncated
        assert np.array_equal(episode.state, states)
        assert (episode.seed, episode.source, episode.invalid) == (seed, "me", None)


@pytest.mark.parametrize("num_envs", [2, 3, 5, 8, 10, 64])
def test_any_number_of_environments_gives_the_same_episodes(card, num_envs):
    one = rollout(card, Remembers(), SEEDS, record_state=True)
    assert_same(one, rollout(card, Remembers(), SEEDS, record_state=True, num_envs=num_envs))
    assert len({len(e) for e in one}) > 3  # they do end at different times


def test_the_order_of_seeds_only_orders_the_episodes(card):
    forward = rollout(card, Remembers(), SEEDS, num_envs=3)
    assert_same(forward, rollout(card, Remembers(), SEEDS[::-1], num_envs=4)[::-1])


def test_an_engine_can_be_used_again(card):
    with Rollout(card, Remembers(), num_envs=4) as engine:
        first = dict(engine.run(SEEDS))
        assert_same([first[i] for i in range(2)], [e for _, e in sorted(engine.run(SEEDS[:2]))])
        next(engine.run(SEEDS))  # abandoned half-way
        again = dict(engine.run(SEEDS))
    assert_same([first[i] for i in range(10)], [again[i] for i in range(10)])


def test_no_seeds_no_episodes(card):
    assert rollout(card, Remembers(), []) == []


def test_callback_and_times(card):
    seen = {}
    episodes = rollout(card, Remembers(), SEEDS, num_envs=3, timing=True, on_episode=seen.__setitem__)
    assert [seen[i] is episodes[i] for i in range(len(SEEDS))] == [True] * len(SEEDS)
    for episode in episodes:
        assert episode.act_seconds.shape == episode.step_seconds.shape == (len(episode),)
        assert (episode.act_seconds > 0).all() and (episode.step_seconds > 0).all()
    assert rollout(card, Remembers(), SEEDS[:1])[0].act_seconds is None


@pytest.mark.parametrize("num_envs", [1, 3, 10])
def test_faults_of_the_simulator_are_recorded_where_they_arose(broken, num_envs, monkeypatch):
    episodes = rollout(broken, Remembers(), SEEDS, num_envs=num_envs, on_error="record", record_state=True)
    monkeypatch.setattr(Point, "broken", False)
    sound = rollout(broken, Remembers(), SEEDS, record_state=True)
    for seed, episode, whole in zip(SEEDS, episodes, sound, strict=True):
        if seed == STUCK:
            assert episode.invalid == "RuntimeError: the reset is stuck"
            assert len(episode) == len(episode.observation) == 0
        elif seed == BREAKS:
            assert episode.invalid == "RuntimeError: a joint has broken" and len(episode) == 3
            for name, array in episode.fields().items():
                assert np.array_equal(array, whole.fields()[name][: len(array)])
            assert episode.observation.shape == (4, 3) and episode.state.shape == (4, 4)
        else:
            assert_same([episode], [whole])


@pytest.mark.parametrize("num_envs", [1, 4])
def test_faults_of_the_simulator_are_raised(broken, num_envs):
    with pytest.raises(RuntimeError, match=r"a joint has broken|the reset is stuck"):
        rollout(broken, Remembers(), SEEDS, num_envs=num_envs)


class Faulty(Remembers):
    """Wrong in chosen episodes from a chosen step on; it knows them by their first key."""

    def __init__(self, fault, seeds, step):
        self.fault, self.step = fault, step
        self.bad = {int(fold_in(keys_from_seeds([s]), step)[0]) for s in seeds}

    def act(self, observation, state, *, keys):
        action, new = super().act(observation, state, keys=keys)
        for i, key in enumerate(keys):
            if int(key) in self.bad:
                if self.fault == "raises":
                    raise ZeroDivisionError("lost")
                if self.fault == "shape":
                    return action[:, :1], new
                if self.fault == "type":
                    return action.astype(np.int64), new
                if self.fault == "nothing":
                    return None
                action[i, 1] = np.nan if self.fault == "nan" else np.inf
        return action, new


@pytest.mark.parametrize("fault", ["raises", "shape", "type", "nothing", "nan", "inf"])
@pytest.mark.parametrize("num_envs", [1, 4, 10])
def test_faults_of_the_policy_are_recorded_where_they_arose(card, fault, num_envs):
    bad = {11: 2, 8: 2}
    sound = rollout(card, Remembers(), SEEDS)
    episodes = rollout(card, Faulty(fault, bad, 2), SEEDS, num_envs=num_envs, on_error="record")
    reference = rollout(card, Faulty(fault, bad, 2), SEEDS, on_error="record")
    assert_same(reference, episodes)
    for seed, episode, whole in zip(SEEDS, episodes, sound, strict=True):
        if seed in bad:
            assert len(episode) == 2 and episode.invalid
            assert np.array_equal(episode.observation, whole.observation[:3])
        else:
            assert_same([episode], [whole])
    with pytest.raises((InvalidActionError, ZeroDivisionError, TypeError)):
        rollout(card, Faulty(fault, bad, 2), SEEDS, num_envs=num_envs)


def test_an_environment_that_outlives_its_horizon_is_named(card):
    with pytest.raises(CardError, match="horizon of 5"):
        rollout(dataclasses.replace(card, horizon=5), Remembers(), [16])


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"vectorization": "gpu"}, "gpu"),
        ({"on_error": "ignore"}, "ignore"),
        ({"num_envs": 0}, "at least 1"),
        ({"simulator": "oracle", "record_state": True}, "record_state"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_settings_that_do_not_exist(card, options, word):
    with pytest.raises(ValueError, match=word):
        Rollout(card, Remembers(), **options)


@pytest.mark.parametrize("task", ["Gym-Hopper", "DMC-CartpoleSwingup"])
def test_true_learned_and_parallel_give_the_same_bits(task):
    card = dataclasses.replace(wmbench.task_card(task))
    policy, seeds = RandomPolicy(RandomConfig(smoothness=0.5), card), [3, 1, 4]
    one = rollout(card, policy, seeds)
    assert_same(one, rollout(card, policy, seeds, num_envs=2))
    assert_same(one, rollout(card, policy, seeds, num_envs=2, vectorization="async"))
    for num_envs in (1, 2):
        assert_same(one, rollout(card, policy, seeds, num_envs=num_envs, simulator="oracle"))


def test_states_branch_exactly():
    card = wmbench.task_card("Gym-Hopper")
    for options in ({}, {"num_envs": 2, "vectorization": "async"}):
        episode = rollout(card, RandomPolicy.for_task(card), [7, 8], record_state=True, **options)[0]
        env = gym.make(card.id)
        for t in (0, len(episode) // 2, len(episode) - 1):
            observation = env.unwrapped.set_state(episode.state[t])
            assert np.array_equal(observation, episode.observation[t])
            after, reward, *_ = env.step(episode.action[t])
            assert np.array_equal(after, episode.observation[t + 1]) and reward == episode.reward[t]


class Fragile:
    """A world model that stands still; rows that begin in a certain place raise or become NaN at the third step."""

    def __init__(self, task, fault):
        self.task, self.fault = task, fault
        self.card = ModelCard("fragile", (task.id,), frozenset({"observation", "reward", "terminated"}), *["-"] * 4)

    def initial(self, start, *, keys):
        chosen = torch.from_numpy(uniform(keys.numpy(), 1)[:, 0] < 0.3)
        return {"observation": start.observation, "t": torch.zeros(len(keys)), "chosen": chosen}

    def step(self, state, action, *, uncertainty=False):
        t = state["t"] + 1
        bad = state["chosen"] & (t >= 3)
        if self.fault == "raise" and bad.any():
            raise RuntimeError("the model gave up")
        observation = torch.where(bad[:, None], torch.nan, state["observation"])
        reward = action.double().sum(1)
        return {**state, "t": t}, Prediction(observation, reward=reward, terminated=(t >= 9).float())


@pytest.mark.parametrize("num_envs", [1, 3, 12])
def test_learned_simulators_that_fail_or_diverge(world_model, num_envs):
    card = wmbench.task_card("Gym-Hopper")
    seeds = list(range(12))
    chosen = uniform(keys_from_seeds(seeds), 1)[:, 0] < 0.3
    assert 0 < chosen.sum() < 12
    policy = RandomPolicy.for_task(card)
    fails = world_model("fragile-raise", lambda task, device: Fragile(task, "raise"))
    diverges = world_model("fragile-nan", lambda task, device: Fragile(task, "nan"))
    failed = rollout(card, policy, seeds, simulator=fails, num_envs=num_envs, on_error="record")
    diverged = rollout(card, policy, seeds, simulator=diverges, num_envs=num_envs)
    for bad, a, b in zip(chosen, failed, diverged, strict=True):
        assert len(a) == (2 if bad else 9) and a.invalid == ("RuntimeError: the model gave up" if bad else None)
        assert len(b) == (3 if bad else 9) and b.diverged == bad and b.truncated[-1] == bad
        assert np.isfinite(b.observation).all()
    with pytest.raises(RuntimeError, match="gave up"):
        rollout(card, policy, seeds, simulator=fails, num_envs=num_envs)


@pytest.mark.parametrize("num_envs", [1, 3])
def test_the_model_tells_its_doubt_at_every_step(num_envs):
    name = "Gym-Hopper"
    policy = RandomPolicy(RandomConfig(), wmbench.task_card(name))
    found = rollout(name, policy, [3, 4, 5], simulator="ensemble", num_envs=num_envs, uncertainty=True)
    for episode in found:
        with gym.make(f"wmbench/{name}-v0", simulator="ensemble", init="true", uncertainty=True) as env:
            env.reset(seed=episode.seed)
            told = [env.step(action)[-1]["uncertainty"]["disagreement"] for action in episode.action]
        assert 0 < min(told) < max(told)
        np.testing.assert_array_equal(episode.extra["doubt"], np.float32(told))


def test_success_of_an_episode(card, toy_episode):
    episode = toy_episode(1, steps=4)
    episode.success = np.array([False, True, False, False])
    end = dataclasses.replace(card, success=SuccessRule("reward", 1.0, "a toy", when="end"))
    assert episode.succeeded(card) and not episode.succeeded(end)
    assert not dataclasses.replace(episode, success=episode.success[:0], reward=episode.reward[:0]).succeeded(card)
