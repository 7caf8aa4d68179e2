"""Actors and the shared policy network: rows, box, normaliser, checkpoints."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from wmbench import checkpoints, registration, registry
from wmbench.cards import Dimension, SuccessRule, TaskCard
from wmbench.errors import CheckpointError, WmbenchError
from wmbench.protocols import Policy
from wmbench.rollout import Rollout
from wmbench.seeding import episode_seeds
from wmbench_baselines.actor import Actor, ActorConfig
from wmbench_baselines.networks import Normaliser, mlp, rowwise


def task(n_obs=5, n_act=2):
    return TaskCard(
        id="wmbench/Test-Actor-v0",
        suite="test",
        backend_id="actor",
        simulator="nowhere:Nothing",
        observation=tuple(Dimension(f"x{i}") for i in range(n_obs)),
        action=tuple(Dimension(f"a{i}", low=-1.0 - i, high=0.5) for i in range(n_act)),
        control_hz=10,
        horizon=5,
        terminates=False,
        success=SuccessRule("reward", 1.0, source="test"),
        action_convention="test",
    )


@pytest.fixture
def installed(monkeypatch):
    """The test task as if a package offered it."""
    card = task()
    monkeypatch.setattr(registration, "task_cards", lambda: {card.id: card})
    return card


@pytest.mark.parametrize(
    ("inputs", "hidden", "outputs"), [(5, (64, 64), 1), (17, (128, 128), 6), (376, (256, 256), 17)]
)
def test_a_rows_bits_do_not_depend_on_the_batch(inputs, hidden, outputs):
    torch.manual_seed(0)
    policy = Actor(ActorConfig(hidden), task(inputs, outputs))
    x = np.random.default_rng(0).normal(size=(300, inputs)).astype(np.float32)
    whole = policy.act(x, None, keys=np.zeros(300, np.int64))[0]
    for size in (*range(1, 71), 127, 128, 255, 257):
        part = policy.act(x[-size:], None, keys=np.zeros(size, np.int64))[0]
        assert np.array_equal(part, whole[-size:]), size
    order = np.random.default_rng(1).permutation(300)
    assert np.array_equal(policy.act(x[order], None, keys=np.zeros(300, np.int64))[0], whole[order])


def test_rowwise_equals_plain_evaluation():
    network = mlp(3, (16,), 2)
    x = torch.randn(13, 3)
    assert torch.allclose(rowwise(network, x), network(x).detach(), atol=1e-6)
    assert rowwise(network, x[:0]).shape == (0, 2)


def test_actions_fill_the_box_and_stay_in_it():
    policy = Actor(ActorConfig((32,)), task())
    low, high = policy.task.action_bounds()
    x = np.random.default_rng(0).normal(size=(200, 5)).astype(np.float32) * 1e4
    action, state = policy.act(x, policy.initial(200), keys=np.zeros(200, np.int64))
    assert isinstance(policy, Policy) and state is None
    assert action.dtype == np.float32 and action.shape == (200, 2)
    assert (action >= low).all() and (action <= high).all()
    assert np.allclose(action.min(0), low) and np.allclose(action.max(0), high)


def test_rounding_does_not_leave_the_box():
    rng = np.random.default_rng(0)
    bounds = np.stack([rng.uniform(-3, 0, 200), rng.uniform(0.1, 3, 200)], 1).astype(np.float32).astype(float)
    card = dataclasses.replace(
        task(), action=tuple(Dimension(f"a{i}", low=low, high=high) for i, (low, high) in enumerate(bounds))
    )
    policy = Actor(ActorConfig((8,)), card)
    x = rng.normal(size=(50, 5)).astype(np.float32) * 1e6
    action = policy.act(x, None, keys=np.zeros(50, np.int64))[0]
    low, high = card.action_bounds()
    assert (action >= low).all() and (action <= high).all()
    assert (low + 0.5 * np.float32(2) * (high - low) > high).any()  # it would have


def test_known_answer():
    policy = Actor(ActorConfig(()), task(1, 2))
    with torch.no_grad():
        policy.network[0].weight.copy_(torch.tensor([[1.0], [-2.0]]))
        policy.network[0].bias.copy_(torch.tensor([0.0, 0.5]))
    action, _ = policy.act(np.float32([[0.3]]), None, keys=np.zeros(1, np.int64))
    assert np.allclose(action, [[-0.25 + 0.75 * np.tanh(0.3), -0.75 + 1.25 * np.tanh(-0.1)]], atol=1e-6)


@pytest.mark.parametrize("shape", [(3, 4), (5,), (2, 1, 5)])
def test_observations_of_another_shape_are_refused(shape):
    policy = Actor(ActorConfig((8,)), task())
    with pytest.raises(WmbenchError, match=r"Test-Actor-v0.*\(B, 5\)"):
        policy.act(np.zeros(shape, np.float32), None, keys=np.zeros(shape[0], np.int64))


def test_normaliser_scales_each_dimension_and_leaves_constants_alone():
    rng = np.random.default_rng(0)
    data = np.stack([rng.normal(3, 10, 1000), rng.normal(-1, 1e-3, 1000), np.full(1000, 7.0), np.full(1000, 0.1)], 1)
    normaliser = Normaliser(4)
    assert torch.equal(normaliser(torch.ones(1, 4)), torch.ones(1, 4))
    normaliser.fit(data.mean(0), data.std(0))
    out = normaliser(torch.from_numpy(data.astype(np.float32))).double()
    assert torch.allclose(out.mean(0), torch.zeros(4, dtype=torch.float64), atol=1e-3)
    assert torch.allclose(out.std(0)[:2], torch.ones(2, dtype=torch.float64), atol=1e-2)
    assert torch.allclose(out[:, 2:], torch.zeros(1000, 2, dtype=torch.float64), atol=1e-5)
    with pytest.raises(ValueError, match="finite"):
        normaliser.fit([np.nan] * 4, [1.0] * 4)


def test_checkpoint_round_trip(installed, tmp_path):
    torch.manual_seed(0)
    policy = Actor(ActorConfig((16, 16), "tanh"), installed)
    policy.normaliser.fit(np.arange(5.0), np.arange(1.0, 6.0))
    folder = checkpoints.save(policy, tmp_path / "actor", kind="policy", name="actor", provenance={"seed": 0})
    again = checkpoints.load(folder, kind="policy", task=installed)
    x = np.random.default_rng(0).normal(size=(9, 5)).astype(np.float32)
    keys = np.zeros(9, np.int64)
    assert again.config == policy.config
    assert np.array_equal(again.act(x, None, keys=keys)[0], policy.act(x, None, keys=keys)[0])
    with pytest.raises(CheckpointError, match="a world_model is needed"):
        checkpoints.load(folder, kind="world_model")
    policy.network[0].weight.data[0, 0] = torch.inf
    with pytest.raises(CheckpointError, match="NaN or infinite"):
        checkpoints.save(policy, tmp_path / "bad", kind="policy", name="actor")


@pytest.mark.parametrize(("hidden", "activation"), [((0,), "relu"), ((8, -1), "relu"), ((8,), "sin")])
def test_impossible_networks_are_refused(hidden, activation):
    with pytest.raises(ValueError, match=r"widths|activation"):
        ActorConfig(hidden, activation)


def test_the_name_is_registered():
    assert registry.policies.load("actor") is Actor


def shipped():
    """Every shipped actor: reference name and task."""
    return sorted(key for key in registration.shipped_checkpoints() if key[0].startswith("actor"))


@pytest.mark.parametrize(("reference", "task_id"), shipped())
def test_a_shipped_actor_scores_what_its_provenance_says(reference, task_id):
    card = registration.task_card(task_id)
    folder = checkpoints.find(reference, card, kind="policy")
    scores = checkpoints.read_config(folder)["provenance"]["scores"]
    policy = checkpoints.resolve(reference, card, kind="policy")
    seeds = episode_seeds(scores["root_seed"], card.id, scores["split"], 2)
    episodes = [episode for _, episode in sorted(Rollout(card, policy).run(seeds), key=lambda pair: pair[0])]
    slack = 6 * scores["return_std"] + 0.02 * abs(scores["return_mean"])  # other processors round otherwise
    for episode in episodes:
        assert abs(episode.total_reward - scores["return_mean"]) <= slack
    assert sum(path.stat().st_size for path in folder.iterdir()) < 300_000


@pytest.mark.parametrize(("reference", "task_id"), shipped())
def test_a_shipped_actor_tells_how_it_was_made(reference, task_id):
    made = checkpoints.read_config(checkpoints.find(reference, registration.task_card(task_id), kind="policy"))
    made = made["provenance"]
    assert (Path(__file__).parents[2] / made["script"]).exists() and made["script"] in made["command"]
    assert made["step"] in dict(made["curve"]) and len(made["curve"]) >= 10
