"""Random keys: the same bits in NumPy and torch, whatever the batch, and statistically sound."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from wmbench import keys
from wmbench.seeding import episode_seeds

SEEDS = np.arange(20_000)


def test_integers_and_uniforms_are_the_same_bits_in_torch() -> None:
    ours = keys.keys_from_seeds(SEEDS)
    theirs = torch.from_numpy(ours)
    assert (keys.fold_in(theirs, 7).numpy() == keys.fold_in(ours, 7)).all()
    assert (keys.fold_in(theirs, theirs).numpy() == keys.fold_in(ours, ours)).all()
    assert (keys.uniform(theirs, 5).numpy() == keys.uniform(ours, 5)).all()
    assert (keys.randint(theirs, 7).numpy() == keys.randint(ours, 7)).all()
    np.testing.assert_allclose(keys.normal(theirs, 5).numpy(), keys.normal(ours, 5), atol=2e-6)


@given(st.integers(0, 2**31 - 1), st.integers(1, 70), st.integers(1, 9))
def test_a_row_does_not_depend_on_the_batch_around_it(seed: int, batch: int, n: int) -> None:
    seeds = [seed, *range(batch - 1)]
    for draw in (keys.uniform, keys.normal):
        numpy_keys = keys.keys_from_seeds(seeds)
        assert (draw(numpy_keys, n)[:1] == draw(numpy_keys[:1], n)).all()
        torch_keys = torch.from_numpy(numpy_keys)
        assert torch.equal(draw(torch_keys, n)[:1], draw(torch_keys[:1], n))


def test_an_int_and_an_array_of_it_fold_alike() -> None:
    ours = keys.keys_from_seeds(SEEDS[:100])
    for counter in (0, 1, 12345, 2**40):
        assert (keys.fold_in(ours, counter) == keys.fold_in(ours, np.full(100, counter))).all()


@pytest.mark.parametrize("draw", ["across seeds", "across steps", "across columns"])
def test_distributions(draw: str) -> None:
    """Kolmogorov-Smirnov over the three directions in which numbers are drawn; neighbours uncorrelated."""
    if draw == "across seeds":
        u, z = (f(keys.keys_from_seeds(SEEDS), 1)[:, 0] for f in (keys.uniform, keys.normal))
    elif draw == "across steps":
        chain = keys.fold_in(np.full(20_000, keys.keys_from_seeds([3])[0]), SEEDS)
        u, z = (f(chain, 1)[:, 0] for f in (keys.uniform, keys.normal))
    else:
        u, z = (f(keys.keys_from_seeds([3]), 20_000)[0] for f in (keys.uniform, keys.normal))
    assert stats.kstest(u, "uniform").pvalue > 1e-3
    assert stats.kstest(z, "norm").pvalue > 1e-3
    assert abs(np.corrcoef(u[1:], u[:-1])[0, 1]) < 4 / np.sqrt(len(u))
    assert u.min() >= 0 and u.max() < 1 and np.isfinite(z).all()


def test_integers_are_even_and_in_range() -> None:
    counts = np.bincount(keys.randint(keys.keys_from_seeds(SEEDS), 5), minlength=5)
    assert len(counts) == 5
    assert stats.chisquare(counts).pvalue > 1e-3


def test_episode_seeds_are_stable_spawned_and_disjoint() -> None:
    one = episode_seeds(0, "wmbench/Gym-Hopper-v0", "train", 50)
    assert one[10:] == episode_seeds(0, "wmbench/Gym-Hopper-v0", "train", 40, start=10)
    assert one[:2] == [1385519031, 2020836704], "seeds must never change: published results name them"
    others = [
        episode_seeds(1, "wmbench/Gym-Hopper-v0", "train", 50),
        episode_seeds(0, "wmbench/Gym-Hopper-v0", "test", 50),
        episode_seeds(0, "wmbench/Gym-HalfCheetah-v0", "train", 50),
    ]
    for other in others:
        assert not set(one) & set(other)
    with pytest.raises(ValueError, match="unknown split"):
        episode_seeds(0, "t", "practice", 1)
    with pytest.raises(ValueError, match="negative"):
        episode_seeds(-1, "t", "train", 1)
