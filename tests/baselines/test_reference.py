"""Reference models: what they predict, that a row is by itself, and that nothing is lost on disk."""

import dataclasses
import json
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
import torch

import wmbench
from wmbench import checkpoints, registry
from wmbench.banks import make_bank
from wmbench.cards import SuccessRule
from wmbench.episodes import Dataset, DatasetWriter, EpisodeData
from wmbench.errors import DatasetError
from wmbench.keys import keys_from_seeds
from wmbench.protocols import Start
from wmbench_baselines.reference import ReferenceConfig
from wmbench_baselines.regression import least_squares, logistic, rate
from wmbench_envs.twin_core import check_heads

NAMES = ["copy-last", "mean-delta", "linear", "random-walk"]
HOPPER, CARTPOLE = "wmbench/Gym-Hopper-v0", "wmbench/DMC-CartpoleSwingup-v0"


def fit(name, data, folder, **kwargs):
    cls = registry.world_models.load(name)
    return cls.fit(ReferenceConfig(), data, folder=folder, **kwargs)


def begin(model, data, n=5, seed=0):
    rng = np.random.default_rng(seed)
    t = data.transitions("train")
    rows = rng.integers(len(t["reward"]), size=n)
    state = model.initial(
        Start(torch.from_numpy(t["observation"][rows])), keys=torch.from_numpy(keys_from_seeds(np.arange(n)))
    )
    return state, torch.from_numpy(t["action"][rows].astype(np.float32)), {k: v[rows] for k, v in t.items()}


def test_copy_last_copies(random_data, tmp_path):
    data = random_data(CARTPOLE)
    state, action, rows = begin(fit("copy-last", data, tmp_path), data)
    model = fit("copy-last", data, tmp_path)
    for _ in range(3):
        state, prediction = model.step(state, action)
        assert np.array_equal(prediction.observation.numpy(), rows["observation"])
    prediction.observation.zero_()
    assert np.array_equal(model.step(state, action)[1].observation.numpy(), rows["observation"])


def test_mean_delta_adds_the_mean_change_and_ignores_the_action(random_data, tmp_path):
    data = random_data(CARTPOLE)
    model = fit("mean-delta", data, tmp_path)
    state, action, rows = begin(model, data)
    t = data.transitions("train")
    mean = (t["next_observation"].astype(np.float64) - t["observation"]).mean(0)
    predicted = model.step(state, action)[1].observation
    np.testing.assert_array_equal(predicted.numpy(), (rows["observation"] + mean).astype(np.float32))
    assert torch.equal(model.step(state, -action)[1].observation, predicted)


def test_linear_finds_linear_dynamics_and_rewards(tmp_path):
    """On data from x' = x + [x, a] W + b and r = [x, a] v + c the truth is recovered."""
    rng = np.random.default_rng(0)
    task = wmbench.task_card(CARTPOLE)
    o, a = len(task.observation), len(task.action)
    x = rng.normal(size=(500, o)).astype(np.float32)
    u = rng.uniform(-1, 1, size=(500, a)).astype(np.float32)
    w, b = rng.normal(size=(o + a, o)), rng.normal(size=o)
    nxt = (x + np.concatenate([x, u], 1) @ w + b).astype(np.float32)
    reward = np.concatenate([x, u], 1) @ w[:, 0] + 3.0
    flags = np.zeros(500, dtype=bool)
    columns = {"observation": x, "action": u, "reward": reward, "next_observation": nxt, "terminated": flags}

    data = SimpleNamespace(task=task, digest="", transitions=lambda split, limit, seed: columns)
    model = fit("linear", data, tmp_path)
    state = model.initial(Start(torch.from_numpy(x)), keys=torch.zeros(500, dtype=torch.int64))
    prediction = model.step(state, torch.from_numpy(u))[1]
    np.testing.assert_allclose(prediction.observation.numpy(), nxt, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(prediction.reward.numpy(), reward, rtol=1e-4, atol=1e-4)
    assert prediction.reward.dtype == torch.float64


def test_linear_beats_copying_and_its_reward_the_mean(random_data, tmp_path):
    data = random_data(CARTPOLE)
    t = data.transitions("train")

    def errors(name):
        model = fit(name, data, tmp_path)
        state = model.initial(Start(torch.from_numpy(t["observation"])), keys=torch.zeros(len(t["reward"])).long())
        p = model.step(state, torch.from_numpy(t["action"]))[1]
        return ((p.observation.numpy() - t["next_observation"]) ** 2).mean(0), p.reward.numpy() - t["reward"]

    linear, reward = errors("linear")
    copied, _ = errors("copy-last")
    assert (linear < copied).all()
    assert np.mean(reward**2) < np.var(t["reward"])


def test_angles_change_the_shorter_way_round(random_data):
    task = wmbench.task_card("wmbench/Gym-HalfCheetah-v0")
    model = registry.world_models.load("mean-delta")(ReferenceConfig(), task)
    angle = next(i for i, d in enumerate(task.observation) if d.kind == "angle")
    other = next(i for i, d in enumerate(task.observation) if d.kind == "linear")
    before, after = np.zeros((1, len(task.observation)), np.float32), np.zeros((1, len(task.observation)), np.float32)
    before[0, [angle, other]], after[0, [angle, other]] = 3.0, -3.0
    change = model.difference(before, after)[0]
    assert change[angle] == pytest.approx(2 * np.pi - 6) and change[other] == -6


def test_random_walk_has_the_train_deviation_and_its_own_stream_per_row(random_data, tmp_path):
    data = random_data(CARTPOLE)
    model = fit("random-walk", data, tmp_path)
    t = data.transitions("train")
    std = (t["next_observation"].astype(np.float64) - t["observation"]).std(0)
    n = 4000
    x = torch.from_numpy(np.repeat(t["observation"][:1], n, 0))
    state = model.initial(Start(x), keys=torch.from_numpy(keys_from_seeds(np.arange(n))))
    action = torch.zeros(n, len(data.task.action))
    state, first = model.step(state, action)
    state, second = model.step(state, action)
    step = (second.observation - first.observation).double().numpy()
    np.testing.assert_allclose(step.std(0), std, rtol=0.05)
    np.testing.assert_allclose(step.mean(0), 0, atol=4 * std.max() / np.sqrt(n))
    before = (first.observation - x).double().numpy()
    assert np.abs((before * step).mean(0) / std**2).max() < 5 / np.sqrt(n), "successive steps are independent"
    np.testing.assert_allclose(first.observation_std[0].numpy(), std, rtol=1e-6)
    assert len(np.unique(step[:, 0])) > 0.99 * n


@pytest.mark.parametrize("name", NAMES)
def test_endings_are_as_frequent_as_in_the_data(name, random_data, tmp_path):
    """The mean predicted probability over the train split is the train split's frequency."""
    data = random_data(HOPPER)
    t = data.transitions("train")
    model = fit(name, data, tmp_path)
    state = model.initial(Start(torch.from_numpy(t["observation"])), keys=torch.zeros(len(t["reward"])).long())
    p = model.step(state, torch.from_numpy(t["action"]))[1].terminated
    assert p.dtype == torch.float32
    assert float(p.mean()) == pytest.approx(t["terminated"].mean(), rel=1e-3)
    assert (p[t["terminated"]].mean() > 5 * p[~t["terminated"]].mean()) == (name == "linear")
    assert "terminated" in model.card.risk and model.card.termination == "sample"


@pytest.mark.parametrize("name", NAMES)
def test_tasks_without_endings_have_no_such_head(name, random_data, tmp_path):
    data = random_data(CARTPOLE)
    model = fit(name, data, tmp_path)
    state, action, _ = begin(model, data)
    assert model.step(state, action)[1].terminated is None
    assert "terminated" not in model.card.predicts and model.card.sources == {"terminated": "card"}


@pytest.mark.parametrize("task", [HOPPER, CARTPOLE])
@pytest.mark.parametrize("name", NAMES)
def test_success_is_as_frequent_as_in_the_data(name, task, random_data, tmp_path):
    """Where only the environment knows it; a twin accepts the model, and its rows are by themselves."""
    data = random_data(task)
    card = dataclasses.replace(data.task, success=SuccessRule("env", source="toy"))
    t = data.transitions("train")
    t["success"] = t["next_observation"][:, 1] > np.quantile(t["next_observation"][:, 1], 0.7)
    solved = SimpleNamespace(task=card, digest=data.digest, transitions=lambda split, limit, seed: t)
    model = fit(name, solved, tmp_path)
    assert model.flags == (("terminated", "success") if card.terminates else ("success",))
    check_heads(card, model.card, uncertainty=False)
    assert "probability of " + " and ".join(model.flags) in model.card.risk and "a half" in model.card.risk
    state = model.initial(Start(torch.from_numpy(t["observation"])), keys=torch.zeros(len(t["reward"])).long())
    action = torch.from_numpy(t["action"])
    p = model.step(state, action)[1]
    assert p.success.dtype == torch.float32
    assert float(p.success.mean()) == pytest.approx(0.3, rel=0.02)
    assert (p.success[t["success"]].mean() > 1.5 * p.success[~t["success"]].mean()) == (name == "linear")
    plain = fit(name, data, tmp_path).step(state, action)[1]
    assert plain.success is None
    assert all(torch.equal(getattr(p, k), getattr(plain, k)) for k in ("observation", "reward"))
    if card.terminates:
        assert torch.equal(p.terminated, plain.terminated)
    for size in (1, 7, 8, 33):
        part = model.step({k: v[:size] for k, v in state.items()}, action[:size])[1]
        assert torch.equal(part.success, p.success[:size])


# Only sizes and kinds of dimensions matter here: of ManiSkill the longest observation, the longest action, quaternions.
@pytest.mark.parametrize(
    "task", [t for t, c in wmbench.task_cards().items() if c.suite != "maniskill" or "Ant" in t or "TwoRobotPick" in t]
)
@pytest.mark.parametrize("name", NAMES)
def test_a_row_does_not_depend_on_the_batch(name, task, random_data, tmp_path):
    """Bit for bit, for batches of 1 to 70 and one of 512, and wherever in the batch the row stands."""
    data = random_data(task)
    model = fit(name, data, tmp_path)
    state, action, _ = begin(model, data, n=512)
    _, whole = model.step(state, action)
    places = np.random.default_rng(0)
    for size in (*range(1, 71), 333, 500):
        rows = torch.from_numpy(places.permutation(512)[:size])
        _, part = model.step({k: v[rows] for k, v in state.items()}, action[rows])
        for head in ("observation", "reward", "terminated"):
            a, b = getattr(part, head), getattr(whole, head)
            assert (a is None and b is None) or torch.equal(a, b[rows]), (head, size)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_lost_on_disk_and_fitting_is_deterministic(name, random_data, tmp_path):
    data = random_data(HOPPER)
    model = fit(name, data, tmp_path / "fit", seed=3)
    line = json.loads((tmp_path / "fit" / "log.jsonl").read_text())
    assert line["transitions"] == len(data.transitions("train")["reward"])
    bank = make_bank(data, n=4)
    checkpoints.save(model, tmp_path / "c", kind="world_model", name=name, bank=bank)
    loaded = checkpoints.load(tmp_path / "c", kind="world_model", task=HOPPER)
    assert loaded.card == model.card and loaded.card.trained_on == data.digest
    counts = {"copy-last": 30, "mean-delta": 30 + 11, "linear": 15 * (2 + 11), "random-walk": 30 + 11}
    assert loaded.card.n_parameters == counts[name]
    again = fit(name, data, tmp_path / "again", seed=3)
    for key, value in model.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[key]) and torch.equal(value, again.state_dict()[key])
    stored = checkpoints.load_bank(tmp_path / "c")
    assert stored.keys() == bank.keys() and all(torch.equal(stored[k], bank[k]) for k in bank)


def test_bank_holds_the_beginnings_of_train_episodes(random_data):
    data = random_data(HOPPER)
    bank = make_bank(data, n=4, seed=1)
    assert len(bank["observation"]) == 4 and bank["sim_state"].dtype == torch.float64
    assert len(make_bank(data)["seed"]) == len(data.episodes())
    env = gym.make(HOPPER).unwrapped
    for observation, state, seed in zip(bank["observation"], bank["sim_state"], bank["seed"], strict=True):
        assert np.array_equal(env.reset(seed=int(seed))[0], observation.numpy())
        assert np.array_equal(env.get_state(), state.numpy())
    with pytest.raises(ValueError, match="n=0"):
        make_bank(data, n=0)


def test_a_real_dataset_fits_too(random_data, tmp_path):
    """The stand-in for a dataset and the real one give the same model."""
    data = random_data(HOPPER)
    writer = DatasetWriter(tmp_path / "data", data.task, split=(1.0, 0.0, 0.0))
    for i in data.episodes():
        writer.add(EpisodeData(**vars(data.episode(i)), source="random"))
    writer.close()
    real = Dataset(tmp_path / "data")
    ours, theirs = fit("linear", real, tmp_path / "a"), fit("linear", data, tmp_path / "b")
    assert torch.equal(ours.weight, theirs.weight) and ours.card.trained_on == real.digest
    assert torch.equal(make_bank(real)["observation"], make_bank(data)["observation"])


def test_an_empty_dataset_is_refused(random_data, tmp_path):
    class Empty:
        task = random_data(HOPPER).task

        def transitions(self, split, limit=None, seed=0):
            return {k: v[:0] for k, v in random_data(HOPPER).transitions().items()}

        def episodes(self, split):
            return np.arange(0)

    for name in NAMES:
        with pytest.raises(DatasetError, match="no transitions"):
            fit(name, Empty(), tmp_path)
    with pytest.raises(DatasetError, match="empty"):
        make_bank(Empty())


def test_regression_known_answers():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4000, 3)) * [1.0, 100.0, 1e-3] + [0.0, 5.0, 2.0]
    y = x @ np.array([[1.0], [-0.5], [2000.0]]) + 7.0
    np.testing.assert_allclose(least_squares(x, y, 1e-12).ravel(), [1.0, -0.5, 2000.0, 7.0], rtol=1e-6)
    truth = np.array([2.0, -0.02, 0.0])
    label = rng.random(4000) < 1 / (1 + np.exp(-(x @ truth)))
    w = logistic(x, label, 1e-4).ravel()
    assert w[0] == pytest.approx(2.0, rel=0.15) and w[1] == pytest.approx(-0.02, rel=0.15)
    p = 1 / (1 + np.exp(-(np.concatenate([x, np.ones((4000, 1))], 1) @ w)))
    assert p.mean() == pytest.approx(label.mean(), rel=1e-6), "with a free intercept the mean is matched"
    separable = x[:, 0] > 0
    w = logistic(x, separable, 1e-6).ravel()
    assert np.isfinite(w).all() and ((np.concatenate([x, np.ones((4000, 1))], 1) @ w > 0) == separable).mean() > 0.99
    assert rate(x, np.zeros(10, bool))[-1, 0] == pytest.approx(-40) and rate(x, label)[-1, 0] < 40
    for everyone in (True, False):
        assert np.isfinite(logistic(x, np.full(4000, everyone), 1e-6)).all()
