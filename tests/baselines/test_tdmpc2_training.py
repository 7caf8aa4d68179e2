"""TD-MPC2 from training to checkpoint: resuming, determinism, and the suite's contracts for models and policies."""

import dataclasses
import json

import gymnasium as gym
import numpy as np
import pytest
import torch

import wmbench
from wmbench import checkpoints
from wmbench.errors import CheckpointError, DatasetError, WmbenchError
from wmbench.evaluating import evaluate, make_policy
from wmbench.keys import keys_from_seeds
from wmbench.protocols import Policy, Start, WorldModel
from wmbench.training import train
from wmbench_baselines.tdmpc2 import TDMPC2, TDMPC2Config, TDMPC2Policy, TDMPC2PolicyConfig
from wmbench_baselines.tdmpc2 import run as running
from wmbench_baselines.tdmpc2.act import from_box, to_box
from wmbench_baselines.tdmpc2.offline import OfflineTraining
from wmbench_baselines.tdmpc2.online import OnlineTraining

SIZES = [1, 2, 3, 5, 8, 9, 15, 17, 33]
CARTPOLE = "wmbench/DMC-CartpoleBalance-v0"
HOPPER = "wmbench/Gym-Hopper-v0"
SMALL = TDMPC2Config(
    enc_dim=32,
    mlp_dim=32,
    latent_dim=16,
    num_q=3,
    samples=16,
    elites=8,
    prior_samples=8,
    iterations=2,
    batch_size=8,
    action_repeat=20,
    frames=2600,
    eval_every=1500,
    eval_episodes=2,
    seed_steps=50,
    head_updates=50,
    updates=30,
)


def lines(folder):
    found = [json.loads(line) for line in (folder / running.LOG).read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "seconds"} for line in found]


class Killed(Exception):
    pass


@pytest.fixture(scope="module")
def online(tmp_path_factory):
    """A finished run, the folder of its checkpoint."""
    folder = tmp_path_factory.mktemp("online") / "whole"
    return train("tdmpc2", CARTPOLE, None, folder, config=SMALL, seed=3, progress=False)


def test_online_training_leaves_a_curve_and_a_checkpoint(online):
    log = lines(online.folder / "training")
    kinds = [line["kind"] for line in log]
    assert kinds == ["episode", "episode", "evaluation", "episode"] and not online.kept
    assert [line["frames"] for line in log] == [1000, 2000, 2000, 2600]
    assert log[-1]["updates"] == 129 and len(log[2]["returns"]) == 2  # as many as steps, from the pretraining on
    assert online.model.task.action_repeat == 20 and online.model.task.horizon == 50
    again = train("tdmpc2", CARTPOLE, None, online.folder, config=SMALL, seed=3, progress=False)
    assert again.kept
    with pytest.raises(CheckpointError, match="seed"):
        train("tdmpc2", CARTPOLE, None, online.folder, config=SMALL, seed=4, progress=False)


@pytest.mark.parametrize("after", [1, 2])
def test_a_killed_run_gives_the_same_curve_and_weights(online, tmp_path, monkeypatch, after):
    monkeypatch.setattr(running, "SAVE_SECONDS", 0.0)
    first = OnlineTraining(SMALL, wmbench.task_card(CARTPOLE), folder=tmp_path, seed=3)
    real, lived = first.episode, []

    def episode(advance):
        if len(lived) == after:
            first.facts["steps"] += 15  # lost, like everything since the last save
            first.noise.manual_seed(0)
            raise Killed
        lived.append(1)
        return real(advance)

    monkeypatch.setattr(first, "episode", episode)
    with pytest.raises(Killed):
        first.run(progress=False)
    second = OnlineTraining(SMALL, wmbench.task_card(CARTPOLE), folder=tmp_path, seed=3)
    second.run(progress=False)
    assert lines(tmp_path) == lines(online.folder / "training")
    for name, tensor in second.model.state_dict().items():
        assert torch.equal(tensor, online.model.latent.state_dict()[name]), name


def test_another_run_is_not_resumed_and_a_longer_one_is(online, tmp_path):
    short = dataclasses.replace(SMALL, frames=1000)
    OnlineTraining(short, wmbench.task_card(CARTPOLE), folder=tmp_path, seed=3).run(progress=False)
    other = OnlineTraining(dataclasses.replace(SMALL, tau=0.02), wmbench.task_card(CARTPOLE), folder=tmp_path, seed=3)
    with pytest.raises(CheckpointError, match=r"another run \(tau 0.01 there, 0.02 here\)"):
        other.run(progress=False)
    OnlineTraining(SMALL, wmbench.task_card(CARTPOLE), folder=tmp_path, seed=3).run(progress=False)
    assert lines(tmp_path) == lines(online.folder / "training")


def test_evaluation_leaves_no_trace(tmp_path):
    states = []
    for every in (500, 10_000):
        config = dataclasses.replace(SMALL, eval_every=every, frames=1500)
        run = OnlineTraining(config, wmbench.task_card(CARTPOLE), folder=tmp_path / str(every), seed=3)
        run.run(progress=False)
        states.append(run.model.state_dict())
    assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])


@pytest.mark.parametrize(("task", "once"), [("wmbench/Gym-Reacher-v0", False), (CARTPOLE, True)])
def test_success_is_counted_as_the_task_says(tmp_path, monkeypatch, task, once):
    """A success at the first step alone: where the rule asks for the end, as reaching does, it is none."""

    class First(gym.Wrapper):
        def reset(self, **options):
            self.first = True
            return super().reset(**options)

        def step(self, action):
            *found, info = super().step(action)
            info["success"], self.first = self.first, False
            return *found, info

    run = OnlineTraining(SMALL, wmbench.task_card(task), folder=tmp_path, seed=0)
    make = run.make_env
    monkeypatch.setattr(run, "make_env", lambda: First(make()))
    (tmp_path / "replay").mkdir()
    run.env = run.make_env()
    assert run.episode()[1] is once
    assert run.evaluate()[1] == [once] * SMALL.eval_episodes


def test_simulators_of_an_evaluation_are_taken_again(tmp_path, monkeypatch):
    """However many episodes: so many side by side, and no more simulators than that, at the first time and later."""
    monkeypatch.setattr("wmbench_baselines.tdmpc2.online.SIDE", 2)
    config = dataclasses.replace(SMALL, eval_episodes=5)
    run = OnlineTraining(config, wmbench.task_card(CARTPOLE), folder=tmp_path, seed=0)
    make, made = run.make_env, []
    monkeypatch.setattr(run, "make_env", lambda: made.append(make()) or made[-1])
    first, again = run.evaluate(), run.evaluate()
    assert len(made) == 2 and len(first[0]) == len(first[1]) == 5
    assert first == again


def observations(n, size=5):
    return np.random.default_rng(0).normal(size=(n, size)).astype(np.float32)


@pytest.mark.parametrize("mode", ["plan", "prior", "best"])
def test_a_policy_row_ignores_its_batch(online, mode):
    config = TDMPC2PolicyConfig(mode=mode, candidates=8)
    policy = TDMPC2Policy.of_world_model(online.model, config)
    assert isinstance(policy, Policy)
    x, keys = observations(34), keys_from_seeds(range(34))
    state = policy.initial(34)
    whole, state = policy.act(x, state, keys=keys)
    later, _ = policy.act(x[::-1].copy(), state, keys=keys + 1)
    assert whole.dtype == np.float32 and (np.abs(whole) <= 1).all() and not np.array_equal(whole, later)
    for n in SIZES:
        some, own = policy.act(x[-n:], policy.initial(n), keys=keys[-n:])
        assert np.array_equal(some, whole[-n:]), n
        again, _ = policy.act(x[::-1][-n:].copy(), own, keys=(keys + 1)[-n:])
        assert np.array_equal(again, later[-n:]), n


def test_planner_settings_of_a_policy(online):
    x, keys = observations(2), keys_from_seeds(range(2))
    first = TDMPC2Policy.of_world_model(online.model, TDMPC2PolicyConfig(horizon=4, replan=2, samples=24, iterations=1))
    action, state = first.act(x, first.initial(2), keys=keys)
    ahead = first.chunk(state)
    assert ahead.shape == (2, 3, 1) and (state["left"] == 1).all()
    second, state = first.act(x * 0, state, keys=keys + 1)  # acts out the plan, whatever it sees
    assert np.array_equal(second, ahead[:, 0]) and (state["left"] == 0).all()
    third, _ = first.act(x, state, keys=keys + 2)
    assert not np.array_equal(third, second) and action.shape == (2, 1)
    with pytest.raises(WmbenchError, match="replan"):
        TDMPC2Policy.of_world_model(online.model, TDMPC2PolicyConfig(replan=9))
    with pytest.raises(WmbenchError, match="shape"):
        first.act(observations(2, 4), None, keys=keys)


def test_a_simulator_row_ignores_its_batch(online):
    model = online.model
    assert isinstance(model, WorldModel)
    x, action = torch.from_numpy(observations(34)), torch.from_numpy(observations(34, 1)).clamp(-1, 1)
    whole = model.initial(Start(x), keys=torch.arange(34))
    after, prediction = model.step(whole, action)
    for n in SIZES:
        some = model.initial(Start(x[-n:]), keys=torch.arange(n))
        assert torch.equal(some["z"], whole["z"][-n:]), n
        following, said = model.step(some, action[-n:])
        assert torch.equal(following["z"], after["z"][-n:]), n
        assert torch.equal(said.observation, prediction.observation[-n:]), n
        assert torch.equal(said.reward, prediction.reward[-n:]) and said.terminated is None
    assert prediction.reward.dtype == torch.float64


def test_checkpoint_is_a_simulator_and_a_policy(online):
    folder = str(online.folder)
    env = gym.make(CARTPOLE, simulator=folder, action_repeat=20)
    observation, _ = env.reset(seed=0)
    total = 0
    for _ in range(50):
        observation, _, terminated, truncated, _ = env.step(env.action_space.sample())
        total += 1
    assert truncated and not terminated and total == 50 and np.isfinite(observation).all()
    loaded = checkpoints.load(online.folder, kind="policy", task=online.model.task)
    assert isinstance(loaded, TDMPC2Policy)
    prior = make_policy(folder, online.model.task, config={"mode": "prior"})
    assert prior.config.mode == "prior"
    with pytest.raises(CheckpointError, match="mode"):
        make_policy(folder, online.model.task, config={"mode": "guess"})
    for simulator in (None, folder):
        found = evaluate(CARTPOLE, folder, simulator=simulator, episodes=2, action_repeat=20, num_envs=2)
        assert all(e["valid"] for e in found.episodes)


def test_decoder_learns_without_touching_the_latents(online, tmp_path):
    """What training ended with is what the checkpoint has: heads are fitted afterwards, and only they."""
    run = OnlineTraining(SMALL, wmbench.task_card(CARTPOLE), folder=tmp_path, seed=3)
    run.run(progress=False)
    model = TDMPC2.of_run(SMALL, run.task, run, trained_on="", progress=False)
    for name, tensor in run.model.state_dict().items():
        assert torch.equal(tensor, model.latent.state_dict()[name]) and torch.equal(
            tensor, online.model.latent.state_dict()[name]
        )
    before = model.read_off(run.replay, seed=1, progress=False)["decoder"]
    model.config = dataclasses.replace(SMALL, head_updates=600)
    model.latent.config = model.config
    assert model.read_off(run.replay, seed=1, progress=False)["decoder"] < 0.85 * before
    assert "frozen latents" in model.card.consumer


def test_offline_training_on_a_task_that_ends(random_data, tmp_path):
    data = random_data(HOPPER)
    model = TDMPC2.fit(SMALL, data, folder=tmp_path / "a", seed=0, progress=False)
    again = TDMPC2.fit(SMALL, data, folder=tmp_path / "b", seed=0, progress=False)
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), again.state_dict().values(), strict=True))
    assert model.card.predicts == {"observation", "reward", "terminated"} and not model.card.sources
    state = model.initial(Start(torch.from_numpy(data.episode(0).observation[:4])), keys=torch.arange(4))
    _, said = model.step(state, torch.zeros(4, 3))
    assert ((said.terminated > 0) & (said.terminated < 1)).all() and said.observation.shape == (4, 11)


def test_a_killed_offline_run_gives_the_same_weights(random_data, tmp_path, monkeypatch):
    monkeypatch.setattr(running, "SAVE_SECONDS", 0.0)
    data = [random_data(CARTPOLE)]
    whole = OfflineTraining(SMALL, data, folder=tmp_path / "whole", seed=0)
    whole.run(progress=False)
    first = OfflineTraining(SMALL, data, folder=tmp_path / "killed", seed=0)
    real = first.update

    def update():
        if first.facts["updates"] == 17:
            first.noise.manual_seed(0)  # lost, like everything since the last save
            raise Killed
        real()

    monkeypatch.setattr(first, "update", update)
    with pytest.raises(Killed):
        first.run(progress=False)
    longer = dataclasses.replace(SMALL, head_updates=60)  # what comes after the run is no part of it
    second = OfflineTraining(longer, data, folder=tmp_path / "killed", seed=0)
    second.run(progress=False)
    assert second.facts["updates"] == 30 and lines(tmp_path / "killed") == lines(tmp_path / "whole")
    for name, tensor in second.model.state_dict().items():
        assert torch.equal(tensor, whole.model.state_dict()[name]), name


def test_one_model_of_several_tasks(random_data, tmp_path):
    pair = [random_data(HOPPER), random_data(CARTPOLE)]
    models = TDMPC2.fit_several(SMALL, pair, folder=tmp_path / "work", seed=0, progress=False)
    for model, data in zip(models, pair, strict=True):
        folder = checkpoints.save(model, tmp_path / data.task.name, kind="world_model", name="tdmpc2")
        loaded = checkpoints.load(folder, kind="world_model", task=data.task)
        assert loaded.config == model.config and loaded.number == model.number
        x = torch.from_numpy(data.episode(0).observation[:3])
        assert loaded.initial(Start(x), keys=torch.arange(3))["z"].shape == (3, 16)
        policy = checkpoints.load(folder, kind="policy", task=data.task)
        action, _ = policy.act(x.numpy(), policy.initial(3), keys=keys_from_seeds(range(3)))
        assert action.shape == (3, len(data.task.action))
    shared = models[0].latent.state_dict(), models[1].latent.state_dict()
    assert all(torch.equal(shared[0][k], shared[1][k]) for k in shared[0])
    with pytest.raises(DatasetError, match="one dataset per task"):
        TDMPC2.fit_several(SMALL, [pair[0], pair[0]], folder=tmp_path / "twice", progress=False)


def test_what_does_not_learn_online_says_so(tmp_path):
    with pytest.raises(WmbenchError, match="give a dataset"):
        train("ensemble", CARTPOLE, None, tmp_path)


def test_runs_differ_in_seed_data_and_settings():
    one, two = json.dumps(["a", 3, {"tau": 0.02}]), json.dumps(["a", 4, {"tau": 0.02}])
    assert running.different(one, two) == "seed 3 there, 4 here"
    one, two = json.dumps(["a", 3, {"tau": 0.02}]), json.dumps(["b", 3, {"rho": 0.7}])
    assert running.different(one, two) == "its tasks or data, rho 0.5 there, 0.7 here, tau 0.02 there, 0.01 here"


def test_a_seed_or_device_that_is_none_is_refused(tmp_path):
    for bad, word in (({"seed": -1}, "seed"), ({"seed": 0, "device": "gpu"}, "device 'gpu'")):
        with pytest.raises(WmbenchError, match=word):
            OnlineTraining(SMALL, wmbench.task_card(CARTPOLE), folder=tmp_path, **bad)


def test_actions_to_the_box_and_back():
    low, high = np.array([-2.0, 0.0], np.float32), np.array([1.0, 0.3], np.float32)
    unit = np.random.default_rng(0).uniform(-1, 1, (50, 2)).astype(np.float32)
    there = to_box(unit, low, high)
    assert (there >= low).all() and (there <= high).all()
    assert np.allclose(from_box(there, low, high), unit, atol=1e-6)
    assert np.array_equal(to_box(np.array([-1.0, 1.0], np.float32), low, high), np.array([-2.0, 0.3], np.float32))


def test_rows_of_a_batched_twin_are_single_twins(online):
    options = {"simulator": str(online.folder), "action_repeat": 20}
    batch = gym.make_vec(CARTPOLE, num_envs=3, autoreset_mode="Disabled", **options)
    first, _ = batch.reset(seed=[4, 5, 6])
    singles = [gym.make(CARTPOLE, **options) for _ in range(3)]
    assert np.array_equal(first, np.stack([env.reset(seed=4 + i)[0] for i, env in enumerate(singles)]))
    rng = np.random.default_rng(0)
    for _ in range(12):
        action = rng.uniform(-1, 1, (3, 1)).astype(np.float32)
        observation, reward, *_ = batch.step(action)
        alone = [env.step(a) for env, a in zip(singles, action, strict=True)]
        assert np.array_equal(observation, np.stack([step[0] for step in alone]))
        assert np.array_equal(reward, np.array([step[1] for step in alone]))
