"""ManiSkill's tasks: the bare library's numbers, cards that say what they are, new scenes, no driver needed."""

from __future__ import annotations

import dataclasses
import gc
import importlib.util
import os
import subprocess
import sys
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

import wmbench
from wmbench.cards import TaskCard
from wmbench.errors import MissingExtraError, RenderError, StateError
from wmbench.recording.floor import record_floor

CARDS = [c for c in wmbench.task_cards().values() if c.suite == "maniskill"]
ALL = [pytest.param(c, id=c.name) for c in CARDS]
JOINTS = [pytest.param(c, id=c.name) for c in CARDS if c.kwargs["control_mode"] == "pd_joint_delta_pos"]
THINGS = {
    "PickCube": {"goal": "goal_site"},
    "PushCube": {"cube": "obj", "goal": "goal_region"},
    "PullCube": {"cube": "obj", "goal": "goal_region"},
    "PegInsertionSide": {"hole": "box_hole_pose"},
    "PlaceSphere": {"sphere": "obj"},
    "PokeCube": {"peg_as_goal": "peg", "goal": "goal_region", "peg_head": "peg_head_pose"},
    "RollBall": {"goal": "goal_region"},
    "PullCubeTool": {"tool": "l_shape_tool"},
    "PlugCharger": {"goal": "goal_pose"},
    "TriFingerRotateCubeLevel0": {"cube": "obj", "goal": "obj_goal"},
    "TwoRobotPickCube": {"goal": "goal_site"},
    "TwoRobotStackCube": {"goal": "goal_region"},
}
"""What the environments call the things that cards name otherwise; cube_a is cubeA everywhere."""
NAMES = {"root_pitch": "rooty", "root_x": "rootx", "root_z": "rootz", "hinge": "hinge_1"}
AXES = {axis: i for i, axis in enumerate("xyz")}
TIPS = {
    "dclaw": ("link_f1_head", "link_f2_head", "link_f3_head"),
    "trifinger": ("finger_tip_link_0", "finger_tip_link_120", "finger_tip_link_240"),
}

AMOUNTS = {"cartpole": 1.0, "hopper": 2.0, "ant": 1.0}
"""By how much a whole action moves a joint's target, where it is not 0.1 rad."""


def actions(card: TaskCard, n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (n, len(card.action))).astype(np.float32)


def bare(card: TaskCard) -> Any:
    """The environment as a user of ManiSkill would make it, drawn where there is a driver."""
    from wmbench_envs.maniskill_device import has_renderer

    kwargs = {k: v for k, v in card.kwargs.items() if k not in ("agents", "ends_on_fail")}
    if has_renderer():
        return gym.make(card.backend_id, obs_mode="state", sim_backend="physx_cpu", **kwargs)
    from wmbench_envs.maniskill_device import undrawn

    with undrawn():
        return gym.make(card.backend_id, obs_mode="state", sim_backend="physx_cpu", render_backend="none", **kwargs)


def anew(raw: Any, seed: int) -> Any:
    """Reset the bare environment in a new scene: the seed decides the shapes of some tasks."""
    from wmbench_envs.maniskill_device import has_renderer, undrawn

    with nullcontext() if has_renderer() else undrawn():
        return raw.reset(seed=seed, options={"reconfigure": True})[0]


def as_given(card: TaskCard, action: np.ndarray) -> Any:
    if "agents" not in card.kwargs:
        return action
    return {"panda_wristcam-0": action[:8], "panda_wristcam-1": action[8:]}


@pytest.mark.filterwarnings("ignore")  # of the bare library
@pytest.mark.parametrize("card", ALL)
def test_tasks_equal_the_bare_environment(card: TaskCard) -> None:
    env, raw = gym.make(card.id).unwrapped, bare(card)
    longer = {"MS-LiftPegUpright": 100}  # raising the peg takes 40 to 60 steps, and ManiSkill gives 50
    assert longer.get(card.name, gym.registry[card.backend_id].max_episode_steps) == card.horizon
    inner = raw.unwrapped
    assert inner.control_freq == card.control_hz
    uids = inner.robot_uids if isinstance(inner.robot_uids, tuple) else (inner.robot_uids,)
    names = {getattr(uid, "uid", uid).replace("_", "").removesuffix("pro") for uid in uids}
    assert names == {card.robot.removeprefix("two of ").replace("_", "")}
    a, b = env.reset(seed=3)[0], anew(raw, 3)
    assert np.array_equal(a, b[0].numpy())
    for action in actions(card, 10):
        kept = action.copy()
        a, *mine, info = env.step(action)
        b, reward, terminated, truncated, found = raw.step(as_given(card, action))
        assert np.array_equal(action, kept)
        assert np.array_equal(a, b[0].numpy())
        assert mine[0] == float(reward)
        assert mine[2] == bool(truncated)
        assert mine[1] == (card.terminates and bool(found["fail"]))
        assert bool(terminated) == (mine[1] or info["success"])  # success does not end an episode here
        assert found.keys() <= info.keys()
        for key, value in found.items():
            assert np.array_equal(np.squeeze(value.numpy()), info[key])
            assert type(info[key]) in (bool, int, float, np.ndarray)
    env.close(), raw.close()


class Named:
    """The value of a dimension, by its name, from the environment's own objects."""

    def __init__(self, card: TaskCard, env: Any) -> None:
        self.card, self.env = card, env
        self.things = THINGS.get(card.name.removeprefix("MS-"), {})

    def robot(self, name: str) -> tuple[Any, str]:
        """Which robot a name speaks of, and the rest of the name."""
        if "two arms" not in self.card.tags:
            return self.env.agent, name
        side, rest = name.split("_", 1)
        return {"left": self.env.left_agent, "right": self.env.right_agent}[side], rest

    def joint(self, name: str) -> Any:
        agent, rest = self.robot(name)
        if self.card.robot.endswith(("panda", "panda_wristcam")):
            rest = rest.replace("gripper_left", "finger_joint1").replace("gripper_right", "finger_joint2")
            rest = f"panda_{rest.replace('joint_', 'joint')}"
        elif self.card.robot == "dclaw":
            _, finger, _, number = rest.split("_")
            rest = f"joint_f{finger}_{int(number) - 1}"
        elif self.card.robot == "trifinger":
            _, finger, _, number = rest.split("_")
            part = ("base_to_upper", "upper_to_middle", "middle_to_lower")[int(number) - 1]
            rest = f"finger_{part}_joint_{(int(finger) - 1) * 120}"
        return agent.robot.joints_map[NAMES.get(rest, rest)]

    def thing(self, name: str) -> Any:
        """A body, or a pose."""
        if name.endswith("tcp"):
            return self.robot(name)[0].tcp
        links = self.env.agent.robot.links_map if hasattr(self.env.agent, "robot") else {}
        if name.startswith("tip_"):
            return links[TIPS[self.card.robot][int(name[4:]) - 1]]
        if name == "pole":
            return links["pole_1"]
        if name in links:
            return links[name]
        name = self.things.get(name, name)
        return getattr(self.env, name[:-2] + name[-1].upper() if name[:-1].endswith("cube_") else name)

    def pose(self, name: str) -> np.ndarray:
        found = self.thing(name)
        return getattr(found, "pose", found).raw_pose[0].numpy()

    def __call__(self, name: str) -> float:
        stem, _, last = name.rpartition("_")
        env = self.env
        if name == "is_grasped":
            return float(env.agent.is_grasping(self.thing("sphere" if "Sphere" in self.card.name else "cube")))
        if stem == "peg_half_size":
            return env.peg_half_sizes[0, AXES[last]].item()
        if stem == "centre_of_mass_velocity":
            masses = [link.mass[0] for link in env.active_links]
            speed = sum(m * link.linear_velocity[0] for m, link in zip(masses, env.active_links, strict=True))
            return (speed / sum(masses))[AXES[last]].item()
        if last in ("touch", "force"):
            link = f"foot_{stem}" if last == "touch" else stem
            force = env.agent.robot.get_net_contact_forces([link])
            return float(np.log1p(np.linalg.norm(force.numpy())))
        single = {
            "hole_radius": lambda: env.box_hole_radii,
            "direction": lambda: env.rotate_direction,
            "valve_position": lambda: env.valve.qpos,
            "valve_velocity": lambda: env.valve.qvel,
            "valve_cosine": lambda: torch.cos(env.valve.qpos),
            "valve_sine": lambda: torch.sin(env.valve.qpos),
            "torso_qz_as_height": lambda: env.agent.robot.links_map["torso"].pose.q[0, 3],
        }
        if name in single:
            return single[name]().item()
        if last in AXES and stem.endswith("_angular_velocity"):
            return self.thing(stem.removesuffix("_angular_velocity")).angular_velocity[0, AXES[last]].item()
        if last in AXES and stem.endswith("_velocity"):
            return self.thing(stem.removesuffix("_velocity")).linear_velocity[0, AXES[last]].item()
        if last in AXES and "_to_" in stem:
            start, end = stem.split("_to_")
            return (self.pose(end) - self.pose(start))[AXES[last]]
        if last in AXES:
            return self.pose(stem)[AXES[last]]
        if last in ("qw", "qx", "qy", "qz"):
            return self.pose(stem)[3 + "wxyz".index(last[1])]
        if last == "velocity":
            return self.joint(stem).qvel.item()
        assert last == "position", name
        return self.joint(stem).qpos.item()


@pytest.mark.parametrize("card", ALL)
def test_every_dimension_is_what_its_name_says(card: TaskCard) -> None:
    env = gym.make(card.id).unwrapped
    observation, _ = env.reset(seed=5)
    named = Named(card, env._backend._env)
    for action in actions(card, 6, seed=1):
        observation, *_ = env.step(action)
        meant = [named(d.name) for d in card.observation]
        np.testing.assert_allclose(observation, meant, rtol=1e-5, atol=1e-6)
    for d in card.observation:
        if d.unit == "rad" and d.name != "valve_position":
            assert (d.kind == "angle") == (named.joint(d.name.removesuffix("_position")).type[0] == "revolute"), (
                d.name
            )  # that kind wraps
    turns = [i for i, d in enumerate(card.observation) if d.kind == "quaternion"]
    np.testing.assert_allclose(np.linalg.norm(observation[turns].reshape(-1, 4), axis=1), 1, atol=1e-4)
    env.close()


def target(joint: Any) -> float:
    return float(np.ravel(joint.drive_target)[0])


@pytest.mark.parametrize("card", JOINTS)
def test_joint_actions_move_targets_as_the_card_says(card: TaskCard) -> None:
    env = gym.make(card.id).unwrapped
    env.reset(seed=2)
    named = Named(card, env._backend._env)
    for i, d in enumerate(card.action):
        action = np.zeros(len(card.action), np.float32)
        joints = [d.name.removesuffix("_delta")]
        if d.name.endswith("gripper"):
            joints = [f"{d.name}_left", f"{d.name}_right"]
        for sign in (1, -1):
            before = [named.joint(j).qpos.item() for j in joints]
            action[i] = sign
            env.step(action)
            gained = [target(named.joint(j)) - q for j, q in zip(joints, before, strict=True)]
            if len(joints) == 2:
                assert [target(named.joint(j)) for j in joints] == pytest.approx([0.04 if sign > 0 else -0.01] * 2)
                continue
            amount = 0.8 if "Hopper" in card.name and "ankle" in d.name else AMOUNTS.get(card.robot, 0.1)
            assert gained[0] == pytest.approx(sign * amount, abs=1e-6), d.name
            said = f"{amount:g} {'m' if joints == ['slider'] else 'rad'}"
            assert said in card.action_convention
    env.close()


def test_hand_actions_move_the_target_as_the_card_says() -> None:
    """Along the base's axes by 0.1 m; about them by -0.1 rad; and the hand follows."""
    from scipy.spatial.transform import Rotation

    env = gym.make("wmbench/MS-PickCube-v0").unwrapped
    env.reset(seed=3)
    inner = env._backend._env
    base = inner.agent.robot.pose
    assert np.allclose(base.q.numpy(), [[1, 0, 0, 0]])

    def turn(pose: Any) -> Rotation:
        return Rotation.from_quat(pose.q[0].numpy(), scalar_first=True)

    for i in range(6):
        controller = inner.agent.controller.controllers["arm"]
        before, tcp = controller.ee_pose_at_base, inner.agent.tcp.pose
        action = np.eye(7, dtype=np.float32)[i]
        env.step(action)
        goal, after = controller._target_pose, inner.agent.tcp.pose
        moved, followed = (goal.p - before.p)[0].numpy(), (after.p - tcp.p)[0].numpy()
        turned, came = ((turn(b) * turn(a).inv()).as_rotvec() for a, b in ((before, goal), (tcp, after)))
        assert moved == pytest.approx(0.1 * action[:3], abs=1e-6)
        assert turned == pytest.approx(-0.1 * action[3:6], abs=1e-3)
        seen = followed[i] if i < 3 else -came[i - 3]
        assert 0.01 < seen < 0.1
    assert "0.1 m along" in env.card.action_convention and "by -0.1 rad" in env.card.action_convention
    before = controller.ee_pose_at_base
    env.step(np.array([0, 0, 0, 0.8, -0.8, 0.8, 0], np.float32))
    turned = turn(controller._target_pose) * turn(before).inv()
    assert turned.magnitude() == pytest.approx(0.1, abs=1e-3)
    for opening, width in ((1.0, 0.04), (-1.0, -0.01)):
        env.step(np.array([0, 0, 0, 0, 0, 0, opening], np.float32))
        fingers = [inner.agent.robot.joints_map[f"panda_finger_joint{k}"] for k in (1, 2)]
        assert [target(f) for f in fingers] == pytest.approx([width, width])


def grasp(env: Any, seed: int, name: str, steps: int) -> list[tuple[np.ndarray, float]]:
    """Bring the hand to a thing, close the gripper, and shake."""
    card, rng = env.card, np.random.default_rng(seed)
    at = {d.name: i for i, d in enumerate(card.observation)}
    observation, _ = env.reset(seed=seed)
    seen = [(observation, 0.0)]
    for i in range(steps):
        gap = observation[at[f"{name}_x"] :][:3] - observation[at["tcp_x"] :][:3]
        action = 0.3 * rng.uniform(-1, 1, 7)
        action[:3] += np.clip(10 * gap, -1, 1)
        action[6] = 1 if i < steps // 2 else -1
        observation, reward, *_ = env.step(action.astype(np.float32))
        seen.append((observation, reward))
    return seen


@pytest.mark.parametrize(("name", "thing"), [("PlaceSphere", "sphere"), ("PickCube", "cube")])
def test_a_used_environment_is_as_good_as_new(name: str, thing: str) -> None:
    """Also where things are grasped: in a used scene these tasks go another way, or begin with an old contact."""
    new, used = (gym.make(f"wmbench/MS-{name}-v0").unwrapped for _ in range(2))
    grasp(used, 9, thing, 30)
    for seed in (1, 2):
        first, second, third = (grasp(env, seed, thing, 30) for env in (new, used, new))
        for other in (second, third):
            assert all(np.array_equal(a[0], b[0]) and a[1] == b[1] for a, b in zip(first, other, strict=True))
    if name == "PickCube":
        assert first[-1][0][18] == 1 and first[0][0][18] == 0, "the cube was grasped, and is not at the beginning"


def test_states_are_refused_that_no_episode_has() -> None:
    card = dataclasses.replace(wmbench.task_card("MS-CartpoleSwingUp"), horizon=3)
    env = gym.make(card.id).unwrapped
    env.reset(seed=7)
    env.step(np.ones(1, np.float32))
    state = env.get_state()
    for i, value in ((4, 0.5), (4, -1), (4, 2**32), (5, 1.5), (5, -1), (5, 1000 + 65)):
        bad = state.copy()
        bad[i] = value
        with pytest.raises(StateError, match=f"{card.id}.*was not saved"):
            env.set_state(bad)
    assert np.array_equal(env.get_state(), state)


def test_planners_may_look_sixty_four_steps_beyond_the_end() -> None:
    from wmbench_envs.maniskill import BEYOND, ManiSkill

    card = dataclasses.replace(wmbench.task_card("MS-CartpoleSwingUp"), horizon=3)
    backend = ManiSkill(card)
    backend.reset(0)
    for action in actions(card, 3 + BEYOND):
        last, *_ = backend.step(action)
    state = backend.get_state()
    with pytest.raises(StateError, match="holds 67 actions"):
        backend.step(action)
    other = ManiSkill(card)
    assert np.array_equal(other.set_state(state), last)
    assert np.array_equal(other.get_state(), state)


def test_what_the_backend_does_not_know_is_said() -> None:
    env = gym.make("wmbench/MS-CartpoleBalance-v0").unwrapped
    env.reset(seed=0)
    env.step(np.zeros(1, np.float32))
    state = env.get_state()
    assert env.contacts() is None
    assert env.violations(np.zeros((2, 10), np.float32)) == {}
    assert env.moving().start == env.moving().stop
    twins, why = record_floor(
        SimpleNamespace(task=env.card, manifest={}),
        state[None],
        np.zeros((1, 2, 1)),
        np.ones((1, 2), bool),
        0,
        simulator=env,
    )
    assert twins == {} and why.startswith("no floor: ")


def test_processes_give_the_same_rows() -> None:
    sync, apart = (gym.make_vec("wmbench/MS-PushCube-v0", num_envs=2, vectorization=v) for v in ("sync", "async"))
    assert np.array_equal(sync.reset(seed=3)[0], apart.reset(seed=3)[0])
    for action in actions(sync.card, 12).reshape(6, 2, 7):
        a, b = sync.step(action), apart.step(action)
        assert all(np.array_equal(x, y) for x, y in zip(a[:4], b[:4], strict=True))
    sync.close(), apart.close()


def test_nothing_else_in_the_process_is_changed() -> None:
    env = gym.make("wmbench/MS-RotateValveLevel0-v0")
    import mani_skill.envs.sapien_env as module

    before, level = torch.get_rng_state(), module.logger.level
    numbers = np.random.get_state()[1].copy()  # noqa: NPY002  that it is left alone is the point
    env.reset(seed=0)
    env.step(np.zeros(9, np.float32))
    assert torch.equal(torch.get_rng_state(), before)
    assert np.array_equal(np.random.get_state()[1], numbers)  # noqa: NPY002
    assert module.gc is gc and module.logger.level == level


WITHOUT_A_DRIVER = """
import gymnasium as gym, numpy as np, wmbench
from wmbench.errors import RenderError
env = gym.make("wmbench/MS-PickCube-v0", render_mode="rgb_array")
ends = 0
env.reset(seed=0)
for action in np.random.default_rng(0).uniform(-1, 1, (100, 7)).astype(np.float32):
    *_, terminated, truncated, _ = env.step(action)
    if terminated or truncated:
        ends += 1
        env.reset()
print(ends)
try:
    env.render()
except RenderError as error:
    print(error)
env.close()
env.close()
"""


def test_states_need_no_driver_and_pictures_say_what_to_install() -> None:
    hidden = {**os.environ, "VK_ICD_FILENAMES": "/nonexistent", "VK_DRIVER_FILES": "/nonexistent"}
    command = [sys.executable, "-c", WITHOUT_A_DRIVER]
    done = subprocess.run(command, env=hidden, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    ends, sentence = done.stdout.splitlines()
    assert ends == "2"
    assert sentence.startswith("wmbench/MS-PickCube-v0: SAPIEN finds no Vulkan device")
    assert "apt-get install mesa-vulkan-drivers" in sentence
    assert done.stderr == ""


def test_pictures_where_there_is_a_device_and_the_sentence_elsewhere() -> None:
    from wmbench_envs.maniskill_device import has_renderer

    env = gym.make("wmbench/MS-PushCube-v0", render_mode="rgb_array", height=48, width=64)
    env.reset(seed=0)
    if has_renderer():
        frame = env.render()
        assert frame.shape == (48, 64, 3) and frame.dtype == np.uint8 and frame.std() > 10
        env.step(np.ones(7, np.float32))
        assert not np.array_equal(env.render(), frame)
    else:
        with pytest.raises(RenderError, match="apt-get install mesa-vulkan-drivers"):
            env.render()
    with pytest.raises(RenderError, match="the card has no pose"):
        env.unwrapped.render_pose(np.zeros(35, np.float32))


def test_without_the_extra_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'wmbench\[maniskill\]'"):
        gym.make("wmbench/MS-PickCube-v0")


def test_materials_stand_in_only_while_nothing_is_drawn() -> None:
    import sapien.render

    from wmbench_envs.maniskill_device import Inert, undrawn

    def materials() -> list[Any]:
        return [
            sapien.render.RenderMaterial,
            sapien.pysapien.render.RenderMaterial,
            sapien.wrapper.urdf_loader.RenderMaterial,
        ]

    real = materials()
    assert Inert not in real
    with pytest.raises(ZeroDivisionError), undrawn():
        assert materials() == [Inert] * 3
        with undrawn():
            assert materials() == [Inert] * 3
        raise ZeroDivisionError
    assert materials() == real
    thing = Inert(base_color=[1, 0, 0])
    thing.roughness = 0.5
    assert isinstance(thing.anything.at(3, all=4), Inert)
    assert not hasattr(thing, "__len__")
