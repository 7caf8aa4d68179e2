"""The inverse model: what it recovers from known laws, its file format, and the ones that are shipped."""

import dataclasses
import json
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
import torch

import wmbench
from wmbench import checkpoints
from wmbench.cards import Dimension, SuccessRule, TaskCard
from wmbench.errors import CheckpointError, DatasetError, WmbenchError
from wmbench.protocols import InverseModel as Protocol
from wmbench.registration import shipped_checkpoints
from wmbench_baselines.inverse import CHUNK, LIMIT, InverseConfig, InverseModel

SMALL = InverseConfig(hidden=(32, 32), updates=400)
TASK = TaskCard(
    id="wmbench/Toy-Turn-v0",
    suite="toy",
    backend_id="turn",
    simulator="nowhere:Nothing",
    observation=(Dimension("place"), Dimension("turn", "rad", "angle"), Dimension("still")),
    action=(Dimension("push", low=-1.0, high=1.0), Dimension("twist", low=0.0, high=10.0)),
    control_hz=20,
    horizon=40,
    terminates=False,
    success=SuccessRule("return", 1.0, "a toy"),
    action_convention="force",
)
SHIPPED = [pytest.param(t, id=t.removeprefix("wmbench/")) for n, t in shipped_checkpoints() if n == "inverse"]


def transitions(n, seed=0):
    """A place that moves by the push, more so where the angle's sine is large, and an angle moved by the twist."""
    rng = np.random.default_rng(seed)
    action = rng.uniform((-1, 0), (1, 10), (n, 2)).astype(np.float32)
    now = np.stack([rng.normal(size=n), rng.uniform(-np.pi, np.pi, n), np.full(n, 7.0)], 1)
    then = now.copy()
    then[:, 0] += 0.01 * action[:, 0] * (1.5 + np.sin(now[:, 1]))
    then[:, 1] = (now[:, 1] + 0.1 * (action[:, 1] - 5) + np.pi) % (2 * np.pi) - np.pi
    return {
        "observation": now.astype(np.float32),
        "action": action,
        "next_observation": then.astype(np.float32),
    }


def dataset(n=4000, val=True):
    parts = {"train": transitions(n), "val": transitions(500, 1)}
    return SimpleNamespace(
        task=TASK,
        digest="0" * 64,
        transitions=lambda split, limit=None, seed=0: parts[split],
        episodes=lambda split: np.arange(3 if val or split == "train" else 0),
    )


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fit")
    fitted = InverseModel.fit(SMALL, dataset(), folder=folder, progress=False)
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert len(lines) == 20 and lines[-1]["updates"] == 400
    assert lines[-1]["val_loss"] < 0.05 * lines[0]["val_loss"]
    return fitted


def test_actions_are_recovered_from_a_known_law(model):
    assert isinstance(model, Protocol)
    data = transitions(3000, 2)
    found = model.recover(data["observation"], data["next_observation"])
    assert found.shape == (3, 3000, 2) and found.dtype == np.float32
    half = np.array([1.0, 5.0])
    error = ((found.mean(0) - data["action"]) / half) ** 2
    assert (1 - error.sum(0) / (((data["action"] - (0, 5)) / half) ** 2).sum(0) > (0.98, 0.999)).all()
    assert (found >= (-1, 0)).all() and (found <= (1, 10)).all()


def test_angles_are_the_same_after_a_turn_and_constants_are_not_read(model):
    data = transitions(64, 3)
    found = model.recover(data["observation"], data["next_observation"])
    turned = data["observation"] + np.array([0, 2 * np.pi, 0], np.float32)
    assert model.recover(turned, data["next_observation"]) == pytest.approx(found, abs=1e-3)
    other = data["observation"] + np.array([0, 0, 1e6], np.float32)
    assert np.array_equal(model.recover(other, data["next_observation"] - 1e6 * np.eye(3, dtype=np.float32)[2]), found)


def test_impossible_observations_get_an_answer_in_the_box_and_doubt(model):
    data = transitions(64, 4)
    wild = data["next_observation"] + np.array([1e38, 0, 0], np.float32)
    found = model.recover(data["observation"], wild)
    assert np.isfinite(found).all() and (found >= (-1, 0)).all() and (found <= (1, 10)).all()
    assert LIMIT < 100
    true = model.recover(data["observation"], data["next_observation"])
    assert found.std(0).mean() > 5 * true.std(0).mean()


def test_batches_beyond_a_chunk_and_none(model):
    data = transitions(CHUNK + 5, 5)
    now, then = data["observation"], data["next_observation"]
    assert model.recover(now, then)[:, CHUNK:] == pytest.approx(model.recover(now[CHUNK:], then[CHUNK:]), abs=1e-4)
    assert model.recover(now[:0], then[:0]).shape == (3, 0, 2)


def test_training_is_deterministic_and_the_seed_matters(tmp_path):
    quick = dataclasses.replace(SMALL, updates=30)

    def weights(seed, val=True):
        return checkpoints.digest(InverseModel.fit(quick, dataset(500, val), folder=tmp_path, seed=seed))

    assert weights(0) == weights(0) != weights(1)
    without = weights(0, val=False)
    assert json.loads((tmp_path / "log.jsonl").read_text().splitlines()[0])["val_loss"] is None
    assert without == weights(0)  # the val split is looked at, not learned from
    torch.manual_seed(123)
    assert weights(0) == weights(0)


def test_what_cannot_train_is_refused(tmp_path):
    with pytest.raises(WmbenchError, match="diverged"):
        InverseModel.fit(dataclasses.replace(SMALL, learning_rate=1e30), dataset(500), folder=tmp_path)
    for bad in ({"members": 1}, {"hidden": ()}, {"hidden": (0,)}, {"updates": 0}, {"learning_rate": -1.0}):
        with pytest.raises(ValueError, match=next(iter(bad)).replace("members", "two members")):
            InverseConfig(**bad)


def test_a_checkpoint_gives_the_same_model(tmp_path, random_data):
    data = random_data("wmbench/DMC-CartpoleSwingup-v0")
    data_like = SimpleNamespace(
        task=data.task, digest=data.digest, transitions=lambda *a: data.transitions(), episodes=data.episodes
    )
    fitted = InverseModel.fit(dataclasses.replace(SMALL, updates=50), data_like, folder=tmp_path / "w")
    folder = checkpoints.save(fitted, tmp_path / "c", kind="inverse_model", name="inverse")
    again = checkpoints.resolve(str(folder), data.task, kind="inverse_model")
    steps = data.transitions()
    assert checkpoints.digest(again) == checkpoints.digest(fitted)
    assert np.array_equal(
        again.recover(steps["observation"], steps["next_observation"]),
        fitted.recover(steps["observation"], steps["next_observation"]),
    )
    with torch.no_grad():
        again.networks.biases[0][0, 0, 0] += 1e-6
    assert checkpoints.digest(again) != checkpoints.digest(fitted)
    with pytest.raises(CheckpointError, match="inverse_model"):
        checkpoints.load(folder, kind="policy")


def test_training_by_name(tmp_path, random_data):
    task = wmbench.task_card("DMC-PendulumSwingup")
    data = wmbench.collect(task, tmp_path / "d", episodes=3, split=(0.7, 0.3, 0.0))
    trained = wmbench.train("inverse", task, data, tmp_path / "c", preset="quick", updates=40, progress=False)
    assert trained.model.config.updates == 40 and not (trained.folder / "bank.safetensors").exists()
    assert wmbench.train("inverse", task, data, tmp_path / "c", preset="quick", updates=40).kept
    empty = SimpleNamespace(**{**vars(dataset()), "transitions": data.transitions, "task": task})
    assert InverseModel.fit(dataclasses.replace(SMALL, updates=1), empty, folder=tmp_path / "e").task is task
    with pytest.raises(DatasetError, match="empty"):
        data.transitions("test")


@pytest.mark.parametrize("task", SHIPPED)
def test_the_shipped_ones_recover_fresh_random_actions(task):
    """Actions drawn anew, from states that the training data do not hold; published with their digest."""
    card = wmbench.task_card(task)
    folder = shipped_checkpoints()["inverse", task]
    model = checkpoints.resolve("inverse", card, kind="inverse_model")
    facts = checkpoints.read_config(folder)["provenance"]
    assert facts["digest"] == checkpoints.digest(model)
    assert sum(f.stat().st_size for f in folder.iterdir()) < 150_000
    env, rng = gym.make(task).unwrapped, np.random.default_rng(7)
    low, high = card.action_bounds()
    now, acted, then = [], [], []
    for seed in range(8):
        observation, _ = env.reset(seed=90_000 + seed)
        for action in np.repeat(rng.uniform(low, high, (20, len(low))).astype(np.float32), 3, axis=0):
            following, _, terminated, truncated, _ = env.step(action)
            now.append(observation), acted.append(action), then.append(following)
            observation = following
            if terminated or truncated:
                break
    found = model.recover(np.stack(now), np.stack(then)).mean(0)
    r2 = 1 - ((found - acted) ** 2).sum() / ((np.array(acted) - (low + high) / 2) ** 2).sum()
    assert r2 > 0.8, r2
    assert facts["test_split"]["r2"] > 0.85


def test_the_core_tasks_are_shipped():
    assert {p.id for p in SHIPPED} == {
        "DMC-CartpoleSwingup-v0",
        "DMC-PendulumSwingup-v0",
        "DMC-ReacherEasy-v0",
        "Gym-HalfCheetah-v0",
        "Gym-Hopper-v0",
    }
