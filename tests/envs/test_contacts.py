"""Contacts and broken laws of every MuJoCo task: functions of the state, right where the answer is known."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
import pytest

import wmbench
from wmbench.errors import LifecycleError, StateError
from wmbench.registration import task_cards

OURS = [c for c in task_cards().values() if c.physics == "mujoco-cpu"]
NO_ENERGY = {"Gym-Reacher", "Gym-Pusher"}  # their goals and objects move unobserved
TOUCHING = {c.name for c in OURS if "contact" in c.tags}


@pytest.fixture
def env(card: wmbench.TaskCard) -> Iterator[Any]:
    env = gym.make(card.id).unwrapped
    yield env
    env.close()


def model_and_data(env: Any) -> tuple[Any, Any]:
    backend = env._backend
    inner = getattr(backend, "_env", None)
    return (inner.model, inner.data) if hasattr(inner, "model") else (backend._model, backend._data)


def walk(env: Any, steps: int = 30) -> Iterator[np.ndarray]:
    """Observations under random actions, the simulator standing there."""
    rng = np.random.default_rng(0)
    low, high = env.card.action_bounds()
    ended = True
    for seed in range(steps):
        if ended:
            observation, ended = env.reset(seed=seed)[0], False
        else:
            action = rng.uniform(low, high).astype(np.float32)
            observation, _, terminated, truncated, _ = env.step(action)
            ended = terminated or truncated
        yield observation


@pytest.mark.parametrize("card", OURS, ids=lambda c: c.name)
def test_contacts_follow_from_the_state_and_change_nothing(card: wmbench.TaskCard, env: Any) -> None:
    seen = []
    other = gym.make(card.id).unwrapped
    for observation, untouched in zip(walk(env), walk(other), strict=True):
        assert np.array_equal(observation, untouched)
        before = env.get_state()
        seen.append((before, env.contacts()))
        env.violations(observation[None])
        assert np.array_equal(env.get_state(), before)
    for state, found in reversed(seen):
        other.set_state(state)
        assert other.contacts() == found
        model, data = model_and_data(other)
        fresh = mujoco.MjData(model)
        fresh.qpos[:] = data.qpos
        mujoco.mj_forward(model, fresh)  # an independent list: as many pairs as the solver has
        bodies = {tuple(sorted(model.body_weldid[model.geom_bodyid[g]] for g in c.geom)) for c in fresh.contact}
        assert len(found) == len(bodies)
    other.close()
    if card.name not in TOUCHING:
        assert not any(found for _, found in seen)


@pytest.mark.parametrize("card", OURS, ids=lambda c: c.name)
def test_true_observations_pose_the_body_as_it_stands(card: wmbench.TaskCard, env: Any) -> None:
    observations, depth, energy = [], [], []
    for observation in walk(env):
        model, data = model_and_data(env)
        fresh = mujoco.MjData(model)
        fresh.qpos[:], fresh.qvel[:] = data.qpos, data.qvel
        mujoco.mj_forward(model, fresh)
        mujoco.mj_energyPos(model, fresh)
        mujoco.mj_energyVel(model, fresh)
        observations.append(observation)
        depth.append(max(0.0, -fresh.contact.dist.min(initial=0.0)))
        energy.append(fresh.energy.sum())
    found = env.violations(np.array(observations))
    if "penetration" in found and card.name != "Gym-Pusher":  # the object rests on the table: depth 0 or 1e-17
        assert found["penetration"] == pytest.approx(np.array(depth), abs=2e-6)
    assert ("energy" in found) == (card.name not in NO_ENERGY)
    clipped = card.name in ("Gym-Hopper", "Gym-Walker2d")  # their observed velocities are cut at 10
    if "energy" in found and not clipped:
        assert found["energy"] == pytest.approx(np.array(energy), rel=1e-4, abs=1e-4)
    if card.name != "Gym-Ant":  # begins with its ankles far outside their limits
        assert found.get("joint-limit", np.zeros(1)).max() < 0.3  # limits are springs
    assert found.get("sine-cosine", np.zeros(1)).max() < 1e-6
    assert all(v.shape == (30,) and (v >= 0).all() for k, v in found.items() if k != "energy")


@pytest.mark.parametrize("card", [wmbench.task_card("Gym-HalfCheetah")], ids=["cheetah"])
def test_known_violations(card: wmbench.TaskCard, env: Any) -> None:
    start = env.reset(seed=0)[0]
    assert env.contacts() <= {"bfoot-world", "ffoot-world", "bshin-world", "fshin-world"}
    rows = np.tile(start, (5, 1)).astype(np.float64)
    rows[1, 0] += 5.0  # in the air
    rows[2, 0] -= 3.0  # the highest point of the body is about one metre above the ground
    rows[3, 2] = 1.05 + 0.157  # bthigh: its range is -0.52 to 1.05
    rows[4, 5] = np.nan
    found = env.violations(rows.astype(np.float32))
    assert found["penetration"][1] == 0.0
    assert found["penetration"][2] > 2.0
    assert found["joint-limit"][:3] == pytest.approx([0, 0, 0], abs=0.05)
    assert found["joint-limit"][3] == pytest.approx(0.1, abs=1e-6)
    assert all(np.isinf(v[4]) for v in found.values())
    mass = model_and_data(env)[0].body_mass.sum()
    assert found["energy"][1] - found["energy"][0] == pytest.approx(5.0 * 9.81 * mass, rel=1e-5)
    assert np.isinf(env.violations(np.full((1, 17), 1e7, np.float32))["penetration"]).all()
    _, data = model_and_data(env)
    data.qpos[1] += 5.0
    assert env.contacts() == frozenset()


def test_a_sine_and_its_cosine_lie_on_a_circle() -> None:
    env = gym.make("wmbench/DMC-PendulumSwingup-v0").unwrapped
    found = env.violations(np.array([[0.6, 0.8, 0.0], [0.3, 0.4, 0.0], [0.0, 0.0, 0.0]], np.float32))
    assert set(found) == {"sine-cosine", "energy"}  # nothing to touch, no limits
    assert found["sine-cosine"] == pytest.approx([0, 0.5, 1], abs=1e-7)
    assert found["energy"][0] == pytest.approx(found["energy"][1])


def test_angles_known_up_to_a_turn_are_measured_from_the_nearest_limit() -> None:
    env = gym.make("wmbench/DMC-WalkerWalk-v0").unwrapped
    rows = np.stack(list(walk(env, 200)))
    assert env.violations(rows)["joint-limit"].max() < 0.5


def test_an_undefined_rotation_is_posed_as_none() -> None:
    env = gym.make("wmbench/Gym-Ant-v0").unwrapped
    row = env.reset(seed=0)[0]
    row[1:5] = 0.0
    assert np.isfinite(env.violations(row[None])["penetration"]).all()


def test_a_backend_that_knows_neither_says_so() -> None:
    env = gym.make("wmbench/DMC-PendulumSwingup-v0").unwrapped
    env.reset(seed=0)

    class Plain:
        """Steps and nothing else, like a third party's simulator."""

    env._backend, backend = Plain(), env._backend
    assert env.contacts() is None
    assert env.violations(np.zeros((2, 3), np.float32)) == {}
    env._backend = backend
    env.close()


def test_misuse_is_named() -> None:
    env = gym.make("wmbench/Gym-HalfCheetah-v0").unwrapped
    with pytest.raises(LifecycleError, match="contacts"):
        env.contacts()
    for wrong in (np.zeros(17, np.float32), np.zeros((2, 3)), np.zeros((2, 17), int)):
        with pytest.raises(StateError, match="rows of 17 floats"):
            env.violations(wrong)
    env.close()
    for call in (env.contacts, lambda: env.violations(np.zeros((1, 17)))):
        with pytest.raises(LifecycleError):
            call()
