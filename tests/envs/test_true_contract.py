"""What every true task owes whoever steps it: Gymnasium's contract, seeds, time limit, success, misuse."""

from __future__ import annotations

import copy
import re
import subprocess
import sys
import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env

import wmbench
from wmbench.cards import TaskCard
from wmbench.errors import InvalidActionError, LifecycleError, NotRegisteredError, RenderError, SimulationError

CARDS = [pytest.param(card, id=card.name) for card in wmbench.task_cards().values()]
UNAVOIDABLE = re.compile(
    "A Box observation space (minimum|maximum) value is -?infinit"  # MuJoCo's positions and velocities
    "|recommend using a symmetric and normalized space"  # Pusher's and InvertedPendulum's own actions
)


def actions(card: TaskCard, n: int, seed: int = 0) -> np.ndarray:
    low, high = card.action_bounds()
    return np.random.default_rng(seed).uniform(low, high, (n, len(low))).astype(np.float32)


def play(env: Any, chosen: np.ndarray) -> list[tuple]:
    steps = []
    for action in chosen:
        steps.append(env.step(action))
        if steps[-1][2] or steps[-1][3]:
            break
    return steps


def same(a: list[tuple], b: list[tuple]) -> bool:
    return len(a) == len(b) and all(
        np.array_equal(x[0], y[0]) and x[1:4] == y[1:4] and x[4]["success"] == y[4]["success"]
        for x, y in zip(a, b, strict=True)
    )


@pytest.mark.parametrize("card", CARDS)
def test_gymnasium_accepts_the_environment(card: TaskCard) -> None:
    env = gym.make(card.id)
    assert env is env.unwrapped  # no wrapper stands between a caller and the checks
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check_env(env, skip_render_check=True)
    assert [str(w.message) for w in caught if not UNAVOIDABLE.search(str(w.message))] == []
    assert env.metadata["render_fps"] == round(card.control_hz)


@pytest.mark.parametrize("card", CARDS)
def test_spec_survives_json(card: TaskCard) -> None:
    env = gym.make(card.id)
    again = gym.make(EnvSpec.from_json(env.spec.to_json()))
    assert again.spec == env.spec
    assert np.array_equal(again.reset(seed=3)[0], env.reset(seed=3)[0])
    vector = gym.make_vec(card.id, num_envs=2, autoreset_mode="SameStep")
    again = gym.make_vec(EnvSpec.from_json(vector.spec.to_json()))
    assert again.num_envs == 2
    assert again.metadata["autoreset_mode"] is gym.vector.AutoresetMode.SAME_STEP


@pytest.mark.parametrize("card", CARDS)
def test_episodes_depend_on_seed_and_actions_only(card: TaskCard) -> None:
    first, second = gym.make(card.id), gym.make(card.id)
    second.reset(seed=1)
    play(second, actions(card, 20, seed=1))  # an episode before must leave no trace
    chosen = actions(card, 60)
    a, info_a = first.reset(seed=42)
    b, info_b = second.reset(seed=42)
    assert np.array_equal(a, b)
    assert info_a["episode_seed"] == info_b["episode_seed"] == 42
    assert same(play(first, chosen), play(second, chosen))
    c, _ = second.reset(seed=43)
    assert not np.array_equal(a, c)


@pytest.mark.parametrize("card", CARDS)
def test_a_reset_without_seed_continues_the_stream(card: TaskCard) -> None:
    env, other = gym.make(card.id), gym.make(card.id)
    rng = np.random.default_rng(np.random.SeedSequence(5))
    env.reset(seed=5)
    play(env, actions(card, 7))
    for _ in range(3):
        observation, info = env.reset()
        assert info["episode_seed"] == int(rng.integers(2**31))
        assert np.array_equal(observation, other.reset(seed=info["episode_seed"])[0])
    fresh = [gym.make(card.id).reset()[1]["episode_seed"] for _ in range(2)]
    assert fresh[0] != fresh[1]


@pytest.mark.parametrize("card", CARDS)
def test_values_are_fresh_and_of_their_types(card: TaskCard) -> None:
    env = gym.make(card.id)
    observation, info = env.reset(seed=0)
    assert info["success"] is False
    assert info["is_success"] is False
    seen = [(observation, info)]
    low, high = card.reward_range
    for observation, reward, terminated, truncated, info in play(env, actions(card, 30)):
        assert observation.dtype == np.float32
        assert env.observation_space.contains(observation)
        assert type(reward) is float
        assert (low is None or reward >= low) and (high is None or reward <= high)
        assert {type(v) for v in (terminated, truncated, info["success"], info["is_success"])} == {bool}
        seen.append((observation, info))
    assert len({id(o) for o, _ in seen}) == len({id(i) for _, i in seen}) == len(seen)
    kept = copy.deepcopy(seen)
    env.reset(seed=1)
    play(env, actions(card, 5))
    assert all(np.array_equal(o, k) and i.keys() == j.keys() for (o, i), (k, j) in zip(seen, kept, strict=True))


@pytest.mark.parametrize("card", CARDS)
def test_the_time_limit_is_exact_and_success_follows_the_card(card: TaskCard) -> None:
    env = gym.make(card.id)
    rule = card.success
    for seed in (1,) if card.suite == "maniskill" else range(3):  # whose steps take milliseconds
        env.reset(seed=seed)
        chosen = actions(card, card.horizon + 1, seed) if seed else np.zeros((card.horizon + 1, len(card.action)), "f4")
        steps = play(env, chosen)
        reward = np.array([s[1] for s in steps])
        ended = np.array([s[2] or s[3] for s in steps])
        if rule.kind != "env":
            success = rule(reward, np.add.accumulate(reward), np.stack([s[0] for s in steps]), ended)
            assert [s[4]["success"] for s in steps] == success.tolist()
        assert [s[4]["is_success"] for s in steps] == [s[4]["success"] for s in steps]
        assert [s[3] for s in steps] == [i + 1 == card.horizon for i in range(len(steps))]
        assert ended.sum() == 1
        if not card.terminates:
            assert len(steps) == card.horizon
            assert not any(s[2] for s in steps)
        with pytest.raises(LifecycleError, match=rf"{card.id}.*episode has ended.*reset"):
            env.step(chosen[0])


@pytest.mark.parametrize("card", CARDS)
def test_bad_actions_are_named_and_move_nothing(card: TaskCard) -> None:
    env = gym.make(card.id)
    env.reset(seed=0)
    before = env.unwrapped.get_state()
    good = actions(card, 1)[0]
    nan, inf, wide = good.copy(), good.copy(), np.append(good, np.float32(0))
    nan[-1], inf[0] = np.nan, np.inf
    faults = [
        (nan, f"NaN in dimension {len(good) - 1}"),
        (inf, "infinite in dimension 0"),
        (wide, "shape"),
        (good[None], "shape"),
        (np.float32(0.5), "NumPy array"),
        (good.tolist(), "NumPy array"),
        (torch.from_numpy(good), "NumPy array"),
        ("up", "NumPy array"),
        (None, "NumPy array"),
        (np.zeros(len(good), dtype=np.int64), "floats"),
        (np.zeros(len(good), dtype=bool), "floats"),
        (np.zeros(len(good), dtype=object), "floats"),
        (np.zeros(len(good), dtype=complex), "floats"),
    ]
    for action, fault in faults:
        with pytest.raises(InvalidActionError, match=f"{card.id}.*{fault}"):
            env.step(action)
    assert np.array_equal(env.unwrapped.get_state(), before)


@pytest.mark.parametrize("card", CARDS)
def test_actions_outside_the_box_are_clipped(card: TaskCard) -> None:
    env, other = gym.make(card.id), gym.make(card.id)
    low, high = card.action_bounds()
    env.reset(seed=0), other.reset(seed=0)
    far = np.where(np.arange(len(low)) % 2, low - 3, high + 3).astype(np.float64)
    kept = far.copy()
    assert same([env.step(far)], [other.step(np.clip(far, low, high).astype(np.float32))])
    assert np.array_equal(far, kept)


@pytest.mark.parametrize("card", CARDS)
def test_calls_at_the_wrong_moment_are_refused(card: TaskCard) -> None:
    env = gym.make(card.id).unwrapped
    action = actions(card, 1)[0]
    for call in (lambda: env.step(action), env.get_state, env.render):
        with pytest.raises(LifecycleError, match=f"{card.id}.*reset\\(\\) first"):
            call()
    env.reset(seed=0)
    state = env.get_state()
    env.close()
    env.close()
    for call in (
        lambda: env.step(action),
        env.reset,
        env.render,
        env.get_state,
        lambda: env.set_state(state),
        lambda: env.render_pose(np.zeros(len(card.observation))),
    ):
        with pytest.raises(LifecycleError, match=f"{card.id}.*closed"):
            call()


@pytest.mark.parametrize("seed", [-1, 2**32, 0.5, "7", True, np.float64(1), [1]])
def test_bad_seeds_are_refused(seed: Any) -> None:
    env = gym.make("wmbench/DMC-PendulumSwingup-v0")
    with pytest.raises(ValueError, match=r"DMC-PendulumSwingup-v0.*seed"):
        env.reset(seed=seed)


def test_numpy_seeds_and_large_seeds_work() -> None:
    for name in ("DMC-PendulumSwingup", "Gym-Reacher"):
        env = gym.make(f"wmbench/{name}-v0")
        assert np.array_equal(env.reset(seed=np.int64(7))[0], env.reset(seed=7)[0])
        assert type(env.reset(seed=np.uint8(7))[1]["episode_seed"]) is int
        env.reset(seed=2**32 - 1)


@pytest.mark.parametrize(
    ("kwargs", "fault"),
    [
        ({"init": "somewhere"}, "init must be None, 'bank', 'true', or the folder of a dataset, got 'somewhere'"),
        ({"observation": "smell"}, "observation must be one of 'state'"),
        ({"uncertainty": True}, "the true simulator has no uncertainty"),
        ({"uncertainty": 1}, "uncertainty must be one of False, True"),
        ({"simulator": object()}, "simulator must be"),
    ],
)
def test_unknown_options_are_named(kwargs: dict[str, Any], fault: str) -> None:
    for make in (gym.make, gym.make_vec):
        with pytest.raises(ValueError, match=f"Gym-Hopper-v0: {re.escape(fault)}"):
            make("wmbench/Gym-Hopper-v0", **kwargs)


def test_unknown_tasks_and_reset_options_are_named() -> None:
    from wmbench_envs.make import make_env

    with pytest.raises(NotRegisteredError, match="CartpoleSwingup"):
        make_env("wmbench/DMC-CartpolSwingup-v0")
    env = gym.make("wmbench/Gym-Hopper-v0")
    with pytest.raises(ValueError, match="no options, got \\['start'\\]"):
        env.reset(options={"start": 1})
    env.reset(options={})
    with pytest.raises(RenderError, match=r"Gym-Hopper-v0.*human"):
        make_env("wmbench/Gym-Hopper-v0", render_mode="human")


def test_ids_work_without_importing_the_package_first() -> None:
    code = (
        "import gymnasium as gym; e = gym.make('wmbench:wmbench/DMC-CartpoleSwingup-v0');"
        "print(e.reset(seed=0)[0].shape)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "(5,)"


@pytest.mark.filterwarnings("ignore")
def test_a_simulation_that_blows_up_says_so_and_lets_no_number_out(monkeypatch: pytest.MonkeyPatch) -> None:
    wild = gym.make("wmbench/DMC-WalkerWalk-v0", world={"mass": 0.1, "gain": 20.0, "damping": 20.0}).unwrapped
    wild.reset(seed=0)
    rng = np.random.default_rng(0)
    with pytest.raises(SimulationError, match=r"DMC-WalkerWalk-v0: .*unstable.*step \d+ of the episode"):
        for _ in range(wild.card.horizon):
            wild.step(rng.uniform(-1, 1, 6).astype(np.float32))
    with pytest.raises(LifecycleError):
        wild.step(np.ones(6, np.float32))
    assert np.isfinite(wild.reset(seed=1)[0]).all()
    env = gym.make("wmbench/Gym-Hopper-v0").unwrapped
    env.reset(seed=0)
    observation, *rest = env._backend.step(np.zeros(3, np.float32))
    for bad in ((np.full_like(observation, np.nan), *rest), (observation, np.inf, *rest[1:])):
        env.reset(seed=0)
        monkeypatch.setattr(env, "_advance", lambda action, bad=bad: bad)
        with pytest.raises(SimulationError, match="not finite, at step 1"):
            env.step(np.zeros(3, np.float32))
