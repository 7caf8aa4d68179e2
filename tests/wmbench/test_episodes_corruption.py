"""Damaged datasets: one sentence that names the file and says what to do."""

import dataclasses
import json

import numpy as np
import pytest

from wmbench.episodes import Dataset, DatasetWriter
from wmbench.errors import DatasetError

pytestmark = pytest.mark.usefixtures("unsynced")


@pytest.fixture
def folder(tmp_path, toy_card, toy_episode):
    with DatasetWriter(tmp_path / "data", toy_card, shard_bytes=6000) as writer:
        for seed in range(12):
            writer.add(toy_episode(seed))
    return tmp_path / "data"


def shard_file(folder, name):
    return sorted(folder.glob("shard-*"))[1] / name


def edit_manifest(folder, change):
    path = folder / "manifest.json"
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def refused(folder, *words, **options):
    with pytest.raises(DatasetError) as caught:
        Dataset(folder, **options)
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert any(advice in message for advice in ("collect", "restore", "install", "choose")), message


@pytest.mark.parametrize("name", ["observation.npy", "reward.npy", "success.npy", "episodes.npy", "state.npy"])
def test_files_cut_short_or_missing(folder, name):
    path = shard_file(folder, name)
    whole = path.read_bytes()
    for part in (whole[:-1], whole[: len(whole) // 2], whole[:50], b""):
        path.write_bytes(part)
        refused(folder, str(path), "bytes")
    path.unlink()
    refused(folder, str(path), "missing")
    path.write_bytes(whole)
    Dataset(folder, verify=True)


@pytest.mark.parametrize("name", ["action.npy", "terminated.npy", "episodes.npy"])
def test_edited_bytes_are_found_when_verified(folder, name):
    path = shard_file(folder, name)
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    refused(folder, str(path), "SHA-256", verify=True)


def test_a_file_of_the_right_size_and_another_shape(folder):
    path = shard_file(folder, "action.npy")
    size = path.stat().st_size
    np.save(path, np.load(path).T)
    assert path.stat().st_size == size
    refused(folder, "action.npy", "float32")


def test_garbage_of_the_right_size(folder):
    path = shard_file(folder, "reward.npy")
    path.write_bytes(b"\x93NUMPY" + b"?" * (path.stat().st_size - 6))
    refused(folder, str(path), "no readable .npy")


def test_a_pickle_is_not_loaded(folder):
    path = shard_file(folder, "reward.npy")
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    data = json.loads((folder / "manifest.json").read_text())
    data["files"][f"{path.parent.name}/{path.name}"]["bytes"] = path.stat().st_size
    (folder / "manifest.json").write_text(json.dumps(data))
    refused(folder, str(path), "no readable .npy")


def test_an_index_that_contradicts_itself(folder):
    path = shard_file(folder, "episodes.npy")
    index = np.load(path)
    index["length"][0] += 1
    np.save(path, index)
    refused(folder, "episodes.npy", "contradicts itself")


def test_manifests(folder):
    path = folder / "manifest.json"
    whole = path.read_text()
    for text in ("", "{", whole[:-20], "\x00\x01"):
        path.write_text(text)
        refused(folder, str(path), "not JSON")
    path.write_bytes(b"\xff\xfe\xff")
    refused(folder, str(path), "not JSON")
    for text in ("[]", "3", "null", json.dumps({"format": 99}), json.dumps({"hello": 1})):
        path.write_text(text)
        refused(folder, str(path), "format")
    for key in ("task", "fields", "shards", "files", "stats"):
        path.write_text(whole)
        edit_manifest(folder, lambda data, key=key: data.pop(key))
        refused(folder, str(path), key)
    path.unlink()
    refused(folder, str(folder), "no dataset")
    refused(folder / "nowhere", "no dataset")


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda m: m["task"].update(control_hz=50), "edited"),
        (lambda m: m["task"].pop("horizon"), "unreadable"),
        (lambda m: m.update(episodes=99), "99"),
        (lambda m: m["stats"].pop("delta"), "statistics"),
        (lambda m: m["files"].popitem(), "no hash"),
        (lambda m: m["shards"].pop(), "episodes"),
    ],
)
def test_manifests_that_lie(folder, change, word):
    edit_manifest(folder, change)
    refused(folder, "manifest.json", word)


def test_a_card_that_changed_since(folder, toy_card):
    refused(folder, "horizon", task=dataclasses.replace(toy_card, horizon=41))
    refused(folder, "Toy-Other", task=dataclasses.replace(toy_card, id="wmbench/Toy-Other-v0"))
    same = dataclasses.replace(toy_card, citation="now known")
    assert Dataset(folder, task=same).task == toy_card


def test_an_installed_card_that_changed_since(folder, toy_card, monkeypatch):
    changed = dataclasses.replace(toy_card, control_hz=25)
    monkeypatch.setattr("wmbench.episodes.dataset.task_card", lambda task: changed)
    refused(folder, "control_hz")
