"""Training by name: from a dataset to a checkpoint, once; what does not fit together is refused."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

import wmbench
from wmbench import checkpoints, registration, registry
from wmbench.episodes import Dataset, DatasetWriter
from wmbench.errors import CheckpointError, DatasetError, DeviceError, NotRegisteredError, WmbenchError
from wmbench.main import main
from wmbench.training import LOG, WORK, train

TINY = {"members": 3, "elites": 2, "hidden": (16,), "end_hidden": (8,), "weight_decay": (0.0, 0.0)}
TINY |= {"max_updates": 40, "patience": 100}


@pytest.fixture(autouse=True)
def installed(toy_card):
    registry.envs.add("toy-family", (toy_card,))
    registration.task_cards.cache_clear()
    yield
    registry.envs.remove("toy-family")
    registration.task_cards.cache_clear()


@pytest.fixture
def dataset(tmp_path, toy_card, toy_episode, unsynced):
    with DatasetWriter(tmp_path / "data", toy_card) as writer:
        for seed in range(20):
            writer.add(toy_episode(seed))
    return Dataset(tmp_path / "data")


def same(a, b):
    a, b = a.state_dict(), b.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_from_dataset_to_checkpoint(dataset, tmp_path, toy_card):
    done = train("ensemble", toy_card, dataset, tmp_path / "c", seed=3, progress=False, **TINY)
    assert not done.kept and done.folder == tmp_path / "c"
    loaded = checkpoints.load(done.folder, kind="world_model", task=toy_card)
    assert same(done.model, loaded) and not done.model.training
    assert loaded.card.trained_on == dataset.digest and loaded.card.task_ids == (toy_card.id,)
    made = checkpoints.read_config(done.folder)["provenance"]
    assert made["seed"] == 3 and made["dataset"] == dataset.digest and made["config"]["members"] == 3
    assert made["command"] == "wmbench train ensemble --task Toy-Point --dataset data --seed 3"
    assert made["outcome"]["updates"] == 40 and len(made["outcome"]["holdout_mse"]) == 3
    assert made["versions"]["torch"]
    bank = checkpoints.load_bank(done.folder)
    starts = [tuple(dataset.episode(int(i)).observation[0]) for i in dataset.episodes("train")]
    assert {tuple(row) for row in bank["observation"].tolist()} <= {tuple(map(float, s)) for s in starts}
    assert [p.name for p in (done.folder / WORK).iterdir()] == [LOG]  # what only an unfinished training needs is gone


def test_a_finished_training_is_kept(dataset, tmp_path, toy_card, monkeypatch):
    first = train("bc", "Toy-Point", dataset.folder, tmp_path / "c", progress=False, epochs=2, hidden=(8,))
    before = (tmp_path / "c" / "config.json").stat().st_mtime_ns
    cls = registry.policies.load("bc")
    monkeypatch.setattr(cls, "fit", classmethod(lambda *a, **k: pytest.fail("trained again")))
    again = train("bc", "Toy-Point", dataset.folder, tmp_path / "c", progress=False, epochs=2, hidden=(8,))
    assert again.kept and same(first.model, again.model)
    assert (tmp_path / "c" / "config.json").stat().st_mtime_ns == before
    assert checkpoints.load_bank(tmp_path / "c") is None  # policies need no starts
    for other, words in (({"seed": 1}, "differs in seed"), ({"hidden": (16,)}, "differs in config")):
        options = {"epochs": 2, "hidden": (8,), "progress": False} | other
        with pytest.raises(CheckpointError, match=f"holds another training.*{words}"):
            train("bc", "Toy-Point", dataset.folder, tmp_path / "c", **options)
    with pytest.raises(CheckpointError, match="differs in config, name"):
        train("linear", "Toy-Point", dataset, tmp_path / "c", progress=False)


def test_interrupted_it_goes_on(dataset, tmp_path, toy_card, monkeypatch):
    from wmbench_baselines.ensemble import train as internals

    whole = train("ensemble", toy_card, dataset, tmp_path / "whole", progress=False, **TINY)
    monkeypatch.setattr(internals, "SAVE_SECONDS", 0.0)
    judge, epochs = internals.Training._judge, []

    def die(self, *args):
        judge(self, *args)
        epochs.append(self.epoch)
        if len(epochs) == 5:
            raise KeyboardInterrupt

    monkeypatch.setattr(internals.Training, "_judge", die)
    with pytest.raises(KeyboardInterrupt):
        train("ensemble", toy_card, dataset, tmp_path / "killed", progress=False, **TINY)
    with pytest.raises(CheckpointError, match="not a checkpoint folder"):
        checkpoints.load(tmp_path / "killed", kind="world_model")
    resumed = train("ensemble", toy_card, dataset, tmp_path / "killed", progress=False, **TINY)
    assert same(whole.model, resumed.model)
    assert epochs[5] == 5  # the fourth epoch was the last that had been saved; the fifth was done again


@pytest.mark.parametrize(
    ("name", "options", "error", "words"),
    [
        ("ensmble", {}, NotRegisteredError, "no world model or policy is called 'ensmble'"),
        ("oracle", {}, WmbenchError, "'oracle' does not learn from a dataset; use it by name"),
        ("mpc", {}, WmbenchError, "does not learn from a dataset"),
        ("ensemble", {"preset": "huge"}, WmbenchError, "no preset 'huge': known are paper, small, quick"),
        ("ensemble", {"widht": 3}, WmbenchError, "unexpected keyword argument 'widht'"),
        ("ensemble", {"members": 2}, WmbenchError, "elites must be between 1 and members"),
        ("ensemble", {"task": "Gym-Hopper"}, DatasetError, "the dataset is of wmbench/Toy-Point-v0"),
        ("ensemble", {"task": "Gym-Hoper"}, NotRegisteredError, "did you mean Gym-Hopper"),
        ("ensemble", {"dataset": "nowhere"}, DatasetError, "nowhere"),
        ("ensemble", {"device": "gpu"}, DeviceError, "ensemble: device 'gpu' cannot be used here"),
        ("ensemble", {"seed": -1}, WmbenchError, "ensemble: a seed must not be negative, got -1"),
    ],
)
def test_what_does_not_fit_is_refused(dataset, tmp_path, name, options, error, words):
    options = {"task": "Toy-Point", "dataset": dataset, "progress": False} | options
    with pytest.raises(error, match=words):
        train(name, out=tmp_path / "c", **options)
    assert not (tmp_path / "c" / "config.json").exists()


def test_settings_or_preset(dataset, tmp_path):
    cls = registry.world_models.load("ensemble")
    with pytest.raises(WmbenchError, match="settings or a preset, not both"):
        train("ensemble", "Toy-Point", dataset, tmp_path / "c", config=cls.Config(), preset="quick")
    done = train("ensemble", "Toy-Point", dataset, tmp_path / "c", preset="quick", max_updates=20, progress=False)
    assert done.model.config.members == 5 and done.model.config.max_updates == 20


def test_command_line(dataset, tmp_path, capsys):
    words = ["train", "ensemble", "--task", "Toy-Point", "--dataset", str(dataset.folder), "--preset", "quick"]
    words += ["--max-updates", "20", "--hidden", "16", "--weight-decay", "0", "0", "--seed", "2"]
    assert main([*words, "--out", str(tmp_path / "c")]) == 0
    assert f'gym.make("wmbench/Toy-Point-v0", simulator="{tmp_path / "c"}")' in capsys.readouterr().out.replace(
        "\n", ""
    )
    made = checkpoints.read_config(tmp_path / "c")["provenance"]
    assert made["seed"] == 2 and made["config"]["hidden"] == [16] and made["config"]["elites"] == 3
    assert main([*words, "--out", str(tmp_path / "c")]) == 0
    assert "already trained" in capsys.readouterr().out
    assert main(["train", "oracle", "--task", "Toy-Point", "--dataset", str(dataset.folder)]) == 1
    assert main(["train", "--help"]) == 0
    assert "bc" in capsys.readouterr().out


def test_killed_with_no_warning_it_ends_with_the_same_weights(tmp_path):
    """``kill -9`` of the command in the middle of training, on real data."""
    data = tmp_path / "data"
    wmbench.collect("Gym-InvertedPendulum", data, policy="random", episodes=100, seed=0)
    words = ["ensemble", "--task", "Gym-InvertedPendulum", "--dataset", str(data), "--members", "2", "--elites", "1"]
    words += ["--hidden", "32", "--weight-decay", "0", "0", "--batch-size", "32", "--patience", "10000"]
    words += ["--max-updates", "400"]
    code = "import sys, wmbench_baselines.ensemble.train as t; t.SAVE_SECONDS = 0.0; import wmbench.main as m; m.main()"
    command = [sys.executable, "-c", code, "train", *words, "--out"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    assert subprocess.run([*command, str(tmp_path / "whole")], env=environment, capture_output=True).returncode == 0
    log = tmp_path / "killed" / WORK / LOG
    process = subprocess.Popen([*command, str(tmp_path / "killed")], env=environment, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not log.exists() or log.read_text().count("\n") < 5:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "killed" / "config.json").exists()
    assert subprocess.run([*command, str(tmp_path / "killed")], env=environment, capture_output=True).returncode == 0
    for file in ("model.safetensors", "bank.safetensors"):
        assert (tmp_path / "killed" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()
    epochs = [json.loads(line)["epoch"] for line in log.read_text().splitlines()]
    assert epochs == list(range(1, len(epochs) + 1))
