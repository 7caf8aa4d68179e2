"""Pictures as observations of learned twins: drawn from predicted states, or decoded by the model."""

from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env

import wmbench
from wmbench.cards import ModelCard
from wmbench.errors import CardError, RenderError, ViewError
from wmbench.protocols import Prediction

TASK = "wmbench/Gym-InvertedPendulum-v0"
SIZE = {"image_size": [12, 16]}


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


def same(a, b) -> bool:
    """Equal states, and pictures that differ by no more than rounding a position to float32 can move an edge."""
    near = [np.abs(np.asarray(a[k], float) - np.asarray(b[k], float)) < 0.01 for k in a if k != "state"]
    return (
        a.keys() == b.keys()
        and np.array_equal(np.asarray(a["state"]), np.asarray(b["state"]))
        and all(n.mean() > 0.98 for n in near)
    )


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_oracle_shows_what_the_true_simulator_shows() -> None:
    options = {"observation": "state+rgb+depth", "frame_stack": 2, "action_repeat": 2, **SIZE}
    true, twin = gym.make(TASK, **options), gym.make(TASK, simulator="oracle", init="true", **options)
    assert true.observation_space == twin.observation_space
    check_env(twin.unwrapped, skip_render_check=True)
    assert same(true.reset(seed=3)[0], twin.reset(seed=3)[0])
    for force in (1.0, -1.0, 2.0):
        action = np.full(1, force, np.float32)
        assert same(true.step(action)[0], twin.step(action)[0])


@pytest.mark.parametrize("mode", ["NextStep", "SameStep", "Disabled"])
@pytest.mark.parametrize("array", ["numpy", "torch"])
def test_batches_show_what_true_batches_show(mode: str, array: str) -> None:
    options = {"num_envs": 2, "observation": "state+rgb", "frame_stack": 2, "array": array, "autoreset_mode": mode}
    true = gym.make_vec(TASK, **options, **SIZE)
    twin = gym.make_vec(TASK, simulator="oracle", init="true", **options, **SIZE)
    assert true.single_observation_space == twin.single_observation_space
    assert true.observation_space == twin.observation_space
    assert same(true.reset(seed=[4, 5])[0], twin.reset(seed=[4, 5])[0])
    action = np.array([[3.0], [0.1]], np.float32)
    ends = 0
    while ends < 2:
        a, b = true.step(action), twin.step(action)
        assert same(a[0], b[0])
        assert a[2].tolist() == b[2].tolist()
        if bool(a[2][0]):
            ends += 1
            if mode == "SameStep":
                one, other = a[4]["final_obs"], b[4]["final_obs"]
                assert same(one, other) if array == "torch" else same(one[0], other[0])
            if mode == "Disabled":
                mask = {"reset_mask": np.array([True, False])}
                assert same(true.reset(seed=[6, 6], options=mask)[0], twin.reset(seed=[6, 6], options=mask)[0])
    true.close(), twin.close()


class Decoder:
    """Predicts that nothing moves, and shows the number of steps as brightness."""

    def __init__(self, task, device, size=(12, 16)):
        self.size = size
        self.card = ModelCard(
            name="decoder", task_ids=(task.id,), predicts=frozenset({"observation", "reward", "terminated"}),
            inputs="the state", condition="none", consumer="a test", risk="shows nothing",
        )  # fmt: skip

    def initial(self, start, *, keys):
        return {"observation": start.observation, "steps": torch.zeros(len(keys), dtype=torch.int64)}

    def step(self, state, action, *, uncertainty=False):
        state = {**state, "steps": state["steps"] + 1}
        zeros = torch.zeros(len(action))
        return state, Prediction(state["observation"], reward=zeros.double(), terminated=zeros)

    def render(self, state):
        return (state["steps"][:, None, None, None] * 10).expand(-1, *self.size, 3).to(torch.uint8)


def test_a_model_that_decodes_pixels_shows_them(world_model) -> None:
    name = world_model("decoder", Decoder)
    env = gym.make(TASK, simulator=name, observation="rgb", frame_stack=2, **SIZE)
    action = np.zeros(1, np.float32)
    seen, _ = env.reset(seed=0)
    assert seen.shape == (2, 12, 16, 3)
    assert not seen.any()
    for step in (1, 2, 3):
        seen = env.step(action)[0]
        assert np.unique(seen[0]).tolist() == [10 * (step - 1)]
        assert np.unique(seen[1]).tolist() == [10 * step]
    with pytest.raises(ViewError, match="decodes rgb and nothing else"):
        gym.make(TASK, simulator=name, observation="depth")
    wrong = gym.make(TASK, simulator=name, observation="rgb", image_size=20)
    with pytest.raises(CardError, match=r"decodes uint8 \(1, 12, 16, 3\).*\(1, 20, 20, 3\)"):
        wrong.reset(seed=0)


def test_what_cannot_be_shown_is_refused() -> None:
    with pytest.raises(ViewError, match=r"'oracle' predicts the state and no pictures.*observation='state\+rgb'"):
        gym.make(TASK, simulator="oracle", observation="rgb")
    from wmbench.views import View
    from wmbench_envs.twin_pictures import TwinPictures

    card = wmbench.task_card("MS-PickCube")
    model = SimpleNamespace(card=SimpleNamespace(name="flat"))
    with pytest.raises(ViewError, match="no pose"):
        TwinPictures(card, model, View.parse("state+rgb"), 1)


def test_a_policy_that_sees_pixels_acts_in_a_twin_of_states() -> None:
    class Bright:
        observation = "rgb"
        image_size = (12, 16)

        def initial(self, batch_size):
            return None

        def act(self, observation, state, *, keys):
            return (observation.mean((1, 2, 3))[:, None] / 100 - 1).astype(np.float32), state

    true = wmbench.evaluate(TASK, Bright(), episodes=3)
    twin = wmbench.evaluate(TASK, Bright(), episodes=3, simulator="oracle")
    for a, b in zip(true.episodes, twin.episodes, strict=True):
        assert a["valid"]
        assert b["valid"]
        assert abs(a["length"] - b["length"]) <= 1
