"""Pictures of the twin: decoded where the model can, posed where the card can, refused otherwise."""

import dataclasses

import gymnasium as gym
import numpy as np
import pytest
import torch

import wmbench
from wmbench import registration
from wmbench.errors import RenderError
from wmbench_baselines.reference import CopyLast

CARTPOLE, HOPPER = "wmbench/DMC-CartpoleSwingup-v0", "wmbench/Gym-Hopper-v0"


class Painter(CopyLast):
    """Paints every row in the colour of its first number."""

    def __init__(self, task):
        super().__init__(CopyLast.Config(), task)

    def render(self, state):
        colour = (state["observation"][:, 0] > 0).to(torch.uint8)
        return colour[:, None, None, None].expand(-1, 4, 6, 3) * 255


@pytest.fixture
def painter(world_model):
    return world_model("painter", lambda task, device: Painter(task))


def test_decoded_pixels(painter):
    env = gym.make_vec(CARTPOLE, num_envs=8, simulator=painter, render_mode="rgb_array")
    observation, _ = env.reset(seed=0)
    frames = env.render()
    assert isinstance(frames, tuple) and len(frames) == 8
    for frame, row in zip(frames, observation, strict=True):
        assert frame.shape == (4, 6, 3) and frame.dtype == np.uint8
        assert (frame == 255 * (row[0] > 0)).all()
    frames[0][:] = 7
    assert not (env.render()[0] == 7).any()
    single = gym.make(CARTPOLE, simulator=painter, render_mode="rgb_array")
    single.reset(seed=0)
    assert np.array_equal(single.render(), env.render()[0])
    assert single.render_mode == env.render_mode == "rgb_array"


@pytest.mark.parametrize("task", [CARTPOLE, HOPPER])
def test_posed_from_the_predicted_state(task, fitted):
    """At a true start the picture is the true one; a step later it has changed with the prediction."""
    size = {"render_mode": "rgb_array", "height": 48, "width": 64}
    true = gym.make(task, **size)
    true.reset(seed=3)
    try:
        expected = true.unwrapped.render_pose(true.unwrapped.set_state(true.unwrapped.get_state()))
    except RenderError as error:
        pytest.skip(str(error))
    env = gym.make_vec(task, num_envs=2, simulator=fitted(task, "random-walk"), init="true", **size)
    env.reset(seed=[3, 4])
    frames = env.render()
    assert np.array_equal(frames[0], expected) and frames[1].shape == (48, 64, 3)
    for _ in range(20):
        env.step(np.zeros(env.action_space.shape, np.float32))
    assert not np.array_equal(env.render()[0], frames[0])
    single = gym.make(task, simulator=fitted(task, "random-walk"), init="true", **size)
    single.reset(seed=3)
    assert np.array_equal(single.render(), expected)
    env.close(), single.close()


def test_refused_where_nothing_can_draw(fitted, monkeypatch):
    card = dataclasses.replace(wmbench.task_card(CARTPOLE), pose={}, id="wmbench/DMC-Blind-v0")
    monkeypatch.setitem(registration.task_cards(), card.id, card)
    gym.register(
        card.id, entry_point=registration.MAKE, vector_entry_point=registration.MAKE_VEC, kwargs={"task": card.id}
    )
    try:
        with pytest.raises(RenderError, match=r"DMC-Blind.*'oracle' decodes no pixels.*no pose"):
            gym.make(card.id, simulator="oracle", render_mode="rgb_array")
        with pytest.raises(RenderError, match="no pose"):
            gym.make_vec(card.id, num_envs=2, simulator="oracle", render_mode="rgb_array")
        gym.make(card.id, simulator="oracle").reset(seed=0)
    finally:
        gym.registry.pop(card.id)


def test_without_a_render_mode_there_is_a_warning_and_no_picture(fitted):
    for env in (
        gym.make(CARTPOLE, simulator=fitted(CARTPOLE, "linear")).unwrapped,
        gym.make_vec(CARTPOLE, num_envs=2, simulator=fitted(CARTPOLE, "linear")),
    ):
        env.reset(seed=0)
        with pytest.warns(UserWarning, match="render_mode='rgb_array'"):
            assert env.render() is None
