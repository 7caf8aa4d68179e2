"""Behaviour cloning: it learns what can be learned, picks its episodes, and survives being killed."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from wmbench import registration, registry
from wmbench.cards import Dimension, SuccessRule, TaskCard
from wmbench.checkpoints import load, save
from wmbench.collecting import collect
from wmbench.errors import CheckpointError, DatasetError, WmbenchError
from wmbench_baselines import bc, bc_run
from wmbench_baselines.bc import BCConfig, BehaviourCloning

TASK = TaskCard(
    id="wmbench/Test-Clone-v0",
    suite="test",
    backend_id="clone",
    simulator="nowhere:Nothing",
    observation=tuple(Dimension(f"x{i}") for i in range(4)),
    action=(Dimension("a", low=-2.0, high=2.0), Dimension("b", low=0.0, high=1.0)),
    control_hz=10,
    horizon=50,
    terminates=False,
    success=SuccessRule("reward", 1.0, source="test"),
    action_convention="test",
)
SCALE = np.array([1000.0, 1e-3, 1.0, 0.0])
FAST = BCConfig(hidden=(32, 32), epochs=8, batch_size=64, learning_rate=3e-3)


def expert(x):
    """Depends on dimensions of very different scale: only a per-dimension normaliser makes both visible."""
    z = (x - 5.0) / np.where(SCALE > 0, SCALE, 1.0)
    return np.stack([1.5 * np.sin(z[:, 0]), 0.5 + 0.4 * np.tanh(z[:, 1] + z[:, 2])], 1).astype(np.float32)


class Episodes:
    """What cloning reads of a dataset: 40 episodes of 50 steps, half by the expert, half by its opposite."""

    def __init__(self, n=40, digest="d", sources=("actor:sac", "random")):
        self.task, self.digest, self.n, self.sources = TASK, digest, n, sources

    def episodes(self, split=None):
        val = np.arange(0, self.n, 5)
        val = np.concatenate([val, val + 1]) if self.n else val
        return {"train": np.setdiff1d(np.arange(self.n), val), "val": val[val < self.n]}[split]

    def episode(self, i):
        rng = np.random.default_rng(i)
        x = (5.0 + SCALE * rng.normal(size=(51, 4))).astype(np.float32)
        source = self.sources[i % len(self.sources)]
        sign = 1 if source.startswith("actor") else -1
        action = expert(x[:-1]) if sign > 0 else np.float32([0, 1]) - np.float32([1, 1]) * expert(x[:-1])
        return SimpleNamespace(observation=x, action=action, reward=np.full(50, sign * 0.1 * i), source=source)


def error(policy):
    """Root mean squared error on fresh states, in units of half the action range."""
    x = (5.0 + SCALE * np.random.default_rng(99).normal(size=(500, 4))).astype(np.float32)
    action = policy.act(x, None, keys=np.zeros(500, np.int64))[0]
    return float(np.sqrt(np.mean(((action - expert(x)) / np.array([2.0, 0.5])) ** 2)))


def weights(policy):
    return {k: v.clone() for k, v in policy.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_it_clones_the_chosen_demonstrator(tmp_path):
    config = BCConfig(hidden=(64, 64), epochs=60, batch_size=64, learning_rate=3e-3, sources=("actor",))
    policy = BehaviourCloning.fit(config, Episodes(), folder=tmp_path, progress=False)
    assert error(policy) < 0.1
    assert error(BehaviourCloning(config, TASK)) > 0.4
    assert policy.card["episodes"] == 12 and policy.card["transitions"] == 600
    assert policy.card["trained_on"] == "d"
    mixed = BehaviourCloning.fit(FAST, Episodes(), folder=tmp_path / "mixed", progress=False)
    assert error(mixed) > 0.3  # demonstrators that disagree are averaged


def test_min_return_chooses_too(tmp_path):
    config = BCConfig(hidden=(8,), epochs=1, min_return=100.0)
    policy = BehaviourCloning.fit(config, Episodes(), folder=tmp_path, progress=False)
    episodes = [Episodes().episode(i) for i in Episodes().episodes("train")]
    assert policy.card["episodes"] == sum(e.reward.sum() >= 100 for e in episodes) > 0


@pytest.mark.parametrize(
    ("config", "n", "words"),
    [
        (BCConfig(sources=("scripted",)), 40, r"scripted.*from \['actor:sac', 'random'\]"),
        (BCConfig(min_return=1e6), 40, r"min_return=1000000.0.*the best with return 190"),
        (BCConfig(), 0, "no train episodes to clone"),
    ],
)
def test_an_empty_choice_is_refused(tmp_path, config, n, words):
    with pytest.raises(DatasetError, match=words):
        BehaviourCloning.fit(config, Episodes(n), folder=tmp_path, progress=False)


def test_normalisation_is_that_of_the_chosen_train_transitions(tmp_path):
    policy = BehaviourCloning.fit(
        BCConfig(hidden=(8,), epochs=1, sources=("actor",)), Episodes(), folder=tmp_path, progress=False
    )
    chosen = [Episodes().episode(i) for i in Episodes().episodes("train")]
    x = np.concatenate([e.observation[:-1] for e in chosen if e.source == "actor:sac"]).astype(np.float64)
    assert np.allclose(policy.normaliser.mean, x.mean(0), rtol=1e-6)
    assert np.allclose(policy.normaliser.scale, [*x.std(0)[:3], 1.0], rtol=1e-6)  # the last dimension is constant


def test_the_seed_decides_everything(tmp_path):
    a, b, c = (
        BehaviourCloning.fit(FAST, Episodes(), folder=tmp_path / str(i), seed=seed, progress=False)
        for i, seed in enumerate((3, 3, 4))
    )
    assert same(weights(a), weights(b)) and not same(weights(a), weights(c))
    torch.manual_seed(123)  # the caller's random stream is neither used nor moved
    before = torch.random.get_rng_state()
    again = BehaviourCloning.fit(FAST, Episodes(), folder=tmp_path / "4", seed=3, progress=False)
    assert same(weights(a), weights(again))
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("after", [1, 3, 8])
def test_killed_and_resumed_gives_the_same_weights_and_log(tmp_path, monkeypatch, after):
    whole = BehaviourCloning.fit(FAST, Episodes(), folder=tmp_path / "whole", progress=False)
    record, save_state = bc_run.Run._record, bc_run.Run._save

    def record_then_die(*args):
        record(*args)
        raise KeyboardInterrupt

    def save_then_die(run):
        save_state(run)
        if run.epoch == after:
            monkeypatch.setattr(bc_run, "SAVE_SECONDS", 1e9)  # the next epoch is logged, never saved
            monkeypatch.setattr(
                bc_run.Run, "_record", lambda *a: (record(*a), (_ for _ in ()).throw(KeyboardInterrupt))
            )

    with monkeypatch.context() as patch:
        patch.setattr(bc_run, "SAVE_SECONDS", 0.0)
        patch.setattr(bc_run.Run, "_save", save_then_die)
        if after < FAST.epochs:
            with pytest.raises(KeyboardInterrupt):
                BehaviourCloning.fit(FAST, Episodes(), folder=tmp_path / "killed", progress=False)
        else:
            BehaviourCloning.fit(FAST, Episodes(), folder=tmp_path / "killed", progress=False)
    monkeypatch.setattr(bc_run.Run, "_record", record)
    epochs = []
    monkeypatch.setattr(bc_run.Run, "_epoch", _counting(bc_run.Run._epoch, epochs))
    resumed = BehaviourCloning.fit(FAST, Episodes(), folder=tmp_path / "killed", progress=False)
    assert len(epochs) == FAST.epochs - after  # it did resume
    assert same(weights(whole), weights(resumed))
    assert whole.card == resumed.card
    assert (tmp_path / "whole" / "log.jsonl").read_text() == (tmp_path / "killed" / "log.jsonl").read_text()


def _counting(function, calls):
    def counted(*args):
        calls.append(1)
        return function(*args)

    return counted


def test_a_folder_of_another_run_is_refused(tmp_path):
    BehaviourCloning.fit(FAST, Episodes(), folder=tmp_path, progress=False)
    for changed in ({"seed": 1}, {"dataset": Episodes(digest="e")}, {"config": BCConfig(epochs=1)}):
        arguments = {"config": FAST, "dataset": Episodes(), "seed": 0} | changed
        with pytest.raises(DatasetError, match="another configuration, dataset or seed"):
            BehaviourCloning.fit(**arguments, folder=tmp_path, progress=False)
    (tmp_path / bc_run.RESUME).write_bytes(b"junk")
    with pytest.raises(CheckpointError, match="damaged"):
        BehaviourCloning.fit(FAST, Episodes(), folder=tmp_path, progress=False)


def test_early_stopping_keeps_the_best_epoch(tmp_path):
    noise = Episodes()
    noise.episode = lambda i: SimpleNamespace(
        observation=np.random.default_rng(i).normal(size=(51, 4)).astype(np.float32),
        action=np.random.default_rng(i + 1000).uniform(0, 1, (50, 2)).astype(np.float32),
        reward=np.zeros(50),
        source="noise",
    )
    config = BCConfig(hidden=(256,), epochs=500, patience=5, learning_rate=1e-2, batch_size=64)
    policy = BehaviourCloning.fit(config, noise, folder=tmp_path, progress=False)
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    losses = [entry["validation_loss"] for entry in log]
    assert len(log) < 500 and len(log) == int(np.argmin(losses)) + 1 + 5
    assert policy.card["best_epoch"] == int(np.argmin(losses)) + 1
    data = bc.select(noise, "val", config)
    with torch.no_grad():
        gap = (policy(torch.from_numpy(data["observation"])) - torch.from_numpy(data["action"])) / torch.tensor(
            [2.0, 0.5]
        )
    assert float((gap**2).mean()) == pytest.approx(min(losses), rel=1e-4)


def test_without_validation_episodes_it_trains_to_the_end(tmp_path):
    config = BCConfig(hidden=(16,), epochs=30, patience=1, sources=("rare",))
    rare = Episodes(sources=("random", "random", "rare", "random", "random"))  # episodes 2, 7, 12...: never val
    policy = BehaviourCloning.fit(config, rare, folder=tmp_path, progress=False)
    assert policy.card["epochs"] == policy.card["best_epoch"] == 30
    assert policy.card["validation_loss"] is None


def test_divergence_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(bc_run.Run, "_epoch", lambda run, x, y: float("nan"))
    with pytest.raises(WmbenchError, match="diverged"):
        BehaviourCloning.fit(FAST, Episodes(), folder=tmp_path, progress=False)


def test_checkpoint_round_trip(tmp_path, monkeypatch):
    monkeypatch.setattr(registration, "task_cards", lambda: {TASK.id: TASK})
    policy = BehaviourCloning.fit(
        BCConfig(hidden=(8,), epochs=2, min_return=-50.0), Episodes(), folder=tmp_path / "run", progress=False
    )
    again = load(save(policy, tmp_path / "bc", kind="policy", name="bc"), kind="policy", task=TASK)
    x = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)
    keys = np.zeros(9, np.int64)
    assert np.array_equal(again.act(x, None, keys=keys)[0], policy.act(x, None, keys=keys)[0])
    assert again.config == policy.config


@pytest.mark.parametrize("bad", [{"epochs": 0}, {"learning_rate": -1.0}, {"weight_decay": -1.0}, {"hidden": (0,)}])
def test_impossible_settings_are_refused(bad):
    with pytest.raises(ValueError, match=r"positive|negative"):
        BCConfig(**bad)


def test_it_reads_collected_datasets(tmp_path):
    """The real store, through the real collector: two sources, one cloned exactly."""
    dataset = collect("Gym-InvertedPendulum", out=tmp_path / "data", policy=["random", "zero"], episodes=[10, 20])
    config = BCConfig(hidden=(16,), epochs=40, sources=("zero",), learning_rate=1e-2, batch_size=32)
    policy = BehaviourCloning.fit(config, dataset, folder=tmp_path / "run", progress=False)
    assert policy.card["episodes"] == 16 and policy.card["trained_on"] == dataset.digest
    held_out = bc.select(dataset, "val", config)["observation"]
    action = policy.act(held_out, None, keys=np.zeros(len(held_out), np.int64))[0]
    assert len(held_out) > 30 and np.abs(action).max() < 0.3  # of a range of 3: the zero policy, not the random one
    with pytest.raises(DatasetError, match=r"from \['random', 'zero'\]"):
        BehaviourCloning.fit(BCConfig(sources=("actor",)), dataset, folder=tmp_path / "none", progress=False)


def test_the_name_is_registered():
    assert registry.policies.load("bc") is BehaviourCloning
