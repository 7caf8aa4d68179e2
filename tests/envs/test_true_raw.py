"""True tasks against the bare libraries: same numbers bit for bit, and cards that say what the numbers are."""

from __future__ import annotations

import dataclasses
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
import pytest

import wmbench
from wmbench.cards import TaskCard

GYM = [pytest.param(c, id=c.name) for c in wmbench.task_cards().values() if c.suite == "gym-mujoco"]
DMC = [pytest.param(c, id=c.name) for c in wmbench.task_cards().values() if c.suite == "dm-control"]
BODIES = {"front_left_foot": 4, "front_right_foot": 7, "back_foot": 10, "right_back_foot": 13, "back_leg": 8}
"""Bodies of the ant that its model leaves without a name, or names otherwise."""


def actions(card: TaskCard, n: int, seed: int) -> np.ndarray:
    low, high = card.action_bounds()
    return np.random.default_rng(seed).uniform(low, high, (n, len(low))).astype(np.float32)


@pytest.mark.parametrize("card", GYM)
def test_gymnasium_tasks_equal_the_bare_environment(card: TaskCard) -> None:
    env, bare = gym.make(card.id), gym.make(card.backend_id)
    assert card.horizon == bare.spec.max_episode_steps
    assert card.control_hz == pytest.approx(1 / bare.unwrapped.dt)
    steps = 0
    for seed in range(200):
        a, _ = env.reset(seed=seed)
        b, _ = bare.reset(seed=seed)
        assert np.array_equal(a, b.astype(np.float32))
        for action in actions(card, card.horizon, seed):
            a, *mine, info = env.step(action)
            b, *theirs, bare_info = bare.step(action)
            assert np.array_equal(a, b.astype(np.float32))
            assert mine == theirs
            assert {k: v for k, v in info.items() if np.ndim(v) == 0}.items() >= {
                k: v for k, v in bare_info.items() if np.ndim(v) == 0
            }.items()
            steps += 1
            if mine[1] or mine[2] or steps % 400 == 0:
                break
        if steps >= 400:
            break
    assert steps >= 400


@pytest.mark.parametrize("card", DMC)
def test_dm_control_tasks_equal_the_bare_environment(card: TaskCard) -> None:
    env = gym.make(card.id)
    from dm_control import suite

    domain, task = card.backend_id.split("/")
    for seed in (3, 4):
        bare = suite.load(domain, task, task_kwargs={"random": seed})
        assert card.horizon == bare._step_limit
        assert card.control_hz == pytest.approx(1 / bare.control_timestep())
        spec = bare.action_spec()
        assert np.array_equal(card.action_bounds(), [spec.minimum, spec.maximum])
        a, _ = env.reset(seed=seed)
        assert np.array_equal(a, flat(bare.reset().observation))
        for action in actions(card, 1000 if seed == 3 else 50, seed):
            a, reward, terminated, truncated, _ = env.step(action)
            step = bare.step(action)
            assert np.array_equal(a, flat(step.observation))
            assert reward == step.reward
            assert not terminated
            assert truncated == step.last()
            assert step.discount == 1.0


def flat(observation: dict[str, Any]) -> np.ndarray:
    return np.concatenate([np.ravel(v) for v in observation.values()]).astype(np.float32)


def simulators(env: Any) -> tuple[Any, Any]:
    backend = env.unwrapped._backend
    return (backend._model, backend._data) if hasattr(backend, "_physics") else (backend._env.model, backend._env.data)


def named_value(card: TaskCard, name: str, model: Any, data: Any) -> float:
    """What a dimension's name means, read from MuJoCo by name."""
    axis = {"x": 0, "y": 1, "z": 2}.get(name[-1], 0)
    clip = 10.0 if card.name in ("Gym-Walker2d", "Gym-InvertedDoublePendulum") else math.inf
    joints = [model.joint(i).name for i in range(model.njnt)]
    bodies = {**{model.body(i).name: i for i in range(model.nbody)}, **BODIES}

    def split(*ends: str) -> str | None:
        return next((name.removesuffix(e) for e in ends if name.endswith(e)), None)

    if (quaternion := re.fullmatch("root_quaternion_([wxyz])", name)) is not None:
        return data.qpos[3 + "wxyz".index(quaternion[1])]
    if name == "root_z":
        return data.qpos[2]
    if name.startswith("root_velocity_"):
        return data.qvel[axis]
    if name.startswith("root_angular_velocity_"):
        return data.qvel[3 + axis]
    for what, start in (("external_torque", 0), ("external_force", 3)):
        if body := split(*(f"_{what}_{a}" for a in "xyz")):
            return np.clip(
                data.cfrc_ext[bodies[body]][start + axis], *((-1, 1) if card.name == "Gym-Ant" else (-np.inf, np.inf))
            )
    for i, pair in enumerate(("xx", "yy", "zz", "xy", "xz", "yz")):
        if body := split(f"_inertia_{pair}"):
            return data.cinert[bodies[body]][i]
    if body := split("_mass_offset_x", "_mass_offset_y", "_mass_offset_z"):
        return data.cinert[bodies[body]][6 + axis]
    if body := split("_mass"):
        return data.cinert[bodies[body]][9]
    if body := split("_angular_velocity_x", "_angular_velocity_y", "_angular_velocity_z"):
        return data.cvel[bodies[body]][axis]
    if body := split("_velocity_x", "_velocity_y", "_velocity_z"):
        return data.cvel[bodies[body]][3 + axis]
    if joint := split("_actuator_torque"):
        return data.joint(joint).qfrc_actuator[0]
    if joint := split("_constraint_force"):
        return np.clip(data.joint(joint).qfrc_constraint[0], -10, 10)
    if joint := split("_position"):
        return data.joint(joint).qpos[0]
    if joint := split("_velocity"):
        return np.clip(data.joint(joint).qvel[0], -clip, clip)
    if part := split("_cosine", "_sine"):
        if part in joints:
            angle = data.joint(part).qpos[0]
            return math.cos(angle) if name.endswith("_cosine") else math.sin(angle)
        matrix = data.body(part).xmat.reshape(3, 3)
        return matrix[0, 0] if name.endswith("_cosine") else matrix[0, 2]
    if name.startswith("fingertip_minus_target_"):
        return (data.body("fingertip").xpos - data.body("target").xpos)[axis]
    if name.startswith("to_target_"):
        return (data.geom("target").xpos - data.geom("finger").xpos)[axis]
    if name.startswith("tip_"):
        return data.site("tip").xpos[axis] - data.body("spinner").xpos[axis]
    if name.startswith("touch"):
        return math.log1p(data.sensor(name).data[0])
    if name == "torso_height":
        return data.body("torso").xpos[2]
    return data.body(name[:-2]).xpos[axis]


@pytest.mark.parametrize("card", GYM + DMC)
def test_every_dimension_is_what_its_name_says(card: TaskCard) -> None:
    env = gym.make(card.id)
    model, data = simulators(env)
    for seed in range(3):
        observation, _ = env.reset(seed=seed)
        for action in actions(card, 25, seed):
            observation, _, terminated, truncated, _ = env.step(action)
            if terminated or truncated:
                break
        meant = [named_value(card, d.name, model, data) for d in card.observation]
        np.testing.assert_allclose(observation, meant, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("card", GYM + DMC)
def test_a_posed_scene_shows_the_positions_of_the_observation(card: TaskCard) -> None:
    env = gym.make(card.id)
    model, data = simulators(env)
    backend = env.unwrapped._backend
    rng = np.random.default_rng(0)
    shown = [
        i
        for i, d in enumerate(card.observation)
        if d.unit in ("m", "rad") or (d.unit == "1" and d.kind == "quaternion") or d.name.endswith(("cosine", "sine"))
    ]
    assert len(shown) >= 2
    for seed in range(5):
        env.reset(seed=seed)
        data.qpos[:] += rng.uniform(-0.7, 0.7, model.nq)
        mujoco.mj_normalizeQuat(model, data.qpos)
        mujoco.mj_forward(model, data)
        if card.suite == "dm-control":
            observation = backend._flat(backend._task.get_observation(backend._physics))
        else:
            observation = backend._env._get_obs().astype(np.float32)
        before = env.unwrapped.get_state()
        backend._scene._pose(observation.astype(np.float64))
        posed = backend._scene._stage()
        meant = np.array([named_value(card, card.observation[i].name, model, posed) for i in shown])
        if name := card.kwargs.get("place"):
            target, (finger, x, y) = next(iter(name.items()))
            gap = posed.geom(target).xpos - posed.geom(finger).xpos
            np.testing.assert_allclose(gap[:2], observation[[x, y]], atol=1e-6)
        wrapped = [card.observation[i].kind == "angle" for i in shown]
        gap = np.where(wrapped, np.angle(np.exp(1j * (meant - observation[shown]))), meant - observation[shown])
        np.testing.assert_allclose(gap, 0, atol=2e-6)
        assert np.array_equal(env.unwrapped.get_state(), before)


@pytest.mark.parametrize("card", GYM + DMC)
def test_units_kinds_and_actuators_are_those_of_the_model(card: TaskCard) -> None:
    env = gym.make(card.id)
    model, _ = simulators(env)
    joints = {model.joint(i).name: model.joint(i) for i in range(model.njnt)}
    slide, hinge = int(mujoco.mjtJoint.mjJNT_SLIDE), int(mujoco.mjtJoint.mjJNT_HINGE)
    for d in card.observation:
        assert d.unit
        joint = joints.get(re.sub("_(position|velocity)$", "", d.name))
        if joint is not None and d.name.endswith(("_position", "_velocity")):
            length = {slide: "m", hinge: "rad"}[joint.type[0]]
            assert d.unit == (length if d.name.endswith("_position") else f"{length}/s"), d.name
        turns = (
            joint is not None
            and d.name.endswith("_position")
            and joint.type[0] == hinge
            and not model.jnt_limited[joint.id]
        )
        assert (d.kind == "angle") == bool(turns), d.name
        assert (d.kind == "quaternion") == d.name.startswith("root_quaternion_")
    assert len(card.action) == model.nu
    for i, d in enumerate(card.action):
        name = d.name.rsplit("_", 1)[0]
        if card.suite == "gym-mujoco":
            assert joints[name].id == model.actuator_trnid[i, 0]
        else:
            assert model.actuator(i).name == name
        assert (d.low, d.high) == tuple(np.float64(np.float32(model.actuator_ctrlrange[i])).round(6))


@pytest.mark.parametrize("card", GYM + DMC)
def test_only_tasks_that_say_so_terminate(card: TaskCard) -> None:
    env = gym.make(card.id)
    _, data = simulators(env)
    env.reset(seed=0)
    data.qpos[:] += 1.2  # thrown over
    with np.errstate(all="ignore"):
        terminated = env.step(np.zeros(len(card.action), dtype=np.float32))[2]
    assert terminated == card.terminates


@pytest.mark.parametrize(("name", "solved"), [("ReacherEasy", 1), ("ReacherHard", 1), ("PointMassEasy", 0.8)])
def test_distance_rules_agree_with_the_reward(name: str, solved: float) -> None:
    env = gym.make(f"wmbench/DMC-{name}-v0")
    _, data = simulators(env)
    radius = env.unwrapped.card.success.threshold
    counts = {True: 0, False: 0}
    for seed in range(150):
        env.reset(seed=seed)
        if name == "PointMassEasy":
            data.qpos[:] = np.random.default_rng(seed).uniform(-1.5, 1.5, 2) * radius
            distance = float(np.linalg.norm(data.qpos))
        else:
            model, _ = simulators(env)
            finger, target = data.geom("finger").xpos, model.geom("target").pos
            target[:2] = finger[:2] + np.random.default_rng(seed).uniform(-1.2, 1.2, 2) * radius
        _, reward, *_, info = env.step(np.zeros(2, dtype=np.float32))
        if name == "PointMassEasy":
            distance = float(np.linalg.norm(data.qpos))
            assert info["success"] == (distance <= radius)
            assert not info["success"] or reward >= solved
        else:
            assert info["success"] == (reward >= solved)
        counts[info["success"]] += 1
    assert min(counts.values()) > 10


@pytest.mark.parametrize("name", ["CartpoleSwingupSparse", "PendulumSwingup", "BallInCupCatch", "HopperStand"])
def test_rewards_that_say_whether_the_goal_is_met_leave_a_gap(name: str) -> None:
    env = gym.make(f"wmbench/DMC-{name}-v0")
    model, data = simulators(env)
    rng = np.random.default_rng(0)
    rewards = []
    for seed in range(150):
        env.reset(seed=seed)
        if name == "BallInCupCatch":
            data.qpos[:] = np.array([0.0, 0.0, 0.0, 0.4]) + rng.uniform(
                -0.06, 0.06, 4
            )  # the ball in the cup, or beside it
        elif name == "HopperStand":
            data.qpos[:] += rng.uniform(-0.3, 0.3, model.nq)
        else:
            data.qpos[:] = rng.uniform(-0.3, 0.3, model.nq)
        mujoco.mj_step1(model, data)
        _, reward, *_, info = env.step(rng.uniform(-1, 1, model.nu).astype(np.float32))
        assert info["success"] == (reward > 0)
        rewards.append(reward)
    assert all(r == 0 or r >= 0.8 for r in rewards)
    assert 5 < np.count_nonzero(rewards) < 145


def test_pusher_succeeds_where_the_object_lies_on_the_goal() -> None:
    env = gym.make("wmbench/Gym-Pusher-v0")
    _, data = simulators(env)
    for gap, success in ((0.0, True), (0.07, True), (0.09, False)):
        env.reset(seed=0)
        data.joint("obj_slidex").qpos[0] = data.joint("goal_slidex").qpos[0] + gap
        data.joint("obj_slidey").qpos[0] = data.joint("goal_slidey").qpos[0]
        data.qvel[:] = 0
        assert env.step(np.zeros(7, dtype=np.float32))[4]["success"] is success


def test_reacher_succeeds_where_finger_and_target_touch() -> None:
    env = gym.make("wmbench/Gym-Reacher-v0")
    model, data = simulators(env)
    assert env.unwrapped.card.success.threshold == pytest.approx(
        model.geom("fingertip").size[0] + model.geom("target").size[0]
    )
    for gap, success in ((0.0, True), (0.018, True), (0.02, False)):
        env.reset(seed=0)
        for _ in range(50):
            data.qvel[:] = 0
            x, y, _ = data.body("fingertip").xpos
            data.joint("target_x").qpos[0], data.joint("target_y").qpos[0] = x + gap, y
            info = env.step(np.zeros(2, dtype=np.float32))[4]
        assert info["success"] is success


@pytest.mark.parametrize("card", GYM)
def test_thresholds_are_those_of_the_registry(card: TaskCard) -> None:
    registered = gym.spec(card.backend_id).reward_threshold
    if "registry" in card.success.source and card.success.kind == "return":
        assert card.success.threshold == registered
    else:
        assert card.name in ("Gym-Walker2d", "Gym-Humanoid", "Gym-Pusher", "Gym-Reacher")
        assert registered in (None, 0.0, -3.75)  # Reacher's is one for a mean of episodes


def test_cards_are_complete_and_cost_no_simulator() -> None:
    for card in wmbench.task_cards().values():
        assert card.license in ("MIT", "Apache-2.0", "Apache-2.0 AND CC-BY-NC-4.0")
        assert card.citation and card.tags and card.robot and card.success.source
        assert card.pose or card.suite == "maniskill"  # nobody can pose a ManiSkill scene from an observation
        assert card.version == 0
    assert len(GYM) == 10
    assert len(DMC) == 16
    code = (
        "import sys; before = set(sys.modules);"
        "import wmbench_envs.gym_mujoco_cards, wmbench_envs.dm_control_cards, wmbench_envs.maniskill_cards;"
        "new = {m.split('.')[0] for m in set(sys.modules) - before};"
        "print(sorted(new & {'mujoco', 'dm_control', 'torch', 'OpenGL', 'glfw', 'scipy', 'sapien', 'mani_skill'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_backend_of_a_third_party_needs_only_a_card() -> None:
    base = wmbench.task_card("DMC-PendulumSwingup")
    card = dataclasses.replace(base, id="wmbench/Mine-Pendulum-v0", horizon=3)
    from wmbench_envs.true_env import TrueEnv

    env = TrueEnv(card)
    env.reset(seed=0)
    ends = [env.step(np.zeros(1, dtype=np.float32))[3] for _ in range(3)]
    assert ends == [False, False, True]


def test_making_a_task_leaves_no_file_and_prints_nothing(tmp_path: Path) -> None:
    code = "import gymnasium as gym, wmbench; [gym.make(i).reset(seed=0) for i in wmbench.task_cards()]"
    clean = {k: v for k, v in os.environ.items() if k not in ("MUJOCO_GL", "DISPLAY")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=clean)
    assert (done.returncode, done.stdout.strip(), done.stderr.strip()) == (0, "", "")
    assert list(tmp_path.iterdir()) == []
