"""TD-MPC2's formulas and networks against known answers."""

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy, layer_norm, linear

from wmbench_baselines.tdmpc2.config import PRESETS, SIZES, TDMPC2Config, of_size
from wmbench_baselines.tdmpc2.maths import (
    Bins,
    RunningScale,
    mish,
    percentile,
    simnorm,
    soft_cross_entropy,
    symexp,
    symlog,
    two_hot,
    two_hot_inverse,
)
from wmbench_baselines.tdmpc2.model import LatentModel
from wmbench_baselines.tdmpc2.networks import NormedLinear, shifted

BINS = Bins(-10.0, 10.0, 101)
COUNTS = json.loads((Path(__file__).parents[1] / "data" / "tdmpc2" / "parameters.json").read_text())["counts"]


def tiny(**changes):
    sizes = {"enc_dim": 32, "mlp_dim": 32, "latent_dim": 16, "samples": 24, "elites": 8, "prior_samples": 8}
    return TDMPC2Config(**{**sizes, "iterations": 2, "batch_size": 8, "num_q": 3, **changes})


def test_symlog_and_its_inverse():
    x = torch.tensor([0.0, math.e - 1, 1 - math.e, 1e-6, -5.0, 20_000.0])
    assert symlog(x)[:3] == pytest.approx([0.0, 1.0, -1.0], abs=1e-6)
    assert symexp(symlog(x)) == pytest.approx(x, rel=1e-5)


@pytest.mark.parametrize(
    ("x", "where", "weights"),
    [
        (0.0, (50, 51), (1.0, 0.0)),
        (float(np.expm1(0.2)), (51, 52), (1.0, 0.0)),
        (float(np.expm1(0.25)), (51, 52), (0.75, 0.25)),
        (-float(np.expm1(0.25)), (48, 49), (0.25, 0.75)),
        (1e9, (99, 100), (0.0, 1.0)),  # the upper edge, where the public code wraps around to the first bin
        (-1e9, (0, 1), (1.0, 0.0)),
        (float(np.expm1(10.0)), (99, 100), (0.0, 1.0)),
    ],
)
def test_two_hot_has_its_two_bins(x, where, weights):
    hot = two_hot(torch.tensor([x], dtype=torch.float64), BINS)[0]
    assert hot[list(where)].tolist() == pytest.approx(weights, abs=1e-6)
    assert hot.sum() == pytest.approx(1.0) and (hot >= 0).all() and (hot > 1e-6).sum() <= 2


def test_two_hot_inverse_gives_the_number_back():
    x = torch.tensor([-20_000.0, -3.0, -0.1, 0.0, 1e-3, 0.7, 999.0, 22_000.0], dtype=torch.float64)
    assert two_hot_inverse(two_hot(x, BINS).clamp_min(1e-300).log(), BINS) == pytest.approx(x, rel=1e-9, abs=1e-12)
    assert two_hot_inverse(torch.zeros(3, 101), BINS) == pytest.approx([0.0] * 3, abs=1e-6)  # what a fresh head says


def test_soft_cross_entropy_is_that_against_two_hot():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(5, 4, 101, generator=generator, dtype=torch.float64)
    x = torch.randn(5, 4, generator=generator, dtype=torch.float64) * 50
    expected = cross_entropy(logits.flatten(0, 1), two_hot(x, BINS).flatten(0, 1), reduction="none").view(5, 4)
    assert torch.allclose(soft_cross_entropy(logits, x, BINS), expected)
    heads = torch.stack((logits, logits + 1.0, logits * 2))  # (E, ...) against the same numbers
    assert torch.allclose(soft_cross_entropy(heads, x, BINS)[1], expected)


def test_simnorm_is_a_softmax_within_groups():
    x = torch.arange(16.0).view(1, 16) * 3
    y = simnorm(x, 8)
    assert torch.allclose(y.view(2, 8).sum(1), torch.ones(2))
    assert torch.allclose(y[:, :8], torch.softmax(x[:, :8], -1)) and torch.allclose(y[:, 8:], y[:, :8])
    assert torch.isfinite(simnorm(torch.full((1, 8), 1e30), 8)).all()


def test_mish_and_its_gradient_everywhere():
    x = torch.tensor([-1e4, -50.0, -20.0, -1.0, 0.0, 1e-3, 3.0, 20.0, 21.0, 1e4], dtype=torch.float32)
    mine, theirs = x.clone().requires_grad_(), x.double().requires_grad_()
    mish(mine).sum().backward()
    torch.nn.functional.mish(theirs).sum().backward()
    assert torch.allclose(mish(x).double(), torch.nn.functional.mish(x.double()), rtol=1e-5, atol=1e-7)
    assert torch.allclose(mine.grad.double(), theirs.grad, rtol=1e-4, atol=1e-6)


def test_running_scale_moves_by_tau_towards_the_range():
    q = torch.linspace(0.0, 100.0, 101)
    assert percentile(q, 0.05) == pytest.approx(5.0) and percentile(q, 0.95) == pytest.approx(95.0)
    x = torch.randn(37, generator=torch.Generator().manual_seed(0))
    assert percentile(x, 0.05) == pytest.approx(float(np.percentile(x.numpy(), 5)), rel=1e-5)
    scale = RunningScale(0.01)
    scale.update(q)
    assert scale.value == pytest.approx(1 + 0.01 * 89)
    still = RunningScale(0.5)
    still.update(torch.zeros(8))
    assert still.value == 1.0  # never below one


@pytest.mark.parametrize(
    ("steps", "expected"), [(500, 0.99), (100, 0.95), (1000, 0.995), (5, 0.95), (25, 0.95), (200, 39 / 40)]
)
def test_discount_follows_from_the_episode(steps, expected):
    assert TDMPC2Config().discount(steps) == pytest.approx(expected)


def test_rounds_and_seed_steps_leave_the_settings_alone():
    config = TDMPC2Config()
    assert [config.rounds(a) for a in (1, 19, 20, 38)] == [6, 6, 8, 8]
    assert config.random_steps(500) == 2500 and config.random_steps(50) == 1000
    assert config == TDMPC2Config()


@pytest.mark.parametrize(
    "changes",
    [
        *(
            {"latent_dim": 12},
            {"num_q": 1},
            {"prior_samples": 512},
            {"elites": 513},
            {"replan": 4},
            {"discount_max": 1.0},
        ),
        *({"learning_rate": -1.0}, {"temperature": math.nan}, {"entropy_weight": -1e-4}, {"observation": "pixels"}),
        *({"entropy": "none"}, {"frames": 0}, {"grad_clip": 0.0}),
    ],
)
def test_impossible_settings_are_refused(changes):
    with pytest.raises(ValueError, match=next(iter(changes)).split("_")[0]):
        TDMPC2Config(**changes)


@pytest.mark.parametrize("known", COUNTS, ids=lambda c: f"{c['size']}-{c['tasks']}-{c['episodic']}")
def test_parameter_counts_are_the_published_ones(known):
    with torch.device("meta"):
        model = LatentModel.__new__(LatentModel)
        torch.nn.Module.__init__(model)
        model.build(of_size(known["size"]), 24, [6] * known["tasks"], episodic=known["episodic"])
    parts = {
        "encoder": model.encoder,
        "dynamics": model.dynamics,
        "reward": model.reward_head,
        "pi": model.policy,
        "Q": model.q_functions,
        "termination": model.termination_head,
        "task_embedding": model.task_embedding,
    }
    for name, part in parts.items():
        assert sum(p.numel() for p in part.parameters()) == known[name] if part is not None else name not in known
    assert model.learnable() == known["total"]


def test_presets_are_the_published_sizes():
    for size, fields in SIZES.items():
        assert dataclasses.asdict(PRESETS[f"size-{size}"]) == {**dataclasses.asdict(TDMPC2Config()), **fields}
    assert SIZES[5].items() <= dataclasses.asdict(TDMPC2Config()).items()
    gym = PRESETS["gym"]
    assert (gym.action_repeat, gym.rho, gym.discount(1000), gym.discount(100)) == (1, 0.7, 0.99, 0.95)


def test_weights_start_as_published_in_every_q_function():
    """The public code left hidden Q layers at torch's own initialisation for 21 months."""
    model = LatentModel(of_size(1), 24, [6], episodic=True, seed=3)
    for ensemble in (model.q_functions, model.target_q_functions):
        for weight, bias in zip(ensemble.weights[:2], ensemble.biases[:2], strict=True):
            assert weight.std(dim=(1, 2)).tolist() == pytest.approx([0.02] * 2, rel=0.02)
            assert abs(weight.mean()) < 3e-4 and (bias == 0).all()
        assert (ensemble.weights[2] == 0).all() and (ensemble.biases[2] == 0).all()
        assert all((w == 1).all() for w in ensemble.norm_weights) and all((b == 0).all() for b in ensemble.norm_biases)
    for module in model.modules():
        if isinstance(module, NormedLinear):
            assert (module.bias == 0).all()
            last = module is model.reward_head.layers[-1]
            assert module.weight.std().item() == pytest.approx(0.0 if last else 0.02, rel=0.1)
    assert not any(p.requires_grad for p in model.target_q_functions.parameters())
    first, again = LatentModel(tiny(), 3, [2], seed=1), LatentModel(tiny(), 3, [2], seed=1)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))


def test_two_models_share_nothing():
    first, second = LatentModel(tiny(), 3, [2]), LatentModel(tiny(), 3, [2])
    assert not {p.data_ptr() for p in first.parameters()} & {p.data_ptr() for p in second.parameters()}


def test_inputs_in_parts_are_their_concatenation():
    layer = NormedLinear(7, 16)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter)
    z, a = torch.randn(5, 1, 4), torch.randn(5, 6, 3)
    x = linear(torch.cat((z.expand(-1, 6, -1), a), -1), layer.weight, layer.bias)
    x = torch.nn.functional.mish(layer_norm(x, (16,), layer.norm.weight, layer.norm.bias))
    assert torch.allclose(layer(z, a), x, atol=1e-5)


def model_with_opinions(**changes):
    """A tiny model whose heads say something, as a trained one's do."""
    model = LatentModel(tiny(**changes), 3, [2], episodic=True, seed=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += torch.randn(parameter.shape, generator=generator) * 0.3
    return model


def test_chosen_q_functions_are_those_of_all():
    model = model_with_opinions()
    z, a = torch.softmax(torch.randn(4, 5, 16), -1), torch.randn(4, 5, 2).tanh()
    every = model.Q(z, a)
    assert every.shape == (3, 4, 5, 101)
    for heads in ([2, 0], [1, 2], [0, 1]):
        assert torch.allclose(model.Q(z, a, torch.tensor(heads)), every[heads], atol=1e-5)
    x = torch.cat((z, a), -1)  # by hand, member 1
    q = model.q_functions
    for i in range(2):
        x = x @ q.weights[i][1] + q.biases[i][1]
        x = torch.nn.functional.mish(layer_norm(x, (32,), q.norm_weights[i][1, 0], q.norm_biases[i][1, 0]))
    assert torch.allclose(x @ q.weights[2][1] + q.biases[2][1], every[1], atol=1e-4)


def test_dropout_is_where_it_was_asked_for():
    model = model_with_opinions()
    z, a = torch.softmax(torch.randn(6, 16), -1), torch.randn(6, 2).tanh()
    whole = torch.ones(3, 6, 32)
    assert torch.equal(model.Q(z, a, dropout=whole), model.Q(z, a))
    gone = whole.clone()
    gone[1, 2] = 0
    changed = (model.Q(z, a, dropout=gone) != model.Q(z, a)).any(-1)  # (3, 6)
    assert changed.nonzero().tolist() == [[1, 2]]


def test_entropy_is_that_of_the_squashed_gaussian_and_both_variants_differ_by_the_tanh():
    """For one action dimension the size is one, so the term is the exact negative log-density."""
    squashed = LatentModel(tiny(), 3, [1], seed=0)
    noise = torch.randn(200, 1, generator=torch.Generator().manual_seed(0)) * 0.5
    z = torch.softmax(torch.randn(200, 16), -1)
    prior = squashed.pi(z, noise)
    mean = torch.atanh(prior.mean.double())
    normal = torch.distributions.Normal(mean, prior.log_std.double().exp())
    density = normal.log_prob(torch.atanh(prior.action.double())) - torch.log(1 - prior.action.double() ** 2)
    inside = prior.action.abs()[:, 0] < 0.98
    assert torch.allclose(squashed.entropy(prior).double()[inside], -density[inside, 0], atol=1e-2)
    plain = LatentModel(tiny(entropy="gaussian"), 3, [1], seed=0)
    gap = squashed.entropy(prior) - plain.entropy(prior)
    assert torch.allclose(gap, torch.log(1 - prior.action[:, 0] ** 2 + 1e-6), atol=1e-5)


def test_tasks_use_their_own_actions_and_embedding():
    model = LatentModel(tiny(task_dim=8), 5, [1, 3], seed=0)
    task, z = torch.tensor([0, 1]), torch.softmax(torch.randn(2, 16), -1)
    prior = model.pi(z, torch.randn(2, 3), task)
    assert (prior.action[0, 1:] == 0).all() and (prior.action[1] != 0).all()
    same = z[:1].expand(2, -1)
    assert not torch.allclose(
        model.next(same, torch.zeros(2, 3), task)[0], model.next(same, torch.zeros(2, 3), task)[1]
    )
    with torch.no_grad():
        model.task_embedding.weight.mul_(1000)
    model.renorm()
    assert model.task_embedding.weight.norm(dim=1).tolist() == pytest.approx([1.0, 1.0], rel=1e-5)


def test_images_are_encoded_as_published_and_shifted_by_whole_pixels():
    model = LatentModel(tiny(observation="rgb", channels=2, latent_dim=32), (9, 64, 64), [2], seed=0)
    images = torch.randint(0, 256, (4, 2, 9, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    z = model.encode(images)
    assert z.shape == (4, 2, 32) and torch.allclose(z.view(4, 2, 4, 8).sum(-1), torch.ones(4, 2, 4))
    assert torch.allclose(model.encode(images[1, 1]), z[1, 1], atol=1e-6)
    for layer in model.encoder.layers:
        bound = layer.weight[0].numel() ** -0.5
        assert layer.weight.abs().max() <= bound and layer.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.2)
    by = torch.tensor([3, 3]).expand(4, 2, 2).clone()
    assert torch.equal(shifted(images, by), images)
    by[0, 1] = torch.tensor([0, 5])  # three rows up in the padded image, two columns to the right
    moved = shifted(images, by)[0, 1]
    assert torch.equal(moved[:, 3:, :62], images[0, 1][:, :61, 2:])
    assert torch.equal(moved[:, 0], moved[:, 3]) and torch.equal(moved[:, :, 63], moved[:, :, 61])
    padded = torch.nn.functional.pad(images[0, 1].float(), (3, 3, 3, 3), mode="replicate")
    assert torch.equal(moved.float(), padded[:, 0:64, 5:69])
    with pytest.raises(ValueError, match="channels"):
        LatentModel(tiny(observation="rgb"), (9, 64, 64), [2])
