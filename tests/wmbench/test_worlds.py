"""Worlds as plain data: ranges, draws by seed, what may be asked, and what is said when it may not."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

import wmbench
from wmbench.errors import CardError, WorldError
from wmbench.worlds import PERTURBATIONS, parse_world, read_world, sensor_noise, supported, world_suffix

CARTPOLE = wmbench.task_card("DMC-CartpoleSwingup")
KINDS = [pytest.param(p, id=p.name) for p in PERTURBATIONS.values()]


@pytest.mark.parametrize("kind", KINDS)
def test_draws_lie_in_their_ranges_and_fill_them(kind) -> None:
    for split, ranges in (("near", (kind.near,)), ("far", kind.far)):
        drawn = np.array([kind.draw(split, seed) for seed in range(500)])
        assert {kind.where(v) for v in drawn.tolist()} <= {split, "nominal"}
        for low, high in ranges:
            inside = drawn[(drawn >= low) & (drawn <= high)]
            assert len(inside) > 0.4 * len(drawn) / len(ranges)
            if kind.scale == "steps":
                assert set(inside) == set(range(int(low), int(high) + 1))
            else:
                assert inside.min() < low + 0.05 * (high - low)
                assert inside.max() > high - 0.05 * (high - low)
        if kind.scale == "log" and len(ranges) == 1:  # as many below the geometric mean as above
            assert np.mean(drawn < np.sqrt(ranges[0][0] * ranges[0][1])) == pytest.approx(0.5, abs=0.08)
        if kind.scale == "linear":
            assert drawn.mean() == pytest.approx(np.mean(ranges), abs=0.08 * (ranges[0][1] - ranges[0][0]))


def test_near_holds_the_nominal_value_and_far_does_not() -> None:
    for kind in PERTURBATIONS.values():
        assert kind.where(kind.nominal) == "nominal"
        assert kind.near[0] <= kind.nominal <= kind.near[1]
        for low, high in kind.far:
            assert high < kind.near[0] or low > kind.near[1]
            assert kind.where(low) == kind.where(high) == "far"
            assert kind.where((kind.near[0] + kind.near[1]) / 2) in ("near", "nominal")


def test_ranges_that_overlap_are_refused() -> None:
    mass = PERTURBATIONS["mass"]
    for change, fault in (
        ({"far": ((1.2, 2.0),)}, "overlap"),
        ({"far": ((0.5, 3.0),)}, "overlap"),
        ({"far": ()}, "at least one"),
        ({"near": (1.1, 1.2)}, "hold the nominal"),
        ({"far": ((2.0, 50.0),)}, "not allowed"),
        ({"far": ((2.0, 2.0),)}, "empty"),
    ):
        with pytest.raises(CardError, match=fault):
            dataclasses.replace(mass, **change)


def test_a_seed_draws_the_same_world_of_every_task_and_another_seed_another() -> None:
    walker = wmbench.task_card("DMC-WalkerWalk")
    world, other = parse_world(CARTPOLE, "far"), parse_world(walker, {"mass": "far"})
    for seed in range(20):
        assert world.draw(seed) == world.draw(seed)
        assert world.draw(seed)["mass"] == other.draw(seed)["mass"]
        assert world.draw(seed) != world.draw(seed + 1)
        assert json.loads(json.dumps(world.draw(seed))) == world.draw(seed)
    drawn = np.array([[w["mass"], w["gravity"]] for w in map(world.draw, range(300))])
    assert abs(np.corrcoef(drawn.T)[0, 1]) < 0.2  # perturbations do not go together


def test_known_draws() -> None:
    """What datasets and results were made with: a change here is another benchmark."""
    assert parse_world(CARTPOLE, "far").draw(7) == {
        "mass": 2.051, "damping": 0.1253, "gain": 1.6846, "gravity": 0.5003, "delay": 6.0, "noise": 0.293,
        "colour": 0.9381, "light": 0.2683, "camera": 7.3159,
    }  # fmt: skip


def test_what_a_dict_does_not_name_is_nominal() -> None:
    drawn = parse_world(CARTPOLE, {"mass": 1.5, "delay": "far"}).draw(3)
    assert drawn.pop("mass") == 1.5
    assert 3 <= drawn.pop("delay") <= 6
    assert all(value == PERTURBATIONS[name].nominal for name, value in drawn.items())
    assert list(parse_world(CARTPOLE, "near").draw(0)) == list(supported(CARTPOLE))


@pytest.mark.parametrize("world", [None, "nominal", {}])
def test_the_nominal_world_is_none(world) -> None:
    assert parse_world(CARTPOLE, world) is None


@pytest.mark.parametrize(
    ("world", "fault"),
    [
        ("close", "one of nominal, near, far or a dict, got 'close'"),
        (3, "a name or a dict of values, got int"),
        (["mass"], "a name or a dict of values, got list"),
        ({"weight": 2.0}, "no perturbation 'weight'; this task has mass, damping, gain, gravity, delay, noise, colour"),
        ({"friction": 2.0}, "friction cannot be varied: nothing that moves slides .* this task has mass"),
        ({"mass": "heavy"}, "mass must be a number or one of nominal, near, far, got 'heavy'"),
        ({"mass": True}, "mass must be a number, got bool"),
        ({"mass": [1.0]}, "mass must be a number, got list"),
        ({"mass": float("nan")}, "mass must be from 0.05 to 20"),
        ({"mass": 0.0}, "mass must be from 0.05 to 20"),
        ({"mass": -1.0}, "mass must be from 0.05 to 20"),
        ({"delay": 1.5}, "delay must be a whole number from 0 to 10 .*, got 1.5"),
        ({"delay": 11}, "delay must be a whole number from 0 to 10"),
    ],
)
def test_worlds_that_do_not_exist_are_refused(world, fault) -> None:
    with pytest.raises(WorldError, match=f"{CARTPOLE.id}: .*{fault}"):
        parse_world(CARTPOLE, world)


def test_noise_needs_typical_deviations() -> None:
    card = dataclasses.replace(CARTPOLE, typical_std=())
    assert "noise" not in supported(card)
    with pytest.raises(WorldError, match="noise cannot be varied: the card states no typical standard deviations"):
        parse_world(card, {"noise": 0.1})
    with pytest.raises(CardError, match="typical_std"):
        dataclasses.replace(CARTPOLE, typical_std=(1.0,))


def test_sensor_noise_has_the_stated_deviation_and_depends_on_seed_and_step_alone() -> None:
    seeds, counts = np.repeat(np.arange(100), 200), np.tile(np.arange(200), 100)
    noise = sensor_noise(CARTPOLE, seeds, counts, np.full(len(seeds), 0.3))
    assert noise.dtype == np.float32
    assert np.allclose(noise.std(0), 0.3 * np.array(CARTPOLE.typical_std), rtol=0.02)
    assert np.abs(noise.mean(0)).max() < 0.02 * noise.std(0).max()
    assert np.abs(np.corrcoef(noise.T) - np.eye(noise.shape[1])).max() < 0.03
    steps = noise.reshape(100, 200, -1)[..., 0]
    assert abs(np.corrcoef(steps[:, 1:].ravel(), steps[:, :-1].ravel())[0, 1]) < 0.03
    one = sensor_noise(CARTPOLE, [17], [30], [0.3])[0]
    assert np.array_equal(one, noise[17 * 200 + 30])


def test_every_card_names_perturbations_that_exist_and_measured_deviations() -> None:
    for card in wmbench.task_cards().values():
        assert {"mass", "gain", "delay", "noise"} <= set(supported(card))
        assert len(card.typical_std) == len(card.observation)
        assert wmbench.cards.TaskCard.from_json(card.to_json()) == card
        assert dataclasses.replace(card, perturbations=(), typical_std=()).digest() == card.digest()
    with pytest.raises(CardError, match="unknown perturbations"):
        supported(dataclasses.replace(CARTPOLE, perturbations=("weight",)))


def test_the_command_line_reads_names_and_json() -> None:
    assert read_world("far") == "far"
    assert read_world('{"mass": 1.5}') == {"mass": 1.5}
    with pytest.raises(WorldError, match="neither nominal, near, far nor JSON"):
        read_world("{mass: 1.5}")
    assert [world_suffix(w) for w in (None, "nominal", "far", {"mass": 1.5})] == ["", "", "-far", "-mass=1.5"]
