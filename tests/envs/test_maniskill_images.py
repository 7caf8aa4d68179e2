"""ManiSkill's pictures: functions of seed and actions, the same after a state is restored, of what is really there."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import wmbench
from wmbench.errors import RenderError, ViewError

CARDS = [c for c in wmbench.task_cards().values() if c.suite == "maniskill"]
ALL = "state+rgb+depth+segmentation"


@pytest.fixture
def device() -> None:
    """Skips where SAPIEN cannot draw."""
    from wmbench_envs.maniskill_device import INSTALL, has_renderer

    if not has_renderer():
        pytest.skip(INSTALL)


def actions(env: Any, n: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, (n, *env.action_space.shape)).astype(np.float32)


def same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    return all(np.array_equal(a[name], b[name]) for name in ALL.split("+"))


def make(name: str, **options: Any) -> Any:
    return gym.make(f"wmbench/MS-{name}-v0", **{"observation": ALL, **options}).unwrapped


@pytest.mark.usefixtures("device")
def test_pictures_depend_on_seed_and_actions_alone_and_change_nothing() -> None:
    env, other = (make("StackCube", image_size=32) for _ in range(2))
    blind = gym.make("wmbench/MS-StackCube-v0").unwrapped
    first = env.reset(seed=3)[0]
    assert env.observation_space.contains(first)
    other.reset(seed=9)
    other.step(actions(env, 1)[0])
    assert same(other.reset(seed=3)[0], first)
    assert np.array_equal(blind.reset(seed=3)[0], first["state"])
    states = []
    for action in actions(env, 3):
        states.append(env.get_state())
        a, b, c = env.step(action), other.step(action), blind.step(action)
        assert env.observation_space.contains(a[0])
        assert same(a[0], b[0]) and a[1] == b[1] == c[1]
        assert np.array_equal(a[0]["state"], c[0])
    assert not np.array_equal(a[0]["rgb"], first["rgb"])
    other.reset(seed=1)
    other.set_state(states[2])
    assert same(other.step(action)[0], a[0])
    env.set_state(states[1])
    for action in actions(env, 3)[1:]:
        b = env.step(action)
    assert same(b[0], a[0])


@pytest.mark.usefixtures("device")
def test_depth_and_segmentation_are_of_the_scene() -> None:
    """The pixel where the cube's centre is seen is marked as the cube, and as far away as it is."""
    env = make("PushCube", image_size=128)
    observation, _ = env.reset(seed=0)
    camera = env._backend._env._sensors["base_camera"].camera
    at = [d.name for d in env.card.observation].index("cube_x")
    cube = np.append(observation["state"][at : at + 3], 1)
    seen = camera.get_extrinsic_matrix()[0].numpy() @ cube  # (3,) in the camera's frame, z forward
    u, v, w = camera.get_intrinsic_matrix()[0].numpy() @ seen
    column, row = int(u / w), int(v / w)
    names = env.segments()
    assert names[int(observation["segmentation"][row, column, 0])] == "cube"
    assert observation["depth"][row, column, 0] == pytest.approx(seen[2], abs=0.04)  # a corner of it, 0.02 m each way
    assert {"cube", "ground", "table-workspace", "panda_hand"} <= set(names.values())
    shown = {names[int(i)] for i in np.unique(observation["segmentation"])}
    assert {"cube", "table-workspace", "panda_link0"} <= shown
    env.reset(seed=5)
    assert env.segments() == names


@pytest.mark.usefixtures("device")
def test_presets_and_cameras_differ_and_agree_on_what_is_there() -> None:
    fast, full = (make("StackCube", render_preset=preset).reset(seed=0)[0] for preset in ("fast", "full"))
    hand = make("StackCube", camera="hand_camera").reset(seed=0)[0]
    assert not np.array_equal(fast["rgb"], full["rgb"]) and not np.array_equal(fast["rgb"], hand["rgb"])
    assert np.abs(fast["rgb"].astype(float) - full["rgb"]).mean() < 40
    assert (fast["segmentation"] == full["segmentation"]).mean() > 0.97
    near = np.abs(fast["depth"] - full["depth"]) < 0.0011  # whole millimetres
    assert near.mean() > 0.97
    assert full["depth"].dtype == np.float32 and hand["depth"].max() > 0


@pytest.mark.usefixtures("device")
@pytest.mark.parametrize("name", ["AntWalk", "TwoRobotPickCube"])
def test_every_camera_of_a_card_is_there(name: str) -> None:
    env = make(name, image_size=(24, 32))
    observation, _ = env.reset(seed=0)
    assert env.card.cameras == tuple(env._backend._env._sensors)
    assert observation["rgb"].shape == (24, 32, 3) and observation["rgb"].std() > 5
    assert observation["depth"].min() >= 0 and observation["depth"].max() <= np.float32(32.768)


@pytest.mark.usefixtures("device")
def test_goals_that_maniskill_hides_are_shown() -> None:
    """Or a picture would not tell what is to be done."""
    env = make("PickCube", observation="segmentation", image_size=128)
    seen, _ = env.reset(seed=1)
    assert "goal_site" in {env.segments().get(int(i)) for i in np.unique(seen)}


@pytest.mark.usefixtures("device")
def test_processes_draw_although_this_one_has_opened_the_device() -> None:
    alone, _ = make("PushCube", observation="rgb", image_size=16).reset(seed=3)
    options = {"observation": "rgb", "image_size": 16, "vectorization": "async"}
    rows = gym.make_vec("wmbench/MS-PushCube-v0", num_envs=1, **options)
    assert np.array_equal(rows.reset(seed=3)[0][0], alone)
    rows.close()


@pytest.mark.usefixtures("device")
def test_a_device_may_have_colons_in_its_name() -> None:
    """As that of a software driver; ManiSkill's own reading of such a name is left as it was."""
    import mani_skill.envs.utils.system.backend as module
    import sapien

    from wmbench_envs.maniskill_images import DEVICE, devices_by_name

    own, address = module.parse_backend_device_id, "pci:0000:00:00.0"
    with devices_by_name():
        found = [module.parse_backend_device_id(name) for name in (address, "physx_cuda:1", "gpu", "none")]
    assert found == [(address, None), ("physx_cuda", "1"), ("gpu", None), ("none", None)]
    assert module.parse_backend_device_id is own
    try:
        sapien.Device(address)
    except RuntimeError:
        pytest.skip("the device here has another name")
    # SAPIEN draws on one device per process, and this one may have drawn on another already.
    command = [sys.executable, "-c", ON_A_DEVICE]
    done = subprocess.run(command, env={**os.environ, DEVICE: address}, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == address


ON_A_DEVICE = """
import gymnasium as gym, wmbench
env = gym.make("wmbench/MS-PushCube-v0", observation="rgb", image_size=16).unwrapped
env.reset(seed=0)
print(env._backend._env.backend.render_backend)
"""

WITHOUT_A_DRIVER = """
import gymnasium as gym, wmbench
from wmbench.errors import RenderError
try:
    gym.make("wmbench/MS-PickCube-v0", observation="state+rgb")
except RenderError as error:
    print(error)
"""


def test_pictures_without_a_driver_are_refused_when_they_are_asked_for() -> None:
    hidden = {**os.environ, "VK_ICD_FILENAMES": "/nonexistent", "VK_DRIVER_FILES": "/nonexistent"}
    command = [sys.executable, "-c", WITHOUT_A_DRIVER]
    done = subprocess.run(command, env=hidden, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("wmbench/MS-PickCube-v0: SAPIEN finds no Vulkan device")
    assert "apt-get install mesa-vulkan-drivers" in done.stdout


@pytest.mark.parametrize("option", ["camera", "render_preset"])
def test_cameras_and_presets_are_the_cards_own(option: str) -> None:
    for card in CARDS:
        assert card.cameras and card.presets == ("fast", "full")
    with pytest.raises((ViewError, RenderError), match=r"one of.*'elsewhere'"):
        make("PickCube", **{option: "elsewhere"})
