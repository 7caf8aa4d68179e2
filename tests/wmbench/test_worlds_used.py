"""Worlds where episodes are made: rollouts, evaluations and datasets say which world each took place in."""

from __future__ import annotations

import json

import gymnasium as gym
import numpy as np
import pytest

import wmbench
from wmbench import registry
from wmbench.episodes import Dataset
from wmbench.errors import DatasetError, WorldError
from wmbench.rollout import rollout
from wmbench.worlds import parse_world, supported

CARD = wmbench.task_card("Gym-Reacher")  # 50 steps
NAMES = list(supported(CARD))


def policy(name="random"):
    cls = registry.policies.load(name)
    return cls(cls.Config(), CARD)


def test_rollouts_take_place_in_the_worlds_of_their_seeds() -> None:
    one = rollout(CARD, policy(), [3, 4, 5], world="far")
    many = rollout(CARD, policy(), [3, 4, 5], world="far", num_envs=3)
    apart = rollout(CARD, policy(), [3, 4, 5], world="far", num_envs=2, vectorization="async")
    for i, seed in enumerate((3, 4, 5)):
        values = parse_world(CARD, "far").draw(seed)
        assert one[i].extra["world"].shape == (51, len(NAMES))
        assert np.array_equal(one[i].extra["world"], np.tile(list(values.values()), (51, 1)))
        env = gym.make(CARD.id, world=values)  # the values themselves are the same world
        assert np.array_equal(env.reset(seed=seed)[0], one[i].observation[0])
        for t in range(50):
            assert np.array_equal(env.step(one[i].action[t])[0], one[i].observation[t + 1])
        for other in (many, apart):
            assert np.array_equal(other[i].observation, one[i].observation)
            assert np.array_equal(other[i].reward, one[i].reward)
    assert "world" not in rollout(CARD, policy(), [3])[0].extra


def test_datasets_record_the_world_of_each_episode(tmp_path) -> None:
    ds = wmbench.collect(CARD, tmp_path / "near", episodes=7, world="near")
    assert ds.manifest["world"] == {"asked": "near", "names": NAMES}
    assert ds.manifest["plan"]["world"] == "near"
    draw = parse_world(CARD, "near").draw
    for i in range(7):
        assert ds.world(i) == draw(ds.episode(i).seed)
    split = ds.worlds("train")
    assert {name: values.tolist() for name, values in split.items()} == {
        name: [ds.world(int(i))[name] for i in ds.episodes("train")] for name in NAMES
    }
    env = gym.make(CARD.id, world="near").unwrapped
    episode = ds.episode(2)
    assert np.array_equal(env.set_state(episode.state[20]), episode.observation[20])
    assert np.array_equal(env.step(episode.action[20])[0], episode.observation[21])
    with pytest.raises(DatasetError, match="was made with plan"):
        wmbench.collect(CARD, tmp_path / "near", episodes=8)
    more = wmbench.collect(CARD, tmp_path / "near", episodes=8, world="near")
    twin = wmbench.collect(CARD, tmp_path / "workers", episodes=8, world="near", workers=2)
    assert more.digest == twin.digest
    plain = wmbench.collect(CARD, tmp_path / "nominal", episodes=1)
    assert plain.world(0) == plain.worlds() == {}
    assert "world" not in plain.manifest["plan"]
    assert Dataset(tmp_path / "near", verify=True).world(0) == ds.world(0)


def test_evaluations_say_what_they_were_made_in(tmp_path) -> None:
    asked = {"mass": "far", "delay": 2}
    found = wmbench.evaluate(CARD, "random", episodes=4, world=asked, out=tmp_path / "e.json")
    draw = parse_world(CARD, asked).draw
    assert found.settings["world"] == asked
    assert [e["world"] for e in found.episodes] == [draw(seed) for seed in found.seeds]
    assert json.loads((tmp_path / "e.json").read_text())["episodes"] == found.episodes
    plain = wmbench.evaluate(CARD, "random", episodes=4)
    assert "world" not in plain.settings
    assert "world" not in plain.episodes[0]
    assert [e["returns"] for e in plain.episodes] != [e["returns"] for e in found.episodes]
    with pytest.raises(WorldError, match="a learned simulator has the world"):
        wmbench.evaluate("DMC-CartpoleSwingup", "random", simulator="ensemble", episodes=1, world="far")
    with pytest.raises(WorldError, match=r"Gym-Reacher-v0: gravity cannot be varied"):
        wmbench.evaluate(CARD, "random", episodes=1, world={"gravity": 2.0})


def test_the_commands_take_a_world(tmp_path, monkeypatch, capsys) -> None:
    from wmbench.commands import collect, evaluate, info, inspect

    monkeypatch.chdir(tmp_path)
    collect.main("Gym-Reacher", episodes=(2,), world="near", progress=False)
    assert Dataset("datasets/Gym-Reacher-near").manifest["world"]["asked"] == "near"
    inspect.main("datasets/Gym-Reacher-near", alignment=False, coverage=False)
    text = capsys.readouterr().out
    drawn = Dataset("datasets/Gym-Reacher-near").worlds("train")["mass"]
    assert "worlds: near" in text
    assert f"{drawn.min():g} to {drawn.max():g}" in text
    evaluate.main("Gym-Reacher", episodes=2, world='{"mass": 2.0}')
    record = json.loads((tmp_path / "runs/evaluate/Gym-Reacher-random-true-s0-mass=2.0.json").read_text())
    assert record["settings"]["world"] == {"mass": 2.0}
    capsys.readouterr()
    info.main("Gym-Reacher")
    text = capsys.readouterr().out
    assert all(name in text for name in NAMES)
    assert "gravity" not in text.split("other worlds")[1]


def test_data_of_another_world_are_measured_by_what_needs_no_simulator(tmp_path) -> None:
    from wmbench.measuring import gather_subjects, measure_all

    near = wmbench.collect("Gym-Hopper", tmp_path / "near", episodes=12, world="near", split=(0.5, 0.2, 0.3))
    small = {"windows": 2, "horizon": 5}
    options = {"one-step": {"limit": 40}, "drift": small, "uncertainty": small, "constraints": small}
    subjects, notes = gather_subjects(near, ["ensemble"], ["random"]), {}
    done = measure_all(subjects, options=options, event=lambda name, what, seconds: notes.update({name: what}))
    assert set(done) == {"one-step", "drift", "heads", "constraints", "uncertainty"}
    assert "another world" in done["drift"].recording.meta["floor"]
    assert np.isnan(done["drift"].recording.arrays["floor_steps"])  # the shipped one is of the nominal world
    assert "nominal world" in notes["counterfactual"] and "'near'" in notes["success"]
    with pytest.raises(DatasetError, match="ranking runs the true simulator of the nominal world"):
        measure_all(subjects, only=["ranking"])
