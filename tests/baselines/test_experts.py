"""Experts: known answers of control and kinematics, models against the simulators, rows, and who has one."""

import json
from pathlib import Path

import gymnasium as gym
import mujoco
import numpy as np
import pytest

from wmbench import registration, registry
from wmbench.errors import CheckpointError, WmbenchError
from wmbench.evaluating import make_policy
from wmbench.protocols import Policy
from wmbench.registration import task_card
from wmbench.rollout import rollout
from wmbench.seeding import episode_seeds
from wmbench_baselines.actor import Actor
from wmbench_baselines.experts import Expert, expert_tasks, physics
from wmbench_baselines.experts.acrobot import energy, motion, runge_kutta
from wmbench_baselines.experts.arms import DMC_ARM, GYM_ARM, turn
from wmbench_baselines.experts.expert import CANDIDATES, SCRIPTED
from wmbench_baselines.experts.table import GOOD, update

ROOT = Path(__file__).parents[2]
MEASURED = json.loads((ROOT / "baselines" / "results" / "experts.json").read_text())["tasks"]
CHAINS = {
    "DMC-CartpoleSwingup": physics.DMC_CARTPOLE,
    "DMC-PendulumSwingup": physics.DMC_PENDULUM,
    "DMC-AcrobotSwingup": physics.DMC_ACROBOT,
    "Gym-InvertedPendulum": physics.GYM_PENDULUM,
    "Gym-InvertedDoublePendulum": physics.GYM_DOUBLE_PENDULUM,
}


def make(task_id):
    return Expert.for_task(task_card(task_id))


def model_of(name):
    """MuJoCo's own model of a task, through the simulator's library."""
    card = task_card(name)
    if card.suite == "dm-control":
        from dm_control import suite

        return suite.load(*card.backend_id.split("/")).physics.model.ptr
    return gym.make(card.backend_id).unwrapped.model


@pytest.mark.parametrize("name", CHAINS)
def test_the_linearisation_is_the_simulators(name):
    chain, model = CHAINS[name], model_of(name)
    d = len(chain.damping)
    absolute = np.eye(d)  # joint positions from the chain's coordinates
    for i in range((0 if chain.cart is None else 1) + 1, d):
        absolute[i, i - 1] = -1.0
    back = np.linalg.inv(absolute)

    def acceleration(q, v, action):
        data = mujoco.MjData(model)
        data.qpos[:], data.qvel[:], data.ctrl[:] = absolute @ q, absolute @ v, action
        mujoco.mj_forward(model, data)
        return back @ data.qacc

    f, g = chain.linearised()
    h = 1e-5
    zero = np.zeros(d)
    columns = [
        (acceleration(h * e[:d], h * e[d:], 0.0) - acceleration(-h * e[:d], -h * e[d:], 0.0)) / (2 * h)
        for e in np.eye(2 * d)
    ]
    push = (acceleration(zero, zero, h) - acceleration(zero, zero, -h)) / (2 * h)
    scale = np.abs(f).max()
    assert np.allclose(f[d:], np.stack(columns, 1), rtol=2e-3, atol=1e-3 * scale)
    assert np.allclose(g[d:, 0], push, rtol=2e-3)


@pytest.mark.parametrize("name", CHAINS)
def test_the_regulator_stabilises_and_nothing_else_does(name):
    chain, card = CHAINS[name], task_card(name)
    a, b = chain.discrete(card.dt)
    assert np.abs(np.linalg.eigvals(a)).max() > 1.01  # upright falls by itself
    gain = make(card.id).policy.lqr
    assert np.abs(np.linalg.eigvals(a - b @ gain.gain[None])).max() < 1.0
    assert (np.linalg.eigvalsh(gain.cost) > 0).all()


def test_discretisation_is_exact():
    a, b = physics.DMC_PENDULUM.discrete(0.02)
    half, half_b = physics.DMC_PENDULUM.discrete(0.01)
    assert np.allclose(half @ half, a) and np.allclose(half @ half_b + half_b, b)


def test_the_acrobots_motion_is_the_simulators():
    model = model_of("DMC-AcrobotSwingup")
    rng = np.random.default_rng(0)
    for _ in range(20):
        a, b = rng.uniform(-np.pi, np.pi, 2)
        va, vb, action = *rng.uniform(-5, 5, 2), rng.uniform(-1, 1)
        data = mujoco.MjData(model)
        data.qpos[:], data.qvel[:], data.ctrl[:] = [a, b - a], [va, vb - va], action
        mujoco.mj_forward(model, data)
        start = [np.array([x]) for x in (a, b, va, vb)]
        slope = motion(start, np.array([action]))
        assert np.allclose([slope[2], slope[3] - slope[2]], data.qacc[:, None], rtol=1e-4, atol=1e-3)
        mujoco.mj_step(model, data)
        after = runge_kutta(start, np.array([action]), 0.01)
        assert np.allclose([after[0], after[1] - after[0]], data.qpos[:, None], atol=1e-5)
        top, still = mujoco.MjData(model), [np.zeros(1)] * 4
        mujoco.mj_forward(model, top)
        mechanical = data.energy.sum() - top.energy.sum()
        assert energy(after)[0] - energy(still)[0] == pytest.approx(mechanical, abs=1e-2)


@pytest.mark.parametrize("arm", [DMC_ARM, GYM_ARM])
@pytest.mark.parametrize("side", [1.0, -1.0])
def test_inverse_kinematics_reaches_the_whole_workspace(arm, side):
    rng = np.random.default_rng(0)
    nearest = np.sqrt(arm.upper**2 + arm.lower**2 + 2 * arm.upper * arm.lower * np.cos(arm.limit))
    radius = np.concatenate([rng.uniform(nearest, arm.upper + arm.lower, 500), [nearest, arm.upper + arm.lower]])
    angle = rng.uniform(-np.pi, np.pi, len(radius))
    x, y = radius * np.cos(angle), radius * np.sin(angle)
    shoulder, wrist = arm.reach(x, y, side)
    assert (np.abs(wrist) <= arm.limit).all() and (side * wrist >= 0).all()
    assert np.allclose(arm.tip(shoulder, wrist), [x, y], atol=1e-9)
    far = arm.tip(*arm.reach(10 * x, 10 * y, side))  # out of reach: stretched towards it
    outer = 10 * radius > arm.upper + arm.lower
    assert np.allclose(np.hypot(*far)[outer], arm.upper + arm.lower)
    assert np.allclose(turn(np.arctan2(far[1], far[0]) - angle)[outer], 0, atol=1e-9)


@pytest.mark.parametrize("task_id", sorted(SCRIPTED))
def test_a_rows_bits_do_not_depend_on_the_batch(task_id):
    policy = make(task_id)
    assert isinstance(policy, Policy)
    low, high = policy.task.action_bounds()
    look_ahead = "Acrobot" in task_id
    n, sizes = (11, (1, 2, 3, 7, 8)) if look_ahead else (300, (*range(1, 71), 127, 255))
    x = np.random.default_rng(0).normal(size=(n, len(policy.task.observation))).astype(np.float32)
    whole = policy.act(x, policy.initial(n), keys=np.zeros(n, np.int64))[0]
    assert whole.dtype == np.float32 and whole.shape == (n, len(low))
    assert (whole >= low).all() and (whole <= high).all()
    for size in sizes:
        part = policy.act(x[-size:], policy.initial(size), keys=np.ones(size, np.int64))[0]
        assert np.array_equal(part, whole[-size:]), size
    strided = np.repeat(x, 2, axis=0)[::2]
    assert np.array_equal(policy.act(strided, policy.initial(n), keys=np.zeros(n, np.int64))[0], whole)


def test_episodes_do_not_depend_on_how_many_run_side_by_side():
    card = task_card("Gym-Reacher")
    seeds = episode_seeds(0, card.id, "eval", 7)
    one, several = (rollout(card, make(card.id), seeds, num_envs=n) for n in (1, 5))
    for a, b in zip(one, several, strict=True):
        assert np.array_equal(a.action, b.action) and np.array_equal(a.observation, b.observation)


@pytest.mark.parametrize("task_id", sorted(SCRIPTED))
def test_observations_of_another_shape_are_refused(task_id):
    with pytest.raises(WmbenchError, match=r"expert reads observations of shape \(B, \d+\), got \(2, 99\)"):
        make(task_id).act(np.zeros((2, 99), np.float32), make(task_id).initial(2), keys=np.zeros(2, np.int64))


def test_the_trained_actor_is_the_expert_where_nothing_is_scripted():
    policy = make("Gym-Hopper")
    assert isinstance(policy.policy, Actor)
    x = np.random.default_rng(0).normal(size=(3, 11)).astype(np.float32)
    actor = make_policy("actor", policy.task)
    assert np.array_equal(*(p.act(x, p.initial(3), keys=np.zeros(3, np.int64))[0] for p in (policy, actor)))


def test_a_task_without_an_expert_is_told_which_have_one():
    card = task_card("Gym-Humanoid")
    with pytest.raises(CheckpointError, match=r"no expert for wmbench/Gym-Humanoid-v0.*DMC-AcrobotSwingup"):
        make_policy("expert", card)


def test_manipulation_is_demonstrated_well_or_not_at_all():
    for task_id, entry in MEASURED.items():
        if task_id in SCRIPTED and task_card(task_id).suite == "maniskill":
            assert entry["success"] >= GOOD
    for task_id in CANDIDATES:
        with pytest.raises(CheckpointError, match="no expert for"):
            make_policy("expert", task_card(task_id))
        assert make_policy("expert", task_card(task_id), config={"candidates": True}).card["name"] == "expert"


def test_the_name_is_registered():
    assert registry.policies.load("expert") is Expert
    assert set(expert_tasks()) <= set(registration.task_cards())


def test_the_readme_shows_what_was_measured_of_every_expert():
    assert set(expert_tasks()) <= set(MEASURED) <= set(expert_tasks()) | set(CANDIDATES)
    for task_id, entry in MEASURED.items():
        assert entry["task_digest"] == task_card(task_id).digest(), f"measure {task_id} again"
        assert entry["episodes"] == len(entry["solved"]) == 200
        assert entry["success"] == entry["solved"].count("1") / 200
    text = (ROOT / "envs" / "README.md").read_text()
    assert update(text, {"tasks": MEASURED}) == text, "run: python baselines/scripts/measure_experts.py"


@pytest.mark.parametrize("task_id", sorted(task for task in SCRIPTED if MEASURED[task]["success"] >= GOOD))
def test_fixed_starts_are_solved_as_measured(task_id):
    card = task_card(task_id)
    slow = "Acrobot" in task_id or card.suite == "maniskill"
    n = 2 if slow else 4 if card.suite == "dm-control" else 8
    seeds = episode_seeds(0, card.id, "eval", n)
    for episode, solved in zip(
        rollout(card, make(task_id), seeds, num_envs=n), MEASURED[task_id]["solved"], strict=False
    ):
        assert episode.succeeded(card) == (solved == "1")
