"""Merging: every episode in its split, and datasets that do not belong together refused with all that differs."""

import dataclasses

import numpy as np
import pytest

import wmbench
from wmbench.cards import Dimension
from wmbench.episodes import Dataset, DatasetWriter
from wmbench.errors import DatasetError, WmbenchError
from wmbench.main import main

pytestmark = pytest.mark.usefixtures("unsynced")


@pytest.fixture
def written(tmp_path, toy_card, toy_episode):
    """Function that writes a dataset of some seeds."""

    def write(name, seeds=range(10), *, card=toy_card, facts=None, change=lambda episode: None, split=None):
        shares = (0, 0, 1) if split == "test" else (0.8, 0.1, 0.1)
        with DatasetWriter(tmp_path / name, card, facts=facts, plan={"of": name}, split=shares) as writer:
            for seed in seeds:
                episode = toy_episode(seed)
                change(episode)
                writer.add(episode, split=split)
        return Dataset(tmp_path / name, task=card)

    return write


def test_every_episode_in_its_split(written, tmp_path, toy_card):
    parts = [written("a"), written("b", range(10, 17)), written("c", [17], split="test")]
    # folders are opened under their own card, installed or not
    data = wmbench.merge([parts[0], tmp_path / "b", str(tmp_path / "c")], tmp_path / "all")
    assert len(data) == 18 and Dataset(tmp_path / "all", verify=True, task=toy_card).digest == data.digest
    number = 0
    for part in parts:
        for i in range(len(part)):
            one, other = part.episode(i), data.episode(number)
            assert (one.seed, one.source, one.split) == (other.seed, other.source, other.split)
            assert all(np.array_equal(a, other.fields()[name]) for name, a in one.fields().items())
            number += 1
    assert [entry["digest"] for entry in data.manifest["plan"]["merged"]] == [part.digest for part in parts]
    assert [entry["plan"] for entry in data.manifest["plan"]["merged"]] == [{"of": "a"}, {"of": "b"}, {"of": "c"}]
    rows = np.concatenate([part.transitions("train")["reward"] for part in parts[:2]])
    np.testing.assert_allclose(data.stats["reward"]["mean"], [rows.mean()])
    assert not list(tmp_path.glob(".all*")) and not (tmp_path / "all" / ".lock").exists()


VIEW = {"names": ["state", "rgb"], "height": 64, "width": 64, "camera": "side", "preset": "fast", "frame_stack": 1}


@pytest.mark.parametrize(
    ("changes", "facts", "named"),
    [
        ({"action_convention": "velocity"}, {}, ["action_convention: force / velocity"]),
        ({"control_hz": 50}, {}, ["control_hz: 20 / 50"]),
        ({"control_hz": 50, "horizon": 9, "action_rule": "refuse"}, {}, ["control_hz", "horizon", "action_rule"]),
        ({"action": (Dimension("push", "N", low=-1.0, high=1.0), Dimension("turn", "rad", low=-2.0, high=3.0))}, {},
         ["action[1].unit: 1 / rad", "action[1].high: 2.0 / 3.0"]),
        ({"id": "wmbench/Toy-Point-v1", "version": 1}, {}, ["id: ", "version: 0 / 1"]),
        ({}, {"view": VIEW | {"camera": "top", "height": 32}}, ["view.camera: side / top", "view.height: 64 / 32"]),
        ({}, {"world": "far"}, ["world: nominal / far"]),
    ],
)  # fmt: skip
def test_what_differs_is_named(written, tmp_path, toy_card, changes, facts, named):
    base = {"view": VIEW, "world": "nominal"}
    one = written("one", facts=base)
    other = written("other", range(10, 20), card=dataclasses.replace(toy_card, **changes), facts=base | facts)
    with pytest.raises(DatasetError) as error:
        wmbench.merge([one, other], tmp_path / "all")
    assert all(words in str(error.value) for words in named), error.value
    assert str(error.value).count(" / ") == len(named)
    assert not (tmp_path / "all").exists()


def test_action_repeat(tmp_path, capsys):
    from wmbench.collecting import collect

    for repeat in (1, 2):
        collect("Gym-Hopper", tmp_path / f"by{repeat}", episodes=1, seed=repeat, action_repeat=repeat)
    assert main(["merge", str(tmp_path / "by1"), str(tmp_path / "by2"), "--out", str(tmp_path / "all")]) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "action_repeat: 1 / 2" in said and "control_hz: 125" in said


def test_fields_that_one_lacks(written, tmp_path):
    def blind(episode):
        episode.state = None

    with pytest.raises(DatasetError, match=r"fields.state: .*float64.* / None"):
        wmbench.merge([written("one"), written("other", range(10, 20), change=blind)], tmp_path / "all")


def test_the_same_episode_twice(written, tmp_path):
    with pytest.raises(DatasetError, match=r"episode 0 of .*other is episode 3 of .*one"):
        wmbench.merge([written("one"), written("other", range(3, 13))], tmp_path / "all")


def test_starts_for_testing_stay_new(written, tmp_path):
    def other_actions(episode):
        episode.action[:] = 0

    again = written("again", [4], change=other_actions, split="test")  # begins as one of the others
    with pytest.raises(DatasetError, match=r"\(test\) begins where episode 4 of .*one \(train\) does"):
        wmbench.merge([written("one", split="train"), again], tmp_path / "all")
    tested = written("tested", [4], split="test")
    assert len(wmbench.merge([tested, again], tmp_path / "all")) == 2


def test_refusals(written, tmp_path):
    one = written("one")
    with pytest.raises(DatasetError, match="two datasets or more"):
        wmbench.merge([one], tmp_path / "all")
    with pytest.raises(WmbenchError, match="exists"):
        wmbench.merge([one, written("other", [11])], tmp_path / "one")
    with pytest.raises(DatasetError, match="is no dataset"):
        wmbench.merge([one, tmp_path / "nowhere"], tmp_path / "all")


def test_command(written, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    from wmbench.collecting import collect

    for seed in (0, 1):
        collect("Gym-Hopper", tmp_path / f"seed{seed}", episodes=3, seed=seed)
    words = ["merge", str(tmp_path / "seed0"), str(tmp_path / "seed1"), "--out", str(tmp_path / "all")]
    assert main(words) == 0
    said = capsys.readouterr()
    assert "6 episodes" in said.out and "6/6" in said.err
    assert len(Dataset(tmp_path / "all", verify=True)) == 6


def test_two_tasks_are_two_tasks(written, tmp_path, toy_card):
    other = dataclasses.replace(toy_card, id="wmbench/Toy-Line-v0", control_hz=50, horizon=9)
    with pytest.raises(DatasetError, match=r"of two tasks, wmbench/Toy-Point-v0 and wmbench/Toy-Line-v0$"):
        wmbench.merge([written("one"), written("other", range(10, 20), card=other)], tmp_path / "all")
