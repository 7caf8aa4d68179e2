"""Training of the ensemble: it learns a known system, holds out episodes, is deterministic and survives a kill."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from wmbench.cards import Dimension, SuccessRule, TaskCard
from wmbench.errors import DatasetError, WmbenchError
from wmbench.keys import keys_from_seeds
from wmbench.protocols import Start
from wmbench_baselines.ensemble import Ensemble, EnsembleConfig, train
from wmbench_baselines.ensemble.data import fit_normalisers
from wmbench_baselines.ensemble.train import Training

TASK = TaskCard(
    id="wmbench/Toy-Train-v0",
    suite="toy",
    backend_id="toy",
    simulator="nowhere:Nothing",
    observation=(
        Dimension("place"),
        Dimension("speed"),
        Dimension("goal"),
        Dimension("turn", "rad", "angle", low=-np.pi, high=np.pi),
    ),
    action=(Dimension("push", low=-1.0, high=1.0),),
    control_hz=10.0,
    horizon=50,
    terminates=True,
    success=SuccessRule("return", 0.0, "none"),
    action_convention="force",
)
SOLVED = dataclasses.replace(TASK, success=SuccessRule("env", source="toy"))
FAST = EnsembleConfig(
    members=4,
    elites=2,
    hidden=(32, 32),
    weight_decay=(0.0, 0.0, 0.0),
    learning_rate=5e-3,
    schedule="cosine",
    batch_size=64,
    max_updates=150,
    patience=100,
)

LONG = dataclasses.replace(FAST, max_updates=1500)
MANY = 160


class Episodes:
    """A nonlinear system in memory: a goal that never moves, an angle that wraps, an end beyond |place| > 1.

    Slow in the middle is a success, which :data:`SOLVED` leaves to the environment to say.
    """

    digest = "d" * 64

    def __init__(self, n=40, seed=0, splits=("train", "train", "train", "val"), reward=1.0, task=TASK):
        self.task = task
        rng = np.random.default_rng(seed)
        self.data = {"train": [], "val": [], "test": []}
        for i in range(n):
            x = np.array([rng.uniform(-0.8, 0.8), rng.normal(), 5.0, rng.uniform(-3, 3)])
            for _ in range(50):
                u = rng.uniform(-1, 1)
                turn = (x[3] + 0.4 + np.pi) % (2 * np.pi) - np.pi
                nxt = np.array([x[0] + 0.1 * x[1], x[1] + 0.5 * u - 0.3 * np.sin(3 * x[0]), 5.0, turn])
                ends = bool(abs(nxt[0]) > 1)
                good = bool(abs(nxt[0]) < 0.4 and abs(nxt[1]) < 0.8)
                self.data[splits[i % len(splits)]].append((x, [u], reward * (x[0] * u), nxt, ends, i, good))
                x = nxt
                if ends:
                    break

    def episodes(self, split=None):
        return np.unique([row[5] for row in self.data[split]]).astype(int)

    def transitions(self, split=None, limit=None, seed=0):
        names = ("observation", "action", "reward", "next_observation", "terminated", "episode", "success")
        columns = dict(zip(names, map(np.array, zip(*self.data[split], strict=True)), strict=True))
        dtypes = {"observation": "f4", "action": "f4", "reward": "f8", "next_observation": "f4"}
        return {k: v.astype(dtypes.get(k, v.dtype)) for k, v in columns.items()}


def fit(config, folder, data=None, seed=0):
    return Ensemble.fit(config, data or Episodes(), folder=folder, seed=seed, progress=False)


def same(a, b):
    a, b = a.state_dict(), b.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fit")
    return fit(LONG, folder, Episodes(MANY)), folder


def one_step(model, data):
    observation = torch.from_numpy(data["observation"])
    state = model.initial(Start(observation), keys=torch.from_numpy(keys_from_seeds(np.arange(len(observation)))))
    return model.step(state, torch.from_numpy(data["action"]), uncertainty=True)[1]


def test_it_learns_a_known_system(fitted):
    model, _ = fitted
    model = Ensemble(dataclasses.replace(model.config, propagation="mean"), TASK).eval()
    model.load_state_dict(fitted[0].state_dict())
    data = Episodes(seed=1).transitions("train")  # new episodes
    p = one_step(model, data)
    error = p.observation.numpy() - data["observation"]
    change = data["next_observation"] - data["observation"]
    change[:, 3] = 0.4  # the angle's change, wrapped: +0.4 wherever it is
    error[:, 3] = (error[:, 3] + np.pi) % (2 * np.pi) - np.pi
    assert (p.observation[:, 3].abs() <= np.pi + 1e-6).all()  # and it stays within its turn
    skill = 1 - ((error - change) ** 2).mean(0) / (change**2).mean(0).clip(1e-12)
    assert skill[0] > 0.99 and skill[1] > 0.98 and skill[3] > 0.999
    assert np.array_equal(error[:, 2], np.zeros(len(error)))  # what never moves is not moved
    reward_r2 = 1 - ((p.reward.numpy() - data["reward"]) ** 2).mean() / data["reward"].var()
    assert reward_r2 > 0.95
    ended, goes_on = p.terminated[data["terminated"]], p.terminated[~data["terminated"]]
    assert ended.mean() > 0.6 and goes_on.mean() < 0.05
    calibration = float(p.terminated.mean()) / data["terminated"].mean()
    assert 0.7 < calibration < 1.4


def test_uncertainty_grows_away_from_the_data(fitted):
    model, _ = fitted
    data = Episodes(seed=1).transitions("train")
    inside = one_step(model, data).uncertainty["disagreement"].median()
    far = dict(data, observation=data["observation"] * np.float32([8.0, 8.0, 1.0, 1.0]))
    assert one_step(model, far).uncertainty["disagreement"].median() > 5 * inside


def test_elites_have_the_lowest_holdout_loss_and_best_weights_return(fitted, tmp_path):
    model, folder = fitted
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == list(range(1, len(lines) + 1))
    assert lines[-1]["updates"] == 1500
    score = np.array([np.add(line["holdout_mse"], line["holdout_bce"]) for line in lines])  # (epochs, E)
    np.testing.assert_allclose(lines[-1]["best"], score.min(0), rtol=1e-5)
    assert model.elites.tolist() == np.argsort(lines[-1]["best"], kind="stable")[:2].tolist()
    again = Training(Ensemble(LONG, TASK), Episodes(MANY), folder=tmp_path, seed=0, device="cpu")
    model = fit(LONG, folder, Episodes(MANY))  # finished: restored, not trained
    again.model = model
    mse, _, bce = again._holdout()
    np.testing.assert_allclose(mse + bce["terminated"], lines[-1]["best"], rtol=1e-4)  # these weights give those losses


def test_a_worse_epoch_does_not_replace_a_better_one(tmp_path):
    """With a learning rate that destroys what was learned, each member keeps the epoch that was its best."""
    wild = dataclasses.replace(FAST, learning_rate=0.05, schedule="constant", max_updates=400)
    data = Episodes()
    fit(wild, tmp_path, data)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    score = np.array([np.add(line["holdout_mse"], line["holdout_bce"]) for line in lines])
    assert len(set(score.argmin(0))) > 1 and (score.argmin(0) < len(lines) - 1).any()  # else this shows nothing
    check = Training(Ensemble(wild, TASK), data, folder=tmp_path / "x", seed=0, device="cpu")
    check.model = fit(wild, tmp_path, data)
    mse, _, bce = check._holdout()
    np.testing.assert_allclose(mse + bce["terminated"], score.min(0), rtol=1e-4)


def test_success_is_learned_where_only_the_environment_knows_it(tmp_path):
    """Calibrated and telling on new episodes; judged, logged and chosen by like the ending."""
    data = Episodes(MANY, task=SOLVED)
    fitted = fit(LONG, tmp_path, data)
    model = Ensemble(dataclasses.replace(LONG, propagation="mean"), SOLVED).eval()
    model.load_state_dict(fitted.state_dict())
    new = Episodes(seed=1, task=SOLVED).transitions("train")
    p = one_step(model, new).success.double().numpy()
    label = new["success"]
    assert 0.1 < label.mean() < 0.9
    brier, base = np.mean((p - label) ** 2), label.mean() * (1 - label.mean())
    assert brier < 0.2 * base
    assert 0.9 < p.mean() / label.mean() < 1.1
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    parts = ("holdout_mse", "holdout_bce", "holdout_success_bce")
    score = np.array([np.sum([line[part] for part in parts], 0) for line in lines])  # (epochs, E)
    np.testing.assert_allclose(lines[-1]["best"], score.min(0), rtol=1e-5)
    check = Training(Ensemble(LONG, SOLVED), data, folder=tmp_path / "x", seed=0, device="cpu")
    check.model = fitted
    _, _, bce = check._holdout()
    holdout = data.transitions("val")
    single = fitted.flags["success"](fitted.normalise_reached(torch.from_numpy(holdout["next_observation"]))[None])
    logit = single[..., 0].detach().double().numpy()  # (E, N)
    expected = (np.logaddexp(0, logit) - holdout["success"] * logit).mean(1)
    np.testing.assert_allclose(bce["success"], expected, rtol=1e-4)


@pytest.mark.parametrize("terminates", [False, True])
def test_a_task_without_that_rule_logs_no_success(tmp_path, terminates):
    task = dataclasses.replace(TASK, terminates=terminates)
    model = fit(dataclasses.replace(FAST, max_updates=10), tmp_path, Episodes(task=task))
    (line,) = (json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines())
    assert "holdout_success_bce" not in line and (line["holdout_bce"] is not None) == terminates
    assert not any(name.startswith("solves") for name in model.state_dict())


@pytest.mark.parametrize("task", [TASK, SOLVED, dataclasses.replace(SOLVED, terminates=False)])
def test_two_fits_are_bit_equal_and_seeds_differ(tmp_path, task):
    data = Episodes(task=task)
    a, b = fit(FAST, tmp_path / "a", data), fit(FAST, tmp_path / "b", data)
    assert same(a, b)
    assert not same(a, fit(FAST, tmp_path / "c", data, seed=1))


@pytest.mark.parametrize(("dies_in", "task"), [(1, TASK), (4, SOLVED), (7, TASK)])
def test_killed_and_resumed_is_uninterrupted(tmp_path, monkeypatch, dies_in, task):
    data = Episodes(task=task)
    whole = fit(FAST, tmp_path / "whole", data)
    log = (tmp_path / "whole" / "log.jsonl").read_text().splitlines()
    assert len(log) > 7
    monkeypatch.setattr(train, "SAVE_SECONDS", 0.0 if dies_in != 7 else 1e9)  # saved each epoch, or never
    judge = Training._judge

    def die(self, *args):
        judge(self, *args)
        if self.epoch == dies_in:
            raise KeyboardInterrupt

    with monkeypatch.context() as m:
        m.setattr(Training, "_judge", die)
        with pytest.raises(KeyboardInterrupt):
            fit(FAST, tmp_path / "killed", data)
    resumed = fit(FAST, tmp_path / "killed", data)
    assert same(whole, resumed)

    def plain(lines):
        return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]

    assert plain((tmp_path / "killed" / "log.jsonl").read_text().splitlines()) == plain(log)  # no line lost or twice


def test_a_folder_of_another_run_is_refused(tmp_path):
    fit(FAST, tmp_path)
    with pytest.raises(DatasetError, match="another configuration"):
        fit(dataclasses.replace(FAST, learning_rate=1e-3), tmp_path)
    with pytest.raises(DatasetError, match="another configuration"):
        fit(FAST, tmp_path, seed=3)


def test_holdout_is_whole_episodes(tmp_path):
    with pytest.raises(DatasetError, match="val episodes"):
        fit(FAST, tmp_path, Episodes(splits=("train",)))
    data = Episodes()
    run = Training(Ensemble(FAST, TASK), data, folder=tmp_path, seed=0, device="cpu")
    assert len(run.train.x) == len(data.data["train"]) and len(run.holdout.x) == len(data.data["val"])
    held = {tuple(row) for row in run.holdout.x.tolist()}
    assert not held & {tuple(row) for row in run.train.x.tolist()}


def test_bootstrap_resamples_once_per_member(tmp_path):
    run = Training(Ensemble(FAST, TASK), Episodes(), folder=tmp_path, seed=0, device="cpu")
    n = len(run.train.x)
    shares = [len(np.unique(rows)) / n for rows in run.rows]
    assert run.rows.shape == (4, n) and all(abs(s - (1 - np.exp(-1))) < 0.03 for s in shares)
    assert not np.array_equal(run.rows[0], run.rows[1])
    plain = dataclasses.replace(FAST, bootstrap=False)
    run = Training(Ensemble(plain, TASK), Episodes(), folder=tmp_path, seed=0, device="cpu")
    assert (run.rows == np.arange(n)).all()


def test_normalisers_use_the_train_split_and_mask_what_is_constant():
    model = Ensemble(FAST, TASK)
    data = Episodes().transitions("train")
    data["observation"][:, 1] += 1e4  # large against its spread, but it varies
    data["next_observation"][:, 1] += 1e4
    fit_normalisers(model, data)
    x = model.normalise(torch.from_numpy(data["observation"]), torch.from_numpy(data["action"]))
    assert not x[:, 2].any() and model.target_scale[2] == 0 and model.target_mean[2] == 0
    np.testing.assert_allclose(x.mean(0), 0, atol=2e-3)
    np.testing.assert_allclose(x.std(0)[[0, 1, 3, 4]], 1, rtol=1e-2)
    assert float(model.target_mean[3]) == pytest.approx(0.4, abs=1e-4)  # wrapped: never -5.9
    assert float(model.target_scale[3]) < 1e-4
    other = model.normalise(torch.full((1, 4), 77.0), torch.zeros(1, 1))
    assert other[0, 2] == 0  # a value never seen there is not divided by nothing


def test_patience_ends_training(tmp_path):
    config = dataclasses.replace(FAST, patience=2, improvement=0.99, max_updates=10_000)
    fit(config, tmp_path)
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    assert len(lines) < 20


def test_divergence_is_named(tmp_path):
    with pytest.raises(WmbenchError, match="diverged in epoch 1: lower the learning rate"):
        fit(dataclasses.replace(FAST, learning_rate=1e12, schedule="constant"), tmp_path)


def test_members_learn_independently(tmp_path):
    """The gradient of one member does not depend on what another is given."""
    run = Training(Ensemble(FAST, SOLVED), Episodes(task=SOLVED), folder=tmp_path, seed=0, device="cpu")
    rows = torch.arange(4 * 8).view(4, 8)

    def gradient(rows):
        run.optimiser.zero_grad()
        run._loss(run.train.take(rows)).backward()
        return {name: p.grad.clone() for name, p in run.model.named_parameters()}

    first = gradient(rows)
    other = rows.clone()
    other[3] += 100
    second = gradient(other)
    assert all(torch.equal(first[k][:3], second[k][:3]) for k in first)
    assert any(not torch.equal(first[k][3], second[k][3]) for k in first)


def test_gaussian_likelihood_by_hand(tmp_path):
    run = Training(Ensemble(FAST, SOLVED), Episodes(task=SOLVED), folder=tmp_path, seed=0, device="cpu")
    rows = torch.arange(4 * 5).view(4, 5)
    part = run.train.take(rows)
    mean, logvar = (t.detach().double().numpy() for t in run.model.outcomes(part.x))
    keep = [0, 1, 4] if float(run.model.target_scale[3]) == 0 else [0, 1, 3, 4]  # outputs that vary
    gap = (mean - part.y.double().numpy())[..., keep]
    nll = (gap**2 / np.exp(logvar[..., keep]) + logvar[..., keep]).mean((1, 2)).sum()
    bounds = 0.01 * 4 * len(keep) * (0.5 + 10.0)
    expected = nll + bounds
    for networks, name in ((run.model.ends, "terminated"), (run.model.solves, "success")):
        logit = networks(part.reached).detach().double().numpy()[..., 0]
        entropy = np.logaddexp(0, logit) - part.flags[name].double().numpy() * logit
        expected += entropy.mean(1).sum()
    assert float(run._loss(part).detach()) == pytest.approx(expected, rel=1e-5)


def test_bounds_of_the_variance_stay_apart(tmp_path):
    """Even when nothing but their penalty speaks, and for long."""
    pulled = dataclasses.replace(FAST, bound_weight=10.0, learning_rate=0.1, schedule="constant", max_updates=300)
    model = fit(pulled, tmp_path)
    gap = model.max_logvar - model.min_logvar
    assert (gap >= train.APART - 1e-5).all() and gap.min() < 1.1
