"""Pictures of true environments: fresh, without influence on the simulation, or a sentence on why there is none."""

from __future__ import annotations

import ctypes.util
import os
import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import wmbench
from wmbench.errors import RenderError
from wmbench_envs import mujoco_gl

TASKS = ["wmbench/DMC-CartpoleSwingup-v0", "wmbench/Gym-InvertedPendulum-v0"]


@pytest.fixture
def opengl() -> None:
    """Skip where no picture can be made at all."""
    env = gym.make(TASKS[0], render_mode="rgb_array", height=8, width=8)
    env.reset(seed=0)
    try:
        env.render()
    except RenderError as error:
        pytest.skip(str(error))
    finally:
        env.close()


@pytest.mark.usefixtures("opengl")
@pytest.mark.parametrize("task", TASKS)
def test_frames_are_fresh_and_leave_the_simulation_alone(task: str) -> None:
    env, plain = gym.make(task, render_mode="rgb_array", height=48, width=64), gym.make(task)
    env.reset(seed=0), plain.reset(seed=0)
    frames = [env.render()]
    for action in np.linspace(-1, 1, 6, dtype=np.float32):
        a, b = env.step(np.array([action])), plain.step(np.array([action]))
        frames.append(env.render())
        assert np.array_equal(a[0], b[0])
        assert np.array_equal(env.unwrapped.get_state(), plain.unwrapped.get_state())
    for frame in frames:
        assert frame.shape == (48, 64, 3)
        assert frame.dtype == np.uint8
        assert frame.std() > 5
    assert len({f.ctypes.data for f in frames}) == len(frames)
    assert not np.array_equal(frames[0], frames[-1])
    assert np.array_equal(env.render(), frames[-1])
    assert np.array_equal(env.unwrapped.render_pose(a[0]), frames[-1])  # nothing in these tasks is unobserved
    other = gym.make(task, render_mode="rgb_array", height=48, width=64)  # a second context at the same time
    other.reset(seed=0)
    assert np.array_equal(other.render(), frames[0])
    assert np.array_equal(env.render(), frames[-1])
    other.close()
    assert np.array_equal(env.render(), frames[-1])
    env.close()


@pytest.mark.usefixtures("opengl")
def test_frames_can_be_larger_than_the_model_foresees_and_states_can_be_drawn() -> None:
    env = gym.make(TASKS[0], render_mode="rgb_array", height=500, width=700)
    env.reset(seed=0)
    before = env.unwrapped.get_state()
    first = env.render()
    assert first.shape == (500, 700, 3)
    for _ in range(20):
        env.step(np.ones(1, dtype=np.float32))
    env.unwrapped.set_state(before)
    assert np.array_equal(env.render(), first)
    env.close()


@pytest.mark.usefixtures("opengl")
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_gymnasium_accepts_the_rendering(task: str) -> None:
    check_env(gym.make(task, render_mode="rgb_array", height=24, width=32))


@pytest.mark.usefixtures("opengl")
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_every_row_of_a_batch_is_drawn_even_after_this_process_has_drawn(kind: str) -> None:
    env = gym.make_vec(TASKS[0], num_envs=2, vectorization=kind, render_mode="rgb_array", height=24, width=32)
    env.reset(seed=[0, 1])
    single = gym.make(TASKS[0], render_mode="rgb_array", height=24, width=32)
    for i, frame in enumerate(env.render()):
        single.reset(seed=i)
        assert np.array_equal(frame, single.render())
    env.close()


def test_no_graphics_library_is_imported_before_a_picture_is_asked_for() -> None:
    code = (
        "import sys, gymnasium as gym, wmbench, numpy as np\n"
        f"for task in {TASKS!r}:\n"
        "    env = gym.make(task, render_mode='rgb_array'); env.reset(seed=0); env.step(np.zeros(1, 'f4'))\n"
        "import os\n"
        "print('OpenGL' in sys.modules, 'MUJOCO_GL' in os.environ)"
    )
    clean = {k: v for k, v in os.environ.items() if k not in ("MUJOCO_GL", "DISPLAY", "PYOPENGL_PLATFORM")}
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, env=clean)
    assert done.stdout.strip() == "False False", done.stderr


def test_without_a_render_mode_there_is_a_warning_and_no_picture() -> None:
    env = gym.make(TASKS[0])
    env.reset(seed=0)
    with pytest.warns(UserWarning, match="render_mode='rgb_array'"):
        assert env.render() is None


def test_what_to_install_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    env = gym.make(TASKS[0], render_mode="rgb_array")
    env.reset(seed=0)
    monkeypatch.setenv("MUJOCO_GL", "off")
    with pytest.raises(RenderError, match=r"CartpoleSwingup-v0.*MUJOCO_GL=off"):
        env.render()
    monkeypatch.delenv("MUJOCO_GL")
    monkeypatch.setattr(mujoco_gl, "_backend", lambda: None)
    with pytest.raises(RenderError, match=r"apt-get install libegl1 libgl1-mesa-dri"):
        env.render()
    monkeypatch.setattr(mujoco_gl, "_backend", lambda: "nothing")
    with pytest.raises(RenderError, match=r"'nothing' does not work here.*libosmesa6"):
        env.render()


@pytest.mark.parametrize("backend", ["osmesa", "crayons"])
def test_a_backend_that_is_not_installed_is_named(backend: str) -> None:
    if ctypes.util.find_library("OSMesa") and backend == "osmesa":
        pytest.skip("OSMesa is installed here")
    code = (
        "import gymnasium as gym, wmbench\n"
        "from wmbench.errors import RenderError\n"
        "try:\n"
        f"    env = gym.make({TASKS[1]!r}, render_mode='rgb_array'); env.reset(seed=0); env.render()\n"
        "except RenderError as error:\n"
        "    print(error)"
    )
    clean = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "PYOPENGL_PLATFORM")}
    clean["MUJOCO_GL"] = backend  # MuJoCo itself fails to import then
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=clean)
    assert f"MUJOCO_GL={backend}" in done.stdout, done.stderr
    assert "unset it" in done.stdout


def test_observations_that_cannot_be_drawn_are_refused() -> None:
    env = gym.make("wmbench/Gym-Hopper-v0").unwrapped
    good = np.zeros(11)
    for bad, fault in ((good[:5], "11 floats"), (good.astype(int), "int64"), (good * np.nan, "NaN")):
        with pytest.raises(RenderError, match=f"Gym-Hopper-v0.*{fault}"):
            env.render_pose(bad)
    for kwargs in ({"height": 0}, {"width": -3}, {"width": 2.5}):
        with pytest.raises(RenderError, match="positive integers"):
            gym.make("wmbench/Gym-Hopper-v0", render_mode="rgb_array", **kwargs)
    assert all(card.pose for card in wmbench.task_cards().values() if card.physics.startswith("mujoco"))
