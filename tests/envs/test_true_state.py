"""States of true simulators: a restored rollout equals the original bit for bit, and nothing else is accepted."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

import wmbench
from wmbench.cards import TaskCard
from wmbench.errors import LifecycleError, StateError
from wmbench.protocols import Simulator
from wmbench_envs.true_branch import HEADER
from wmbench_envs.true_env import TrueEnv

CARDS = [pytest.param(card, id=card.name) for card in wmbench.task_cards().values()]
DERIVED = [
    pytest.param(card, kind, name, id=f"{card.name}-{name}")
    for card in wmbench.task_cards().values()
    for kind in ("derived", "goal")
    for name in card.kwargs.get(kind, ())
]
SAVE_AT = (0, 1, 7, 33)
STEPS = 64


def actions(card: TaskCard, seed: int) -> np.ndarray:
    """Random actions that push for a few steps in one direction, so that robots fall, and goals and stops are hit."""
    low, high = card.action_bounds()
    rng = np.random.default_rng(seed)
    return np.repeat(rng.uniform(low, high, (STEPS // 4, len(low))).astype(np.float32), 4, axis=0)


def rollout(env: Any, chosen: np.ndarray) -> list[tuple]:
    steps = []
    for action in chosen:
        observation, *rest, info = env.step(action)
        steps.append((observation, *rest, info["success"]))
        if rest[1] or rest[2]:
            break
    return steps


def equal(a: list[tuple], b: list[tuple]) -> bool:
    return len(a) == len(b) and all(np.array_equal(x[0], y[0]) and x[1:] == y[1:] for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("card", CARDS)
def test_restored_rollouts_equal_the_original(card: TaskCard) -> None:
    env, used = gym.make(card.id).unwrapped, gym.make(card.id).unwrapped
    assert isinstance(env, Simulator)
    used.reset(seed=1000)
    rollout(used, actions(card, 1000))
    few = card.suite == "maniskill"  # whose steps take milliseconds, and whose states are replayed
    for seed in range(1 if few else 3):
        chosen = actions(card, seed)[: 36 if few else STEPS]
        observations = [env.reset(seed=seed)[0]]
        states = [env.get_state()]
        original = []
        for action in chosen:
            original += rollout(env, action[None])
            observations.append(original[-1][0])
            states.append(env.get_state())
            if original[-1][2] or original[-1][3]:
                break
        assert len({s.size for s in states}) == 1
        env.reset(seed=seed + 500)  # later in the same object, after another episode has begun
        rollout(env, chosen[:9])
        for where in (env, used, gym.make(card.id).unwrapped):
            for i in (k for k in (SAVE_AT[::-2] if few else SAVE_AT) if k < len(original)):
                assert np.array_equal(where.set_state(states[i]), observations[i])
                assert np.array_equal(where.get_state(), states[i])
                assert equal(rollout(where, chosen[i:]), original[i:])


@pytest.mark.parametrize("name", ["DMC-FingerSpin", "DMC-HopperStand", "Gym-Ant", "Gym-Humanoid"])
def test_states_in_the_middle_of_a_contact_are_exact(name: str) -> None:
    card = wmbench.task_card(name)
    felt = [i for i, d in enumerate(card.observation) if d.name.startswith("touch") or "external_force" in d.name]
    env, other = gym.make(card.id).unwrapped, gym.make(card.id).unwrapped
    found = 0
    for seed in range(60):
        env.reset(seed=seed)
        chosen = actions(card, seed)
        for i, action in enumerate(chosen[:-12]):
            observation, _, terminated, _, _ = env.step(action)
            if terminated:
                break
            if np.any(observation[felt]):
                state = env.get_state()
                original = rollout(env, chosen[i + 1 : i + 13])
                assert np.array_equal(other.set_state(state), observation)
                assert equal(rollout(other, chosen[i + 1 : i + 13]), original)
                found += 1
                break
        if found >= 5:
            break
    assert found >= 5


@pytest.mark.parametrize(("card", "kind", "name"), DERIVED)
def test_every_extra_number_in_a_state_is_needed(card: TaskCard, kind: str, name: str) -> None:
    kwargs = {**card.kwargs, kind: [n for n in card.kwargs[kind] if n != name]}
    without = dataclasses.replace(card, kwargs=kwargs)
    env, other = TrueEnv(without), TrueEnv(without)
    for seed in range(10):  # until the number matters: a finger must be touching, a foot be on the ground
        env.reset(seed=seed)
        if card.name == "Gym-InvertedDoublePendulum":  # falls before random actions drive it to the end of its rail
            state = env.get_state()
            state[[HEADER + 1, HEADER + 4]] = 0.99, 5.0
            env.set_state(state)
        states, steps = [], []
        for action in actions(card, seed):
            steps += rollout(env, action[None])
            if steps[-1][2] or steps[-1][3]:
                break
            states.append(env.get_state())
        other.reset(seed=seed + 500)
        for i in reversed(range(len(states))):  # backwards: what is left over is never right by accident
            restored = other.set_state(states[i])
            after = rollout(other, actions(card, seed)[i + 1 : i + 2])
            if not (np.array_equal(restored, steps[i][0]) and equal(after, steps[i + 1 : i + 2])):
                return
    pytest.fail(f"{name} could be left out of the state of {card.id}")


@pytest.mark.parametrize("card", CARDS)
def test_the_step_counter_and_the_return_are_part_of_the_state(card: TaskCard) -> None:
    env = gym.make(card.id).unwrapped
    env.reset(seed=0)
    first = rollout(env, actions(card, 0)[:2])
    state = env.get_state()
    assert state[1] == len(first)
    assert state[2] == sum(s[1] for s in first)
    state[1] = card.horizon - 1
    env.set_state(state)
    steps = rollout(env, actions(card, 0))
    assert [s[3] for s in steps] == [True]
    ended = env.get_state()
    env.reset(seed=1)
    env.set_state(ended)
    with pytest.raises(LifecycleError, match="episode has ended"):
        env.step(actions(card, 0)[0])


@pytest.mark.parametrize("card", CARDS)
def test_steps_draw_no_random_numbers(card: TaskCard) -> None:
    env = gym.make(card.id).unwrapped
    env.reset(seed=0)
    backend = env._backend
    own = {"dm-control": lambda: backend._task.random, "maniskill": lambda: backend._env._episode_rng}
    generators = [env.np_random, own.get(card.suite, lambda: backend._env.np_random)()]

    def snapshot() -> bytes:
        states = [g.get_state(legacy=False) if hasattr(g, "get_state") else g.bit_generator.state for g in generators]
        return pickle.dumps([*states, torch.get_rng_state().numpy()])

    before = snapshot()
    rollout(env, actions(card, 0)[: 8 if card.suite == "maniskill" else STEPS])
    env.set_state(env.get_state())
    assert snapshot() == before


@pytest.mark.parametrize("card", CARDS)
def test_other_states_are_refused_and_change_nothing(card: TaskCard) -> None:
    env = gym.make(card.id).unwrapped
    env.reset(seed=0)
    state = env.get_state()
    nan, foreign, infinite = state.copy(), state.copy(), state.copy()
    nan[HEADER + 1] = np.nan
    infinite[-1] = np.inf
    foreign[0] += 1
    for bad, fault in (
        (state[:-1], f"{state.size} floats, got shape"),
        (np.append(state, 0.0), f"{state.size} floats, got shape"),
        (state[None], f"{state.size} floats, got shape"),
        (state.astype(int), "int64"),
        (None, "object"),
        (nan, f"number {HEADER + 1} of the state is not finite"),
        (infinite, f"number {state.size - 1} of the state is not finite"),
        (foreign, "another task"),
    ):
        with pytest.raises(StateError, match=f"{card.id}.*{fault}"):
            env.set_state(bad)
    assert np.array_equal(env.get_state(), state)


def test_states_of_sibling_tasks_are_told_apart() -> None:
    stand, walk = (gym.make(f"wmbench/DMC-Walker{t}-v0").unwrapped for t in ("Stand", "Walk"))
    stand.reset(seed=0), walk.reset(seed=0)
    assert stand.get_state().size == walk.get_state().size
    with pytest.raises(StateError, match="another task"):
        walk.set_state(stand.get_state())


def test_a_state_is_a_copy() -> None:
    env = gym.make("wmbench/Gym-Hopper-v0").unwrapped
    env.reset(seed=0)
    state = env.get_state()
    kept = copy.deepcopy(state)
    rollout(env, actions(env.card, 0)[:3])
    assert np.array_equal(state, kept)
    env.set_state(state)
    rollout(env, actions(env.card, 0)[:3])
    assert np.array_equal(state, kept)
