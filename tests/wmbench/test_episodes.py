"""Datasets: what is written is what is read, splits never move, windows never cross an episode."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wmbench.episodes import Dataset, DatasetWriter, EpisodeData
from wmbench.episodes.data import split_of
from wmbench.errors import DatasetError

pytestmark = pytest.mark.usefixtures("unsynced")
SHARE = (0.8, 0.1, 0.1)


@pytest.fixture
def written(tmp_path, toy_card, toy_episode):
    """Function that writes the episodes of seeds 0 to n - 1 and opens the dataset."""

    def write(n=30, *, name="data", shard_bytes=4000, **options):
        with DatasetWriter(tmp_path / name, toy_card, shard_bytes=shard_bytes, **options) as writer:
            for seed in range(n):
                writer.add(toy_episode(seed))
        return Dataset(tmp_path / name, verify=True)

    return write


def same(a, b):
    return a.keys() == b.keys() and all(a[k].dtype == b[k].dtype and a[k].tobytes() == b[k].tobytes() for k in a)


def test_every_episode_comes_back_bit_for_bit(written, toy_episode):
    data = written(30)
    assert len(data) == 30 and len(data.shards) > 3
    for i in range(30):
        expected, episode = toy_episode(i), data.episode(i)
        assert same(episode.fields(), expected.fields())
        assert (episode.seed, episode.source) == (i, "random")
        assert data.index["return"][i] == expected.reward.sum()
        assert data.index["success"][i] == expected.success.any()
        assert len(episode) == data.index["length"][i] == len(expected)


def test_bytes_do_not_depend_on_when_they_were_committed(written, tmp_path, toy_card, toy_episode):
    at_once = written(30)
    for seed in range(30):
        with DatasetWriter(tmp_path / "piecemeal", toy_card, shard_bytes=4000) as writer:
            writer.add(toy_episode(seed))
            writer.commit()
            writer.commit()
    piecemeal = Dataset(tmp_path / "piecemeal", verify=True)
    assert piecemeal.digest == at_once.digest
    assert piecemeal.manifest == at_once.manifest


def test_splits_facts_and_generators_of_another_dataset_are_kept(tmp_path, toy_card, toy_episode):
    made = {"versions": {"wmbench": "0.0.1"}, "commit": "abc", "dirty": False, "commit_missing": None}
    options = {"facts": {"view": {"image_size": [64, 64]}}, "generators": [made]}
    given = ["test", "train", "val", "test"]
    for _ in range(2):  # the second writer goes on where the first stopped
        with DatasetWriter(tmp_path / "data", toy_card, **options) as writer:
            for split in given:
                assert writer.add(toy_episode(len(writer)), split=split) == split
            with pytest.raises(DatasetError, match="'tests'"):
                writer.add(toy_episode(9), split="tests")
    data = Dataset(tmp_path / "data", verify=True)
    assert data.index["split"].tolist() == given * 2
    assert data.manifest["view"] == {"image_size": [64, 64]} and data.manifest["generators"][0] == made
    with pytest.raises(DatasetError, match="view"):
        DatasetWriter(tmp_path / "data", toy_card, facts={"view": {"image_size": [32, 32]}})


def test_digest_follows_contents_and_task_and_not_the_place(written, tmp_path, toy_card, toy_episode):
    data = written(5)
    shutil.copytree(data.folder, tmp_path / "elsewhere")
    assert Dataset(tmp_path / "elsewhere").digest == data.digest
    assert written(6, name="longer").digest != data.digest
    other = dataclasses.replace(toy_card, control_hz=21)
    with DatasetWriter(tmp_path / "other", other, shard_bytes=4000) as writer:
        for seed in range(5):
            writer.add(toy_episode(seed))
    assert Dataset(tmp_path / "other").digest != data.digest


def test_manifest_says_what_the_numbers_mean(written, toy_card):
    manifest = json.loads((written(20).folder / "manifest.json").read_text())
    assert manifest["format"] == 1
    assert manifest["control_hz"] == 20 and manifest["action_convention"] == "force"
    assert [d["unit"] for d in manifest["action"]] == ["N", "1"]
    assert manifest["task"] == toy_card.to_json() and manifest["task_digest"] == toy_card.digest()
    (generator,) = manifest["generators"]
    assert generator["versions"]["wmbench"] and (generator["commit"] is None) == (
        generator["commit_missing"] is not None
    )
    assert manifest["counts"]["source"] == {"random": {"episodes": 20, "steps": manifest["steps"]}}
    assert {name: c["episodes"] for name, c in manifest["counts"]["split"].items()} == {
        "train": 16,
        "val": 2,
        "test": 2,
    }


def test_statistics_are_those_of_the_train_split(written):
    data = written(40)
    rows = data.transitions("train")
    observations = np.concatenate([data.episode(i).observation for i in data.episodes("train")]).astype(np.float64)
    delta = rows["next_observation"].astype(np.float64) - rows["observation"]
    delta[:, 1] = (delta[:, 1] + np.pi) % (2 * np.pi) - np.pi  # the heading is an angle
    expected = {"observation": observations, "action": rows["action"], "delta": delta, "reward": rows["reward"]}
    for name, values in expected.items():
        values = values.astype(np.float64).reshape(len(values), -1)
        for key in ("mean", "std", "min", "max"):
            np.testing.assert_allclose(data.stats[name][key], getattr(values, key)(0), rtol=1e-9, atol=1e-12)


def test_transitions_are_the_steps_in_order(written):
    data = written(30)
    for split in ("train", "val", "test", None):
        rows = data.transitions(split)
        pieces = [data.episode(i) for i in data.episodes(split)]
        assert np.array_equal(rows["observation"], np.concatenate([e.observation[:-1] for e in pieces]))
        assert np.array_equal(rows["next_observation"], np.concatenate([e.observation[1:] for e in pieces]))
        for name in ("action", "reward", "terminated", "truncated", "success"):
            assert np.array_equal(rows[name], np.concatenate([getattr(e, name) for e in pieces]))
        assert np.array_equal(rows["episode"], np.repeat(data.episodes(split), [len(e) for e in pieces]))
        assert np.array_equal(rows["step"], np.concatenate([np.arange(len(e)) for e in pieces]))


def test_limited_transitions_are_a_sample_without_repeats(written):
    data = written(30)
    rows = data.transitions("train", limit=50, seed=3)
    places = set(zip(rows["episode"].tolist(), rows["step"].tolist(), strict=True))
    assert len(places) == 50
    for episode, step, action in zip(rows["episode"], rows["step"], rows["action"], strict=True):
        assert np.array_equal(data.episode(episode).action[step], action)
    again = data.transitions("train", limit=50, seed=3)
    assert all(np.array_equal(rows[name], again[name]) for name in rows)
    assert not np.array_equal(data.transitions("train", limit=50, seed=4)["step"], rows["step"])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.integers(0, 300), st.sampled_from([SHARE, (0.7, 0.2, 0.1), (1.0, 0.0, 0.0), (0.5, 0.0, 0.5)]))
def test_splits_follow_their_shares(index, shares):
    splits = [split_of(i, shares) for i in range(index + 1)]
    for name, share in zip(("train", "val", "test"), shares, strict=True):
        assert abs(splits.count(name) - share * len(splits)) <= 1


@pytest.mark.parametrize("n", [7, 10, 11, 25])
def test_small_datasets_have_all_splits_within_each_source(tmp_path, toy_card, toy_episode, n):
    with DatasetWriter(tmp_path / "data", toy_card) as writer:
        for seed in range(n):
            for source in ("random", "expert"):
                writer.add(toy_episode(seed, source))
    data = Dataset(tmp_path / "data")
    for source in ("random", "expert"):
        for split in ("train", "val", "test"):
            assert len(data.episodes(split, source=source)) >= 1
    sets = [set(data.episodes(split).tolist()) for split in ("train", "val", "test")]
    assert not (sets[0] & sets[1] or sets[0] & sets[2] or sets[1] & sets[2])
    assert set.union(*sets) == set(range(2 * n))


def test_growing_moves_no_episode_to_another_split(written, tmp_path, toy_card, toy_episode):
    before = list(written(13).index["split"])
    with DatasetWriter(tmp_path / "data", toy_card, shard_bytes=4000) as writer:
        for seed in range(13, 60):
            writer.add(toy_episode(seed))
    assert list(Dataset(tmp_path / "data").index["split"])[:13] == before


def with_pictures(episode):
    rng = np.random.default_rng(episode.seed)
    episode.extra = {
        "rgb": rng.integers(0, 255, (len(episode) + 1, 8, 8, 3), dtype=np.uint8),
        "effort": rng.normal(size=(len(episode), 2)).astype(np.float32),
    }
    return episode


def test_extra_fields_are_stored_and_gathered(tmp_path, toy_card, toy_episode):
    with DatasetWriter(tmp_path / "data", toy_card, shard_bytes=30_000) as writer:
        for seed in range(20):
            writer.add(with_pictures(toy_episode(seed)))
    data = Dataset(tmp_path / "data", verify=True)
    assert len(data.shards) > 1
    assert data.fields["rgb"] == {"dtype": "uint8", "shape": [8, 8, 3], "per": "state"}
    assert data.fields["effort"]["per"] == "step"
    for i in range(20):
        assert same(data.episode(i).extra, with_pictures(toy_episode(i)).extra)
    batch = data.windows("train", 3, batch_size=40, seed=0, fields=("rgb", "effort", "state")).sample()
    assert batch["rgb"].shape == (40, 4, 8, 8, 3) and batch["effort"].shape == (40, 3, 2)
    for b, (episode, step) in enumerate(zip(batch["episode"], batch["step"], strict=True)):
        fields = data.arrays(int(episode))
        assert np.array_equal(batch["rgb"][b], fields["rgb"][step : step + 4])
        assert np.array_equal(batch["effort"][b], fields["effort"][step : step + 3])
        assert np.array_equal(batch["state"][b], fields["state"][step : step + 4])


@pytest.mark.parametrize("length", [1, 2, 9])
def test_windows_are_stretches_of_one_episode_of_the_split(written, length):
    data = written(30)
    sampler = data.windows("train", length, batch_size=64, seed=0)
    train = set(data.episodes("train").tolist())
    for _ in range(5):
        batch = sampler.sample()
        for b, (episode, step) in enumerate(zip(batch["episode"], batch["step"], strict=True)):
            fields = data.arrays(int(episode))
            assert int(episode) in train and step + length <= len(fields["reward"])
            for name in ("action", "reward", "terminated", "truncated", "success"):
                assert np.array_equal(batch[name][b], fields[name][step : step + length])
            assert np.array_equal(batch["observation"][b], fields["observation"][step : step + length + 1])


def test_windows_are_drawn_uniformly(written):
    data = written(12)
    sampler = data.windows("train", 5, batch_size=1000, seed=1)
    drawn = 200
    batches = [sampler.sample() for _ in range(drawn)]
    episode = np.concatenate([b["episode"] for b in batches])
    step = np.concatenate([b["step"] for b in batches])
    possible = [(i, t) for i in data.episodes("train") for t in range(len(data.episode(i)) - 5 + 1)]
    assert len(sampler) == len(possible)
    counts = np.array([np.sum((episode == i) & (step == t)) for i, t in possible])
    expected = drawn * 1000 / len(possible)
    assert counts.sum() == drawn * 1000  # nothing outside the possible ones
    chi_squared = ((counts - expected) ** 2 / expected).sum()
    assert abs(chi_squared - len(possible)) < 5 * np.sqrt(2 * len(possible))


def test_windows_are_deterministic_and_resume(written):
    data = written(30)
    sampler = data.windows("train", 4, batch_size=16, seed=7)
    first = [sampler.sample() for _ in range(3)]
    position = json.loads(json.dumps(sampler.state()))
    after = sampler.sample()
    twin = data.windows("train", 4, batch_size=16, seed=7)
    assert all(same(a, twin.sample()) for a in first)
    other = data.windows("train", 4, batch_size=16, seed=8)
    assert not same(other.sample(), first[0])
    other.restore(position)
    assert same(other.sample(), after)


def test_windows_reuse_memory_only_when_told(written):
    sampler = written(30).windows("train", 4, batch_size=16, seed=7)
    first = sampler.sample()
    kept = {name: array.copy() for name, array in first.items()}
    second = sampler.sample()
    assert same(first, kept) and not np.shares_memory(first["reward"], second["reward"])
    assert sampler.sample(out=first)["reward"] is first["reward"]


def test_views_are_read_only(written):
    with pytest.raises(ValueError):
        written(3).episode(0).observation[0] = 0


REFUSED = {
    "no steps": lambda e: EpisodeData(**{**vars(e), **{k: v[:0] for k, v in e.fields().items() if k != "state"}}),
    "invalid": lambda e: dataclasses.replace(e, invalid="the policy raised"),
    "NaN": lambda e: dataclasses.replace(e, reward=np.full(len(e), np.nan)),
    "observation": lambda e: dataclasses.replace(e, observation=e.observation[:-1]),
    "action": lambda e: dataclasses.replace(e, action=e.action.astype(np.float64)),
    "terminated": lambda e: dataclasses.replace(e, terminated=e.terminated.astype(np.int64)),
    "state": lambda e: dataclasses.replace(e, state=e.state[:-1]),
    "ends before": lambda e: dataclasses.replace(e, terminated=np.ones(len(e), dtype=bool)),
    "source": lambda e: dataclasses.replace(e, source=""),
    "rgb": lambda e: dataclasses.replace(e, extra={"rgb": np.zeros((2, 3), np.uint8)}),
    "core field": lambda e: dataclasses.replace(e, extra={"reward": e.reward}),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_unfit_episodes_are_refused_and_leave_no_trace(tmp_path, toy_card, toy_episode, fault):
    with DatasetWriter(tmp_path / "data", toy_card) as writer:
        writer.add(toy_episode(1, steps=10))
        with pytest.raises(DatasetError, match=fault):
            writer.add(REFUSED[fault](toy_episode(2, steps=10)))
        writer.add(toy_episode(3, steps=10))
    assert Dataset(tmp_path / "data", verify=True).index["seed"].tolist() == [1, 3]


def test_fields_must_stay_the_same(tmp_path, toy_card, toy_episode):
    with DatasetWriter(tmp_path / "data", toy_card) as writer:
        writer.add(toy_episode(1))
        with pytest.raises(DatasetError, match="state"):
            writer.add(dataclasses.replace(toy_episode(2), state=None))
        with pytest.raises(DatasetError, match="rgb"):
            writer.add(with_pictures(toy_episode(2)))


def test_what_is_not_there_is_named(written):
    data = written(10)
    for call, word in (
        (lambda: data.episode(10), "no episode 10"),
        (lambda: data.episode(-1), "no episode -1"),
        (lambda: data.episodes("dev"), "'dev'"),
        (lambda: data.episodes(source="expert"), "'expert'"),
        (lambda: data.windows("train", 100, batch_size=2, seed=0), "100 steps"),
        (lambda: data.windows("train", 0, batch_size=2, seed=0), "at least 1"),
        (lambda: data.windows("train", 2, batch_size=2, seed=0, fields=("rgb",)), "'rgb'"),
        (lambda: written(2, name="tiny").transitions("test"), "'test' is empty"),
    ):
        with pytest.raises(DatasetError, match=word):
            call()


def test_writers_exclude_each_other(tmp_path, toy_card, toy_episode):
    with DatasetWriter(tmp_path / "data", toy_card) as writer:
        writer.add(toy_episode(1))
        with pytest.raises(DatasetError, match="another process"):
            DatasetWriter(tmp_path / "data", toy_card)
    with DatasetWriter(tmp_path / "data", toy_card) as writer:
        assert len(writer) == 1


def test_other_settings_are_not_mixed(tmp_path, toy_card, toy_episode):
    with DatasetWriter(tmp_path / "data", toy_card, plan={"seed": 1}) as writer:
        writer.add(toy_episode(1))
    for options, word in (({"plan": {"seed": 2}}, "plan"), ({"plan": {"seed": 1}, "split": (1, 0, 0)}, "split")):
        with pytest.raises(DatasetError, match=word):
            DatasetWriter(tmp_path / "data", toy_card, **options)
    with pytest.raises(DatasetError, match="control_hz"):
        DatasetWriter(tmp_path / "data", dataclasses.replace(toy_card, control_hz=99), plan={"seed": 1})
    with pytest.raises(DatasetError, match="add up to 1"):
        DatasetWriter(tmp_path / "new", toy_card, split=(0.5, 0.1, 0.1))


def test_a_folder_of_other_things_is_left_alone(tmp_path, toy_card):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(DatasetError, match=r"thesis\.tex"):
        DatasetWriter(tmp_path, toy_card)
    with pytest.raises(DatasetError, match="is a file"):
        DatasetWriter(tmp_path / "thesis.tex", toy_card)
    assert (tmp_path / "thesis.tex").read_text() == "precious"
