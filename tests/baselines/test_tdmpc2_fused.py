"""The fused layer and the cheap dropout are what they stand for: layer norm then Mish, and independent units."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import layer_norm, mish

from wmbench_baselines.tdmpc2.fused import norm_mish
from wmbench_baselines.tdmpc2.networks import NormedLinear, initialise
from wmbench_baselines.tdmpc2.update import dropped


@pytest.mark.parametrize("groups", [1, 3])
def test_norm_mish_and_its_gradients(groups: int) -> None:
    generator = torch.Generator().manual_seed(0)
    x, weight, bias = (
        torch.randn(groups, rows, 8, generator=generator, dtype=torch.float64).mul_(by).requires_grad_()
        for rows, by in ((5, 3), (1, 4), (1, 15))
    )
    plain = mish(layer_norm(x, (8,)) * weight + bias)
    torch.testing.assert_close(norm_mish(x, weight, bias), plain, rtol=1e-12, atol=1e-12)
    with torch.no_grad():
        torch.testing.assert_close(norm_mish(x, weight, bias), plain, rtol=1e-12, atol=1e-12)
    assert torch.autograd.gradcheck(norm_mish, (x, weight, bias))


def test_frozen_weights_pass_the_gradient_on() -> None:
    x = torch.randn(2, 4, 8, requires_grad=True)
    weight, bias = torch.rand(2, 1, 8), torch.rand(2, 1, 8)
    (ours,) = torch.autograd.grad(norm_mish(x, weight, bias).sum(), x)
    (plain,) = torch.autograd.grad(mish(layer_norm(x, (8,)) * weight + bias).sum(), x)
    torch.testing.assert_close(ours, plain, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("width", [8, 24, 32])
def test_any_width_can_be_evaluated(width: int) -> None:
    """What is computed in whole groups of columns outside of training is cut to size."""
    layer = NormedLinear(5, width)
    initialise(layer, torch.Generator().manual_seed(0))
    x = torch.randn(3, 5)
    with torch.no_grad():
        evaluated = layer(x)
    torch.testing.assert_close(evaluated, layer(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("share", [0.01, 0.2, 0.5])
def test_units_are_dropped_independently_and_alike(share: float) -> None:
    generator, rounds = torch.Generator().manual_seed(0), 2000
    factors = torch.stack([dropped((3, 4, 25), share, generator) for _ in range(rounds)]).flatten(1)
    gone = (factors == 0).double()  # (R, 300)
    assert torch.equal(factors[factors != 0], torch.full_like(factors[factors != 0], 1 / (1 - share)))
    tolerance = 5 * (share * (1 - share) / rounds) ** 0.5
    assert (gone.mean(0) - share).abs().max() < tolerance  # every place alike, the first and the last too
    pairs = (gone[:, 1:] * gone[:, :-1]).mean()
    assert abs(pairs - share**2) < 5 * share / (rounds * 299) ** 0.5
    spread = gone.sum(1).var() / (300 * share * (1 - share))
    assert 0.85 < spread < 1.15  # as many as independent ones, from draw to draw
