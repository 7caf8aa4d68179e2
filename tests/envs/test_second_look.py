"""Worlds that look different: pictures change as the values say, and nothing but pictures does."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import wmbench
from wmbench.errors import WorldError
from wmbench.worlds import parse_world

TASKS = ["DMC-CartpoleSwingup", "DMC-WalkerWalk", "Gym-HalfCheetah", "Gym-Reacher"]


def made(name: str, world: Any = None, observation: str = "rgb") -> Any:
    return gym.make(wmbench.task_card(name).id, observation=observation, world=world).unwrapped


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize(("perturbation", "value"), [("colour", 0.8), ("light", 0.4), ("camera", 10.0)])
def test_pictures_change_and_states_do_not(name: str, perturbation: str, value: float) -> None:
    plain, other = made(name, observation="state+rgb"), made(name, {perturbation: value}, "state+rgb")
    a, b = plain.reset(seed=0)[0], other.reset(seed=0)[0]
    far = np.abs(a["rgb"].astype(float) - b["rgb"]).mean()
    assert far > 2.0
    for _ in range(3):
        action = plain.action_space.sample()
        a, b = plain.step(action)[0], other.step(action)[0]
        assert np.array_equal(a["state"], b["state"])
    assert np.abs(a["rgb"].astype(float) - b["rgb"]).mean() > 2.0
    other._backend._world = parse_world(other.card, {perturbation: "nominal"})
    plain.reset(seed=1)
    assert np.array_equal(other.reset(seed=1)[0]["rgb"], plain.reset(seed=1)[0]["rgb"])


def test_more_is_further_and_light_is_brightness() -> None:
    nominal = made("DMC-WalkerWalk").reset(seed=0)[0].astype(float)
    for name, values in (("colour", (0.1, 0.4, 0.9)), ("camera", (1.0, 4.0, 12.0))):
        gaps = [np.abs(made("DMC-WalkerWalk", {name: v}).reset(seed=0)[0] - nominal).mean() for v in values]
        assert gaps[0] < gaps[1] < gaps[2]
    dim, bright = (made("DMC-WalkerWalk", {"light": v}).reset(seed=0)[0].mean() for v in (0.4, 1.6))
    assert dim < nominal.mean() < bright
    dark = made("DMC-WalkerWalk", {"light": 0.0}, "rgb+segmentation").reset(seed=0)[0]
    assert dark["rgb"][dark["segmentation"][..., 0] > 0].max() < 10  # the sky needs no lamp


def test_looks_are_drawn_by_the_episode_and_restored_with_its_state() -> None:
    one, same = made("DMC-CartpoleSwingup", "far"), made("DMC-CartpoleSwingup", "near")
    first = one.reset(seed=3)[0]
    state = one.get_state()
    assert not np.array_equal(one.reset(seed=4)[0], first)
    same.reset(seed=9)
    assert np.array_equal(same.set_state(state), first)
    assert np.array_equal(made("DMC-CartpoleSwingup", "far").reset(seed=3)[0], first)
    shown = gym.make("wmbench/DMC-CartpoleSwingup-v0", render_mode="rgb_array", world={"colour": 0.9})
    shown.reset(seed=0)
    assert not np.array_equal(shown.render(), _rendered(None))


def _rendered(world: Any) -> np.ndarray:
    env = gym.make("wmbench/DMC-CartpoleSwingup-v0", render_mode="rgb_array", world=world)
    env.reset(seed=0)
    return env.render()


def test_bodies_keep_their_numbers_whatever_their_colours() -> None:
    plain = made("DMC-WalkerWalk", observation="depth+segmentation").reset(seed=0)[0]
    other = made("DMC-WalkerWalk", {"colour": 0.9, "light": 0.5}, "depth+segmentation").reset(seed=0)[0]
    assert np.array_equal(plain["segmentation"], other["segmentation"])
    assert np.array_equal(plain["depth"], other["depth"])


def test_a_simulator_that_cannot_look_different_says_so() -> None:
    with pytest.raises(WorldError, match=r"MS-PickCube-v0: colour cannot be varied: .* this task has mass, friction"):
        parse_world(wmbench.task_card("MS-PickCube"), {"colour": 0.5})
