"""Pictures as observations of MuJoCo's tasks: what they show, on what alone they depend, how they stack and batch."""

import re
from pathlib import Path

import gymnasium as gym
import mujoco
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode

import wmbench
from wmbench.cards import TaskCard
from wmbench.errors import RenderError, ViewError

CARDS = [card for card in wmbench.task_cards().values() if card.suite in ("gym-mujoco", "dm-control")]
TASK = "wmbench/DMC-CartpoleSwingup-v0"
FALLING = "wmbench/DMC-CheetahRun-v0"
ALL = "state+rgb+depth+segmentation"


@pytest.fixture(autouse=True, scope="module")
def opengl() -> None:
    """Skip where no picture can be made at all."""
    env = gym.make(TASK, observation="rgb", image_size=8)
    try:
        env.reset(seed=0)
    except RenderError as error:
        pytest.skip(str(error))
    finally:
        env.close()


def equal(a, b) -> bool:
    """Whether two observations are the same to the bit."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)
    return np.array_equal(a, b)


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
def test_pictures_are_a_function_of_the_state(card: TaskCard) -> None:
    env = gym.make(card.id, observation=ALL, image_size=(20, 24)).unwrapped
    plain = gym.make(card.id).unwrapped
    seen, _ = env.reset(seed=1)
    assert np.array_equal(seen["state"], plain.reset(seed=1)[0])
    low, high = card.action_bounds()
    rng = np.random.default_rng(0)
    history = [(env.get_state(), seen)]
    for _ in range(3):
        action = rng.uniform(low, high).astype(np.float32)
        a, b = env.step(action), plain.step(action)
        assert np.array_equal(a[0]["state"], b[0])
        assert a[1:4] == b[1:4]
        assert np.array_equal(env.get_state(), plain.get_state())
        history.append((env.get_state(), a[0]))
    for state, seen in reversed(history):
        assert env.observation_space.contains(seen)
        assert seen["rgb"].std() > 3
        assert (seen["depth"] > 0).all()
        shown = set(np.unique(seen["segmentation"]).tolist())
        assert len(shown) >= 2
        assert shown <= {0, *env.segments()}
        assert equal(env.set_state(state), seen)
    other = gym.make(card.id, observation=ALL, image_size=(20, 24)).unwrapped
    assert equal(other.set_state(history[-1][0]), history[-1][1])
    pictures = {name: [seen[name] for _, seen in history] for name in ("rgb", "depth", "segmentation")}
    assert all(len({p.ctypes.data for p in several}) == len(several) for several in pictures.values())
    for one in (env, plain, other):
        one.close()


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
def test_depth_and_segmentation_are_what_a_ray_finds(card: TaskCard) -> None:
    """MuJoCo's ray casting knows nothing of OpenGL."""
    env = gym.make(card.id, observation="depth+segmentation", image_size=48).unwrapped
    seen, _ = env.reset(seed=2)
    scene = env._backend._scene
    model, data, view = scene._model, scene._posed, scene._scene.camera[0]
    forward, up = np.array(view.forward, float), np.array(view.up, float)
    forward, up, place = forward / np.linalg.norm(forward), up / np.linalg.norm(up), np.array(view.pos, float)
    half = view.frustum_top / view.frustum_near
    groups, hit = np.array([1, 1, 1, 0, 0, 0], np.uint8), np.zeros(1, np.int32)
    mujoco.mj_forward(model, data)
    close = same = found = 0
    for row, column in np.ndindex(12, 12):
        i, j = 4 * row + 2, 4 * column + 2
        across, down = (j + 0.5) / 24 - 1, (i + 0.5) / 24 - 1
        ray = forward + half * (across * np.cross(forward, up) - down * up)
        length = mujoco.mj_ray(model, data, place, ray, groups, 1, -1, hit)
        body = 0 if length < 0 else int(model.geom_bodyid[hit[0]]) + 1
        same += body == seen["segmentation"][i, j, 0]
        if body and body == seen["segmentation"][i, j, 0]:
            found += 1
            close += abs(seen["depth"][i, j, 0] - length) < 0.01 * length
    assert same > 0.9 * 144  # thin things and edges differ
    assert found > 3
    assert close > 0.85 * found  # where faces of a body lie inside its round shape, or a wall is seen from its edge
    env.close()


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
def test_the_card_names_the_model_s_cameras(card: TaskCard) -> None:
    env = gym.make(card.id).unwrapped
    model = env._backend._scene._model
    names = [mujoco.mj_id2name(model, mujoco.mjtObj.mjOBJ_CAMERA, i) for i in range(model.ncam)]
    others = ["near", "free"] if card.name == "Gym-InvertedDoublePendulum" else ["free"]
    assert list(card.cameras) == ([name for name in names if name] or others)
    assert card.presets == ("fast", "full")
    assert env.segments()[1] == "world"
    assert list(env.segments()) == list(range(1, model.nbody + 1))
    env.close()


def test_no_other_environment_changes_a_picture() -> None:
    """Uploads are shared between environments of a model, and the presets differ in what is uploaded."""
    first = {}
    kinds = [("fast", 24), ("full", 24), ("full", 20), ("fast", 20)]
    for _ in range(2):
        for task in (TASK, "wmbench/Gym-HalfCheetah-v0"):
            envs = {}
            for preset, size in kinds:
                key = task, preset, size
                envs[key] = gym.make(task, observation="rgb", image_size=size, render_preset=preset).unwrapped
                picture, _ = envs[key].reset(seed=3)
                assert np.array_equal(picture, first.setdefault(key, picture))
            for key, env in envs.items():
                assert np.array_equal(env.set_state(env.get_state()), first[key])
                env.close()
    for size in (24, 20):
        fast, full = (first["wmbench/Gym-HalfCheetah-v0", preset, size].astype(int) for preset in ("fast", "full"))
        assert not np.array_equal(fast, full)
        assert np.abs(fast - full).mean() < 8  # nearly the same picture


def test_the_camera_and_the_preset_can_be_chosen() -> None:
    card = wmbench.task_card("DMC-WalkerWalk")
    seen = {}
    for camera in (None, *card.cameras):
        env = gym.make(card.id, observation="rgb", camera=camera)
        seen[camera] = env.reset(seed=0)[0]
        assert env.unwrapped.view.camera == (camera or card.cameras[0])
        assert env.unwrapped.view.preset == "fast"
        env.close()
    assert np.array_equal(seen[None], seen[card.cameras[0]])
    assert not np.array_equal(seen[None], seen[card.cameras[1]])
    with pytest.raises(ViewError, match="camera must be one of 'side', 'back'"):
        gym.make(card.id, observation="rgb", camera="front")
    with pytest.raises(ViewError, match="render_preset must be one of 'fast', 'full'"):
        gym.make(card.id, observation="rgb", render_preset="slow")


def test_the_full_preset_is_what_render_draws() -> None:
    env = gym.make(
        TASK, observation="rgb", image_size=(30, 40), render_preset="full", render_mode="rgb_array", height=30, width=40
    )
    for _ in range(2):
        assert np.array_equal(env.reset(seed=4)[0], env.render())


@pytest.mark.parametrize(
    ("observation", "space"),
    [("rgb", Box), ("depth", Box), ("segmentation", Box), ("state+rgb", Dict), ("rgb+depth", Dict), (ALL, Dict)],
)
@pytest.mark.parametrize("stack", [1, 3])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_gymnasium_accepts_every_view(observation: str, space: type, stack: int) -> None:
    env = gym.make(TASK, observation=observation, image_size=[16, 12], frame_stack=stack)
    assert isinstance(env.observation_space, space)
    check_env(env.unwrapped, skip_render_check=True)
    again = gym.make(gym.envs.registration.EnvSpec.from_json(env.spec.to_json()))
    assert again.observation_space == env.observation_space
    assert again.unwrapped.view == env.unwrapped.view
    assert equal(again.reset(seed=5)[0], env.reset(seed=5)[0])
    rgb = env.observation_space["rgb"] if space is Dict and "rgb" in observation else None
    if rgb is not None:
        assert rgb == Box(0, 255, (16, 12, 3) if stack == 1 else (3, 16, 12, 3), np.uint8)


def test_stacks_hold_the_last_pictures_oldest_first() -> None:
    env = gym.make(FALLING, observation="state+rgb", image_size=16, frame_stack=3).unwrapped
    plain = gym.make(FALLING, observation="rgb", image_size=16).unwrapped
    first, _ = env.reset(seed=0)
    pictures = [plain.reset(seed=0)[0]] * 3
    assert np.array_equal(first["rgb"], pictures)
    for force in (1.0, -1.0, 0.5, 0.2):
        action = np.full(6, force, np.float32)
        for _ in range(5):
            seen = env.step(action)[0]
            pictures.append(plain.step(action)[0])
            assert np.array_equal(seen["rgb"], pictures[-3:])
    assert not np.array_equal(pictures[-1], pictures[-2])
    kept = seen["rgb"].copy()
    restored = env.set_state(env.get_state())
    assert np.array_equal(restored["rgb"], [pictures[-1]] * 3)
    assert np.array_equal(seen["rgb"], kept)  # what was given out before stays as it was
    assert np.array_equal(env.reset(seed=0)[0]["rgb"], first["rgb"])


@pytest.mark.parametrize("mode", ["NextStep", "SameStep", "Disabled"])
@pytest.mark.parametrize(("kind", "array"), [("sync", "numpy"), ("sync", "torch"), ("async", "numpy")])
def test_batches_see_what_single_ones_see(kind: str, array: str, mode: str) -> None:
    task, options = "wmbench/Gym-InvertedPendulum-v0", {"image_size": 16, "frame_stack": 2}
    view = "rgb" if mode == "Disabled" else "state+rgb"
    envs = gym.make_vec(
        task, num_envs=2, observation=view, vectorization=kind, array=array, autoreset_mode=mode, **options
    )
    assert envs.metadata["autoreset_mode"] == AutoresetMode(mode)
    singles = [gym.make(task, observation=view, **options) for _ in range(2)]
    seen, _ = envs.reset(seed=[7, 8])
    expected = [single.reset(seed=seed)[0] for single, seed in zip(singles, (7, 8), strict=True)]
    action = np.array([[3.0], [0.0]], np.float32)

    def row(value, i):
        return {k: np.asarray(v[i]) for k, v in value.items()} if isinstance(value, dict) else np.asarray(value[i])

    ended = False
    while not ended:
        assert all(equal(row(seen, i), expected[i]) for i in range(2))
        seen, _, terminated, _, infos = envs.step(action)
        steps = [single.step(action[i]) for i, single in enumerate(singles)]
        expected = [step[0] for step in steps]
        ended = steps[0][2]
        assert bool(terminated[0]) == ended
    if mode == "SameStep":
        final = infos["final_obs"]
        assert equal(row(final, 0) if array == "torch" else final[0], expected[0])
        first = row(seen, 0)["rgb"]
        assert np.array_equal(first[0], first[1])  # the next episode has begun
        assert not np.array_equal(first[1], expected[0]["rgb"][1])
    else:
        assert equal(row(seen, 0), expected[0])
        if mode == "Disabled":
            seen, _ = envs.reset(seed=[9, 9], options={"reset_mask": np.array([True, False])})
        else:
            seen = envs.step(action)[0]
        first = row(seen, 0) if mode == "Disabled" else row(seen, 0)["rgb"]
        assert np.array_equal(first[0], first[1])
    assert equal(row(seen, 1) if mode != "NextStep" else 0, expected[1] if mode != "NextStep" else 0)
    envs.close()
    for single in singles:
        single.close()


def test_pictures_of_a_repeat_are_those_of_its_last_step() -> None:
    env, plain = (gym.make(TASK, observation="rgb", image_size=16, action_repeat=k).unwrapped for k in (3, 1))
    env.reset(seed=0), plain.reset(seed=0)
    action = np.ones(1, np.float32)
    for _ in range(4):
        seen = env.step(action)[0]
        for _ in range(3):
            expected = plain.step(action)[0]
        assert np.array_equal(seen, expected)


def test_where_nothing_can_be_drawn_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUJOCO_GL", "off")
    env = gym.make(TASK, observation="rgb")
    with pytest.raises(RenderError, match=r"CartpoleSwingup-v0.*MUJOCO_GL=off"):
        env.reset(seed=0)
    monkeypatch.delenv("MUJOCO_GL")
    monkeypatch.setattr("wmbench_envs.mujoco_gl._backend", lambda: None)
    with pytest.raises(RenderError, match="apt-get install libegl1"):
        gym.make(TASK, observation="rgb").reset(seed=0)
    assert gym.make(TASK).reset(seed=0)[0].shape == (5,)


def test_uploads_are_shared_and_freed() -> None:
    from wmbench_envs import mujoco_gl

    def mine() -> int:
        return sum(key[-2:] == (19, 17) for key in mujoco_gl._uploads)

    envs = [gym.make(TASK, observation="rgb", image_size=(19, 17)) for _ in range(3)]
    for env in envs:
        env.reset(seed=0)
    assert mine() == 1
    picture = envs[0].reset(seed=1)[0]
    envs[1].close()
    assert np.array_equal(envs[2].reset(seed=1)[0], picture)
    for env in envs:
        env.close()
    for side in range(mujoco_gl.IDLE):  # others push it out
        env = gym.make(TASK, observation="rgb", image_size=(9, 9 + side))
        env.reset(seed=0)
        env.close()
    assert mine() == 0
    assert len(mujoco_gl._uploads) <= mujoco_gl.IDLE + 1


def test_the_page_s_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = Path(__file__).parents[2] / "docs" / "pixels.md"
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    assert len(blocks) == 3
    for text in blocks:
        exec(compile(text, "example", "exec"), {"__name__": "example"})
