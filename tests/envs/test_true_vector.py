"""Batches of true environments: rows equal single environments, in every autoreset mode, process and array kind."""

from __future__ import annotations

import re
import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode

import wmbench
from wmbench.errors import InvalidActionError, LifecycleError

MODES = ("NextStep", "SameStep", "Disabled")
KINDS = ("sync", "async")
TASK = "wmbench/Gym-Hopper-v0"
CARDS = [pytest.param(card, id=card.name) for card in wmbench.task_cards().values()]


def actions(env: Any, n: int, seed: int = 0) -> np.ndarray:
    box = env.action_space
    return np.random.default_rng(seed).uniform(box.low, box.high, (n, *box.shape)).astype(np.float32)


def expected(task: str, mode: str, seeds: list[int], chosen: np.ndarray) -> list[tuple]:
    """What a batch must give, worked out with one environment per row."""
    rows = [gym.make(task) for _ in seeds]
    now = [env.reset(seed=s)[0] for env, s in zip(rows, seeds, strict=True)]
    waiting = [False] * len(rows)
    out = []
    for batch in chosen:
        step = []
        for i, env in enumerate(rows):
            reward, terminated, truncated, final, success = 0.0, False, False, None, False
            if mode == "NextStep" and waiting[i]:
                now[i], _ = env.reset()
            else:
                now[i], reward, terminated, truncated, info = env.step(batch[i])
                success = info["success"]
            waiting[i] = terminated or truncated
            if mode != "NextStep" and waiting[i]:
                final, success = (now[i], success) if mode == "SameStep" else (None, success)
                if mode == "SameStep":
                    now[i], _ = env.reset()
            step.append((now[i], reward, terminated, truncated, final, success))
            if mode == "Disabled" and waiting[i]:
                now[i], _ = env.reset()
        out.append(step)
    return out


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("task", [TASK, "wmbench/Gym-Reacher-v0"])
def test_rows_equal_single_environments(task: str, mode: str, kind: str) -> None:
    seeds = [11, 3, 3, 900]
    env = gym.make_vec(task, num_envs=4, autoreset_mode=mode, vectorization=kind)
    assert env.metadata["autoreset_mode"] is AutoresetMode(mode)
    assert env.num_envs == 4
    chosen = actions(env, 120)
    observation, infos = env.reset(seed=seeds)
    assert infos["episode_seed"].tolist() == seeds
    assert not infos["success"].any()
    ends = 0
    for batch, want in zip(chosen, expected(task, mode, seeds, chosen), strict=True):
        observation, reward, terminated, truncated, infos = env.step(batch)
        assert observation.dtype == np.float32
        assert (reward.dtype, terminated.dtype, truncated.dtype) == (np.float64, bool, bool)
        for i, (o, r, te, tr, final, success) in enumerate(want):
            assert np.array_equal(observation[i], o)
            assert (reward[i], terminated[i], truncated[i]) == (r, te, tr)
            if final is None:
                assert infos["success"][i] == infos["is_success"][i] == success
                assert not infos.get("_final_obs", np.zeros(4, bool))[i]
            else:
                assert np.array_equal(infos["final_obs"][i], final)
                assert infos["_final_obs"][i]
                assert infos["final_info"]["success"][i] == success
                assert not infos["success"][i]
        ended = terminated | truncated
        ends += ended.sum()
        if mode == "Disabled" and ended.any():
            with pytest.raises(LifecycleError, match=f"episode of row {ended.argmax()} has ended"):
                env.step(batch)
            observation, infos = env.reset(options={"reset_mask": ended})
            assert np.array_equal(infos["_episode_seed"], ended)
    assert ends > 4
    env.close()


@pytest.mark.parametrize("card", CARDS)
def test_sync_rows_of_every_task_equal_a_single_environment(card: Any) -> None:
    env, single = gym.make_vec(card.id, num_envs=2), gym.make(card.id)
    chosen = actions(env, 12)
    env.reset(seed=[5, 6])
    single.reset(seed=6)
    for batch in chosen:
        observation, reward, terminated, truncated, infos = env.step(batch)
        o, r, te, tr, info = single.step(batch[1])
        assert np.array_equal(observation[1], o)
        assert (reward[1], terminated[1], truncated[1], infos["success"][1]) == (r, te, tr, info["success"])
        if te or terminated[0]:
            break


@pytest.mark.parametrize("mode", MODES)
def test_tensors_hold_the_same_numbers(mode: str) -> None:
    plain = gym.make_vec(TASK, num_envs=3, autoreset_mode=mode)
    env = gym.make_vec(TASK, num_envs=3, autoreset_mode=mode, array="torch")
    chosen = actions(plain, 60)
    a, infos_a = plain.reset(seed=1)
    b, infos_b = env.reset(seed=1)
    ends = 0
    for i, batch in enumerate(chosen):
        assert isinstance(b, torch.Tensor)
        assert np.array_equal(a, b.numpy())
        assert infos_a.keys() == infos_b.keys()
        assert np.array_equal(infos_a["success"], infos_b["success"].numpy())
        kept = b.clone()
        a, *rest_a, infos_a = plain.step(batch)
        b, *rest_b, infos_b = env.step(torch.from_numpy(batch) if i % 2 else batch)
        assert [t.dtype for t in rest_b] == [torch.float64, torch.bool, torch.bool]
        assert all(np.array_equal(x, y.numpy()) for x, y in zip(rest_a, rest_b, strict=True))
        ended = rest_a[1] | rest_a[2]
        ends += ended.sum()
        if mode == "SameStep" and ended.any():
            assert infos_b["final_obs"].shape == (3, 11)
            assert all(
                np.array_equal(infos_a["final_obs"][r], infos_b["final_obs"][r].numpy()) for r in np.flatnonzero(ended)
            )
            assert infos_b["final_info"]["success"].dtype == torch.bool
        if mode == "Disabled" and ended.any():
            a, infos_a = plain.reset(options={"reset_mask": ended})
            b, infos_b = env.reset(options={"reset_mask": ended})
        assert b.data_ptr() != kept.data_ptr()
    assert ends > 2


@pytest.mark.parametrize("kind", KINDS)
def test_a_bad_row_is_named_before_any_row_moves(kind: str) -> None:
    env = gym.make_vec(TASK, num_envs=3, vectorization=kind)
    env.reset(seed=0)
    good = np.zeros((3, 3), dtype=np.float32)
    states = np.stack(env.call("get_state"))
    nan, inf = good.copy(), good.astype(np.float64)
    nan[2, 1], inf[1, 0] = np.nan, -np.inf
    for bad, fault in (
        (nan, "NaN in row 2, dimension 1"),
        (inf, "infinite in row 1, dimension 0"),
        (good[:2], "shape"),
        (good[0], "shape"),
        (good.tolist(), "NumPy array"),
        (torch.from_numpy(good), "NumPy array"),
        (None, "NumPy array"),
        ("left", "NumPy array"),
        (good.astype(int), "floats"),
    ):
        with pytest.raises(InvalidActionError, match=f"{TASK}.*{fault}"):
            env.step(bad)
    assert np.array_equal(np.stack(env.call("get_state")), states)
    env.step(good)  # still alive
    env.close()
    tensors = gym.make_vec(TASK, num_envs=3, array="torch")
    tensors.reset(seed=0)
    for bad, fault in ((torch.from_numpy(nan), "row 2"), (torch.zeros(3, 3, dtype=torch.int64), "floats")):
        with pytest.raises(InvalidActionError, match=f"{TASK}.*{fault}"):
            tensors.step(bad)


@pytest.mark.parametrize("kind", KINDS)
def test_calls_at_the_wrong_moment_are_refused(kind: str) -> None:
    env = gym.make_vec(TASK, num_envs=2, vectorization=kind, render_mode="rgb_array")
    good = np.zeros((2, 3), dtype=np.float32)
    for call in (lambda: env.step(good), env.render):
        with pytest.raises(LifecycleError, match=rf"{TASK}.*reset\(\) first"):
            call()
    with pytest.raises(LifecycleError, match="first reset"):
        env.reset(options={"reset_mask": np.array([True, False])})
    env.reset(seed=0)
    env.close()
    env.close()
    for call in (lambda: env.step(good), env.reset, env.render, lambda: env.call("get_state")):
        with pytest.raises(LifecycleError, match=f"{TASK}.*closed"):
            call()


def test_bad_seeds_and_masks_are_named() -> None:
    env = gym.make_vec(TASK, num_envs=3)
    for seed, fault in (
        ([1, 2], "2 seeds for 3 rows"),
        ([1, 2, -3], "got -3"),
        ([1, 2, 0.5], "got 0.5"),
        (-1, "got -1"),
        (2**32 - 2, "got 4294967296"),
        ("12", "got '12'"),
        (True, "got True"),
    ):
        with pytest.raises(ValueError, match=f"{TASK}.*{re.escape(fault)}"):
            env.reset(seed=seed)
    env.reset(seed=np.array([1, 2, 3]))
    for mask, fault in (
        ([True, False, False], "got list"),
        (np.array([True, False]), "(3,)"),
        (np.array([1, 0, 0]), "int64"),
        (np.zeros(3, dtype=bool), "at least one row"),
    ):
        with pytest.raises(ValueError, match=f"{TASK}.*{re.escape(fault)}"):
            env.reset(options={"reset_mask": mask})
    with pytest.raises(ValueError, match=f"{TASK}.*'mask'"):
        env.reset(options={"mask": np.ones(3, dtype=bool)})


def test_seeds_of_rows_follow_gymnasium_and_streams_go_on() -> None:
    env = gym.make_vec(TASK, num_envs=3)
    assert env.reset(seed=7)[1]["episode_seed"].tolist() == [7, 8, 9]
    drawn = env.reset()[1]["episode_seed"]
    singles = [gym.make(TASK) for _ in range(3)]
    for i, single in enumerate(singles):
        single.reset(seed=7 + i)
        assert single.reset()[1]["episode_seed"] == drawn[i]
    options = {"reset_mask": np.array([False, True, False])}
    again = env.reset(seed=[1, None, 2], options=options)[1]
    assert set(options) == {"reset_mask"}  # the caller's dict is left alone
    assert again["_episode_seed"].tolist() == [False, True, False]
    assert again["episode_seed"][1] == singles[1].reset()[1]["episode_seed"]


@pytest.mark.parametrize(
    ("kwargs", "fault"),
    [
        ({"array": "jax"}, "array must be one of 'numpy', 'torch'"),
        ({"vectorization": "threads"}, "vectorization must be one of 'sync', 'async'"),
        ({"autoreset_mode": "Never"}, "autoreset_mode must be one of 'NextStep', 'SameStep', 'Disabled'"),
        ({"max_episode_steps": 7}, "the time limit is 1000 steps"),
        ({"num_envs": 0}, "num_envs must be a positive integer, got 0"),
        ({"num_envs": 2.0}, "num_envs must be a positive integer, got 2.0"),
        ({"array": "torch", "device": "abacus"}, "device 'abacus' cannot be used here"),
        ({"vectorization": "async", "init": "x"}, "init must be"),
    ],
)
def test_unknown_options_are_named(kwargs: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValueError, match=f"{TASK}: {re.escape(fault)}"):
        gym.make_vec(TASK, **{"num_envs": 2, **kwargs})


def test_gymnasium_has_no_complaint_and_its_own_modes_work() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gym.make_vec(TASK, num_envs=2, autoreset_mode=AutoresetMode.SAME_STEP)
        env.reset(seed=0)
        env.step(env.action_space.sample())
    assert env.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    assert env.observation_space.shape == (2, 11)
    assert env.single_observation_space == gym.make(TASK).observation_space
    own = gym.make_vec(TASK, num_envs=2, vectorization_mode="sync")
    assert np.array_equal(own.reset(seed=0)[0], env.reset(seed=0)[0])
