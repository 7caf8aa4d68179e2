"""The ensemble as a world model: forward pass by hand, members, noise, bounds, uncertainty, and rows by themselves."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from wmbench import checkpoints
from wmbench.cards import Dimension, SuccessRule, TaskCard
from wmbench.errors import MissingHeadError
from wmbench.keys import keys_from_seeds
from wmbench.protocols import Start, WorldModel
from wmbench.registration import shipped_checkpoints, task_card
from wmbench_baselines.ensemble import PAPER, PRESETS, Ensemble, EnsembleConfig
from wmbench_baselines.ensemble.model import bound
from wmbench_baselines.ensemble.networks import Members
from wmbench_baselines.ensemble.rows import mlp, silu_
from wmbench_envs.twin_core import Imagination, check_heads

SMALL = EnsembleConfig(members=4, elites=3, hidden=(16, 24), weight_decay=(0.0, 0.0, 0.0))


def make_card(n_observation=3, n_action=2, terminates=False, solved=False):
    return TaskCard(
        id="wmbench/Toy-Ensemble-v0",
        suite="toy",
        backend_id="toy",
        simulator="nowhere:Nothing",
        observation=tuple(Dimension(f"x{i}") for i in range(n_observation)),
        action=tuple(Dimension(f"u{i}", low=-1.0, high=1.0) for i in range(n_action)),
        control_hz=10.0,
        horizon=100,
        terminates=terminates,
        success=SuccessRule("env", source="toy") if solved else SuccessRule("return", 0.0, "none"),
        action_convention="force",
    )


def make_model(config=SMALL, *, terminates=False, solved=False, sizes=(3, 2), **changes):
    """With random weights, biases and normalisers, so that nothing is hidden by a zero or a one."""
    model = Ensemble(dataclasses.replace(config, **changes), make_card(*sizes, terminates, solved))
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for bias in [b for n, b in model.named_parameters() if "biases" in n]:
            bias.copy_(torch.randn(bias.shape, generator=generator))
        model.max_logvar.copy_(0.3 * torch.randn(model.max_logvar.shape, generator=generator))
        model.min_logvar.copy_(-4 + torch.randn(model.min_logvar.shape, generator=generator))
        model.input_mean.copy_(torch.randn(model.input_mean.shape, generator=generator))
        model.input_scale.copy_(torch.rand(model.input_scale.shape, generator=generator) + 0.5)
        model.target_mean.copy_(torch.randn(model.target_mean.shape, generator=generator))
        model.target_scale.copy_(torch.rand(model.target_scale.shape, generator=generator) + 0.5)
    model.elites.copy_(torch.randperm(model.config.members, generator=generator)[: model.config.elites])
    return model.eval()


def batch(n, sizes=(3, 2), seed=0):
    rng = np.random.default_rng(seed)
    observation = torch.from_numpy(rng.normal(size=(n, sizes[0])).astype(np.float32))
    action = torch.from_numpy(rng.uniform(-1, 1, (n, sizes[1])).astype(np.float32))
    return observation, action, torch.from_numpy(keys_from_seeds(rng.integers(0, 2**40, n)))


def perceptron(members, member, x):
    for i, (weight, bias) in enumerate(zip(members.weights, members.biases, strict=True)):
        x = x @ weight[member].detach().double().numpy() + bias[member].detach().double().numpy()
        if i < len(members.weights) - 1:
            x = x / (1 + np.exp(-x))
    return x


def by_hand(model, member, observation, action):
    """One member in float64: mean and deviation (N, D), normalised, and the flags' probabilities after the mean."""
    x = (np.hstack([observation, action]) - model.input_mean.numpy()) * model.input_scale.numpy()
    x = perceptron(model.dynamics, member, x)
    d = model.n_targets
    low, high = (b[member].detach().double().numpy() for b in (model.min_logvar, model.max_logvar))
    logvar = high - np.logaddexp(0, high - x[:, -d:])
    logvar = low + np.logaddexp(0, logvar - low)
    n = model.n_observation
    reached = observation.numpy() + (x[:, :d] * model.target_scale.numpy() + model.target_mean.numpy())[:, :n]
    reached = (reached - model.input_mean.numpy()[:n]) * model.input_scale.numpy()[:n]
    flags = {k: 1 / (1 + np.exp(-perceptron(net, member, reached)[:, 0])) for k, net in model.flags.items()}
    return x[:, :d], np.exp(0.5 * logvar), flags


@pytest.mark.parametrize("solved", [False, True])
@pytest.mark.parametrize("terminates", [False, True])
def test_prediction_by_hand(terminates, solved):
    model = make_model(terminates=terminates, solved=solved, sample=False)
    observation, action, keys = batch(50)
    state = model.initial(Start(observation), keys=keys)
    after, prediction = model.step(state, action, uncertainty=True)
    means, stds, flags = zip(*(by_hand(model, e, observation, action) for e in range(4)), strict=True)
    mean, std = np.stack(means), np.stack(stds)
    own = (state["member"].numpy(), np.arange(50))
    scale, shift = model.target_scale.numpy(), model.target_mean.numpy()
    target = mean[own] * scale + shift
    np.testing.assert_allclose(prediction.observation, observation.numpy() + target[:, :3], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(prediction.reward, target[:, 3], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(prediction.observation_std, (std[own] * scale)[:, :3], rtol=1e-4)
    for name, needed in (("terminated", terminates), ("success", solved)):
        assert (getattr(prediction, name) is not None) == (name in model.card.predicts) == needed
        if needed:
            expected = np.stack([flag[name] for flag in flags])[own]
            np.testing.assert_allclose(getattr(prediction, name), expected, rtol=1e-4)
            assert getattr(prediction, name).dtype == torch.float32
    assert model.card.sources == ({} if terminates else {"terminated": "card"})
    assert prediction.observation.dtype == torch.float32 and prediction.reward.dtype == torch.float64
    assert torch.equal(after["observation"], prediction.observation)
    elites = model.elites.numpy()
    m, s = mean[elites], std[elites]
    np.testing.assert_allclose(prediction.uncertainty["disagreement"], m[..., :3].std(0).sum(-1), rtol=1e-4)
    np.testing.assert_allclose(prediction.uncertainty["max_aleatoric"], np.linalg.norm(s, axis=-1).max(0), rtol=1e-4)
    np.testing.assert_allclose(
        prediction.uncertainty["max_deviation"], np.linalg.norm(m - m.mean(0), axis=-1).max(0), rtol=1e-4
    )
    assert tuple(prediction.uncertainty) == model.card.uncertainty
    assert isinstance(model, WorldModel)


def constant_members(means, stds):
    """An ensemble whose members predict constants: means and deviations (E, D) in normalised space."""
    means, stds = torch.tensor(means), torch.tensor(stds)
    e = len(means)
    model = Ensemble(
        EnsembleConfig(members=e, elites=e, hidden=(8,), weight_decay=(0.0, 0.0)), make_card(means.shape[1] - 1, 1)
    )
    with torch.no_grad():
        model.dynamics.weights[1].zero_()
        model.dynamics.biases[1][:, 0] = torch.cat([means, 2 * stds.log()], 1)
        model.max_logvar.fill_(50.0)
        model.min_logvar.fill_(-50.0)
    return model


def test_uncertainty_of_constructed_ensembles():
    """Two members at -1 and 1 in one observation dimension: each signal's value follows from its definition."""
    model = constant_members([[-1.0, 2.0, 0.0], [1.0, 2.0, 4.0]], [[0.3, 0.4, 1.2], [0.1, 0.1, 0.1]])
    observation, action, keys = batch(5, (2, 1))
    _, p = model.step(model.initial(Start(observation), keys=keys), action, uncertainty=True)
    torch.testing.assert_close(p.uncertainty["disagreement"], torch.full((5,), 1.0))  # the reward is left out
    torch.testing.assert_close(p.uncertainty["max_aleatoric"], torch.full((5,), 1.3))
    torch.testing.assert_close(p.uncertainty["max_deviation"], torch.full((5,), 5.0**0.5))
    model.target_scale[0] = 0.0  # now a dimension that never varied: no network speaks about it
    _, p = model.step(model.initial(Start(observation), keys=keys), action, uncertainty=True)
    assert not p.uncertainty["disagreement"].any()
    torch.testing.assert_close(p.uncertainty["max_deviation"], torch.full((5,), 2.0))
    assert not p.observation_std[:, 0].any()
    torch.testing.assert_close(p.observation[:, 0], observation[:, 0])


def test_one_elite_never_disagrees():
    model = make_model(members=4, elites=1)
    observation, action, keys = batch(9)
    _, p = model.step(model.initial(Start(observation), keys=keys), action, uncertainty=True)
    assert not p.uncertainty["disagreement"].any() and not p.uncertainty["max_deviation"].any()
    assert p.uncertainty["max_aleatoric"].all()


def test_members_last_an_episode_or_a_step():
    observation, action, keys = batch(3000)
    model = make_model()
    state = first = model.initial(Start(observation), keys=keys)
    shares = torch.bincount(state["member"], minlength=4) / 3000
    assert set(state["member"].tolist()) == set(model.elites.tolist())
    torch.testing.assert_close(shares[model.elites], torch.full((3,), 1 / 3), atol=0.04, rtol=0)
    for _ in range(3):
        state, _ = model.step(state, action)
        assert torch.equal(state["member"], first["member"])
    model = make_model(propagation="ts_1")
    state = model.initial(Start(observation), keys=keys)
    seen = []
    for _ in range(2):
        state, _ = model.step(state, action)
        seen.append(state["member"])
        torch.testing.assert_close(
            torch.bincount(seen[-1], minlength=4)[model.elites] / 3000, torch.full((3,), 1 / 3), atol=0.04, rtol=0
        )
    assert float((seen[0] == seen[1]).float().mean()) == pytest.approx(1 / 3, abs=0.04)  # drawn afresh, independently


def test_noise_has_the_predicted_mean_and_deviation():
    observation, action, _ = batch(1)
    n = 20_000
    keys = torch.from_numpy(keys_from_seeds(np.arange(n)))
    model = make_model(members=4, elites=1)
    state = model.initial(Start(observation.expand(n, -1)), keys=keys)
    _, drawn = model.step(state, action.expand(n, -1), uncertainty=True)
    model = make_model(members=4, elites=1, sample=False)
    _, plain = model.step(state, action.expand(n, -1), uncertainty=True)
    z = (drawn.observation - plain.observation) / plain.observation_std  # (N, O)
    assert z.mean(0).abs().max() < 0.03 and (z.std(0) - 1).abs().max() < 0.02
    assert torch.corrcoef(z.T).fill_diagonal_(0).abs().max() < 0.03
    assert drawn.reward.std() > 0 and plain.reward.std() < 1e-6
    after, _ = model.step(state, action.expand(n, -1))
    assert not torch.equal(after["key"], keys)  # the next step's noise is another


def test_mean_of_the_elites():
    model = make_model(propagation="mean", terminates=True, solved=True)
    observation, action, keys = batch(20)
    _, p = model.step(model.initial(Start(observation), keys=keys), action, uncertainty=True)
    _, again = model.step(model.initial(Start(observation), keys=keys + 1), action)
    assert torch.equal(p.observation, again.observation) and torch.equal(p.terminated, again.terminated)
    assert again.uncertainty is None and again.observation_std is None
    assert torch.equal(p.success, again.success) and not torch.equal(p.success, p.terminated)
    parts = [by_hand(model, int(e), observation, action) for e in model.elites]
    mean = np.mean([m for m, _, _ in parts], 0)
    var = np.mean([s**2 + (m - mean) ** 2 for m, s, _ in parts], 0)
    scale, shift = model.target_scale.numpy(), model.target_mean.numpy()
    expected = observation.numpy() + (mean * scale + shift)[:, :3]
    np.testing.assert_allclose(p.observation, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(p.observation_std, (np.sqrt(var) * scale)[:, :3], rtol=1e-4)


def test_variances_stay_between_their_bounds():
    low, high = torch.tensor(-6.0), torch.tensor(1.0)
    raw = torch.tensor([-1e30, -1e3, -6.0, -2.0, 1.0, 1e3, 1e30])
    got = bound(raw, low, high)
    assert torch.isfinite(got).all() and (got.diff() >= 0).all()
    torch.testing.assert_close(got[[0, 1, 5, 6]], torch.tensor([-6.0, -6.0, 1.0, 1.0]), atol=2e-3, rtol=0)
    torch.testing.assert_close(got[3], torch.tensor(-2.0), atol=0.1, rtol=0)  # and are left alone in between


MODES = [("ts_inf", False), ("ts_inf", True), ("ts_1", False), ("mean", True)]


@pytest.mark.parametrize(("propagation", "terminates"), MODES)
@pytest.mark.parametrize(("config", "sizes"), [(PAPER, (17, 6)), (SMALL, (5, 1)), (PRESETS["small"], (11, 3))])
def test_a_row_has_the_same_bits_in_any_batch(config, sizes, propagation, terminates):
    """Alone, among 64 or 1,000, at another place, beside other neighbours, with uncertainty or without."""
    model = make_model(config, terminates=terminates, solved=True, sizes=sizes, propagation=propagation)
    n = 4096 if config is PAPER else 1500
    observation, action, keys = batch(n, sizes)

    def roll(rows, uncertainty):
        state, found = model.initial(Start(observation[rows]), keys=keys[rows]), {}
        for t in range(2):
            state, p = model.step(state, action[rows], uncertainty=uncertainty)
            found |= {f"observation {t}": p.observation, f"reward {t}": p.reward, f"end {t}": p.terminated}
            found |= {f"success {t}": p.success}
            found |= {f"std {t}": p.observation_std, **{f"{k} {t}": v for k, v in (p.uncertainty or {}).items()}}
        return {k: v for k, v in found.items() if v is not None}

    whole = roll(torch.arange(n), True)
    generator = torch.Generator().manual_seed(0)
    shuffled = torch.randperm(n, generator=generator)
    groups = [torch.tensor([r]) for r in (0, 1, 2, 3, n - 1)]
    groups += [torch.arange(7), torch.arange(100, 164), shuffled[:1000], shuffled, shuffled[:1001]]
    for rows in groups:
        for uncertainty in (False, True):
            if uncertainty and len(rows) == n:
                continue
            for name, value in roll(rows, uncertainty).items():
                assert torch.equal(value, whole[name][rows]), f"{name}, {len(rows)} rows, uncertainty {uncertainty}"


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_dense_layers_ignore_place_and_batch(threads):
    """Copies of one row come out alike wherever they stand, however torch shares the work among threads."""
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        generator = torch.Generator().manual_seed(0)
        for outputs in (1, 6, 7, 13, 25, 37):
            members = Members(2, (23, 200, 200, outputs + 3))
            members.reset_parameters(generator)
            layers = members.apart(outputs)[1]
            row = torch.randn(1, 23, generator=generator)
            with torch.no_grad():
                alone = mlp(row.expand(8, -1), layers)[0]
                torch.testing.assert_close(alone[:outputs], members(row[None])[1, 0, :outputs])
                for n in (8, 16, 248, 824, 4104):
                    assert (mlp(row.expand(n, -1).contiguous(), layers) == alone).all()
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("threads", [1, 3, 5])
def test_silu_in_shares_is_silu(threads):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        x = torch.randn(200_000, generator=torch.Generator().manual_seed(0))
        expected = torch.cat([torch.nn.functional.silu(part) for part in x.split(32)])
        for n in (32, 32_768, 32_768 + 32, 2 * 32_768 + 32, 3 * 32_768 - 32, 100_000, 164_800, 200_000):
            assert torch.equal(silu_(x[:n].clone()), expected[:n])
    finally:
        torch.set_num_threads(before)


def test_step_leaves_its_input_alone():
    model = make_model()
    observation, action, keys = batch(10)
    state = model.initial(Start(observation), keys=keys)
    kept = {k: v.clone() for k, v in state.items()}
    model.step(state, action, uncertainty=True)
    model.step(state, action)
    assert all(torch.equal(state[k], kept[k]) for k in kept)


def test_a_row_that_is_not_finite_stays_alone():
    model = make_model()
    observation, action, keys = batch(30)
    _, clean = model.step(model.initial(Start(observation), keys=keys), action, uncertainty=True)
    broken = observation.clone()
    broken[4] = torch.nan
    broken[11, 1] = torch.inf
    _, p = model.step(model.initial(Start(broken), keys=keys), action, uncertainty=True)
    rows = [r for r in range(30) if r not in (4, 11)]
    assert torch.equal(p.observation[rows], clean.observation[rows])
    assert torch.equal(p.uncertainty["disagreement"][rows], clean.uncertainty["disagreement"][rows])
    assert not torch.isfinite(p.observation[[4, 11]]).all(1).any()


def test_training_and_rollouts_see_the_same_networks():
    model = make_model(terminates=True, solved=True, sample=False)
    observation, action, keys = batch(16)
    mean, logvar = model.outcomes(model.normalise(observation, action)[None])
    assert mean.shape == logvar.shape == (4, 16, 4)
    state = model.initial(Start(observation), keys=keys)
    _, p = model.step(state, action, uncertainty=True)
    own = (state["member"], torch.arange(16))
    reward = mean[own][:, 3].double() * model.target_scale[3] + model.target_mean[3]
    torch.testing.assert_close(p.reward, reward, rtol=1e-5, atol=1e-5)  # single precision inside
    for name, networks in model.flags.items():
        logit = networks(model.normalise_reached(p.observation)[None])
        assert logit.shape == (4, 16, 1)
        torch.testing.assert_close(getattr(p, name), torch.sigmoid(logit[own][:, 0]))
    std = (0.5 * logvar[own]).exp()[:, :3] * model.target_scale[:3].float()
    torch.testing.assert_close(p.observation_std, std)


def test_initial_weights_are_cut_normals():
    model = Ensemble(PAPER, make_card(17, 6))
    for weight, bias in zip(model.dynamics.weights, model.dynamics.biases, strict=True):
        width = 0.5 / weight.shape[1] ** 0.5
        assert weight.abs().max() <= 2 * width and not bias.any()
        cut = 0.88 * width  # deviation of a normal distribution cut at two of its own
        assert float(weight.detach().std()) == pytest.approx(cut, rel=0.03)
    assert not torch.equal(model.dynamics.weights[1][0], model.dynamics.weights[1][1])
    assert model.card.n_parameters == 7 * ((23 + 200 + 200 + 200) * 200 + 200 * 36 + 4 * 200 + 36 + 2 * 18)


@pytest.mark.parametrize("solved", [False, True])
def test_checkpoint_round_trip(tmp_path, solved):
    card = make_card(solved=solved)
    model = make_model(solved=solved)
    from wmbench import registration, registry

    registry.envs.add("toy-ensemble", (card,))
    registration.task_cards.cache_clear()
    try:
        checkpoints.save(model, tmp_path, kind="world_model", name="ensemble")
        loaded = checkpoints.load(tmp_path, kind="world_model", task=card)
    finally:
        registry.envs.remove("toy-ensemble")
        registration.task_cards.cache_clear()
    observation, action, keys = batch(12)
    a, b = (m.step(m.initial(Start(observation), keys=keys), action, uncertainty=True)[1] for m in (model, loaded))
    assert torch.equal(a.observation, b.observation) and torch.equal(a.reward, b.reward)
    assert torch.equal(a.success, b.success) if solved else b.success is None
    assert loaded.card == model.card and loaded.config == model.config


@pytest.mark.parametrize("task", sorted(task for name, task in shipped_checkpoints() if name == "ensemble"))
def test_a_success_head_changes_nothing_else(task):
    """A shipped model, and the same weights for a task whose success only the environment knows: the same bits."""
    folder = shipped_checkpoints()["ensemble", task]
    model = checkpoints.load(folder, kind="world_model")
    other = Ensemble(model.config, dataclasses.replace(model.task, success=SuccessRule("env", source="toy"))).eval()
    missing = other.load_state_dict(model.state_dict(), strict=False)
    assert not missing.unexpected_keys and all(name.startswith("solves.") for name in missing.missing_keys)
    assert "success" not in model.card.predicts and other.card.predicts == model.card.predicts | {"success"}
    n = 32
    observation = checkpoints.load_bank(folder)["observation"][:n]
    action = torch.rand(n, len(model.task.action), generator=torch.Generator().manual_seed(0)) * 2 - 1
    keys = torch.from_numpy(keys_from_seeds(np.arange(n)))
    a, b = (m.initial(Start(observation), keys=keys) for m in (model, other))
    for t in range(5):
        (a, p), (b, q) = model.step(a, action, uncertainty=t == 4), other.step(b, action, uncertainty=t == 4)
        assert p.success is None and q.success.shape == (n,)
        for head in ("observation", "reward", "terminated", "observation_std"):
            x, y = getattr(p, head), getattr(q, head)
            assert (x is None and y is None) or torch.equal(x, y)
    assert all(torch.equal(p.uncertainty[k], q.uncertainty[k]) for k in model.card.uncertainty)


def test_the_shipped_pendulum_knows_its_reward():
    """All of its elites: upright earns nearly 1, hanging nothing. Random behaviour alone has seen only 0."""
    model = checkpoints.resolve("ensemble", task_card("DMC-PendulumSwingup"), kind="world_model")
    start = torch.tensor([[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0]])  # cosine and sine of the angle to upright, velocity
    for elite in model.elites:
        state = model.initial(Start(start), keys=torch.arange(2)) | {"member": elite.repeat(2)}
        _, told = model.step(state, torch.zeros(2, 1))
        assert told.reward.numpy() == pytest.approx([1.0, 0.0], abs=0.1)


def test_a_twin_asks_the_success_head():
    """Where only the environment knows what a success is: a model with the head is one, at a half; without, none."""
    model = make_model(solved=True, sample=False)
    check_heads(model.task, model.card, uncertainty=True)
    with pytest.raises(MissingHeadError, match="success"):
        check_heads(model.task, make_model().card, uncertainty=False)
    observation, action, _ = batch(200)
    seeds = np.arange(200)
    starts = SimpleNamespace(draw=lambda seeds: Start(observation), close=lambda: None)
    twin = Imagination(model.task, model, starts, 200, device=torch.device("cpu"))
    twin.begin(seeds)
    found = twin.advance(action).success
    state = model.initial(Start(observation), keys=torch.from_numpy(keys_from_seeds(seeds)))
    expected = model.step(state, action)[1].success.numpy() >= 0.5
    assert np.array_equal(found, expected) and 0 < expected.sum() < 200


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"elites": 8}, "elites"),
        ({"elites": 0}, "elites"),
        ({"hidden": (200, 201, 200, 200)}, "multiples of 8"),
        ({"hidden": ()}, "multiples of 8"),
        ({"weight_decay": (0.0,)}, "weight_decay needs 5"),
        ({"batch_size": 0}, "batch_size"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"improvement": 1.0}, "improvement"),
    ],
)
def test_settings_that_contradict_are_refused(bad, words):
    with pytest.raises(ValueError, match=words):
        dataclasses.replace(PAPER, **bad)


def test_whole_turns_of_an_angle_change_nothing():
    card = make_card(3, 1)
    angle = dataclasses.replace(card.observation[1], kind="angle")
    card = dataclasses.replace(card, observation=(card.observation[0], angle, card.observation[2]))
    model = Ensemble(dataclasses.replace(SMALL, sample=False), card)
    assert model.n_features == 4
    observation, action, keys = batch(40, (3, 1))
    far = observation.clone()
    far[:, 1] += 6 * np.pi
    a, b = (model.step(model.initial(Start(x), keys=keys), action)[1] for x in (observation, far))
    torch.testing.assert_close(a.observation[:, [0, 2]], b.observation[:, [0, 2]], atol=1e-4, rtol=0)
    torch.testing.assert_close(a.observation[:, 1] + 6 * np.pi, b.observation[:, 1], atol=1e-4, rtol=0)
    half = observation.clone()
    half[:, 1] += np.pi
    other = model.step(model.initial(Start(half), keys=keys), action)[1]
    assert (other.observation[:, 0] - a.observation[:, 0]).abs().min() > 0  # while half a turn does
