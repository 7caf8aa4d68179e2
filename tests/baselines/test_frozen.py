"""Frozen test sets: what ships is what was written down, is never trained on, and can be made again."""

import json
import warnings

import gymnasium as gym
import numpy as np
import pytest

import wmbench
from wmbench.collecting.workers import Job, job_seed
from wmbench.episodes import Dataset
from wmbench.episodes.storage import INDEX
from wmbench.errors import DatasetError
from wmbench.frozen_sets import FrozenStarts, dataset_starts, frozen, frozen_sets, open_dataset, with_states
from wmbench.main import main
from wmbench.provenance import provenance
from wmbench.registration import shipped_checkpoints
from wmbench_baselines.frozen import DIGESTS, FOLDER
from wmbench_baselines.frozen.making import SEED, SETS, make_set

KNOWN = json.loads(DIGESTS.read_text())
SMALL = "Gym-Hopper"  # falls soon: few steps


def test_every_set_is_what_its_digest_says():
    assert set(KNOWN) == set(frozen_sets()) == {wmbench.task_card(task).id for task in SETS}
    for task, folder in frozen_sets().items():
        data = frozen(task, verify=True)
        assert data.digest == KNOWN[task]["digest"], task
        assert {p.name for p in folder.iterdir()} == {"manifest.json", *data.manifest["shards"]}
        listed = {folder / name for name in data.manifest["files"]} | {folder / "manifest.json"}
        assert set(folder.rglob("*.*")) == listed
        assert sum(path.stat().st_size for path in listed) <= KNOWN[task]["bytes"] + 50_000


def test_they_are_a_few_megabytes_and_of_the_tasks_that_have_models():
    assert sum(p.stat().st_size for p in FOLDER.rglob("*.npy")) < 6e6
    modelled = {task for name, task in shipped_checkpoints() if name == "ensemble"}
    assert modelled <= set(KNOWN) and len(KNOWN) >= 8


@pytest.mark.parametrize("task", sorted(KNOWN))
def test_a_set_is_half_test_and_holds_what_its_recipe_says(task):
    data = frozen(task)
    account = data.manifest["recipe"]
    assert len(data.episodes("test")) == len(data.episodes("train")) == len(data) // 2 and account["complete"]
    for name, entry in account["sources"].items():
        episodes = [data.episode(int(i)) for i in data.episodes(source=name)]
        solved = [e.succeeded(data.task) for e in episodes]
        assert len(episodes) == entry["asked"] and sum(solved) == entry["successes"]
        assert entry["kind"] != "success" or all(solved)
        assert entry["kind"] != "failure" or not any(solved)
    assert data.manifest["starts"]["distinct"]["observation"] == len(data)
    assert all(np.isfinite(values["std"]).all() for values in data.stats.values())
    assert data.manifest["starts"]["disjoint"]
    for i in range(len(data)):
        assert FrozenStarts(data.task).holds(data.episode(i).observation, None)


def test_references():
    assert frozen("DMC-CartpoleSwingup").digest == open_dataset("frozen:DMC-CartpoleSwingup").digest
    assert wmbench.frozen is frozen
    with pytest.raises(DatasetError, match=r"no frozen test set for wmbench/Gym-Pusher-v0; there is one for DMC-"):
        frozen("Gym-Pusher")


def same_machine(task):
    """Whether this machine is the one that made a set, as far as that decides about bits."""
    made, here = KNOWN[wmbench.task_card(task).id]["made"], provenance()
    return all(made[key] == here[key] for key in ("python", "platform", "cpu", "versions"))


def test_a_set_can_be_made_again_bit_for_bit(tmp_path):
    again = make_set(SMALL, tmp_path / "again")
    shipped = frozen(SMALL)
    assert again.index[["seed", "source", "split"]].tolist() == shipped.index[["seed", "source", "split"]].tolist()
    if again.digest != shipped.digest:
        assert not same_machine(SMALL), "the same machine and versions must give the same bytes"
        warnings.warn(f"{SMALL} differs here from the machine that made it", stacklevel=1)
        pytest.skip("another machine or other versions made the set; its bits need not be the same")
    assert again.manifest["files"] == shipped.manifest["files"]


def test_states_come_back_by_replay(tmp_path):
    try:
        whole = with_states(SMALL, tmp_path / "whole")
    except DatasetError:
        assert not same_machine(SMALL)
        pytest.skip("this machine's simulator does not repeat the set exactly")
    shipped = frozen(SMALL)
    assert "state" in whole.fields and "state" not in shipped.fields
    env = gym.make(whole.task.id)
    for i in range(len(whole)):
        episode = whole.episode(i)
        assert np.array_equal(episode.observation, shipped.episode(i).observation)
        assert episode.source == shipped.episode(i).source
    env.reset(seed=0)
    middle = len(episode) // 2
    np.testing.assert_array_equal(env.unwrapped.set_state(episode.state[middle]), episode.observation[middle])
    assert np.array_equal(env.step(episode.action[middle])[0], episode.observation[middle + 1])


def test_training_data_leave_out_frozen_starts_though_they_draw_the_same_seeds(tmp_path):
    """With the seed and split of a frozen set's episode, the first try begins there and must be drawn again."""
    card = wmbench.task_card("Gym-Hopper")
    starts = frozen(card)
    seed = job_seed(SEED, card.id, Job(0, 0, "test"), 0)
    assert int(starts.index["seed"][0]) == seed  # what follows would prove nothing otherwise
    with pytest.MonkeyPatch.context() as patch:
        real = job_seed

        def stolen(root, task, job, attempt):
            return seed if attempt == 0 and job.index == 1 else real(root, task, job, attempt)

        patch.setattr("wmbench.collecting.workers.job_seed", stolen)
        data = wmbench.collect(card, tmp_path / "data", recipe="random", episodes=3)
    assert seed not in data.index["seed"].tolist()
    assert data.manifest["recipe"]["sources"]["random"]["discarded"]["start"] == 1
    assert data.manifest["recipe"]["frozen"] == {"digest": starts.digest, "episodes": len(starts)}
    assert FrozenStarts(card).shared(dataset_starts(data)) == 0


def test_inspect_and_record_take_a_set_by_name(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    assert main(["inspect", f"frozen:{SMALL}", "--no-coverage"]) == 0
    out = capsys.readouterr().out
    assert "this is the task's frozen test set" in " ".join(out.split()) and "frozen-actors" in out
    words = ["record", "--dataset", f"frozen:{SMALL}", "--models", "ensemble", "--only", "one-step"]
    assert main([*words, "--out", str(tmp_path / "out")]) == 0
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert {r["subject"] for r in results} >= {"ensemble"} and all(r["value"] is not None for r in results[:1])
    assert not (tmp_path / "out" / INDEX).exists()


def test_nothing_is_written_beside_a_shipped_set():
    for folder in frozen_sets().values():
        Dataset(folder)
        assert not (folder / ".lock").exists()
